"""The local servers: none is lost, none is left behind."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import psycopg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from structlog.testing import capture_logs

from sentio.errors import Fatal
from sentio.stack import kafka, processes
from sentio.stack.kafka import JARS_SETTING, KafkaServer
from sentio.stack.postgres import PostgresServer
from sentio.stack.processes import Record
from sentio.stack.server import Server
from sentio.stack.stack import Addresses, Stack

UP_AND_WAIT = """
import signal, sys
from pathlib import Path
from sentio.stack.stack import Stack
Stack(Path(sys.argv[1])).up(dies_with_parent=True)
print("up", flush=True)
signal.pause()
"""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path / "stack")
    yield stack
    stack.remove()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        yield taken


def test_restart_keeps_data_and_ports(stack: Stack) -> None:
    first = stack.up(dies_with_parent=True)
    write(first, "kept")
    stack.down()
    assert [component.running for component in stack.status()] == [False, False]

    second = stack.up(dies_with_parent=True)

    assert second == first
    assert read(second) == ("kept", "kept")


def test_second_up_uses_what_runs(stack: Stack) -> None:
    first = stack.up(dies_with_parent=True)
    running = records(stack)

    assert stack.up(dies_with_parent=True) == first
    assert records(stack) == running


def test_start_after_sigkill_of_both_servers_recovers(stack: Stack) -> None:
    first = stack.up(dies_with_parent=True)
    write(first, "kept")
    for server in records(stack):  # not their children, which PostgreSQL would trip over
        os.kill(server.pid, signal.SIGKILL)

    second = stack.up(dies_with_parent=True)

    assert second == first
    assert read(second) == ("kept", "kept")


def test_sigkilled_parent_leaves_no_server_behind(stack: Stack) -> None:
    with subprocess.Popen([sys.executable, "-c", UP_AND_WAIT, str(stack.root)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == b"up\n"
        left = records(stack)
        parent.kill()

    assert processes.until(lambda: not any(server.running for server in left), timeout_s=30)


def test_servers_of_the_command_line_outlive_it_until_down(stack: Stack) -> None:
    addresses = Addresses(**json.loads(command_line("up", "--root", str(stack.root), "--json")))
    write(addresses, "kept")

    shown = json.loads(command_line("status", "--root", str(stack.root), "--json"))
    assert [(each["name"], each["running"], each["address"]) for each in shown] == [
        ("kafka", True, addresses.kafka),
        ("postgres", True, addresses.database),
    ]
    running = records(stack)
    command_line("down", "--root", str(stack.root))
    assert not any(server.running for server in running)


def test_if_one_server_cannot_start_the_other_does_not_stay(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(JARS_SETTING, str(tmp_path / "empty"))
    half = Stack(stack.root)

    with pytest.raises(Fatal, match=f"no Kafka jars in .*{JARS_SETTING}"):
        half.up(dies_with_parent=True)

    assert half.database.process is None


def test_taken_port_is_no_error_for_kafka(own_kafka: KafkaServer, listener: socket.socket) -> None:
    first = own_kafka.start()
    own_kafka.stop()
    listener.bind(("127.0.0.1", port_of(first)))
    listener.listen()

    second = own_kafka.start()

    assert second != first
    assert AdminClient({"bootstrap.servers": second}).list_topics(timeout=10).brokers


def test_port_taken_between_choice_and_bind_is_no_error(
    own_database: PostgresServer, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_database.stop()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    choices = [listener.getsockname()[1], processes.free_port(None)]
    monkeypatch.setattr(processes, "free_port", lambda _: choices.pop(0))

    with psycopg.connect(own_database.start()):
        assert not choices


def test_leftover_of_a_crash_is_stopped_by_the_next_start(own_database: PostgresServer) -> None:
    left = own_database.process
    assert left

    PostgresServer(own_database.root, dies_with_parent=True).start()

    assert not left.running


def test_orphaned_child_of_a_killed_postgres_does_not_keep_it_down(own_database: PostgresServer) -> None:
    assert own_database.pid
    connection = psycopg.connect(own_database.address or "")
    os.kill(connection.info.backend_pid, signal.SIGSTOP)  # it will not notice that its parent is gone
    os.kill(own_database.pid, signal.SIGKILL)

    with psycopg.connect(own_database.start()) as again:
        assert again.execute("SELECT 1").fetchone() == (1,)
    connection.close()


def test_stale_pid_file_does_not_keep_postgres_down(own_database: PostgresServer, tmp_path: Path) -> None:
    other = PostgresServer(tmp_path / "other", dies_with_parent=True)
    try:
        other.start()
        own_database.kill()
        pid_file = own_database.data / "postmaster.pid"
        _, *rest = pid_file.read_text().splitlines(keepends=True)
        pid_file.write_text("".join([f"{other.pid}\n", *rest]))  # as if the pid had been given away

        with psycopg.connect(own_database.start()) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert other.process
    finally:
        other.remove()


def test_server_started_by_a_thread_survives_the_thread(own_database: PostgresServer) -> None:
    own_database.stop()
    starter = Thread(target=own_database.start)
    starter.start()
    starter.join()

    for _ in range(3):  # a dying server may take one more connection
        with psycopg.connect(own_database.address or "") as connection:
            connection.execute("SELECT pg_sleep(0.1)")
    assert own_database.process


def test_process_that_got_the_pid_of_a_dead_server_is_left_alone(tmp_path: Path) -> None:
    record = tmp_path / "process.json"
    ours = {"name": "kafka", "command": "java", "pid": os.getpid(), "started": "another time", "port": 9092}
    record.write_text(json.dumps(ours))

    processes.stop(Record(**ours))  # type: ignore[arg-type] # they are what it has

    assert processes.leftover(record) is None
    assert not record.exists()


def test_server_that_ignores_sigterm_is_killed_after_a_while(tmp_path: Path) -> None:
    stubborn = processes.spawn(
        ["sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 1; done"],
        name="stubborn",
        port=0,
        record=tmp_path / "process.json",
        log=tmp_path / "log",
        cwd=tmp_path,
        death_signal=signal.SIGKILL,
    )
    assert processes.until(lambda: "deaf" in processes.tail(tmp_path / "log"), timeout_s=10)

    processes.stop(stubborn, timeout_s=0.2)

    assert not stubborn.running


class Hanging(Server):
    """Of its starts the first ``times`` never answer."""

    NAME = "hanging"
    ERRORS = ()
    TIMEOUT_S = 10.0
    PROGRAM = """
