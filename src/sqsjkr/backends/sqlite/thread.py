"""The thread that works on a file of SQLite, so that a slow disk never stops the event loop.

What is asked for while a transaction runs shares the next one: the more there is to do, the fewer commits it takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any

MOST_AT_ONCE = 100
"""Pieces of work that share a transaction at most: other processes wait for its end."""

Work = Callable[[sqlite3.Connection], Any]


class _Piece:
    """A piece of work, and what came of it."""

    __slots__ = ("answer", "failure", "loop", "result", "work", "writes")

    def __init__(self, work: Work | None, *, writes: bool = False) -> None:
        self.work = work
        self.writes = writes
        self.loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[Any] = self.loop.create_future()
        self.result: Any = None
        self.failure: Exception | None = None

    def do(self, connection: sqlite3.Connection) -> None:
        """Do it. Raises what it raises."""
        if self.work is None or self.answer.cancelled():
            return
        self.result = self.work(connection)
        if isinstance(self.result, sqlite3.Cursor):  # to be freed here: elsewhere it would reset a statement in use
            self.result.close()
            self.result = None

    def do_alone(self, connection: sqlite3.Connection) -> None:
        """Do it, outside a transaction."""
        try:
            self.do(connection)
        except Exception as failure:  # noqa: BLE001 - handed to the caller
            self.failure = failure

    def tell(self) -> None:
        """Give its caller the answer, in the event loop."""
        if self.answer.done():  # its caller was cancelled meanwhile
            return
        if self.failure is not None:
            self.answer.set_exception(self.failure)
        else:
            self.answer.set_result(self.result)


class StoreThread:
    """A thread with a connection. ``connect`` makes it, in the thread."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._pieces: SimpleQueue[_Piece] = SimpleQueue()
        self.is_open = False

    async def open(self) -> None:
        """Start it. Raises what ``connect`` raises."""
        opening = _Piece(None)
        threading.Thread(target=self._live, args=(opening,), name="sqlite", daemon=True).start()
        await opening.answer
        self.is_open = True

    async def close(self) -> None:
        """Finish what is asked for, then close the connection and end the thread."""
        if self.is_open:
            self.is_open = False
            await self._ask(_Piece(None))

    async def read(self, work: Work) -> Any:
        """Run ``work`` outside a transaction; return what it returns, or raise what it raises."""
        return await self._ask(_Piece(work))

    async def write(self, work: Work) -> Any:
        """Run ``work`` in a transaction, with what else is to be written then.

        If another piece of work fails, this one is run again, by itself.
        """
        return await self._ask(_Piece(work, writes=True))

    async def _ask(self, piece: _Piece) -> Any:
        self._pieces.put(piece)
        return await piece.answer

    def _live(self, opening: _Piece) -> None:
        try:
            connection = self._connect()
        except Exception as failure:  # noqa: BLE001 - handed to the caller
            opening.failure = failure
            _answer([opening])
            return
        _answer([opening])
        while True:
            pieces = self._waiting()
            for piece in pieces:
                if not piece.writes:
                    piece.do_alone(connection)
            if writes := [piece for piece in pieces if piece.writes]:
                _together(connection, writes)
            if pieces[-1].work is None:  # the last one
                connection.close()
            _answer(pieces)
            if pieces[-1].work is None:
                return

    def _waiting(self) -> list[_Piece]:
        """Wait for a piece; return all that are there then, but none that comes after the last one."""
        pieces = [self._pieces.get()]
        with contextlib.suppress(Empty):
            while pieces[-1].work is not None and len(pieces) < MOST_AT_ONCE:
                pieces.append(self._pieces.get_nowait())
        return pieces


def _together(connection: sqlite3.Connection, pieces: Sequence[_Piece]) -> None:
    """Run the pieces in one transaction; if one of them fails, each in its own."""
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.Error as failure:  # another process has the file for too long: no piece is to blame
        for piece in pieces:
            piece.failure = failure
        return
    try:
        for piece in pieces:
            piece.do(connection)
        connection.execute("COMMIT")
    except Exception as failure:  # noqa: BLE001 - handed to the caller
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if len(pieces) == 1:
            pieces[0].failure = failure
            return
        for piece in pieces:
            _together(connection, [piece])


def _answer(pieces: Sequence[_Piece]) -> None:
    for loop in {piece.loop for piece in pieces}:
        with contextlib.suppress(RuntimeError):  # it is closed: nobody waits any more
            loop.call_soon_threadsafe(_tell, [piece for piece in pieces if piece.loop is loop])


def _tell(pieces: Sequence[_Piece]) -> None:
    for piece in pieces:
        piece.tell()
