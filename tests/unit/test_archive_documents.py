"""What docs/archive.md tells people to ask gives what it says, word for word."""

import subprocess
import sys
from pathlib import Path

import pytest

from consumers.archive.stores import Folder
from tests.integration.test_docs import code
from tests.members import live

SAID = {
    "turnover.py": ["SQQQ 3 34014.24", "TQQQ 3 33687.18", "UVXY 2 22567.14"],
    "fills.py": ["SQQQ 3", "TQQQ 3", "UVXY 2"],
}


@pytest.mark.parametrize("name", SAID)
def test_query_of_the_document_answers(tmp_path: Path, name: str) -> None:
    live(Folder(tmp_path / "archive"), steps=[3])
    (tmp_path / name).write_text(code("docs/archive.md", name))

    done = subprocess.run([sys.executable, name], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == SAID[name]
