"""The documents against the code: what one of them lists and the other doesn't fails here.

Configuration keys, log events, stats fields, options and exit codes are held to their pages by the tests of their
modules, in ``tests/unit`` and ``tests/daemon``.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

import sqsjkr
from sqsjkr.cli.main import VERBS
from sqsjkr.config import load
from sqsjkr.outcome import Outcome
from sqsjkr.telemetry.events import Event
from sqsjkr.views import model

TOP = Path(__file__).resolve().parents[2]
SOURCE = TOP / "src" / "sqsjkr"
DOCS = TOP / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *TOP.glob("*.md")])


def page_id(page: Path) -> str:
    return str(page.relative_to(TOP))


def reference(name: str) -> str:
    return (DOCS / "reference" / name).read_text()


def rows(text: str) -> set[str]:
    """The names in the first cells of the tables of a page."""
    return set(re.findall(r"^\| `([^`]+)`[^|]*\|", text, re.MULTILINE))


def section(text: str, heading: str) -> str:
    """What stands below a heading of the second level, up to the next one."""
    return text.split(f"\n{heading}\n")[1].split("\n## ", maxsplit=1)[0]


def blocks(text: str, language: str = r"\w*") -> list[str]:
    """The fenced blocks of a page, indented ones too."""
    return [body for _, body in re.findall(rf"^( *)```{language}\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL)]


@cache
def options(verb: str) -> set[str]:
    """The long options that ``--help`` lists."""
    asked = subprocess.run([sys.executable, "-m", "sqsjkr", verb, "--help"], capture_output=True, text=True, check=True)
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", asked.stdout))


def tracked() -> Iterator[Path]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listing = subprocess.run(command, cwd=TOP, capture_output=True, check=False)
    if listing.returncode:
        pytest.skip("this is no git checkout")
    for name in filter(None, listing.stdout.decode().split("\0")):
        path = TOP / name
        if path.is_file():
            yield path


@pytest.mark.parametrize("page", [page for page in PAGES if "sqsjkr " in page.read_text()], ids=page_id)
def test_command_lines_in_the_documents_use_options_that_exist(page: Path) -> None:
    for block in blocks(page.read_text()):
        for verb, given in re.findall(rf"\bsqsjkr ({'|'.join(VERBS)})\b((?:[^\n&|;]|\\\n)*)", block):
            words = re.sub(r"'[^']*'|\"[^\"]*\"", "''", given)
            unknown = set(re.findall(r"(?<!\S)--[a-z][a-z-]+", words)) - options(verb)
            assert not unknown, f"sqsjkr {verb}{words}"


@pytest.mark.parametrize("page", [page for page in PAGES if "```toml" in page.read_text()], ids=page_id)
def test_configuration_in_the_documents_can_be_loaded(page: Path, tmp_path: Path) -> None:
    for block in blocks(page.read_text(), "toml"):
        if block.startswith(("[account]", "[kicker]")):
            example = tmp_path / "config.toml"
            example.write_text(block)
            environment = dict.fromkeys(re.findall(r"must_env `(\w+)`", block), "something")
            load(example, env=environment, overrides={"local": str(tmp_path)})


def test_every_outcome_is_in_the_reference() -> None:
    assert {outcome.label for outcome in Outcome} <= rows(reference("outcomes.md"))


def test_every_log_event_is_logged_somewhere() -> None:
    source = "\n".join(path.read_text() for path in SOURCE.rglob("*.py") if path.name != "events.py")
    unused = {event.value for event in Event if f"Event.{event.name}" not in source and event.value not in source}
    assert not unused


def test_every_variable_of_ours_is_in_the_reference() -> None:
    source = "\n".join(path.read_text() for path in SOURCE.rglob("*.py"))
    ours = set(re.findall(r"\bSQSJKR_[A-Z_]*[A-Z]\b", source))
    assert "SQSJKR_JOB_ID" in ours
    assert {name for name in rows(reference("environment.md")) if name.startswith("SQSJKR_")} == ours


def test_the_fields_of_a_job_are_those_of_the_reference() -> None:
    schema = json.loads((SOURCE / "job.schema.json").read_text())
    assert rows(section(reference("job.md"), "## Fields")) == set(schema["properties"])
    assert rows(section((TOP / "README.md").read_text(), "## Jobs")) | {"env"} == set(schema["properties"])


def test_every_public_name_is_in_the_reference() -> None:
    page = reference("python-api.md")
    missing = {name for name in sqsjkr.__all__ if not re.search(rf"^\|[^|]*`{re.escape(name)}[`(]", page, re.MULTILINE)}
    assert not missing


def test_every_request_to_aws_has_its_right_in_the_reference() -> None:
    source = "\n".join(path.read_text() for path in SOURCE.rglob("*.py"))
    asked = set(re.findall(r'(?:"(?:sqs|dynamodb|kms|ssm|secretsmanager)",\s*|call\(|_batch\()"([A-Z]\w+)"', source))
    assert {"ReceiveMessage", "UpdateItem"} <= asked
    named = set(re.findall(r"(?:sqs|dynamodb|sts|kms|ssm|secretsmanager):(\w+)", reference("iam.md")))
    rights = {request if request == "BatchWriteItem" else request.removesuffix("Batch") for request in asked}
    rights |= set(re.findall(r'"dynamodb:(PartiQL\w+)"', source))
    assert {"PartiQLInsert", "PartiQLUpdate"} <= rights
    assert rights - {"BatchExecuteStatement"} <= named  # its rights are those of its statements


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_between_the_documents_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^( *)```.*?^\1```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = unquote(target).partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert not broken


def anchors(page: Path) -> set[str]:
    """What a heading of the page is called in a link, as GitHub makes it."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_linked_from_another() -> None:
    linked = {
        (page.parent / target).resolve()
        for page in PAGES
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text())
        if (page.parent / target).resolve() != page
    }
    assert set(DOCS.rglob("*.md")) <= linked


