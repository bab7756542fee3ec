from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import job_reference
from sqsjkr import durations
from sqsjkr.errors import InvalidJob
from sqsjkr.execution import trigger
from sqsjkr.execution.trigger import FACTS_LIMIT
from sqsjkr.job import Job, Verb, decode, encode

SCHEMA = jsonschema.Draft202012Validator(
    json.loads(resources.files("sqsjkr").joinpath("job.schema.json").read_text(encoding="utf-8"))
)
# A busy machine is no failure: the first draw of a text builds a table of all characters.
calmly = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
A_DURATION = 'expected a Go duration such as "90s" or "1h30m", or whole seconds'
AN_OBJECT = 'expected an object such as {"3": "never"}'
AN_END = 'expected an exit code such as "3", a range such as "64-78", "signal", "timeout", "crash" or "*"'
A_TIME = "expected a time with its zone such as 2026-12-01T03:00:00+01:00, or seconds since 1970"
A_JOB = '{"command": "true"}'


def a_job(**fields: object) -> Job:
    values = {"id": "m-1", "command": "true", "event_id": "m-1", **fields}
    return Job(**values)


def with_true(fields: str) -> str:
    return f'{{"command": "true", {fields}}}'


def reason_against(body: str) -> str:
    with pytest.raises(InvalidJob) as caught:
        decode(body, "m-1")
    return str(caught.value)


def nested(depth: int) -> str:
    return with_true(f'"extra": {"[" * depth}{"]" * depth}')


