"""What a daemon with AWS's addresses built in needs to meet the stand-in, unpatched.

The Go original asks https://sqs.REGION.amazonaws.com, whatever the environment says (go-semantics D3). Go's net/http
takes a proxy from HTTPS_PROXY and the certificates it trusts from SSL_CERT_FILE, so the stand-in plays the proxy, and
shows a certificate for AWS's names that was made for this one run by the `openssl` command.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

from benchmarks.standing import ROOT, Standin

HOSTS = ("sqs.us-east-1.amazonaws.com", "queue.amazonaws.com", "dynamodb.us-east-1.amazonaws.com")


def make_certificates(folder: Path, more_hosts: list[str]) -> Path | None:
    """Certificate and key of the stand-in in one file; what to trust is `ca.pem` beside it. None without openssl."""
    openssl = shutil.which("openssl")
    if openssl is None:
        return None
    authority, key, whole = folder / "ca.pem", folder / "ca.key", folder / "standin.pem"
    names = ",".join(f"DNS:{host}" for host in (*HOSTS, *more_hosts))
    fresh = [
        openssl,
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    _quietly([*fresh, "-subj", "/CN=sqsjkr benchmark", "-keyout", str(key), "-out", str(authority)])
    leaf_key, leaf = folder / "leaf.key", folder / "leaf.pem"
    signed = ["-CA", str(authority), "-CAkey", str(key), "-addext", "basicConstraints=critical,CA:FALSE"]
    subject = ["-subj", "/CN=sqs.us-east-1.amazonaws.com", "-addext", f"subjectAltName={names}"]
    _quietly([*fresh, *signed, *subject, "-keyout", str(leaf_key), "-out", str(leaf)])
    whole.write_text(leaf_key.read_text() + leaf.read_text())
    return whole


def environment(standin: Standin, tls: Path | None) -> dict[str, str | None]:
    """For a peer that honours AWS_ENDPOINT_URL this changes nothing: it speaks to loopback, where no proxy is used."""
    if tls is None:
        return {}
    trusted = str(tls.with_name("ca.pem"))
    return {"HTTPS_PROXY": standin.url, "SSL_CERT_FILE": trusted, "NO_PROXY": "127.0.0.1,localhost"}


def same_way(standin: Standin, tls: Path | None) -> dict[str, str | None]:
    """Takes our own daemon the way of a peer with AWS's addresses built in, TLS and all: a fair comparison needs it."""
    more = environment(standin, tls)
    return more | {"AWS_ENDPOINT_URL": None, "AWS_CA_BUNDLE": more["SSL_CERT_FILE"]} if more else {}


def _quietly(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)


def build_original(folder: Path) -> str:
    """Build the Go original, with its one change to honour AWS_ENDPOINT_URL: the command that starts it.

    Raises:
        SystemExit: its source is not beside this checkout, or it does not build.
    """
    build = next((each for top in ROOT.parents if (each := top / "shared/peer/build").exists()), None)
    if build is None:
        raise SystemExit(f"--go: no shared/peer/build beside {ROOT}; give --peer CMD instead")
    done = subprocess.run([str(build), str(folder)], check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"--go: {build} ended with exit code {done.returncode}")
    return shlex.quote(str(folder / "sqsjkr-go"))
