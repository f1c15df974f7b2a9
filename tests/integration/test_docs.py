"""What docs/new-consumer.md and README.md tell people to write works, word for word."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from producers.publisher import EventPublisher
from schemas.events import TradeExecuted
from sentio import topics
from sentio.config import PublisherSettings
from sentio.database import migrate
from sentio.stack.processes import answers, free_port, until
from sentio.testing.servers import Kafka
from tests import javascript

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent
DEADLINE_S = 60.0


def code(document: str, name: str) -> str:
    """The code block that begins with ``# name``, or ``// name``."""
    blocks: list[str] = re.findall(r"```(?:python|js)\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)
    [found] = [block for block in blocks if block.startswith((f"# {name}\n", f"// {name}\n"))]
    return found


def settings(kafka: Kafka) -> PublisherSettings:
    return PublisherSettings(kafka=kafka.bootstrap, topic_prefix=kafka.prefix, partitions=3)


def environment(kafka: Kafka, **more: str) -> dict[str, str]:
    mine = {"SENTIO_KAFKA": kafka.bootstrap, "SENTIO_TOPIC_PREFIX": kafka.prefix, "SENTIO_PARTITIONS": "3"}
    return {**os.environ, **mine, **more}


def fill(symbol: str, quantity: int) -> TradeExecuted:
    return TradeExecuted(
        account="paper-2025-10-10",
        strategy="rotation",
        symbol=symbol,
        action="ENTRY",
        side="BUY",
        quantity=Decimal(quantity),
        price=Decimal("101.25"),
        fees=Decimal(0),
        reason="test",
        executed_at=datetime(2025, 10, 10, 14, 30, tzinfo=UTC),
    )


def publish(kafka: Kafka, *fills: TradeExecuted) -> None:
    with EventPublisher(settings(kafka), name="engine") as publisher:
        for one in fills:
            publisher.publish(one)
    counters = publisher.counters()
    assert (counters.acknowledged, counters.failed) == (len(fills), 0)


@contextmanager
def running(folder: Path, what: str, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """``sentio run`` in the folder of the file, as the document says; ends as an operator ends it."""
    with (folder / "out").open("wb") as out, (folder / "log").open("wb") as log:
        command = [str(PROGRAMS / "sentio"), "run", what]
        process = subprocess.Popen(command, cwd=folder, env={**environment, "PYTHONPATH": "."}, stdout=out, stderr=log)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            finally:
                process.kill()
                process.wait()
    assert process.returncode == 0, (folder / "log").read_text()


def wait(folder: Path, process: "subprocess.Popen[bytes]", condition: Callable[[], bool]) -> None:
    until(lambda: condition() or process.poll() is not None, timeout_s=DEADLINE_S)
    assert condition(), (folder / "log").read_text()


def test_consumer_of_twenty_lines_gets_what_was_published(kafka: Kafka, tmp_path: Path) -> None:
    text = code("docs/new-consumer.md", "large_fills.py")
    assert len([line for line in text.splitlines() if line.strip()]) <= 20
    (tmp_path / "large_fills.py").write_text(text)
    topics.apply(settings(kafka), topics.plan(settings(kafka)))
    publish(kafka, fill("TQQQ", 1_000), fill("SQQQ", 999), fill("SPY", 2_500))

    def told() -> set[str]:
        return set((tmp_path / "out").read_text().splitlines())

    with running(tmp_path, "large_fills:LargeFills", environment(kafka)) as process:
        wait(tmp_path, process, lambda: len(told()) == 2)
        publish(kafka, fill("TZA", 4_000))
        wait(tmp_path, process, lambda: len(told()) == 3)

    assert told() == {
        "BUY 1000.00000000 TQQQ at 101.2500000000",
        "BUY 2500.00000000 SPY at 101.2500000000",
        "BUY 4000.00000000 TZA at 101.2500000000",
    }


def test_exactly_once_consumer_counts_every_fill_once_over_a_restart(
    kafka: Kafka, database: str, tmp_path: Path
) -> None:
    (tmp_path / "turnover.py").write_text(code("docs/new-consumer.md", "turnover.py"))
    topics.apply(settings(kafka), topics.plan(settings(kafka)))
    given = environment(kafka, SENTIO_DATABASE=database)

    def turnover() -> dict[str, Decimal]:
        with psycopg.connect(database) as connection:
            if connection.execute("select to_regclass('turnover')").fetchone() == (None,):
                return {}
            return dict(connection.execute("select symbol, shares from turnover").fetchall())

    publish(kafka, fill("TQQQ", 100), fill("SPY", 7), fill("TQQQ", 11))
    with running(tmp_path, "turnover:Turnover", given) as process:
        wait(tmp_path, process, lambda: turnover() == {"TQQQ": 111, "SPY": 7})

    publish(kafka, fill("SPY", 3))
    with running(tmp_path, "turnover:Turnover", given) as process:
        wait(tmp_path, process, lambda: turnover().get("SPY") == 10)

    assert turnover() == {"TQQQ": 111, "SPY": 10}


def test_test_of_the_document_passes_and_can_fail(kafka: Kafka, tmp_path: Path) -> None:
    (tmp_path / "large_fills.py").write_text(code("docs/new-consumer.md", "large_fills.py"))
    (tmp_path / "test_large_fills.py").write_text(code("docs/new-consumer.md", "test_large_fills.py"))

    def outcome() -> tuple[int, str]:
        done = subprocess.run(
            [PROGRAMS / "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "test_large_fills.py"],
            cwd=tmp_path,
            env=environment(kafka, SENTIO_TEST_KAFKA=kafka.bootstrap, PYTHONPATH="."),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        return done.returncode, done.stdout + done.stderr

    passed = outcome()
    (tmp_path / "large_fills.py").write_text((tmp_path / "large_fills.py").read_text().replace("1_000", "998"))
    failed = outcome()

    assert passed[0] == 0, passed[1]
    assert (failed[0], "1 failed" in failed[1]) == (1, True), failed[1]


def test_publishing_example_of_the_readme_puts_its_fill_on_the_log(kafka: Kafka, tmp_path: Path) -> None:
    (tmp_path / "engine.py").write_text(code("README.md", "engine.py"))
    topics.apply(settings(kafka), topics.plan(settings(kafka)))

    done = subprocess.run(
        [sys.executable, "engine.py"],
        cwd=tmp_path,
        env=environment(kafka),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    shown = subprocess.run(
        [PROGRAMS / "sentio", "tail", "trades.executed", "--no-follow", "--json"],
        env=environment(kafka),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert "acknowledged=1" in done.stdout
    assert '"symbol": "TQQQ"' in shown.stdout


CLIENTS = [
    ("README.md", "watch.py"),
    ("clients/python/README.md", "follow.py"),
    ("clients/js/README.md", "follow.mjs"),
]


@pytest.mark.parametrize(("document", "name"), CLIENTS, ids=lambda value: value)
def test_client_of_the_document_hears_a_snapshot_and_what_comes(
    kafka: Kafka, database: str, tmp_path: Path, document: str, name: str
) -> None:
    port = free_port(None)
    text = code(document, name)
    assert "ws://127.0.0.1:8765" in text
    (tmp_path / name).write_text(text.replace(":8765", f":{port}"))
    if name.endswith(".mjs"):
        javascript.needs("node")
        javascript.build()
        (tmp_path / "node_modules").mkdir()
        (tmp_path / "node_modules/sentio-client").symlink_to(javascript.FOLDER)
        (tmp_path / "node_modules/ws").symlink_to(javascript.FOLDER / "node_modules/ws")
    topics.apply(settings(kafka), topics.plan(settings(kafka)))
    migrate(SecretStr(database))
    given = environment(kafka, SENTIO_DATABASE=database, SENTIO_STREAM_PORT=str(port))

    def heard() -> list[str]:
        return (tmp_path / "heard").read_text().splitlines()

    with running(tmp_path, "stream", given) as gateway, (tmp_path / "heard").open("wb") as out:
        wait(tmp_path, gateway, lambda: answers(port))
        program = "node" if name.endswith(".mjs") else sys.executable
        client = subprocess.Popen([program, name], cwd=tmp_path, stdout=out)
        try:
            wait(tmp_path, gateway, lambda: heard() == ["0 fills so far"])
            publish(kafka, fill("SPY", 1), fill("TQQQ", 2))
            wait(tmp_path, gateway, lambda: len(heard()) == 2)
        finally:
            client.kill()
            client.wait()

    assert re.search(r"\b2\b.*\b101\.25\b", heard()[1])
    assert "SPY" not in heard()[1]
