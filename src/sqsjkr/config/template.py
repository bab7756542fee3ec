"""A configuration file before it is TOML: the part of Go's text/template that kayac/go-config files use.

The original reads its file as a template first and as TOML second (go-semantics section 3), so ``{{`` is a template
everywhere: in a string, between keys, in a TOML comment.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sqsjkr.errors import ConfigError

_SUPPORTED = (
    'not known here; supported: {{ env "NAME" "default" }}, {{ must_env "NAME" }}, {{ ... | json_escape }}, '
    "{{/* comment */}}"
)

_COMMENT = re.compile(r"\{\{(?P<left>-\s+)?/\*.*?\*/(?P<right>\s+-)?\}\}", re.DOTALL | re.ASCII)
_TRIMS_LEFT = re.compile(r"\{\{-(?=\s)", re.ASCII)
_UP_TO_NEWLINE = re.compile(r"[^\n]*\n|[^\n]+")
_TOKEN = re.compile(
    r"""(?P<end>(?P<right>\s+-)?\}\}) | (?P<space>\s+) | (?P<pipe>\|) | (?P<word>[^\W\d]\w*)
      | (?P<string>"(?:\\[^\n]|[^"\\\n])*") | (?P<raw>`[^`]*`)""",
    re.VERBOSE | re.ASCII,
)
_GO_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|([0-7]{3})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.?))", re.DOTALL)
_ONE_LETTER = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, '"': 34}
# Go's json.Marshal escapes these as well, so that JSON may stand in HTML and in JavaScript.
_GO_JSON = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


