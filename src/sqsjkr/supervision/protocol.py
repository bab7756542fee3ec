"""What worker and launcher send each other: requests one way, reports the other, over two connected sockets.

A datagram arrives whole or not at all (unix(7), SOCK_SEQPACKET), and no call blocks. Both ends are processes of one
daemon, forked from the same parent, so what arrives is trusted.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

# The launcher keeps in memory what is imported here.

_HEADER = struct.Struct("=IIIB??")
_REPORT = struct.Struct("=BIidq")
_INLINE = 4_096
"""Bytes of strings that travel in the datagram itself. The socket's buffer limits that, and exec takes far more: longer
ones travel in a file in memory (memfd_create(2)), of which the descriptor is sent."""
_MOST_DESCRIPTORS = 3
_MOST_REPORTS = 128

STARTED = 1
"""The process runs; ``number`` is its pid."""
FAILED = 2
"""Nothing was started; ``number`` is the errno that says why: ECANCELED if the start was revoked."""
ENDED = 3
"""The process has ended; ``number`` is its wait status (wait4(2))."""


class Request(NamedTuple):
    """A command that the launcher is to start. Without ``argv``: a base, to be kept for the commands that name it.

    The descriptors belong to whoever holds the request.
    """

    slot: int
    """The attempt's slot in the memory that both share; reports name the attempt by it."""
    program: bytes
    """The file to execute."""
    argv: Sequence[bytes]
    base: int
    """The environment that is inherited."""
    variables: Mapping[bytes, bytes]
    """Those of the base; or what the command gets on top of its own."""
    stdin: int = -1
    """Becomes the standard input; -1 is /dev/null."""
    stdout: int = -1
    """Becomes standard output and error; -1 in a request that arrived without all its descriptors."""


class Report(NamedTuple):
    """What became of a request."""

    news: int
    """``STARTED``, ``FAILED`` or ``ENDED``."""
    slot: int
    number: int
    cpu: float = 0.0
    """Seconds, user and system."""
    max_rss: int = 0
    """Bytes."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Return both ends of a new line."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setblocking(False)
    return ends


def send(line: socket.socket, request: Request) -> None:
    """Send a request and its descriptors, which stay open at this end.

    Raises:
        ValueError: a string holds a NUL, so no process can be given it.
        OSError: it was not sent. EAGAIN, ENOBUFS or ETOOMANYREFS: the other end has not read enough yet; EMFILE, ENFILE
            or ENOMEM: no file could be made for a long one; EPIPE or ECONNRESET: there is no other end any more.
    """
    words = [request.program, *request.argv]
    for variable in request.variables.items():
        words += variable
    strings = b"\0".join(words)
    if strings.count(b"\0") != len(words) - 1:
        raise ValueError("embedded null byte")
    descriptors = [number for number in (request.stdin, request.stdout) if number >= 0]
    is_long = len(strings) > _INLINE
    header = _HEADER.pack(request.slot, len(request.argv), len(strings), request.base, is_long, request.stdin >= 0)
    if not is_long:
        _send_with(line, header + strings, descriptors)
        return
    file = os.memfd_create("request")
    try:
        written = 0
        while written < len(strings):
            written += os.write(file, strings[written:])
        _send_with(line, header, [*descriptors, file])
    finally:
        os.close(file)


def receive(line: socket.socket) -> Request | None:
    """Return the next request; None if the other end is closed. Its descriptors are not inherited by other processes.

    Raises ``BlockingIOError`` if there is none yet, ``OSError`` if a base could not be taken.
    """
    room = socket.CMSG_SPACE(_MOST_DESCRIPTORS * struct.calcsize("=i"))
    try:
        datagram, ancillary, _, _ = line.recvmsg(_HEADER.size + _INLINE, room, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:  # closed with reports unread: what it still asked for is not wanted any more
        return None
    if not datagram:
        return None
    descriptors = [number for _, _, data in ancillary for (number,) in struct.iter_unpack("=i", data)]
    slot, argc, size, base, is_long, is_fed = _HEADER.unpack_from(datagram)
    if len(descriptors) < is_long + is_fed + bool(argc):  # this process had none left for them
        for number in descriptors:
            os.close(number)
        if not argc:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return Request(slot, b"", [b""], base, {})
    try:
        strings = _content(descriptors[-1], size) if is_long else datagram[_HEADER.size :]
    finally:
        if is_long:
            os.close(descriptors.pop())
    program, *words = strings.split(b"\0")
    variables = dict(zip(words[argc::2], words[argc + 1 :: 2], strict=True))
    stdin, stdout = ([-1] * 2 + descriptors)[-2:]
    return Request(slot, program, words[:argc], base, variables, stdin, stdout)


def send_reports(line: socket.socket, reports: Sequence[Report]) -> int:
    """Send the first of these; return how many. Raises ``BlockingIOError`` while the other end reads nothing."""
    first = reports[:_MOST_REPORTS]
    line.send(b"".join(_REPORT.pack(*report) for report in first))
    return len(first)


def receive_reports(line: socket.socket) -> list[Report] | None:
    """Return the next reports in their order; None if the other end is closed.

    Raises ``BlockingIOError`` if there are none yet.
    """
    size = _MOST_REPORTS * _REPORT.size
    try:
        datagram = line.recv(size)
    except ConnectionResetError:  # closed with requests unread, which the kernel says first; reports may follow
        datagram = line.recv(size)
    return [Report(*fields) for fields in _REPORT.iter_unpack(datagram)] if datagram else None


def _send_with(line: socket.socket, datagram: bytes, descriptors: Sequence[int]) -> None:
    rights = struct.pack(f"={len(descriptors)}i", *descriptors)
    line.sendmsg([datagram], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if descriptors else [])


def _content(file: int, size: int) -> bytes:
    content = b""
    while len(content) < size:
        content += os.pread(file, size - len(content), len(content))
    return content
