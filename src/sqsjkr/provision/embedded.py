"""What ``sqsjkr check`` finds in an embedded store. Nothing is created or received."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from sqsjkr.backends.sqlite.queue import SQLiteQueue
from sqsjkr.backends.sqlite.store import Store
from sqsjkr.errors import BackendUnavailable
from sqsjkr.provision.finding import Finding, Level

LITTLE_SPACE = 256 * 1024 * 1024
"""Bytes: less than this free for the store is worth a warning."""


async def store(directory: str) -> AsyncIterator[Finding]:
    """The disk, the file, and what lies in it."""
    opened = Store(directory)
    place = _nearest_that_exists(opened.path.parent)
    if not place.is_dir():
        yield Finding(Level.FAIL, "store", f"{place} is not a directory", "name another with --local")
        return
    if not os.access(place, os.W_OK | os.X_OK):
        found = f"user id {os.geteuid()} may not write to the directory {place}"
        yield Finding(Level.FAIL, "store", found, "allow it, or name another directory with --local")
        return
    free = shutil.disk_usage(place).free
    found = f"{free / 2**20:,.0f} MiB free for {opened.path}"
    if free < LITTLE_SPACE:
        yield Finding(Level.WARN, "disk", found, "free some space: on a full disk no new job starts")
    else:
        yield Finding(Level.OK, "disk", found)
    if not opened.path.exists():
        yield Finding(Level.OK, "store", f"{opened.path} does not exist yet; the first send or run creates it")
        return
    if not os.access(opened.path, os.R_OK | os.W_OK):
        found = f"user id {os.geteuid()} may not read and write {opened.path}"
        yield Finding(Level.FAIL, "store", found, "change the file's owner or mode, or run as its owner")
        return
    async for finding in _content(opened):
        yield finding


async def _content(opened: Store) -> AsyncIterator[Finding]:
    try:
        await opened.open()
        visible, hidden, dead = await SQLiteQueue(opened).depth()
    except BackendUnavailable as why:
        advice = "if it is not a store, or damaged, move it away or restore it from a backup"
        yield Finding(Level.FAIL, "store", str(why), advice)
        return
    finally:
        await opened.close()
    yield Finding(Level.OK, "store", str(opened.path))
    yield Finding(Level.OK, "messages", f"{visible} waiting, {hidden} in flight or delayed")
    if dead:
        advice = f"sqsjkr dead --local {opened.path.parent}"
        yield Finding(Level.WARN, "dead letters", f"{dead} in the store", advice)
    else:
        yield Finding(Level.OK, "dead letters", "none in the store")


def _nearest_that_exists(path: Path) -> Path:
    """The path itself, or the nearest one above it that exists."""
    return path if path.exists() or path == path.parent else _nearest_that_exists(path.parent)
