"""`sentio tail`, `lag` and `skip`: looking at the log and at who has read how far."""

from typing import Annotated

import typer

from sentio.errors import SettingError


def tail(
    topic: Annotated[str, typer.Argument(help="Topic without prefix, e.g. trades.executed.")],
    since: Annotated[str | None, typer.Option("--from", help="Begin this long ago: 30s, 10m, 1h, 2d.")] = None,
    offset: Annotated[int | None, typer.Option(help="Begin at this offset of every partition.")] = None,
    where: Annotated[list[str] | None, typer.Option(help="Only events with FIELD=VALUE; may be repeated.")] = None,
    limit: Annotated[int | None, typer.Option("-n", help="End after this many events.")] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document a line.")] = False,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Wait for more at the end.")] = True,
) -> None:
    """Show decoded events of a topic as they come."""
    from sentio.cli.tailing import Tail

    if since is not None and offset is not None:
        raise SettingError("--from and --offset: give one of them")
    Tail(topic, since=since, offset=offset, where=where or [], limit=limit, as_json=as_json, follow=follow).run()


def lag(*, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show how far each consumer group is behind, in records and in seconds."""
    import json
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    from sentio.cli.lagging import lags
    from sentio.config import Settings, load

    rows = lags(load(Settings))
    if as_json:
        print(json.dumps([asdict(row) for row in rows]))
        return
    table = Table("group", "topic", "partition", "read up to", "end", "lag", "oldest unread")
    for row in rows:
        age = "-" if row.lag == 0 else f"{row.oldest_unread_s:,.1f} s"
        table.add_row(row.group, row.topic, str(row.partition), str(row.offset), str(row.end), f"{row.lag:,}", age)
    Console().print(table)


def skip(
    group: Annotated[str, typer.Argument(help="Group that owns its offsets: store, aggregates.")],
    topic: Annotated[str, typer.Argument(help="Full name of the topic.")],
    partition: Annotated[int, typer.Argument()],
    to: Annotated[int | None, typer.Option(help="Go on at this offset.")] = None,
    *,
    new_topic: Annotated[bool, typer.Option(help="The topic was made anew: begin at its start.")] = False,
) -> None:
    """Accept a loss that a stopped group has named: move its offset forward, once, by hand."""
    from sentio import database
    from sentio.config import DatabaseSettings, load

    if (to is None) == (not new_topic):
        raise SettingError("skip: give --to OFFSET or --new-topic")
    place = {"group": group, "topic": topic, "partition": partition, "to": to}
    mine = "group_name = %(group)s and topic = %(topic)s and partition = %(partition)s"
    with database.connect(load(DatabaseSettings).database, name="sentio-skip") as connection:
        if new_topic:
            done = connection.execute(f"delete from consumer_offsets where {mine}", place)
            connection.execute(f"delete from consumer_marks where {mine}", place)
        else:
            done = connection.execute(
                f"update consumer_offsets set next_offset = %(to)s, generation = generation + 1"
                f" where {mine} and next_offset < %(to)s",
                place,
            )
    if done.rowcount != 1:
        raise SettingError(f"skip: group {group} has no offset in {topic}[{partition}] to move forward")
    print(f"{group} goes on in {topic}[{partition}] at {'the start of the new topic' if new_topic else to}")