# Bodies that the Go original accepts, or dropped for no good reason: (body, the job).
GOOD = [
    pytest.param(A_JOB, a_job(), id="command alone"),
    pytest.param(with_true('"event_id": "e-1"'), a_job(event_id="e-1"), id="event_id"),
    pytest.param(with_true('"event_id": ""'), a_job(), id="event_id empty"),
    pytest.param(with_true('"event_id": null'), a_job(), id="event_id null"),
    pytest.param(with_true('"lock_id": "l-1"'), a_job(lock_id="l-1"), id="lock_id"),
    pytest.param(with_true('"lock_id": null'), a_job(), id="lock_id null"),
    pytest.param(with_true('"envs": {"A": "1", "B": ""}'), a_job(env={"A": "1", "B": ""}), id="envs"),
    pytest.param(with_true('"env": {"A": "1"}'), a_job(env={"A": "1"}), id="env"),
    pytest.param(with_true('"envs": null, "env": null'), a_job(), id="env and envs null"),
    pytest.param(with_true('"envs": {"A": null}'), a_job(env={"A": ""}), id="null variable is empty, as in Go"),
    pytest.param(
        with_true('"envs": {"A": "envs"}, "env": {"A": "env", "B": "env"}'),
        a_job(env={"A": "envs", "B": "env"}),
        id="envs wins over env",
    ),
    pytest.param(with_true('"envs": {"A=B": "c"}'), a_job(env={"A": "B=c"}), id="= in a variable's name"),
    pytest.param(with_true('"life_time": 0'), a_job(), id="life_time 0"),
    pytest.param(with_true('"life_time": 60'), a_job(life_time=60.0), id="life_time seconds"),
    pytest.param(with_true('"life_time": -1'), a_job(life_time=-1.0), id="life_time negative"),
    pytest.param(with_true('"life_time": "1m"'), a_job(life_time=60.0), id="life_time 1m"),
    pytest.param(with_true('"life_time": "1h30m"'), a_job(life_time=5400.0), id="life_time 1h30m"),
    pytest.param(with_true('"life_time": "1.5s"'), a_job(life_time=1.5), id="life_time 1.5s"),
    pytest.param(with_true('"life_time": "500ms"'), a_job(life_time=0.5), id="life_time 500ms"),
    pytest.param(with_true('"life_time": "0"'), a_job(), id='life_time "0"'),
    pytest.param(with_true('"life_time": "-5m"'), a_job(life_time=-300.0), id="life_time -5m"),
    pytest.param(with_true('"life_time": null'), a_job(), id="life_time null"),
    pytest.param(with_true('"life_time": "60"'), a_job(life_time=60.0), id='life_time "60"'),
    pytest.param(with_true('"life_time": "1e3"'), a_job(life_time=1000.0), id='life_time "1e3"'),
    pytest.param(with_true('"life_time": 1.5'), a_job(life_time=1.5), id="life_time 1.5"),
    pytest.param(with_true('"life_time": 1e3'), a_job(life_time=1000.0), id="life_time 1e3"),
    pytest.param(
        with_true('"life_time": 9223372037'), a_job(life_time=durations.LONGEST), id="life_time too long for Go"
    ),
    pytest.param(with_true('"life_time": 1e999'), a_job(life_time=durations.LONGEST), id="life_time 1e999"),
    pytest.param(with_true('"life_time": ' + "9" * 5000), a_job(life_time=durations.LONGEST), id="life_time of 9s"),
    pytest.param(with_true('"abort_if_locked": true'), a_job(abort_if_locked=True), id="abort_if_locked"),
    pytest.param(with_true('"abort_if_locked": null'), a_job(), id="abort_if_locked null"),
    pytest.param(
        with_true('"disable_life_time_trigger": true'), a_job(disable_life_time_trigger=True), id="no trigger"
    ),
    pytest.param(with_true('"disable_life_time_trigger": null'), a_job(), id="no trigger null"),
    pytest.param(with_true('"timeout": "90s", "retry_delay": 0'), a_job(timeout=90.0, retry_delay=0.0), id="durations"),
    pytest.param(with_true('"timeout": null, "retries": null'), a_job(), id="timeout null"),
    pytest.param(with_true('"retries": 3'), a_job(retries=3), id="retries"),
    pytest.param(with_true('"retries": 3.0'), a_job(retries=3), id="retries 3.0"),
    pytest.param(with_true('"retries": "3"'), a_job(retries=3), id='retries "3"'),
    pytest.param(
        with_true('"on_exit": {"3": "never", "64-78": "later", "signal": "ok", "timeout": "retry", "*": "retry"}'),
        a_job(
            on_exit={"3": Verb.NEVER, "64-78": Verb.LATER, "signal": Verb.OK, "timeout": Verb.RETRY, "*": Verb.RETRY}
        ),
        id="on_exit",
    ),
    pytest.param(with_true('"on_exit": {"crash": "never"}'), a_job(on_exit={"crash": Verb.NEVER}), id="on_exit crash"),
    pytest.param(with_true('"on_exit": {}'), a_job(), id="on_exit empty"),
    pytest.param(with_true('"not_before": 1764558000.5'), a_job(not_before=1764558000.5), id="not_before seconds"),
    pytest.param(with_true('"not_before": "1764558000"'), a_job(not_before=1764558000.0), id='not_before "seconds"'),
    pytest.param(
        with_true('"not_before": "2025-12-01T03:00:00Z"'), a_job(not_before=1764558000.0), id="not_before in UTC"
    ),
    pytest.param(
        with_true('"not_before": "2025-12-01t04:00:00.250+01:00"'),
        a_job(not_before=1764558000.25),
        id="not_before elsewhere",
    ),
    pytest.param(with_true('"unknown": [1, {"x": 1e400}, null]'), a_job(), id="unknown field"),
    pytest.param(with_true('"unknown": -' + "9" * 5000), a_job(), id="huge integer in an unknown field"),
    pytest.param(f"\n\t {A_JOB} \r\n", a_job(), id="white space around"),
    pytest.param('{"command": " "}', a_job(command=" "), id="blank command"),
    pytest.param(r'{"command": "echo \u3042\ud83d\ude00"}', a_job(command="echo あ😀"), id="escapes"),
    pytest.param(r'{"command": "a\ud800b\udc00\ud800\u0041"}', a_job(command="a\ufffdb\ufffd\ufffdA"), id="halves"),
    pytest.param('{"command": "a\udcff"}', a_job(command="a\ufffd"), id="half a pair, not escaped"),
    pytest.param(with_true(r'"envs": {"A\ud800": "\ud800"}'), a_job(env={"A\ufffd": "\ufffd"}), id="halves in envs"),
    pytest.param(
        '{"command":"true","invoked_at":1763737440,"entry_id":3,"envs":{"PATH":"/bin"}}',
        a_job(env={"PATH": "/bin"}),
        id="kayac/sqsjfr",
    ),
    pytest.param('{"command":"true","invoked_at":0,"entry_id":0,"envs":null}', a_job(), id="kayac/sqsjfr, no envs"),
]

