"""Keys of signatures: JWK sets for workers, private keys for producers. The algorithm is the key's, never a token's.

PyJWT and cryptography are the extra ``sqsjkr[signatures]``; they are imported where the first key is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqsjkr.errors import ConfigError
from sqsjkr.trust.modes import guarded

ALGORITHMS = ("EdDSA", "ES256", "HS256")
INSTALL = "signatures need PyJWT and cryptography; next: pip install 'sqsjkr[signatures]'"
KEY_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./:-]{0,127}")
_OF_KEYS = {("OKP", "Ed25519"): "EdDSA", ("EC", "P-256"): "ES256", ("oct", ""): "HS256"}
_LEAST_SECRET = 32  # bytes (RFC 7518, section 3.2: as long as the hash)


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key that signs or verifies."""

    id: str
    algorithm: str
    """One of ``ALGORITHMS``, which follows from the kind of key."""
    material: Any = field(repr=False, compare=False)
    """What PyJWT takes for it."""


def read_set(paths: Sequence[str]) -> dict[str, Key]:
    """Read the keys that workers verify with, by their ids.

    Raises:
        ConfigError: PyJWT is missing, a file cannot be read or others may change it, or a key in it is wrong: one line
            for each mistake.
    """
    keys: dict[str, Key] = {}
    mistakes: list[str] = []
    for path in paths:
        document = parsed(guarded(path), path)
        members = document.get("keys")
        if not isinstance(members, list) or not all(isinstance(jwk, Mapping) for jwk in members):
            raise ConfigError(f'{path}: no JWK set, expected {{"keys": [...]}}; next: sqsjkr keygen')
        if any(jwk.get("kty") == "oct" for jwk in members):
            guarded(path, secret=True)
        for number, jwk in enumerate(members, 1):
            try:
                key = public(jwk)
            except ValueError as why:
                mistakes.append(f"{path}: key {jwk.get('kid', number)!r}: {why}")
                continue
            if key.id in keys:
                mistakes.append(f"{path}: key {key.id!r}: there is another key of this id")
            keys[key.id] = key
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    return keys


def public(jwk: Mapping[str, Any]) -> Key:
    """Return the key of a JWK to verify with. Raises ValueError with what is wrong, ConfigError if PyJWT is missing."""
    if "d" in jwk:
        raise ValueError("it is a private key, workers need its public half only: the file that keygen named for them")
    return _key(jwk)


def private(jwk: Mapping[str, Any]) -> Key:
    """Return the key of a JWK to sign with. Raises as ``public``."""
    if "d" not in jwk and jwk.get("kty") != "oct":
        raise ValueError("it is a public key, expected the private one")
    return _key(jwk)


def read_private(path: str) -> Key:
    """Read the key that a producer signs with. Raises ``ConfigError``: as ``read_set``, or others may read it."""
    document = parsed(guarded(path, secret=True), path)
    try:
        return private(document)
    except ValueError as why:
        raise ConfigError(f"{path}: {why}") from None


def parsed(content: bytes | str, what: str) -> dict[str, Any]:
    """Read a JSON object in which no name stands twice. Raises ``ConfigError`` that begins with ``what``."""
    try:
        document = json.loads(content, object_pairs_hook=_once)
    except (ValueError, RecursionError) as why:
        raise ConfigError(f"{what}: not JSON ({why})") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{what}: no JSON object")
    return document


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _key(jwk: Mapping[str, Any]) -> Key:
    key_id = jwk.get("kid")
    if not isinstance(key_id, str) or not KEY_ID.fullmatch(key_id):
        raise ValueError("kid: expected at most 128 letters, digits, '_', '.', '/', ':' and '-'")
    algorithm = _OF_KEYS.get((str(jwk.get("kty")), str(jwk.get("crv", ""))))
    if algorithm is None:
        raise ValueError("expected a key of kty OKP and crv Ed25519, EC and P-256, or oct")
    if jwk.get("alg", algorithm) != algorithm:
        raise ValueError(f"alg = {jwk['alg']!r}: expected {algorithm} for this kind of key")
    if jwk.get("use", "sig") != "sig":
        raise ValueError("use: expected sig")
    try:
        import jwt  # noqa: PLC0415 - see the module
        from jwt import PyJWK  # noqa: PLC0415
        from jwt.exceptions import MissingCryptographyError  # noqa: PLC0415

        material = PyJWK(dict(jwk), algorithm).key
    except ImportError:
        raise ConfigError(INSTALL) from None
    except jwt.PyJWTError as why:
        if isinstance(why, MissingCryptographyError):
            raise ConfigError(INSTALL) from None
        raise ValueError(f"no good key ({why})" if algorithm != "HS256" else "no good key") from None
    if algorithm == "HS256" and len(material) < _LEAST_SECRET:
        raise ValueError(f"k: expected at least {_LEAST_SECRET} bytes")
    return Key(id=key_id, algorithm=algorithm, material=material)
