"""Every error the platform raises, in one tree.

Sentio
├── Retryable   the world is at fault and may recover: back off, keep group membership, try again
├── Poison      this record cannot be used: dead letter it, go on with the rest
└── Fatal       going on would lose or double something: exit non-zero, the message names the cause
    └── Setting   a configuration value is wrong: exit 2, the message names the setting

Imports nothing, so that everything may import it.
"""

from collections.abc import Sequence


class SentioError(Exception):
    """Root of the tree; never raised itself."""


class Retryable(SentioError):
    """Something outside (broker, database, network) failed in a way that time may heal."""


class Poison(SentioError):
    """Records that cannot be used.

    ``rows`` holds (index, reason) for each record at fault: the index is its place in the batch
    (or in the list of messages) that was given, the reason is one line for the dead letter.
    """

    def __init__(self, rows: Sequence[tuple[int, str]]) -> None:
        self.rows = tuple(rows)
        super().__init__("; ".join(f"record {index}: {reason}" for index, reason in self.rows[:3]))


class Fatal(SentioError):
    """Going on would lose or double something; a person has to decide."""


class SettingError(Fatal):
    """A configuration value is wrong; the message names it and says what it may be."""


class NotPlayable(Fatal):
    """A line of a recorded session or results file cannot be used; the message names file and line."""
