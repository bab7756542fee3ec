"""Who may ask for what: the rules of the trust file, each on its own."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqsjkr.job import Job, decode
from sqsjkr.plan import Plan
from sqsjkr.trust import file
from sqsjkr.trust.policy import UNSIGNED, Policy, Proof, Verdict

FILE = r"""
keys = "keys.json"

[producer.scheduler]
sender = ["AROASCHEDULER:*"]
may = ["nightly-*", "reindex"]

[producer.deploy]
sender = "AROADEPLOY:*"
key = ["deploy-1", "deploy-2"]
may = ["*", "command"]

[producer.old]
sender = "AROAOLD:*"
may = "batch"

[job.reindex]
run = ["/opt/app/bin/reindex", "--index={index}", "{mode}"]
args.index = '[a-z0-9_-]{1,64}'
args.mode = ["full", "delta", "-n"]
default = { mode = "delta" }
lock_id = "reindex-{index}"
life_time = "1h"
env = ["TZ"]
set = { LANG = "C.UTF-8" }
secrets = { DB_PASSWORD = "ssm:/prod/db/password" }
wrapper = ["nice", "--"]

[job.nightly-report]
command = 'make report | mail -s "$ARG_SUBJECT" ops'
args.subject = '.*'

[job.nightly-tail]
run = ["tail", "{lines}", "{a}{b}", "log"]
args.lines = { pattern = '-?[0-9]+', dash = true, max = 4 }
args.a = '[a-z]*'
args.b = '[a-z-]*'
default = { a = "", b = "x", lines = 5 }

