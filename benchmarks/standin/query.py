"""The old Query protocol of SQS: form fields in, XML out. The calls themselves see the JSON protocol's members."""

import re
import uuid
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from benchmarks.standin.errors import ApiError, Json

_NAMESPACE = "http://queue.amazonaws.com/doc/2012-11-05/"
_LISTS = {
    "AttributeName": "AttributeNames",
    "MessageAttributeName": "MessageAttributeNames",
    "MessageSystemAttributeName": "MessageSystemAttributeNames",
}
_MAPS = {"Attribute": "Attributes", "MessageAttribute": "MessageAttributes"}
_NUMBERS = {"DelaySeconds", "MaxNumberOfMessages", "VisibilityTimeout", "WaitTimeSeconds"}
_ENTRY = re.compile("(?:SendMessage|DeleteMessage|ChangeMessageVisibility)BatchRequestEntry")


def decode(body: bytes, path: str) -> tuple[str, Json]:
    """The operation and its members, from a form. The queue is the one in the form or else in the path."""
    fields = dict(parse_qsl(body.decode(), keep_blank_values=True))
    operation = fields.pop("Action", "")
    fields.setdefault("QueueUrl", path)
    tree: Json = {}
    for name, value in fields.items():
        *parents, last = name.split(".")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[last] = value
    return operation, _members(tree)


def encode(operation: str, answer: Json) -> bytes:
    """The XML of an answer."""
    result = "".join(_elements(operation, answer))
    return (
        f'<?xml version="1.0"?><{operation}Response xmlns="{_NAMESPACE}">'
        f"<{operation}Result>{result}</{operation}Result>"
        f"<ResponseMetadata><RequestId>{uuid.uuid4()}</RequestId></ResponseMetadata></{operation}Response>"
    ).encode()


def encode_error(error: ApiError) -> bytes:
    """The XML of an error."""
    return (
        f'<?xml version="1.0"?><ErrorResponse xmlns="{_NAMESPACE}"><Error><Type>Sender</Type>'
        f"<Code>{error.query_code}</Code><Message>{_text(error.message)}</Message></Error>"
        f"<RequestId>{uuid.uuid4()}</RequestId></ErrorResponse>"
    ).encode()


def _members(tree: Json) -> Json:
    members: Json = {}
    for name, value in tree.items():
        if name in _LISTS:
            members[_LISTS[name]] = _in_order(value)
        elif name in _MAPS:
            members[_MAPS[name]] = {entry["Name"]: entry["Value"] for entry in _in_order(value)}
        elif _ENTRY.fullmatch(name):
            members["Entries"] = [_members(entry) for entry in _in_order(value)]
        else:
            members[name] = int(value) if name in _NUMBERS else value
    return members


def _in_order(numbered: Json) -> list[Any]:
    return [numbered[number] for number in sorted(numbered, key=int)]


def _elements(operation: str, answer: Json) -> Iterable[str]:
    for name, value in answer.items():
        if name == "Messages":
            yield from (f"<Message>{''.join(_elements(operation, message))}</Message>" for message in value)
        elif name in {"Attributes", "MessageAttributes"}:
            tag = name.removesuffix("s")
            yield from (f"<{tag}><Name>{_text(key)}</Name>{_value(inner)}</{tag}>" for key, inner in value.items())
        elif name == "QueueUrls":
            yield from (f"<QueueUrl>{_text(url)}</QueueUrl>" for url in value)
        elif name in {"Successful", "Failed"}:
            tag = f"{operation}ResultEntry" if name == "Successful" else "BatchResultErrorEntry"
            yield from (f"<{tag}>{''.join(_elements(operation, entry))}</{tag}>" for entry in value)
        else:
            yield f"<{name}>{_text(value)}</{name}>"


def _value(value: Json | str) -> str:
    inner = _text(value) if isinstance(value, str) else "".join(_elements("", value))
    return f"<Value>{inner}</Value>"


def _text(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return escape(text, {"\r": "&#xD;"})
