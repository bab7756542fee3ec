from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from sqsjkr.errors import BindError
from sqsjkr.outcome import Outcome
from sqsjkr.telemetry.stats import Stats
from sqsjkr.web.front import Front, Health
from sqsjkr.web.server import MOST_CONNECTIONS, StatsServer

V1 = b'{"idle_worker":3,"busy_worker":0}\n'
V2 = b'{"workers":{"busy":0,"idle":3},"invocations":{"succeeded":1,"failed":0,"errored":0}}\n'
HOST = "127.0.0.1"
Start = Callable[..., Awaitable[StatsServer]]


class Starting:
    waits_for = ""


class Well:
    """A worker that answers both questions with nothing to complain about, unless it is given a reason."""

    def __init__(self, *, unhealthy: str | None = None, stuck: str | None = None) -> None:
        self._unhealthy = unhealthy
        self._stuck = stuck

    def unhealthy_reason(self) -> str | None:
        return self._unhealthy

    def stuck_reason(self) -> str | None:
        return self._stuck


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start a server on a free port of loopback, or where it is told; all are closed at the end."""
    started: list[StatsServer] = []

    async def start_one(health: Health | None = None, *, host: str = HOST, **where: Any) -> StatsServer:
        stats = where.pop("stats", Stats(slots=3))
        stats.count(Outcome.SUCCEEDED)
        front = Front(Starting())
        front.worker = health or Well()
        server = StatsServer(stats, front, host=host, port=where.pop("port", 0), **where)
        await server.open()
        started.append(server)
        return server

    yield start_one
    for server in started:
        await server.close()


async def connect(server: StatsServer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if server.address.startswith("unix:"):
        return await asyncio.open_unix_connection(server.address.removeprefix("unix:"))
    host, _, port = server.address.rpartition(":")
    return await asyncio.open_connection(host.strip("[]"), int(port))


async def ask(server: StatsServer, request: bytes) -> bytes:
    """Send these bytes and no more; every byte that comes back."""
    reader, writer = await connect(server)
    writer.write(request)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


def http(target: str, method: str = "GET", *headers: str) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: x", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def parts(answer: bytes) -> tuple[str, dict[str, str], bytes]:
    """Status line, headers and body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return status, dict(line.split(": ", 1) for line in lines), body


@pytest.mark.parametrize(("path", "body"), [("/stats/metrics", V1), ("/stats/metrics/v2", V2)])
async def test_the_metrics_are_the_originals_bytes(start: Start, path: str, body: bytes) -> None:
    status, headers, got = parts(await ask(await start(), http(path)))
    assert (status, got) == ("HTTP/1.1 200 OK", body)
    assert headers.pop("Date")
    assert headers == {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "PURGE"])
async def test_every_method_is_answered_and_head_without_a_body(start: Start, method: str) -> None:
    status, headers, body = parts(await ask(await start(), http("/stats/metrics", method)))
    assert (status, headers["Content-Length"]) == ("HTTP/1.1 200 OK", str(len(V1)))
    assert body == (b"" if method == "HEAD" else V1)


async def test_a_request_body_is_ignored(start: Start) -> None:
    request = http("/stats/metrics", "POST", "Content-Length: 5") + b"hello"
    assert parts(await ask(await start(), request))[2] == V1


@pytest.mark.parametrize("target", ["/stats/metrics?a=b", "http://x/stats/metrics", "/stats%2Fmetrics"])
async def test_a_query_a_host_and_escapes_change_nothing(start: Start, target: str) -> None:
    assert parts(await ask(await start(), http(target)))[2] == V1


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("//stats/metrics", "/stats/metrics"),
        ("//stats/metrics?a=b", "/stats/metrics?a=b"),
        ("/x/../stats//metrics/", "/stats/metrics/"),
        ("/./%0d%0aSet-Cookie:%20a=b", "/%0D%0ASet-Cookie:%20a=b"),
        ("//evil.example/..//%2e%2e//evil.example", "/evil.example"),
    ],
)
async def test_an_unclean_path_is_sent_to_the_clean_one(start: Start, target: str, location: str) -> None:
    server = await start()
    status, headers, body = parts(await ask(server, http(target)))
    assert (status, headers["Location"]) == ("HTTP/1.1 301 Moved Permanently", location)
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert body == f'<a href="{location}">Moved Permanently</a>.\n\n'.encode()
    assert parts(await ask(server, http(target, "HEAD")))[2] == b""


