"""The contract of the topics: generated code, lock, compatibility, amounts."""

import copy
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import amounts, generate
from schemas.columns import arrow_schema
from schemas.compatibility import problems
from schemas.events import EngineHeartbeat
from schemas.registry import FIRST_ID, Version, avro_files, current, extend_lock, locked, read_lock, write_lock
from schemas.topics import topic_of_event, topics
from tests.samples import OPENING, trade

SCHEMAS = Path(generate.__file__).parent


def test_typed_events_are_as_generated_from_the_avro_files() -> None:
    assert (SCHEMAS / "events.py").read_text() == generate.source()


def test_every_field_says_what_it_is() -> None:
    silent = [f"{e}.{f['name']}" for e, schema in avro_files().items() for f in schema["fields"] if not f.get("doc")]
    assert silent == []


def test_the_lock_holds_every_schema_as_it_is() -> None:
    assert [current(event).schema for event in avro_files()] == list(avro_files().values())
    assert min(locked()) == FIRST_ID


def test_every_event_has_a_topic_and_every_topic_an_event() -> None:
    assert sorted(topic.event for topic in topics().values()) == sorted(avro_files())
    for topic in topics().values():
        names = arrow_schema(topic.event).names
        assert {*topic.key, topic.time, *([topic.filter] if topic.filter else [])} <= set(names)


def test_an_event_that_no_topic_carries_is_named() -> None:
    with pytest.raises(KeyError, match="no topic carries Nonsense"):
        topic_of_event("Nonsense")


def test_the_key_keeps_all_fills_of_a_symbol_together() -> None:
    assert topic_of_event("TradeExecuted").record_key(trade(0), "engine@1") == b"TQQQ"


def test_the_heartbeats_of_a_producer_are_keyed_by_it() -> None:
    beat = EngineHeartbeat(engine="e", version="1", mode="paper", state="running", beat_at=OPENING)
    assert topic_of_event("EngineHeartbeat").record_key(beat, "engine@1") == b"engine@1"


def test_a_changed_schema_gets_the_next_id_and_the_old_ones_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = list(locked().values())
    changed = copy.deepcopy(dict(avro_files()))
    changed["PriceUpdated"]["fields"].append({"name": "venue", "type": "string", "default": "", "doc": "Where."})
    monkeypatch.setattr("schemas.registry.avro_files", lambda: changed)
    write_lock(extend_lock(before), tmp_path / "lock.json")
    after = read_lock((tmp_path / "lock.json").read_text())
    assert after[:-1] == before
    assert after[-1] == Version(max(locked()) + 1, "PriceUpdated", changed["PriceUpdated"])


def changed_trade(change: Any) -> list[str]:
    old = current("TradeExecuted")
    new = copy.deepcopy(old.schema)
    change(new)
    return problems(new, [old])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: s["fields"].append({"name": "venue", "type": "string"}), "venue is new and has no default"),
        (lambda s: s["fields"].pop(4), "strategy is gone and had no default"),
        (lambda s: s["fields"][2].update(type="double"), "sequence changed from long to double"),
        (lambda s: s["fields"][6]["type"]["symbols"].append("ROLL"), "action changed"),
        (lambda s: s["fields"][8]["type"].update(scale=4), "quantity changed"),
        (lambda s: s["fields"][3].update(aliases=["acct"]), "aliases"),
        (lambda s: s.update(name="Fill"), "the name changed"),
    ],
)
def test_what_an_old_or_a_new_reader_could_not_read_is_refused(change: Any, reason: str) -> None:
    assert reason in "; ".join(changed_trade(change))


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s["fields"].append({"name": "venue", "type": "string", "default": ""}),
        lambda s: s["fields"].reverse(),
        lambda s: s["fields"][0].update(doc="said better"),
        lambda s: s["fields"].pop(next(i for i, f in enumerate(s["fields"]) if f["name"] == "order_id")),
    ],
)
def test_what_all_can_read_is_accepted(change: Any) -> None:
    assert changed_trade(change) == []


def test_compatibility_is_with_every_version_not_only_the_newest() -> None:
    first = current("PriceUpdated")
    second = copy.deepcopy(first.schema)
    second["fields"].append({"name": "venue", "type": "string", "default": ""})
    third = copy.deepcopy(second)
    third["fields"][-1] = {"name": "venue", "type": "long", "default": 0}
    lines = problems(third, [first, Version(first.id + 1, "PriceUpdated", second)])
    assert [line for line in lines if f"id {first.id + 1}" in line] == lines != []


@given(st.decimals(min_value=-(10**9), max_value=10**9, places=12), st.decimals(0, 10**6, places=12))
def test_amounts_round_once_and_half_even(left: Decimal, right: Decimal) -> None:
    exact = amounts.product(left, right)
    assert exact == Decimal(int(left.scaleb(12)) * int(right.scaleb(12))).scaleb(-24, amounts.EXACT)
    assert abs(amounts.money(exact) - exact) <= Decimal("0.0000005")
    assert amounts.money("0.0000005") == 0
    assert amounts.money("0.0000015") == Decimal("0.000002")


def test_binary_floating_point_is_no_amount() -> None:
    with pytest.raises(TypeError, match="parse amounts as decimals"):
        amounts.price(0.1)  # type: ignore[arg-type] # the mistake that is to be caught


def test_the_lock_is_one_line_a_version() -> None:
    lines = (SCHEMAS / "registry.lock.json").read_text().splitlines()
    assert len([line for line in lines if line.startswith("  {")]) == len(json.loads("\n".join(lines))["schemas"])
