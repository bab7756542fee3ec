from __future__ import annotations

import json
import os
import pty
import re
import resource
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

import servers
from commands import SQSJKR, read_terminal, sqsjkr
from fleet import Fleet


@pytest.fixture
def conf(fleet: Fleet, tmp_path: Path) -> str:
    path = tmp_path / "config.toml"
    path.write_text(fleet.config())
    return str(path)


def bodies(directory: Path) -> list[Any]:
    with closing(sqlite3.connect(directory / "sqsjkr.db")) as db:
        return [json.loads(body) for (body,) in db.execute("SELECT body FROM message ORDER BY seq")]


def on_queue(fleet: Fleet) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    wanted: dict[str, Any] = {"MaxNumberOfMessages": 10, "MessageSystemAttributeNames": ["All"]}
    while page := fleet.sqs("ReceiveMessage", QueueUrl=fleet.queue_url, **wanted).get("Messages"):
        found += page
        for message in page if fleet.name.endswith(".fifo") else ():
            fleet.sqs("DeleteMessage", QueueUrl=fleet.queue_url, ReceiptHandle=message["ReceiptHandle"])
    return found


def jsonl(path: Path, *lines: str) -> str:
    path.write_text("".join(f"{line}\n" for line in lines))
    return str(path)


def test_a_job_carries_every_field_that_has_an_option(tmp_path: Path) -> None:
    said = sqsjkr(
        *("send", "--local", str(tmp_path), "--env", "A=1", "--env", "B=x=y", "--event-id", "e", "--lock-id", "l"),
        *("--life-time", "1h30m", "--abort-if-locked", "--disable-life-time-trigger", "echo hi"),
    )

    assert (said.code, said.err) == (0, "")
    assert bodies(tmp_path) == [
        {
            "command": "echo hi",
            "event_id": "e",
            "envs": {"A": "1", "B": "x=y"},
            "lock_id": "l",
            "life_time": 5400,
            "abort_if_locked": True,
            "disable_life_time_trigger": True,
        }
    ]


def test_a_jobs_message_id_is_printed(fleet: Fleet, conf: str, aws_env: Mapping[str, str]) -> None:
    said = sqsjkr("send", "--conf", conf, "true", env=aws_env)

    assert said.code == 0, said.err
    assert [message["MessageId"] for message in on_queue(fleet)] == [said.out.strip()]


def test_a_delayed_job_is_not_visible_at_once(fleet: Fleet, conf: str, aws_env: Mapping[str, str]) -> None:
    assert sqsjkr("send", "--conf", conf, "--delay", "15m", "true", env=aws_env).code == 0

    assert fleet.depth() == (0, 0, 1)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--life-time", "1 day", "true"], "invalid job: life_time"),
        (["--env", "SECRET", "true"], "--env: expected KEY=VALUE"),
        ([""], "nothing to send"),
        (["echo \udcff"], "not UTF-8"),  # as Python hands over the byte 0xff
        (["--delay", "901", "true"], "--delay"),
        (["--delay", "0.5", "true"], "whole seconds"),
        (["--group", "g", "true"], "--group"),
        (["--json", "x.jsonl", "true"], "leave COMMAND out"),
        (["--json", "x.jsonl", "--lock-id", "a"], "leave --lock-id out"),
        (["--json", "x.jsonl", "--env", "A=1"], "leave --env out"),
        (["--json", "x.jsonl", "--abort-if-locked"], "leave --abort-if-locked out"),
        (["--json", "no-such-file.jsonl"], "no-such-file.jsonl: cannot be read"),
        (["--json", "/"], "is a directory"),
        ([*(word for n in range(10) for word in ("--env", f"V{n}={'v' * 110_000}")), "true"], "at most 1048576"),
    ],
)
def test_what_makes_no_job_is_a_usage_error_of_one_line(tmp_path: Path, words: list[str], reason: str) -> None:
    said = sqsjkr("send", "--local", str(tmp_path), *words)

    assert said.code == 2
    assert len(said.complaints) == 1
    assert reason in said.complaints[0]
    assert "Traceback" not in said.err
    assert "SECRET" not in said.err


