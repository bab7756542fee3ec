"""The page's HTTP server, on loopback: each view as HTML and as JSON, orders by POST, and a few static files."""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from aiohttp import hdrs, web

from sqsjkr.errors import BackendUnavailable, BindError
from sqsjkr.page import render
from sqsjkr.page.contents import VIEWS, found
from sqsjkr.page.desk import Desk, NoDeadLetters
from sqsjkr.page.door import HEADERS, Door, Refusal
from sqsjkr.page.following import Following, Said
from sqsjkr.page.orders import ORDERS, BadForm, Form, Office, Pens
from sqsjkr.page.view import BadQuery, Command, Missing, Query, Room, View
from sqsjkr.page.words import visible

HOST = "127.0.0.1"
LARGEST_FORM = 262_144
"""Bytes of a form: a few thousand dead letters can be marked at once."""
MENU = (("/", "Now"), ("/failures", "Failures"), ("/runs", "Runs"), ("/locks", "Locks"), ("/fleet", "Fleet"))
_STATIC = {"style.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
_STATUS = {BadQuery: 400, BadForm: 400, Missing: 404, NoDeadLetters: 404, BackendUnavailable: 503}


_SILENT = logging.getLogger(__name__)
"""What aiohttp says of requests that are no HTTP: any user of the host could fill the operator's terminal with it."""
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False


class PageServer:
    """Serves the page of one queue.

    ``where`` are the options that name the queue to every verb of ``sqsjkr``. Without ``pens`` it gives no orders.
    """

    def __init__(self, desk: Desk, pens: Pens | None, *, queue: str, where: Sequence[str], port: int) -> None:
        self._desk = desk
        self._queue = queue
        self._where = tuple(where)
        self._port = port
        self._following = Following()
        self._room = Room(desk, self._following)
        self._office = Office(desk, pens, self._following) if pens else None
        self._orders_given = 0
        self.door = Door(port)
        self._runner: web.AppRunner | None = None

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self._port}/"

    @property
    def way_in(self) -> str:
        """The address that lets a browser in."""
        return f"{self.address}?{urlencode({'token': self.door.token})}"

    async def open(self) -> None:
        """Listen on loopback. With port 0 the system chooses one. Raises ``BindError``."""
        application = web.Application(client_max_size=LARGEST_FORM)
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False, logger=_SILENT)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, HOST, self._port).start()
        except OSError as why:
            reason = os.strerror(why.errno).lower() if why.errno else str(why)
            raise BindError(f"cannot listen on {HOST}:{self._port}: {reason}; next: --port N") from why
        if not self._port:
            self._port = self._runner.addresses[0][1]
            self.door = Door(self._port)

    async def close(self) -> None:
        """Answer no more, and follow no order any more."""
        await self._following.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        try:
            response = await self._let_in(request)
        except web.HTTPException as refused:  # aiohttp's own, such as a form that is too large
            response = _closed(Refusal(refused.status, refused.reason.lower()))
        except Exception as defect:  # noqa: BLE001 - an error of ours must not show more than its name
            sys.stderr.write(f"{visible(''.join(traceback.format_exception(defect)))}\n")
            response = _closed(Refusal(500, f"this is an error of sqsjkr: {type(defect).__name__}; see its terminal"))
        response.headers.update(HEADERS)
        response.headers[hdrs.SERVER] = "sqsjkr"
        response.headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
        return response

    async def _let_in(self, request: web.Request) -> web.StreamResponse:
        is_static = request.path.startswith("/static/")
        token = request.query.get("token")
        refusal = self.door.refusal(
            request.method, request.headers, request.cookies, public=is_static or token is not None
        )
        if refusal is None and token is not None:
            return self._welcome(request, token)
        if refusal is not None:
            return _closed(refusal, again=_local(request.path_qs) if refusal.no_cookie else "")
        if is_static:
            return _static(request.path.removeprefix("/static/"))
        if request.method == hdrs.METH_POST:
            return await self._order(request)
        if request.method not in {hdrs.METH_GET, hdrs.METH_HEAD}:
            return _closed(Refusal(405, "only GET and POST are answered here"))
        return await self._look(request)

    def _welcome(self, request: web.Request, token: str) -> web.StreamResponse:
        """Change the token for a cookie, and take it out of the address."""
        if not self.door.opens(token) or request.method != hdrs.METH_GET:
            return _closed(Refusal(403, "this token is not the one that sqsjkr web printed; it is new at each start"))
        rest = {name: value for name, value in request.query.items() if name != "token"}
        response = _moved(_local(f"{request.path}?{urlencode(rest)}" if rest else request.path))
        response.set_cookie(self.door.cookie, self.door.cookie_value, path="/", httponly=True, samesite="Strict")
        return response

    async def _look(self, request: web.Request) -> web.StreamResponse:
        """Answer with a view, or with its JSON."""
        path = request.path
        as_json = path.endswith(".json")
        path = path.removesuffix(".json")
        if path == "/find":
            return _moved(found(request.query.get("q", "")))
        query = Query("/" if path == "/now" else path, dict(request.query))
        try:
            if query.path not in VIEWS:
                raise Missing(f"there is no view {query.path}")
            view = await VIEWS[query.path](self._room, query)
        except tuple(_STATUS) as trouble:
            view = _trouble(query, trouble)
        if as_json:
            return web.json_response(view.values, status=view.status, dumps=_dumps)
        said = self._following.said(f"order {query.text('said')}")
        return self._page(view, query, said)

    async def _order(self, request: web.Request) -> web.StreamResponse:
        """Give an order, and send the browser back to where it came from."""
        order = ORDERS.get(request.path)
        if order is None:
            return _closed(Refusal(404, "there is no such order"))
        if self._office is None:
            return _closed(Refusal(403, "this page was started with --read-only: it gives no orders"))
        try:
            sent = await request.post()
        except ValueError:  # no browser sends it
            return _closed(Refusal(400, "this is no form"))
        form = Form({name: [str(value) for value in sent.getall(name)] for name in sent})
        try:
            said = await order(self._office, form)
        except tuple(_STATUS) as trouble:
            said = Said(f"Not done: {trouble}.", "bad")
        self._desk.forget()
        self._orders_given += 1
        self._following.note(f"order {self._orders_given}", said)
        back = urlsplit(_local(form.one("back", needed=False)))
        given = {**dict(parse_qsl(back.query)), "said": str(self._orders_given)}
        return _moved(f"{back.path}?{urlencode(given)}")

    def _page(self, view: View, query: Query, said: Said | None) -> web.StreamResponse:
        text = render.html(
            view.template,
            view=view,
            address=_local(query.address),
            json_path=query.json_address if query.path in VIEWS else "",
            commands=[command.line(self._where) for command in view.commands],
            menu=MENU,
            queue=self._queue,
            notice=said,
            now=self._desk.viewer.source.now(),
            read_only=self._office is None,
        )
        return _html(text, view.status)


