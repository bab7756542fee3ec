"""A key management service on loopback that really signs: GetPublicKey and Sign, as AWS KMS answers them."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

EC, EDWARDS = "alias/ec", "alias/edwards"
"""The keys that it has."""


@contextlib.contextmanager
def kms() -> Iterator[str]:
    """A server with its two keys, for as long as the block: its URL."""
    keys: dict[str, Any] = {
        EC: ec.generate_private_key(ec.SECP256R1()),
        EDWARDS: ed25519.Ed25519PrivateKey.generate(),
    }
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(keys))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(keys: dict[str, Any]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.headers["Content-Type"] == "application/x-amz-json-1.1"
            assert "/kms/aws4_request" in self.headers["Authorization"]
            service, _, operation = self.headers["X-Amz-Target"].partition(".")
            assert service == "TrentService"
            key = keys.get(request["KeyId"])
            if key is None:
                self._answer(400, {"__type": "NotFoundException", "message": f"Alias {request['KeyId']} is not found."})
            elif operation == "GetPublicKey":
                self._answer(200, _public_key(key))
            else:
                assert operation == "Sign"
                assert request["MessageType"] == "RAW"
                message = base64.b64decode(request["Message"])
                assert len(message) <= 4096, "the most that KMS takes"
                signature = _sign(key, request["SigningAlgorithm"], message)
                self._answer(200, {"Signature": base64.b64encode(signature).decode()})

        def _answer(self, status: int, content: dict[str, Any]) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


def _public_key(key: Any) -> dict[str, Any]:
    spec = "ECC_NIST_P256" if isinstance(key, ec.EllipticCurvePrivateKey) else "ECC_NIST_EDWARDS25519"
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return {"KeySpec": spec, "KeyUsage": "SIGN_VERIFY", "PublicKey": base64.b64encode(der).decode()}


def _sign(key: Any, algorithm: str, message: bytes) -> bytes:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        assert algorithm == "ECDSA_SHA_256"
        return key.sign(message, ec.ECDSA(hashes.SHA256()))
    assert algorithm == "ED25519_SHA_512"
    signature: bytes = key.sign(message)
    return signature
