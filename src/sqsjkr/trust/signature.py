"""Signatures of jobs: a compact JWT that names the SHA-256 of the body, who it is for, and when it was made.

Header ``{"alg": ..., "kid": ..., "typ": "sqsjkr+jwt"}``; claims ``aud`` (the queue's name), ``iat``, ``exp``, ``jti``
and ``sha256``. It stands in the message attribute ``sqsjkr.signature``, or beside the text that it is for (``job.py``).
The only clock that is read is the queue's, at the moment when it accepted the message. A replay is a copy of a message
with the same ``jti``, which the throttler knows.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from typing import Any

from sqsjkr import durations
from sqsjkr.errors import ConfigError
from sqsjkr.trust.keys import KEY_ID, Key, parsed
from sqsjkr.trust.policy import Proof

TYPE = "sqsjkr+jwt"
LEEWAY = 60.0
"""Seconds that a producer's clock may be ahead of the queue's."""
LONGEST = 4096
"""The most characters of a token."""
_HEADER = frozenset({"alg", "kid", "typ"})
_TOKEN_ID = re.compile(r"[A-Za-z0-9_-]{16,128}")
_LATEST = 1e12
_SHOWN = 60


class _Wrong(Exception):
    """What is wrong with a signature."""


class Verifier:
    """Verifies signatures for one queue, with keys by their ids. ``life``: the longest ``exp - iat``, in seconds."""

    def __init__(self, keys: Mapping[str, Key], *, audience: str, life: float) -> None:
        import jwt  # noqa: PLC0415 - only where there are keys

        self._keys = keys
        self._audience = audience
        self._life = life
        self._jws = jwt.PyJWS()
        self._invalid = jwt.PyJWTError

    def prove(self, token: str, text: str, sent_at: float) -> Proof:
        """Return what the token proves of the text, which the queue accepted at ``sent_at`` (epoch seconds)."""
        try:
            key, claims = self._opened(token)
            self._check(claims, text, sent_at)
        except _Wrong as what:
            return Proof(complaint=f"signature: {what}")
        return Proof(key=key.id, token=claims["jti"])

    def _opened(self, token: str) -> tuple[Key, Mapping[str, Any]]:
        """Return key and claims of a token that the key has signed."""
        if len(token) > LONGEST or not token.isascii():
            raise _Wrong(f"it is no token of at most {LONGEST} characters")
        header = _object(token.partition(".")[0])
        if header.keys() != _HEADER or header["typ"] != TYPE:
            raise _Wrong(f"its header is not alg, kid, and typ {TYPE}")
        key = self._keys.get(str(header["kid"]))
        if key is None:
            raise _Wrong(f"this worker has no key {_shown(header['kid'])}")
        if header["alg"] != key.algorithm:
            raise _Wrong(f"its algorithm is not that of key {key.id}, {key.algorithm}")
        try:
            self._jws.decode_complete(token, key.material, [key.algorithm])
        except self._invalid:
            raise _Wrong(f"key {key.id} did not make it") from None
        return key, _object(token.split(".")[1])

    def _check(self, claims: Mapping[str, Any], text: str, sent_at: float) -> None:
        token_id, made, ends = claims.get("jti"), _seconds(claims, "iat"), _seconds(claims, "exp")
        if not (isinstance(token_id, str) and _TOKEN_ID.fullmatch(token_id)):
            raise _Wrong("jti: expected 16 to 128 letters, digits, '_' and '-'")
        if claims.get("aud") != self._audience:
            raise _Wrong(f"it is for another queue than {self._audience}")
        if claims.get("sha256") != digest(text):
            raise _Wrong("it is for another body")
        if not 0 < ends - made <= self._life:
            raise _Wrong(f"exp is not within {durations.format(self._life)} after iat")
        if sent_at > ends:
            raise _Wrong(f"sent {durations.format(float(int(sent_at - ends) + 1))} after it expired; sign it again")
        if sent_at < made - LEEWAY:
            early = durations.format(float(int(made - sent_at)))
            raise _Wrong(f"sent {early} before it was made; the producer's clock is wrong")


def claims_of(text: str, *, audience: str, now: float, life: float, token_id: str) -> dict[str, Any]:
    """Return the claims of a signature that is made at ``now`` (epoch seconds) and lives for ``life`` seconds."""
    return {"aud": audience, "iat": int(now), "exp": int(now + life), "jti": token_id, "sha256": digest(text)}


def header_of(key_id: str, algorithm: str) -> dict[str, str]:
    """Return the header of a signature."""
    return {"alg": algorithm, "kid": key_id, "typ": TYPE}


def token_ids(token: str) -> tuple[str, str] | None:
    """Return the ids of key and token that a token claims, unverified; None if it is none."""
    try:
        parts = token[:LONGEST].split(".")
        key, token_id = _object(parts[0]).get("kid"), _object(parts[1]).get("jti")
    except (_Wrong, IndexError):
        return None
    good = (
        isinstance(key, str) and KEY_ID.fullmatch(key) and isinstance(token_id, str) and _TOKEN_ID.fullmatch(token_id)
    )
    return (str(key), str(token_id)) if good else None


def claim_key(key: str, token_id: str) -> str:
    """Return what the throttler knows a signed message and its copies by."""
    return f"jti:{key}/{token_id}"


def digest(text: str) -> str:
    """Return the SHA-256 of a text's bytes, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def _object(part: str) -> dict[str, Any]:
    try:
        return parsed(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)), "it")
    except (binascii.Error, ValueError):
        raise _Wrong("it is no JSON Web Token") from None
    except ConfigError:
        raise _Wrong("it is no JSON Web Token, or a name stands twice in it") from None


def _seconds(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _LATEST:
        return float(value)
    raise _Wrong(f"{name}: expected seconds since 1970")


def _shown(value: object) -> str:
    return str(value)[:_SHOWN].encode("unicode_escape").decode()
