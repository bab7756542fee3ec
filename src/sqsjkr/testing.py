"""What a locker and a throttler must do, as test suites that anyone can run on their own.

Two lines make a suite for pytest; no plugin is needed, and each test runs in an event loop of its own:

    class TestMyLocker(LockerContract):
        async def make(self) -> Locker: return MyLocker("redis://localhost")

The same suites run on the lockers and throttlers of sqsjkr itself, on every server they know.
"""

from __future__ import annotations

import asyncio
import functools
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from typing import Any, Generic, Protocol, TypeVar

from sqsjkr import clock
from sqsjkr.locker import Locker
from sqsjkr.runs import Holder
from sqsjkr.throttler import Claim, Throttler

RACERS = 20
"""How many ask at the same moment where only one may win."""
ODD_IDS = ("a b", "日本語 🔒", "a/b#c:d", "'; DROP TABLE lock; --", "%7B{}*", "x" * 200)
"""Ids that producers really send: a locker must neither refuse nor confuse them."""


class _Part(Protocol):
    async def open(self) -> None: ...

    async def close(self) -> None: ...


T = TypeVar("T", bound=_Part)
A = TypeVar("A")


def _in_a_loop(test: Callable[[Any], Coroutine[Any, Any, None]]) -> Callable[[Any], None]:
    """Make an async test an ordinary one, so that the suites need nothing but pytest."""

    @functools.wraps(test)
    def run(self: object) -> None:
        asyncio.run(test(self))

    return run


class _Contract(ABC, Generic[T]):
    @abstractmethod
    async def make(self) -> T:
        """One worker's locker or throttler, not opened yet.

        Every call makes another worker's, and all of them must see the same locks or claims.
        """

    @asynccontextmanager
    async def workers(self, number: int) -> AsyncIterator[list[T]]:
        """So many workers, each with one of its own, opened; closed after the test."""
        async with AsyncExitStack() as stack:
            made = []
            for _ in range(number):
                part = await self.make()
                await part.open()
                stack.push_async_callback(part.close)
                made.append(part)
            yield made


