from __future__ import annotations

import importlib
import json
import re
import shlex
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from commands import SQSJKR, Said, sqsjkr
from daemons import Daemon, processes
from fleet import Fleet
from sqsjkr.cli import exit_codes
from sqsjkr.cli.main import VERBS

DOCS = Path(__file__).resolve().parents[2] / "docs" / "reference"


def options(verb: str) -> set[str]:
    return set(re.findall(r"^  (?:-\w, )?(--[a-z][a-z-]*)", sqsjkr(verb, "--help").out, re.MULTILINE)) - {"--help"}


def test_run_until_empty_runs_what_is_there_and_stops_with_0(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    assert sqsjkr("send", "--local", str(tmp_path), f"echo ran > {shlex.quote(str(proof))}").code == 0

    assert sqsjkr("run", "--local", str(tmp_path), "--until-empty").code == 0
    assert proof.read_text() == "ran\n"


def test_run_until_empty_says_how_many_jobs_it_leaves_for_later_and_ends_with_1(tmp_path: Path) -> None:
    for command, delay in (("exit 1", "1h"), (f"test -e {tmp_path}/ran || {{ touch {tmp_path}/ran; exit 1; }}", "0s")):
        sqsjkr("send", "--local", str(tmp_path), "--retries", "1", "--retry-delay", delay, command)
    said = sqsjkr("run", "--local", str(tmp_path), "--until-empty")
    assert said.code == 1
    assert "a message went back to the queue for later: run again for it" in said.err, "the other one has succeeded"


@pytest.mark.parametrize(
    "words",
    [
        ["-log-level", "error", "--local", "DIR", "--until-empty"],
        ["-log-level=error", "--local", "DIR", "--until-empty"],
        ["--log-level=error", "--local=DIR", "--until-empty"],
        ["run", "-log-level", "error", "--local", "DIR", "--until-empty"],
    ],
)
def test_the_original_spelling_of_options_works_with_and_without_a_verb(tmp_path: Path, words: list[str]) -> None:
    said = sqsjkr(*(word.replace("DIR", str(tmp_path)) for word in words))

    assert (said.code, said.out, said.err) == (0, "", "")
    assert (tmp_path / "sqsjkr.db").exists()


@pytest.mark.parametrize("words", [["-conf", "FILE"], ["-conf=FILE"], ["--conf", "FILE"], ["run", "-conf", "FILE"]])
def test_the_originals_unit_files_start_a_worker(
    daemon: Callable[..., Daemon], fleet: Fleet, tmp_path: Path, words: list[str]
) -> None:
    conf = tmp_path / "config.toml"
    conf.write_text(fleet.config(stats_socket=str(tmp_path / "s")))
    begun = daemon(
        *(word.replace("FILE", str(conf)) for word in words),
        "-lock-table",
        fleet.table,
        command=SQSJKR,
        own_socket=False,
    )
    begun.wait_for_line("worker.started")
    begun.signal(signal.SIGTERM)

    assert begun.wait() == exit_codes.OK
    assert f"config.loaded  {conf}" in begun.stderr


@pytest.mark.parametrize("words", [["help"], ["--help"], ["-h"], ["-help"]])
def test_help_lists_every_verb(words: list[str]) -> None:
    said = sqsjkr(*words)

    assert (said.code, said.err) == (0, "")
    assert set(re.findall(r"^  ([a-z]+) ", said.out, re.MULTILINE)) == set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_shows_an_example_and_the_exit_codes(verb: str) -> None:
    said = sqsjkr("help", verb)

    assert (said.code, said.err) == (0, "")
    assert said.out == sqsjkr(verb, "--help").out
    assert f"\n  sqsjkr {verb} " in said.out
    assert "exit codes: 0" in said.out


@pytest.mark.parametrize(("given", "shown"), [("warning", False), ("WARN", False), ("INFO", True)])
def test_levels_are_read_in_any_case_as_the_original_reads_them(tmp_path: Path, given: str, shown: bool) -> None:
    said = sqsjkr(f"-log-level={given}", "--local", str(tmp_path), "--until-empty")

    assert said.code == 0
    assert ("worker.started" in said.err) is shown


@pytest.mark.parametrize("words", [["check", "--local", "DIR"], ["help"], ["version"]])
def test_output_that_cannot_be_written_is_one_line(tmp_path: Path, words: list[str]) -> None:
    command = shlex.join([*SQSJKR, *(word.replace("DIR", str(tmp_path)) for word in words)])
    done = subprocess.run(["sh", "-c", f"{command} > /dev/full"], capture_output=True, text=True, check=False)

    assert done.returncode == exit_codes.FAILED
    assert done.stderr == "sqsjkr: cannot write the output: no space left on device\n"


def test_a_fatal_error_is_json_where_the_log_is(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = sqsjkr("run", "--local", str(tmp_path), "--stats-port", port, "--log-format", "json")
    lines = [json.loads(line) for line in said.err.splitlines()]

    assert said.code == exit_codes.FAILED
    assert (lines[-1]["event"], lines[-1]["level"]) == ("worker.failed", "ERROR")
    assert f"127.0.0.1:{port}" in lines[-1]["message"]


def test_each_mistake_in_the_configuration_is_json_where_the_log_is(tmp_path: Path) -> None:
    conf = tmp_path / "config.toml"
    conf.write_text('[account]\nid = 1\n[kicker]\nack = "never"\n')
    said = sqsjkr("run", "--conf", str(conf), "--log-format", "json")
    lines = [json.loads(line) for line in said.err.splitlines()]

    assert said.code == exit_codes.USAGE
    assert {line["event"] for line in lines} == {"worker.failed"}
    assert len(lines) > 1
    assert any(f"{conf}:4: [kicker] ack" in line["message"] for line in lines)


@pytest.mark.skipif(Path("/etc/sqsjkr/config.toml").exists(), reason="it would start a real worker")
def test_no_words_at_all_mean_run_with_the_usual_file() -> None:
    said = sqsjkr()

    assert said.code == exit_codes.USAGE
    assert said.err == "sqsjkr: /etc/sqsjkr/config.toml: no such file; write it, or name another one with --conf\n"


@pytest.mark.parametrize(
    "words",
    [
        ["--version"],
        ["-version"],
        ["-v"],
        ["version"],
        ["-version=true"],
        ["-conf", "/no/such/file", "-version"],
        ["send", "--version"],
    ],
)
def test_the_version_is_shown_wherever_it_is_asked_for(words: list[str]) -> None:
    said = sqsjkr(*words)

    assert said.code == 0
    assert re.fullmatch(r"sqsjkr version: \d+\.\d+\.\d+\S*\nPython version: 3\.\d+\.\d+\n", said.out)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["rnu"], "unknown command 'rnu'; did you mean run?"),
        (["chekc"], "did you mean check?"),
        (["exit_codes"], "unknown command 'exit_codes'; expected run"),  # a module, and no verb
        (["help", "chekc"], "did you mean check?"),
        (["--verison"], "unknown option --verison; did you mean --version?"),
        (["--conf", "F", "check"], "put the verb first: sqsjkr check --conf F"),
        (["frobnicate"], "expected run, send, "),
        (["run", "--cnof", "x"], "unknown option --cnof; did you mean --conf?"),
        (["-confg", "x"], "did you mean --conf?"),
        (["run", "--xyzzy"], "unknown option --xyzzy; see sqsjkr run --help"),
        (["run", "--conf"], "--conf: expected one argument"),
        (["run", "extra"], "unexpected 'extra'"),
        (["send", "echo", "hi"], "unexpected 'hi'; a command is one word"),
        (["run", "--loc", "x"], "did you mean --local?"),  # an abbreviation may mean something else tomorrow
    ],
)
def test_a_wrong_word_is_answered_with_usage_and_what_was_meant(words: list[str], hint: str) -> None:
    said = sqsjkr(*words)

    assert said.code == exit_codes.USAGE
    assert said.err.startswith("usage: sqsjkr")
    assert len(said.complaints) == 1
    assert hint in said.complaints[0]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--log-level", "dbug"], 'did you mean "debug"?'),
        (["--log-format", "xml"], "--log-format"),
        (["--stats-port", "port"], "--stats-port"),
        (["--stats-port", "65536"], "--stats-port"),
        (["--local", ""], "--local: expected a directory"),
        (["--conf", "/no/such/file"], "/no/such/file: no such file"),
    ],
)
def test_a_wrong_value_is_one_line_and_exit_2(tmp_path: Path, words: list[str], reason: str) -> None:
    said = sqsjkr("run", "--local", str(tmp_path), *words)

    assert said.code == exit_codes.USAGE
    assert len(said.err.splitlines()) == 1
    assert reason in said.complaints[0]