def render(text: str, env: Mapping[str, str], where: str) -> str:
    """The text with its templates filled in from ``env``; text without ``{{`` comes back as it is.

    ``{{ env `A` `B` `default` }}`` is the first variable among the names that is not empty, else the last argument
    itself. ``{{ must_env `A` }}`` is the variable, which must be set but may be empty. Either may be followed by
    ``| json_escape``. ``{{-`` and ``-}}`` eat the white space beside them. Source: go-semantics section 3.

    Raises:
        ConfigError: anything else stands in ``{{ }}``, or a ``must_env`` variable is not set. One line, which begins
            with ``where`` and the line number.
    """
    return expand(text, env, where).text


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A rendered file that still knows where its lines came from."""

    text: str
    """The TOML text."""
    lines: tuple[int, ...]
    """For each line of ``text``, the number of the line in the file where it begins."""

    def line(self, number: int) -> int:
        """The line of the file that line ``number`` of the text came from; both count from 1."""
        return self.lines[min(number, len(self.lines)) - 1]


def expand(text: str, env: Mapping[str, str], where: str) -> Rendered:
    """As ``render``, with the line numbers of the file.

    A variable's value with newlines in it moves everything below, a trimmed newline moves it up: an error must
    nevertheless name the line that the operator sees in an editor.
    """
    pieces: list[_Piece] = []
    position, trim = 0, False
    while (start := text.find("{{", position)) >= 0:
        action = _action(text, start, env, where)
        pieces.append(_literal(text, position, start, left=trim, right=action.trims_left))
        pieces.append(_Piece(text=action.value, line=_line_of(text, start), step=0))
        position, trim = action.end, action.trims_right
    pieces.append(_literal(text, position, len(text), left=trim, right=False))
    return Rendered(text="".join(piece.text for piece in pieces), lines=tuple(_lines(pieces)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """A run of text out of one place: of the file itself (step 1 line a line), or a value (all on one line)."""

    text: str
    line: int
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Action:
    """What one ``{{ }}`` came to."""

    value: str
    end: int
    trims_left: bool
    trims_right: bool


def _line_of(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _literal(text: str, start: int, end: int, *, left: bool, right: bool) -> _Piece:
    piece = text[start:end]
    if left:
        piece = piece.lstrip(" \t\r\n")
        start = end - len(piece)
    if right:
        piece = piece.rstrip(" \t\r\n")
    return _Piece(text=piece, line=_line_of(text, start), step=1)


def _lines(pieces: list[_Piece]) -> Iterator[int]:
    begins, last = True, 0
    for piece in pieces:
        for offset, part in enumerate(_UP_TO_NEWLINE.findall(piece.text)):
            last = piece.line + offset * piece.step
            if begins:
                yield last
            begins = part.endswith("\n")
    if begins:
        yield last + 1


def _action(text: str, start: int, env: Mapping[str, str], where: str) -> _Action:
    if comment := _COMMENT.match(text, start):
        left, right = (comment[side] is not None for side in ("left", "right"))
        return _Action(value="", end=comment.end(), trims_left=left, trims_right=right)
    tokens = list(_tokens(text, start))
    end = tokens.pop() if tokens and tokens[-1].lastgroup == "end" else None
    try:
        value = _pipeline(tokens if end else [], env)
    except ValueError as problem:
        shown = _shortened(text[start : end.end() if end else _guessed_end(text, start)])
        raise ConfigError(f"{where}:{_line_of(text, start)}: {shown}: {problem}") from None
    return _Action(
        value=value,
        end=end.end() if end else start,
        trims_left=_TRIMS_LEFT.match(text, start) is not None,
        trims_right=end is not None and end["right"] is not None,
    )


def _tokens(text: str, start: int) -> Iterator[re.Match[str]]:
    """The tokens of one action, up to its ``}}`` or to what is no token; white space is left out."""
    position = start + len("{{-" if _TRIMS_LEFT.match(text, start) else "{{")
    while token := _TOKEN.match(text, position):
        if token.lastgroup != "space":
            yield token
        if token.lastgroup == "end":
            return
        position = token.end()


def _pipeline(tokens: list[re.Match[str]], env: Mapping[str, str]) -> str:
    """The value of ``a | b | c``: what a command comes to is the last argument of the next."""
    commands: list[list[re.Match[str]]] = [[]]
    for token in tokens:
        if token.lastgroup == "pipe":
            commands.append([])
        else:
            commands[-1].append(token)
    piped: list[str] = []
    for command in commands:
        piped = [_command(command, piped, env)]
    return piped[0]


def _command(command: list[re.Match[str]], piped: list[str], env: Mapping[str, str]) -> str:
    if not command or any(token.lastgroup == "word" for token in command[1:]):
        raise ValueError(_SUPPORTED)
    first, *rest = command
    arguments = [_string(token) for token in rest] + piped
    if first.lastgroup != "word":
        if arguments:
            raise ValueError(f"a string takes no arguments; {_SUPPORTED}")
        return _string(first)
    match first[0], arguments:
        case "env", [*_, default]:
            return next((found for name in arguments if (found := _variable(name, env))), default)
        case "must_env", [name]:
            if name not in env:
                raise ValueError(f"the environment variable {name} is not set")
            return _variable(name, env)
        case "json_escape", [value]:
            return json.dumps(value, ensure_ascii=False)[1:-1].translate(_GO_JSON)
    raise ValueError(_SUPPORTED)


def _variable(name: str, env: Mapping[str, str]) -> str:
    value = env.get(name, "")
    try:
        value.encode()
    except UnicodeEncodeError:  # Python keeps such bytes of the environment as lone surrogates
        raise ValueError(f"the environment variable {name} is not UTF-8") from None
    return value


def _string(token: re.Match[str]) -> str:
    """The value of a Go string. Its escapes make bytes, so several of them may be one character in UTF-8."""
    if token.lastgroup == "raw":
        return token[0][1:-1].replace("\r", "")
    parts: list[bytes] = []
    position = 1
    for escape in _GO_ESCAPE.finditer(token[0]):
        parts += [token[0][position : escape.start()].encode(), _unescaped(escape)]
        position = escape.end()
    parts.append(token[0][position:-1].encode())
    try:
        return b"".join(parts).decode()
    except UnicodeDecodeError:
        raise ValueError("the escapes in this string do not make UTF-8") from None


def _unescaped(escape: re.Match[str]) -> bytes:
    hexadecimal, octal, short, long, letter = escape.groups()
    try:
        if hexadecimal or octal:
            return bytes([int(hexadecimal, 16) if hexadecimal else int(octal, 8)])
        if short or long:
            return chr(int(short or long, 16)).encode()
        return bytes([_ONE_LETTER[letter]])
    except (ValueError, OverflowError, KeyError):
        raise ValueError(f"{escape[0]} is no escape of a Go string; backslashes need none between backquotes") from None


def _guessed_end(text: str, start: int) -> int:
    """Where an action that cannot be read may end: at its ``}}`` or, without one, with its line."""
    line_end = text.find("\n", start)
    line_end = len(text) if line_end < 0 else line_end
    close = text.find("}}", start, line_end)
    return line_end if close < 0 else close + 2


def _shortened(text: str, most: int = 60) -> str:
    """The text on one line of bounded length."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 3] + "..."