def test_every_rejected_line_is_named_and_the_rest_is_sent(
    fleet: Fleet, conf: str, aws_env: Mapping[str, str], tmp_path: Path
) -> None:
    good = [json.dumps({"command": f"echo {n}"}) for n in range(23)]
    lines = [*good[:9], "", '{"command": 5}', *good[9:], "nonsense", '{"life_time": "1m"}']
    said = sqsjkr("send", "--conf", conf, "--json", jsonl(tmp_path / "jobs.jsonl", *lines), env=aws_env)

    assert said.code == 1
    assert said.out == "sent 23, rejected 3\n"
    places = [line.removeprefix(f"sqsjkr: {tmp_path}/").split(": ")[0] for line in said.complaints]
    assert places == ["jobs.jsonl:11", "jobs.jsonl:26", "jobs.jsonl:27"]
    assert sorted(json.loads(message["Body"])["command"] for message in on_queue(fleet)) == sorted(
        f"echo {n}" for n in range(23)
    )


def test_jobs_come_from_stdin_too(tmp_path: Path) -> None:
    said = sqsjkr(
        "send", "--local", str(tmp_path), "--json", "-", stdin=b'\xef\xbb\xbf{"command":"a"}\r\n{"command":"b"}'
    )

    assert (said.code, said.out) == (0, "sent 2, rejected 0\n")
    assert [body["command"] for body in bodies(tmp_path)] == ["a", "b"]


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    said = sqsjkr("send", "--local", str(tmp_path), "--json", "-", stdin=b'{"command":"\xff"}\n')

    assert said.code == 1
    assert said.complaints == ["sqsjkr: stdin:1: body: not UTF-8 at byte 12, 0xff"]


