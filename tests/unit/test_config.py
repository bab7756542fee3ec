"""The configuration: the original's file, every default, and one clear line for every mistake."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqsjkr.config import KEYS, Config, load
from sqsjkr.config.file import Key
from sqsjkr.errors import ConfigError

# The example in the README of the Go original, to the letter.
GO_README = """\
[account]
id = "12345678"
profile = "default"
region = "ap-northeast-1"

[sqs]
queue_name = "sqsjkr_queue"

[kicker]
max_concurrent_num = 5
life_time_trigger = "echo 'stdin!' | ./test/trigger_test.sh"
stats_port = 8061
"""
REQUIRED: dict[str, Any] = {"account_id": "1", "region": "eu-west-1", "queue_name": "q"}
REFERENCE = (Path(__file__).parents[2] / "docs/reference/configuration.md").read_text()

# For each field: what stands in a file, what it becomes, and something that it may not be.
SAMPLES: dict[str, tuple[str, object, str]] = {
    "account_id": ('"123"', "123", "12345678"),
    "profile": ('"p"', "p", "true"),
    "region": ('"us-east-1"', "us-east-1", "[]"),
    "queue_name": ('"q.fifo"', "q.fifo", '"https://sqs.eu-west-1.amazonaws.com/1/q"'),
    "queue_url": ('"http://localhost:4566/1/q"', "http://localhost:4566/1/q", '"q"'),
    "max_concurrent_num": ("7", 7, '"five"'),
    "life_time_trigger": ('"echo"', "echo", "{}"),
    "stats_port": ("9000", 9000, "65536"),
    "stats_host": ('"::1"', "::1", '""'),
    "stats_socket": ('"/run/s"', "/run/s", f'"/{"x" * 200}"'),
    "max_timeout": ('"12h"', 43_200.0, "-1"),
    "max_crashes": ("0", 0, "-1"),
    "wrapper": ('["nice", "-n", "10"]', ("nice", "-n", "10"), '["nice", 10]'),
    "trust": ('"/etc/sqsjkr/trust.toml"', "/etc/sqsjkr/trust.toml", "true"),
    "hook": ('"mail ops"', "mail ops", "3"),
    "hook_on": ('["success", "dead"]', frozenset({"success", "dead"}), '["sucess"]'),
    "job_env": ('["PATH", "LC_*"]', ("PATH", "LC_*"), '["A=B"]'),
    "job_aws": ('"none"', "none", '"some"'),
    "lock_table": ('"t"', "t", '""'),
    "ack": ('"start"', "start", '"stop"'),
    "grace_period": ('"1m30s"', 90.0, '"1 minute"'),
    "kill_after": ("0.5", 0.5, "0"),
    "locker": ('"my.locks:Redis"', "my.locks:Redis", '"redis"'),
    "throttler": ('"none"', "none", "3"),
    "log_level": ('"debug"', "debug", '"loud"'),
    "log_format": ('"json"', "json", "1979-05-27"),
    "metrics_log": ('"emf"', "emf", '"statsd"'),
    "history": ('"failures"', "failures", '"some"'),
    "history_output": ('"none"', "none", '"some"'),
    "history_days": ("30", 30, "0"),
    "otlp_endpoint": ('"http://localhost:4318"', "http://localhost:4318", '"localhost:4318"'),
    "trace_parent": ("true", True, '"yes"'),
    "output_tail": ("0", 0, "1.5"),
    "output_rate": ("0", 0, "-1"),
}

Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(text: str) -> str:
        path = tmp_path / "config.toml"
        path.write_text(text)
        return str(path)

    return to_file


@pytest.fixture
def mistakes(write: Write) -> Callable[..., list[str]]:
    """The lines of the error that a file makes, the directory in front of them left out."""

    def of(text: str, env: Mapping[str, str] | None = None, **overrides: object) -> list[str]:
        path = write(text)
        with pytest.raises(ConfigError) as error:
            load(path, env=env or {}, overrides=overrides)
        return [line.removeprefix(path.removesuffix("config.toml")) for line in str(error.value).split("\n")]

    return of


Mistakes = Callable[..., list[str]]


def in_file(**lines: str) -> str:
    """A file with these fields, and what is required."""
    given = {"account_id": '"1"', "region": '"eu-west-1"', "queue_name": '"q"', **lines}
    return "".join(f"{key.section}.{key.name} = {given[key.field]}\n" for key in KEYS if key.field in given)


# --- what is right -----------------------------------------------------------------------------------------------


def test_the_file_in_the_go_readme_works_unchanged(write: Write) -> None:
    config = load(write(GO_README), env={})
    assert config == Config(
        account_id="12345678",
        profile="default",
        region="ap-northeast-1",
        queue_name="sqsjkr_queue",
        max_concurrent_num=5,
        life_time_trigger="echo 'stdin!' | ./test/trigger_test.sh",
        stats_port=8061,
    )


def test_python_programs_make_one_by_keyword_with_the_same_defaults() -> None:
    config = Config(
        account_id="...", region="ap-northeast-1", queue_name="...", max_concurrent_num=5, life_time_trigger="echo"
    )
    assert (config.stats_host, config.stats_port, config.lock_table) == ("127.0.0.1", 8061, "sqsjkr")
    assert (config.ack, config.grace_period, config.kill_after) == ("finish", 20.0, 5.0)
    assert (config.locker, config.throttler) == ("dynamodb", "dynamodb")
    assert dataclasses.replace(config, queue_name="other").queue_name == "other"


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.field)
def test_every_key_is_read_from_its_section(key: Key, write: Write) -> None:
    written, value, _ = SAMPLES[key.field]
    start = dict.fromkeys(REQUIRED.keys() - {key.field})
    text = f"[{key.section}]\n{key.name} = {written}\n"
    config = load(write(text), env={}, overrides={name: REQUIRED[name] for name in start})
    assert getattr(config, key.field) == value


def test_zero_slots_and_port_zero_mean_the_default_as_in_go(write: Write) -> None:
    config = load(write(GO_README.replace("= 5", "= 0").replace("8061", "0")), env={})
    assert (config.max_concurrent_num, config.stats_port) == (20, 8061)


def test_names_of_sections_and_keys_may_be_in_any_case_as_in_go(write: Write) -> None:
    assert load(write("[Account]\nID = '1'\n[SQS]\nQueue_Name = 'q'\n"), env={"AWS_REGION": "r"}).queue_name == "q"


def test_templates_are_filled_in_before_the_toml_is_read(write: Write) -> None:
    text = GO_README.replace('"ap-northeast-1"', '"{{ must_env `R` }}"').replace("= 5", "= {{ env `N` `3` }}")
    config = load(write(text), env={"R": "eu-west-2"})
    assert (config.region, config.max_concurrent_num) == ("eu-west-2", 3)


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(write: Write) -> None:
    assert load(write("\ufeff" + GO_README.replace("\n", "\r\n")), env={}).max_concurrent_num == 5


@pytest.mark.parametrize(
    ("written", "seconds"), [("0", 0.0), ("90", 90.0), ("1.5", 1.5), ('"1h"', 3600.0), ('"250ms"', 0.25), ('"0"', 0.0)]
)
def test_seconds_are_a_number_or_a_go_duration(written: str, seconds: float, write: Write) -> None:
    config = load(write(in_file(grace_period=written)), env={})
    assert config.grace_period == seconds
    assert isinstance(config.grace_period, float)


# --- region, queue, stats, local -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://sqs.eu-west-1.amazonaws.com/123456789012/q", "eu-west-1"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/q", "cn-north-1"),
        ("https://sqs-fips.us-east-1.amazonaws.com/1/q", "us-east-1"),
        ("https://sqs.us-east-1.api.aws/1/q", "us-east-1"),
        ("https://vpce-0f-a.sqs.us-west-2.vpce.amazonaws.com/1/q", "us-west-2"),
    ],
)
def test_a_queue_url_replaces_account_queue_name_and_region(url: str, region: str) -> None:
    config = Config(queue_url=url)
    assert (config.region, config.account_id, config.queue_name) == (region, "", "")


def test_the_region_is_the_keys_then_the_urls_then_the_environments(write: Write) -> None:
    env = {"AWS_REGION": "first", "AWS_DEFAULT_REGION": "second"}
    url = write('[sqs]\nqueue_url = "https://sqs.eu-west-1.amazonaws.com/1/q"\n')
    assert load(url, env=env, overrides={"region": "flag"}).region == "flag"
    assert load(url, env=env).region == "eu-west-1"
    elsewhere = write('[sqs]\nqueue_url = "http://[::1]:4566/sqs.eu-west-1.amazonaws.com/q"\n')
    assert load(elsewhere, env=env).region == "first"
    assert load(elsewhere, env={"AWS_DEFAULT_REGION": "second"}).region == "second"
    with pytest.raises(ConfigError, match="region: required"):
        load(elsewhere, env={})


def test_a_region_flag_alone_is_enough(write: Write) -> None:
    """The original checked before it looked at the flag: D1."""
    text = GO_README.replace('region = "ap-northeast-1"\n', "")
    assert load(write(text), env={}, overrides={"region": "eu-west-1"}).region == "eu-west-1"


def test_flags_have_the_last_word_over_the_file_and_none_is_no_flag(write: Write) -> None:
    flags = {"profile": "p", "lock_table": "t", "log_level": "debug", "log_format": "json", "region": None}
    config = load(write(GO_README), env={}, overrides=flags)
    assert (config.profile, config.lock_table, config.log_level, config.log_format) == ("p", "t", "debug", "json")
    assert config.region == "ap-northeast-1"


def test_a_stats_flag_takes_the_place_of_the_other_key(write: Write) -> None:
    """The original panicked: D2."""
    port, socket = in_file(stats_port="9000"), in_file(stats_socket='"/run/s"')
    by_socket = load(write(port), env={}, overrides={"stats_socket": "/run/flag"})
    assert (by_socket.stats_port, by_socket.stats_socket) == (0, "/run/flag")
    by_port = load(write(socket), env={}, overrides={"stats_port": 9001})
    assert (by_port.stats_port, by_port.stats_socket) == (9001, "")


def test_a_stats_socket_puts_the_default_port_off(write: Write) -> None:
    config = load(write(in_file(stats_socket='"/run/s"')), env={})
    assert (config.stats_port, config.stats_socket) == (0, "/run/s")


def test_stats_port_and_socket_in_one_file_are_an_error_as_in_go(mistakes: Mistakes) -> None:
    assert mistakes(GO_README + 'stats_socket = "/run/s"\n') == [
        'config.toml:13: [kicker] stats_socket = "/run/s": stats_port is given, too; keep one of them'
    ]


def test_port_and_socket_flags_together_are_an_error(mistakes: Mistakes) -> None:
    assert mistakes(GO_README, stats_port=1, stats_socket="/s") == [
        '--stats-socket = "/s": stats_port is given, too; keep one of them'
    ]


def test_the_embedded_store_needs_no_file_no_account_and_opens_no_port() -> None:
    config = load(None, env={}, overrides={"local": "dir"})
    assert (config.local, config.locker, config.throttler) == ("dir", "sqlite", "sqlite")
    assert (config.region, config.stats_port) == ("", 0)
    assert load(None, env={}, overrides={"local": "dir", "stats_port": 9000}).stats_port == 9000


def test_dynamodb_locks_beside_the_embedded_store_need_a_region() -> None:
    with pytest.raises(ConfigError, match=r"^\[account\] region: required"):
        load(None, env={}, overrides={"local": "dir", "locker": "dynamodb"})


def test_sqlite_locks_need_a_directory(mistakes: Mistakes, write: Write) -> None:
    assert load(write(in_file(locker='"sqlite:/var/lib/sqsjkr"')), env={}).locker == "sqlite:/var/lib/sqsjkr"
    (line,) = mistakes(in_file(locker='"sqlite"'))
    assert re.match(r'config\.toml:4: \[kicker\] locker = "sqlite": needs a directory; .*--local DIR', line)
    (line,) = mistakes(in_file(locker='"sqlite:"'))
    assert 'locker = "sqlite:": expected one of "dynamodb", "sqlite", "none", "sqlite:/directory" or' in line


def test_without_a_file_and_without_local_everything_required_is_named() -> None:
    with pytest.raises(ConfigError) as error:
        load(None, env={})
    assert [line.split(":")[0] for line in str(error.value).split("\n")] == [
        "[account] region",
        "[account] id",
        "[sqs] queue_name",
    ]


# --- mistakes ----------------------------------------------------------------------------------------------------


def typos(word: str) -> set[str]:
    """Every way to leave one letter out, to double one, and to swap two."""
    left_out = {word[:n] + word[n + 1 :] for n in range(len(word))}
    doubled = {word[:n] + word[n] + word[n:] for n in range(len(word))}
    swapped = {word[:n] + word[n + 1] + word[n] + word[n + 2 :] for n in range(len(word) - 1)}
    return (left_out | doubled | swapped) - {word}


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.field)
def test_any_typo_in_a_key_is_one_line_that_names_the_key(key: Key, mistakes: Mistakes) -> None:
    for typo in typos(key.name):
        text = f"# comment\n[{key.section}]\n{typo} = {SAMPLES[key.field][0]}\n"
        others = {name: value for name, value in REQUIRED.items() if name != key.field}
        assert mistakes(text, **others) == [
            f"config.toml:3: [{key.section}] {typo}: unknown key; did you mean {key.name}?"
        ]


@pytest.mark.parametrize("section", ["account", "sqs", "kicker"])
def test_any_typo_in_a_section_is_one_line_that_names_the_section(section: str, mistakes: Mistakes) -> None:
    for typo in typos(section):
        text = GO_README.replace(f"[{section}]", f"[{typo}]")
        line = text.split("\n").index(f"[{typo}]") + 1
        assert mistakes(text) == [f"config.toml:{line}: [{typo}]: unknown section; did you mean [{section}]?"]


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.field)
def test_a_wrong_value_is_one_line_with_file_line_key_value_and_what_was_expected(key: Key, mistakes: Mistakes) -> None:
    wrong = SAMPLES[key.field][2]
    others = {name: value for name, value in REQUIRED.items() if name != key.field}
    lines = mistakes(f"\n[{key.section}]\n\n{key.name} = {wrong}\n", **others)
    assert len(lines) == 1
    assert re.match(rf"config\.toml:4: \[{key.section}\] {key.name} = \S.*: expected \S", lines[0]), lines[0]
    with pytest.raises(ConfigError, match=rf"^\[{key.section}\] {key.name} = .*: expected ") as error:
        Config(**{**REQUIRED, key.field: object()})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("field", "written", "expected"),
    [
        ("account_id", "12345678", '= 12345678: expected a string: write "12345678", in quotes'),
        ("max_concurrent_num", '"five"', '= "five": expected a whole number >= 1 and <= 10000'),
        ("max_concurrent_num", "-1", "= -1: expected a whole number >= 1 and <= 10000"),
        ("max_concurrent_num", "10001", "= 10001: expected a whole number >= 1 and <= 10000"),
        ("max_concurrent_num", "true", "= true: expected a whole number >= 1 and <= 10000"),
        ("kill_after", "8.1", "= 8.1: expected seconds > 0 and <= 8, as a number or as a string"),
        ("kill_after", '"0s"', '= "0s": expected seconds > 0'),
        ("grace_period", "-1", "= -1: expected seconds >= 0"),
        ("grace_period", "nan", "= nan: expected seconds >= 0"),
        ("grace_period", "inf", "= inf: expected seconds >= 0"),
        (
            "log_level",
            '"WARNING"',
            '= "WARNING": expected one of "error", "warn", "info", "debug"; did you mean "warn"?',
        ),
        ("ack", '"finished"', '= "finished": expected one of "finish", "start"; did you mean "finish"?'),
        ("locker", '"dynamdb"', ' or "package.module:Class"; did you mean "dynamodb"?'),
        ("locker", '"package.module.Class"', '= "package.module.Class": expected one of'),
        ("queue_name", '"arn:aws:sqs:eu-west-1:1:q"', "expected a queue's name; its address goes into queue_url"),
        ("life_time_trigger", r'"a\u0000b"', r'= "a\u0000b": expected a string without NUL characters'),
        ("output_tail", "[1, 2]", "= [...]: expected a whole number >= 0"),
    ],
)
def test_what_was_expected_is_said_in_words(field: str, written: str, expected: str, mistakes: Mistakes) -> None:
    (line,) = mistakes(in_file(**{field: written}))
    assert expected in line


def test_all_mistakes_are_reported_in_the_order_of_the_file(mistakes: Mistakes) -> None:
    text = """\
