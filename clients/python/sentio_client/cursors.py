"""Where cursors are kept, so that a program that starts again goes on where it was."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


class Cursors(Protocol):
    """A place for cursors. `Stream` calls `save` in a thread, about once a second while anything moves."""

    def load(self) -> Mapping[str, str]:
        """Cursors by channel; empty at the first start."""

    def save(self, cursors: Mapping[str, str]) -> None:
        """Keep these instead of the former ones."""


class FileCursors:
    """Cursors in a JSON file, replaced as a whole: after a crash it holds the former ones or the new ones."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)

    def load(self) -> Mapping[str, str]:
        """Raises ValueError for a file that is not one of cursors: to begin anew by itself would hide a loss."""
        try:
            text = self._path.read_text()
        except FileNotFoundError:
            return {}
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, dict) or not all(isinstance(cursor, str) for cursor in found.values()):
            raise ValueError(f"{self._path} holds no cursors; remove it to begin with a snapshot")
        return found

    def save(self, cursors: Mapping[str, str]) -> None:
        beside = self._path.with_name(f".{self._path.name}.new")
        with beside.open("w") as file:
            json.dump(dict(cursors), file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)