class LockerContract(_Contract[Locker]):
    """The definition of a ``Locker``. Derive a class whose name begins with ``Test`` and write ``make``."""

    @_in_a_loop
    async def test_a_free_lock_is_taken(self) -> None:
        """The first to ask gets it, and may rely on it for a while."""
        async with self.workers(1) as [locker]:
            _taken(await locker.lock(_new("lock"), _new("attempt"), "event"))
            _demand(locker.proven_until() > clock.now(), "proven_until() ahead of clock.now()")

    @_in_a_loop
    async def test_of_many_racers_one_wins(self) -> None:
        """Atomic: however many ask at once, from however many workers, one of them gets the lock."""
        async with self.workers(4) as lockers:
            for _ in range(5):
                lock_id = _new("lock")
                answers = await _all(
                    lockers[racer % 4].lock(lock_id, _new("attempt"), "event") for racer in range(RACERS)
                )
                winners = [answer for answer in answers if answer is not None]
                _demand(len(winners) == 1, f"one winner of {RACERS}, and not {len(winners)}")

    @_in_a_loop
    async def test_a_held_lock_is_refused_on_every_worker(self) -> None:
        """Owners are attempts, not workers: a second job of the same worker is refused too."""
        async with self.workers(2) as [here, there]:
            lock_id = _new("lock")
            await here.lock(lock_id, _new("attempt"), "event")
            _refused(await here.lock(lock_id, _new("attempt"), "event"))
            _refused(await there.lock(lock_id, _new("attempt"), "event"))
            holder = await there.acquire(lock_id, _new("attempt"), "event", "message")
            _demand(isinstance(holder, Holder), f"a refusal to be a Holder, and not {holder!r}")

    @_in_a_loop
    async def test_asking_again_for_the_same_owner_succeeds(self) -> None:
        """The first answer may have been lost on its way."""
        async with self.workers(2) as [here, there]:
            lock_id, owner = _new("lock"), _new("attempt")
            _taken(await here.lock(lock_id, owner, "event"))
            _taken(await here.lock(lock_id, owner, "event"))
            _refused(await there.lock(lock_id, _new("attempt"), "event"))

    @_in_a_loop
    async def test_only_the_owner_unlocks(self) -> None:
        """Another attempt's unlock changes nothing, wherever it comes from, and is no error."""
        async with self.workers(2) as [here, there]:
            lock_id, refused = _new("lock"), _new("attempt")
            await here.lock(lock_id, _new("attempt"), "event")
            _refused(await there.lock(lock_id, refused, "event"))
            for locker in (here, there):
                await locker.unlock(lock_id, _new("attempt"))
                await locker.unlock(lock_id, refused)
            _refused(await there.lock(lock_id, _new("attempt"), "event"))

    @_in_a_loop
    async def test_a_second_unlock_leaves_the_next_owner_alone(self) -> None:
        """An unlock is sent again when its answer was lost; the lock may have another owner by then."""
        async with self.workers(2) as [here, there]:
            lock_id, first = _new("lock"), _new("attempt")
            await here.lock(lock_id, first, "event")
            await here.unlock(lock_id, first)
            _taken(await there.lock(lock_id, _new("attempt"), "event"))
            await here.unlock(lock_id, first)
            _refused(await here.lock(lock_id, _new("attempt"), "event"))

    @_in_a_loop
    async def test_unlocking_what_was_never_taken_is_no_error(self) -> None:
        """A worker that got no answer to its lock unlocks to be sure."""
        async with self.workers(1) as [locker]:
            lock_id = _new("lock")
            await locker.unlock(lock_id, _new("attempt"))
            _taken(await locker.lock(lock_id, _new("attempt"), "event"))

    @_in_a_loop
    async def test_an_unlocked_lock_is_free_for_everyone_and_its_fencing_token_grows(self) -> None:
        """At once, on every worker; a locker without tokens always answers 0."""
        async with self.workers(2) as lockers:
            lock_id = _new("lock")
            tokens: list[int] = []
            for turn in range(5):
                owner = _new("attempt")
                tokens.append(_taken(await lockers[turn % 2].lock(lock_id, owner, "event")))
                await lockers[turn % 2].unlock(lock_id, owner)
            grow = all(earlier < later for earlier, later in pairwise(tokens))
            _demand(grow or tokens == [0] * 5, f"growing fencing tokens, and not {tokens}")

    @_in_a_loop
    async def test_lock_ids_do_not_touch_each_other(self) -> None:
        """Whatever characters they are made of; each is locked, refused and unlocked as itself."""
        async with self.workers(2) as [here, there]:
            ids = [f"{_new('lock')} {odd}" for odd in ODD_IDS]
            owners = {lock_id: _new("attempt") for lock_id in ids}
            for lock_id in ids:
                _taken(await here.lock(lock_id, owners[lock_id], "event"))
            for lock_id in ids:
                _refused(await there.lock(lock_id, _new("attempt"), "event"))
            await here.unlock(ids[0], owners[ids[0]])
            _taken(await there.lock(ids[0], _new("attempt"), "event"))
            _refused(await there.lock(ids[1], _new("attempt"), "event"))