[account]
id = 12345678
[sqs]
que_name = "q"
[kicker]
region = "eu-west-1"
max_concurrent_num = "five"
log_level = "loud"
colour = "red"
"""
    assert [line.split(" = ")[0] for line in mistakes(text)] == [
        "config.toml:2: [account] id",
        "config.toml:4: [sqs] que_name: unknown key; did you mean queue_name?",
        "config.toml:6: [kicker] region: belongs in the section [account]",
        "config.toml:7: [kicker] max_concurrent_num",
        "config.toml:8: [kicker] log_level",
        "config.toml:9: [kicker] colour: unknown key; known keys: " + ", ".join(k.name for k in KEYS[5:]),
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('queue_name = "q"', "config.toml:1: queue_name: belongs in the section [sqs]"),
        (
            '[account]\nqueue_nam = "q"',
            "config.toml:2: [account] queue_nam: unknown key; did you mean queue_name in [sqs]?",
        ),
        ("[account]\n[sqs]\nkicker = 5", "config.toml:3: [sqs] kicker: unknown key; known keys: queue_name, queue_url"),
        ("kicker = 5", "config.toml:1: kicker = 5: expected a section, [kicker] on a line of its own"),
        ("\n[[kicker]]\nack = 1", "config.toml:2: kicker = [...]: expected a section, [kicker] on a line of its own"),
        ("[cron]\nx = 1", "config.toml:1: [cron]: unknown section; known sections: [account], [sqs], [kicker]"),
        ("[kicker]\nack = 'start'\nACK = 'start'", "config.toml:3: [kicker] ACK: given twice, also on line 2"),
        ('[kicker]\n"a\\nb" = 1\n', r'config.toml:2: [kicker] "a\nb": unknown key; known keys: '),
        ("[kicker.ack]\nx = 1", "config.toml:1: [kicker] ack = {...}: expected one of"),
        ("\nkicker.ack = 1", "config.toml:2: [kicker] ack = 1: expected one of"),
        ("\nkicker = { ack = 1 }", "config.toml:2: [kicker] ack = 1: expected one of"),
        ("[kicker]\nlife_time_trigger = '''\n[kicker]\nack = 2\n'''\n'ack' = 1", "config.toml:6: [kicker] ack = 1:"),
        ('[kicker]\nlife_time_trigger = "\\"" # "\nack = 1', "config.toml:3: [kicker] ack = 1:"),
        ("[kicker]\noutput_tail = [ # ]\n'a',\n]\nack = 1", "config.toml:5: [kicker] ack = 1:"),
    ],
)
def test_structure_mistakes_name_the_line_and_the_way_out(text: str, line: str, mistakes: Mistakes) -> None:
    assert any(found.startswith(line) for found in mistakes(text)), mistakes(text)


def test_a_required_key_that_is_missing_is_named_with_the_line_of_its_section(mistakes: Mistakes) -> None:
    (line,) = mistakes(GO_README.replace('queue_name = "sqsjkr_queue"', ""))
    assert line.startswith("config.toml:6: [sqs] queue_name: required")
    (line,) = mistakes(GO_README.replace('[sqs]\nqueue_name = "sqsjkr_queue"', ""))
    assert line.startswith("config.toml: [sqs] queue_name: required")


def test_lines_are_those_of_the_file_even_below_templates_with_newlines(mistakes: Mistakes) -> None:
    text = GO_README.replace("\"echo 'stdin!' | ./test/trigger_test.sh\"", '"""{{ env `LINES` }}"""')
    (line,) = mistakes(text.replace("8061", "-1"), env={"LINES": "[kicker]\nstats_port = 1\n\n"})
    assert line.startswith("config.toml:12: [kicker] stats_port = -1")
    (line,) = mistakes("{{- /* a\nb */ -}}\n\n" + text.replace("8061", "-1"), env={"LINES": "\n" * 50})
    assert line.startswith("config.toml:15: [kicker] stats_port = -1")


def test_a_flag_that_is_wrong_is_named_as_a_flag(mistakes: Mistakes) -> None:
    assert mistakes(GO_README, stats_port=70000) == ["--stats-port = 70000: expected a whole number >= 1 and <= 65535"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[account]\nid = 5x\n", "config.toml:2: not TOML: "),
        ("[account]\nid = abc\n", "config.toml:2: not TOML: Invalid value (a string needs quotes)"),
        ("[account]\nid = 'a'\n\n[account]\n", "config.toml:4: not TOML: Cannot declare ('account',) twice"),
        ('[account]\nid = """\nabc', "config.toml:3: not TOML: Unterminated string"),
        ("a = " + "[" * 5000, "config.toml: not TOML: nested too deep"),
        ("[account]\nid = {{ env `LINES` }}\n", "config.toml:2: not TOML: "),
        ("a = {{ env `ONE` }}\n{{ env `LINES` -}}\n\nb =\n", "config.toml:4: not TOML: Invalid value"),
    ],
)
def test_what_is_not_toml_is_one_line_with_the_line_of_the_file(text: str, line: str, mistakes: Mistakes) -> None:
    (found,) = mistakes(text, env={"LINES": "\n\n\n", "ONE": "1"})
    assert found.startswith(line)