# Good ones that the schema cannot describe: decode is more lenient than the schema, for what Go's decoder accepts.
GOOD_BEYOND_THE_SCHEMA = [
    pytest.param(
        '{"COMMAND": "true", "Lock_Id": "l", "LIFE_TIME": "1m", "EnvS": {"a": "b"}, "Abort_If_Locked": true}',
        a_job(lock_id="l", life_time=60.0, env={"a": "b"}, abort_if_locked=True),
        id="names in any case",
    ),
    pytest.param(with_true('"loc\u212a_id": "l"'), a_job(lock_id="l"), id="a Kelvin sign is a k"),
    pytest.param('{"command": "true", "env\u017f": {"A": "1"}}', a_job(env={"A": "1"}), id="a long s is an s"),
    pytest.param('{"command": "false", "Command": "true"}', a_job(), id="the last of two names wins"),
    pytest.param('{"Command": "false", "command": "true"}', a_job(), id="the last of two names wins again"),
    pytest.param('{"command": "false", "command": "true"}', a_job(), id="the last duplicate wins"),
    pytest.param('{"command": "true", "Command": null}', a_job(), id="null does not undo"),
    pytest.param(
        with_true('"envs": {"A": "1", "B": "1"}, "Envs": {"B": "2"}'),
        a_job(env={"A": "1", "B": "2"}),
        id="two envs are added up",
    ),
    pytest.param(with_true('"envs": {"A": "1"}, "envs": null'), a_job(), id="null empties envs"),
    pytest.param(json.dumps(A_JOB), a_job(), id="JSON text in JSON text"),
    pytest.param(json.dumps(json.dumps(A_JOB)), a_job(), id="twice JSON text"),
]

# Bodies that are no jobs: (body, the whole error).
BAD = [
    pytest.param("null", "command: missing or empty, expected the shell command to run", id="null"),
    pytest.param("{}", "command: missing or empty, expected the shell command to run", id="{}"),
    pytest.param('{"command": ""}', "command: missing or empty, expected the shell command to run", id="empty command"),
    pytest.param(
        '{"command": null}', "command: missing or empty, expected the shell command to run", id="null command"
    ),
    pytest.param("[]", 'body: a list, expected a JSON object such as {"command": "true"}', id="[]"),
    pytest.param("1", 'body: a number, expected a JSON object such as {"command": "true"}', id="1"),
    pytest.param("true", 'body: a boolean, expected a JSON object such as {"command": "true"}', id="true"),
    pytest.param('{"command": 5}', "command = 5: expected a string", id="command number"),
    pytest.param('{"command": {"a": "secret"}}', "command = {...}: expected a string", id="command object"),
    pytest.param('{"command": ["a"]}', "command = [...]: expected a string", id="command list"),
    pytest.param(
        r'{"command": "a\u0000b"}',
        r'command = "a\u0000b": holds a NUL character, expected text that a process can be given',
        id="NUL in command",
    ),
    pytest.param(with_true('"event_id": 1'), "event_id = 1: expected a string", id="event_id number"),
    pytest.param(
        with_true(r'"event_id": "\u0000"'),
        r'event_id = "\u0000": holds a NUL character, expected text that a process can be given',
        id="NUL in event_id",
    ),
    pytest.param(with_true('"lock_id": true'), "lock_id = true: expected a string", id="lock_id boolean"),
    pytest.param(
        with_true(r'"lock_id": "l\u0000"'),
        r'lock_id = "l\u0000": holds a NUL character, expected text that a process can be given',
        id="NUL in lock_id",
    ),
    pytest.param(with_true('"envs": ["A=1"]'), "envs: a list, expected an object of strings", id="envs list"),
    pytest.param(with_true('"env": "A=1"'), "env: a string, expected an object of strings", id="env string"),
    pytest.param(with_true('"envs": {"A": 1}'), 'envs["A"]: a number, expected a string', id="envs number"),
    pytest.param(with_true('"env": {"A": true}'), 'env["A"]: a boolean, expected a string', id="env boolean"),
    pytest.param(with_true('"env": {"A": {}}'), 'env["A"]: an object, expected a string', id="env object"),
    pytest.param(
        with_true(r'"envs": {"A": "b\u0000"}'),
        'envs["A"]: holds a NUL character, expected text that a process can be given',
        id="NUL in a value of envs",
    ),
    pytest.param(
        with_true(r'"envs": {"A\u0000": "b"}'),
        r'envs["A\u0000"]: holds a NUL character, expected text that a process can be given',
        id="NUL in a name of envs",
    ),
    pytest.param(with_true('"life_time": ""'), f'life_time = "": no number, {A_DURATION}', id='life_time ""'),
    pytest.param(
        with_true('"life_time": "1d"'), f'life_time = "1d": unknown unit "d", {A_DURATION}', id="life_time 1d"
    ),
    pytest.param(with_true('"life_time": "NaN"'), f'life_time = "NaN": no number, {A_DURATION}', id="life_time NaN"),
    pytest.param(with_true('"life_time": " 1m"'), f'life_time = " 1m": no number, {A_DURATION}', id="life_time space"),
    pytest.param(
        with_true('"life_time": true'), f"life_time = true: not a duration, {A_DURATION}", id="life_time true"
    ),
    pytest.param(with_true('"life_time": []'), f"life_time = [...]: not a duration, {A_DURATION}", id="life_time list"),
    pytest.param(with_true('"life_time": {}'), f"life_time = {{...}}: not a duration, {A_DURATION}", id="life_time {}"),
    pytest.param(
        with_true('"abort_if_locked": "true"'), 'abort_if_locked = "true": expected true or false', id="flag text"
    ),
    pytest.param(with_true('"abort_if_locked": 1'), "abort_if_locked = 1: expected true or false", id="flag number"),
    pytest.param(with_true('"timeout": -1'), "timeout = -1: expected at least 0", id="timeout negative"),
    pytest.param(with_true('"timeout": "1d"'), f'timeout = "1d": unknown unit "d", {A_DURATION}', id="timeout 1d"),
    pytest.param(with_true('"retries": 1.5'), "retries = 1.5: expected a whole number", id="retries 1.5"),
    pytest.param(with_true('"retries": true'), "retries = true: expected a whole number", id="retries true"),
    pytest.param(with_true('"retries": -1'), "retries = -1: expected at least 0 and at most 1000", id="retries -1"),
    pytest.param(with_true('"retries": 1001'), "retries = 1001: expected at least 0 and at most 1000", id="many"),
    pytest.param(with_true('"on_exit": "never"'), f"on_exit: a string, {AN_OBJECT}", id="on_exit text"),
    pytest.param(with_true('"on_exit": {"0": "retry"}'), f'on_exit["0"]: {AN_END}', id="on_exit 0"),
    pytest.param(with_true('"on_exit": {"one": "ok"}'), f'on_exit["one"]: {AN_END}', id="on_exit word"),
    pytest.param(
        with_true('"on_exit": {"3": "stop"}'),
        'on_exit["3"] = "stop": expected one of ok, retry, later, never',
        id="on_exit verb",
    ),
    pytest.param(
        with_true('"on_exit": {"crash": "later"}'),
        'on_exit["crash"] = "later": expected one of retry, never',
        id="on_exit crash later",
    ),
    pytest.param(
        with_true('"on_exit": {"3": []}'),
        'on_exit["3"] = [...]: expected one of ok, retry, later, never',
        id="on_exit list",
    ),
    pytest.param(with_true('"not_before": "tomorrow"'), f'not_before = "tomorrow": {A_TIME}', id="not_before word"),
    pytest.param(
        with_true('"not_before": "2025-12-01T03:00:00"'),
        f'not_before = "2025-12-01T03:00:00": {A_TIME}',
        id="not_before without a zone",
    ),
    pytest.param(with_true('"not_before": -5'), "not_before = -5: expected at least 0", id="not_before negative"),
    pytest.param(
        with_true('"disable_life_time_trigger": 1.5'),
        "disable_life_time_trigger = 1.5: expected true or false",
        id="no trigger number",
    ),
]

