"""The journal of the receiver: a signature is known if and only if its price is kept."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import time
from typing import Any

import pytest

from producers.webhooks import journal
from producers.webhooks.journal import FILE, Journal, JournalFull
from schemas.codec import decode
from sentio.errors import Retryable, SettingError
from tests.webhooks import price

ROOM = 1 << 20


def opened(folder: Path, *, max_bytes: int = ROOM, remember_s: float = 3_600) -> Journal:
    return Journal(folder, max_bytes=max_bytes, remember_s=remember_s)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Journal]:
    made = opened(tmp_path)
    yield made
    made.close()


def sequences(of: Journal, after: int = -1) -> list[int]:
    waiting = of.read(after, 1_000)
    return decode("PriceUpdated", waiting.values).records["sequence"].to_pylist() if waiting else []


def test_sequences_and_signatures_go_on_where_they_were(tmp_path: Path) -> None:
    first = opened(tmp_path)
    assert first.keep([price(1), price(2), price(1)]) == [0, 1]
    first.close()
    second = opened(tmp_path)
    assert second.keep([price(2), price(3)]) == [1]
    assert (second.producer, second.waiting, sequences(second)) == (first.producer, 3, [0, 1, 2])
    waiting = second.read(0, 1)
    assert waiting is not None
    assert (waiting.keys, waiting.last) == ([b"BONK"], 1)
    second.close()


def test_what_kafka_has_is_taken_out_and_its_sequences_are_never_given_again(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.keep([price(number) for number in range(1, 6)])
    full = first.size_bytes
    first.acknowledge(2)
    assert first.waiting == 2
    first.settle()
    assert 0 < first.size_bytes < full
    first.acknowledge(4)
    first.settle()
    assert first.size_bytes == 0
    first.close()
    second = opened(tmp_path)
    assert (second.waiting, second.acknowledged) == (0, 4)
    assert second.keep([price(3), price(9)]) == [1]
    assert sequences(second) == [5]
    second.close()


def test_what_was_acknowledged_and_not_taken_out_yet_is_read_again_the_same(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.keep([price(1), price(2)])
    before = first.read(-1, 10)
    first.acknowledge(1)
    first.close()  # killed here
    second = opened(tmp_path)
    assert second.read(second.acknowledged, 10) == before
    second.close()


def test_signatures_are_remembered_for_as_long_as_is_said_and_then_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "RECENT", 1)
    kept = opened(tmp_path)
    now_s = time()
    kept.keep([price(1)])
    for after_s, number, new in ((3_000, 1, []), (3_700, 2, [0]), (7_200, 1, []), (7_400, 3, [0]), (7_500, 1, [0])):
        monkeypatch.setattr(journal, "time", lambda at_s=now_s + after_s: at_s)
        assert kept.keep([price(number)]) == new, after_s
    kept.close()


def test_any_number_of_prices_is_kept_and_read_at_once(kept: Journal) -> None:
    sizes = (1, 15, 16, 17, 129, 1_025)
    first = 0
    for size in sizes:
        prices = [price(number) for number in range(first + 1, first + size + 1)]
        assert kept.keep(prices) == list(range(size))
        assert kept.keep(prices) == []
        first += size
    assert sequences(kept, -1) == list(range(1_000))
    assert sequences(kept, 999) == list(range(1_000, sum(sizes)))


def test_a_signature_that_comes_with_another_slot_is_a_repeat_while_it_is_recent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "RECENT", 3)
    first = opened(tmp_path)
    assert first.keep([price(1), price(1, slot=7), price(2), price(3), price(4)]) == [0, 2, 3, 4]
    assert first.keep([price(2, slot=8), price(2)]) == []
    first.close()
    second = opened(tmp_path)
    assert second.keep([price(2, slot=9), price(1)]) == []
    assert second.keep([price(1, slot=9)]) == [0]  # not one of the newest any more
    second.close()


def test_a_full_journal_keeps_nothing_until_there_is_room(tmp_path: Path) -> None:
    small = opened(tmp_path, max_bytes=1_000)
    assert len(small.keep([price(number) for number in range(1, 11)])) == 10  # the last one in may go beyond
    with pytest.raises(JournalFull, match="10 prices wait for Kafka"):
        small.keep([price(11)])
    assert small.is_full
    small.acknowledge(9)
    assert small.keep([price(11)]) == [0]
    small.close()
    again = opened(tmp_path, max_bytes=1_000)
    assert (again.is_full, again.waiting) == (False, 1)
    again.close()


def test_nothing_is_known_of_prices_that_the_disk_did_not_take(kept: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "_add", fail)
        with pytest.raises(Retryable, match="disk I/O error"):
            kept.keep([price(1)])
    assert kept.keep([price(1)]) == [0]
    assert sequences(kept) == [0]


def test_what_the_disk_does_not_give_back_is_no_defect(kept: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "AT_HAND_BYTES", 0)
    kept.keep([price(1)])
    database = kept._database
    kept._database = sqlite3.connect(":memory:")  # it has no such table
    with pytest.raises(Retryable, match=r"webhooks\.sqlite cannot be read: no such table"):
        kept.read(-1, 10)
    kept._database.close()
    kept._database = database
    assert sequences(kept) == [0]


def test_what_has_no_room_in_memory_is_read_from_the_file(kept: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.keep([price(number) for number in (1, 2, 3)])
    monkeypatch.setattr(journal, "AT_HAND_BYTES", 0)
    monkeypatch.setattr(journal, "LOADED", 2)
    for number in range(4, 20, 2):
        kept.keep([price(number), price(number + 1)])
    assert sequences(kept) == list(range(19))
    kept.acknowledge(7)  # the first of two that came together
    assert sequences(kept) == list(range(8, 19))
    kept.keep([price(20)])
    assert (kept.waiting, sequences(kept)) == (12, list(range(8, 20)))
    kept.acknowledge(19)
    kept.settle()
    assert (kept.waiting, kept.size_bytes, kept.read(-1, 10)) == (0, 0, None)


def test_a_commit_that_came_to_pass_after_all_is_known(kept: Journal, tmp_path: Path) -> None:
    class Lost:
        """Commits, and says that it could not."""

        def __init__(self, database: sqlite3.Connection) -> None:
            self._database = database

        def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
            done = self._database.execute(statement, *values)
            if statement == "commit":
                raise sqlite3.OperationalError("disk I/O error")
            return done

        def __getattr__(self, name: str) -> Any:
            return getattr(self._database, name)

    database = kept._database
    kept._database = Lost(database)  # type: ignore[assignment] # such it is
    with pytest.raises(Retryable, match="disk I/O error"):
        kept.keep([price(1)])
    kept._database = database
    assert kept.keep([price(1), price(2)]) == [1]
    assert sequences(kept) == [0, 1]


FIRST_VERSION = """
    create table self (producer text not null, next_sequence integer not null, turned_at_s integer not null);
    create table waiting (sequence integer primary key, key blob not null, value blob not null, at_ms integer not null);
    create table seen (slot_and_signature blob primary key) without rowid;
    create table seen_before (slot_and_signature blob primary key) without rowid;
    insert into self values ('webhooks@1', 5, 1760106600);
    insert into waiting values (3, x'424f4e4b', x'6669727374', 7), (4, x'4a5550', x'7365636f6e64', 8);
    pragma user_version = 1;