def test_every_mistake_in_a_file_is_a_line_of_its_own(tmp_path: Path) -> None:
    conf = tmp_path / "config.toml"
    conf.write_text('[account]\nid = 1\nregion = "us-east-1"\n[sqs]\nqueue_nam = "q"\n[kicker]\nack = "never"\n')
    said = sqsjkr("run", "--conf", str(conf))

    assert said.code == exit_codes.USAGE
    assert [line.split(":")[2] for line in said.complaints] == ["2", "5", "7"]
    assert len(said.err.splitlines()) == 3


def test_no_such_queue_is_exit_1_without_a_traceback(fleet: Fleet, aws_env: Mapping[str, str], tmp_path: Path) -> None:
    conf = tmp_path / "config.toml"
    conf.write_text(fleet.config(stats_socket=str(tmp_path / "s")).replace(fleet.name, "no-such-queue"))

    assert_refused(sqsjkr("run", "--conf", str(conf), env=aws_env))


def test_no_such_table_is_exit_1_without_a_traceback(fleet: Fleet, aws_env: Mapping[str, str], tmp_path: Path) -> None:
    conf = tmp_path / "config.toml"
    conf.write_text(fleet.config(stats_socket=str(tmp_path / "s")))

    assert_refused(sqsjkr("run", "--conf", str(conf), "--lock-table", "no-such-table", env=aws_env))


