"""A document in the archive that has one writer at a time, on any store: decision 0029.

Each writer has objects of its own, named by generation, owner and number; the highest name counts. A writer that wants
to do what others must not undo says so in its own object first, and then looks whether it still has the highest. One
that takes over makes its object first, and reads the one before it then. So either the old writer sees the new one, or
the new one reads what the old one is about to do. No store needs a conditional write for that.
"""

import json
from typing import Any

from consumers.archive.stores import Store
from sentio.errors import Fatal, Retryable

State = dict[str, Any]
TRIES = 20


class Superseded(Exception):
    """Another writer took over: nothing of this one's counts any more."""


class Chain:
    """The document in a folder. ``owner`` is a word that no other process has."""

    def __init__(self, store: Store, folder: str, owner: str = "") -> None:
        self._store = store
        self._folder = folder
        self._owner = owner
        self._mine = ""
        """What the names of this writer's objects begin with."""
        self._number = 0
        self._last: str | None = None

    def newest(self) -> State | None:
        """The document as it is now, for readers; None where there is none."""
        for _ in range(TRIES):
            try:
                return self._read(self._names())
            except FileNotFoundError:  # written anew meanwhile
                continue
        raise Retryable(f"archive: {self._folder} has another document each time it is read")

    def claim(self) -> State | None:
        """Become its writer; the document as the writer before has left it."""
        for _ in range(TRIES):
            names = self._names()
            generation = int(names[0].rpartition("/")[2].partition("-")[0]) + 1 if names else 1
            self._mine, self._last = f"{self._folder}/{generation:010}-{self._owner}-", None
            self.put(None)
            try:
                older = [name for name in self._names() if name != self._last]
                state = self._read(older)
                self.put(state)
                self.check()
            except (FileNotFoundError, Superseded):
                continue
            for name in older:
                self._store.delete(name)
            return state
        raise Retryable(f"archive: {self._folder} is claimed by others all the time")

    def put(self, state: State | None) -> None:
        """Write the document, as this writer's. It counts if no other took over.

        As a new object: who reads a bucket asks for the size first, and would get half of one that is replaced then.
        """
        self._number += 1
        name = f"{self._mine}{self._number:010}.json"
        self._store.put(name, json.dumps({"state": state}).encode())
        before, self._last = self._last, name
        if before is not None:
            self._store.delete(before)

    def check(self) -> None:
        """Raise `Superseded` when another writer took over."""
        if not any(name.startswith(self._mine) for name in self._names()[:1]):
            raise Superseded(self._folder)

    def _names(self) -> list[str]:
        return sorted((name for name in self._store.list(self._folder) if name.endswith(".json")), reverse=True)

    def _read(self, names: list[str]) -> State | None:
        """Of the highest that has a document: one without it is still being claimed."""
        for name in names:
            try:
                state: State | None = json.loads(self._store.get(name))["state"]
            except (ValueError, KeyError, TypeError) as failure:
                raise Fatal(f"archive: {name} is no manifest: {failure}") from failure
            if state is not None:
                return state
        return None