# Bad ones that a JSON Schema validator never sees, because they are no JSON, or that it cannot tell.
BAD_BEYOND_THE_SCHEMA = [
    pytest.param(with_true('"on_exit": {"78-64": "ok"}'), 'on_exit["78-64"]: ', id="a range that runs backwards"),
    pytest.param(with_true('"on_exit": {"256": "ok"}'), 'on_exit["256"]: ', id="no exit code"),
    pytest.param(with_true('"not_before": "2025-13-01T03:00:00Z"'), "not_before = ", id="a thirteenth month"),
    pytest.param("", "body: not JSON", id="empty"),
    pytest.param("   ", "body: not JSON", id="blank"),
    pytest.param("backup.sh --all", "body: not JSON", id="a bare command"),
    pytest.param('{"command": "true"', "body: not JSON", id="cut off"),
    pytest.param(A_JOB + A_JOB, "body: not JSON", id="two jobs"),
    pytest.param(A_JOB + "x", "body: not JSON", id="trailing data"),
    pytest.param(A_JOB + "\0", "body: not JSON", id="trailing NUL"),
    pytest.param("\ufeff" + A_JOB, "body: not JSON", id="byte order mark"),
    pytest.param('{"command": "a\nb"}', "body: not JSON", id="raw newline"),
    pytest.param("{'command': 'true'}", "body: not JSON", id="single quotes"),
    pytest.param('{"command": "true",}', "body: not JSON", id="trailing comma"),
    pytest.param(with_true('"life_time": 01'), "body: not JSON", id="leading zero"),
    pytest.param(with_true('"life_time": NaN'), "body: not JSON", id="NaN"),
    pytest.param(with_true('"life_time": Infinity'), "body: not JSON", id="Infinity"),
    pytest.param(with_true('"x": -Infinity'), "body: not JSON", id="-Infinity"),
    pytest.param('"s"', "body: not JSON", id="a JSON string that holds no JSON"),
    pytest.param('""', "body: not JSON", id="an empty JSON string"),
    pytest.param(nested(200_000), "body: nested too deeply", id="deep nesting"),
    pytest.param(with_true('"life_time": "9999999999s"'), "life_time = ", id="longer than Go can hold"),
    pytest.param('{"command": "true", "COMMAND": 1}', "command = 1: ", id="a wrong duplicate"),
    pytest.param('{"command": 1, "command": "true"}', "command = 1: ", id="a wrong duplicate that is overruled"),
]


