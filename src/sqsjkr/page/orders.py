"""What can be ordered from the page. Orders are written as ``sqsjkr cancel``, ``locks``, ``fleet`` and ``dead`` do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sqsjkr.leases.live import Notice
from sqsjkr.leases.table import Table
from sqsjkr.page.desk import Desk
from sqsjkr.page.following import Following, Said
from sqsjkr.views.cancelling import Canceller, Step
from sqsjkr.views.source import LockRow, Orders

LOOK_EVERY = 0.5
"""Seconds between two looks at what was ordered."""


class BadForm(Exception):
    """A form lacks what an order needs: it did not come from this page."""


class Pens(Protocol):
    """What orders are written with."""

    @property
    def orders(self) -> Orders:
        """Where orders are written."""

    @property
    def lock_orders(self) -> Orders:
        """Where a lock is freed."""

    @property
    def rows(self) -> Table:
        """The claims, to be cancelled; open."""


@dataclass(frozen=True, slots=True)
class Form:
    """What a form sent."""

    fields: Mapping[str, Sequence[str]]

    def one(self, name: str, *, needed: bool = True) -> str:
        """Return a field's value; "" if it may be left out. Raises ``BadForm``."""
        value = next(iter(self.fields.get(name, ())), "").strip()
        if needed and not value:
            raise BadForm(f"{name}: nothing was given")
        return value

    def all(self, name: str) -> list[str]:
        """Return every value of a field, at least one. Raises ``BadForm``."""
        if values := [value for value in self.fields.get(name, ()) if value]:
            return values
        raise BadForm("nothing is marked")


@dataclass(frozen=True, slots=True)
class Office:
    """Where orders are given."""

    desk: Desk
    pens: Pens
    following: Following


async def cancel(office: Office, form: Form) -> Said:
    """End a job, or keep it from starting. One that runs ends within seconds, which is followed."""
    message_id, requeue = form.one("id"), form.one("then", needed=False) == "requeue"
    pens, viewer = office.pens, office.desk.viewer
    targets = await viewer.targets(message_id=message_id)
    if not targets:
        return Said(f"{message_id}: there is no such job.", "bad")
    by = await pens.orders.whoami()
    canceller = Canceller(viewer.source, pens.rows, pens.orders, viewer.fleet, by=by, requeue=requeue)
    step = await canceller.order(targets[0])
    if step.over:
        return _of(step)
    what = f"message {message_id}"
    office.following.note(what, Said(f"Ordered: {await canceller.waits_for(step)}.", "warn"))
    office.following.follow(what, _until_over(canceller, step))
    return Said("The order is given. The worker sees it with its next heartbeat, within 6 seconds.", "warn")


async def free_lock(office: Office, form: Form) -> Said:
    """Free a lock that is held as it was shown; one with an owner, once its worker is seen to be dead."""
    lock_id, owner, event_id = form.one("lock"), form.one("owner", needed=False), form.one("event", needed=False)
    viewer, orders = office.desk.viewer, office.pens.lock_orders
    row = (await viewer.lock_rows([lock_id])).get(lock_id)
    if row is None or not row.held or (row.owner or "") != owner or row.holder.event_id != event_id:
        return Said(f"{lock_id} has changed meanwhile: look again.", "bad")
    if row.owner is None:
        return await _free(orders, row)
    what = f"lock {lock_id}"
    office.following.note(what, Said("Watching the heartbeat of the worker that holds it.", "warn"))
    office.following.follow(what, _free_if_dead(office, row))
    return Said("Its worker is being watched: if its heartbeat stands still for a lease, the lock is freed.", "warn")


async def pause(office: Office, form: Form) -> Said:
    """Let no worker take new jobs."""
    orders, fleet = office.pens.orders, office.desk.viewer.fleet
    await orders.pause(fleet, await _notice(office, form))
    return Said("Paused: no worker takes new jobs within 20 seconds. Running ones go on.")


async def resume(office: Office, form: Form) -> Said:
    """Let workers take new jobs again: all of them, or those that start on a host that was drained."""
    orders, fleet, host = office.pens.orders, office.desk.viewer.fleet, form.one("host", needed=False)
    if not host:
        await orders.pause(fleet, None)
        return Said("Resumed: workers take new jobs within 20 seconds.")
    if await orders.undrain(fleet, host):
        return Said(f"Workers that start on {host} take jobs again.")
    return Said(f"{host} is not drained.", "bad")


async def drain(office: Office, form: Form) -> Said:
    """Stop the workers on a host."""
    host = form.one("host")
    await office.pens.orders.drain(office.desk.viewer.fleet, host, await _notice(office, form))
    return Said(f"The workers on {host} stop within 20 seconds, as at a signal.")


async def call(office: Office, form: Form) -> Said:  # noqa: ARG001 - an order's arguments
    """Ask every worker whether it is there."""
    await office.pens.orders.call(office.desk.viewer.fleet)
    return Said("The roll is called. A worker that has not answered in half a minute is shown as lost.")


async def redrive(office: Office, form: Form) -> Said:
    """Send dead letters back to the job queue."""
    ids = form.all("id")
    async with office.desk.letters() as look:
        found = {letter.id: letter for letter in (await look.find(ids)).values()}
        answers = await look.redrive(list(found.values()))
    return _counted(ids, answers, "sent back")


async def drop(office: Office, form: Form) -> Said:
    """Remove dead letters for good."""
    ids = form.all("id")
    async with office.desk.letters() as look:
        found = {letter.id: letter for letter in (await look.find(ids)).values()}
        answers = await look.drop(list(found.values()))
    return _counted(ids, answers, "dropped")


Order = Callable[[Office, Form], Awaitable[Said]]
ORDERS: Mapping[str, Order] = {
    "/cancel": cancel,
    "/locks/free": free_lock,
    "/fleet/pause": pause,
    "/fleet/resume": resume,
    "/fleet/drain": drain,
    "/fleet/call": call,
    "/dead/redrive": redrive,
    "/dead/drop": drop,
}
"""By the path that a form is posted to."""


async def _until_over(canceller: Canceller, step: Step) -> Said:
    while not step.over:
        await asyncio.sleep(LOOK_EVERY)
        step = await canceller.look(step)
    return _of(step)


def _of(step: Step) -> Said:
    return Said(f"The job {step.text}." if step.done else f"{step.text.capitalize()}.", "good" if step.done else "bad")


async def _free_if_dead(office: Office, row: LockRow) -> Said:
    if not await office.desk.viewer.is_dead(row):
        return Said("Not freed: its worker lives. To end the job that holds it, cancel that.", "bad")
    return await _free(office.pens.lock_orders, row)


async def _free(orders: Orders, row: LockRow) -> Said:
    if await orders.free_lock(row):
        return Said(f"{row.lock_id} is free.")
    return Said(f"{row.lock_id} has changed meanwhile: look again.", "bad")


async def _notice(office: Office, form: Form) -> Notice:
    why = " ".join(form.one("why", needed=False).split())[:120]
    return Notice(by=await office.pens.orders.whoami(), at=office.desk.viewer.source.now(), why=why)


def _counted(ids: Sequence[str], answers: Sequence[object], what: str) -> Said:
    failures = [answer for answer in answers if isinstance(answer, Exception)]
    done, gone = len(answers) - len(failures), len(ids) - len(answers)
    words = [f"{done} {what}"] if done or not (failures or gone) else []
    if gone:
        words.append(f"{gone} not there any more, or hidden by another look for up to 30 seconds")
    if failures:
        words.append(f"{len(failures)} refused: {failures[0]}")
    return Said(f"{'; '.join(words)}.", "good" if done == len(ids) else "bad")
