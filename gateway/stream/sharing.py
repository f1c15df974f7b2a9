"""One answer for all who ask the same at the same time: a crowd that comes back costs one query, not one each."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """Answers by key, good for ``good_for_s`` after they were asked for; a failure is shared by its waiters only."""

    def __init__(self, *, good_for_s: float) -> None:
        self._good_for_s = good_for_s
        self._asked: dict[Hashable, tuple[float, asyncio.Task[T]]] = {}

    async def get(self, key: Hashable, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The answer of ``ask``, or of whoever asked before; raises what it raises."""
        now_s = time.monotonic()
        self._asked = {
            other: (asked_s, task)
            for other, (asked_s, task) in self._asked.items()
            if not task.done() or (now_s - asked_s < self._good_for_s and not _failed(task))
        }
        if key not in self._asked:
            task = asyncio.create_task(ask())
            task.add_done_callback(_failed)  # a failure nobody waits for any more is no news
            self._asked[key] = (now_s, task)
        return await asyncio.shield(self._asked[key][1])


def _failed(task: asyncio.Task[Any]) -> bool:
    return task.cancelled() or task.exception() is not None
