"""`sentio tail`, `watch`, `lag` and `skip`: looking at the log, at what clients hear, and at who has read how far."""

from pathlib import Path
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


def watch(
    channels: Annotated[list[str], typer.Argument(help="Such as trades, signals.TQQQ or positions.paper-1.")],
    url: Annotated[str | None, typer.Option(help="The gateway's; by default that of this shell's settings.")] = None,
    token_file: Annotated[Path | None, typer.Option(help="File of a token; else SENTIO_TOKEN may be one.")] = None,
    since: Annotated[str | None, typer.Option("--from", help="Begin this long ago: 30s, 10m, 1h, 2d.")] = None,
    count: Annotated[int | None, typer.Option(min=1, help="End after this many items.")] = None,
) -> None:
    """Show what a client of the stream hears: tables on a terminal, else one JSON document a line."""
    from sentio.cli.watching import Watch

    Watch(channels, url=url, token_file=token_file, since=since, count=count).run()


def lag(*, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show how far each consumer group is behind, in records and in seconds."""
    import json
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    from sentio.cli.status import age
    from sentio.config import Settings, load
    from sentio.lag import lags

    settings = load(Settings)
    rows = lags(settings)
    if as_json:
        print(json.dumps([asdict(row) for row in rows]))
        return
    table = Table("group", "topic", "partition", "read up to", "end", "lag", "oldest unread", box=None, pad_edge=False)
    for column in table.columns[:2]:
        column.overflow = "fold"
    for column in table.columns[2:]:
        column.justify = "right"
    for row in rows:
        names = (name.removeprefix(f"{settings.topic_prefix}.") for name in (row.group, row.topic))
        late = f"[yellow]{age(row.oldest_unread_s)}[/yellow]" if row.lag else "-"
        table.add_row(*names, str(row.partition), str(row.offset), str(row.end), f"{row.lag:,}", late)
    if rows:
        Console().print(table)
    late_ones = [row.oldest_unread_s for row in rows if row.lag]
    oldest = f"; the oldest unread record came {age(max(late_ones))} ago" if late_ones else ""
    print(f"{len(late_ones)} of {len(rows)} partitions have something unread{oldest}")


def skip(
    group: Annotated[str, typer.Argument(help="store, aggregates, archive, or the name of a consumer of yours.")],
    topic: Annotated[str, typer.Argument(help="Topic, with or without prefix.")],
    partition: Annotated[int, typer.Argument(help="Partition of the topic.")],
    to: Annotated[int | None, typer.Option(help="Go on at this offset.")] = None,
    *,
    new_topic: Annotated[bool, typer.Option(help="The topic was made anew: begin at its start.")] = False,
) -> None:
    """Accept a loss that a stopped group has named: move its offset forward, once, by hand."""
    from sentio.cli.skipping import accept_new_topic, skip_to
    from sentio.config import DatabaseSettings, load

    settings = load(DatabaseSettings)
    prefix = f"{settings.topic_prefix}."
    name, place = group.removeprefix(prefix), (prefix + topic.removeprefix(prefix), partition)
    if (to is None) != new_topic:
        raise SettingError("skip: give either --to OFFSET or --new-topic")
    if name == "archive":
        _skip_archive(place, to)
    elif to is None:
        accept_new_topic(settings, name, place)
    else:
        skip_to(settings, name, place, to)
    if to is None:
        print(f"{name} begins in {place[0]}[{partition}] at the start of the new topic")
    else:
        print(f"{name} goes on in {place[0]}[{partition}] at {to}")


def _skip_archive(place: tuple[str, int], to: int | None) -> None:
    """Its offsets are in the archive."""
    from consumers.archive import skipping
    from consumers.archive.stores import open_store
    from sentio.config import ArchiveSettings, load

    settings = load(ArchiveSettings)
    store = open_store(settings)
    if to is None:
        skipping.accept_new_topic(store, settings, place)
    else:
        skipping.skip_to(store, settings, place, to)