class ThrottlerContract(_Contract[Throttler]):
    """The definition of a ``Throttler``. Derive a class whose name begins with ``Test`` and write ``make``."""

    @_in_a_loop
    async def test_of_many_racers_one_gets_fresh(self) -> None:
        """Atomic: all others learn that another worker runs it, and not that it is done."""
        async with self.workers(4) as throttlers:
            for _ in range(5):
                message_id = _new("message")
                answers = await _all(
                    throttlers[racer % 4].claim(message_id, _new("attempt")) for racer in range(RACERS)
                )
                fresh, busy = answers.count(Claim.FRESH), answers.count(Claim.BUSY)
                _demand((fresh, busy) == (1, RACERS - 1), f"one FRESH, the others BUSY, and not {answers}")

    @_in_a_loop
    async def test_a_claimed_message_is_busy_on_every_worker(self) -> None:
        """DONE would delete the message of a job that may yet crash."""
        async with self.workers(2) as [here, there]:
            message_id = _new("message")
            await here.claim(message_id, _new("attempt"))
            _says(await here.claim(message_id, _new("attempt")), Claim.BUSY)
            _says(await there.claim(message_id, _new("attempt")), Claim.BUSY)

    @_in_a_loop
    async def test_a_new_message_is_fresh_and_fresh_again_for_the_same_owner(self) -> None:
        """The first answer may have been lost on its way."""
        async with self.workers(1) as [throttler]:
            message_id, owner = _new("message"), _new("attempt")
            _says(await throttler.claim(message_id, owner), Claim.FRESH)
            _says(await throttler.claim(message_id, owner), Claim.FRESH)
            _demand(throttler.proven_until() > clock.now(), "proven_until() ahead of clock.now()")

    @_in_a_loop
    async def test_a_confirmed_message_is_done_everywhere(self) -> None:
        """For every owner, the one that ran it included; and however often it is confirmed."""
        async with self.workers(2) as [here, there]:
            message_id, owner = _new("message"), _new("attempt")
            await here.claim(message_id, owner)
            await here.confirm(message_id, owner)
            await here.confirm(message_id, owner)
            for throttler, asks in ((here, _new("attempt")), (there, _new("attempt")), (here, owner)):
                _says(await throttler.claim(message_id, asks), Claim.DONE)

    @_in_a_loop
    async def test_a_forgotten_message_is_fresh_for_the_next(self) -> None:
        """Its job was stopped before its end: the next delivery runs it."""
        async with self.workers(2) as [here, there]:
            message_id, owner = _new("message"), _new("attempt")
            await here.claim(message_id, owner)
            await here.forget(message_id, owner)
            _says(await there.claim(message_id, _new("attempt")), Claim.FRESH)

    @_in_a_loop
    async def test_only_the_owner_forgets(self) -> None:
        """Another attempt's claim stays."""
        async with self.workers(2) as [here, there]:
            message_id = _new("message")
            await here.claim(message_id, _new("attempt"))
            await here.forget(message_id, _new("attempt"))
            await there.forget(message_id, _new("attempt"))
            _says(await there.claim(message_id, _new("attempt")), Claim.BUSY)

    @_in_a_loop
    async def test_a_second_forget_leaves_the_next_claim_alone(self) -> None:
        """A forget is sent again when its answer was lost; the message may have another owner by then."""
        async with self.workers(2) as [here, there]:
            message_id, first = _new("message"), _new("attempt")
            await here.claim(message_id, first)
            await here.forget(message_id, first)
            _says(await there.claim(message_id, _new("attempt")), Claim.FRESH)
            await here.forget(message_id, first)
            _says(await here.claim(message_id, _new("attempt")), Claim.BUSY)

    @_in_a_loop
    async def test_what_is_done_is_not_forgotten(self) -> None:
        """A job that has ended by itself is never run again."""
        async with self.workers(1) as [throttler]:
            message_id, owner = _new("message"), _new("attempt")
            await throttler.claim(message_id, owner)
            await throttler.confirm(message_id, owner)
            await throttler.forget(message_id, owner)
            _says(await throttler.claim(message_id, _new("attempt")), Claim.DONE)

    @_in_a_loop
    async def test_forgetting_what_was_never_claimed_is_no_error(self) -> None:
        """A worker that got no answer to its claim forgets to be sure."""
        async with self.workers(1) as [throttler]:
            message_id = _new("message")
            await throttler.forget(message_id, _new("attempt"))
            _says(await throttler.claim(message_id, _new("attempt")), Claim.FRESH)

    @_in_a_loop
    async def test_many_confirmations_at_once_are_all_remembered(self) -> None:
        """However they are batched on their way."""
        async with self.workers(1) as [throttler]:
            claims = [(_new("message"), _new("attempt")) for _ in range(60)]
            await _all(throttler.claim(*claim) for claim in claims)
            await _all(throttler.confirm(*claim) for claim in claims)
            answers = await _all(throttler.claim(message_id, _new("attempt")) for message_id, _ in claims)
            _demand(set(answers) == {Claim.DONE}, f"DONE for all, and not {answers}")


async def _all(askings: Iterable[Awaitable[A]]) -> list[A]:
    return list(await asyncio.gather(*askings))


def _new(kind: str) -> str:
    """An id that no other test and no earlier run has used: the store may outlive them."""
    return f"{kind}-{uuid.uuid4().hex}"


def _demand(holds: bool, what: str) -> None:
    """An assertion that also holds under ``python -O`` and explains itself without pytest's rewriting."""
    if not holds:
        raise AssertionError(f"expected {what}")


def _taken(fence: int | None) -> int:
    _demand(isinstance(fence, int) and fence >= 0, f"the lock to be taken (a number >= 0), and not {fence!r}")
    return fence or 0


def _refused(fence: int | None) -> None:
    _demand(fence is None, f"the lock to be refused (None), and not {fence!r}")


def _says(claim: Claim, expected: Claim) -> None:
    _demand(claim is expected, f"{expected}, and not {claim}")
