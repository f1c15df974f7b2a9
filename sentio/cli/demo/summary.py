"""The reconciliation as a person and as a program read it."""

from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.table import Table

from sentio.cli.demo.progress import percentile
from sentio.cli.demo.reconcile import Report
from sentio.cli.demo.viewer import Viewer

_DERIVED = ("win_rate", "average_win", "average_loss", "profit_factor")
"""Statistics that the store makes of the others; of these the source says nothing."""


def as_document(report: Report, viewer: Viewer) -> dict[str, Any]:
    """The document of `sentio demo --json`; money as strings, ratios as numbers."""
    day = report.day
    document = {
        "published": report.published,
        "stored": report.stored,
        "delivered": report.delivered,
        "trades": {"count": report.fills, "realized_pnl": _money(report.realized_pnl)},
        "aggregates": {
            "day": {
                "trades": day.get("trades"),
                "wins": day.get("wins"),
                "losses": day.get("losses"),
                "realized_pnl": _money(day.get("realized_pnl")),
                "win_rate": _ratio(day.get("win_rate")),
                "average_win": _money(day.get("average_win")),
                "average_loss": _money(day.get("average_loss")),
                "profit_factor": _ratio(day.get("profit_factor")),
                "max_drawdown": _ratio(day.get("max_drawdown")),
                "final_equity": _money(day.get("equity_close")),
            }
        },
        "statistics": {
            name: {report.says: _exact(said), "store": _exact(stored), "difference": _exact(difference)}
            for name, (said, stored, difference) in compared(report).items()
        },
        "latency_ms": {name: _ms(percentile(viewer.latencies_ms, at)) for name, at in (("p50", 0.5), ("p99", 0.99))},
        "consistent": not report.problems,
    }
    return document | ({"problems": report.problems} if report.problems else {})


def as_table(report: Report, viewer: Viewer, source: str) -> None:
    """Print the reconciliation."""
    console = Console()
    counts = Table("topic", "published", "stored", "delivered", title=f"reconciliation of {source}")
    for column in counts.columns[1:]:
        column.justify = "right"
    for topic, published in report.published.items():
        stored, delivered = report.stored.get(topic), report.delivered.get(topic)
        counts.add_row(topic, f"{published:,}", _count(stored), _count(delivered))
    console.print(counts)
    figures = Table("the day's", f"{report.says} says", "store says", "difference", title="statistics of the account")
    for column in figures.columns[1:]:
        column.justify = "right"
    for name, (said, stored, difference) in compared(report).items():
        figures.add_row(name.replace("_", " "), _text(said), _text(stored), _difference(difference))
    for name in _DERIVED:
        figures.add_row(name.replace("_", " "), "", _text(report.day.get(name)), "")
    console.print(figures)
    p50, p99 = (_ms(percentile(viewer.latencies_ms, share)) for share in (0.5, 0.99))
    if p50 is not None:
        console.print(f"publish() to client: p50 {p50} ms, p99 {p99} ms")
    for problem in report.problems:
        console.print(f"[red]differs[/red] {problem}", soft_wrap=True)
    if not report.problems:
        console.print(f"[green]consistent[/green]: {report.says}, log, tables and client agree")


def compared(report: Report) -> dict[str, tuple[Any, Any, Any]]:
    """What the source says of the day, what the store says, and the difference (None where there is none to tell)."""
    pairs = {name: (said, report.day.get(name)) for name, said in report.expected.items()}
    return {
        name: (said, stored, None if said is None or stored is None else stored - said)
        for name, (said, stored) in pairs.items()
    }


def _money(value: Decimal | None) -> str | None:
    return None if value is None else f"{value:.6f}"


def _exact(value: Decimal | int | None) -> str | int | None:
    return f"{value:f}" if isinstance(value, Decimal) else value


def _ratio(value: Decimal | None) -> float | None:
    return None if value is None else float(value)


def _ms(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _text(value: object) -> str:
    return "-" if value is None else f"{value:,f}" if isinstance(value, Decimal) else f"{value:,}"


def _difference(value: Decimal | int | None) -> str:
    if value is None:
        return "-"
    return "0" if not value else f"[red]{_text(value)}[/red]"
