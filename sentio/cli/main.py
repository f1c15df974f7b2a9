"""The `sentio` command. Every command imports what it needs only when it runs, so that --help is quick."""

import sys

import typer

from sentio.cli import (
    archive,
    clients,
    data,
    dead,
    publish,
    replay,
    run,
    schemas,
    shadow,
    sidecar,
    stack,
    status,
    topics,
    verify,
    webhooks,
)
from sentio.cli.demo import command as demo
from sentio.errors import Fatal, Retryable, SettingError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Event streaming for a trading engine: one exact, replayable log from publish() to every reader.",
)
app.command("demo")(demo.demo)
app.command("run")(run.run)
app.command("play")(publish.play)
app.command("simulate")(publish.simulate)
app.command("tail")(data.tail)
app.command("watch")(data.watch)
app.command("lag")(data.lag)
app.command("skip")(data.skip)
app.command("status")(status.status)
app.command("doctor")(status.doctor)
app.command("verify")(verify.verify)
app.command("swap")(shadow.swap)
app.add_typer(replay.app, name="replay")
app.add_typer(sidecar.app, name="sidecar")
app.add_typer(stack.app, name="stack")
app.add_typer(shadow.app, name="shadow")
app.add_typer(archive.app, name="archive")
app.add_typer(clients.app, name="clients")
app.add_typer(dead.app, name="dead")
app.add_typer(topics.app, name="topics")
app.add_typer(schemas.app, name="schemas")
app.add_typer(webhooks.app, name="webhooks")


def main() -> None:
    """Run a command. Exit 2 for a wrong setting, 1 for anything else that went wrong, 130 for Ctrl-C."""
    try:
        app()
    except SettingError as failure:
        _end(str(failure), 2)
    except (Fatal, Retryable) as failure:
        _end(str(failure), 1)
    except BrokenPipeError:  # `sentio tail | head`
        sys.stderr.close()
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(130)


def _end(line: str, status: int) -> None:
    print(f"sentio: {line}", file=sys.stderr)
    sys.exit(status)