@pytest.mark.parametrize(
    "target", ["/", "/stats", "/stats/metrics/", "/stats/metrics/v3", "/healthz/", "/STATS/metrics"]
)
async def test_any_other_path_is_not_found(start: Start, target: str) -> None:
    status, headers, body = parts(await ask(await start(), http(target)))
    assert (status, body) == ("HTTP/1.1 404 Not Found", b"404 page not found\n")
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("request_", [b"GET /stats/metrics HTTP/1.1\r\n\r\n", b"hello\r\n\r\n"])
async def test_a_request_without_a_host_or_that_is_no_http_is_a_bad_request(start: Start, request_: bytes) -> None:
    status, headers, body = parts(await ask(await start(), request_))
    assert re.fullmatch(r"HTTP/1\.[01] 400 Bad Request", status)
    assert body == b"400 Bad Request"
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert "Server" not in headers


async def test_http_1_0_needs_no_host(start: Start) -> None:
    assert parts(await ask(await start(), b"GET /stats/metrics HTTP/1.0\r\n\r\n"))[2] == V1


async def test_a_client_that_only_listens_after_its_request_is_answered(start: Start) -> None:
    reader, writer = await connect(await start())
    writer.write(b"GET /stats/metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    writer.write_eof()
    assert (await reader.read()).endswith(V1)
    writer.close()


async def test_one_connection_carries_many_requests(start: Start) -> None:
    reader, writer = await connect(await start())
    for _ in range(3):
        writer.write(b"GET /stats/metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
        assert await reader.readexactly(len(V1)) == V1
    writer.close()


# Health


@pytest.mark.parametrize("path", ["/healthz", "/livez"])
async def test_a_worker_that_is_well_says_ok(start: Start, path: str) -> None:
    status, headers, body = parts(await ask(await start(), http(path)))
    assert (status, body) == ("HTTP/1.1 200 OK", b"ok\n")
    assert headers["Content-Type"] == "text/plain; charset=utf-8"


async def test_a_worker_that_is_not_well_says_why_on_one_line(start: Start) -> None:
    server = await start(Well(unhealthy="the table does not answer:\n timeout"))
    status, _, body = parts(await ask(server, http("/healthz")))
    assert (status, body) == ("HTTP/1.1 503 Service Unavailable", b"the table does not answer: timeout\n")
    assert parts(await ask(server, http("/livez")))[2] == b"ok\n", "a restart would not help"


async def test_a_worker_that_a_restart_would_help_says_so(start: Start) -> None:
    server = await start(Well(stuck="it sleeps"))
    status, _, body = parts(await ask(server, http("/livez")))
    assert (status, body) == ("HTTP/1.1 503 Service Unavailable", b"it sleeps\n")


class Broken(Well):
    def unhealthy_reason(self) -> str | None:
        raise LookupError("nowhere")

    stuck_reason = unhealthy_reason


@pytest.mark.parametrize("path", ["/healthz", "/livez"])
async def test_a_health_question_that_fails_is_not_well_and_logged(
    start: Start, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    status, _, body = parts(await ask(await start(Broken()), http(path)))
    assert status.startswith("HTTP/1.1 503 ")
    assert b"LookupError" in body
    assert [line.__dict__["event"] for line in caplog.records] == ["stats.failed"]


async def test_an_error_of_ours_is_answered_and_logged(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    stats = Stats(slots=3)
    server = await start(stats=stats)
    stats.slots = None  # type: ignore[assignment] # stands for any defect
    assert parts(await ask(server, http("/stats/metrics")))[0] == "HTTP/1.1 500 Internal Server Error"
    assert [line.__dict__["event"] for line in caplog.records] == ["stats.failed"]
    assert parts(await ask(server, http("/healthz")))[2] == b"ok\n"


# Clients that are broken, slow or many


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"hello\r\n\r\n",
        b"GET /stats/metrics HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET /stats/metrics HTTP/1.1\r\nHost x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /%ff%00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /stats/metrics HTTP/1.1\r\nHo",
        b"",
    ],
    ids=lambda request_: repr(request_[:40]),
)
async def test_a_broken_client_stops_nothing_and_is_not_logged(
    start: Start, caplog: pytest.LogCaptureFixture, request_: bytes
) -> None:
    server = await start()
    try:
        answer = await ask(server, request_)
    except ConnectionError:  # closed with bytes of ours unread
        answer = b""
    assert re.match(rb"$|HTTP/1\.\d [34]\d\d ", answer)
    assert parts(await ask(server, http("/stats/metrics")))[2] == V1
    assert [line.getMessage() for line in caplog.records] == []


async def test_idle_clients_keep_nobody_out(start: Start) -> None:
    server = await start()
    idle = [await connect(server) for _ in range(MOST_CONNECTIONS + 5)]
    assert parts(await ask(server, http("/stats/metrics")))[2] == V1
    with contextlib.suppress(ConnectionError):
        assert await idle[0][0].read() == b"", "the oldest was sent away"
    assert len(server._connections) <= MOST_CONNECTIONS
    for _, writer in idle:
        writer.close()


async def test_a_client_that_says_nothing_is_sent_away(start: Start) -> None:
    server = await start(idle=0.05)
    for begun in (b"", b"GET /stats/me"):
        reader, writer = await connect(server)
        writer.write(begun)
        assert await reader.read() == b""
        writer.close()


async def test_a_connection_that_ends_is_forgotten(start: Start) -> None:
    server = await start()
    for _ in range(10):
        await ask(server, http("/healthz"))
    assert len(server._connections) <= 1


async def test_closing_ends_open_connections(start: Start) -> None:
    server = await start()
    reader, writer = await connect(server)
    await server.close()
    assert await reader.read() == b""
    writer.close()
    with pytest.raises(ConnectionError):
        await connect(server)


# Where it listens


async def test_it_says_where_it_listens(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="sqsjkr")
    server = await start()
    assert re.fullmatch(r"127\.0\.0\.1:[1-9]\d*", server.address)
    (line,) = caplog.records
    assert (line.__dict__["event"], line.__dict__["facts"]) == ("stats.listening", {"address": server.address})


async def test_an_address_may_be_ipv6(start: Start) -> None:
    server = await start(host="::1")
    assert server.address.startswith("[::1]:")
    assert parts(await ask(server, http("/stats/metrics")))[2] == V1


async def test_a_port_that_is_taken_is_an_error_with_a_way_out(start: Start) -> None:
    port = int((await start()).address.rpartition(":")[2])
    with pytest.raises(BindError) as refused:
        await start(port=port)
    assert str(refused.value) == (
        f"cannot listen on 127.0.0.1:{port}: address already in use "
        "(another sqsjkr or sqsjfr? set [kicker] stats_port or stats_socket)"
    )


@pytest.mark.parametrize(
    ("host", "cause"), [("192.0.2.1", "cannot assign requested address"), ("no.such.host.invalid", ""), ("a" * 70, "")]
)
async def test_a_host_that_is_not_here_is_an_error_with_a_way_out(start: Start, host: str, cause: str) -> None:
    with pytest.raises(BindError) as refused:
        await start(host=host)
    assert str(refused.value).startswith(f"cannot listen on {host}:0: {cause}")
    assert str(refused.value).endswith(" (set [kicker] stats_host and stats_port, or stats_socket)")
    assert "\n" not in str(refused.value)


# On a Unix socket


async def test_a_unix_socket_is_there_while_the_server_is(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "sqsjkr.sock"
    server = await start(socket_path=str(path))
    assert server.address == f"unix:{path}"
    assert stat.S_ISSOCK(path.stat().st_mode)
    assert stat.S_IMODE(path.stat().st_mode) == 0o755
    assert parts(await ask(server, http("/stats/metrics")))[2] == V1
    await server.close()
    assert not path.exists()


async def test_a_stale_socket_is_replaced(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "sqsjkr.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    assert path.exists()
    assert parts(await ask(await start(socket_path=str(path)), http("/stats/metrics")))[2] == V1


async def test_a_live_socket_is_an_error_and_goes_on(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "sqsjkr.sock"
    live = await start(socket_path=str(path))
    with pytest.raises(BindError, match=rf"^cannot listen on unix:{path}: address already in use \(another sqsjkr"):
        await start(socket_path=str(path))
    assert parts(await ask(live, http("/stats/metrics")))[2] == V1


async def test_a_socket_that_is_too_busy_to_answer_is_live(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "sqsjkr.sock"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as client:
        busy.bind(str(path))
        busy.listen(0)
        client.connect(str(path))
        with pytest.raises(BindError, match="address already in use"):
            await start(socket_path=str(path))
    assert path.exists()


async def test_a_file_that_is_no_socket_is_an_error_and_left_alone(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(BindError, match="the file exists and is no socket"):
        await start(socket_path=str(path))
    assert path.read_text() == "data"


@pytest.mark.parametrize("name", ["missing/sqsjkr.sock", "x" * 120])
async def test_a_path_that_cannot_be_is_an_error(start: Start, tmp_path: Path, name: str) -> None:
    with pytest.raises(BindError, match=r"(no such file or directory|path too long) \(set \[kicker\] stats_host"):
        await start(socket_path=str(tmp_path / name))


async def test_a_successors_socket_is_left_alone(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "sqsjkr.sock"
    first = await start(socket_path=str(path))
    path.unlink()
    second = await start(socket_path=str(path))
    await first.close()
    assert parts(await ask(second, http("/stats/metrics")))[2] == V1
