from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from faults.checker import Disturbance, Sent, attempts, check, excuse, reruns, told, untold
from faults.history import History, Note, read

LOCKED = [Sent(job="one", lock_id="L"), Sent(job="two", lock_id="L")]


def history(text: str) -> list[Note]:
    """Lines `time event job attempt worker lock fence`, short: `1.00 begin one a w1 L 1`."""
    lines = []
    for line in text.strip().splitlines():
        time, event, job, attempt, worker, lock, fence = line.split()
        lines.append(f"{time} {event} {job} {attempt} 77 {lock} {fence} 1 {worker}")
    return read(lines)


GOOD = """
1.00 begin one a w1 L 1
1.10 beat one a w1 L 1
1.20 end one a w1 L 1
1.30 begin two b w2 L 2
1.40 end two b w2 L 2
"""
INTERRUPTED = """
1.00 begin one a w1 L 1
1.10 beat one a w1 L 1
9.00 begin one b w2 L 2
9.10 end one b w2 L 2
"""


def promises(text: str, sent: list[Sent], *disturbances: Disturbance) -> list[str]:
    return [violation.promise for violation in check(history(text), sent, disturbances)]


def test_a_history_without_faults_is_accepted() -> None:
    assert promises(GOOD, LOCKED) == []


def test_a_job_without_a_whole_end_is_lost() -> None:
    assert promises(GOOD.replace("1.40 end two b w2 L 2", "1.40 beat two b w2 L 2"), LOCKED) == ["never lost"]
    assert promises(GOOD, [*LOCKED, Sent(job="three")]) == ["never lost"]
    assert promises(GOOD, [*LOCKED, Sent(job="three", must_end=False)]) == []


def test_what_was_never_sent_must_not_run() -> None:
    assert promises(GOOD, LOCKED[:1]) == ["sent"]


def test_one_line_of_the_other_holder_after_a_begin_is_an_overlap() -> None:
    late = "1.35 beat one a w1 L 1\n1.40 end two"
    assert promises(GOOD.replace("1.40 end two", late), LOCKED) == ["never two at once"]


def test_an_overlap_with_an_attempt_before_the_last_one_is_seen() -> None:
    text = """
    1.00 begin one a w1 L 1
    1.10 begin two b w2 L 2
    1.20 end two b w2 L 2
    1.30 begin three c w2 L 3
    1.40 end three c w2 L 3
    1.50 end one a w1 L 1
    """
    violations = check(history(text), [*LOCKED, Sent(job="three", lock_id="L")], [])
    assert [violation.jobs for violation in violations] == [("one", "two"), ("one", "three")]


def test_a_job_must_not_overlap_with_itself_either() -> None:
    text = "1.00 begin one a w1 - 0\n2.00 begin one b w2 - 0\n2.10 end one b w2 - 0\n2.20 beat one a w1 - 0"
    killed = Disturbance(worker="w1", kind="worker killed", since=1.5)
    assert promises(text, [Sent(job="one")], killed) == ["never two at once"]


def test_jobs_of_different_locks_or_none_may_overlap() -> None:
    text = "1.00 begin one a w1 L 1\n1.00 begin two b w2 M 1\n1.10 end one a w1 L 1\n1.10 end two b w2 M 1"
    assert promises(text, [Sent(job="one", lock_id="L"), Sent(job="two", lock_id="M")]) == []
    assert promises(text.replace(" L 1", " - 0").replace(" M 1", " - 0"), [Sent(job="one"), Sent(job="two")]) == []


def test_a_second_run_needs_an_excuse() -> None:
    assert promises(INTERRUPTED, LOCKED[:1]) == ["never twice"]
    again = GOOD + "5.00 begin one c w2 L 3\n5.10 end one c w2 L 3"
    assert promises(again, LOCKED) == ["never twice"], "also if the first one ended"


@pytest.mark.parametrize(
    ("since", "until", "worker", "excused"),
    [
        (1.5, float("inf"), "w1", True),
        (0.5, 0.9, "w1", False),  # over before it began
        (9.5, 9.6, "w1", False),  # after it had begun again
        (1.5, 2.0, "w2", False),  # somebody else's
        (1.004, 1.2, "w1", True),
    ],
)
def test_an_excuse_is_what_happened_to_its_worker_between_the_two_begins(
    since: float, until: float, worker: str, excused: bool
) -> None:
    disturbance = Disturbance(worker=worker, kind="worker killed", since=since, until=until)
    assert promises(INTERRUPTED, LOCKED[:1], disturbance) == ([] if excused else ["never twice"])


