"""Dead letters as `sentio dead list` and `show` print them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gateway.wire import milliseconds_text
from schemas.dissection import dissect
from sentio.cli.buried import DeadLetter, Filter, find, folded, redriven, text_of
from sentio.cli.editing import fields, shown
from sentio.config import RedriveSettings

_LINE_BYTES = 16
_MOST_BYTES = 512
"""Of a value that is shown in hex."""


@dataclass(slots=True)
class Heap:
    """Letters of one topic that one group refused for one reason."""

    topic: str
    group: str
    type: str
    reason: str
    count: int
    redriven: int
    first_ms: int
    last_ms: int
    last_place: str

    def document(self) -> dict[str, Any]:
        return asdict(self)


def heaps(settings: RedriveSettings, wanted: Filter) -> list[Heap]:
    """All letters that the filter takes, by topic, group, error type and folded reason; the largest first."""
    known = redriven(settings)
    found: dict[tuple[str, str, str, str], Heap] = {}
    for letter in find(settings, wanted):
        key = letter.topic, letter.group, letter.kind, folded(letter.reason)
        heap = found.setdefault(key, Heap(*key, 0, 0, letter.at_ms, letter.at_ms, ""))
        heap.count += 1
        heap.redriven += known.has(letter)
        heap.first_ms = min(heap.first_ms, letter.at_ms)
        heap.last_ms = max(heap.last_ms, letter.at_ms)
        heap.last_place = text_of(letter.place, settings.topic_prefix)
    return sorted(found.values(), key=lambda heap: -heap.count)


def print_heaps(found: Sequence[Heap]) -> None:
    """Three lines for each: a table would cut reason and place, which are what is wanted."""
    for heap in found:
        first, last = (milliseconds_text(at_ms)[:19].replace("T", " ") for at_ms in (heap.first_ms, heap.last_ms))
        words = heap.topic, heap.group, heap.type, heap.reason, heap.last_place
        topic, group, kind, reason, place = map(_plain, words)
        print(f"{heap.count:,} of {topic}, refused by {group} ({kind}), {heap.redriven:,} of them redriven")
        print(f"    {reason}")
        print(f"    {first} to {last} UTC; the last one: {place}")
    if not found:
        print("no dead letters")


def document(letter: DeadLetter) -> dict[str, Any]:
    """One letter as JSON holds it."""
    found = dissect(letter.value)
    return {
        "topic": letter.place[0],
        "partition": letter.place[1],
        "offset": letter.place[2],
        "at": milliseconds_text(letter.at_ms),
        "group": letter.group,
        "source": letter.source,
        "origin": letter.origin,
        "type": letter.kind,
        "reason": letter.reason,
        "redriven": letter.count,
        "headers": [(name, _text(value)) for name, value in letter.headers],
        "key": None if letter.key is None else _text(letter.key),
        "event": found.version and found.version.event,
        "fields": fields(found),
        "unreadable": found.reason,
        "value": None if letter.value is None else letter.value.hex(),
    }


def print_letter(letter: DeadLetter) -> None:
    """Headers; then fields beside their bytes, and the bytes that could not be read."""
    console, value, found = Console(), letter.value or b"", dissect(letter.value)
    headers = Table("header", "", box=None, title=_line(":".join(map(str, letter.place))), title_justify="left")
    for name, content in [("at", milliseconds_text(letter.at_ms)), ("key", letter.key), *letter.headers]:
        headers.add_row(_line(name), _line(_text(content)))
    console.print(headers)
    event = Table("bytes", found.version.event if found.version else "value", "", box=None)
    for piece in found.pieces:
        event.add_row(_hex(value[piece.first : piece.end]), piece.name, _line(str(shown(piece.value))))
    read_to = found.pieces[-1].end if found.pieces else 0
    if found.reason is not None:
        event.add_row(_hex(value[read_to:]), "", _line(found.reason), style="red")
        if found.version is None and value:  # of a bridge, or a webhook, it is JSON
            event.add_row("", "as text", _line(value[:_MOST_BYTES].decode(errors="replace")))
    console.print(event)


def _hex(content: bytes) -> str:
    shown_bytes = content[:_MOST_BYTES]
    lines = [shown_bytes[at : at + _LINE_BYTES].hex(" ") for at in range(0, len(shown_bytes), _LINE_BYTES)]
    more = len(content) - len(shown_bytes)
    return "\n".join([*lines, f"and {more:,} bytes"] if more else lines)


def _text(value: object) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


def _line(text: str) -> str:
    """The same for a table of rich's, to which brackets are markup."""
    return escape(_plain(text))


def _plain(text: str) -> str:
    """Whatever it holds, one line that changes nothing on a terminal."""
    return text.encode("unicode_escape").decode("ascii")
