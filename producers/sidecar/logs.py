"""Which files the log of a kind has, in the order in which they were written. What is in them is not known here."""

import re
import time
from contextlib import suppress
from datetime import date
from pathlib import Path

from producers.sidecar.files import changed_ns

ROTATED = re.compile(r"[.-]\d[-\d.:_TZ]*")
"""What a file that was moved away has behind its name: a number or a time. Anything else is no part of the log."""


def files_of(folder: Path, kind: str) -> list[Path]:
    """Of the folders in it that are named by day where there are any, else of the folder itself. Raises OSError."""
    name = f"{kind}.jsonl"
    by_day = [path / name for path in sorted(folder.iterdir()) if day_of(path) is not None]
    rotated = [path for path in folder.glob(f"{name}?*") if ROTATED.fullmatch(path.name, len(name))]
    files = by_day or [*sorted(rotated, key=changed_ns), folder / name]
    return [path for path in files if path.is_file()]


def is_written(folder: Path, kind: str, within_s: float) -> bool:
    """Whether the newest was written just now. One that is empty may have been made by what rotates them."""
    with suppress(OSError):
        for path in files_of(folder, kind)[-1:]:
            status = path.stat()
            return status.st_size > 0 and abs(time.time() - status.st_mtime) < within_s
    return False


def day_of(folder: Path) -> date | None:
    """The day that a folder is named by."""
    try:
        return date.fromisoformat(folder.name)
    except ValueError:
        return None