def _trouble(query: Query, trouble: Exception) -> View:
    status = next(status for kind, status in _STATUS.items() if isinstance(trouble, kind))
    title = {400: "This address is wrong", 404: "Not found", 503: "No answer"}[status]
    return View(
        template="error.html",
        section="",
        title=title,
        values={"error": str(trouble)},
        commands=(Command(("check",)),),
        context={"reason": str(trouble), "again": _local(query.address)},
        live=False,
        status=status,
    )


def _static(name: str) -> web.StreamResponse:
    if name not in _STATIC:
        return _closed(Refusal(404, "there is no such file"))
    body = files("sqsjkr.page").joinpath("static", name).read_bytes()
    return web.Response(body=body, content_type=_STATIC[name], charset="utf-8")


def _closed(refusal: Refusal, again: str = "") -> web.StreamResponse:
    """Say why there is no answer. ``again``: where a click leads, with which a browser that has the cookie sends it."""
    return _html(render.html("closed.html", reason=refusal.reason, again=again), refusal.status)


def _html(text: str, status: int) -> web.Response:
    body = text.encode(errors="backslashreplace")  # whatever a store gave back, it can be shown
    return web.Response(body=body, content_type="text/html", charset="utf-8", status=status)


def _moved(to: str) -> web.Response:
    return web.Response(status=303, headers={hdrs.LOCATION: to})


def _local(address: str) -> str:
    """Return an address only if it is one of this page's own views; else the front."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return "/"
    is_own = not parts.scheme and not parts.netloc and parts.path in VIEWS and "\\" not in address
    return address if is_own else "/"


def _dumps(value: Any) -> str:
    return json.dumps(value, indent=2)