def test_a_template_mistake_is_one_line_with_the_line_of_the_file(mistakes: Mistakes) -> None:
    (line,) = mistakes(GO_README.replace('"12345678"', '"{{ must_env `ID` }}"'))
    assert line == "config.toml:2: {{ must_env `ID` }}: the environment variable ID is not set"


def test_a_secret_in_the_environment_is_in_no_error(mistakes: Mistakes) -> None:
    text = GO_README.replace("\"echo 'stdin!' | ./test/trigger_test.sh\"", "'{{ env `SECRET` }}'")
    for broken in (text.replace("= 5", '= "5"'), text + "x = 1\n", text + "x"):
        assert "hush" not in "\n".join(mistakes(broken, env={"SECRET": "hush"}))


def test_a_long_value_is_shortened(mistakes: Mistakes) -> None:
    (line,) = mistakes(in_file(log_level=f'"{"x" * 5000}"'))
    assert len(line) < 250


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    missing, binary = tmp_path / "none.toml", tmp_path / "binary.toml"
    binary.write_bytes(b"[account]\nid = '\xff'\n")
    for path, reason in (
        (missing, f"{missing}: no such file; write it, or name another one with --conf"),
        (tmp_path, f"{tmp_path}: is a directory; expected a TOML file"),
        (missing / "x" / "y", f"{missing / 'x' / 'y'}: no such file; write it, or name another one with --conf"),
        (binary / "x", f"{binary / 'x'}: cannot be read: Not a directory"),
        (binary, f"{binary}:2: not UTF-8: byte 0xff"),
    ):
        with pytest.raises(ConfigError) as error:
            load(path, env={})
        assert str(error.value) == reason


