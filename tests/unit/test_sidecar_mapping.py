"""The TOML of a bridge: what it says is what comes, and what is wrong in it is named before anything begins."""

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from producers.fields import EPOCH
from producers.sidecar.documents import Unusable, parse
from producers.sidecar.mapping import load
from sentio.errors import SettingError

POSITIONS = """
[[map]]
topic = "engine.positions"
event = "PositionUpdated"
each = "book.positions"
[map.fields]
account = "^account"
symbol = "symbol"
quantity = "size.shares"
average_entry = { from = "entry" }
mark = "mark"
unrealized_pnl = { value = "0" }
realized_pnl = { from = "pnl" }
updated_at = { from = "^ts", unit = "s" }
"""


MESSAGE = (
    '{"account": "paper-1", %s, "book": {"positions": [{"symbol": "TQQQ", "size": {"shares": 5}, "entry": 10.1,'
    ' "mark": "10.2", "pnl": -1}]}}'
)


def write(folder: Path, text: str) -> Path:
    path = folder / "map.toml"
    path.write_text(text)
    return path


def test_a_message_gives_an_event_for_each_entry_of_its_list(tmp_path: Path) -> None:
    [found] = load(write(tmp_path, POSITIONS))
    message = (
        '{"account": "paper-1", "ts": 1760103000.25, "book": {"positions": [{"symbol": "TQQQ", "size": {"shares": 5},'
        ' "entry": 10.1, "mark": "10.2", "pnl": -1}, {"symbol": "SQQQ", "size": {"shares": 0}, "entry": 0, "mark": 20,'
        ' "pnl": 3}]}}'
    )
    events = [read.event for read in found.events(parse(message))]
    assert [(event.symbol, event.quantity, event.account) for event in events] == [  # type: ignore[attr-defined] # of the kind that was asked for
        ("TQQQ", 5, "paper-1"),
        ("SQQQ", 0, "paper-1"),
    ]
    assert events[0].average_entry == Decimal("10.1")  # type: ignore[attr-defined] # of the kind that was asked for
    assert events[0].updated_at.timestamp() == 1760103000.25  # type: ignore[attr-defined] # of the kind that was asked for


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ('{"book": {"positions": {}}}', "book.positions is no list"),
        ("[]", "book.positions is no list"),
        ('{"book": {"positions": [{}]}}', "lacks account"),
        ('{"ts": "now", "book": {"positions": [{}]}}', "ts is 'now', not a number"),
        ('{"ts": true, "book": {"positions": [{}]}}', "ts is True, not a number"),
        ('{"ts": "%s", "book": {"positions": [{}]}}' % ("x" * 900_000), "ts is 'xxx.*, not a number"),
        ('{"ts": [%s0], "book": {"positions": [{}]}}' % ("0," * 200_000), "ts is .0, 0,.*, not a number"),
        ('{"ts": {}, "book": {"positions": [{}]}}', "ts is {}, not a number"),
        ('{"ts": NaN, "book": {"positions": [{}]}}', "ts is NaN, beyond its limits"),
        ('{"ts": -Infinity, "book": {"positions": [{}]}}', "ts is -Infinity, beyond its limits"),
        ('{"ts": 1e400000, "book": {"positions": [{}]}}', "ts is .*, beyond its limits"),
        ('{"ts": -1e1000000000, "book": {"positions": [{}]}}', "ts is .*, beyond its limits"),
        ('{"ts": 1%s, "book": {"positions": [{}]}}' % ("0" * 4_000), "ts is .*, beyond its limits"),
        ('{"ts": -0.000001, "book": {"positions": [{}]}}', "updated_at_us is -1, beyond its limits"),
        ('{"ts": 1e11, "book": {"positions": [{}]}}', "updated_at_us is 100000000000000000, beyond its limits"),
    ],
)
def test_a_message_that_does_not_fit_is_unusable(tmp_path: Path, message: str, reason: str) -> None:
    [found] = load(write(tmp_path, POSITIONS))
    with pytest.raises(Unusable, match=reason.replace("[", r"\[")):
        found.events(parse(message))


def test_fractions_of_the_file_are_decimals(tmp_path: Path) -> None:
    [found] = load(write(tmp_path, POSITIONS.replace('mark = "mark"', "mark = { value = 10.1 }")))
    entry = '{"symbol": "A", "size": {"shares": 1}, "entry": 1, "pnl": 0}'
    [read] = found.events(parse('{"account": "a", "ts": 1, "book": {"positions": [' + entry + "]}}"))
    assert read.event.mark == Decimal("10.1")  # type: ignore[attr-defined] # of the kind that was asked for


def test_words_stand_for_words(tmp_path: Path) -> None:
    text = POSITIONS.replace('symbol = "symbol"', 'symbol = { from = "symbol", words = { 1 = "TQQQ" } }')
    [found] = load(write(tmp_path, text))
    with pytest.raises(Unusable, match="symbol is 2, not one of 1"):
        found.events(parse('{"account": "a", "ts": 1, "book": {"positions": [{"symbol": 2}]}}'))


