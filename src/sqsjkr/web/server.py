"""The HTTP server for stats and health, on TCP or a Unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import html
import logging
import os
import posixpath
import socket
import stat
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import quote, unquote

from aiohttp import HttpVersion11, hdrs

# Not aiohttp.web, which brings routing, files and WebSockets along: a megabyte more in every worker.
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response, StreamResponse
from aiohttp.web_server import Server

from sqsjkr.errors import BindError
from sqsjkr.metrics.board import Board
from sqsjkr.telemetry.events import Event, emit
from sqsjkr.telemetry.stats import Stats
from sqsjkr.web.front import Front

MOST_CONNECTIONS = 100
"""Open at once at most; beyond it the oldest is closed, so that idle clients can't keep a health check out."""
IDLE = 30.0
"""Seconds that a connection may take to send a request, the first one and each further one."""
HALF_CLOSED = 1.0
"""Seconds that a client which sends no more may wait for its answer."""

_PLAIN: dict[str, str] = {hdrs.CONTENT_TYPE: "text/plain; charset=utf-8"}
_JSON: dict[str, str] = {hdrs.CONTENT_TYPE: "application/json"}


class StatsServer:
    """Answers ``/stats/metrics`` and ``/stats/metrics/v2`` as the original does, and our own pages beside them.

    ``socket_path`` makes it a Unix socket; without one it is TCP on ``host`` (a name, or an IPv4 or IPv6 address) and
    ``port``. Nothing a client does stops it.
    """

    def __init__(
        self,
        stats: Stats,
        front: Front,
        *,
        host: str,
        port: int,
        socket_path: str | None = None,
        idle: float = IDLE,
    ) -> None:
        self._pages: dict[str, Callable[[BaseRequest], Response]] = {
            "/stats/metrics": lambda _: _Response(body=stats.metrics(), headers=_JSON),
            "/stats/metrics/v2": lambda _: _Response(body=stats.metrics_v2(), headers=_JSON),
            "/healthz": lambda _: _probe(front.unhealthy_reason),
            "/livez": lambda _: _probe(front.stuck_reason),
            "/metrics": lambda request: _metrics(front.board, request),
        }
        self._host = host
        self._port = port
        self._path = socket_path
        self._idle = idle
        self._inode: tuple[int, int] | None = None
        self._http: Server | None = None
        self._listener: asyncio.Server | None = None
        self._connections: dict[_Connection, None] = {}

    @property
    def address(self) -> str:
        """Where it listens, for people: ``127.0.0.1:8061``, ``[::1]:8061`` or ``unix:/run/sqsjkr.sock``."""
        if self._path:
            return f"unix:{self._path}"
        return f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"

    async def open(self) -> None:
        """Listen. Raises BindError with the address, the cause and the settings to change.

        With port 0 the system chooses one, and ``address`` tells it from here on.
        """
        loop = asyncio.get_running_loop()
        self._http = Server(self._answer)
        try:
            if self._path:
                self._listener = await loop.create_unix_server(self._accept, sock=self._unix_socket(self._path))
            else:
                self._listener = await loop.create_server(self._accept, self._host, self._port)
        except (OSError, UnicodeError) as exc:  # UnicodeError: a host that can't be a name at all
            raise BindError(f"cannot listen on {self.address}: {_why(exc)}") from exc
        if not self._path:
            self._port = self._listener.sockets[0].getsockname()[1]
        emit(Event.STATS_LISTENING, f"stats and health on {self.address}", address=self.address)

    async def close(self) -> None:
        """Close every connection and remove the socket file, unless another worker's has taken its place."""
        if self._listener is None or self._http is None:
            return
        # The file goes first: while the socket is open its inode number can't be given to a successor's file.
        if self._path and self._inode:
            with contextlib.suppress(OSError):
                if _inode(self._path) == self._inode:
                    os.unlink(self._path)  # noqa: PTH108 - as in the rest of this module, one way to name files
        self._listener.close()
        self._http.pre_shutdown()  # wakes the idle ones, which would be waited for otherwise
        await self._http.shutdown(timeout=1.0)
        self._listener = None

    def _accept(self) -> _Connection:
        while len(self._connections) >= MOST_CONNECTIONS:
            oldest = next(iter(self._connections))
            del self._connections[oldest]
            oldest.abort()
        if self._http is None:
            raise RuntimeError("the server accepts only once it is open")
        made = _Connection(
            self._http,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=self._idle,
            lingering_time=1.0,
            access_log=_SILENT,
            logger=_SILENT,
        )
        made.on_end(lambda: self._connections.pop(made, None))
        self._connections[made] = None
        return made

    async def _answer(self, request: BaseRequest) -> Response:
        answer = self._route(request)
        if isinstance(request.protocol, _Connection) and request.protocol.read_all:
            answer.force_close()
        return answer

    def _route(self, request: BaseRequest) -> Response:
        """One answer, the same for every method. The mux of Go's net/http is the model (go-semantics section 8)."""
        if request.version >= HttpVersion11 and hdrs.HOST not in request.headers:
            return _bad_request()  # today's aiohttp refuses it before we see it; the oldest we allow may not
        target, _, query = request.raw_path.partition("?")
        path = unquote(target if target.startswith("/") else request.path)
        clean = _clean(path)
        if clean != path:
            return _moved(clean, query, with_body=request.method == hdrs.METH_GET)
        if path in self._pages:
            return self._pages[path](request)
        return _Response(
            body=b"404 page not found\n", status=404, headers=_PLAIN | {"X-Content-Type-Options": "nosniff"}
        )

    def _unix_socket(self, path: str) -> socket.socket:
        """Listen on ``path``; a socket without a listener is replaced, anything else is left alone."""
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            try:
                listening.bind(path)
            except OSError as exc:
                if exc.errno != errno.EADDRINUSE or not _is_stale(path):
                    raise
                os.unlink(path)  # noqa: PTH108
                listening.bind(path)
            os.chmod(path, 0o755)  # noqa: PTH101, S103 - what the original's has under the usual umask
            listening.listen(MOST_CONNECTIONS)
        except BaseException:
            listening.close()
            raise
        self._inode = _inode(path)
        return listening