def test_a_file_without_permission_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.touch(mode=0o000)
    me = os.geteuid()
    if me == 0:  # root may read everything, nobody may not
        os.seteuid(65534)
    try:
        with pytest.raises(ConfigError, match=r"config\.toml: permission denied for user id \d+$"):
            load(path, env={})
    finally:
        os.seteuid(me)


WORDS = st.sampled_from(["[kicker]", "[sqs]", "id", "ack", "=", "'x'", '"', '"""', "'''", "[", "]", "{", "}", "#", "."])


@given(st.lists(WORDS | st.sampled_from(["\n", " ", "{{", "}}", "5", "\\", "é", "\r"]), max_size=30).map("".join))
def test_any_text_is_a_configuration_or_a_configuration_error(tmp_path_factory: Any, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(text, newline="")
    with pytest.raises(ConfigError) as error:
        load(path, env={})
    assert all(line.startswith(str(path)) for line in str(error.value).split("\n"))


# --- the table and its page ---------------------------------------------------------------------------------------


def rows(section: str) -> dict[str, list[str]]:
    """The table under the heading of a section: each key, and the cells of its row."""
    part = REFERENCE.split(f"\n## [{section}]\n")[1].split("\n## ")[0]
    cells = [re.split(r"(?<!\\)\|", line.strip("|")) for line in part.split("\n") if line.startswith("| `")]
    return {row[0].strip(" `"): [cell.strip() for cell in row] for row in cells}


@pytest.mark.parametrize("section", ["account", "sqs", "kicker"])
def test_every_key_has_its_row_in_the_reference_in_order(section: str) -> None:
    assert list(rows(section)) == [key.name for key in KEYS if key.section == section]


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.field)
def test_every_default_in_the_reference_is_the_real_one(key: Key) -> None:
    documented = rows(key.section)[key.name][2].strip("`")
    if key.field in REQUIRED:
        assert documented == "required"
    else:
        value = getattr(Config(**REQUIRED), key.field)
        assert documented == written(value)


