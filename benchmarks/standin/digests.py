"""The MD5 sums that an SQS client checks."""

import base64
import hashlib
import struct

from benchmarks.standin.errors import Json


def md5_of_body(body: str) -> str:
    """The sum of a message's body."""
    return hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()


def md5_of_attributes(attributes: Json) -> str:
    """The sum of a message's attributes: "Calculating the MD5 message digest for message attributes" (SQS guide)."""
    digest = hashlib.md5(usedforsecurity=False)
    for name in sorted(attributes):
        value = attributes[name]
        binary = value["DataType"].startswith("Binary")
        content = base64.b64decode(value["BinaryValue"]) if binary else value["StringValue"].encode()
        for part in (name.encode(), value["DataType"].encode()):
            digest.update(struct.pack(">I", len(part)) + part)
        digest.update((b"\x02" if binary else b"\x01") + struct.pack(">I", len(content)) + content)
    return digest.hexdigest()
