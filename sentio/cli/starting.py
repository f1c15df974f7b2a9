"""How every long-running process begins: logging, and a word about what it would rather have."""

from sentio import log, tracker
from sentio.config import Settings


def start(settings: Settings, *, process: str, codec: bool = True) -> None:
    """Set up logging and the error tracker; ``codec``: the process decodes or encodes events."""
    log.configure(settings.log_level, process=process)
    tracker.configure(settings.errors_dsn, process=process)
    if not codec:
        return
    from schemas.codec import NATIVE

    if not NATIVE:
        log.get().warning(
            "the native codec is not built: events are encoded and decoded in Python, some 50 times slower",
            costs_us_per_event={"encode": 14, "decode": 23},
            remedy="install cargo (Rust 1.88 or newer) and run 'make setup'",
        )
