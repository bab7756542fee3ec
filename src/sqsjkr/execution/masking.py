"""Values that must not leave the worker in a job's output or command: they are replaced before it is passed on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

MASKED = "***"
SHORTEST = 6
"""Characters of the shortest value that is hidden: shorter ones stand in every text."""
_NAME_OF_A_SECRET = re.compile(r"(_KEY|_TOKEN|_SECRET|PASSWORD)$", re.IGNORECASE)


class Mask:
    """Hides the daemon's own secrets, by the names of their variables, and every variable of a job.

    It protects against accidents, not against the job: who wants to print a secret encodes it.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._own = [value for name, value in environment.items() if _NAME_OF_A_SECRET.search(name)]

    def hide(self, text: str, *variables: Mapping[str, str]) -> str:
        """Return ``text`` with the values of these variables and of the daemon's own secrets replaced."""
        values = [*self._own, *(value for each in variables for value in each.values())]
        for value in sorted(set(_pieces(values)), key=len, reverse=True):  # a value may be a part of another one
            text = text.replace(value, MASKED)
        return text


class Veil:
    """Hides values in a stream of bytes, wherever its pieces begin and end. What may become a value is held back."""

    def __init__(self, values: Iterable[str]) -> None:
        self._values = sorted({piece.encode() for piece in _pieces(values)}, key=len, reverse=True)
        self._any = re.compile(b"|".join(map(re.escape, self._values)) or b"(?!)")
        self._held = b""

    def pass_on(self, piece: bytes) -> bytes:
        """Return what can be shown by now."""
        text = self._held + piece
        end = self._end(text)
        self._held = text[end:]
        return self._any.sub(MASKED.encode(), text[:end])

    def rest(self) -> bytes:
        """Return what was held back: the stream has ended, or pauses for long."""
        rest, self._held = self._held, b""
        return self._any.sub(MASKED.encode(), rest)

    def _end(self, text: bytes) -> int:
        """Return up to where no value can be under way any more."""
        end = len(text)
        for value in self._values:
            start = text.find(value[:1], max(0, len(text) - len(value) + 1))
            while 0 <= start < end:
                if value.startswith(text[start:]):
                    end = start
                else:
                    start = text.find(value[:1], start + 1)
        for found in self._any.finditer(text):  # it may be the beginning of a longer one
            if found.start() < end < found.end():
                end = found.start()
        return end


def _pieces(values: Iterable[str]) -> list[str]:
    """Every line of the values that is long enough."""
    return [line for value in values for line in value.splitlines() if len(line) >= SHORTEST]