def test_no_credentials_are_exit_1_without_a_traceback(
    fleet: Fleet, aws_env: Mapping[str, str], tmp_path: Path
) -> None:
    conf = tmp_path / "config.toml"
    conf.write_text(fleet.config(stats_socket=str(tmp_path / "s")))
    keyless = {name: value for name, value in aws_env.items() if "KEY" not in name}

    assert_refused(sqsjkr("run", "--conf", str(conf), env=keyless))


def test_a_taken_port_is_exit_1_without_a_traceback(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = sqsjkr("run", "--local", str(tmp_path), "--stats-port", str(port))

    assert_refused(said)
    assert f"127.0.0.1:{port}" in said.complaints[0]


_NEEDS = {"send": ["true"], "explain": ["nightly"], "cancel": ["--event", "e"]}
_CODES = {"setup": exit_codes.OK, "status": 2}


@pytest.mark.parametrize("verb", [verb for verb in VERBS if "--local" in options(verb) and verb != "sign"])
def test_a_directory_that_cannot_be_made_is_one_line(tmp_path: Path, verb: str) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    said = sqsjkr(verb, "--local", str(in_the_way / "dir"), *_NEEDS.get(verb, []))

    assert "Traceback" not in said.err
    assert said.code == _CODES.get(verb, exit_codes.FAILED)


def assert_refused(said: Said) -> None:
    assert said.code == exit_codes.FAILED, said.err
    assert len(said.complaints) == 1, said.err
    assert "Traceback" not in said.err


def test_a_reader_that_has_had_enough_is_no_traceback(daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    line = f"{shlex.join(SQSJKR)} check --local {shlex.quote(str(tmp_path))} | head -n 0"
    begun = daemon(command=["sh", "-c", line], own_socket=False)
    begun.wait()

    assert begun.stderr == ""


def test_a_worker_that_is_killed_is_exit_3(daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    begun = daemon("--local", str(tmp_path))
    begun.wait_for_line("worker.started")
    (worker,) = begun.tree()
    worker.kill()

    assert begun.wait() == 3


def test_the_launcher_stays_small_and_knows_no_event_loop(daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    begun = daemon("--local", str(tmp_path))
    begun.wait_for_line("worker.started")
    (worker,) = begun.tree()

    assert processes()[worker.pid].parent == begun.pid
    assert resident(begun.pid) < 16_000 < resident(worker.pid)


def resident(pid: int) -> int:
    """Kilobytes in memory (proc_pid_status(5))."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_stands_in_the_reference_and_no_other(verb: str) -> None:
    page = (DOCS / "cli.md").read_text()
    section = page.split(f"\n## sqsjkr {verb}\n")[1].split("\n## ")[0]
    shared = page.split("\n## Which queue\n")[1].split("\n## ")[0]
    own, common = (set(re.findall(r"^\| `(--[a-z-]+)", text, re.MULTILINE)) for text in (section, shared))

    assert own | (common & options(verb)) == options(verb)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_a_module_of_its_own(verb: str) -> None:
    module = importlib.import_module(f"sqsjkr.cli.{verb}")

    assert "examples:" in module.EPILOG
    assert f"\n  sqsjkr {verb} " in module.EPILOG


def test_bash_completes_verbs_options_and_files(tmp_path: Path) -> None:
    (tmp_path / "jobs.jsonl").write_text("")
    script = sqsjkr("completion", "bash").out

    def completed(*words: str) -> set[str]:
        line = f"COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}"
        run = f'{script}\n{line}\n_shtab_sqsjkr sqsjkr {shlex.quote(words[-1])}\nprintf "%s\\n" "${{COMPREPLY[@]}}"'
        shell = subprocess.run(["bash", "-c", run], cwd=tmp_path, capture_output=True, text=True, check=True)
        return set(shell.stdout.split())

    assert completed("sqsjkr", "se") == {verb for verb in VERBS if verb.startswith("se")}
    assert completed("sqsjkr", "run", "--log-") == {"--log-level", "--log-format"}
    assert completed("sqsjkr", "send", "--json", "jo") == {"jobs.jsonl"}


def test_every_exit_code_stands_in_the_reference_and_no_other() -> None:
    rows = re.findall(r"^\| `(\d+)` \| (.*?) \|", (DOCS / "exit-codes.md").read_text(), re.MULTILINE)

    assert {int(code): meaning for code, meaning in rows} == dict(exit_codes.MEANINGS)
