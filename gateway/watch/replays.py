"""The newest replays, as `sentio replay` writes them down wherever it runs (`consumers.replay.listed`)."""

from typing import Any

from gateway.database import Pool, reading

MOST_SHOWN = 8

# A running one holds a lock; who was killed has left the state, and no lock. A lock's key lies there in two halves.
_NEWEST = """
    with running as (
        select classid::bigint << 32 | objid::bigint as key from pg_locks
        where locktype = 'advisory' and objsubid = 1 and granted
            and database = (select oid from pg_database where datname = current_database())
    )
    select id, machine, what, target, cause, offsets, offsets_done, records_written, created_at, updated_at,
        case when state = 'running' and hashtextextended(id, 0) not in (select key from running) then 'interrupted'
            else state end as state
    from replays order by created_at desc, id desc limit %s
"""


def newest(connections: Pool) -> list[dict[str, Any]]:
    """The newest first. Raises `Retryable`."""
    with reading(connections) as connection:
        return connection.execute(_NEWEST, [MOST_SHOWN]).fetchall()
