"""The same bytes to many sockets, without their transports: in native code where it is built, else in Python.

Who owns a descriptor says so (`open`) and gets a handle, a number that holds the descriptor and its generation: a
handle that was closed reaches nobody, although the system gives the descriptor's number to the next connection.
"""

import os
from collections.abc import Sequence
from typing import Protocol

GONE = -1
"""Instead of a number of bytes: the handle is closed, or the socket broken."""

THROUGH_TRANSPORT = 0
"""A handle that nothing is ever written to."""

_NUMBER = 0xFFFF_FFFF


class Descriptors(Protocol):
    """What both twins do. Belongs to one thread; only the writing itself lets others run."""

    def open(self, descriptor: int) -> int:
        """The handle of a connected, non-blocking socket."""

    def close(self, handle: int) -> None:
        """Nothing is written to it any more; call it before the descriptor is closed. No harm the second time."""

    def hold(self, handle: int) -> None:
        """Write nothing until `release`: its transport has bytes that come first."""

    def release(self, handle: int) -> None:
        """Those bytes are gone."""

    def send(self, handles: Sequence[int], payload: bytes) -> list[tuple[int, int]]:
        """Write ``payload`` to each; (index, bytes written or `GONE`) of those that did not take all of it.

        Such a one is on hold from then on: the rest is the caller's to write. ``handles`` is an ``array("Q")``.
        """


class PythonDescriptors:
    """`Descriptors` without native code."""

    def __init__(self) -> None:
        self._generations: dict[int, int] = {}
        self._open: dict[int, bool] = {}
        """Handle: whether it may be written to."""

    def open(self, descriptor: int) -> int:
        if not 0 <= descriptor < 1 << 24:  # the kernel's own bound (fs.nr_open) is below
            raise ValueError(f"{descriptor} is no descriptor")
        generation = self._generations.get(descriptor, 0)
        self._open.pop(generation << 32 | descriptor, None)
        generation = generation % _NUMBER + 1
        self._generations[descriptor] = generation
        handle = generation << 32 | descriptor
        self._open[handle] = True
        return handle

    def close(self, handle: int) -> None:
        self._open.pop(handle, None)

    def hold(self, handle: int) -> None:
        if handle in self._open:
            self._open[handle] = False

    def release(self, handle: int) -> None:
        if handle in self._open:
            self._open[handle] = True

    def send(self, handles: Sequence[int], payload: bytes) -> list[tuple[int, int]]:
        short = []
        for index, handle in enumerate(handles):
            written = self._write(handle, payload)
            if written < len(payload):
                self.hold(handle)
                short.append((index, written))
        return short

    def _write(self, handle: int, payload: bytes) -> int:
        if handle == THROUGH_TRANSPORT:
            return 0
        may_write = self._open.get(handle)
        if may_write is None:
            return GONE
        if not may_write:
            return 0
        try:
            return os.write(handle & _NUMBER, payload)
        except BlockingIOError:
            return 0
        except OSError:
            return GONE


def descriptors() -> Descriptors:
    """The native ones where they are built."""
    try:
        from sentio_native import Descriptors as Native
    except ImportError:
        return PythonDescriptors()
    native: Descriptors = Native()
    return native