def written(value: object) -> str:
    if isinstance(value, tuple | frozenset):
        return json.dumps(sorted(value))
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else f"{value:g}" if float(str(value)) < 1000 else str(value)


def test_the_example_in_the_reference_is_a_configuration(write: Write) -> None:
    whole, about_jobs, templates = re.findall(r"```toml\n(.*?)```", REFERENCE, re.DOTALL)
    assert load(write(whole), env={}).grace_period == 60.0
    assert [section.pattern for section in load(write(about_jobs), env={}, overrides=REQUIRED).jobs] == [
        "nightly-*",
        "*",
    ]
    load(write(templates), env={"ACCOUNT_ID": "1"}, overrides={"queue_name": "q"})


def test_every_sample_has_its_key() -> None:
    assert list(SAMPLES) == [key.field for key in KEYS]
    assert len({key.name for key in KEYS}) == len(KEYS)


def test_a_setting_misspelt_in_python_is_answered_with_the_one_that_was_meant() -> None:
    misspelt: dict[str, Any] = {**REQUIRED, "max_concurent_num": 5}
    with pytest.raises(ConfigError, match=r"^max_concurent_num: unknown setting; did you mean max_concurrent_num\?$"):
        Config(**misspelt)


def test_a_configuration_can_be_changed_and_copied_as_any_dataclass() -> None:
    config = Config(**REQUIRED)
    assert copy.copy(config) == copy.deepcopy(config) == config
    assert dataclasses.replace(config, queue_name="other").queue_name == "other"