def test_a_worker_cut_off_from_the_table_alone_may_not_end_jobs_without_a_lock() -> None:
    cut = Disturbance(worker="w1", kind="cut off from dynamodb", since=1.5, unlocked=False)
    assert promises(INTERRUPTED, LOCKED[:1], cut) == []
    free = INTERRUPTED.replace(" L 1", " - 0").replace(" L 2", " - 0")
    assert promises(free, [Sent(job="one")], cut) == ["never twice"]


FAILED_TWICE = """
1.00 begin one a w1 - 0
1.10 end one a w1 - 0
2.00 begin one b w2 - 0
2.10 end one b w2 - 0
"""


def test_a_job_that_failed_runs_again_as_often_as_it_asked_for() -> None:
    assert promises(FAILED_TWICE, [Sent(job="one", fails=True, retries=1)]) == []
    assert promises(FAILED_TWICE, [Sent(job="one", fails=True, retries=0)]) == ["never twice"]
    assert promises(FAILED_TWICE, [Sent(job="one", fails=True, retries=2)]) == ["retries"]
    assert promises(FAILED_TWICE, [Sent(job="one", retries=2)]) == ["never twice"], "it asked for it, and did not fail"
    assert promises(FAILED_TWICE, [Sent(job="one", fails=True, retries=2, must_end=False)]) == []


def test_a_run_that_was_cut_off_is_no_retry() -> None:
    cut_off = FAILED_TWICE.replace("1.10 end", "1.10 beat")
    assert promises(cut_off, [Sent(job="one", fails=True, retries=1)]) == ["never twice", "retries"]
    killed = Disturbance(worker="w1", kind="worker killed", since=1.05)
    assert promises(cut_off, [Sent(job="one", fails=True)], killed) == []


def test_each_job_that_failed_for_good_is_told() -> None:
    sent = [
        Sent(job="one", fails=True),
        Sent(job="two", fails=True),
        Sent(job="three"),
        Sent(job="four", must_end=False),
    ]
    assert [violation.jobs for violation in untold(sent, {"one", "five"})] == [("two",)]


@pytest.mark.parametrize("fence", [0, 1])
def test_a_fence_that_does_not_grow_is_a_violation(fence: int) -> None:
    assert promises(GOOD.replace(" L 2", f" L {fence}"), LOCKED) == ["fencing"]


def test_the_first_fence_counts_from_one() -> None:
    assert promises("1.00 begin one a w1 L 0\n1.10 end one a w1 L 0", LOCKED[:1]) == ["fencing"]


def test_a_violation_is_told_with_what_was_done_to_the_workers() -> None:
    notes = history(INTERRUPTED)
    frozen = Disturbance(worker="w1", kind="worker frozen", since=0.2, until=0.8)
    (violation,) = check(notes, LOCKED[:1], [frozen])

    story = told(notes, violation, [frozen, Disturbance(worker="w9", kind="killed", since=1.0)])

    assert "w1: worker frozen begins" in story
    assert "w1: worker frozen is over" in story
    assert "w2: begin one (attempt b, fence 2" in story
    assert "w9" not in story


def test_reruns_are_counted_with_their_reasons() -> None:
    killed = Disturbance(worker="w1", kind="worker killed", since=1.5)
    (pair,) = reruns(attempts(history(INTERRUPTED)))
    assert excuse(*pair, [killed]) == "worker killed"


def test_the_script_writes_what_the_reader_reads(tmp_path: Path) -> None:
    made = History(tmp_path)
    variables = {"PATH": "/usr/bin:/bin", "SQSJKR_TEST_WORKER": "w1.1", "SQSJKR_LOCK_ID": "L", "SQSJKR_FENCE": "3"}
    variables |= {"SQSJKR_RECEIVE_COUNT": "2"}
    for job, kind in (("plain", "plain"), ("bad", "failing"), ("far", "family")):
        done = subprocess.run(["sh", "-c", made.command(job, kind, 2)], env=variables, check=False)
        assert done.returncode == (kind == "failing")

    ran = attempts(made.notes())
    assert [attempt.begin.job for attempt in ran] == ["plain", "bad", "far"]
    assert all([note.event for note in attempt.notes] == ["begin", "beat", "beat", "end"] for attempt in ran)
    assert {(note.lock_id, note.fence, note.receive_count, note.worker) for note in made.notes()} == {
        ("L", 3, 2, "w1.1")
    }
    assert ran[2].notes[1].pid != ran[2].begin.pid, "what left the session is the same attempt"
