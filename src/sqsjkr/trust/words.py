"""Words of a command line: with arguments to fill in, and out of a shell command that needs no shell."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

_TOKEN = re.compile(r"\{\{|\}\}|\{([A-Za-z_][A-Za-z0-9_]*)\}")
_UNQUOTED = r"[^'\"\\$`;&|<>()*?\[\]{}#~\x00-\x1f\x7f]|(?<=[^ ])[#~]"
_NEEDS_NO_SHELL = re.compile(rf"""(?:{_UNQUOTED}|'[^'\x00-\x1f]*'|"(?:[^"\\$`\x00-\x1f]|\\["\\])*"|\\[^\x00-\x1f])*""")
"""A command in which the shell would split words and take quotes away, and do nothing else: no variable, pattern,
redirection, comment, second command."""
_ASSIGNMENT = re.compile("[A-Za-z_][A-Za-z0-9_]*=")


@dataclass(frozen=True, slots=True)
class Word:
    """A word with arguments to fill in: ``--index={index}``. ``{{`` and ``}}`` stand for braces."""

    pieces: tuple[str, ...]
    """Literal text and names of arguments by turns. The first and the last piece are text."""

    @classmethod
    def parse(cls, text: str) -> Word:
        """Read the text; braces that enclose no name are braces."""
        pieces, start = [""], 0
        for token in _TOKEN.finditer(text):
            pieces[-1] += text[start : token.start()]
            start = token.end()
            if token[1]:
                pieces += [token[1], ""]
            else:
                pieces[-1] += token[0][0]
        pieces[-1] += text[start:]
        return cls(tuple(pieces))

    @property
    def names(self) -> tuple[str, ...]:
        """The arguments in it."""
        return self.pieces[1::2]

    @property
    def literal_start(self) -> str:
        """What stands before the first argument."""
        return self.pieces[0]

    def filled(self, values: Mapping[str, str]) -> str:
        """Return the word. What a value holds is never looked at again."""
        pieces = self.pieces
        if len(pieces) == 1:
            return pieces[0]
        return "".join(values[piece] if number % 2 else piece for number, piece in enumerate(pieces))


def split(command: str) -> tuple[tuple[str, ...], str]:
    """Split a shell command into words as ``sh`` would, and say what only a shell could do with it ("" if nothing)."""
    if not _NEEDS_NO_SHELL.fullmatch(command):
        return (), "the command has quotes, signs or line ends that only a shell understands"
    if "'" in command or '"' in command or "\\" in command:
        words = shlex.split(command)
    else:
        words = [word for word in command.split(" ") if word]
    if not words:
        return (), "the command is empty"
    if _ASSIGNMENT.match(words[0]):
        return (), "the command begins with an assignment"
    return tuple(words), ""


def displayed(words: tuple[str, ...]) -> str:
    """Return a command line that means the same to a shell: for people to read."""
    return shlex.join(words)
