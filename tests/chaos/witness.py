"""A witness in the database: triggers that note who claimed a partition and who moved its offset, in the same transaction."""

from typing import Any

import psycopg

from tests.pipeline import rows

_SCHEMA = """
    create schema chaos;
    create table chaos.moves (
        id bigserial primary key,
        member text not null default session_user,
        group_name text not null,
        topic text not null,
        partition int not null,
        claims bool not null,
        next_offset bigint not null
    );
    create index on chaos.moves (member, id);
    create function chaos.note() returns trigger language plpgsql as $$
    begin
        if tg_op = 'INSERT' or new.generation <> old.generation or new.next_offset <> old.next_offset then
            insert into chaos.moves (group_name, topic, partition, claims, next_offset) values (
                new.group_name, new.topic, new.partition,
                tg_op = 'INSERT' or new.generation <> old.generation, new.next_offset);
        end if;
        return null;
    end $$;
    create trigger note after insert or update on consumer_offsets for each row execute function chaos.note();
"""

_OWNED = """
    select count(*) from (
        select distinct on (topic, partition) member from chaos.moves
        where claims and group_name = %s order by topic, partition, id desc
    ) as newest where member = %s
"""

# The row of consumer_offsets is locked by whoever moves it, so that in one partition the order of ids is that of
# the transactions.
_WRITTEN_BY_OTHERS = """
    select id, group_name, topic, partition, owner, member, next_offset from (
        select *, first_value(member) over (partition by group_name, topic, partition, term order by id) as owner
        from (
            select *, count(*) filter (where claims) over (partition by group_name, topic, partition order by id) as term
            from chaos.moves
        ) as terms
    ) as owned where member <> owner order by id limit 5
"""

_STATE = "select state from pg_stat_activity where usename = %s and application_name = %s"

_MARKS = "select from consumer_marks where group_name = %s and topic = %s for update skip locked"

_HELD_UP = "select usename from pg_stat_activity where application_name = %s and %s = any(pg_blocking_pids(pid))"


class Witness:
    """Asks what the triggers saw."""

    def __init__(self, database: str) -> None:
        self._database = database
        with psycopg.connect(database) as connection:
            connection.execute(_SCHEMA)
            for group in ("store", "aggregates"):
                for number in range(1, 200):
                    connection.execute(f"create role {group}{number} superuser login")

    def owned(self, group: str, member: str) -> int:
        """Partitions that nobody claimed after this member."""
        return int(rows(self._database, _OWNED, group, member)[0][0])

    def last(self) -> int:
        """Number of the newest entry."""
        return int(rows(self._database, "select coalesce(max(id), 0) from chaos.moves")[0][0])

    def moved(self, member: str, after: int) -> bool:
        """Whether the member moved an offset after that entry."""
        query = "select exists (select from chaos.moves where member = %s and id > %s and not claims)"
        return bool(rows(self._database, query, member, after)[0][0])

    def writers(self, group: str) -> set[str]:
        query = "select distinct member from chaos.moves where group_name = %s and not claims"
        return {member for (member,) in rows(self._database, query, group)}

    def state(self, group: str, member: str) -> str:
        """What the member's connection is doing; empty when it has none."""
        found = rows(self._database, _STATE, member, group)
        return found[0][0] if found else ""

    def hold_up(self, holder: psycopg.Connection, group: str, topic: str) -> set[str]:
        """Lock the group's marks in the topic, as many as there are, in the holder's transaction; who waits for them."""
        holder.execute(_MARKS, [group, topic])
        return {member for (member,) in rows(self._database, _HELD_UP, group, holder.info.backend_pid)}

    def zombies(self) -> list[tuple[Any, ...]]:
        """Offsets moved by somebody else than the member who claimed the partition last: none, ever."""
        return rows(self._database, _WRITTEN_BY_OTHERS)
