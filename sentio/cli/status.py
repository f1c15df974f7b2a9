"""`sentio status` and `sentio doctor`: the whole platform on one screen, and what is wrong with it."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sentio.cli.state import State

REFRESH_S = 2.0


def status(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every two seconds, until Ctrl-C.")] = False,
) -> None:
    """Show the whole platform: Kafka, database, topics, groups, engines, clients. Exit 1 if a part does not answer."""
    import json
    import time

    from rich.console import Console
    from rich.live import Live

    from sentio.cli.state import look
    from sentio.config import AccessSettings, load

    settings = load(AccessSettings)
    if watch and not as_json:
        with Live(_screen(look(settings)), auto_refresh=False, screen=True) as live:
            while True:
                time.sleep(REFRESH_S)
                live.update(_screen(look(settings)), refresh=True)
    while True:
        state = look(settings)
        if as_json:
            print(json.dumps(state.document(), default=lambda at: at.isoformat()), flush=True)
        else:
            Console().print(_screen(state))
        if not watch:
            raise typer.Exit(1 if state.troubles else 0)
        time.sleep(REFRESH_S)


def doctor(*, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Check settings, connections, clocks, topics, schemas, tables, disk, and say what to do. Exit 1 if bad."""
    import json
    from dataclasses import asdict

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from sentio.cli.checks import findings

    found = list(findings())
    if as_json:
        print(json.dumps([asdict(one) for one in found]))
    else:
        colours = {"ok": "green", "warn": "yellow", "bad": "red"}
        table = Table("", "what", "found", box=None, pad_edge=False, show_header=False)
        for one in found:
            remedy = f"\n[bold]{escape(one.remedy)}[/bold]" if one.remedy else ""
            table.add_row(f"[{colours[one.level]}]{one.level}[/]", one.what, escape(one.found) + remedy)
        Console().print(table)
    raise typer.Exit(1 if any(one.level == "bad" for one in found) else 0)


def _screen(state: "State") -> "RenderableType":
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [Text.from_markup(line) for line in _heads(state)]
    parts += [Text(f"! {trouble}", style="red") for trouble in state.troubles]
    if state.troubles:
        parts.append(Text("! what to do: sentio doctor", style="red"))
    if state.topics:
        parts.append(_topics(state))
    if state.groups:
        parts.append(_groups(state))
    return Group(*parts)


def _heads(state: "State") -> list[str]:
    from rich.markup import escape

    from sentio.cli.state import SILENT_S

    market = "market open" if state.trading_hours else "market closed"
    lines = [f"[bold]sentio[/bold]  {state.at:%Y-%m-%d %H:%M:%S} UTC, {market}"]
    if cluster := state.kafka:
        lines.append(f"[green]kafka[/green]     brokers: {cluster.brokers}, topics of ours: {cluster.topics}")
    else:
        lines.append("[red]kafka[/red]     does not answer")
    if base := state.database:
        size = f"{base.size_bytes / 1e6:,.0f} MB"
        lines.append(f"[green]database[/green]  {base.edition}, {size}, {base.migrations} migrations")
    else:
        lines.append("[red]database[/red]  does not answer")
    for beat in state.engines:
        silent = beat.age_s > SILENT_S and beat.state != "stopped" and state.trading_hours
        colour = "red" if silent else "green"
        version = f"version {beat.version}" if beat.version else ""
        said = ", ".join(filter(None, (beat.state, beat.mode, version, f"{age(beat.age_s)} ago")))
        lines.append(f"[{colour}]engine[/{colour}]    {escape(beat.engine)}: {escape(said)}")
    if not state.engines:
        lines.append(f"[yellow]engine[/yellow]    {'none was heard of lately' if state.kafka else 'not known'}")
    if state.clients is None:
        lines.append("clients   known where SENTIO_REDIS is set")
    else:
        each = ", ".join(f"{escape(name)}: {count:,}" for name, count in sorted(state.clients.items()))
        lines.append(f"clients   {sum(state.clients.values()):,} ({each or 'no instance'})")
    return lines


def _topics(state: "State") -> "RenderableType":
    from rich.table import Table

    table = Table("topic", "parts", "kept records", "dead", "dead kept", "kept for", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for span in state.topics:
        dead = f"[red]{span.dead_kept:,}[/red]" if span.dead_kept else "0"
        kept = "by key" if span.retention_s is None else age(span.retention_s)
        table.add_row(span.name, str(span.partitions), f"{span.end - span.first:,}", f"{span.dead:,}", dead, kept)
    return _with_space(table)


def _groups(state: "State") -> "RenderableType":
    from rich.table import Table

    table = Table("group", "topic", "members", "lag", "oldest unread", "deleted in", box=None, pad_edge=False)
    for column in table.columns[:2]:
        column.overflow = "fold"
    for column in table.columns[2:]:
        column.justify = "right"
    for row in state.groups:
        members = str(row.members) if row.members else "[red]none[/red]"
        late = f"[yellow]{age(row.oldest_unread_s)}[/yellow]" if row.lag else "-"
        left = "-" if row.retention_left_s is None or not row.lag else age(row.retention_left_s)
        table.add_row(row.group, row.topic, members, f"{row.lag:,}", late, left)
    return _with_space(table)


def _with_space(table: "RenderableType") -> "RenderableType":
    from rich.padding import Padding

    return Padding(table, (1, 0, 0, 0))


def age(seconds: float) -> str:
    """``3.2 s``, ``4 min``, ``5 h``, ``6 d``: as much as a glance takes in."""
    for limit_s, unit, length_s in ((90, "s", 1), (5_400, "min", 60), (172_800, "h", 3_600)):
        if seconds < limit_s:
            return f"{seconds / length_s:.1f} {unit}"
    return f"{seconds / 86_400:.1f} d"