[job.batch]
match = '/opt/batch/[a-z-]+\.sh( .*)?'
env = ["TZ"]
"""
SCHEDULER, DEPLOY, OLD = "AROASCHEDULER:x", "AROADEPLOY:i-1", "AROAOLD:i-9"
SIGNED = Proof(key="deploy-2", token="t")


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    path = tmp_path_factory.mktemp("trust") / "trust.toml"
    path.write_text(FILE)
    _, found = file.read(str(path))
    return found.policy


def job(**fields: Any) -> Job:
    return decode(json.dumps(fields), "m-1")


def judge(policy: Policy, sender: str, proof: Proof = UNSIGNED, **fields: Any) -> Verdict:
    return policy.judge(job(**fields), Plan(wrapper=("timeout", "1h")), sender, proof)


def refusal(policy: Policy, sender: str, proof: Proof = UNSIGNED, **fields: Any) -> str:
    return judge(policy, sender, proof, **fields).complaint


# Rule 1


def test_a_producer_is_known_by_all_of_its_conditions(policy: Policy) -> None:
    assert judge(policy, DEPLOY, SIGNED, command="id").producer == "deploy"
    assert refusal(policy, DEPLOY, command="id") == "sender AROADEPLOY:i-1 is no producer's"
    assert refusal(policy, "AROAX:1", SIGNED, command="id") == "sender AROAX:1 is no producer's with key deploy-2"
    assert refusal(policy, "", command="id") == "sender unknown is no producer's"


def test_a_wrong_signature_refuses_even_if_the_sender_alone_would_do(policy: Policy) -> None:
    wrong = Proof(complaint="signature: it is for another body")
    assert refusal(policy, SCHEDULER, wrong, job="reindex", args={"index": "a"}) == wrong.complaint


def test_a_producer_may_ask_for_its_jobs_only(policy: Policy) -> None:
    asked = {"job": "reindex", "args": {"index": "a"}}
    assert judge(policy, SCHEDULER, **asked).complaint == ""
    assert refusal(policy, OLD, **asked) == "producer old may not ask for job reindex"
    assert refusal(policy, SCHEDULER, command="id") == 'producer scheduler may not ask for "command"'
    assert judge(policy, SCHEDULER, job="nightly-report", args={"subject": "s"}).complaint == ""


def test_a_star_stands_for_every_job_and_not_for_shell_commands(policy: Policy, tmp_path: Path) -> None:
    path = tmp_path / "trust.toml"
    path.write_text('[producer.a]\nsender = "*"\nmay = ["*", "comman?"]\n')
    _, found = file.read(str(path))
    assert refusal(found.policy, "anybody", command="id") == 'producer a may not ask for "command"'


# Rule 2


def test_a_value_fills_its_place_in_one_word_and_nothing_is_split_or_expanded(policy: Policy) -> None:
    verdict = judge(policy, SCHEDULER, job="reindex", args={"index": "a_b-c"})
    assert verdict.plan.argv == ("/opt/app/bin/reindex", "--index=a_b-c", "delta")
    assert verdict.job is not None
    assert verdict.job.lock_id == "reindex-a_b-c"
    assert verdict.job.life_time == 3600
    assert (verdict.producer, verdict.name) == ("scheduler", "reindex")
    assert verdict.plan.wrapper == ("nice", "--")


def test_a_value_is_never_a_template(policy: Policy) -> None:
    verdict = judge(policy, SCHEDULER, job="nightly-tail", args={"a": "b", "b": "a"})
    assert verdict.plan.argv == ("tail", "5", "ba", "log")
    verdict = judge(policy, SCHEDULER, job="nightly-report", args={"subject": "{subject}{index}"})
    assert verdict.plan.arguments == {"ARG_SUBJECT": "{subject}{index}"}


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    path = tmp_path_factory.mktemp("trust") / "trust.toml"
    path.write_text(
        '[producer.a]\nsender = "*"\nmay = "*"\n'
        '[job.echo]\nrun = ["printf", "%s", "{x}", "<{x}>"]\nargs.x = { pattern = "[^!]*", dash = true, max = 2000 }\n'
        '[job.shell]\ncommand = \'printf %s "$ARG_X"\'\nargs.x = { pattern = "[^!]*", dash = true, max = 2000 }\n'
    )
    _, found = file.read(str(path))
    return found.policy


_TEXT = st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="!\u2028\u2029"), max_size=200)


@given(_TEXT)
def test_any_value_arrives_in_the_argv_byte_for_byte(echo: Policy, value: str) -> None:
    verdict = judge(echo, "x", job="echo", args={"x": value})
    assert verdict.complaint == ""
    line = verdict.plan.command_line("not run")
    assert line[2:] == (b"printf", b"%s", value.encode(), b"<" + value.encode() + b">")


HOSTILE = [
    "; touch {}",
    "$(touch {})",
    "`touch {}`",
    "' ; touch {} ; '",
    '" ; touch {} ; "',
    "| touch {}",
    "&& touch {}",
    "> {}",
    "-o {}",
    "${IFS}touch${IFS}{}",
    "%s %n %d",
    "~/*",
]


@pytest.mark.parametrize("template", HOSTILE)
@pytest.mark.parametrize("name", ["echo", "shell"])
def test_a_value_is_no_command_whatever_it_holds(echo: Policy, template: str, name: str, tmp_path: Path) -> None:
    value = template.replace("{}", str(tmp_path / "proof"))
    verdict = judge(echo, "x", job=name, args={"x": value})
    assert verdict.complaint == ""
    line = verdict.plan.command_line("")[2:]
    env = {**os.environ, **verdict.plan.arguments}
    done = subprocess.run(line, env=env, capture_output=True, check=True)
    assert done.stdout == (value if name == "shell" else f"{value}<{value}>").encode()
    assert not (tmp_path / "proof").exists()


# Rule 3


def test_a_value_that_becomes_a_word_of_its_own_does_not_begin_with_a_dash(policy: Policy) -> None:
    dash = "begins with a dash, which a program takes for an option"
    asked = {"index": "a", "mode": "-n"}
    assert refusal(policy, SCHEDULER, job="reindex", args=asked) == f"args.mode {dash}"
    assert refusal(policy, SCHEDULER, job="nightly-tail", args={"a": "", "b": "-r"}) == f"args.a {dash}"
    assert refusal(policy, SCHEDULER, job="nightly-report", args={"subject": "-f"}) == f"args.subject {dash}"


def test_a_dash_is_allowed_where_the_argument_says_so_or_text_stands_before_it(policy: Policy) -> None:
    assert judge(policy, SCHEDULER, job="nightly-tail", args={"lines": -5}).plan.argv[1] == "-5"
    assert judge(policy, SCHEDULER, job="reindex", args={"index": "-rf"}).plan.argv[1] == "--index=-rf"


# Rule 4


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"index": "A"}, "args.index does not match [a-z0-9_-]{1,64}"),
        ({"index": "a b"}, "args.index does not match [a-z0-9_-]{1,64}"),
        ({"index": ""}, "args.index does not match [a-z0-9_-]{1,64}"),
        ({"index": "a\n"}, "args.index holds a control character"),
        ({"index": "a\x1b[2J"}, "args.index holds a control character"),
        ({"index": "a\u2028"}, "args.index holds a control character"),
        ({"index": "a" * 1025}, "args.index has more than 1024 characters"),
        ({"index": "a", "mode": "Full"}, "args.mode is none of full, delta, -n"),
        ({}, "args.index is missing"),
        ({"index": "a", "more": "b"}, "job reindex takes no argument more"),
        ({"INDEX": "a", "index": "b"}, "job reindex takes no argument INDEX"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_its_rule_and_never_shown(
    policy: Policy, asked: dict[str, str], expected: str
) -> None:
    assert refusal(policy, SCHEDULER, job="reindex", args=asked) == expected


def test_a_limit_of_its_own_counts(policy: Policy) -> None:
    assert refusal(policy, SCHEDULER, job="nightly-tail", args={"lines": "12345"}) == (
        "args.lines has more than 4 characters"
    )


def test_numbers_and_booleans_are_arguments_too(policy: Policy) -> None:
    assert judge(policy, SCHEDULER, job="reindex", args={"index": 17}).plan.argv[1] == "--index=17"
    assert judge(policy, SCHEDULER, job="reindex", args={"index": True}).plan.argv[1] == "--index=true"
    assert judge(policy, SCHEDULER, job="nightly-report", args={"subject": 1.5}).plan.arguments["ARG_SUBJECT"] == "1.5"


# Rule 5


def test_a_command_that_a_job_matches_is_split_and_run_without_a_shell(policy: Policy) -> None:
    command = "/opt/batch/clean-up.sh 'two words' \"three of them\" plain\\ too x=1 a#b"
    verdict = judge(policy, OLD, command=command)
    assert verdict.complaint == ""
    assert verdict.plan.argv == ("/opt/batch/clean-up.sh", "two words", "three of them", "plain too", "x=1", "a#b")
    assert verdict.name == "batch"
    assert subprocess.run(["sh", "-c", f"printf '%s\\n' {command}"], capture_output=True, check=True).stdout == (
        "\n".join(verdict.plan.argv).encode() + b"\n"
    )


ONLY_A_SHELL = [
    *(" $HOME", " `id`", "; id", " | id", " & id", " > x", " *", " a?", " [a]", " (id)", ' "$HOME"', " 'a", " #x"),
    *(" ~", " {a,b}", "\nid", ' "a\\$b"', " a\\", " \t x"),
]


@pytest.mark.parametrize("rest", ONLY_A_SHELL)
def test_a_command_that_needs_a_shell_is_refused_although_its_pattern_matches(policy: Policy, rest: str) -> None:
    found = refusal(policy, OLD, command=f"/opt/batch/x.sh{rest}")
    assert found.startswith(("job batch runs without a shell", 'producer old may not ask for "command"'))


def test_a_command_that_no_job_matches_is_a_shell_command(policy: Policy) -> None:
    assert refusal(policy, OLD, command="/opt/other.sh") == 'producer old may not ask for "command"'
    verdict = judge(policy, DEPLOY, SIGNED, command="/opt/batch/x.sh; id")
    assert (verdict.complaint, verdict.name, verdict.plan.argv) == ("", "", ())


def test_a_job_that_matches_commands_has_no_name_to_ask_for(policy: Policy) -> None:
    expected = "job batch is for shell commands, it has no program of its own"
    verdict = judge(policy, DEPLOY, SIGNED, job="batch")
    assert (verdict.complaint, verdict.unknown, verdict.job) == (expected, False, None)


def test_the_operators_own_text_runs_in_a_shell_and_finds_values_in_variables(policy: Policy) -> None:
    verdict = judge(policy, SCHEDULER, job="nightly-report", args={"subject": "$(id)"})
    assert verdict.plan.argv == ("sh", "-c", 'make report | mail -s "$ARG_SUBJECT" ops')
    assert verdict.plan.arguments == {"ARG_SUBJECT": "$(id)"}


# Rule 6


def test_a_message_may_set_the_variables_that_its_job_lists_and_no_other(policy: Policy) -> None:
    asked: dict[str, Any] = {"job": "reindex", "args": {"index": "a"}}
    assert judge(policy, SCHEDULER, **asked, envs={"TZ": "UTC"}).complaint == ""
    for name in ("PATH", "LD_PRELOAD", "LANG", "DB_PASSWORD", "tz"):
        assert refusal(policy, SCHEDULER, **asked, env={name: "secret"}) == f"job reindex takes no variable {name}"
    assert refusal(policy, OLD, command="/opt/batch/x.sh", envs={"LD_PRELOAD": "x"}) == (
        "job batch takes no variable LD_PRELOAD"
    )


def test_the_operators_variables_and_secrets_are_in_the_plan(policy: Policy) -> None:
    plan = judge(policy, SCHEDULER, job="reindex", args={"index": "a"}).plan
    assert plan.variables == {"LANG": "C.UTF-8"}
    assert plan.secrets == {"DB_PASSWORD": "ssm:/prod/db/password"}


def test_what_the_file_says_of_a_job_a_message_cannot_change(policy: Policy) -> None:
    asked: dict[str, Any] = {"job": "reindex", "args": {"index": "a"}}
    assert refusal(policy, SCHEDULER, **asked, lock_id="mine") == "lock_id of job reindex is the trust file's to say"
    assert refusal(policy, SCHEDULER, **asked, life_time=1) == "life_time of job reindex is the trust file's to say"
    assert judge(policy, SCHEDULER, **asked, lock_id="reindex-a", life_time="60m").complaint == ""
    assert judge(policy, SCHEDULER, **asked, abort_if_locked=True).complaint == "", "the file does not say"


# Rule 7


def test_a_job_and_a_command_in_one_body_are_refused(policy: Policy) -> None:
    expected = "it has a job and a command, expected one of them"
    for name in ("reindex", "nope", 17):
        assert refusal(policy, DEPLOY, SIGNED, job=name, command="id") == expected
    assert refusal(policy, OLD, job="x", command="/opt/batch/x.sh") == expected


# Rule 8


def test_a_job_that_the_file_does_not_know_is_unknown_and_not_refused(policy: Policy) -> None:
    verdict = judge(policy, SCHEDULER, job="brand-new")
    assert verdict.unknown
    assert verdict.complaint == "the trust file has no job brand-new"


def test_to_a_sender_that_is_nobodys_no_job_is_unknown(policy: Policy) -> None:
    verdict = judge(policy, "AROAX:1", job="brand-new")
    assert not verdict.unknown
    assert verdict.complaint == "sender AROAX:1 is no producer's"


def test_a_name_from_outside_cannot_forge_a_line(policy: Policy) -> None:
    assert "\n" not in refusal(policy, SCHEDULER, job="x\nERROR: all is lost")
    assert "\n" not in refusal(policy, SCHEDULER, job="reindex", args={"index": "a", "b\nc": "d"})
