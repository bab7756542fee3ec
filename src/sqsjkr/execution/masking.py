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


def _pieces(values: Iterable[str]) -> list[str]:
    """Every line of the values that is long enough."""
    return [line for value in values for line in value.splitlines() if len(line) >= SHORTEST]
