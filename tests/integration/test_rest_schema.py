"""Whatever the OpenAPI document allows, or does not, is answered as it says: Schemathesis looks for what is not."""

import subprocess
import sys
from pathlib import Path

import httpx

from tests.rest import OPENING, Rows

ROOT = Path(__file__).parents[2]
SCHEMATHESIS = ROOT / ".sentio" / "schemathesis" / "bin" / "schemathesis"


def test_schemathesis_finds_nothing(client: httpx.Client, rows: Rows) -> None:
    for minute in range(5):
        rows.trade(minute)
    rows.add(
        "performance",
        account="0",
        equity=100_000,
        day_return=0,
        open_positions=0,
        realized_pnl=0,
        unrealized_pnl=0,
        minute_at=OPENING,
    )
    rows.add(
        "signals",
        symbol="TQQQ",
        direction="LONG",
        probability="0.7",
        confidence="0.6",
        bar_id=1,
        generated_at=OPENING,
    )
    found = subprocess.run(
        [
            SCHEMATHESIS,
            f"--config-file={ROOT / 'tests' / 'schemathesis' / 'schemathesis.toml'}",
            "run",
            f"{client.base_url}/openapi.json",
            "--max-examples=40",
            "--generation-deterministic",
            "--no-color",
        ],
        capture_output=True,
        text=True,
        timeout=150,
        cwd=ROOT / ".sentio",
        check=False,
    )
    sys.stdout.write(found.stdout)
    assert found.returncode == 0, found.stdout[-4_000:] + found.stderr
