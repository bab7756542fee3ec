from __future__ import annotations

import calendar
import time
from dataclasses import dataclass

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from sqsjkr.backends.aws.signing import Signer

TARGET = "DynamoDB_20120810.UpdateItem"

words = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/=", min_size=1, max_size=60)
keys = st.builds(ReadOnlyCredentials, words, words, st.none() | words, st.none())
hosts = st.sampled_from(["sqs.us-east-1.amazonaws.com", "127.0.0.1", "[::1]", "localhost", "DynamoDB.Example"])
urls = st.builds(
    "{}://{}{}{}".format,
    st.sampled_from(["http", "https"]),
    hosts,
    st.sampled_from(["", ":80", ":443", ":4566", ":8000"]),
    st.sampled_from(["", "/", "/prefix", "/a b/c~d", "/a//b", "/%E3%81%82/"]),
)
bodies = st.text().map(str.encode) | st.binary()
times = st.floats(0, 4_000_000_000)


@dataclass
class Sent:
    authorization: str
    date: str
    token: str | None


def botocores(url: URL, region: str, service: str, body: bytes, keys: ReadOnlyCredentials, at: float) -> Sent:
    """What botocore would send at that time, for the headers that we send."""
    request = AWSRequest("POST", str(url), {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": TARGET}, body)
    auth = SigV4Auth(keys, service, region)
    request.context["timestamp"] = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))
    auth._modify_request_before_signing(request)
    signature = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    auth._inject_signature_to_request(request, signature)
    headers = request.headers
    return Sent(headers["Authorization"], headers["X-Amz-Date"], headers.get("X-Amz-Security-Token"))


def ours(signer: Signer, body: bytes, keys: ReadOnlyCredentials, at: float) -> Sent:
    headers = signer.headers(keys, TARGET, body, at)
    return Sent(headers["Authorization"], headers["X-Amz-Date"], headers.get("X-Amz-Security-Token"))


def signer_for(url: URL, region: str = "us-east-1", service: str = "dynamodb") -> Signer:
    return Signer(service=service, region=region, host=url.host_port_subcomponent or "", path=url.raw_path)


@given(
    urls.map(URL),
    st.sampled_from(["us-east-1", "cn-north-1"]),
    st.sampled_from(["sqs", "dynamodb"]),
    bodies,
    keys,
    times,
)
def test_a_signature_is_botocores_byte_for_byte(
    url: URL, region: str, service: str, body: bytes, keys: ReadOnlyCredentials, at: float
) -> None:
    assert ours(signer_for(url, region, service), body, keys, at) == botocores(url, region, service, body, keys, at)


@given(st.lists(st.tuples(keys, bodies, times), min_size=2, max_size=8))
def test_one_signer_serves_changing_keys_and_days(requests: list[tuple[ReadOnlyCredentials, bytes, float]]) -> None:
    url = URL("http://127.0.0.1:8000/")
    signer = signer_for(url)
    for keys, body, at in requests:
        assert ours(signer, body, keys, at) == botocores(url, "us-east-1", "dynamodb", body, keys, at)


def test_a_signature_changes_at_midnight_of_greenwich() -> None:
    signer, keys = signer_for(URL("http://127.0.0.1/")), ReadOnlyCredentials("AKID", "secret", None, None)
    midnight = calendar.timegm((2026, 1, 1, 0, 0, 0))
    before, after = ours(signer, b"{}", keys, midnight - 0.001), ours(signer, b"{}", keys, midnight)
    assert before.date == "20251231T235959Z"
    assert "AKID/20251231/" in before.authorization
    assert after.date == "20260101T000000Z"
    assert "AKID/20260101/" in after.authorization


def test_what_is_pieced_together_here_is_what_botocore_sends() -> None:
    """The helper above uses botocore's parts, to choose the time; this one goes through its front door."""
    url, keys = URL("http://127.0.0.1:4566/"), ReadOnlyCredentials("AKID", "secret", "a token", None)
    request = AWSRequest(
        "POST", str(url), {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": TARGET}, b"{}"
    )
    SigV4Auth(keys, "dynamodb", "us-east-1").add_auth(request)
    at = calendar.timegm(time.strptime(request.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ"))
    assert ours(signer_for(url), b"{}", keys, at).authorization == request.headers["Authorization"]
