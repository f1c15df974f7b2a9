"""Every error the platform raises, in one tree.

Sentio
├── Retryable   the world is at fault and may recover: back off, keep group membership, try again
├── Poison      this record cannot be used: dead letter it, go on with the rest
└── Fatal       going on would lose or double something: exit non-zero, the message names the cause
    └── Setting   a configuration value is wrong: exit 2, the message names the setting

Imports nothing, so that everything may import it.
"""

from collections.abc import Mapping


class SentioError(Exception):
    """Root of the tree; never raised itself."""


class Retryable(SentioError):
    """Something outside (broker, database, network) failed in a way that time may heal."""


class Poison(SentioError):
    """Records that cannot be used.

    ``reasons`` says, for the (partition, offset) of each record at fault in the batch, in one line for its
    dead letter, what is wrong with it.
    """

    def __init__(self, reasons: Mapping[tuple[int, int], str]) -> None:
        self.reasons = dict(reasons)
        lines = [f"partition {p}, offset {offset}: {why}" for (p, offset), why in self.reasons.items()]
        super().__init__("; ".join(lines[:3]))


class Fatal(SentioError):
    """Going on would lose or double something; a person has to decide."""


class SettingError(Fatal):
    """A configuration value is wrong; the message names it and says what it may be."""


class NotPlayable(Fatal):
    """A line of a recorded session or results file cannot be used; the message names file and line."""


class RingUnusable(Fatal):
    """The ring of an engine cannot be read; the message names it and the cause."""