"""


def test_what_waits_in_a_journal_of_the_first_version_is_sent_as_it_was(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE) as old:
        old.executescript(FIRST_VERSION)
    old.close()
    for _ in range(2):
        now = opened(tmp_path)
        found = now.read(now.acknowledged, 10)
        assert found is not None
        assert (found.keys, found.values, found.at_ms, found.last) == ([b"BONK", b"JUP"], [b"first", b"second"], 7, 4)
        assert (now.waiting, now.producer, now.size_bytes) == (2, "webhooks@1", 218)
        now.close()


def test_two_receivers_do_not_share_a_journal(kept: Journal, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"SENTIO_SPOOL=.*webhooks\.sqlite: another process is using it"):
        opened(tmp_path)


def test_a_file_that_is_no_journal_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no journal" * 1_000)
    with pytest.raises(SettingError, match=r"SENTIO_SPOOL=.*webhooks\.sqlite: file is not a database"):
        opened(tmp_path)
    (tmp_path / FILE).unlink()
    opened(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE) as other:
        other.execute("pragma user_version = 7")
    other.close()
    with pytest.raises(SettingError, match="version 7, this release knows 2"):
        opened(tmp_path)


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.unit.test_webhook_journal import opened, price
kept = opened(Path(sys.argv[1]))
for number in range(1, 100):
    kept.keep([price(number)])
    print(number, flush=True)
    if number == 20:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_kept_outlives_a_sigkill(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, tmp_path],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout.split()[-1]) == (-9, b"20")
    after = opened(tmp_path)
    assert sequences(after) == list(range(20))
    assert after.keep([price(20), price(21)]) == [1]
    after.close()
