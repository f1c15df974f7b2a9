"""`sentio topics`: what Kafka has against what schemas/topics.toml says."""

import typer

app = typer.Typer(no_args_is_help=True, help="Create and change topics as schemas/topics.toml says.")


@app.command()
def plan() -> None:
    """Show what 'apply' would do."""
    from sentio import topics
    from sentio.config import Settings, load

    changes = [change for change in topics.plan(load(Settings)) if change.lines]
    for change in changes:
        for line in change.lines:
            print(f"{change.topic.name}: {line}")
    if not changes:
        print("all topics are as they should be")


@app.command()
def apply() -> None:
    """Create what is missing, change what differs; nothing is ever deleted."""
    from sentio import topics
    from sentio.config import Settings, load

    settings = load(Settings)
    changes = [change for change in topics.plan(settings) if change.lines]
    topics.apply(settings, changes)
    print(f"{len(changes)} topics changed" if changes else "all topics are as they should be")