def test_jobs_are_sent_while_a_slow_producer_thinks(tmp_path: Path) -> None:
    sender = subprocess.Popen(
        [*SQSJKR, "send", "--local", str(tmp_path), "--json", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert sender.stdin is not None
    sender.stdin.write(b'{"command":"a"}\n')
    sender.stdin.flush()

    servers.wait_until(
        lambda: are_sent(tmp_path, 1), description="the first job was on the queue, the producer still writing"
    )
    out, _ = sender.communicate(b'{"command":"b"}\n', timeout=servers.PATIENCE)
    assert out == b"sent 2, rejected 0\n"


def test_a_line_longer_than_sqs_takes_is_refused_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    with path.open("wb") as file:
        file.write(b'{"command":"true"}\n{"command":"')
        for _ in range(200):
            file.write(b"x" * 1_000_000)
        file.write(b'"}\n{"command":"true"}\n')
    limit = 150_000_000  # bytes of address space for data: the file would not fit
    sender = subprocess.run(
        [*SQSJKR, "send", "--local", str(tmp_path), "--json", str(path)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
        capture_output=True,
        text=True,
        check=False,
        timeout=servers.PATIENCE,
    )

    assert sender.stdout == "sent 2, rejected 1\n", sender.stderr
    assert f"{path}:2: body: too long" in sender.stderr


def test_big_jobs_share_no_batch_that_sqs_would_refuse(conf: str, aws_env: Mapping[str, str], tmp_path: Path) -> None:
    lines = [json.dumps({"command": f"true {'x' * 200_000}"}) for _ in range(7)]
    said = sqsjkr("send", "--conf", conf, "--json", jsonl(tmp_path / "jobs.jsonl", *lines), env=aws_env)

    assert said.out == "sent 7, rejected 0\n", said.err


def test_a_fifo_queue_needs_a_group_and_keeps_the_order(
    make_fleet: Callable[..., Fleet], aws_env: Mapping[str, str], tmp_path: Path
) -> None:
    fleet = make_fleet(FifoQueue="true")
    conf = tmp_path / "config.toml"
    conf.write_text(fleet.config())
    lines = [json.dumps({"command": "true"})] * 12 + [json.dumps({"command": "last"})]
    words = ["send", "--conf", str(conf), "--json", jsonl(tmp_path / "jobs.jsonl", *lines)]

    refused = sqsjkr(*words, env=aws_env)
    assert refused.code == 2
    assert "--group" in refused.complaints[0]

    assert sqsjkr(*words, "--group", "g", env=aws_env).out == "sent 13, rejected 0\n"
    there = on_queue(fleet)
    assert [json.loads(message["Body"])["command"] for message in there] == ["true"] * 12 + ["last"]
    assert {message["Attributes"]["MessageGroupId"] for message in there} == {"g"}


def test_a_queue_that_is_not_there_is_one_line_and_exit_1(aws_env: Mapping[str, str], tmp_path: Path) -> None:
    conf = tmp_path / "config.toml"
    conf.write_text('[account]\nid = "000000000000"\n[sqs]\nqueue_name = "no-such-queue"\n')
    said = sqsjkr("send", "--conf", str(conf), "true", env=aws_env)

    assert said.code == 1
    assert len(said.err.splitlines()) == 1
    assert "NonExistentQueue" in said.err or "QueueDoesNotExist" in said.err


def test_the_line_at_which_the_queue_went_away_is_named(tmp_path: Path, aws_env: Mapping[str, str]) -> None:
    def answer(batch: list[dict[str, Any]], number: int) -> tuple[int, dict[str, Any]]:
        if number == 1:
            return 200, {"Successful": [{"Id": entry["Id"], "MessageId": "m"} for entry in batch]}
        return 503, {"__type": "com.amazonaws.sqs#ServiceUnavailable", "message": "gone"}

    with sqs_that(answer) as (url, _):
        words = ["--json", jsonl(tmp_path / "jobs.jsonl", *['{"command":"true"}'] * 15)]
        said = sqsjkr("send", "--conf", _conf(tmp_path), *words, env={**aws_env, "AWS_ENDPOINT_URL": url})

    assert said.code == 1
    assert said.out == "sent 10, rejected 0\n"
    assert "jobs.jsonl:11: not sent, nor is what follows" in said.complaints[0]


def test_an_entry_that_was_throttled_is_sent_again_and_only_that(tmp_path: Path, aws_env: Mapping[str, str]) -> None:
    def answer(batch: list[dict[str, Any]], number: int) -> tuple[int, dict[str, Any]]:
        throttled = [entry for entry in batch if number == 1 and entry["Id"] == "1"]
        taken = [{"Id": entry["Id"], "MessageId": f"m{entry['Id']}"} for entry in batch if entry not in throttled]
        failed = [{"Id": entry["Id"], "Code": "RequestThrottled", "SenderFault": True} for entry in throttled]
        return 200, {"Successful": taken, "Failed": failed}

    with sqs_that(answer) as (url, batches):
        words = ["--json", jsonl(tmp_path / "jobs.jsonl", *[f'{{"command":"{n}"}}' for n in range(3)])]
        said = sqsjkr("send", "--conf", _conf(tmp_path), *words, env={**aws_env, "AWS_ENDPOINT_URL": url})

    assert (said.code, said.out) == (0, "sent 3, rejected 0\n"), said.err
    assert [[entry["MessageBody"] for entry in batch] for batch in batches] == [
        ['{"command":"0"}', '{"command":"1"}', '{"command":"2"}'],
        ['{"command":"1"}'],
    ]


def test_a_job_that_sqs_refuses_is_named_and_spoils_no_other(tmp_path: Path, aws_env: Mapping[str, str]) -> None:
    def answer(batch: list[dict[str, Any]], _: int) -> tuple[int, dict[str, Any]]:
        if any('"bad"' in entry["MessageBody"] for entry in batch):
            return 400, {"__type": "com.amazonaws.sqs#InvalidMessageContents", "message": "no such characters"}
        return 200, {"Successful": [{"Id": entry["Id"], "MessageId": "m"} for entry in batch]}

    with sqs_that(answer) as (url, _):
        lines = [f'{{"command":"{word}"}}' for word in ("good", "bad", "better")]
        words = ["--json", jsonl(tmp_path / "jobs.jsonl", *lines)]
        said = sqsjkr("send", "--conf", _conf(tmp_path), *words, env={**aws_env, "AWS_ENDPOINT_URL": url})

    assert (said.code, said.out) == (1, "sent 2, rejected 1\n")
    assert len(said.complaints) == 1
    assert "jobs.jsonl:2: " in said.complaints[0]
    assert "no such characters" in said.complaints[0]


def test_a_terminal_sees_a_progress_bar_and_a_file_does_not(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "jobs.jsonl", *['{"command":"true"}'] * 500)
    words = ["send", "--local", str(tmp_path), "--json", path]
    assert sqsjkr(*words).err == ""

    ours, theirs = pty.openpty()
    with subprocess.Popen([*SQSJKR, *words], stdout=subprocess.PIPE, stderr=theirs) as sender:
        os.close(theirs)
        shown = read_terminal(ours)
        assert sender.stdout is not None
        assert sender.stdout.read() == b"sent 500, rejected 0\n"
    os.close(ours)
    assert "40%" in shown  # the first of three batches
    assert "sent 200, rejected 0" in shown
    assert shown.endswith("\x1b[2K")


@pytest.mark.parametrize("variables", [{"TERM": "dumb"}, {"TERM": "xterm", "NO_COLOR": "1"}])
def test_a_terminal_without_colours_is_sent_none(tmp_path: Path, variables: dict[str, str]) -> None:
    path = jsonl(tmp_path / "jobs.jsonl", *['{"command":"true"}'] * 500)
    ours, theirs = pty.openpty()
    command = [*SQSJKR, "send", "--local", str(tmp_path), "--json", path]
    environment = {**servers.clean_environment(), **variables}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=environment):
        os.close(theirs)
        shown = read_terminal(ours)
    os.close(ours)
    assert not re.search(r"\x1b\[[0-9;]*m", re.sub(r"\x1b\[(0|1|2|3|4)?m", "", shown))
    assert ("\x1b" in shown) is ("NO_COLOR" in variables)


def test_a_rejected_line_stays_readable_above_the_progress_bar(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "jobs.jsonl", *['{"command":"true"}'] * 250, '{"command":[]}', *['{"command":"x"}'] * 50)
    ours, theirs = pty.openpty()
    command = [*SQSJKR, "send", "--local", str(tmp_path), "--json", path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs):
        os.close(theirs)
        shown = read_terminal(ours)
    os.close(ours)
    assert f"sqsjkr: {path}:251: command = [...]: expected a string\r\n" in shown


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('{"command":"true","lockid":"x"}', "lockid: unknown field; did you mean lock_id? It would be ignored"),
        ('{"comand":"true"}', "comand: unknown field; did you mean command? It would be ignored"),
        ('{"command":"true","lifetime":"1m"}', "lifetime: unknown field; did you mean life_time? It would be ignored"),
        (
            '{"command":"true","xyzzy":1}',
            "xyzzy: unknown field, expected one of command, job, args, envs, env, ",
        ),
        ('{"command":"true","a\\nb":1}', '"a\\nb": unknown field'),
    ],
)
def test_a_typo_in_a_field_is_named_instead_of_sent(tmp_path: Path, body: str, reason: str) -> None:
    said = sqsjkr("send", "--local", str(tmp_path), "--json", "-", stdin=f'{body}\n{{"COMMAND":"good"}}\n'.encode())

    assert (said.code, said.out) == (1, "sent 1, rejected 1\n")
    assert len(said.complaints) == 1
    assert said.complaints[0].startswith(f"sqsjkr: stdin:1: {reason}")


