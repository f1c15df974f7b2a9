"""Whether the source, the log, the tables and the client agree; every disagreement is a line that says where."""

import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg

from schemas.topics import Topic, topics
from sentio.cli.demo.evidence import Event, at_client, in_table, on_log
from sentio.cli.demo.source_check import Figures

PLAYED = [topic for topic in topics().values() if topic.name != "aggregates.updated"]
AGGREGATES = topics()["aggregates.updated"]

_DAY = """
    select trades, wins, losses, fills, realized_pnl, gross_profit, gross_loss, volume, notional, fees,
        win_rate, average_win, average_loss, profit_factor, equity_close, max_drawdown
    from statistics where account = %s and strategy = '*' and symbol = '*' and kind = 'DAY'
"""


@dataclass(slots=True)
class Report:
    """The reconciliation of one play. ``problems`` is empty when all agree."""

    says: str
    """Who says what is expected: the source that was played, or the engine."""
    expected: dict[str, Any]
    """What it says of the day, by names of the statistics."""
    published: dict[str, int] = field(default_factory=dict)
    stored: dict[str, int] = field(default_factory=dict)
    delivered: dict[str, int] = field(default_factory=dict)
    fills: int = 0
    realized_pnl: Decimal = Decimal(0)
    day: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def expect(self, what: str, of: Mapping[str, Any]) -> None:
        """Note a problem unless all values agree."""
        if len(set(of.values())) > 1:
            self.problems.append(f"{what}: " + ", ".join(f"{who} {value}" for who, value in of.items()))


def reconcile(
    expected: Figures,
    *,
    says: str,
    results: Path | None,
    bootstrap: str,
    database: str,
    full_name: Callable[[Topic], str],
    received: Mapping[str, Mapping[str, Event]],
) -> Report:
    """Compare everything with everything: events one by one in every field, sums, and the day's statistics.

    ``results`` is a file in which an engine wrote statistics of that day.
    """
    report = Report(says, _statistics(expected))
    logs: dict[str, dict[str, Event]] = {}
    for topic in PLAYED:
        log, _ = on_log(bootstrap, full_name(topic), topic.event)
        logs[topic.event] = log
        if not log:
            continue
        report.published[topic.name] = len(log)
        if topic.table:
            table = in_table(database, topic.table, topic.event)
            report.stored[topic.name] = len(table)
            _compare(report, topic.name, "table", log, table)
        if topic.channel:
            client = at_client(received[topic.channel], topic.event)
            report.delivered[topic.name] = len(client)
            _compare(report, topic.name, "client", log, client)
    fills = list(logs["TradeExecuted"].values())
    report.fills = len(fills)
    report.realized_pnl = sum((fill["realized_pnl"] or Decimal(0) for fill in fills), Decimal(0))
    _compare_with_source(report, expected, logs)
    _compare_day(report, expected, database, received[AGGREGATES.channel or ""])
    _compare_windows(report, database, received[AGGREGATES.channel or ""])
    if results is not None:
        _compare_with_results(report, results)
    dead = [topic.name for topic in topics().values() if _count(bootstrap, full_name(topic) + ".dead")]
    if dead:
        report.problems.append(f"dead letters of {', '.join(dead)}")
    if not report.fills:
        report.problems.append("nothing was traded")
    return report


def _compare(report: Report, topic: str, who: str, log: dict[str, Event], other: dict[str, Event]) -> None:
    missing, extra = log.keys() - other.keys(), other.keys() - log.keys()
    if missing or extra:
        report.problems.append(f"{topic}: {who} lacks {len(missing)} events of the log, has {len(extra)} others")
    for key in sorted(log.keys() & other.keys()):
        differs = [name for name, value in log[key].items() if other[key][name] != value]
        if differs:
            name = differs[0]
            report.problems.append(
                f"{topic}: event {key}: {name} is {log[key][name]} in the log, {other[key][name]} at the {who}"
            )
            return