# --- sections about jobs -----------------------------------------------------------------------------------------


def test_sections_about_jobs_are_read_in_the_order_of_the_file(write: Write) -> None:
    text = f'{in_file()}[jobs."nightly-*"]\nlife_time = "2h"\nwrapper = ["nice"]\n[JOBS."*"]\nLock_ID = "x"\n'
    first, second = load(write(text.replace("JOBS", "jobs")), env={}).jobs
    assert (first.pattern, first.job, first.plan) == ("nightly-*", {"life_time": 7200.0}, {"wrapper": ("nice",)})
    assert (second.pattern, second.job, second.plan) == ("*", {"lock_id": "x"}, {})
    by_keyword = Config(**REQUIRED, jobs={"nightly-*": {"life_time": "2h", "wrapper": ["nice"]}, "*": {"lock_id": "x"}})
    assert by_keyword.jobs == (first, second)
    assert dataclasses.replace(by_keyword, queue_name="other").jobs == (first, second)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[jobs."a"]\nlife_tim = 3', '2: [jobs."a"] life_tim: unknown key; did you mean life_time?'),
        ('[jobs."a"]\n\ncommand = "true"', '3: [jobs."a"] command: unknown key; known keys: lock_id, '),
        ('[jobs."a"]\nlife_time = "1d"', '2: [jobs."a"] life_time = "1d": unknown unit "d", expected a Go duration'),
        ('[jobs."a"]\nretries = -1', '2: [jobs."a"] retries = -1: expected at least 0 and at most 1000'),
        ('[jobs."a"]\non_exit = { "3" = "stop" }', '2: [jobs."a"] on_exit["3"] = "stop": expected one of ok, '),
        ('[jobs."a"]\n[jobs."a".on_exit]\n3 = 3', '2: [jobs."a"] on_exit["3"] = 3: expected one of ok, retry'),
        (
            '[jobs."a"]\nhook_on = ["sucess"]',
            '2: [jobs."a"] hook_on = [...]: expected a list of words; "sucess" is none',
        ),
        ('[jobs."a"]\nhook_on = "failure"', '2: [jobs."a"] hook_on = "failure": expected a list such as ["failure"'),
        ('[jobs."a"]\nnot_before = 3', '2: [jobs."a"] not_before: unknown key; known keys: '),
        ('[jobs."a"]\nlock_id = 3', '2: [jobs."a"] lock_id = 3: expected a string'),
        ("[jobs.a]\nabort_if_locked = 1", '2: [jobs."a"] abort_if_locked = 1: expected true or false'),
        ('[jobs."a"]\nwrapper = "nice"', '2: [jobs."a"] wrapper = "nice": expected a list of strings such as'),
        ('[jobs."a"]\nlock_id = "x"\nLock_id = "y"', '3: [jobs."a"] Lock_id: given twice in this section'),
        ("[jobs]\nlife_time = 3", '2: [jobs] life_time = 3: expected a section such as [jobs."nightly-*"]'),
        ("jobs = 3", '1: [jobs] = 3: expected sections such as [jobs."nightly-*"]'),
        ("[[jobs]]\nx = 3", '1: [jobs] = [...]: expected sections such as [jobs."nightly-*"]'),
        ('[job."a"]\nlife_time = 3', "1: [job]: unknown section; did you mean [jobs]?"),
    ],
)
def test_a_mistake_in_a_section_about_jobs_is_one_line_with_its_place(text: str, line: str, mistakes: Mistakes) -> None:
    (found,) = mistakes(text, **REQUIRED)
    assert found.startswith(f"config.toml:{line}")


def test_retries_in_a_section_need_messages_that_are_still_there(mistakes: Mistakes) -> None:
    (line,) = mistakes('[kicker]\nack = "start"\n[jobs."a"]\nretries = 3\n', **REQUIRED)
    assert line.startswith('config.toml:4: [jobs."a"] retries: needs [kicker] ack = "finish"; ')
    with pytest.raises(ConfigError, match=r'^\[jobs\."a"\] retries: needs'):
        Config(**REQUIRED, ack="start", jobs={"a": {"retries": 3}})


def test_mistakes_in_sections_about_jobs_stand_among_the_others_in_order(mistakes: Mistakes) -> None:
    text = '[jobs."a"]\nlock_id = 1\n[kicker]\nack = "x"\n[jobs."b"]\nlock_id = 2\n'
    assert [line.split(" = ")[0] for line in mistakes(text, **REQUIRED)] == [
        'config.toml:2: [jobs."a"] lock_id',
        "config.toml:4: [kicker] ack",
        'config.toml:6: [jobs."b"] lock_id',
    ]
