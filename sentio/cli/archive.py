"""`sentio archive`: what is archived, whether it is whole, and one file of many small ones."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from consumers.archive.stores import Store
    from consumers.archive.verifying import Found
    from sentio.config import ArchiveSettings
    from sentio.kafka import Place

app = typer.Typer(no_args_is_help=True, help="What `sentio run archive` has written (SENTIO_ARCHIVE).")

Topic = Annotated[str | None, typer.Argument(help="Topic, with or without prefix; all by default.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_(
    topic: Topic = None,
    *,
    files: Annotated[bool, typer.Option(help="The path of each file, one a line: what a query may read.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what each partition's archive holds, by its manifest."""
    from consumers.archive import manifests, verifying

    _, store, places = _opened(topic)
    if files:
        for place in places:
            held = manifests.view(store, place)
            for file in held.files if held else []:
                print(f"{store.url}/{file.path}")
        return
    _show([found for place in places if (found := verifying.summary(store, place))], as_json=as_json)


@app.command("verify")
def verify(topic: Topic = None, *, as_json: AsJson = False) -> None:
    """Hold every file against the manifests; exits 1 when anything is missing, doubled or not what it should be."""
    from consumers.archive import verifying

    _, store, places = _opened(topic)
    found = [one for place in places if (one := verifying.verify(store, place))]
    strays = verifying.strays(store, {place[0] for place in places})
    _show(found, as_json=as_json)
    for one in found:
        for fault in one.faults:
            typer.echo(f"{one.place[0]}[{one.place[1]}]: {fault}", err=True)
    for path in strays:
        typer.echo(f"{path} is in no manifest; 'sentio archive compact' removes it", err=True)
    if strays or any(one.faults for one in found):
        raise typer.Exit(1)


@app.command("compact")
def compact(topic: Topic = None) -> None:
    """Make one file of the small ones of each hour that is over; may run beside the archive, by a timer."""
    from consumers.archive.compaction import Compaction, sweep

    settings, store, places = _opened(topic)
    compaction = Compaction(store, file_bytes=settings.archive_file_bytes)
    for place in places:
        before, after = compaction.run(place)
        if before:
            print(f"{place[0]}[{place[1]}]: {after} files of {before}")
    for name in sorted({place[0] for place in places}):
        for path in sweep(store, name):
            print(f"{path}: removed, no manifest names it")


def _opened(topic: str | None) -> "tuple[ArchiveSettings, Store, list[Place]]":
    from consumers.archive import manifests
    from consumers.archive.stores import open_store
    from sentio.config import ArchiveSettings, load
    from sentio.errors import SettingError

    settings = load(ArchiveSettings)
    store = open_store(settings)
    prefix = f"{settings.topic_prefix}."
    places = [place for place in manifests.places(store) if place[0].startswith(prefix)]
    if topic is not None:
        name = prefix + topic.removeprefix(prefix)
        places = [place for place in places if place[0] == name]
        if not places:
            raise SettingError(f"the archive (SENTIO_ARCHIVE={settings.archive}) holds nothing of {name}")
    return settings, store, places


def _show(rows: "list[Found]", *, as_json: bool) -> None:
    import json
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    if as_json:
        print(json.dumps([asdict(row) | {"absent": [one.model_dump() for one in row.absent]} for row in rows]))
        return
    table = Table("topic", "partition", "first", "next", "records", "files", "bytes")
    for row in rows:
        figures = [f"{figure:,}" for figure in (row.rows, row.files, row.size_bytes)]
        table.add_row(row.place[0], str(row.place[1]), str(row.first), str(row.next), *figures)
    Console().print(table)