def test_what_another_service_wrapped_around_a_job_is_sent_as_it_is(tmp_path: Path) -> None:
    event = {"version": "0", "detail-type": "x", "source": "y", "detail": {"command": "true", "note": "z"}}
    said = sqsjkr("send", "--local", str(tmp_path), "--json", "-", stdin=json.dumps(event).encode())

    assert (said.code, said.out) == (0, "sent 1, rejected 0\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_send_finishes_its_batch_and_says_which_line_was_the_last(
    tmp_path: Path, aws_env: Mapping[str, str], number: signal.Signals
) -> None:
    path = jsonl(tmp_path / "jobs.jsonl", *['{"command":"true"}'] * 40)
    with _held_at_the_second_batch(path, tmp_path, aws_env) as (sender, go_on):
        sender.send_signal(number)
        go_on.set()
        out, said = sender.communicate(timeout=servers.PATIENCE)

    assert (sender.returncode, out) == (130, "sent 20, rejected 0\n")
    rest = f"tail -n +21 {path} | sqsjkr send --json - (and the same options)"
    assert said == f"sqsjkr: interrupted: line 20 of {path} was the last one sent; to send the rest: {rest}\n"


def test_a_second_interruption_cuts_the_batch_off_and_names_its_lines(
    tmp_path: Path, aws_env: Mapping[str, str]
) -> None:
    path = jsonl(tmp_path / "jobs.jsonl", *['{"command":"true"}'] * 40)
    with _held_at_the_second_batch(path, tmp_path, aws_env) as (sender, _):
        sender.send_signal(signal.SIGINT)
        sender.send_signal(signal.SIGTERM)  # two of one kind could become one
        out, said = sender.communicate(timeout=servers.PATIENCE)

    assert (sender.returncode, out) == (130, "sent 10, rejected 0\n")
    assert "lines 11 to 20 were being sent and may be on the queue; line 10 of" in said


