"""`sentio dead`: what was refused and why, put right, and sent once more to the group that refused it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sentio.errors import SettingError

if TYPE_CHECKING:
    from sentio.cli.buried import Filter
    from sentio.cli.redriving import Plan

app = typer.Typer(no_args_is_help=True, help="Dead letters: look at them, put them right, redrive them.")

Topic = Annotated[str | None, typer.Option(help="Of this topic, e.g. trades.executed.")]
GroupName = Annotated[str | None, typer.Option(help="Refused by this group, e.g. aggregates.")]
Kind = Annotated[str | None, typer.Option("--type", help="Of this error type: decode, process, bridge.")]
Reason = Annotated[str | None, typer.Option(help="With this in the reason.")]
Since = Annotated[str | None, typer.Option(help="Not older than 30s, 10m, 6h or 2d.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Place = Annotated[str, typer.Argument(help="TOPIC:PARTITION:OFFSET of the letter, or of the record it is of.")]
Group = Annotated[str | None, typer.Option(help="Which group's letter, where several refused the record.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Again = Annotated[bool, typer.Option("--again", help="Also what was redriven already, but for what was edited.")]


@app.command(name="list")
def show_all(
    topic: Topic = None,
    group: GroupName = None,
    kind: Kind = None,
    reason: Reason = None,
    since: Since = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Count dead letters by topic, group, error type and reason, in which numbers are folded."""
    import json

    from sentio.cli.burials import heaps, print_heaps
    from sentio.config import RedriveSettings, load

    settings = load(RedriveSettings)
    found = heaps(settings, _filter(topic, group, kind, reason, since))
    if as_json:
        print(json.dumps([heap.document() for heap in found]))
    else:
        print_heaps(found)


@app.command()
def show(place: Place, group: Group = None, *, as_json: AsJson = False) -> None:
    """Show one dead letter: its headers, and its fields as far as they can be read, beside their bytes."""
    import json

    from sentio.cli.burials import document, print_letter
    from sentio.cli.buried import at
    from sentio.config import RedriveSettings, load

    settings = load(RedriveSettings)
    letter = at(settings, place, group)
    if as_json:
        print(json.dumps(document(letter)))
    else:
        print_letter(letter)


@app.command()
def edit(
    place: Place,
    changes: Annotated[list[str] | None, typer.Option("--set", help="FIELD=VALUE; may be repeated.")] = None,
    json_file: Annotated[Path | None, typer.Option(help="Every field, from a file of JSON; - is stdin.")] = None,
    group: Group = None,
    *,
    editor: Annotated[bool, typer.Option("--editor", help="In the editor of $VISUAL or $EDITOR, as JSON.")] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Put a dead letter's record right and redrive it, as a new event that names the old one."""
    import json

    from schemas.dissection import dissect
    from sentio import letters
    from sentio.cli import editing, redriving
    from sentio.cli.buried import at, redriven
    from sentio.config import RedriveSettings, load

    if sum((bool(changes), json_file is not None, editor)) != 1:
        raise SettingError("edit: give --set, --json-file or --editor")
    settings = load(RedriveSettings)
    letter = at(settings, place, group)
    try:
        redriving.check(settings, letter)
        topic = editing.topic_of(settings, letter)
    except redriving.Obstacle as obstacle:
        raise SettingError(f"{place}: {obstacle}") from None
    if redriven(settings).has(letter):
        raise SettingError(f"{place} was redriven already; if it was refused again, edit the newer letter")
    values = editing.fields(dissect(letter.value))
    if changes:
        values = editing.with_fields(topic, values, changes)
    elif json_file is not None:
        values = editing.document(editing.read(json_file))
    else:
        values = editing.document(editing.in_editor(json.dumps(values, indent=1)))
    made = editing.edited(settings, letter, values)
    print(json.dumps({piece.name: editing.shown(piece.value) for piece in dissect(made.value).pieces}, indent=1))
    if _agreed("Redrive this?", dry_run=dry_run, yes=yes):
        redrive_id = redriving.send(settings, [letter], made)
        print(f"redriven to {letter.group} as a new event, {redriving.TO_BE_READ}; {letters.REDRIVE_ID} {redrive_id}")


@app.command()
def redrive(
    place: Annotated[str | None, typer.Argument(help="One letter, as for show; else by filter.")] = None,
    topic: Topic = None,
    group: GroupName = None,
    kind: Kind = None,
    reason: Reason = None,
    since: Since = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    *,
    dry_run: DryRun = False,
    yes: Yes = False,
    again: Again = False,
    as_json: AsJson = False,
) -> None:
    """Send dead letters once more to the group that refused them; each event is applied once."""
    import json

    from sentio import letters
    from sentio.cli import redriving
    from sentio.cli.buried import at, find
    from sentio.config import RedriveSettings, load

    settings = load(RedriveSettings)
    wanted = _filter(topic, group, kind, reason, since)
    found = find(settings, wanted) if place is None else iter([at(settings, place, group)])
    plan = redriving.plan(settings, found, again=again, limit=limit)
    if place is not None and not plan.letters:
        raise SettingError(f"{place}: {next(iter(plan.obstacles), 'it was redriven already (--again), or edited')}")
    if not as_json:
        _print_plan(plan)
    redrive_id = None
    if plan.letters and _agreed(f"Redrive {len(plan.letters):,} records?", dry_run=dry_run, yes=yes):
        redrive_id = redriving.send(settings, plan.letters)
        if not as_json:
            print(f"{len(plan.letters):,} redriven, {redriving.TO_BE_READ}; {letters.REDRIVE_ID} {redrive_id}")
    if as_json:
        said = {"planned": len(plan.letters), "redriven": len(plan.letters) if redrive_id else 0, "id": redrive_id}
        print(json.dumps({**said, "already": plan.already, "obstacles": plan.obstacles}))


def _filter(topic: str | None, group: str | None, kind: str | None, reason: str | None, since: str | None) -> "Filter":
    import time

    from sentio.asked import duration_ms
    from sentio.cli.buried import Filter

    since_ms = None if since is None else int(time.time() * 1000) - duration_ms("--since", since)
    return Filter(topic, group, kind, reason, since_ms)


def _print_plan(plan: "Plan") -> None:
    from collections import Counter

    targets = Counter((letter.group, letter.topic) for letter in plan.letters)
    for (group, topic), count in sorted(targets.items()):
        print(f"{count:,} of {topic} to {group}")
    if plan.already:
        print(f"{plan.already:,} left out: redriven already (--again takes them too), or edited")
    for obstacle, count in plan.obstacles.most_common():
        print(f"{count:,} cannot be redriven: {obstacle}")
    if not plan.letters:
        print("nothing to redrive")


def _agreed(question: str, *, dry_run: bool, yes: bool) -> bool:
    import sys

    if dry_run or yes:
        return not dry_run
    if not sys.stdin.isatty():
        raise SettingError("there is nobody to ask: give --yes, or --dry-run")
    return typer.confirm(question)
