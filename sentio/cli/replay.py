"""`sentio replay`: events of the log once more, to where they are wanted, as a planned job that can be interrupted."""

from typing import TYPE_CHECKING, Annotated

import typer

from sentio.errors import SettingError

if TYPE_CHECKING:
    from sentio.cli.replaying import Asked

app = typer.Typer(no_args_is_help=True, help="Events of the log once more: into a topic, a table, a file, a new group.")

Topics = Annotated[list[str] | None, typer.Argument(help="Topics, with or without prefix, e.g. trades.executed.")]
Into = Annotated[
    str | None,
    typer.Option(
        help="topic:NAME, table:NAME (what it lacks), group:NAME (a new one), file:PATH, stdout, or count.",
        show_default=False,
    ),
]
Since = Annotated[
    str | None, typer.Option("--from", help="From this day or time on: 2025-10-10, or ISO; by the log's time.")
]
Until = Annotated[str | None, typer.Option("--to", help="To the end of this day, or to this time.")]
Last = Annotated[str | None, typer.Option(help="Instead of --from: 30m, 6h, 2d.")]
Partition = Annotated[int | None, typer.Option(min=0, help="Only this partition.")]
FromOffset = Annotated[int | None, typer.Option(min=0, help="With --partition: begin at this offset.")]
ToOffset = Annotated[int | None, typer.Option(min=0, help="With --partition: end before this offset.")]
Symbol = Annotated[str | None, typer.Option(help="Only events of this symbol.")]
Account = Annotated[str | None, typer.Option(help="Only events of this account.")]
Header = Annotated[list[str] | None, typer.Option(help="Only with the header KEY=VALUE; may be repeated.")]
Where = Annotated[
    list[str] | None, typer.Option(help="Only with FIELD=VALUE, or !=, <, <=, >, >=; may be repeated, all are met.")
]
Speed = Annotated[
    str, typer.Option(help="1x is as it happened, 60x a minute in a second, by the events' own time; or max.")
]
Rate = Annotated[float | None, typer.Option(min=0.1, help="At most so many records a second.")]
Owns = Annotated[bool, typer.Option("--owns-offsets", help="Of group:NAME: its class has owns_offsets.")]
FromArchive = Annotated[
    bool, typer.Option("--from-archive", help="Read what 'sentio run archive' wrote (SENTIO_ARCHIVE), not the log.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def plan(
    topics: Topics = None,
    into: Into = "count",
    since: Since = None,
    until: Until = None,
    last: Last = None,
    partition: Partition = None,
    from_offset: FromOffset = None,
    to_offset: ToOffset = None,
    symbol: Symbol = None,
    account: Account = None,
    header: Header = None,
    where: Where = None,
    speed: Speed = "max",
    rate: Rate = None,
    *,
    owns_offsets: Owns = False,
    from_archive: FromArchive = False,
    as_json: AsJson = False,
) -> None:
    """Show what would be read of each partition, its size and the time it takes; nothing is done."""
    _asked(locals()).show(as_json=as_json)


@app.command()
def run(
    topics: Topics = None,
    into: Into = None,
    since: Since = None,
    until: Until = None,
    last: Last = None,
    partition: Partition = None,
    from_offset: FromOffset = None,
    to_offset: ToOffset = None,
    symbol: Symbol = None,
    account: Account = None,
    header: Header = None,
    where: Where = None,
    speed: Speed = "max",
    rate: Rate = None,
    resume: Annotated[str | None, typer.Option(metavar="ID", help="Go on with a job that was interrupted.")] = None,
    *,
    owns_offsets: Owns = False,
    from_archive: FromArchive = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the plan.")] = False,
    as_json: AsJson = False,
) -> None:
    """Plan, ask, and replay. A job that is killed goes on with --resume, and writes nothing twice.

    Exit 0 when all is written; the job's id is on stderr.
    """
    from sentio.cli.replaying import KINDS, start
    from sentio.cli.replaying import resume as go_on

    if resume is not None:
        if topics or into:
            raise SettingError("--resume goes on with a job as it was planned; give nothing else")
        go_on(resume, as_json=as_json)
        return
    if into is None:
        raise SettingError(f"--into: {KINDS}")
    start(_asked(locals()), yes=yes, dry_run=dry_run, as_json=as_json)


@app.command()
def status(
    job: Annotated[str | None, typer.Argument(help="Only this job.")] = None, *, as_json: AsJson = False
) -> None:
    """Show the jobs of this machine, and how far each is."""
    from sentio.cli.replay_shown import show_jobs
    from sentio.config import ReplaySettings, load

    show_jobs(load(ReplaySettings), job, as_json=as_json)


@app.command()
def cancel(job: Annotated[str, typer.Argument(help="Id of the job, as status shows it.")]) -> None:
    """Stop a job for good. What it has written to a topic or table stays; a file that is not complete is removed."""
    from sentio.cli.replaying import cancel as stop

    stop(job)


def _asked(given: dict[str, object]) -> "Asked":
    from dataclasses import fields

    from sentio.cli.replaying import Asked

    named = {field.name: given[field.name] for field in fields(Asked)}
    return Asked(**named)  # type: ignore[arg-type] # the options of the command, by their names
