"""What a group refused: noted with the batch that it was in, and asked when it comes again as a redriven letter.

A letter is sent before its batch is written, and lies for thirty days. In between the group may take the record from
the log after all, as when a mended process replaces one that was killed, or when tables are swapped.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from uuid import UUID

from psycopg import Connection

from sentio import letters, log
from sentio.batch import Batch
from sentio.errors import Poison

_FORGET = """
    delete from consumer_refused as r using consumer_offsets as o
    where o.group_name = %s and (o.topic, o.partition) in (select * from unnest(%s::text[], %s::int[]))
        and (r.group_name, r.topic, r.partition) = (o.group_name, o.topic, o.partition)
        and (r.record_offset >= o.next_offset and r.topic_id = o.topic_id or r.noted_at < now() - interval '180 days')
"""
_NOTE = """
    insert into consumer_refused (group_name, topic, partition, record_offset, topic_id)
    select o.group_name, o.topic, o.partition, record_offset, o.topic_id
    from unnest(%s::int[], %s::bigint[]) as refused (partition, record_offset) join consumer_offsets as o
        on o.group_name = %s and o.topic = %s and o.partition = refused.partition
    on conflict do nothing
"""
# In one statement, so that offsets and notes are those of one moment.
_LOOK = """
    select partition, record_offset, case
            when exists (select from consumer_redriven as d
                where (d.group_name, d.origin_topic) = (%(group)s, %(topic)s)
                and (d.origin_partition, d.origin_offset) = (partition, record_offset)) then 'redriven'
            when exists (select from consumer_refused as r where (r.group_name, r.topic) = (%(group)s, %(topic)s)
                and (r.partition, r.record_offset) = (asked.partition, asked.record_offset)) then 'refused'
            when o.next_offset is null or record_offset >= o.next_offset then 'unread'
            when o.noted_to = o.next_offset and record_offset >= o.noted_from then 'taken'
            else 'unknown'
        end
    from unnest(%(partitions)s::int[], %(offsets)s::bigint[]) as asked (partition, record_offset)
    left join (select * from consumer_offsets where group_name = %(group)s and topic = %(topic)s) as o
        using (partition)
"""
_APPLY = """
    insert into consumer_redriven (group_name, event_id, topic, origin_topic, origin_partition, origin_offset)
    select %s, id, %s, %s, partition, record_offset
    from unnest(%s::uuid[], %s::int[], %s::bigint[]) with ordinality as redriven (id, partition, record_offset, n)
    order by n on conflict do nothing returning event_id
"""

Origin = tuple[int, int]
"""(partition, offset) in its first topic of the record that a redriven one is of."""


def refusing(batch: Batch, places: Iterable[tuple[int, int]]) -> Batch:
    """A batch whose ranges say of these (partition, offset), too, that they were refused."""
    ranges = dict(batch.ranges)
    for partition, offset in places:
        span = ranges[partition]
        ranges[partition] = replace(span, refused=(*span.refused, offset))
    return replace(batch, ranges=ranges)


def forget(connection: Connection, group: str, places: Sequence[tuple[str, int]]) -> None:
    """Delete the notes of these places that are ahead of where the group stands, from an earlier life, or too old.

    A letter lasts thirty days, but is written anew each time that its record is redriven and refused again.
    """
    connection.execute(_FORGET, [group, [topic for topic, _ in places], [partition for _, partition in places]])


def note(connection: Connection, group: str, topic: str, batch: Batch) -> None:
    """Note what was refused of a batch of the log."""
    found = [(partition, offset) for partition, span in batch.ranges.items() for offset in span.refused]
    if found:
        partitions, offsets = zip(*found, strict=True)
        connection.execute(_NOTE, [list(partitions), list(offsets), group, topic])


def not_yet_redriven(connection: Connection, group: str, topic: str, batch: Batch) -> Batch:
    """Note each event of a redriven batch, and leave out what was applied before, from the log or as a letter.

    A redriven record was passed by when its producer's mark moved on, so that the mark says nothing of it. ``topic`` is
    the one it was of at first. Raises `Poison` for what does not say where it was, or is still to be read from the log.
    """
    if not len(batch):
        return batch
    origins = _origins(topic, batch)
    asked = {
        "group": group,
        "topic": topic,
        "partitions": [partition for partition, _ in origins],
        "offsets": [offset for _, offset in origins],
    }
    state = {(partition, offset): what for partition, offset, what in connection.execute(_LOOK, asked).fetchall()}
    unread, taken = {}, []
    for place, origin in zip(batch.places(), origins, strict=True):
        record = f"{topic}:{origin[0]}:{origin[1]}"
        if state[origin] == "unread":
            unread[place] = f"{group} has still to read {record}, and may take it then: redrive it later"
        elif state[origin] == "taken":
            taken.append(record)
    if unread:
        raise Poison(unread)
    if taken:
        log.get().warning("redriven records left out: taken from the log", count=len(taken), records=taken[:10])
    ids = [UUID(bytes=each) for each in batch.records["event_id"].to_pylist()]
    wanted = [state[origin] in ("refused", "unknown") for origin in origins]
    new = _apply(connection, group, topic, batch.redrive_topic, zip(ids, origins, wanted, strict=True))
    keep = []
    for each, is_wanted in zip(ids, wanted, strict=True):
        keep.append(is_wanted and each in new)
        if keep[-1]:
            new.discard(each)  # once in this batch, too
    return batch if all(keep) else batch.where(keep)


def _apply(
    connection: Connection, group: str, topic: str, redrive_topic: str | None, rows: Iterable[tuple[UUID, Origin, bool]]
) -> set[UUID]:
    """Note those that are wanted; which of them are new."""
    found = [(event_id, *origin) for event_id, origin, is_wanted in rows if is_wanted]
    if not found:
        return set()
    ids, partitions, offsets = map(list, zip(*found, strict=True))
    noted = connection.execute(_APPLY, [group, redrive_topic, topic, ids, partitions, offsets]).fetchall()
    return {event_id for (event_id,) in noted}


def _origins(topic: str, batch: Batch) -> list[Origin]:
    """Where each row's record was at first; raises `Poison` for rows of which that cannot be known."""
    headers = [None] * len(batch) if batch.originals is None else batch.originals["headers"].to_pylist()
    found, reasons = [], {}
    for place, each in zip(batch.places(), headers, strict=True):
        origin = _origin(topic, {header["name"]: header["value"] for header in each or ()})
        if origin is None:
            reasons[place] = f"its headers do not say which record of {topic} it was: not sent by 'sentio dead'"
        else:
            found.append(origin)
    if reasons:
        raise Poison(reasons)
    return found


def _origin(topic: str, said: Mapping[str, bytes | None]) -> Origin | None:
    """Anyone may write to the topic: numbers are not taken for numbers before they are looked at."""
    at_topic, *numbers = ((said.get(name) or b"").decode(errors="replace") for name in letters.ORIGIN)
    if at_topic != topic or not all(text.isdecimal() and len(text) < 20 for text in numbers):  # noqa: PLR2004 - digits
        return None
    partition, offset = map(int, numbers)
    return (partition, offset) if partition < 1 << 31 and offset < 1 << 63 else None