@pytest.mark.parametrize(("body", "job"), GOOD + GOOD_BEYOND_THE_SCHEMA)
def test_a_good_body_is_the_job_that_go_reads_in_it(body: str, job: Job) -> None:
    assert decode(body, "m-1") == job


@pytest.mark.parametrize(("body", "reason"), BAD)
def test_a_bad_body_is_refused_with_field_value_and_what_was_expected(body: str, reason: str) -> None:
    assert reason_against(body) == reason


@pytest.mark.parametrize(("body", "beginning"), BAD_BEYOND_THE_SCHEMA)
def test_what_is_no_json_is_refused_on_one_line(body: str, beginning: str) -> None:
    reason = reason_against(body)
    assert reason.startswith(beginning)
    assert len(reason.splitlines()) == 1


@pytest.mark.parametrize(("body", "job"), GOOD)
def test_the_schema_accepts_what_decode_accepts(body: str, job: Job) -> None:
    assert list(SCHEMA.iter_errors(json.loads(body, parse_int=float))) == []
    assert job


@pytest.mark.parametrize(("body", "reason"), BAD)
def test_the_schema_refuses_what_decode_refuses(body: str, reason: str) -> None:
    assert not SCHEMA.is_valid(json.loads(body))
    assert reason


def test_the_schema_is_valid_and_describes_each_field_of_a_job() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA.schema)
    inner = {"id", "given", "signed", "signature", "name"}
    fields = {name for name in Job.__dataclass_fields__ if name not in inner} | {"envs", "job"}
    assert set(SCHEMA.schema["properties"]) == fields
    assert all(field["description"] for field in SCHEMA.schema["properties"].values())


def test_the_schema_and_the_reference_follow_from_the_declaration_of_the_fields() -> None:
    assert job_reference.SCHEMA.read_text() == job_reference.schema_text()
    assert job_reference.PAGE.read_text() == job_reference.page_text()
    assert job_reference.table() in job_reference.PAGE.read_text()


def sns(message: str) -> str:
    return json.dumps(
        {
            "Type": "Notification",
            "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
            "TopicArn": "arn:aws:sns:us-west-2:123456789012:jobs",
            "Subject": "a job",
            "Message": message,
            "Timestamp": "2026-11-21T15:05:04.459Z",
            "SignatureVersion": "1",
        }
    )


def event(detail: object) -> str:
    return json.dumps(
        {
            "version": "0",
            "id": "89d1a02d-5ec7-412e-82f5-13505f849b41",
            "detail-type": "Scheduled Event",
            "source": "aws.scheduler",
            "account": "123456789012",
            "time": "2026-11-21T15:05:00Z",
            "region": "us-east-1",
            "resources": ["arn:aws:scheduler:us-east-1:123456789012:schedule/default/nightly"],
            "detail": detail,
        }
    )


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(sns(A_JOB), id="SNS"),
        pytest.param(event({"command": "true"}), id="EventBridge"),
        pytest.param(event(A_JOB), id="EventBridge, detail as text"),
        pytest.param(sns(event(A_JOB)), id="EventBridge in SNS"),
        pytest.param(json.dumps(sns(event(A_JOB))), id="EventBridge in SNS in text"),
        pytest.param(json.dumps(event({"COMMAND": "true"})), id="EventBridge in text"),
    ],
)
def test_a_job_is_taken_out_of_its_envelope(body: str) -> None:
    assert decode(body, "m-1") == a_job()


