"""`sqsjkr web` as a real process, and what it answers."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

import servers

OWN = {"Sec-Fetch-Site": "same-origin"}
"""What a browser says of a form of the page itself."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Page:
    """The page of a queue. ``url`` is the address that lets a browser in."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.port = int(urlsplit(url).port or 0)
        self.cookie = ""

    def ask(
        self,
        path: str,
        method: str = "GET",
        *,
        form: Mapping[str, str] | None = None,
        body: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request, with the cookie if there is one; redirects are not followed."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        sent = {"Cookie": self.cookie} if self.cookie else {}
        if form is not None:
            sent["Content-Type"] = "application/x-www-form-urlencoded"
            body = urlencode(form)
        try:
            connection.request(method, path, body=body, headers=sent | dict(headers or {}))
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read().decode())
        finally:
            connection.close()

    def enter(self) -> Self:
        """Change the token for the cookie, as a browser does."""
        parts = urlsplit(self.url)
        answer = self.ask(f"{parts.path}?{parts.query}")
        assert answer.status == 303
        self.cookie = answer.headers["Set-Cookie"].partition(";")[0]
        return self

    def order(self, path: str, **form: str) -> Answer:
        """Send a form as the page's own."""
        return self.ask(path, "POST", form=form, headers=OWN)


@contextlib.contextmanager
def serving(*options: str, env: Mapping[str, str]) -> Iterator[Page]:
    """Runs ``sqsjkr web`` for the block; a signal ends it."""
    command = [sys.executable, "-m", "sqsjkr", "web", "--port", "0", *options]
    process = subprocess.Popen(
        servers.ending_with_this_process(command), env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        url = process.stdout.readline().decode().strip()
        assert url.startswith("http://127.0.0.1:"), "it says where it is"
        yield Page(url)
    finally:
        process.terminate()
        code = process.wait(30)
        process.stdout.close()
    assert code == 0, "it ends in order"
