"""What is told of a server that does not answer."""

from pathlib import Path

import pytest

from sentio.errors import Fatal
from sentio.stack.processes import Record, check_lost_its_port

GONE = Record(name="kafka", command="java", pid=0, started="", port=0)
"""No process has that number."""


@pytest.mark.parametrize(
    ("log", "word"),
    [
        ("starting\nERROR no such folder\nERROR ended\n", "ERROR no such folder"),
        ("starting\nwaiting for the controller\n", "waiting for the controller"),
        ("", "no message"),
    ],
    ids=["its first error", "else its last line", "else nothing"],
)
def test_server_that_does_not_answer_is_told_with_its_own_word(tmp_path: Path, log: str, word: str) -> None:
    (tmp_path / "server.log").write_text(log)
    with pytest.raises(Fatal, match=f"^kafka ended before it answered: {word} "):
        check_lost_its_port(GONE, tmp_path / "server.log", ("ERROR",), 60.0)


def test_server_whose_port_was_taken_meanwhile_may_try_another(tmp_path: Path) -> None:
    (tmp_path / "server.log").write_text("starting\nERROR Address already in use\n")
    check_lost_its_port(GONE, tmp_path / "server.log", ("ERROR",), 60.0)
