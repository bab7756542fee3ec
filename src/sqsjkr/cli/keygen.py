"""``sqsjkr keygen``: a key that a producer signs with, and what the workers verify it with."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from sqsjkr.cli.exit_codes import OK
from sqsjkr.errors import ConfigError
from sqsjkr.trust.keys import ALGORITHMS, INSTALL, KEY_ID

EPILOG = """\
examples:
  sqsjkr keygen --id deploy-2026-11
  sqsjkr keygen --kms alias/deploy --region eu-west-1

exit codes: 0 if the files were written, 1 if KMS refused, 2 if the command line is wrong or a file is there already
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what is said about a key."""
    parser.add_argument(
        "--id", metavar="ID", default="", help="the key's id, for the trust file (with --kms: its alias)"
    )
    parser.add_argument("--alg", metavar="ALG", choices=ALGORITHMS, help=f"{', '.join(ALGORITHMS)} (default: EdDSA)")
    parser.add_argument("--kms", metavar="ALIAS", default="", help="write the public key of a key in AWS KMS")
    parser.add_argument("--out", metavar="DIR", default=".", help="where to write the files (default: here)")
    parser.add_argument("--profile", metavar="NAME", default="", help="profile in the AWS configuration files, for KMS")
    parser.add_argument("--region", metavar="NAME", default="", help="AWS region, for KMS")


def execute(arguments: argparse.Namespace) -> int:
    """Write the files, and say which is whose."""
    if arguments.kms and arguments.alg:
        raise ConfigError("--alg: leave it out with --kms, the key is there already")
    key_id = arguments.id or arguments.kms.removeprefix("alias/")
    if not key_id:
        raise ConfigError("--id is missing: the name by which the trust file knows the key, such as deploy-2026-11")
    if not KEY_ID.fullmatch(key_id):
        raise ConfigError(f"--id {key_id!r}: expected at most 128 letters, digits, '_', '.', '/', ':' and '-'")
    stem = Path(arguments.out) / key_id.replace("/", "-").replace(":", "-")
    if arguments.kms:
        public = asyncio.run(_of_kms(arguments))
    else:
        private, public = _new(arguments.alg or "EdDSA")
        named = {"kid": key_id, **private}
        _write(f"{stem}.private.json", named, mode=0o600, what="for the producer: sqsjkr send --sign")
    secret = public["kty"] == "oct"
    jwk = {"kid": key_id, "use": "sig", **public}
    what = "for the workers: keys in the trust file"
    _write(f"{stem}.jwks.json", {"keys": [jwk]}, mode=0o600 if secret else 0o644, what=what)
    if secret:
        sys.stdout.write("HS256: every worker that verifies with this key can sign with it, too\n")
    return OK


def _write(path: str, content: dict[str, Any], *, mode: int, what: str) -> None:
    text = json.dumps(content, indent=1) + "\n"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        raise ConfigError(
            f"{path}: is there already; keys are never overwritten, choose another --id or --out"
        ) from None
    except OSError as why:
        raise ConfigError(f"{path}: cannot be written: {(why.strerror or str(why)).lower()}") from None
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, mode)  # whatever the umask says
        file.write(text)
    sys.stdout.write(f"{path}  {what}\n")


def _new(algorithm: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a new private key and its public half, as JWKs."""
    try:
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519  # noqa: PLC0415 - the extra
        from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm  # noqa: PLC0415 - the extra
    except ImportError:
        raise ConfigError(INSTALL) from None
    if algorithm == "HS256":
        secret = HMACAlgorithm.to_jwk(os.urandom(32), as_dict=True)
        secret.pop("alg", None)
        return secret, secret
    if algorithm == "ES256":
        curve = ec.generate_private_key(ec.SECP256R1())
        return ECAlgorithm.to_jwk(curve, as_dict=True), ECAlgorithm.to_jwk(curve.public_key(), as_dict=True)
    edwards = ed25519.Ed25519PrivateKey.generate()
    return OKPAlgorithm.to_jwk(edwards, as_dict=True), OKPAlgorithm.to_jwk(edwards.public_key(), as_dict=True)


async def _of_kms(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the public key of a key in KMS, as a JWK."""
    from sqsjkr.trust.signer import KMSSigner  # noqa: PLC0415 - AWS only where it is asked

    try:
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey  # noqa: PLC0415 - the extra
        from cryptography.hazmat.primitives.serialization import load_der_public_key  # noqa: PLC0415
        from jwt.algorithms import ECAlgorithm, OKPAlgorithm  # noqa: PLC0415
    except ImportError:
        raise ConfigError(INSTALL) from None
    where = {"profile": arguments.profile, "region": arguments.region}
    name = f"{arguments.kms}#{arguments.id}" if arguments.id else arguments.kms
    signer = KMSSigner(name, audience="", life=0.0, **where)
    await signer.open()
    await signer.close()
    key: Any = load_der_public_key(signer.der)
    kind = ECAlgorithm if isinstance(key, EllipticCurvePublicKey) else OKPAlgorithm
    return kind.to_jwk(key, as_dict=True)