class _Connection(RequestHandler):
    """One client's connection."""

    read_all = False
    """Whether the client has said that it sends no more."""

    def eof_received(self) -> bool:  # type: ignore[override] # aiohttp allows only the default, which closes
        """Answer a client that shuts its sending half after its request (``nc -N``), as Go does: asyncio would not."""
        self.read_all = True
        asyncio.get_running_loop().call_later(HALF_CLOSED, self.force_close)
        return True

    def abort(self) -> None:
        """Drop the connection at once, with whatever its client has not read."""
        if self.transport is not None:
            self.transport.abort()

    def on_end(self, call: Callable[[], object]) -> None:
        """Have ``call`` called when the connection is gone."""
        self._on_end = call

    def connection_lost(self, exc: BaseException | None) -> None:
        self._on_end()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - aiohttp's signature
    ) -> StreamResponse:
        """Answer what is no HTTP as Go does, without a word in the log: a broken client is no matter of this worker."""
        if status == HTTPStatus.BAD_REQUEST:
            return _bad_request()
        emit(Event.STATS_FAILED, f"{request.method} {request.path} was not answered: {exc!r}")
        return _Response(body=b"500 Internal Server Error\n", status=status, headers=_PLAIN)


class _Response(Response):
    """An answer without the Server header that aiohttp adds; if a later aiohttp goes another way, it is back."""

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self.headers.popall(hdrs.SERVER, None)


# aiohttp logs every connection that breaks, with a traceback.
_SILENT = logging.getLogger("sqsjkr.web")
_SILENT.setLevel(logging.CRITICAL + 1)


def _metrics(board: Board, request: BaseRequest) -> Response:
    body, content_type = board.page(request.headers.get(hdrs.ACCEPT, ""))
    return _Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})


def _probe(question: Callable[[], str | None]) -> Response:
    try:
        reason = question()
    except Exception as exc:  # noqa: BLE001 - an observer fails open: jobs go on, and the answer says so
        emit(Event.STATS_FAILED, f"the worker's health is unknown: {exc!r}")
        reason = f"the worker's health is unknown: {exc!r}"
    if reason is None:
        return _Response(body=b"ok\n", headers=_PLAIN)
    return _Response(body=f"{' '.join(reason.split())}\n".encode(errors="replace"), status=503, headers=_PLAIN)


def _bad_request() -> Response:
    response = _Response(body=b"400 Bad Request", status=400, headers=_PLAIN | {hdrs.CONNECTION: "close"})
    response.force_close()
    return response


def _moved(path: str, query: str, *, with_body: bool) -> Response:
    location = quote(path, safe="/:@!$&'()*+,;=~") + (f"?{query}" if query else "")
    headers: dict[str, str] = {hdrs.LOCATION: location, hdrs.CONTENT_TYPE: "text/html; charset=utf-8"}
    body = f'<a href="{html.escape(location)}">Moved Permanently</a>.\n\n' if with_body else ""
    return _Response(body=body.encode(), status=301, headers=headers)


def _clean(path: str) -> str:
    """The path without empty, ``.`` and ``..`` elements; a slash at its end stays."""
    clean = posixpath.normpath("/" + path.lstrip("/"))
    return f"{clean}/" if path.endswith("/") and clean != "/" else clean


def _is_stale(path: str) -> bool:
    """Whether it is a socket without a listener. In doubt it counts as in use."""
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise OSError(errno.EEXIST, "the file exists and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(path) == errno.ECONNREFUSED


def _inode(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def _why(exc: OSError | UnicodeError) -> str:
    number = exc.errno if isinstance(exc, OSError) else None
    if number == errno.EADDRINUSE:
        return "address already in use (another sqsjkr or sqsjfr? set [kicker] stats_port or stats_socket)"
    known = isinstance(number, int) and number in errno.errorcode and number != errno.EEXIST
    cause = os.strerror(number).lower() if known and number else getattr(exc, "strerror", None) or str(exc)
    return f"{cause} (set [kicker] stats_host and stats_port, or stats_socket)"