def _compare_with_source(report: Report, expected: Figures, logs: Mapping[str, Mapping[str, Event]]) -> None:
    report.expect("signals", {report.says: expected.signals, "log": len(logs["SignalGenerated"])})
    report.expect("bars", {report.says: expected.prices, "log": len(logs["PriceBar"])})
    report.expect("fills", {report.says: expected.fills, "log": report.fills})
    report.expect("realized P&L", {report.says: expected.realized_pnl, "log": report.realized_pnl})
    if expected.positions is not None:
        report.expect("positions", {report.says: expected.positions, "log": len(logs["PositionUpdated"])})
    if expected.performance_minutes is not None:
        report.expect("minutes", {report.says: expected.performance_minutes, "log": len(logs["PerformanceMinute"])})


def _compare_day(report: Report, expected: Figures, database: str, received: Mapping[str, Event]) -> None:
    with psycopg.connect(database) as connection:
        cursor = connection.execute(_DAY, [expected.account])
        names = [column.name for column in cursor.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in cursor]
    if len(rows) != 1:
        report.problems.append(f"aggregates: {len(rows)} trading days of account {expected.account} instead of one")
        return
    day = report.day = rows[0]
    shown = _newest(received).get((expected.account, "*", "*", "DAY"), {})
    for name, value in report.expected.items():
        client = _number(shown.get(name))
        report.expect(f"day's {name}", {report.says: value, "table": day[name], "client": client})


def _statistics(expected: Figures) -> dict[str, Any]:
    """What is expected of the day, by the names of the statistics."""
    found: dict[str, Any] = {
        "fills": expected.fills,
        "trades": expected.round_trips,
        "wins": expected.wins,
        "losses": expected.losses,
        "volume": expected.volume,
        "notional": expected.notional,
        "fees": expected.fees,
        "realized_pnl": expected.realized_pnl,
        "gross_profit": expected.gross_profit,
        "gross_loss": expected.gross_loss,
    }
    if expected.final_equity is not None:
        found |= {"equity_close": expected.final_equity, "max_drawdown": expected.max_drawdown}
    return found


def _compare_with_results(report: Report, source: Path) -> None:
    """The statistics that the engine itself wrote at the end of its day, at its four decimals."""
    text = gzip.decompress(source.read_bytes()) if source.suffix == ".gz" else source.read_bytes()
    engine = json.loads(text, parse_float=Decimal)["performance"]
    names = {
        "total_trades": "trades",
        "winning_trades": "wins",
        "losing_trades": "losses",
        "win_rate": "win_rate",
        "avg_win": "average_win",
        "avg_loss": "average_loss",
        "profit_factor": "profit_factor",
        "final_equity": "equity_close",
    }
    for theirs, ours in names.items():
        value = report.day.get(ours)
        rounded = round(value, 4) if isinstance(value, Decimal) else value
        report.expect(f"day's {ours}", {"engine": engine[theirs], "table": rounded})


def _newest(received: Mapping[str, Event]) -> dict[tuple[str, str, str, str], Event]:
    """Newest revision of each day that the client saw; a play is one trading day."""
    newest: dict[tuple[str, str, str, str], Event] = {}
    for event in received.values():
        if event["kind"] == "DAY":
            key = (event["account"], event["strategy"], event["symbol"], event["kind"])
            newest[key] = max(newest.get(key, event), event, key=lambda each: int(each["revision"]))
    return newest


def _compare_windows(report: Report, database: str, received: Mapping[str, Event]) -> None:
    """Every window's revision in the table is the newest that the client has."""
    seen: dict[tuple[str, ...], int] = {}
    for event in at_client(received, AGGREGATES.event).values():
        key = (event["account"], event["strategy"], event["symbol"], event["kind"], event["start_at"])
        seen[key] = max(seen.get(key, 0), event["revision"])
    with psycopg.connect(database) as connection:
        rows = connection.execute(
            "select account, strategy, symbol, kind, start_at, revision from statistics"
        ).fetchall()
    behind = [row for row in rows if seen.get(tuple(row[:5])) != row[5]]
    if behind or len(seen) != len(rows):
        report.problems.append(f"aggregates: the client lacks the newest state of {len(behind)} of {len(rows)} windows")


def _number(value: Any) -> Any:
    return Decimal(value) if isinstance(value, str) else value


def _count(bootstrap: str, topic: str) -> int:
    from sentio import kafka

    states = kafka.describe(bootstrap, [topic])
    places = [(topic, partition) for name in states for partition in range(states[name].partitions)]
    return sum(end - first for first, end in kafka.spans(bootstrap, places).values())
