"""What signs for a producer: a private key in a file, or a key in AWS KMS that never leaves it."""

from __future__ import annotations

import base64
import json
import secrets
from typing import Any, Protocol

from sqsjkr.errors import BackendRefused, ConfigError
from sqsjkr.trust.keys import INSTALL, KEY_ID, Key, read_private
from sqsjkr.trust.signature import TYPE, claims_of, header_of

KMS = "kms:"
_OF_KMS = {"ECC_NIST_P256": ("ES256", "ECDSA_SHA_256"), "ECC_NIST_EDWARDS25519": ("EdDSA", "ED25519_SHA_512")}
"""Algorithms for the key specs of KMS (AWS KMS API Reference: "Sign")."""


class Signer(Protocol):
    """Signs texts for one queue."""

    async def open(self) -> None:
        """Get ready. Raises ``ConfigError`` for a bad key, ``BackendRefused`` if KMS refuses."""

    async def sign(self, text: str, now: float) -> str:
        """Return the signature of a text that is sent at ``now`` (epoch seconds)."""

    async def close(self) -> None:
        """Let go of what ``open`` got."""


def signer(name: str, *, audience: str, life: float, profile: str = "", region: str = "") -> Signer:
    """Return the signer that ``name`` names: a file with a private key, or ``kms:ALIAS``, ``kms:ALIAS#ID``."""
    if name.startswith(KMS):
        return KMSSigner(name.removeprefix(KMS), audience=audience, life=life, profile=profile, region=region)
    return FileSigner(name, audience=audience, life=life)


class FileSigner:
    """Signs with the key in a file."""

    def __init__(self, path: str, *, audience: str, life: float) -> None:
        self._path = path
        self._audience = audience
        self._life = life
        self._key: Key | None = None

    async def open(self) -> None:
        """Read the key."""
        self._key = read_private(self._path)

    async def sign(self, text: str, now: float) -> str:
        """Return the signature of a text that is sent at ``now`` (epoch seconds)."""
        import jwt  # noqa: PLC0415 - the key was read, so it is there

        if self._key is None:
            raise RuntimeError("a signer is asked before open()")
        claims = claims_of(text, audience=self._audience, now=now, life=self._life, token_id=new_token_id())
        headers = {"kid": self._key.id, "typ": TYPE}
        return jwt.encode(claims, self._key.material, self._key.algorithm, headers=headers)

    async def close(self) -> None:
        """Nothing is held."""


class KMSSigner:
    """Signs with a key of AWS KMS: one request for each signature. The key's id is the alias, or what follows ``#``."""

    def __init__(self, name: str, *, audience: str, life: float, profile: str, region: str) -> None:
        self._alias, _, key_id = name.partition("#")
        self._id = key_id or self._alias.removeprefix("alias/")
        self._audience = audience
        self._life = life
        # Imported where needed: a key in a file needs no AWS.
        from sqsjkr.backends.aws.client import AWS  # noqa: PLC0415

        self._aws = AWS(profile=profile, region=region)
        self._algorithm = self._kms_algorithm = ""
        self.der = b""
        """The public key, as DER, once it is open."""

    @property
    def id(self) -> str:
        """The key's id in signatures."""
        return self._id

    async def open(self) -> None:
        """Ask KMS what kind of key it is."""
        if not KEY_ID.fullmatch(self._id):
            raise ConfigError(f"{KMS}{self._alias}: no id of a key can be made of this; write {KMS}{self._alias}#ID")
        await self._aws.open()
        try:
            found = await self._aws.call("kms", "GetPublicKey", {"KeyId": self._alias})
        except BaseException:
            await self._aws.close()
            raise
        kind = str(found.get("KeySpec", ""))
        if kind not in _OF_KMS or found.get("KeyUsage") != "SIGN_VERIFY":
            await self._aws.close()
            expected = f"expected one that signs, of the spec {' or '.join(_OF_KMS)}"
            raise ConfigError(f"{KMS}{self._alias}: a key of the spec {kind}, {expected}")
        self._algorithm, self._kms_algorithm = _OF_KMS[kind]
        self.der = base64.b64decode(found["PublicKey"])

    async def sign(self, text: str, now: float) -> str:
        """Return the signature of a text that is sent at ``now`` (epoch seconds)."""
        claims = claims_of(text, audience=self._audience, now=now, life=self._life, token_id=new_token_id())
        head = f"{_part(header_of(self._id, self._algorithm))}.{_part(claims)}"
        request = {
            "KeyId": self._alias,
            "Message": base64.b64encode(head.encode()).decode(),
            "MessageType": "RAW",
            "SigningAlgorithm": self._kms_algorithm,
        }
        answer = await self._aws.call("kms", "Sign", request)
        try:
            signature = base64.b64decode(answer["Signature"])
        except (KeyError, ValueError):
            raise BackendRefused(f"kms:Sign on {self._alias}: no signature in the answer") from None
        if self._algorithm == "ES256":
            signature = _raw(signature)
        return f"{head}.{_encoded(signature)}"

    async def close(self) -> None:
        """Close the connection to KMS."""
        await self._aws.close()


def new_token_id() -> str:
    """Return a new ``jti``: 16 random bytes."""
    return secrets.token_urlsafe(16)


def _part(value: dict[str, Any]) -> str:
    return _encoded(json.dumps(value, separators=(",", ":")).encode())


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _raw(der: bytes) -> bytes:
    """Return an ECDSA signature as JOSE has it: both numbers, 32 bytes each (RFC 7518, section 3.4). KMS sends DER."""
    try:
        from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature  # noqa: PLC0415 - the extra
    except ImportError:
        raise ConfigError(INSTALL) from None
    return b"".join(number.to_bytes(32, "big") for number in decode_dss_signature(der))