import socket, sys, time
from pathlib import Path
port, times, starts = int(sys.argv[1]), int(sys.argv[2]), Path("starts")
before = len(starts.read_text()) if starts.exists() else 0
starts.write_text("." * (before + 1))
print("start", before, flush=True)
if before >= times:
    listening = socket.create_server(("127.0.0.1", port))
time.sleep(60)
"""

    def start(self, times: int) -> int:
        return self._run(lambda port: [sys.executable, "-c", self.PROGRAM, str(port), str(times)], cwd=self.root)


def test_start_that_hangs_is_made_anew_once(tmp_path: Path) -> None:
    server = Hanging(tmp_path, dies_with_parent=True)
    with capture_logs() as said:
        port = server.start(times=1)
    try:
        assert processes.answers(port)
        assert [line["at"] for line in said if line.get("server") == "hanging"] == [["start 0"]]
        assert (tmp_path / "server.log.1").read_text() == "start 0\n"
    finally:
        server.kill()


def test_start_that_hangs_again_is_an_error_that_says_where(tmp_path: Path) -> None:
    server = Hanging(tmp_path, dies_with_parent=True)
    with pytest.raises(Fatal, match="hanging did not answer in 10 s: start 1 "):
        server.start(times=2)
    assert server.process is None


def test_data_elsewhere_go_when_their_root_is_gone(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root's servers may have to keep data elsewhere")
    tmp_path.chmod(0o700)
    gone, next_one = (
        PostgresServer(tmp_path / "gone"),
        PostgresServer(tmp_path / "next", dies_with_parent=True),
    )
    data = gone.data
    assert tmp_path not in data.parents
    gone.start()
    left = gone.process
    assert left
    subprocess.run(["rm", "-rf", str(gone.root)], check=True)
    try:
        next_one.start()
    finally:
        next_one.remove()

    assert not data.exists()
    assert not left.running


def records(stack: Stack) -> list[Record]:
    found = [stack.kafka.process, stack.database.process]
    assert all(found)
    return [record for record in found if record]


def command_line(*arguments: str) -> str:
    program = "from sentio.cli.stack import app; app()"
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def port_of(bootstrap: str) -> int:
    return int(bootstrap.rpartition(":")[2])


def write(addresses: Addresses, text: str) -> None:
    """One record and one row."""
    admin = AdminClient({"bootstrap.servers": addresses.kafka})
    admin.create_topics([NewTopic("texts", 1, 1)])["texts"].result(timeout=10)
    producer = Producer({"enable.idempotence": True, "bootstrap.servers": addresses.kafka, "acks": "all"})
    producer.produce("texts", text.encode())
    assert producer.flush(10) == 0
    with psycopg.connect(addresses.database) as connection:
        connection.execute("CREATE TABLE texts AS SELECT %s::text AS text", [text])


def read(addresses: Addresses) -> tuple[str, str]:
    """The record and the row."""
    consumer = Consumer({"bootstrap.servers": addresses.kafka, "group.id": "reader"})
    consumer.assign([TopicPartition("texts", 0, 0)])
    message = consumer.poll(20)
    consumer.close()
    assert message
    assert not message.error()
    with psycopg.connect(addresses.database) as connection:
        row = connection.execute("SELECT text FROM texts").fetchone()
    assert row
    return (message.value() or b"").decode(), row[0]


def test_broker_is_not_started_on_a_disk_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka, "ROOM_BYTES", 1 << 62)
    server = KafkaServer(tmp_path / "kafka", dies_with_parent=True)
    with pytest.raises(Fatal, match=rf"the disk of {server.root} is full .*broker-disk-full.md"):
        server.start()
    assert server.process is None
