"""The memory that worker, launcher and backstop share."""

from __future__ import annotations

import os
import signal

from sqsjkr.supervision.shared_state import NO_LEADER, REAPED, SharedState

READS = 200_000


def test_a_reader_never_meets_a_number_that_is_half_written() -> None:
    """The launcher kills a worker whose heartbeat it finds empty."""
    shared = SharedState()
    slot = shared.attempts.enter("mark")
    shared.heartbeat(1.0, 2.0)
    shared.attempts.leads(slot, REAPED)
    writer = os.fork()
    if writer == 0:
        while True:
            shared.heartbeat(1.0, 2.0)
            shared.attempts.leads(slot, REAPED)
    try:
        beats = {shared.last_heartbeat() for _ in range(READS)}
        leaders = {shared.attempts.leader(slot) for _ in range(READS)}
    finally:
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
    assert (beats, leaders) == ({(1.0, 2.0)}, {REAPED})


def test_a_slot_begins_without_a_leader_and_its_revocation_ends_with_it() -> None:
    shared = SharedState()
    slot = shared.attempts.enter("first")
    shared.attempts.leads(slot, 7)
    shared.attempts.revoke(slot)
    assert shared.attempts.running() == {"first": 7}
    assert shared.attempts.is_revoked(slot)
    shared.attempts.leave(slot)
    assert shared.attempts.running() == {}
    assert shared.attempts.enter("second") == slot
    assert shared.attempts.leader(slot) == NO_LEADER
    assert not shared.attempts.is_revoked(slot)
