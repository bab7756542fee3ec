"""A proxy before one SQS and DynamoDB server that does on purpose what a bad day does.

It runs in a thread of the test process. A test adds rules, cuts workers off, and reads what was asked and what was done
to it. Every worker gets a port of its own (`listen`), so one can be cut off while the others go on. Rules draw from
their own seeded randomness: the same requests meet the same faults.
"""

from __future__ import annotations

import asyncio
import collections
import json
import random
import socket
import threading
import time
from collections.abc import Coroutine
from typing import Any, Self

import aiohttp
from aiohttp import web

import servers
from faults import rules
from faults.rules import Answer, Call, Fault, Rule

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "expect"}
_LOOK = 0.01  # seconds between two looks at what other threads may have changed: rules and cuts are plain data


class _LostError(Exception):
    """The client is to see its connection reset."""


class Proxy:
    """A proxy in a thread, for the length of a `with` block.

    Attributes:
        calls: every request, in order of arrival; only ever appended to.
        faults: how often each fault was done, by its name; "cut" counts requests that met a cut.
        url: for whoever needs no name; as `listen("")`.
    """

    def __init__(self, upstream: str, *, seed: int = 1) -> None:
        self.calls: list[Call] = []
        self.faults: collections.Counter[str] = collections.Counter()
        self._upstream = upstream
        self._seed = seed
        self._rules: list[Rule] = []
        self._added = 0
        self._cuts: dict[tuple[str, str], bool] = {}  # (worker, service) -> whether it is refused at once
        self._again: dict[str, list[tuple[float, dict[str, Any]]]] = collections.defaultdict(list)  # by queue
        self._problems: list[BaseException] = []
        self._servers: dict[str, tuple[asyncio.Server, web.Server]] = {}
        self._ports: dict[str, int] = {}
        self._kept: dict[str, socket.socket] = {}  # bound, not listening: refuses connections and keeps the port
        self._under_way: dict[Call, web.BaseRequest] = {}
        self._sent: set[asyncio.Task[Answer]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault proxy", daemon=True)

    def __repr__(self) -> str:
        return f"Proxy({self._upstream!r}, seed={self._seed})"

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._open())
        self.url = self.listen("")
        return self

    def __exit__(self, *_exception: object) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        if self._problems:
            raise self._problems[0]

    def listen(self, worker: str) -> str:
        """The URL for the worker of this name: a port that only it uses."""
        if worker not in self._ports:
            self._do(self._bind(worker))
        return f"http://127.0.0.1:{self._ports[worker]}"

    def add(self, fault: Fault, **matching: Any) -> Rule:
        """Begin to do this; `matching` are fields of Rule. The first rule that fires decides; CLOCK goes with others.

        Raises:
            ValueError: AWS does no such thing to that operation.
        """
        rule = Rule(fault=fault, chance=random.Random(f"{self._seed} {self._added}"), **matching)
        if rule.operation and rule.operation not in rules.ONLY.get(fault, {rule.operation}):
            raise ValueError(f"{fault}: AWS does that to {sorted(rules.ONLY[fault])}, not to {rule.operation}")
        self._added += 1
        self._rules.append(rule)
        return rule

    def release(self, rule: Rule) -> None:
        """End a rule; what hangs by it goes on to the server, unless its client gave up."""
        rule.released = True
        self._rules.remove(rule)

    def clear(self) -> None:
        """End every rule and every cut."""
        for rule in list(self._rules):
            self.release(rule)
        for worker, service in list(self._cuts):
            self.heal(worker, service)

    def cut(self, worker: str, service: str = "", *, refuse: bool = False) -> None:
        """Cut a worker off from one service, or from both.

        Its requests hang, and the answers of those under way do not come back. With `refuse` they fail at once instead:
        connections to both are refused, those to one service are reset once the request is read.
        """
        self.listen(worker)
        self.heal(worker, service)
        self._cuts[worker, service] = refuse
        if refuse:
            self._do(self._drop(worker, service) if service else self._unbind(worker))

    def heal(self, worker: str, service: str = "") -> None:
        """End a cut. Answers held back arrive; requests that hung go on, unless their client gave up."""
        if self._cuts.pop((worker, service), False) and not service:
            self._do(self._bind(worker))

    def seen(self, operation: str = "", *, worker: str | None = None, fault: str | None = None) -> list[Call]:
        """The requests so far, of this operation, worker and fault."""
        wanted = [call for call in list(self.calls) if operation in ("", call.operation)]
        return [call for call in wanted if worker in (None, call.worker) and fault in (None, call.fault)]

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(servers.PATIENCE)

    async def _open(self) -> None:
        # A new connection for each request: a kept one that the server closes meanwhile would look like a fault.
        patient = aiohttp.ClientTimeout(total=None)
        fresh = aiohttp.TCPConnector(limit=0, force_close=True)
        self._session = aiohttp.ClientSession(connector=fresh, timeout=patient, auto_decompress=False)

    async def _close(self) -> None:
        for worker in list(self._servers):
            await self._unbind(worker, for_good=True)
        for place in self._kept.values():
            place.close()
        for task in list(self._sent):
            task.cancel()
        await self._session.close()
        if rest := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(rest, timeout=servers.PATIENCE)

    async def _bind(self, worker: str) -> None:
        async def serve(request: web.BaseRequest) -> web.StreamResponse:
            return await self._serve(worker, request)

        place = self._kept.pop(worker, None) or socket.create_server(("127.0.0.1", 0))
        self._ports[worker] = place.getsockname()[1]
        protocol = web.Server(serve, handler_cancellation=True)
        self._servers[worker] = await self._loop.create_server(protocol, sock=place), protocol

    async def _unbind(self, worker: str, *, for_good: bool = False) -> None:
        listener, protocol = self._servers.pop(worker)
        listener.close()
        for connection in protocol.connections:
            rules.reset(connection.transport)
        if not for_good:
            self._kept[worker] = socket.socket()
            self._kept[worker].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._kept[worker].bind(("127.0.0.1", self._ports[worker]))

    async def _drop(self, worker: str, service: str) -> None:
        for call, request in self._under_way.items():
            if (call.worker, call.service) == (worker, service):
                rules.reset(request.transport)

    async def _serve(self, worker: str, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.content.read()
        call = rules.read(worker, request.headers.get("X-Amz-Target", ""), body)
        self.calls.append(call)
        self._under_way[call] = request
        try:
            await self._while_cut(call)
            answer = await self._answer(call, request, body)
            await self._while_cut(call)
        except (_LostError, aiohttp.ClientError):  # the latter: the server itself is gone
            rules.reset(request.transport)
            return web.Response()  # nobody gets it
        except Exception as problem:  # a mistake of this module is no fault to be borne: it fails the test
            self._problems.append(problem)
            raise
        finally:
            del self._under_way[call]
        call.status = answer.status
        return web.Response(status=answer.status, headers=answer.headers, body=answer.body)

    async def _while_cut(self, call: Call) -> None:
        while (refuse := self._cut_off(call)) is not None:
            if not call.fault:
                call.fault = "cut"
                self.faults["cut"] += 1
            if refuse:
                raise _LostError
            await asyncio.sleep(_LOOK)

    def _cut_off(self, call: Call) -> bool | None:
        """None: it is not. Otherwise whether it is refused."""
        return self._cuts.get((call.worker, call.service), self._cuts.get((call.worker, "")))

    async def _answer(self, call: Call, request: web.BaseRequest, body: bytes) -> Answer:
        if (clock := self._firing(call, clock=True)) is None:
            return await self._weather(call, request, body)
        self._count(call, Fault.CLOCK)
        refusal = rules.wrong_time(clock.seconds, request.headers.get("X-Amz-Date", ""))
        return rules.with_date(refusal or await self._weather(call, request, body), clock.seconds)

    async def _weather(self, call: Call, request: web.BaseRequest, body: bytes) -> Answer:
        if call.operation == "ReceiveMessage" and (messages := self._due(call)):
            self._count(call, Fault.REDELIVER)
            return rules.good({"Messages": messages})
        if (rule := self._firing(call)) is None:
            return await self._forward(call, request, body)
        if rule.fault is not Fault.REDELIVER:  # that one is done, and counted, when the message comes again
            self._count(call, rule.fault)
        if (answer := rules.instead(rule, call)) is not None:
            return answer
        body = await self._before(rule, call, request, body)
        answer = await self._forward(call, request, body)
        return await self._after(rule, call, request, answer, body)

    def _firing(self, call: Call, *, clock: bool = False) -> Rule | None:
        return next((r for r in list(self._rules) if (r.fault is Fault.CLOCK) == clock and r.fires(call)), None)

    def _count(self, call: Call, fault: Fault) -> None:
        call.fault = fault
        self.faults[fault] += 1

    async def _before(self, rule: Rule, call: Call, request: web.BaseRequest, body: bytes) -> bytes:
        """What happens until the server is asked; the body it gets."""
        if rule.fault is Fault.RESET_BEFORE:
            raise _LostError
        if rule.fault is Fault.STRAY:
            self._send(request, body, rule.seconds)
            raise _LostError
        if rule.fault is Fault.DELAY:
            await asyncio.sleep(rule.seconds)
        while rule.fault is Fault.HANG and not rule.released:  # noqa: ASYNC110 - see _LOOK
            await asyncio.sleep(_LOOK)
        changed = rules.reduced(rule, call)
        return body if changed is None else json.dumps(changed).encode()

    async def _after(self, rule: Rule, call: Call, request: web.BaseRequest, answer: Answer, body: bytes) -> Answer:
        """What happens once the server has answered; the answer that the client gets."""
        if rule.fault is Fault.RESET_AFTER:
            raise _LostError
        if rule.fault is Fault.LATE:
            await asyncio.sleep(rule.seconds)
        if rule.fault is Fault.DUPLICATE:
            await self._forward(call, request, body)
        if rule.fault is Fault.REDELIVER:
            messages = answer.decoded().get("Messages", [])
            due = time.monotonic() + rule.seconds
            self._again[call.queue] += [(due, message) for message in messages]
            rule.hits -= not messages  # an empty receive does not use up the rule's limit
        return rules.with_refusals(rule, call, answer) if rule.fault in (Fault.CAP, Fault.PART) else answer

    def bring_back(self) -> None:
        """Let every message that a REDELIVER rule keeps come with the next receive, whatever the rule's seconds."""
        for waiting in self._again.values():
            waiting[:] = [(0.0, message) for _, message in waiting]

    def brought_back(self) -> bool:
        """Whether every message that a REDELIVER rule kept has been handed out again."""
        return bool(self._again) and not any(self._again.values())

    def _due(self, call: Call) -> list[dict[str, Any]]:
        """The messages to hand out again now, with their receive counts raised."""
        waiting = self._again[call.queue]
        due = [each for each in waiting if each[0] <= time.monotonic()][: call.payload.get("MaxNumberOfMessages", 1)]
        for each in due:
            waiting.remove(each)
        return [rules.received_again(message) for _, message in due]

    async def _forward(self, call: Call, request: web.BaseRequest, body: bytes) -> Answer:
        task = self._send(request, body)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            # The client has gone. The server sees that too, unless there is a cut between them.
            if self._cut_off(call) is None:
                task.cancel()
            raise

    def _send(self, request: web.BaseRequest, body: bytes, delay: float = 0) -> asyncio.Task[Answer]:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}

        async def send() -> Answer:
            await asyncio.sleep(delay)
            # The Host header stays the client's: servers build queue URLs from it, and those must lead through here.
            async with self._session.post(self._upstream + request.path_qs, data=body, headers=headers) as response:
                kept = {name: value for name, value in response.headers.items() if name.lower() not in _HOP_BY_HOP}
                return Answer(status=response.status, headers=kept, body=await response.read())

        task = self._loop.create_task(send())
        self._sent.add(task)
        task.add_done_callback(self._sent.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be left to ask for it
        return task
