"""`sentio demo`: the main job from end to end, on a recorded or a simulated day, and the proof that all agree."""

from pathlib import Path
from typing import Annotated, Literal

import typer


def demo(
    session: Annotated[
        Path | None,
        typer.Option(help="Folder of a recorded day or a day's results file; none: a simulated day."),
    ] = None,
    speed: Annotated[str, typer.Option(help="1 is real time, 60 a minute a second, or max.")] = "max",
    seed: Annotated[int, typer.Option(help="Seed of the simulated day.")] = 42,
    engine: Annotated[
        Literal["python", "cpp"],
        typer.Option(help="cpp: the engine in examples/engine-cpp trades the day, and a sidecar sends it on."),
    ] = "python",
    root: Annotated[Path, typer.Option(help="Folder for data, logs and run state.")] = Path(".sentio/demo"),
    *,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Count bad lines of the recording and go on.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Stay up at the end, until Ctrl-C, and say where.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")] = False,
) -> None:
    """Run the whole platform on this machine for one trading day, and reconcile it. Exit 1 if anything disagrees."""
    from sentio.cli.demo.show import Options, run
    from sentio.cli.publish import parse_speed

    parse_speed(speed)
    options = Options(
        session=session,
        speed=speed,
        seed=seed,
        root=root,
        engine=engine,
        skip_bad=skip_bad,
        keep=keep,
        as_json=as_json,
    )
    raise typer.Exit(run(options))
