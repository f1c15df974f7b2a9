"""`sentio shadow` and `sentio swap`: tables filled anew beside the live ones, and then in their place."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from sentio.errors import Retryable

if TYPE_CHECKING:
    from psycopg import Connection

    from sentio.cli.comparing import Day
    from sentio.cli.rolling import Swapped
    from sentio.config import DatabaseSettings

app = typer.Typer(no_args_is_help=True, help="Tables filled anew from the log beside the live ones: list, drop.")

Name = Annotated[str, typer.Argument(help="shadow_NAME, as given to 'sentio run store --into'.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it; else only say what would be done.")]

MOST_SHOWN = 50


def swap(
    name: Name,
    wait: Annotated[float, typer.Option(help="Seconds to wait for the shadow to be level.", min=0)] = 10.0,
    *,
    yes: Yes = False,
    remove_extra: Annotated[
        bool, typer.Option(help="Remove rows of the range that are not in the log, too; else they stay.")
    ] = False,
    without_refused: Annotated[
        bool, typer.Option(help="Swap although statistics will lack records that only the shadow has refused.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Replace what a shadow has read anew in the live tables, in one transaction; older rows stay.

    Without --yes it says what would be done. All may go on meanwhile: live groups go on where the shadow stands. The
    shadow is gone then, and its processes end. Refused while the shadow is behind, and where it has refused what live
    groups have.
    """
    from sentio.cli.swapping import Swap, lacking

    asked_for = {"remove_extra": remove_extra, "without_refused": without_refused}
    with _connected("sentio-swap") as (connection, settings):
        if not yes:
            _plan(connection, settings, name, wait, as_json=as_json, remove_extra=remove_extra)
            if lost := lacking(connection, name, **asked_for):
                typer.echo(f"sentio: --yes will be refused: {lost}", err=True)
            return
        asked = Swap(connection, settings.topic_prefix, name, **asked_for)
        _show_swapped(name, asked.run(wait), as_json=as_json)
    _forget(settings, asked.gone)


@app.command("list")
def list_(*, as_json: Json = False) -> None:
    """Show the shadows there are, and how far each is from the live groups."""
    import json

    from rich.console import Console
    from rich.table import Table

    from sentio.cli.comparing import positions

    rows = []
    with _connected("sentio-shadow") as (connection, _):
        for name, live, from_at, created_at in connection.execute(
            "select name, live_group, from_at, created_at from shadows order by name, live_group"
        ).fetchall():
            places = [each for each in positions(connection, name) if each.live_group == live]
            rows.append(
                {
                    "shadow": name,
                    "of": live,
                    "from": from_at.isoformat() if from_at else None,
                    "begun_at": created_at.isoformat(),
                    "behind": sum(max(0, each.live - max(0, each.shadow)) for each in places),
                    "ahead": sum(max(0, each.shadow - max(0, each.live)) for each in places),
                }
            )
    if as_json:
        print(json.dumps(rows))
        return
    table = Table("shadow", "of", "from", "begun", "behind", "ahead")
    for row in rows:
        since = str(row["from"] or "the oldest")
        table.add_row(
            str(row["shadow"]), str(row["of"]), since, str(row["begun_at"]), f"{row['behind']:,}", f"{row['ahead']:,}"
        )
    Console().print(table if rows else "there are no shadows; 'sentio run store --into shadow_NAME' begins one")


@app.command()
def drop(name: Name, *, yes: Yes = False) -> None:
    """Remove a shadow: its tables, offsets and marks. Its processes end; live tables are not touched."""
    from consumers.shadow import drop as drop_shadow
    from sentio.cli.comparing import groups

    with _connected("sentio-shadow") as (connection, settings):
        of = ", ".join(groups(connection, name))
        if not yes:
            print(f"would remove {name} (of {of}); --yes does it")
            return
        gone = drop_shadow(connection, name)
    print(f"{name} is gone")
    _forget(settings, gone)