@pytest.mark.parametrize("heading", ["## Quick start", "## Tests"])
def test_the_first_block_below_a_heading_of_the_readme_is_one_line(heading: str) -> None:
    first = blocks(section((TOP / "README.md").read_text(), heading))[0]
    assert len(first.splitlines()) == 1


def test_the_log_in_the_readme_has_the_form_of_the_log() -> None:
    log = blocks((TOP / "README.md").read_text(), "text")[0]
    lines = [re.fullmatch(r"[\d:]{8} (INFO |WARN |ERROR) ([a-z._]+)  \S.*", line) for line in log.splitlines()]
    assert {line[2] for line in lines if line} >= {"job.started", "job.waiting", "job.output", "job.ended"}
    assert {line and line[2] for line in lines} <= {event.value for event in Event}


def test_an_image_gets_all_that_the_package_is_built_from() -> None:
    package = tomllib.loads((TOP / "pyproject.toml").read_text())
    sources = {source.split("/")[0] for source in package["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]}
    needed = {"pyproject.toml", package["project"]["readme"], *package["project"]["license-files"], *sources}
    assert needed <= set(re.findall(r"^!(.+)$", (TOP / ".dockerignore").read_text(), re.MULTILINE))


def test_the_newest_version_in_the_changelog_is_the_packages() -> None:
    versions = re.findall(r"^## \[([\d.]+\w*)\]", (TOP / "CHANGELOG.md").read_text(), re.MULTILINE)
    package = tomllib.loads((TOP / "pyproject.toml").read_text())
    assert versions[0] == package["project"]["version"]


CORRIDOR = ("worker.py", "kicker.py", "reader.py", "gate.py", "policy.py", "settler.py", "journal.py")


def nodes(path: Path, kind: type[ast.AST]) -> Iterator[Any]:
    return (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kind))


def test_a_function_fits_on_a_screen_and_on_the_main_path_in_half_of_one() -> None:
    long = [
        f"{page_id(path)}:{node.name}"
        for path in SOURCE.rglob("*.py")
        for kind in (ast.FunctionDef, ast.AsyncFunctionDef)
        for node in nodes(path, kind)
        if node.end_lineno - node.lineno >= (30 if path.name in CORRIDOR and node.name != "__init__" else 50)
    ]
    assert not long


def test_a_class_has_at_most_a_dozen_methods_of_its_own() -> None:
    """What a constructor, a property or a magic method says is no verb of the class."""
    big = {}
    for path in SOURCE.rglob("*.py"):
        for node in nodes(path, ast.ClassDef):
            methods = [one.name for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
            verbs = [name for name in methods if not name.startswith("__")]
            if len(verbs) > 12:
                big[f"{page_id(path)}:{node.name}"] = len(verbs)
    assert not big


def test_the_top_level_can_be_read_as_a_table_of_contents() -> None:
    assert len(list(SOURCE.glob("*.py"))) <= 30


def test_no_file_names_a_place_on_somebodys_machine_or_a_package_index() -> None:
    indexes = ("pypi" + ".org", "pythonhosted" + ".org", "registry.npmjs" + ".org")
    places = ("/" + "root/", "/" + "Users/", "/" + "work/")
    found = []
    for path in tracked():
        if path.name == "uv.lock":
            continue
        text = path.read_text(errors="replace")
        found += [f"{page_id(path)}: {word}" for word in (*indexes, *places) if word in text]
    assert not found


@pytest.mark.parametrize(
    ("verb", "values"),
    [
        ("status", (model.Verdict, model.ScaleSignal)),
        ("explain", (model.JobStory, model.PastAttempt)),
        ("runs", (model.RunLine,)),
        ("ps", (model.Running, model.Waiting)),
        ("locks", (model.LockView, model.LastHold)),
        ("fleet", (model.WorkerView,)),
        ("cancel", (model.Cancellation,)),
        ("dead", (model.DeadLetter,)),
    ],
)
def test_every_key_of_json_stands_in_the_reference(verb: str, values: tuple[type, ...]) -> None:
    told = set(re.findall(r"`([a-z_]+)`", section(reference("cli.md"), f"## sqsjkr {verb}")))
    assert {field.name for value in values for field in dataclasses.fields(value)} <= told
