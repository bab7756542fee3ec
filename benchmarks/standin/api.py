"""From an HTTP request to a call of SQS, of DynamoDB, or to an endpoint of the stand-in's own."""

import asyncio
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

from benchmarks.standin import query
from benchmarks.standin.dynamodb import DynamoDb
from benchmarks.standin.errors import ApiError, Json, validation_error
from benchmarks.standin.meter import Meter
from benchmarks.standin.sqs import Sqs

_to_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
# What a call may stumble over when a member is missing or of another type than AWS knows it.
_MALFORMED = (ArithmeticError, AttributeError, KeyError, TypeError, ValueError)
_SERVICES = {"AmazonSQS": "sqs", "DynamoDB_20120810": "dynamodb"}


class Request(NamedTuple):
    """A request. Header names are in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Answer(NamedTuple):
    """An answer: status, further header lines, and a body."""

    status: int
    content_type: str
    body: bytes
    headers: str = ""


@dataclass(frozen=True, slots=True)
class Waiting:
    """An answer that comes later: the result, and what makes the answer of it."""

    result: asyncio.Future[Json]
    encode: Callable[[Json], Answer]


class Api:
    """The whole stand-in behind the wire."""

    def __init__(self) -> None:
        self.sqs = Sqs()
        self.dynamodb = DynamoDb()
        self.meter = Meter()
        self._calls = {("sqs", name): call for name, call in self.sqs.calls.items()}
        self._calls |= {("dynamodb", name): call for name, call in self.dynamodb.calls.items()}

    def handle(self, request: Request) -> Answer | Waiting:
        """Answer a request, whatever is in it."""
        self.sqs.access_key = _access_key(request.headers.get("authorization", ""))
        if target := request.headers.get("x-amz-target"):
            return self._call_json(target, request.body)
        if request.target.startswith("/_"):
            return self._own(request)
        return self._call_query(request)

    def _call_json(self, target: str, body: bytes) -> Answer | Waiting:
        prefix, _, operation = target.partition(".")
        service = _SERVICES.get(prefix, prefix)
        try:
            result = self._call(service, operation, _decoded(body))
        except ApiError as error:
            self.meter.count_error(error.code)
            return _json_error(service, error)
        except _MALFORMED as error:
            return _json_error(service, validation_error(f"malformed request: {error!r}"))
        return _json_answer(result) if isinstance(result, dict) else Waiting(result, _json_answer)

    def _call_query(self, request: Request) -> Answer | Waiting:
        path, _, in_url = request.target.partition("?")
        try:
            operation, payload = query.decode(request.body or in_url.encode(), path)
            result = self._call("sqs", operation, payload)
        except ApiError as error:
            self.meter.count_error(error.code)
            return Answer(400, "text/xml", query.encode_error(error))
        except _MALFORMED as error:
            return Answer(400, "text/xml", query.encode_error(ApiError("MalformedQueryString", repr(error))))
        encode = partial(_xml_answer, operation)
        return encode(result) if isinstance(result, dict) else Waiting(result, encode)

    def _call(self, service: str, operation: str, payload: Json) -> Json | asyncio.Future[Json]:
        self.meter.count(service, operation)
        call = self._calls.get((service, operation))
        if call is None:
            raise ApiError("UnknownOperationException", f"no such call here: {service}.{operation}")
        result = call(payload)
        if entries := payload.get("Entries"):
            self.meter.count_entries(service, operation, len(entries))
        elif tables := payload.get("RequestItems"):
            self.meter.count_entries(service, operation, sum(map(len, tables.values())))
        elif statements := payload.get("Statements"):
            self.meter.count_entries(service, operation, len(statements))
        return result

    def _own(self, request: Request) -> Answer:
        url = urlsplit(request.target)
        options = dict(parse_qsl(url.query))
        try:
            result = self._own_result(request.method, url.path, options, request.body)
        except ApiError as error:
            return Answer(404, "application/json", _to_json({"error": error.message}).encode())
        except (KeyError, ValueError) as error:
            return Answer(400, "application/json", _to_json({"error": repr(error)}).encode())
        return Answer(200, "application/json", _to_json(result).encode())

    def _own_result(self, method: str, path: str, options: dict[str, str], body: bytes) -> Json:
        match method, path:
            case "GET", "/_counts":
                return self.meter.report() | self.dynamodb.written()
            case "POST", "/_reset":
                self.meter.reset()
                self.dynamodb.forget_written()
                return {}
            case "POST", "/_fill":
                queue = self.sqs.queue(options["queue"])
                self.sqs.fill(queue, body.decode(), int(options["n"]), int(options.get("groups", "1")))
                return self._depth(options["queue"])
            case "GET", "/_depth":
                return self._depth(options["queue"])
        raise ApiError("NotFound", f"no such endpoint: {method} {path}")

    def _depth(self, name: str) -> Json:
        queue = self.sqs.queue(name)
        queue.refresh()
        return {"visible": queue.visible, "in_flight": queue.in_flight, "delayed": queue.delayed}


def _access_key(authorization: str) -> str:
    """The key that signed a request, from "AWS4-HMAC-SHA256 Credential=KEY/DATE/..."; "" if it is not signed."""
    return authorization.partition("Credential=")[2].partition("/")[0]


def _decoded(body: bytes) -> Json:
    payload = json.loads(body or b"{}")
    if not isinstance(payload, dict):
        raise validation_error("the request's body is no JSON object")
    return payload


def _json_answer(result: Json) -> Answer:
    body = _to_json(result).encode(errors="replace")
    return Answer(200, "application/x-amz-json-1.0", body, f"x-amz-crc32: {zlib.crc32(body)}\r\n")


def _xml_answer(operation: str, result: Json) -> Answer:
    return Answer(200, "text/xml", query.encode(operation, result))


def _json_error(service: str, error: ApiError) -> Answer:
    namespace = "com.amazonaws.sqs" if service == "sqs" else "com.amazonaws.dynamodb.v20120810"
    body = _to_json({"__type": f"{namespace}#{error.code}", "message": error.message, **error.extra}).encode()
    headers = f"x-amz-crc32: {zlib.crc32(body)}\r\n"
    if service == "sqs":
        headers += f"x-amzn-query-error: {error.query_code};Sender\r\n"
    return Answer(400, "application/x-amz-json-1.0", body, headers)