def show_days(days: "Sequence[Day]", *, as_json: bool) -> None:
    """Each table and day with differences, and a line for all."""
    import json
    from dataclasses import asdict

    from rich import box
    from rich.console import Console
    from rich.table import Table

    kinds = ("missing", "differing", "misplaced", "extra")
    differing = [day for day in days if day.differences]
    totals = {name: sum(getattr(day, name) for day in days) for name in ("same", *kinds, "moving", "cut")}
    if as_json:
        for day in differing:
            print(json.dumps(asdict(day) | {"day": day.day.isoformat()}))
        print(json.dumps(totals))
        return
    console = Console()
    if differing:
        table = Table("table", "day", "same", *kinds, box=box.SIMPLE_HEAD, pad_edge=False)
        for column in table.columns[2:]:
            column.justify = "right"
        for day in differing[:MOST_SHOWN]:
            table.add_row(day.table, day.day.isoformat(), *(f"{getattr(day, name):,}" for name in ("same", *kinds)))
        console.print(table)
    if len(differing) > MOST_SHOWN:
        console.print(f"and {len(differing) - MOST_SHOWN:,} more days; --json has them all\n", highlight=False)
    console.print(_line(totals), highlight=False, soft_wrap=True, style="red" if differing else "green")


def _line(totals: dict[str, int]) -> str:
    wrong = [f"{totals[kind]:,} {kind}" for kind in ("missing", "differing", "misplaced", "extra") if totals[kind]]
    line = (
        f"{', '.join(wrong)}; {totals['same']:,} are the same" if wrong else f"all {totals['same']:,} rows are the same"
    )
    if totals["moving"]:
        line += f"; {totals['moving']:,} not compared, since only one of the two has read them yet"
    if totals["cut"]:
        line += f"; {totals['cut']:,} windows not compared, since events of theirs are older than the shadow"
    return line


def _plan(
    connection: "Connection", settings: "DatabaseSettings", name: str, wait: float, *, as_json: bool, remove_extra: bool
) -> None:
    from sentio.cli.comparing import Comparison, said

    comparison = Comparison(connection, settings.topic_prefix, name, (None, None))
    comparison.begin(wait)
    seen = comparison.look()
    show_days(seen.days, as_json=as_json)
    unsaid = seen.unsaid
    for each in comparison.positions:
        if each.shadow < each.live:
            unsaid = unsaid or f"{name} is behind: {said(each)}"
    if unsaid:
        typer.echo(f"sentio: {unsaid}", err=True)
    extra = sum(day.extra for day in seen.days)
    what = "removed" if remove_extra else "kept (--remove-extra removes them)"
    note = f"; {extra:,} that the log does not have would be {what}" if extra else ""
    typer.echo(f"nothing is done yet: --yes puts {name} in place of what differs{note}", err=as_json)


def _show_swapped(name: str, done: "Sequence[Swapped]", *, as_json: bool) -> None:
    import json
    from dataclasses import asdict

    if as_json:
        print(json.dumps([asdict(each) for each in done]))
        return
    for each in done:
        line = f"{each.table}: {each.added:,} added, {each.changed:,} replaced, {each.removed:,} removed"
        if each.rolled:
            line += f", {each.rolled:,} made anew from finer ones"
        if each.kept:
            line += f", {each.kept:,} kept that the log does not have"
        print(line)
    print(f"{name} is in place, and gone; its groups go on where it stood")


def _forget(settings: "DatabaseSettings", groups: "Sequence[str]") -> None:
    from consumers.shadow import forget

    if left := forget(settings, groups):
        typer.echo(f"sentio: {left}", err=True)


@contextmanager
def _connected(name: str) -> "Iterator[tuple[Connection, DatabaseSettings]]":
    """The database; a lock that somebody holds too long is named as what it is."""
    import psycopg

    from sentio import database
    from sentio.cli.verify import failures_are_named
    from sentio.config import DatabaseSettings, load

    settings = load(DatabaseSettings)
    with failures_are_named():
        try:
            with database.connect(settings.database, name=name, idle_in_transaction_s=3600) as connection:
                yield connection, settings
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as failure:
            raise Retryable(
                f"database: {database.first_line(failure)}; somebody holds what is needed, nothing was done: try again"
            ) from failure
