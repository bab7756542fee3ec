"""The benchmarks measure what they say, as far as that can be told without measuring."""

import asyncio
import contextlib
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from benchmarks import peers, plots, report, scale, stalls
from benchmarks.standing import ACCOUNT, QUEUE, Fifo, Standin
from botocore.config import Config
from botocore.exceptions import ProxyConnectionError, SSLError

from servers import PATIENCE

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="certificates are made by openssl")


def client(standin: Standin, authority: Path) -> Any:
    session = botocore.session.get_session()
    session.set_credentials("key", "secret")
    config = Config(proxies={"https": standin.url}, retries={"total_max_attempts": 1})
    return session.create_client("sqs", region_name="us-east-1", verify=str(authority), config=config)


@needs_openssl
def test_a_client_with_the_addresses_of_aws_built_in_meets_the_standin_by_proxy_and_certificate(tmp_path: Path) -> None:
    tls = peers.make_certificates(tmp_path, [])
    with Standin(tls) as standin:
        sqs = client(standin, tmp_path / "ca.pem")
        url = f"https://sqs.us-east-1.amazonaws.com/{ACCOUNT}/{QUEUE}"
        sqs.send_message(QueueUrl=url, MessageBody="over the proxy")
        received = sqs.receive_message(QueueUrl=url)["Messages"]
        assert [message["Body"] for message in received] == ["over the proxy"]
        assert standin.counts()["requests"] == {"sqs.SendMessage": 1, "sqs.ReceiveMessage": 1}
        sqs.close()


@needs_openssl
def test_a_client_that_does_not_trust_the_certificate_is_no_trouble_for_the_next_one(tmp_path: Path) -> None:
    tls = peers.make_certificates(tmp_path, [])
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    peers.make_certificates(stranger, [])
    with Standin(tls) as standin:
        wary = client(standin, stranger / "ca.pem")
        with pytest.raises((SSLError, ProxyConnectionError)):
            wary.list_queues()
        wary.close()
        trusting = client(standin, tmp_path / "ca.pem")
        assert len(trusting.list_queues()["QueueUrls"]) == 1
        trusting.close()


def test_the_way_of_a_go_peer_names_proxy_and_authority_and_no_endpoint(tmp_path: Path) -> None:
    with Standin() as standin:
        env = peers.same_way(standin, tmp_path / "standin.pem")
        assert env["AWS_ENDPOINT_URL"] is None
        assert (env["HTTPS_PROXY"], env["SSL_CERT_FILE"]) == (standin.url, str(tmp_path / "ca.pem"))
        assert peers.same_way(standin, None) == {}


def test_the_pipe_says_when_a_command_ran_and_that_none_did(tmp_path: Path) -> None:
    with contextlib.closing(Fifo(tmp_path / "fifo")) as fifo:
        with pytest.raises(RuntimeError, match="did not run"):
            fifo.wait(0.01)
        subprocess.run(["sh", "-c", fifo.command], check=True)
        fifo.wait(PATIENCE)


def test_the_table_marks_what_meets_its_target_and_what_does_not() -> None:
    samples = {"ours": {"sqs": [0.1, 0.2, 0.3], "dynamodb": [2.0, 1.9, 1.8]}}
    lines = report.table(samples, {}, runs=3, quick=False).splitlines()
    assert lines[2].endswith("| **0.20** | 0.10 to 0.30 | ✓ |")
    assert lines[3].endswith("| **1.90** | 1.80 to 2 | ✗ |")


def test_beside_a_peer_the_target_is_a_multiple_of_the_peer_s_median() -> None:
    samples = {"ours": {"throughput": [1000.0]}, "peer": {"throughput": [800.0]}}
    assert "| ≥ 1,120 jobs/s | **1,000** jobs/s | one run | ✗ | 800 | one run | 1.25 |" in report.table(
        samples, {}, runs=1, quick=False
    )


def test_a_ratio_is_the_median_of_the_runs_ratios_and_has_its_spread() -> None:
    samples = {"ours": {"throughput": [100.0, 300.0, 400.0]}, "peer": {"throughput": [100.0, 200.0, 100.0]}}
    assert report.table(samples, {}, runs=3, quick=False).splitlines()[2].endswith("| 1.50 (1.00 to 4.00) |")


def test_a_standin_can_answer_as_late_as_aws() -> None:
    with Standin(answers_in=50.0) as standin:
        begun = time.monotonic()
        standin.send("true")
        assert time.monotonic() - begun >= 0.05


async def test_a_probe_sees_how_long_the_event_loop_did_not_come_round() -> None:
    looks: list[tuple[float, float]] = []
    probing = asyncio.create_task(stalls.probe(looks))
    await asyncio.sleep(0.01)
    begun = time.monotonic()
    time.sleep(0.05)
    await asyncio.sleep(0.01)
    probing.cancel()
    assert stalls.between(looks, begun, time.monotonic())["stall_longest"] >= 40
    assert stalls.between([(1.0, 0.5), (2.0, 0.1), (3.0, 0.1)], 2.0, 3.0)["stall_longest"] == 100


def test_flatness_is_how_far_the_slowest_median_stays_behind_the_fastest() -> None:
    samples = {"slots_20": [100.0, 90.0, 95.0], "slots_200": [76.0], "slots_1000": [90.0]}
    assert report.with_spreads(samples)["slots_spread"] == [pytest.approx(20.0)]
    assert "slots_spread" not in report.with_spreads({"slots_20": [100.0]})


def test_a_plot_holds_every_line_by_name_and_escapes_it() -> None:
    drawn = plots.draw("a < b", "slots", "jobs/s", [plots.Line("ours & theirs", [(20, 1, 2, 3), (200, 2, 3, 4)])])
    assert drawn.count("<polyline") == 1
    assert "a &lt; b" in drawn
    assert "ours &amp; theirs" in drawn


def test_the_simulation_finds_the_requests_that_are_measured_when_the_queue_is_full() -> None:
    load = scale.Load(name="full", jobs_a_month=900 * scale.MONTH, seconds=0.02, full=True)
    month = scale.simulate(scale.OURS, load, workers=1)
    assert month.sqs / month.jobs == pytest.approx(0.2, rel=0.05)
    assert month.dynamodb / month.jobs == pytest.approx(0.2, abs=0.05)


def test_an_index_costs_as_many_writes_again_and_only_what_it_projects() -> None:
    def writes(index: str) -> float:
        load = scale.Load(name="", jobs_a_month=10 * scale.MONTH, seconds=0.1, index=index)
        month = scale.simulate(scale.OURS, load, workers=10)
        return month.writes / month.jobs

    assert [round(writes(index), 1) for index in ("", "KEYS_ONLY", "ALL")] == [2.0, 3.0, 4.0]
