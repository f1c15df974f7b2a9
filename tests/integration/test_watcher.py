"""The watcher on a whole platform: what differs is said, soon and once, and what is only on its way is not."""

from collections.abc import Iterator
from typing import Any

import pytest

from sentio.testing.servers import Kafka, fresh_database, fresh_prefix
from tests.pipeline import until
from tests.watched import Watched, day, watched


@pytest.fixture(scope="module")
def platform(kafka_server: str, database_server: str) -> Iterator[Watched]:
    kafka = Kafka(kafka_server, fresh_prefix())
    with fresh_database(database_server) as database, watched(kafka, database, watch_every_s=0.2) as made:
        made.publish(day())
        until(made.agreed)
        yield made


def differences(platform: Watched) -> set[tuple[str, str]]:
    return {(one["figure"], one["side"]) for one in platform.document()["differences"]}


@pytest.mark.parametrize(
    ("meddle", "mend", "found"),
    [
        (
            "update trades set price = price + 1 where event_id = (select max(event_id::text)::uuid from trades)",
            "update trades set price = price - 1 where event_id = (select max(event_id::text)::uuid from trades)",
            {("notional", "store")},
        ),
        (
            "update performance set equity = equity - 5000 where minute_at = (select max(minute_at) from performance)",
            "update performance set equity = equity + 5000 where minute_at = (select max(minute_at) from performance)",
            {("equity", "store"), ("drawdown", "store")},
        ),
        (
            "update windows set fills = fills + 1 where kind = 'DAY' and strategy = '*' and symbol = '*'",
            "update windows set fills = fills - 1 where kind = 'DAY' and strategy = '*' and symbol = '*'",
            {("fills", "aggregates")},
        ),
        (
            "update positions set mark = mark * 2, quantity = 7",
            "delete from positions",
            {("exposure", "store")},
        ),
    ],
    ids=["trades", "performance", "windows", "positions"],
)
def test_a_changed_row_is_a_difference_of_the_figures_made_of_it(
    platform: Watched, meddle: str, mend: str, found: set[Any]
) -> None:
    platform.execute(meddle)
    until(lambda: found <= differences(platform))
    assert differences(platform) == found
    platform.execute(mend)
    if mend.startswith("update"):
        until(platform.agreed)
