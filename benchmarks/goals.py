"""What a benchmark wants to reach, checked against its result's rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

OURS = "sentio"


@dataclass(frozen=True)
class Goal:
    """Ours at most ``at_most`` µs, or at most ``times`` the row whose name begins with ``than`` (0.1 is 10x below)."""

    text: str
    at_most_us: float | None = None
    times: float | None = None
    than: str = ""
    part: str | None = None
    """A part of ours instead of the total."""

    who: str = OURS
    unit: str = "µs"
    """Of ``at_most_us`` where the part has another."""

    def check(self, rows: Sequence[Mapping[str, Any]]) -> tuple[str, bool | None]:
        """(the figure as text, whether it is reached); None when a row that it needs has no figure."""
        ours = _figure(rows, self.who, self.part)
        if ours is None:
            return "not measured", None
        if self.at_most_us is not None:
            return f"{ours:.2f} {self.unit}", ours <= self.at_most_us
        other = _figure(rows, self.than, None)
        if not other or self.times is None:
            return f"{ours:.2f} µs, and no figure of {self.than}", None
        said = f"{ours / other:.2f}x" if self.times >= 1 else f"{other / ours:.1f}x below"
        return f"{said} ({ours:.2f} to {other:.2f} µs)", ours <= self.times * other


def _figure(rows: Sequence[Mapping[str, Any]], who: str, part: str | None) -> float | None:
    exact = [row for row in rows if row["who"] == who] or [row for row in rows if row["who"].startswith(who)]
    for row in exact:
        if "why" not in row:
            found: float | None = row["parts"].get(part) if part else row["cpu_us_per_event"]
            return found
    return None
