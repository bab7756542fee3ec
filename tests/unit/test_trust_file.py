"""A trust file that is wrong: one line for each mistake, and nothing that others may write."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sqsjkr.config import sections
from sqsjkr.errors import ConfigError
from sqsjkr.trust import file

Mistakes = Callable[[str], list[str]]
A = '[job.a]\nrun = ["x"]\n'


@pytest.fixture
def mistakes(tmp_path: Path) -> Mistakes:
    def found(text: str) -> list[str]:
        path = tmp_path / "trust.toml"
        path.write_text(text)
        with pytest.raises(ConfigError) as error:
            file.read(str(path))
        return [line.removeprefix(f"{tmp_path}/trust.toml") for line in str(error.value).splitlines()]

    return found


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('mode = "enforced"', ':1: mode = "enforced": expected one of "enforce", "warn"; did you mean'),
        ("\nkeyz = 1", ":2: keyz: unknown key; did you mean keys?"),
        ('producer = "x"', ':1: producer = "x": expected a section such as [producer.NAME]'),
        ('[producer.a]\nmay = "command"', ":1: [producer.a]: has neither sender nor key"),
        ('[producer.a]\nsender = "x"', ':1: [producer.a]: may is missing, expected names of jobs, or "command"'),
        ('[producer.a]\nsender = []\nmay = "*"', ":2: [producer.a] sender = [...]: expected a string or"),
        ('[producer.a]\nkey = "k"\nmay = "*"', ':2: [producer.a] key = "k": expected keys = "FILE" at the top'),
        (
            '[producer.a]\nsender = "x"\nmay = ["reindx"]\n[job.reindex]\nrun = ["x"]',
            ':3: [producer.a] may: there is no job "reindx"; did you mean reindex?',
        ),
        ('[job.command]\nrun = ["x"]', ":1: [job.command]: expected a name of at most 64 letters"),
        ('[job."a b"]\nrun = ["x"]', ":1: [job.a b]: expected a name of at most 64 letters"),
        ("[job.a]", ":1: [job.a]: has nothing to run, expected one of run, command and match"),
        (f'{A}command = "y"', ":1: [job.a]: has run and command, expected one of"),
        ("[job.a]\nrun = []", ":2: [job.a] run = [...]: expected a program and its arguments"),
        ('[job.a]\nrun = "x"', ':2: [job.a] run = "x": expected a list of strings'),
        (
            '[job.a]\nrun = ["{x}"]\nargs.x = "y"',
            ":2: [job.a] run = [...]: expected a program that no argument chooses as its first word",
        ),
        (
            '[job.a]\nrun = ["x", "{indx}"]\nargs.index = "y"',
            ":2: [job.a] run: there is no argument {indx}; did you mean {index}?",
        ),
        (
            '[job.a]\nrun = ["x", "{y}"]',
            ":2: [job.a] run: there is no argument {y}; declare it in args, or write {{y}}",
        ),
        (f'{A}lock_id = "{{y}}"', ":3: [job.a] lock_id: there is no argument {y}"),
        (f'{A}args.y = "(a+)+"', ':3: [job.a] args.y.pattern = "(a+)+": expected a pattern that'),
        (f"{A}args.y = 3", ":3: [job.a] args.y.pattern = 3: expected a string"),
        (f"{A}args.y = []", ":3: [job.a] args.y.values = [...]: expected a list of strings"),
        (f"{A}args.y = {{ max = 3 }}", ":3: [job.a] args.y: expected a pattern, or a list"),
        (
            f'{A}args.y = {{ pattern = "a", max = 0 }}',
            ":3: [job.a] args.y.max = 0: expected a whole number >= 1",
        ),
        (f'{A}args."y-z" = "a"', ":3: [job.a] args.y-z: expected a name of at most 64 letters"),
        (
            f'{A}args.y = "a"\nargs.Y = "a"',
            ":4: [job.a] args.Y: another argument has this name in other letters",
        ),
        (
            f'{A}args.y = "a"\ndefault = {{ y = "b" }}',
            ":4: [job.a] default.y: args.y does not match a",
        ),
        (f"{A}default = {{ y = 1 }}", ":3: [job.a] default.y: there is no such argument"),
        (f'{A}env = ["A"]\nset = {{ A = "1" }}', ":4: [job.a] set: A stands in env, too"),
        (f'{A}set = {{ "A B" = "1" }}', ':3: [job.a] set: "A B" is no name of a variable'),
        (f'{A}secrets = {{ A = "vault:x" }}', ":3: [job.a] secrets = {...}: expected references"),
        (f'{A}life_time = "1 day"', ':3: [job.a] life_time = "1 day": unknown unit " day"'),
        (f"{A}timeot = 1", ":3: [job.a] timeot: unknown key; did you mean timeout?"),
        ('[job.a]\nmatch = "x"\nargs.y = "a"', ":3: [job.a] args: a job with match takes no arguments"),
        ("signature_life = 7200", ":1: signature_life = 7200: expected seconds > 0 and <= 3600"),
        ("a = [", ":1: not TOML"),
    ],
)
def test_a_mistake_is_one_line_with_place_value_and_what_was_expected(mistakes: Mistakes, text: str, line: str) -> None:
    found = mistakes(text)
    assert any(one.startswith(line) for one in found), found


def test_all_mistakes_are_named_at_once_in_their_order(mistakes: Mistakes) -> None:
    found = mistakes('mode = 1\n[job.a]\nrun = 3\n[job.b]\n[producer.c]\nmay = "a"\n')
    assert [int(line.split(":")[1]) for line in found] == [1, 3, 4, 5]


def test_braces_that_hold_no_argument_are_braces(tmp_path: Path) -> None:
    path = tmp_path / "trust.toml"
    path.write_text("[job.a]\nrun = ['awk', '{print $1}', '{{x}}', '{x}']\nargs.x = '.'\n")
    _, found = file.read(str(path))
    assert [word.filled({"x": "?"}) for word in found.policy.jobs["a"].run] == ["awk", "{print $1}", "{x}", "?"]


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "trust.toml"
    path.write_text("")
    path.chmod(mode)
    with pytest.raises(ConfigError, match=rf"group or others may write .* \(mode {mode:04o}\); next: chmod go-w "):
        file.read(str(path))


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_file_in_a_directory_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    directory = tmp_path / "etc"
    directory.mkdir()
    (directory / "trust.toml").write_text("")
    directory.chmod(mode)
    with pytest.raises(ConfigError, match=rf"group or others may write {directory} "):
        file.read(str(directory / "trust.toml"))


def test_a_link_out_of_a_safe_directory_into_one_that_others_may_write_is_refused(tmp_path: Path) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir()
    ours.mkdir()
    (theirs / "real.toml").write_text("")
    theirs.chmod(0o777)
    (ours / "trust.toml").symlink_to(theirs / "real.toml")
    with pytest.raises(ConfigError, match=f"group or others may write {theirs} "):
        file.read(str(ours / "trust.toml"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trust.toml"
    path.write_text("")
    os.chown(path, 65534, 65534)
    with pytest.raises(ConfigError, match=r"belongs to user id 65534, expected root or the worker's user \(0\)"):
        file.read(str(path))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"trust\.toml: no such file"):
        file.read(str(tmp_path / "trust.toml"))


PAGE = Path(__file__).parents[2] / "docs" / "reference" / "trust-file.md"


def test_every_key_is_in_the_reference() -> None:
    text = PAGE.read_text()
    listed = set(re.findall(r"^\| `([a-z_.A-Z]+)`", text, re.MULTILINE)) | {"hook", "hook_on"}
    keys = {*file._TOP, *file._PRODUCER, *file._JOB}
    of_jobs = {name for name in sections.JOB if name != "lock_id"}  # said in one row, as in [jobs]
    assert keys - of_jobs <= {name.removesuffix(".NAME") for name in listed}


def test_the_examples_of_the_reference_are_good_trust_files(tmp_path: Path) -> None:
    """Each block that names a producer or a job, with the keys that it speaks of."""
    blocks = [
        block for block in re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL) if "[kicker]" not in block
    ]
    assert len(blocks) > 2
    for block in blocks:
        path = tmp_path / "trust.toml"
        path.write_text(block)
        file.read(str(path))