@pytest.mark.parametrize("name", ["command", "Command"])
def test_an_object_with_a_command_is_no_envelope(name: str) -> None:
    envelope = json.loads(sns('{"command": "false"}')) | json.loads(event({"command": "false"}))
    assert decode(json.dumps({**envelope, name: "true"}), "m-1") == a_job()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(
            event("{}"),
            "command: missing or empty, expected the shell command to run"
            " (inside JSON text, inside the detail of an EventBridge event)",
            id="EventBridge Scheduler without an input",
        ),
        pytest.param(
            sns('{"command": "true", "life_time": "1d"}'),
            f'life_time = "1d": unknown unit "d", {A_DURATION}'
            " (inside JSON text, inside the Message of an SNS notification)",
            id="a wrong job in SNS",
        ),
        pytest.param(
            event(["true"]),
            'body: a list, expected a JSON object such as {"command": "true"}'
            " (inside the detail of an EventBridge event)",
            id="a list in EventBridge",
        ),
    ],
)
def test_what_is_wrong_inside_an_envelope_is_said_with_the_envelope(body: str, reason: str) -> None:
    assert reason_against(body) == reason


def test_envelopes_in_envelopes_come_to_an_end() -> None:
    body = A_JOB
    for _ in range(8):
        body = sns(body)
    assert "JSON text" in reason_against(body)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(with_true('"envs": {"A": "hunter2", "B": 1}'), id="a wrong variable beside it"),
        pytest.param(with_true('"envs": {"A": ["hunter2"]}'), id="in a list"),
        pytest.param(with_true(r'"envs": {"A": "hunter2\u0000"}'), id="with a NUL"),
        pytest.param(with_true('"env": "A=hunter2"'), id="env as text"),
        pytest.param(with_true('"env": ["A=hunter2"]'), id="env as a list"),
        pytest.param(with_true('"envs": {"A": "hunter2"'), id="no JSON"),
        pytest.param('{"command": {"envs": {"A": "hunter2"}}}', id="in a wrong command"),
        pytest.param('{"envs": {"A": "hunter2"}}', id="no command"),
        pytest.param(sns(with_true('"envs": {"A": "hunter2", "B": 1}')), id="in SNS"),
    ],
)
def test_no_error_shows_an_environment_value(body: str) -> None:
    assert "hunter2" not in reason_against(body)


def test_a_printed_job_leaves_its_environment_out() -> None:
    assert "hunter2" not in repr(a_job(env={"PASSWORD": "hunter2"}))


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"command": "true", "life_time": "x" * 100_000}),
        json.dumps({"command": "true", "envs": {"x" * 100_000: 1}}),
        json.dumps({"command": "true", "life_time": "1" + "\x1b\n\u2028\x85\ud800" * 100}),
    ],
)
def test_a_wrong_value_is_shown_short_and_printable(body: str) -> None:
    reason = reason_against(body)
    assert len(reason) < 600
    assert reason.isprintable()


@calmly
@given(st.text() | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(json.dumps))
def test_any_text_is_a_job_or_an_invalid_job(body: str) -> None:
    try:
        job = decode(body, "m-1")
    except InvalidJob as error:
        said = str(error)
    else:
        said = job.command
    assert said


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["1m", A_JOB]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
field_names = st.sampled_from(
    [*SCHEMA.schema["properties"], "COMMAND", "Type", "Message", "TopicArn"]
) | st.sampled_from(["detail-type", "source", "detail", "other"])


@calmly
@given(st.dictionaries(field_names, json_values, max_size=6), st.booleans())
def test_any_object_is_a_job_that_can_be_run_or_an_invalid_job(fields: dict[str, object], notified: bool) -> None:
    given_fields = {**fields, "Type": "Notification"} if notified else fields
    said, reached = "", ["true"]
    try:
        job = decode(json.dumps(given_fields), "m-1")
    except InvalidJob as error:
        said = str(error)
    else:
        reached = [job.command, job.event_id, job.lock_id, *job.env, *job.env.values()]
    assert len(said.splitlines()) <= 1
    assert "\0" not in "".join(reached)
    assert "".join(reached).encode()


clean_text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
lifetimes = st.integers(-(10**16), 10**16).map(lambda ns: ns / 10**9) | st.integers(-(10**9), 10**9).map(float)


@calmly
@given(
    command=clean_text.filter(bool),
    event_id=clean_text.filter(bool),
    env=st.dictionaries(clean_text.filter(lambda name: "=" not in name), clean_text),
    lock_id=clean_text,
    life_time=lifetimes,
    abort_if_locked=st.booleans(),
    disable_life_time_trigger=st.booleans(),
    timeout=lifetimes.map(abs),
    retries=st.integers(0, 1000),
    retry_delay=lifetimes.map(abs),
    on_exit=st.dictionaries(st.sampled_from(["1", "2-255", "signal", "timeout", "*"]), st.sampled_from(Verb)),
    not_before=st.floats(0, 9e9),
)
def test_what_is_encoded_is_decoded_again(**fields: object) -> None:
    body = encode(a_job(**fields))
    assert decode(body, "m-1") == a_job(**fields)
    assert SCHEMA.is_valid(json.loads(body))


