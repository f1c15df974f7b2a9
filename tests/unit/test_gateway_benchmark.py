"""The benchmark of the gateway: what its clients count, and what becomes of their figures."""

import asyncio
import json
import mmap
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gateway, gateway_churn, gateway_load, gateway_servers, memory, results, scale, trades
from benchmarks.gateway import Pace, Setting
from benchmarks.gateway_servers import Frames, Server
from benchmarks.harness import Differs
from benchmarks.peers import installed
from benchmarks.stage import Stage
from gateway.stream.descriptors import descriptors
from gateway.stream.framing import framed
from gateway.wire import time_text
from tests import gateways, stages

LIMIT_S = 20.0
SUBSCRIBE = '{"id":1,"op":"subscribe","channels":["trades"]}'
OURS = [
    "--say", SUBSCRIBE, "--live", '"type":"snapshot"', "--check",
    "--again", '{"id":1,"op":"subscribe","channels":["trades"],"cursor":{"trades":"%s"}}',
]  # fmt: skip


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage("", "", 0, 0, tmp_path, trades.make(1), warm_up=0, rehearsal=False, say=lambda _: None)


def update(seq: str, prev: str | None, age_s: float = 0.0, padding: int = 0) -> bytes:
    at = time_text(datetime.now(UTC) - timedelta(seconds=age_s))
    data = {"executed_at": at, "reason": "x" * padding}
    said = {"type": "update", "channel": "trades", "seq": seq, "prev": prev, "cursor": f"after-{seq}", "data": data}
    return json.dumps(said, separators=(",", ":")).encode()


SNAPSHOT = b'{"type":"snapshot","channel":"trades","cursor":"first","data":[]}'


@contextmanager
def server(messages: Sequence[bytes], answer: bytes = b"HTTP/1.1 101 Switching Protocols\r\n\r\n") -> Iterator[int]:
    """Sends the same to everyone, whatever they say."""
    listening = socket.create_server(("127.0.0.1", 0))
    opened: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            opened.append(client)
            while b"\r\n\r\n" not in client.recv(4_096):
                pass
            client.sendall(answer + b"".join(map(framed, messages)))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield int(listening.getsockname()[1])
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(LIMIT_S)
        for each in opened:
            each.close()


def test_clients_count_updates_and_their_age_over_frames_of_many_reads(stage: Stage) -> None:
    messages = [update("0:0", None, age_s=2), update("0:1", "0:0", age_s=2, padding=300_000), b'{"type":"heartbeat"}']
    with server(messages) as port, gateway_load.started(stage, port, 3, []) as load:
        load.wait("updates", 6, limit_s=LIMIT_S)
        told = load.ask("report")
        assert told["updates"] == 6
        assert told["live"] == 3
        assert told["bytes"] == 3 * sum(map(len, messages[:2]))
        assert 2_000 <= told["p50_ms"] <= told["p99_ms"] < 2_000 + LIMIT_S * 1_000
        assert load.ask("report")["updates"] == 0


def test_updates_of_one_message_are_counted_one_by_one(stage: Stage) -> None:
    lines = b"\n".join([update("0:0", None), update("0:1", "0:0")])
    with server([lines]) as port, gateway_load.started(stage, port, 2, []) as load:
        load.wait("updates", 4, limit_s=LIMIT_S)


@pytest.mark.parametrize(
    ("seqs", "found"),
    [
        (["0:0", "1:0", "0:1"], {"total": 6, "lost": 0, "repeated": 0, "errors": 0}),
        (["0:0", "1:0"], {"total": 4, "lost": 2, "repeated": 0, "errors": 0}),  # the last is missing
        (["0:1", "1:0"], {"total": 4, "lost": 2, "repeated": 0, "errors": 0}),  # one before it
        (["0:0", "0:0", "1:0", "0:1"], {"total": 8, "lost": 0, "repeated": 2, "errors": 0}),
    ],
)
def test_what_is_lost_or_repeated_is_counted_for_every_client(
    stage: Stage, seqs: Sequence[str], found: dict[str, int]
) -> None:
    messages = [SNAPSHOT, *[update(seq, None) for seq in seqs]]
    with server(messages) as port, gateway_load.started(stage, port, 2, OURS) as load:
        load.wait("updates", 2 * len(seqs), limit_s=LIMIT_S)
        assert found.items() <= load.ask("ends 2 1").items()


def test_a_prev_that_is_not_the_one_before_is_an_error(stage: Stage) -> None:
    messages = [SNAPSHOT, update("0:0", None), update("0:1", "0:7")]
    with server(messages) as port, gateway_load.started(stage, port, 1, OURS) as load:
        load.wait("updates", 2, limit_s=LIMIT_S)
        assert load.ask("ends 2")["errors"] == 1


def test_a_refused_handshake_is_said_with_its_reason(stage: Stage) -> None:
    refusal = b"HTTP/1.1 401 Unauthorized\r\n\r\nnone of the keys signed it\n"
    with server([], refusal) as port, gateway_load.started(stage, port, 1, OURS) as load:
        while not load.ask("ends 0")["dropped"]:
            pass
        assert "none of the keys signed it" in load.said()


