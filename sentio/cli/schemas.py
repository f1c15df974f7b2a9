"""`sentio schemas`: the lock of schema ids."""

from importlib.resources import files
from pathlib import Path

import typer

from sentio.errors import Fatal

app = typer.Typer(no_args_is_help=True, help="List, check and lock the events' schemas.")


@app.command("list")
def list_() -> None:
    """Show every locked schema with its id."""
    from rich.console import Console
    from rich.table import Table

    from schemas.registry import locked
    from schemas.topics import topic_of_event

    table = Table("id", "event", "topic", "fields")
    for version in locked().values():
        topic = topic_of_event(version.event).name
        table.add_row(str(version.id), version.event, topic, str(len(version.schema["fields"])))
    Console().print(table)


@app.command()
def check() -> None:
    """Check that avro/ is in the lock and may follow what is; exit 1 if not."""
    _check()
    from schemas.registry import avro_files, current

    for event in avro_files():
        current(event)
    print("schemas agree with the lock")


@app.command()
def lock() -> None:
    """Add changed schemas to the lock, if they are compatible with every earlier version."""
    _check()
    from schemas.registry import LOCK, extend_lock, locked, write_lock

    before = list(locked().values())
    after = extend_lock(before)
    write_lock(after, Path(str(files("schemas").joinpath(LOCK))))
    print(f"{len(after) - len(before)} versions added")


def _check() -> None:
    from schemas.compatibility import problems
    from schemas.registry import avro_files, locked

    lines = [
        line
        for event, schema in avro_files().items()
        for line in problems(schema, [version for version in locked().values() if version.event == event])
    ]
    if lines:
        raise Fatal("not compatible (FULL_TRANSITIVE): " + "; ".join(lines))
