"""`sentio verify`: are the statistics what the stored events say they are? And are tables what a shadow says?"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from sentio.errors import Fatal, SettingError

if TYPE_CHECKING:
    from datetime import datetime
    from decimal import Decimal

    from sentio.cli.recomputing import Counts, Difference
    from sentio.config import DatabaseSettings

    Span = tuple[datetime | None, datetime | None]

MOST_SHOWN = 50
NOT_COMPARABLE = 3


def verify(
    since: Annotated[str | None, typer.Option("--from", help="From this day or time on: 2025-10-10, or ISO.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="To the end of this day, or to this time.")] = None,
    wait: Annotated[float, typer.Option(help="Seconds to wait for store and aggregates to be level.", min=0)] = 10.0,
    against: Annotated[
        str | None, typer.Option(help="Compare the tables with this shadow's instead, row by row: shadow_NAME.")
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document a figure, one at the end.")] = False,
) -> None:
    """Compute all statistics again from the stored events and show every window that differs.

    Exit 0 if none does, 1 if any, 3 if they cannot be compared now. Days are those of New York; a window that the range
    cuts is compared as a whole. Store and aggregates may go on meanwhile. With --against rows of the shadow's range are
    compared, and the range is one of event times.
    """
    from sentio import database
    from sentio.asked import time_of
    from sentio.cli.recomputing import NotComparable, Verification
    from sentio.config import DatabaseSettings, load

    span = (
        None if since is None else time_of("--from", since),
        None if until is None else time_of("--to", until, end_of_day=True),
    )
    if span[0] and span[1] and span[0] >= span[1]:
        raise SettingError(f"--from {since} is not before --to {until}")
    settings = load(DatabaseSettings)
    if against is not None:
        with failures_are_named():
            _against(settings, against, span, wait, as_json=as_json)
        return
    show = _as_json if as_json else _as_table
    with (
        failures_are_named(),
        database.connect(settings.database, name="sentio-verify", idle_in_transaction_s=3600) as connection,
    ):
        verification = Verification(connection, settings.topic_prefix, span)
        try:
            verification.begin(wait)
        except NotComparable as failure:
            typer.echo(f"sentio: {failure}", err=True)
            raise typer.Exit(NOT_COMPARABLE) from None
        counts = verification.counts()
        differing = show(verification.differences(), counts, span)
    if differing:
        raise typer.Exit(1)
    if counts.moving and not counts.windows:
        typer.echo("sentio: nothing could be compared; does aggregates run? 'sentio lag' shows", err=True)
        raise typer.Exit(NOT_COMPARABLE)


def _against(settings: "DatabaseSettings", shadow: str, span: "Span", wait: float, *, as_json: bool) -> None:
    from sentio import database
    from sentio.cli.comparing import Comparison
    from sentio.cli.shadow import show_days

    with database.connect(settings.database, name="sentio-verify", idle_in_transaction_s=3600) as connection:
        comparison = Comparison(connection, settings.topic_prefix, shadow, span)
        comparison.begin(wait)
        seen = comparison.look()
    days, unsaid = seen.days, seen.unsaid
    show_days(days, as_json=as_json)
    if any(day.differences for day in days):
        raise typer.Exit(1)
    if not unsaid and any(day.moving for day in days) and not any(day.same for day in days):
        unsaid = f"nothing could be compared; does 'sentio run store --into {shadow}' run? 'sentio lag' shows"
    if unsaid:
        typer.echo(f"sentio: {unsaid}", err=True)
        raise typer.Exit(NOT_COMPARABLE)


@contextmanager
def failures_are_named() -> Iterator[None]:
    import psycopg

    from sentio import database

    try:
        with database.outages_are_retryable():
            yield
    except psycopg.errors.UndefinedTable as failure:
        raise Fatal("the database has no tables yet; 'sentio run store' makes them") from failure
    except psycopg.Error as failure:
        raise Fatal(f"database: {database.first_line(failure)}") from failure


def _as_table(differences: "Iterable[Difference]", counts: "Counts", span: "Span") -> int:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("window", min_width=16, overflow="fold")
    table.add_column("figure", no_wrap=True)  # in a narrow terminal the window's name is what folds
    table.add_column("stored", justify="right", no_wrap=True)
    table.add_column("recomputed", justify="right", no_wrap=True)
    windows = rows = 0
    for _, group in groupby(differences, _window):
        windows += 1
        for number, each in enumerate(group):
            rows += 1
            if rows <= MOST_SHOWN:
                name = f"{each.kind} {_shown(each.start_at)}\n{each.account} {each.strategy} {each.symbol}"
                table.add_row(Text("" if number else _printable(name)), *_cells(each))
    console = Console()
    if windows:
        console.print(table)
    if rows > MOST_SHOWN:
        console.print(f"and {rows - MOST_SHOWN:,} more differences; --json has them all\n", highlight=False)
    console.print(_summary(windows, counts, span), highlight=False, soft_wrap=True, style="red" if windows else "green")
    return windows


def _as_json(differences: "Iterable[Difference]", counts: "Counts", span: "Span") -> int:
    import json
    from dataclasses import asdict

    from sentio.asked import iso

    windows = 0
    for _, group in groupby(differences, _window):
        windows += 1
        for each in group:
            amounts = {name: _amount(getattr(each, name), none=None) for name in ("stored", "recomputed")}
            print(json.dumps(asdict(each) | amounts | {"start_at": iso(each.start_at)}))
    since, until = (None if at is None else iso(at) for at in span)
    print(json.dumps({"from": since, "to": until, "differing": windows, **asdict(counts)}))
    return windows


def _window(each: "Difference") -> tuple[object, ...]:
    return each.account, each.strategy, each.symbol, each.kind, each.start_at


def _cells(each: "Difference") -> tuple[str, str, str]:
    match each.what:
        case "missing":
            return "window", "missing", "present"
        case "extra":
            return "window", "present", "none"
    return each.figure, str(_amount(each.stored, none="-")), str(_amount(each.recomputed, none="-"))


def _summary(windows: int, counts: "Counts", span: "Span") -> str:
    line = (
        f"{windows:,} windows differ, {counts.windows:,} are stored"
        if windows
        else f"all {counts.windows:,} windows are as recomputed"
    )
    since, until = (None if at is None else _shown(at) for at in span)
    if since or until:
        line += f" (whole ones that touch {since or 'the beginning'} to {until or 'the end'})"
    if counts.moving:
        line += f"; {counts.moving:,} not compared, since aggregates has still to read events of theirs"
    if counts.left_out:
        line += f"; {counts.left_out:,} fills too large for statistics left out"
    return line


def _amount(value: "Decimal | None", *, none: str | None) -> str | None:
    if value is None:
        return none
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)


def _shown(at: "datetime") -> str:
    return f"{at:%Y-%m-%d %H:%M}{f':{at:%S}' if at.second else ''}Z"