@pytest.mark.parametrize(
    ("said", "symbol"),
    [("true", "TQQQ"), ("false", "SQQQ"), ("null", "NONE"), ("3", "THREE"), ("1.50", "HALF"), ('"true"', "TQQQ")],
)
def test_words_are_spelled_as_in_json(tmp_path: Path, said: str, symbol: str) -> None:
    words = 'true = "TQQQ", false = "SQQQ", null = "NONE", 3 = "THREE", "1.50" = "HALF"'
    text = POSITIONS.replace('symbol = "symbol"', f'symbol = {{ from = "^way", words = {{ {words} }} }}')
    [found] = load(write(tmp_path, text))
    [read] = found.events(parse(MESSAGE % f'"way": {said}, "ts": 1'))
    assert read.event.symbol == symbol  # type: ignore[attr-defined] # of the kind that was asked for


@pytest.mark.parametrize("said", ["True", "[]", "{}"])
def test_other_spellings_are_no_words(tmp_path: Path, said: str) -> None:
    text = POSITIONS.replace(
        'symbol = "symbol"', 'symbol = { from = "^way", words = { True = "A", "[]" = "B", "{}" = "C" } }'
    )
    [found] = load(write(tmp_path, text))
    with pytest.raises(Unusable, match=r"way is .*, not one of True"):
        found.events(parse(f'{{"way": {said.lower()}, "ts": 1, "book": {{"positions": [{{}}]}}}}'))


@pytest.mark.parametrize(
    ("unit", "said", "microseconds"),
    [
        ("s", "1760106600.1234567", 1760106600_123457),  # as Python's time.time() is written
        ("s", "1760106600.0000005", 1760106600_000000),
        ("s", "1760106600.0000015", 1760106600_000002),
        ("s", "0.00000050000000000000000000000000000000000000000001", 1),
        ("ms", "1760106600123.4565", 1760106600_123456),
        ("ms", "1.7601066001234575e12", 1760106600_123458),
        ("us", "1760106600123456.5", 1760106600_123456),
        ("us", "1760106600123457", 1760106600_123457),
    ],
)
def test_times_are_rounded_to_the_microsecond(tmp_path: Path, unit: str, said: str, microseconds: int) -> None:
    [found] = load(write(tmp_path, POSITIONS.replace('unit = "s"', f'unit = "{unit}"')))
    [read] = found.events(parse(MESSAGE % f'"ts": {said}'))
    assert read.event.updated_at == EPOCH + timedelta(microseconds=microseconds)  # type: ignore[attr-defined] # of the kind that was asked for


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("[[map]]", "[[map", "is not TOML"),
        ("[[map]]", "[[maps]]", r"it has \[\[map\]\] entries, and nothing else"),
        ('topic = "engine.positions"', "", "a map has no topic"),
        ('"PositionUpdated"', '"PositionsUpdated"', "event is 'PositionsUpdated', not one of TradeExecuted"),
        ("each =", "every =", "a map has topic, event, each and fields, not every"),
        ('mark = "mark"', 'marc = "mark"', "PositionUpdated has no marc"),
        ('mark = "mark"', "", "PositionUpdated needs mark"),
        ('mark = "mark"', "mark = 3", "mark is a path, or a table with from or value"),
        ('mark = "mark"', 'mark = { from = "a", value = 1 }', "mark is a path, or a table with from or value"),
        ('mark = "mark"', 'mark = { from = "a", words = ["b"] }', "the words of mark are no table"),
        ('unit = "s"', 'unit = "h"', "the unit of updated_at is 'h', not one of s, ms, us"),
        ('unit = "s"', "unit = []", "the unit of updated_at is .., not one of s, ms, us"),
        (
            'mark = "mark"',
            'mark = { from = "mark", unit = "ms" }',
            "mark of PositionUpdated is no time, and has no unit",
        ),
        ('"book.positions"', "5", "each is 5, not a path"),
        ('"book.positions"', "false", "each is False, not a path"),
        ('"book.positions"', '["book"]', r"each is \['book'\], not a path"),
        ('mark = "mark"', "mark = { from = 3 }", "mark is from 3, not from a path"),
    ],
)
def test_what_is_wrong_in_it_is_named(tmp_path: Path, old: str, new: str, reason: str) -> None:
    assert old in POSITIONS
    with pytest.raises(SettingError, match=rf"^bridge .*map\.toml.*{reason}"):
        load(write(tmp_path, POSITIONS.replace(old, new, 1)))


def test_maps_are_tables(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="a map is 1, not a table"):
        load(write(tmp_path, "map = [1]"))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"none\.toml: No such file"):
        load(tmp_path / "none.toml")
