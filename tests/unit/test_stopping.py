"""A process that is asked to end does so, whatever its main thread is at."""

import subprocess
import sys

PROGRAM = """
import os, signal, threading
from sentio.stopping import on_stop
stop = threading.Event()
on_stop(stop.set)
with stop._cond:  # as `wait` has it for a moment, whenever it begins and ends
    os.kill(os.getpid(), signal.SIGTERM)
    for _ in range(1_000):
        pass
assert stop.wait(30)
print("in order")
"""


def test_process_that_is_asked_while_it_holds_the_lock_of_its_event_ends_in_order() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "in order\n"), done.stderr
