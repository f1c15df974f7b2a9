"""Logging of every process: structlog, coloured on a terminal, JSON elsewhere, always to stderr."""

import logging
import sys
import time
from collections.abc import Hashable

import structlog


def configure(level: str = "INFO", *, process: str) -> None:
    """Set up logging once, at the start of a process; ``process`` is added to every line."""
    structlog.configure(
        processors=_processors(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    structlog.contextvars.bind_contextvars(process=process)


def get() -> structlog.typing.FilteringBoundLogger:
    """The process's logger. In a program that has not set up structlog itself, lines go to stderr."""
    if structlog.is_configured():
        logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    else:
        logger = structlog.wrap_logger(structlog.PrintLogger(sys.stderr), processors=_processors())
    return logger


def _processors() -> list[structlog.typing.Processor]:
    """Tracebacks are plain: one with every variable in it takes seconds, and tells what is nobody's business."""
    terminal = sys.stderr.isatty()
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer(),
    ]


class OncePer:
    """Says whether a repeated line is due again: an outage is one line a minute, not one a retry."""

    def __init__(self, period_s: float = 60.0) -> None:
        self._period_s = period_s
        self._last_s: dict[Hashable, float] = {}

    def due(self, key: Hashable) -> bool:
        now_s = time.monotonic()
        if now_s - self._last_s.get(key, float("-inf")) < self._period_s:
            return False
        self._last_s[key] = now_s
        return True

    def reset(self) -> None:
        """The trouble is over: the next one is said at once."""
        self._last_s.clear()
