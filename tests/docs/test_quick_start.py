"""What a newcomer sees first."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from servers import PATIENCE
from sqsjkr.job import decode

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_the_quick_start_says_what_became_of_each_job(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "quick_start.py"), "demo"],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    table = done.stdout.partition("# What became of each job:\n")[2].splitlines()[:5]
    assert done.returncode == 0, done.stdout + done.stderr
    assert [row.split()[:2] for row in table[:4]] == [
        ["hello", "succeeded"],
        ["report", "succeeded"],
        ["report-again", "expired"],
        ["fails", "errored"],
    ]
    assert table[4].split()[:3] == ["the", "fifth", "refused"]


def test_the_examples_use_only_what_is_public() -> None:
    for path in EXAMPLES.glob("*.py"):
        assert not re.search(r"^\s*(from|import) sqsjkr\.", path.read_text(), re.MULTILINE), path


def test_every_example_is_a_job() -> None:
    for line in (EXAMPLES / "jobs.jsonl").read_text().splitlines():
        assert decode(line, "an-id").event_id == json.loads(line)["event_id"]
