"""HTTP/1.1 over asyncio: just enough for AWS clients on loopback.

It also plays an HTTP proxy: `CONNECT sqs.us-east-1.amazonaws.com:443` leads back here, through TLS. So a client with
AWS's addresses built in meets the stand-in if its proxy and its certificates can be set (HTTPS_PROXY, SSL_CERT_FILE).
"""

import asyncio
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from benchmarks.standin.api import Answer, Api, Request, Waiting

_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found"}


class Connection(asyncio.Protocol):
    """One client. Its requests are answered one after another, in their order, as HTTP/1.1 asks.

    A client that hangs up during a long poll leaves the queue: no message is handed to it any more.

    Args:
        api: what answers.
        latency: seconds to hold every answer back.
        tls: what to answer CONNECT with; None refuses it.
    """

    def __init__(self, api: Api, latency: float, tls: ssl.SSLContext | None = None) -> None:
        self._api = api
        self._latency = latency
        self._tls = tls
        self._upgrade: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._waiting: asyncio.Future[Any] | None = None
        self._busy = False
        self._last = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has the methods but not the base class

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the reason changes nothing
        """Stop waiting for a client that is gone."""
        self._transport = None
        if self._waiting is not None:
            self._waiting.cancel()

    def data_received(self, data: bytes) -> None:
        """Answer the requests that are complete."""
        self._buffer = self._buffer + data if self._buffer else data
        while not self._busy and (request := self._next_request()):
            self._busy = True
            if request.method == "CONNECT" and self._tls is not None:
                self._upgrade = self._loop.create_task(self._start_tls(self._tls))
                return
            answer = self._api.handle(request)
            if isinstance(answer, Waiting):
                self._waiting = answer.result
                answer.result.add_done_callback(partial(self._waited, answer.encode))
            else:
                self._send(answer)

    async def _start_tls(self, tls: ssl.SSLContext) -> None:
        """Whatever host is asked for is here."""
        plain = self._transport
        if plain is None:
            return
        plain.pause_reading()  # what comes next is TLS's
        plain.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            secured = await self._loop.start_tls(plain, self, tls, server_side=True)
        except OSError:  # the client does not trust our certificate, or went away
            plain.abort()
            return
        self._transport = cast("asyncio.Transport", secured)
        self._busy = False
        self.data_received(b"")

    def _waited(self, encode: Callable[[Any], Answer], result: asyncio.Future[Any]) -> None:
        self._waiting = None
        if not result.cancelled():
            self._send(encode(result.result()))
            self.data_received(b"")

    def _next_request(self) -> Request | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        first, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        stop = end + 4 + int(headers.get("content-length", 0))
        if len(self._buffer) < stop:
            if headers.get("expect") and len(self._buffer) == end + 4 and self._transport:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return None
        body = self._buffer[end + 4 : stop]
        self._buffer = self._buffer[stop:]
        self._last = headers.get("connection", "").lower() == "close"
        method, target, _ = first.split(" ", 2)
        return Request(method, target, headers, body)

    def _send(self, answer: Answer) -> None:
        if self._latency:
            self._loop.call_later(self._latency, self._write_late, answer)
        else:
            self._write(answer)

    def _write_late(self, answer: Answer) -> None:
        self._write(answer)
        self.data_received(b"")

    def _write(self, answer: Answer) -> None:
        self._busy = False
        if self._transport is None:
            return
        head = (
            f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}\r\nContent-Type: {answer.content_type}\r\n"
            f"Content-Length: {len(answer.body)}\r\n{answer.headers}\r\n"
        )
        self._transport.write(head.encode("latin-1") + answer.body)
        if self._last:
            self._transport.close()
