"""A draft of a trust file: what ran may run under it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sqsjkr.job import decode
from sqsjkr.plan import Plan
from sqsjkr.trust import file, learn, patterns
from sqsjkr.trust.policy import UNSIGNED, Policy


def log(*started: tuple[str, str]) -> list[str]:
    """A log in which these senders have asked for these commands, among other lines."""
    lines = [{"event": "job.started", "sender": sender, "command": command, "job": None} for sender, command in started]
    return ["no JSON", json.dumps({"event": "worker.started"}), "[1]", *map(json.dumps, lines)]


def learnt(lines: list[str], folder: Path) -> tuple[str, Policy]:
    text = learn.draft(learn.read(lines))
    path = folder / "trust.toml"
    path.write_text(text)
    return text, file.read(str(path))[1].policy


def complaint(policy: Policy, sender: str, command: str) -> str:
    job = decode(json.dumps({"command": command}), "m")
    return policy.judge(job, Plan(), sender, UNSIGNED).complaint


def test_what_ran_may_run_under_the_draft_and_a_neighbour_of_it_not(tmp_path: Path) -> None:
    started = [
        ("AROAONE:i-1", "/opt/batch/clean-up.sh users 17"),
        ("AROAONE:i-2", "/opt/batch/clean-up.sh orders 4"),
        ("AROAONE:i-2", "/opt/batch/clean-up.sh"),
        ("AROATWO:x", "make report | mail ops"),
        ("AROATWO:x", "/usr/bin/backup --to /mnt/a 'two words'"),
    ]
    text, policy = learnt(log(*started), tmp_path)
    for sender, command in started:
        assert complaint(policy, sender, command) == "", command
    assert complaint(policy, "AROAONE:i-9", "/opt/batch/clean-up.sh carts 5") == ""
    assert complaint(policy, "AROAONE:i-1", "/opt/batch/clean-up.sh users; id 17")
    assert complaint(policy, "AROAONE:i-1", "/opt/batch/clean-up.sh -rf 17")
    assert complaint(policy, "AROAONE:i-1", "make report | mail ops")
    assert complaint(policy, "AROATHREE:x", "/opt/batch/clean-up.sh users 17") == "sender AROATHREE:x is no producer's"
    assert not policy.enforce
    assert "#   make report | mail ops" in text


def test_jobs_by_name_are_asked_for_by_name(tmp_path: Path) -> None:
    named = {"event": "job.started", "sender": "me", "command": "x", "job": "reindex"}
    assert 'may = ["reindex"]' in learn.draft(learn.read([json.dumps(named)]))


_WORD = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x24F, exclude_characters="\x7f"), min_size=1, max_size=8
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.lists(_WORD, min_size=1, max_size=3).map(" ".join), min_size=1, max_size=6))
def test_whatever_ran_the_draft_is_a_good_trust_file_that_allows_it(tmp_path: Path, commands: list[str]) -> None:
    _, policy = learnt(log(*(("AROA:x", command) for command in commands)), tmp_path)
    for command in commands:
        assert complaint(policy, "AROA:y", command) == ""


def test_every_pattern_of_a_draft_matches_in_one_way() -> None:
    pattern = learn.pattern_of(["/a/x.sh --mode=1 a", "/a/x.sh --mode=2 a/b", "/a/x.sh --mode=1 c"])
    assert patterns.compiled(pattern).fullmatch("/a/x.sh --mode=2 c")
    assert re.fullmatch(pattern, "/a/x.sh --mode=3 c") is None
