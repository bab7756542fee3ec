"""The dead letters of the embedded store: rows of a table, so a look hides nothing."""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Sequence

from sqsjkr.backends import Connections
from sqsjkr.backends.sqlite.queue import user_name
from sqsjkr.backends.sqlite.store import Store
from sqsjkr.errors import BackendUnavailable
from sqsjkr.views.dead_letters import PAGE, DeadLetters, Letter


class SQLiteDeadLetters(DeadLetters):
    """The dead letters of one store, oldest first."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._after = (0.0, "")

    @classmethod
    def configured(cls, connections: Connections) -> SQLiteDeadLetters:
        """Return the dead letters in the store of the settings, which must be there."""
        return cls(connections.once(Store, connections.settings.local, create=False))

    async def open(self) -> None:
        """Open the file."""
        await self._store.open()

    async def close(self) -> None:
        """Close the file."""
        await self._store.close()

    def now(self) -> float:
        """This host's wall clock, as for all of the store."""
        return time.time()

    async def receive(self) -> list[Letter]:
        """Read the next page."""
        look = (
            "SELECT id, body, sent, died, reason, sender, receives, failures, output "
            "FROM dead_letter LEFT JOIN dead_letter_origin USING (id) "
            "WHERE (died, id) > (?, ?) ORDER BY died, id LIMIT ?"
        )
        rows = await self._store.read(lambda db: db.execute(look, (*self._after, PAGE)).fetchall())
        if rows:
            self._after = rows[-1][3], rows[-1][0]
        return [
            Letter(
                id=name,
                body=body,
                message_id=name,
                reason=reason,
                sent_at=sent,
                died_at=died,
                sender=sender or None,
                receive_count=receives,
                failures=failures,
                output=output or None,
            )
            for name, body, sent, died, reason, sender, receives, failures, output in rows
        ]

    async def release(self, letters: Sequence[Letter]) -> None:
        """Nothing is hidden."""

    async def redrive(self, letters: Sequence[Letter]) -> list[str | Exception]:
        """Move each from one table to the other, all in one transaction."""
        now, sender = time.time(), user_name()
        put = (
            "INSERT INTO message (id, body, sent, visible, sender, attributes) SELECT ?, body, ?, ?, ?, attributes "
            "FROM dead_letter LEFT JOIN dead_letter_origin USING (id) WHERE id = ?"
        )

        def move(db: sqlite3.Connection) -> list[str | Exception]:
            answers: list[str | Exception] = []
            for letter in letters:
                new = str(uuid.uuid4())
                moved = db.execute(put, (new, now, now, sender, letter.id)).rowcount == 1
                _remove(db, letter)
                answers.append(new if moved else _gone(letter))
            return answers

        return await self._store.write(move)

    async def drop(self, letters: Sequence[Letter]) -> list[Exception | None]:
        """Delete all in one transaction."""

        def remove(db: sqlite3.Connection) -> list[Exception | None]:
            return [None if _remove(db, letter) else _gone(letter) for letter in letters]

        return await self._store.write(remove)


def _remove(db: sqlite3.Connection, letter: Letter) -> bool:
    db.execute("DELETE FROM dead_letter_origin WHERE id = ?", (letter.id,))
    return db.execute("DELETE FROM dead_letter WHERE id = ?", (letter.id,)).rowcount == 1


def _gone(letter: Letter) -> Exception:
    return BackendUnavailable(f"{letter.id} is gone: somebody else removed it meanwhile")
