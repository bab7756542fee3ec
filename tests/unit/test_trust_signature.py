"""Signatures: what is accepted, and everything an attacker could try."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joserfc.jwk
import joserfc.jws
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from kms import EC, EDWARDS, kms
from sqsjkr.cli.keygen import _new
from sqsjkr.cli.main import main
from sqsjkr.errors import BackendRefused, ConfigError
from sqsjkr.trust import keys
from sqsjkr.trust.signature import TYPE, Verifier, claim_key, claims_of, digest, token_ids
from sqsjkr.trust.signer import signer

BODY = '{"command": "make report"}'
NOW = 1_800_000_000.0
LIFE = 900.0
QUEUE = "jobs"
ALGORITHMS = ("EdDSA", "ES256", "HS256")
JWKS = {name: _new(name) for name in ALGORITHMS}


def jwk(name: str, *, private: bool = False) -> dict[str, Any]:
    return {"kid": name.lower(), **JWKS[name][0 if private else 1]}


@pytest.fixture(scope="module")
def verifier() -> Verifier:
    known = {name.lower(): keys.public(jwk(name)) for name in ALGORITHMS}
    return Verifier(known, audience=QUEUE, life=LIFE)


def claims(**changed: Any) -> dict[str, Any]:
    made = claims_of(BODY, audience=QUEUE, now=NOW, life=LIFE, token_id="abcdefghijklmnop")
    return {name: value for name, value in (made | changed).items() if value is not None}


def token(name: str = "EdDSA", *, header: dict[str, Any] | None = None, **changed: Any) -> str:
    key = keys.private(jwk(name, private=True))
    given = {"kid": key.id, "typ": TYPE} | (header or {})
    return jwt.encode(claims(**changed), key.material, key.algorithm, headers=given)


def part(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def signed(header: Any, payload: Any, name: str = "EdDSA") -> str:
    """A token whose parts are as given, really signed."""
    key = keys.private(jwk(name, private=True))
    head = f"{part(header)}.{part(payload)}"
    algorithm = jwt.get_algorithm_by_name(key.algorithm)
    return f"{head}.{base64.urlsafe_b64encode(algorithm.sign(head.encode(), key.material)).rstrip(b'=').decode()}"


HEADER = {"alg": "EdDSA", "kid": "eddsa", "typ": TYPE}


def test_what_is_built_by_hand_here_is_accepted_as_it_is(verifier: Verifier) -> None:
    assert verifier.prove(signed(HEADER, claims()), BODY, NOW).complaint == ""


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_good_signature_proves_its_key_and_its_own_id(verifier: Verifier, name: str) -> None:
    proof = verifier.prove(token(name), BODY, NOW)
    assert (proof.key, proof.token, proof.complaint) == (name.lower(), "abcdefghijklmnop", "")
    assert claim_key(proof.key, proof.token) == f"jti:{name.lower()}/abcdefghijklmnop"
    assert token_ids(token(name)) == (name.lower(), "abcdefghijklmnop")


@pytest.mark.filterwarnings(
    "ignore:EdDSA is deprecated"
)  # RFC 9864 calls it Ed25519; what KMS and others write is EdDSA
@pytest.mark.parametrize("name", ALGORITHMS)
def test_another_library_signs_what_we_accept_and_accepts_what_we_sign(verifier: Verifier, name: str) -> None:
    theirs = joserfc.jwk.import_key(jwk(name, private=True))
    protected = {"alg": name, "kid": name.lower(), "typ": TYPE}
    made = joserfc.jws.serialize_compact(protected, json.dumps(claims()), theirs, algorithms=[name])
    assert verifier.prove(made, BODY, NOW).complaint == ""
    read = joserfc.jws.deserialize_compact(token(name), joserfc.jwk.import_key(jwk(name)), algorithms=[name])
    assert json.loads(read.payload) == claims()


# Edited, re-addressed, re-keyed


@pytest.mark.parametrize("body", [BODY + " ", BODY.replace("report", "Report"), "", " " + BODY, BODY + "\n"])
def test_a_signature_is_for_its_body_to_the_byte(verifier: Verifier, body: str) -> None:
    assert verifier.prove(token(), body, NOW).complaint == "signature: it is for another body"


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"aud": "another"}, "it is for another queue than jobs"),
        ({"aud": ["jobs"]}, "it is for another queue than jobs"),
        ({"aud": None}, "it is for another queue than jobs"),
        ({"sha256": None}, "it is for another body"),
        ({"sha256": digest(BODY).upper()}, "it is for another body"),
        ({"jti": None}, "jti: expected 16 to 128 letters"),
        ({"jti": "short"}, "jti: expected 16 to 128 letters"),
        ({"jti": "a" * 129}, "jti: expected 16 to 128 letters"),
        ({"jti": "../" * 8}, "jti: expected 16 to 128 letters"),
        ({"jti": "abcdefghijklmnop\n"}, "jti: expected 16 to 128 letters"),
        ({"iat": None}, "iat: expected seconds since 1970"),
        ({"exp": None}, "exp: expected seconds since 1970"),
        ({"exp": True}, "exp: expected seconds since 1970"),
        ({"exp": 1e300}, "exp: expected seconds since 1970"),
        ({"exp": NOW + LIFE + 1}, "exp is not within 15m0s after iat"),
        ({"exp": NOW}, "exp is not within 15m0s after iat"),
        ({"exp": NOW - 1}, "exp is not within 15m0s after iat"),
    ],
)
def test_a_signature_with_a_wrong_claim_is_refused(verifier: Verifier, changed: dict[str, Any], complaint: str) -> None:
    assert verifier.prove(signed(HEADER, claims(**changed)), BODY, NOW).complaint.startswith(f"signature: {complaint}")


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        ({**HEADER, "alg": "none"}, "its algorithm is not that of key eddsa, EdDSA"),
        ({**HEADER, "alg": "HS256"}, "its algorithm is not that of key eddsa, EdDSA"),
        ({**HEADER, "alg": "ES256"}, "its algorithm is not that of key eddsa, EdDSA"),
        ({**HEADER, "alg": "eddsa"}, "its algorithm is not that of key eddsa, EdDSA"),
        ({**HEADER, "kid": "es256"}, "its algorithm is not that of key es256, ES256"),
        ({**HEADER, "kid": "unknown"}, "this worker has no key unknown"),
        ({**HEADER, "kid": ["eddsa"]}, "this worker has no key ['eddsa']"),
        ({**HEADER, "kid": "a\nb"}, "this worker has no key a\\nb"),
        ({**HEADER, "typ": "JWT"}, "its header is not"),
        ({"alg": "EdDSA", "kid": "eddsa"}, "its header is not"),
        ({"alg": "EdDSA", "typ": TYPE}, "its header is not"),
        ({**HEADER, "crit": ["exp"]}, "its header is not"),
        ({**HEADER, "b64": False, "crit": ["b64"]}, "its header is not"),
        ({**HEADER, "jwk": {}}, "its header is not"),
        ({**HEADER, "jku": "http://127.0.0.1/"}, "its header is not"),
        ('{"alg": "EdDSA", "alg": "none", "kid": "eddsa", "typ": "sqsjkr+jwt"}', "it is no JSON Web Token, or a name"),
        ("[]", "it is no JSON Web Token"),
        ("{", "it is no JSON Web Token"),
    ],
)
def test_a_signature_with_another_header_is_refused(verifier: Verifier, header: Any, complaint: str) -> None:
    assert verifier.prove(signed(header, claims()), BODY, NOW).complaint.startswith(f"signature: {complaint}")


def test_a_name_that_stands_twice_in_the_claims_is_refused(verifier: Verifier) -> None:
    twice = json.dumps(claims())[:-1] + f', "sha256": "{digest("evil")}"}}'
    assert "stands twice" in verifier.prove(signed(HEADER, twice), BODY, NOW).complaint


def test_a_token_without_a_signature_is_refused(verifier: Verifier) -> None:
    head, payload, _ = token().split(".")
    for made in (f"{head}.{payload}.", f"{head}.{payload}", f"{part({**HEADER, 'alg': 'none'})}.{payload}."):
        assert verifier.prove(made, BODY, NOW).complaint


def test_the_public_key_is_no_secret_to_sign_with(verifier: Verifier) -> None:
    public = keys.public(jwk("EdDSA")).material
    for secret in (
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.Raw, PublicFormat.Raw),
        json.dumps(jwk("EdDSA")).encode(),
    ):
        head = f"{part({**HEADER, 'alg': 'HS256'})}.{part(claims())}"
        made = base64.urlsafe_b64encode(hmac.digest(secret, head.encode(), "sha256")).rstrip(b"=").decode()
        assert "its algorithm is not" in verifier.prove(f"{head}.{made}", BODY, NOW).complaint


@pytest.mark.parametrize("name", ALGORITHMS)
def test_no_other_key_signs_for_this_one(verifier: Verifier, name: str) -> None:
    other = keys.private({"kid": name.lower(), **_new(name)[0]})
    made = jwt.encode(claims(), other.material, other.algorithm, headers={"kid": other.id, "typ": TYPE})
    assert verifier.prove(made, BODY, NOW).complaint == f"signature: key {name.lower()} did not make it"


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("segment", [0, 1, 2])
def test_a_changed_token_is_refused(verifier: Verifier, name: str, segment: int) -> None:
    parts = token(name).split(".")
    middle = len(parts[segment]) // 2
    parts[segment] = (
        parts[segment][:middle] + ("A" if parts[segment][middle] != "A" else "B") + parts[segment][middle + 1 :]
    )
    assert verifier.prove(".".join(parts), BODY, NOW).complaint


@pytest.mark.parametrize("made", ["", ".", "..", "a.b.c", "é.é.é", "x" * 5000, "eyJ9." * 900, "\0", "{}"])
def test_what_is_no_token_is_refused_and_names_no_key(verifier: Verifier, made: str) -> None:
    assert verifier.prove(made, BODY, NOW).complaint.startswith("signature: ")
    assert token_ids(made) is None


# Time: the queue's


@pytest.mark.parametrize(
    ("sent_at", "complaint"),
    [
        (NOW - 60.0, ""),
        (NOW + LIFE, ""),
        (NOW - 61.0, "signature: sent 1m1s before it was made; the producer's clock is wrong"),
        (NOW + LIFE + 0.5, "signature: sent 1s after it expired; sign it again"),
        (NOW + LIFE + 259_200, "signature: sent 72h0m1s after it expired; sign it again"),
    ],
)
def test_a_signature_counts_from_a_minute_before_it_was_made_to_its_end_by_the_queues_clock(
    verifier: Verifier, sent_at: float, complaint: str
) -> None:
    assert verifier.prove(token(), BODY, sent_at).complaint == complaint


# Keys


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    def to_file(*members: dict[str, Any], mode: int = 0o600) -> str:
        path = tmp_path / f"{os.urandom(4).hex()}.json"
        path.write_text(json.dumps({"keys": members}))
        path.chmod(mode)
        return str(path)

    return to_file


def test_keys_are_read_from_any_number_of_sets(write: Callable[..., str]) -> None:
    found = keys.read_set([write(jwk("EdDSA"), jwk("ES256"), mode=0o644), write(jwk("HS256"))])
    assert {key.id: key.algorithm for key in found.values()} == {"eddsa": "EdDSA", "es256": "ES256", "hs256": "HS256"}


@pytest.mark.parametrize(
    ("member", "mistake"),
    [
        (jwk("EdDSA", private=True), "'eddsa': it is a private key, workers need its public half only"),
        ({"kty": "OKP"}, "1: kid: expected at most 128 letters"),
        ({**jwk("EdDSA"), "kid": "a b"}, "'a b': kid: expected"),
        ({**jwk("EdDSA"), "alg": "HS256"}, "'eddsa': alg = 'HS256': expected EdDSA for this kind of key"),
        ({**jwk("EdDSA"), "crv": "Ed448"}, "'eddsa': expected a key of kty OKP and crv Ed25519, EC and P-256, or oct"),
        ({**jwk("EdDSA"), "x": "AA"}, "'eddsa': no good key"),
        ({**jwk("EdDSA"), "use": "enc"}, "'eddsa': use: expected sig"),
        ({"kid": "rsa", "kty": "RSA", "n": "AQAB", "e": "AQAB"}, "'rsa': expected a key of kty"),
        ({"kid": "weak", "kty": "oct", "k": part("short")}, "'weak': k: expected at least 32 bytes"),
    ],
)
def test_a_key_that_is_none_is_named(write: Callable[..., str], member: dict[str, Any], mistake: str) -> None:
    path = write(member)
    with pytest.raises(ConfigError) as error:
        keys.read_set([path])
    assert str(error.value).startswith(f"{path}: key {mistake}")
    assert str(member.get("d", "no secret")) not in str(error.value)
    assert str(member.get("k", "no secret")) not in str(error.value)


def test_a_secret_that_others_may_read_is_refused(write: Callable[..., str]) -> None:
    with pytest.raises(ConfigError, match="group or others may read a secret in it"):
        keys.read_set([write(jwk("HS256"), mode=0o640)])


def test_two_keys_of_one_id_are_refused(write: Callable[..., str]) -> None:
    with pytest.raises(ConfigError, match="there is another key of this id"):
        keys.read_set([write(jwk("EdDSA")), write(jwk("EdDSA"))])


# Signing


async def test_a_file_signs_for_the_queue(verifier: Verifier, tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    path.write_text(json.dumps(jwk("EdDSA", private=True)))
    path.chmod(0o600)
    ours = signer(str(path), audience=QUEUE, life=LIFE)
    await ours.open()
    first, second = [await ours.sign(BODY, NOW) for _ in range(2)]
    assert verifier.prove(first, BODY, NOW).key == "eddsa"
    assert verifier.prove(first, BODY, NOW).token != verifier.prove(second, BODY, NOW).token
    assert len(first) < 400


@pytest.mark.parametrize(("mode", "private", "mistake"), [(0o644, True, "may read a secret"), (0o600, False, "public")])
async def test_a_private_key_that_is_none_is_refused(tmp_path: Path, mode: int, private: bool, mistake: str) -> None:
    path = tmp_path / "key.json"
    path.write_text(json.dumps(jwk("EdDSA", private=private)))
    path.chmod(mode)
    with pytest.raises(ConfigError, match=mistake):
        await signer(str(path), audience=QUEUE, life=LIFE).open()


@pytest.fixture
def kms_url(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    with kms() as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", url)
        yield url


@pytest.mark.parametrize(
    ("name", "key_id"), [(EC, "ec"), (EDWARDS, "edwards"), (f"{EC}#deploy-2026-11", "deploy-2026-11")]
)
async def test_a_key_in_kms_signs_for_the_queue(
    kms_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, key_id: str
) -> None:
    alias, _, given = name.partition("#")
    words = ["keygen", "--kms", alias, "--out", str(tmp_path), *(["--id", given] if given else [])]
    assert await in_thread(words) == 0
    found = keys.read_set([str(tmp_path / f"{key_id}.jwks.json")])
    ours = signer(f"kms:{name}", audience=QUEUE, life=LIFE)
    await ours.open()
    try:
        made = await ours.sign(BODY, NOW)
    finally:
        await ours.close()
    proof = Verifier(found, audience=QUEUE, life=LIFE).prove(made, BODY, NOW)
    assert (proof.key, proof.complaint) == (key_id, "")


async def in_thread(words: list[str]) -> int:
    """A verb has an event loop of its own."""
    return await asyncio.to_thread(main, words)


async def test_a_key_that_kms_does_not_have_is_refused_with_action_and_cause(kms_url: str) -> None:
    with pytest.raises(BackendRefused, match=r"kms:GetPublicKey: NotFoundException: Alias alias/none is not found"):
        await signer("kms:alias/none", audience=QUEUE, life=LIFE).open()


def test_a_signature_needs_no_clock_of_this_host(verifier: Verifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert verifier.prove(token(), BODY, NOW).complaint == ""


def test_the_digest_is_that_of_the_bytes() -> None:
    assert digest("é") == hashlib.sha256("é".encode()).hexdigest()


@given(st.one_of(st.text(max_size=200), st.text('eyJ.{}"algkidtypnoe:-_=', max_size=200)))
def test_no_token_whatever_it_holds_is_a_bug(text: str) -> None:
    known = {"eddsa": keys.public(jwk("EdDSA"))}
    assert Verifier(known, audience=QUEUE, life=LIFE).prove(text, BODY, NOW).complaint
    assert token_ids(text) is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda x: st.lists(x) | st.dictionaries(st.text(max_size=3), x),
        max_leaves=5,
    ),
    st.sampled_from(["alg", "kid", "typ", "aud", "iat", "exp", "jti", "sha256"]),
)
def test_no_value_in_a_token_whatever_it_is_is_a_bug(value: Any, name: str) -> None:
    known = {"eddsa": keys.public(jwk("EdDSA"))}
    verifier = Verifier(known, audience=QUEUE, life=LIFE)
    header, payload = dict(HEADER), claims()
    (header if name in header else payload)[name] = value
    proof = verifier.prove(signed(header, payload), BODY, NOW)
    assert proof.complaint or (header, payload) == (HEADER, claims())