def test_an_encoded_body_holds_what_is_set_in_the_words_of_the_go_original() -> None:
    assert encode(a_job(event_id="")) == '{"command": "true"}'
    assert json.loads(encode(a_job(env={"A": "1"}, life_time=90.0, lock_id="l", abort_if_locked=True))) == {
        "command": "true",
        "event_id": "m-1",
        "envs": {"A": "1"},
        "life_time": 90,
        "lock_id": "l",
        "abort_if_locked": True,
    }
    assert json.loads(encode(a_job(life_time=1.5)))["life_time"] == "1.5s"
    assert json.loads(encode(decode(with_true('"life_time": 0, "retry_delay": 30'), ""))) == {
        "command": "true",
        "life_time": 0,
        "retry_delay": 30,
    }, "what a producer says is said, even if it is the default: an operator's section may say otherwise"
    assert json.loads(encode(a_job(life_time=float("inf"))))["life_time"] < 9223372037


def test_an_encoded_body_holds_only_characters_that_sqs_accepts() -> None:
    body = encode(a_job(command="\x01\x1f\ufffe\uffff\ud800あ"))
    assert not set(body) & {"\x01", "\x1f", "\ufffe", "\uffff", "\ud800"}
    assert decode(body, "m-1").command == "\x01\x1f\ufffe\uffff\ufffdあ"


@pytest.mark.parametrize(
    ("life_time", "age", "expired"),
    [
        (0.0, 1e9, False),
        (60.0, 60.0, False),
        (60.0, 60.001, True),
        (60.0, 0.0, False),
        (-1.0, 0.0, True),
        (-60.0, -3600.0, True),
        (60.0, -3600.0, False),
    ],
)
def test_a_job_expires_when_it_is_older_than_its_life_time(life_time: float, age: float, expired: bool) -> None:
    assert a_job(life_time=life_time).expired(age) is expired


@pytest.fixture
def in_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    before = os.environ.get("TZ")

    def change(zone: str) -> None:
        monkeypatch.setenv("TZ", zone)
        time.tzset()

    yield change
    monkeypatch.setenv("TZ", before) if before is not None else monkeypatch.delenv("TZ", raising=False)
    time.tzset()


@pytest.mark.parametrize(
    ("zone", "sent_at", "sent"),
    [
        ("UTC0", 1795273504.459, "2026-11-21 15:05:04.459 +0000 UTC"),
        ("UTC0", 1795273504.5, "2026-11-21 15:05:04.5 +0000 UTC"),
        ("UTC0", 1795273504.001, "2026-11-21 15:05:04.001 +0000 UTC"),
        ("UTC0", 1795273504.0, "2026-11-21 15:05:04 +0000 UTC"),
        ("UTC0", 1795273510.0, "2026-11-21 15:05:10 +0000 UTC"),
        ("JST-9", 1795273504.459, "2026-11-22 00:05:04.459 +0900 JST"),
        ("NST3:30", 1795273504.459, "2026-11-21 11:35:04.459 -0330 NST"),
        ("<-03>3", 1795273504.459, "2026-11-21 12:05:04.459 -0300 -03"),
    ],
)
def test_the_trigger_gets_the_text_of_the_go_original(
    in_zone: Callable[[str], None], zone: str, sent_at: float, sent: str
) -> None:
    in_zone(zone)
    job = a_job(event_id="e-1", command="echo a, b", life_time=60.0)
    assert trigger.text(job, sent_at) == (
        f"job_id:m-1, event_id:e-1, command:echo a, b, life_time:1m0s, sent_timestamp:{sent}"
    )


def test_the_trigger_gets_the_same_facts_as_json() -> None:
    job = a_job(event_id="e-1", command='echo "あ", b', life_time=60.0)
    assert json.loads(trigger.facts(job, 1795273504.459)) == {
        "job_id": "m-1",
        "event_id": "e-1",
        "command": 'echo "あ", b',
        "life_time": 60,
        "sent_timestamp": "2026-11-21T15:05:04.459+00:00",
    }


@pytest.mark.parametrize("character", ["x", '"', "\x01", "あ", "😀"])
@pytest.mark.parametrize("length", [8_500, 17_000, 60_000, 102_000, 102_400, 1_000_000])
def test_the_facts_fit_into_an_environment_string(character: str, length: int) -> None:
    job = a_job(command=character * length, life_time=1.5)
    text = trigger.facts(job, 1795273504.459)
    facts = json.loads(text)
    assert len(text.encode()) < FACTS_LIMIT
    assert job.command.startswith(facts["command"])
    assert ("command_truncated" in facts) == (facts["command"] != job.command)
    if "command_truncated" in facts:
        assert len(text) > FACTS_LIMIT - 20


