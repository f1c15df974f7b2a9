"""Ending a process when it is asked to: in order if it can be done within seconds, for sure in any case."""

import os
import signal
import threading
from collections.abc import Callable

GRACE_S = 4.5


def on_stop(stop: Callable[[], object]) -> None:
    """Call ``stop`` on SIGTERM and Ctrl-C, and see to it that the process ends within `GRACE_S` after."""

    def asked() -> None:
        end_soon()
        stop()

    on_asked(asked)


def on_asked(call: Callable[[], object]) -> None:
    """Call it on SIGTERM and Ctrl-C, in a thread of its own.

    Not in the handler: that interrupts the main thread wherever it is, also where it holds the lock of the very event
    that is to be set, and would wait for itself for ever.
    """
    reading, writing = os.pipe()

    def hear() -> None:
        while os.read(reading, 1):
            call()

    threading.Thread(target=hear, name="stopping", daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.write(writing, b"!"))


def end_soon() -> None:
    """End the process in `GRACE_S` if it has not ended by itself.

    A call into a database or a broker that does not answer can take minutes. Whoever waits for us would send SIGKILL,
    which costs nothing here: what was not committed is done again at the next start.
    """
    timer = threading.Timer(GRACE_S, os._exit, (1,))
    timer.daemon = True
    timer.start()
