"""`sentio stack`: Kafka and PostgreSQL on this machine, without containers."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Kafka and PostgreSQL on this machine, without containers.")

Root = Annotated[Path, typer.Option("--root", help="Folder for data, logs and run state.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

ROOT = Path(".sentio/stack")


@app.command()
def up(root: Root = ROOT, *, as_json: Json = False) -> None:
    """Start both servers, or find them running; they stay until 'sentio stack down'."""
    from sentio.stack.stack import Stack

    addresses = Stack(root).up(dies_with_parent=False)
    if as_json:
        print(json.dumps(asdict(addresses)))
        return
    print(f"export SENTIO_KAFKA={addresses.kafka}")
    print(f"export SENTIO_DATABASE={addresses.database}")


@app.command()
def down(root: Root = ROOT) -> None:
    """Stop both servers; their data and ports are kept."""
    from sentio.stack.stack import Stack

    Stack(root).down()


@app.command()
def status(root: Root = ROOT, *, as_json: Json = False) -> None:
    """Show what runs, where, and how large its data are."""
    from sentio.stack.stack import Stack

    components = Stack(root).status()
    if as_json:
        print(json.dumps([asdict(component) for component in components], default=str))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("component", "running", "pid", "address", "data", "log")
    for column in (table.columns[3], table.columns[5]):
        column.overflow = "fold"  # what is to be copied is not cut
    for each in components:
        running = "[green]yes[/green]" if each.running else "[red]no[/red]"
        size = f"{each.data_bytes / 1e6:,.0f} MB"
        table.add_row(each.name, running, str(each.pid or "-"), each.address or "-", size, str(each.log))
    Console().print(table)