def test_clients_that_leave_and_come_back_to_a_gateway_have_everything_once(stage: Stage) -> None:
    clients, count = 20, 40

    async def journey() -> dict[str, Any]:
        async with stages.stage(descriptors(), stream_address_connections=0) as ours, asyncio.timeout(LIMIT_S):
            await ours.follow("TradeExecuted")
            with gateway_load.started(stage, ours.port, clients, OURS) as load:

                async def ask(command: str) -> dict[str, Any]:
                    return await asyncio.to_thread(load.ask, command)

                await asyncio.to_thread(load.wait, "live", clients, limit_s=LIMIT_S)
                await ask("churn 1000 0.05")
                for number in range(count):
                    await ours.publish([gateways.trade(number)])
                    while (await ask("ends 0"))["left"] < number:
                        pass
                await ask("churn 0 0")
                await asyncio.to_thread(load.wait, "live", clients, limit_s=LIMIT_S)
                while (found := await ask(f"ends {count}"))["lost"]:
                    pass
                return found

    found = asyncio.run(journey())
    assert found["total"] == clients * count
    assert found["left"] >= count - 1
    assert not any(found[name] for name in ("repeated", "errors", "resets", "resume_failed", "dropped"))


FOUND = {"total": 101, "lost": 1, "repeated": 2, "errors": 0, "resets": 0, "resume_failed": 0, "dropped": 3, "left": 7}


def test_row_of_the_run_with_churn_says_what_was_lost() -> None:
    row = gateway_churn.as_row(FOUND, expected=100, cpu_s=0.00101, wall_s=1.01, parts={"seconds": 240})
    assert row["cpu_us_per_event"] == 10
    assert row["parts"] == {
        "seconds": 240, "reconnects": 7, "delivered_millions": 0.0, "lost": 1, "repeated": 2, "failures": 3,
    }  # fmt: skip


@pytest.mark.parametrize("change", [{"total": 100}, {"lost": 2}, {"errors": 1}])
def test_clients_whose_account_does_not_add_up_give_no_row(change: dict[str, int]) -> None:
    with pytest.raises(Differs):
        gateway_churn.as_row(FOUND | change, expected=100, cpu_s=1, wall_s=1, parts={})


def test_setting_names_its_rows_and_who_takes_part() -> None:
    ours, deaf = Server("sentio", gateway_servers.ours, compresses=True), Server("picows", gateway_servers.picows)
    single, hundred = Pace("", 0.1, 10), Pace("100 a second", 0.01, 10, together=3)
    assert Setting(10_000, []).name(single) == ""
    assert Setting(1_000, [], tick_ms=100).name(hundred) == "1,000 connections, 100 a second, 100 ms tick"
    assert Setting(1_000, [], compressed=True).name(single) == "1,000 connections, compressed"
    assert hundred.messages == 30
    assert [setting.suits(ours) for setting in (Setting(1, []), Setting(1, [], 100), Setting(1, [], None, True))] == [
        True, True, True,
    ]  # fmt: skip
    assert [setting.suits(deaf) for setting in (Setting(1, []), Setting(1, [], 100), Setting(1, [], None, True))] == [
        True, False, False,
    ]  # fmt: skip


def test_row_has_the_median_of_each_figure() -> None:
    rounds = [{"cpu_us": cpu, "wall_us": 1.0, "p99_ms": ms} for cpu, ms in ((9.0, 1.0), (1.0, 3.0), (2.0, 2.0))]
    assert gateway.row("x", rounds) == {
        "who": "x", "cpu_us_per_event": 2.0, "wall_us_per_event": 1.0, "parts": {"p99_ms": 2.0},
    }  # fmt: skip


def test_peers_send_our_bytes_with_the_time_of_now() -> None:
    recorded = [update("0:0", None, age_s=60), update("0:1", "0:0", age_s=60)]
    sent = Frames(recorded).now(3)
    assert [len(each) for each in sent] == [len(each) for each in [*recorded, recorded[0]]]
    for mine, theirs in zip(recorded, sent, strict=False):
        before, after = (json.loads(each) for each in (mine, theirs))
        assert before["data"].pop("executed_at") < after["data"].pop("executed_at")
        assert before == after


def test_versions_are_read_from_requirements_with_hashes() -> None:
    assert installed.pinned("requirements-picows.txt").keys() >= {"picows", "uvloop"}
    assert all(version[0].isdigit() for version in installed.pinned("requirements-picows.txt").values())


def test_own_memory_grows_with_what_a_process_writes() -> None:
    # Mapped, as what malloc gives may lie in pages that were freed before and are the process's already.
    with mmap.mmap(-1, 32 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as held:
        before_kb = memory.own_kb(threading.get_native_id())
        for page in range(0, len(held), mmap.PAGESIZE):
            held[page] = 1
        assert 30_000 < memory.own_kb(threading.get_native_id()) - before_kb < 60_000


def figures() -> dict[str, dict[str, Any]]:
    return {row["who"]: row for row in results.read_all()["gateway"]["rows"]}


def test_scale_is_worked_out_from_the_measured_rows() -> None:
    result = results.read_all()["gateway"]
    assert scale.PAGE.read_text() == scale.text(figures(), result["machine"])


def test_cores_of_a_load_are_deliveries_times_their_cost_and_what_stands() -> None:
    rows = figures()
    rows["sentio"] = {
        "cpu_us_per_event": 10.0,
        "parts": {"handshakes_per_cpu_s": 1_000.0, "bytes": 430.0},
    }
    rows[gateway_churn.WHO]["parts"]["idle_ms_per_s"] = 30.0
    found = scale.need(scale.LOADS[0], rows)
    assert found.cores == pytest.approx(10 + 2 + 1_000_000 / 600 / 1_000)
    assert found.processes == 100
    assert found.plain_gbit_s == pytest.approx(4.0)
    assert scale.need(scale.LOADS[1], rows).processes == 173  # by their cores: 103.7 of which each has 0.6