def test_an_interrupted_send_from_a_pipe_names_its_last_line(tmp_path: Path) -> None:
    command = [*SQSJKR, "send", "--local", str(tmp_path), "--json", "-"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as sender:
        assert sender.stdin is not None
        sender.stdin.write('{"command":"a"}\n{"command":"b"}\n')
        sender.stdin.flush()
        servers.wait_until(lambda: are_sent(tmp_path, 2), description="two jobs were on the queue")
        sender.send_signal(signal.SIGTERM)
        out, said = sender.communicate(timeout=servers.PATIENCE)

    assert (sender.returncode, out) == (130, "sent 2, rejected 0\n")
    assert said == "sqsjkr: interrupted: line 2 of stdin was the last one sent\n"


def are_sent(directory: Path, number: int) -> bool:
    try:
        return len(bodies(directory)) == number
    except sqlite3.OperationalError:  # not made yet
        return False


@contextmanager
def _held_at_the_second_batch(
    path: str, directory: Path, aws_env: Mapping[str, str]
) -> Iterator[tuple[subprocess.Popen[str], threading.Event]]:
    """A `send` of a file whose second batch has arrived and is answered when the event is set."""
    arrived, go_on = threading.Event(), threading.Event()

    def answer(batch: list[dict[str, Any]], number: int) -> tuple[int, dict[str, Any]]:
        if number == 2:
            arrived.set()
            go_on.wait()
        return 200, {"Successful": [{"Id": entry["Id"], "MessageId": "m"} for entry in batch]}

    with sqs_that(answer) as (url, _):
        sender = subprocess.Popen(
            [*SQSJKR, "send", "--conf", _conf(directory), "--json", path],
            env={**servers.clean_environment(), **aws_env, "AWS_ENDPOINT_URL": url},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            arrived.wait()
            yield sender, go_on
        finally:
            go_on.set()
            sender.kill()
            sender.wait()


Answers = Callable[[list[dict[str, Any]], int], tuple[int, dict[str, Any]]]


@contextmanager
def sqs_that(answer: Answers) -> Iterator[tuple[str, list[list[dict[str, Any]]]]]:
    """An SQS on loopback that answers SendMessageBatch by `answer`: no emulator throttles. Its URL and the batches."""
    batches: list[list[dict[str, Any]]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            batch = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["Entries"]
            batches.append(batch)
            status, said = answer(batch, len(batches))
            body = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", batches
        finally:
            server.shutdown()
            serving.join()


def _conf(directory: Path) -> str:
    path = directory / "config.toml"
    path.write_text('[account]\nid = "000000000000"\n[sqs]\nqueue_name = "jobs"\n')
    return str(path)