def test_the_facts_fit_when_every_text_is_huge() -> None:
    text = trigger.facts(a_job(id="i" * 200_000, event_id="😀" * 200_000, command="c" * 200_000), 0.0)
    facts = json.loads(text)
    assert len(text) < FACTS_LIMIT
    assert facts["command_truncated"]
    assert facts["event_id_truncated"]
    assert facts["job_id_truncated"]


def test_only_the_text_that_is_too_long_is_cut() -> None:
    facts = json.loads(trigger.facts(a_job(event_id="e" * 200_000), 0.0))
    assert facts["command"] == "true"
    assert "command_truncated" not in facts
    assert facts["event_id_truncated"]


def test_the_schema_lies_beside_the_code_that_reads_jobs() -> None:
    assert Path(decode.__code__.co_filename).with_name("job.schema.json").is_file()


def test_a_lock_id_that_no_table_can_hold_is_refused_and_named() -> None:
    with pytest.raises(InvalidJob, match=r'^lock_id = "l+\.\.\.": too long, expected at most 2048 bytes$'):
        decode(json.dumps({"command": "true", "lock_id": "l" * 2049}), "m")
    assert decode(json.dumps({"command": "true", "lock_id": "l" * 2048}), "m").lock_id == "l" * 2048


def test_a_job_has_a_name_and_arguments_instead_of_a_command() -> None:
    job = decode('{"job": "reindex", "args": {"index": "a", "n": 5, "x": 1.50, "all": true, "no": null}}', "m")
    assert (job.name, job.command) == ("reindex", "")
    assert job.args == {"index": "a", "n": "5", "x": "1.5", "all": "true"}
    assert decode(encode(job), "m") == job


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("[]", "args: a list, expected an object of strings, numbers and booleans"),
        ('{"a": []}', 'args["a"]: a list, expected a string, a number or a boolean'),
        ('{"a": {"b": 1}}', 'args["a"]: an object, expected a string, a number or a boolean'),
        ('{"a": 9007199254740993}', 'args["a"]: a number that JSON cannot carry exactly, write it as a string'),
        ('{"a": 1e400}', 'args["a"]: a number that JSON cannot carry exactly, write it as a string'),
        ('{"a": "\\u0000"}', 'args["a"]: holds a NUL character, expected text that a process can be given'),
    ],
)
def test_arguments_that_are_none_are_refused_without_their_values(args: str, expected: str) -> None:
    with pytest.raises(InvalidJob, match=f"^{re.escape(expected)}$"):
        decode(f'{{"job": "reindex", "args": {args}}}', "m")


@pytest.mark.parametrize("more", ['"job": "x"', '"job": 17', '"args": ["x"]', '"JOB": {}, "args": 1'])
def test_in_a_body_with_a_command_a_jobs_name_and_arguments_are_not_looked_at(more: str) -> None:
    """As 1.0.0 ignored them; that they are there is noted for the trust file."""
    job = decode(f'{{"command": "true", {more}}}', "m")
    assert (job.command, job.name, job.args) == ("true", "", {})
    assert ("name" in job.given) == ("job" in more.casefold())


@pytest.mark.parametrize("body", ['{"job": ""}', '{"job": null}', '{"args": {"a": "b"}}'])
def test_a_body_with_neither_a_command_nor_a_jobs_name_is_invalid(body: str) -> None:
    with pytest.raises(InvalidJob, match="command: missing or empty"):
        decode(body, "m")


def test_a_signed_envelope_is_opened_and_its_text_kept() -> None:
    inner = json.dumps({"job": "reindex", "args": {"index": "a"}})
    for body in (json.dumps({"signed": inner, "signature": "t"}), sns(json.dumps({"signed": inner, "signature": "t"}))):
        job = decode(body, "m")
        assert (job.name, job.signed, job.signature) == ("reindex", inner, "t")


def test_what_is_beside_a_command_or_in_a_second_envelope_is_no_signature() -> None:
    job = decode(json.dumps({"command": "true", "signed": "{}", "signature": "t"}), "m")
    assert (job.command, job.signed, job.signature) == ("true", "", "")
    twice = json.dumps({"signed": json.dumps({"signed": '{"command": "id"}', "signature": "2"}), "signature": "1"})
    with pytest.raises(InvalidJob, match="command: missing"):
        decode(twice, "m")
