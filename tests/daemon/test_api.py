from __future__ import annotations

import ast
import json
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

import servers
import sqsjkr
from commands import sqsjkr as command
from daemons import Daemon


@pytest.fixture
def program(daemon: Callable[..., Daemon], tmp_path: Path) -> Callable[..., Daemon]:
    """Starts a Python program that embeds sqsjkr; the embedded store is in DIR."""

    def start(text: str, **env: str) -> Daemon:
        path = tmp_path / "program.py"
        path.write_text(f"import sqsjkr\nDIR = {str(tmp_path)!r}\n{textwrap.dedent(text)}")
        return daemon(command=[sys.executable, str(path)], own_socket=False, env=env)

    return start


def test_importing_the_package_loads_no_event_loop_and_no_aws() -> None:
    look = "import sys, sqsjkr; print([n for n in ('asyncio', 'aiohttp', 'botocore', 'sqlite3') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


def test_every_public_name_is_there_and_says_what_it_promises() -> None:
    for name in sqsjkr.__all__:
        assert name in dir(sqsjkr)
        value = getattr(sqsjkr, name)
        assert name == "__version__" or value.__doc__, name


def test_the_types_of_the_stub_are_those_of_the_package() -> None:
    stub = ast.parse(Path(sqsjkr.__file__).with_suffix(".pyi").read_text())
    imported = {
        alias.name: node.module for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }

    assert imported == sqsjkr._HOMES
    assert {*imported, "__version__"} == set(sqsjkr.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Lockr'"):
        sqsjkr.Lockr  # type: ignore[attr-defined] # noqa: B018


@pytest.mark.parametrize("guard", [True, False])
def test_run_works_until_a_signal_and_returns_0(program: Callable[..., Daemon], tmp_path: Path, guard: bool) -> None:
    assert command("send", "--local", str(tmp_path), "echo it ran").code == 0
    running = program(f"print('code', sqsjkr.run(sqsjkr.Config(local=DIR), guard={guard}))")
    running.wait_for_line("it ran")
    servers.wait_until(lambda: len(running.tree()) == int(guard), description="only the worker of a guard was left")
    running.signal(signal.SIGTERM)

    assert running.wait() == 0
    assert running.stdout == "code 0\n"


def test_run_async_shares_its_loop(program: Callable[..., Daemon], tmp_path: Path) -> None:
    assert command("send", "--local", str(tmp_path), "echo it ran").code == 0
    running = program("""
        import asyncio
        async def main():
            ticking = asyncio.create_task(tick())
            print("code", await sqsjkr.run_async(sqsjkr.Config(local=DIR)))
            print("ticked", ticking.done())
        async def tick():
            await asyncio.sleep(0.01)
        asyncio.run(main())
    """)
    running.wait_for_line("it ran")
    running.signal(signal.SIGINT)

    assert running.wait() == 0
    assert running.stdout == "code 0\nticked True\n"


@pytest.mark.parametrize("guard", [True, False])
def test_a_locker_and_a_throttler_given_to_run_are_used(
    program: Callable[..., Daemon], tmp_path: Path, guard: bool
) -> None:
    assert command("send", "--local", str(tmp_path), "--lock-id", "nightly", "echo it ran $SQSJKR_FENCE").code == 0
    running = program(f"""
        class Mine(sqsjkr.Locker):
            async def lock(self, lock_id, owner, event_id):
                print("lock", lock_id, flush=True)
                return 42
            async def unlock(self, lock_id, owner):
                print("unlock", lock_id, flush=True)
        class MyThrottler(sqsjkr.NoThrottler):
            async def claim(self, message_id, owner):
                print("claim", flush=True)
                return sqsjkr.Claim.FRESH
        sqsjkr.run(sqsjkr.Config(local=DIR), locker=Mine(), throttler=MyThrottler(), guard={guard})
    """)
    running.wait_for_line("it ran 42")
    running.wait_for_line("job.ended")
    running.signal(signal.SIGTERM)

    assert running.wait() == 0
    assert running.stdout == "lock nightly\nclaim\nunlock nightly\n"


@pytest.mark.parametrize("guard", [True, False])
def test_what_the_worker_is_refused_is_raised_where_run_was_called(program: Callable[..., Daemon], guard: bool) -> None:
    running = program(f"""
        config = sqsjkr.Config(account_id="000000000000", queue_name="no-such-queue", stats_socket=DIR + "/s")
        try:
            sqsjkr.run(config, guard={guard})
        except sqsjkr.BackendRefused as why:
            print(type(why).__name__, why.code)
    """)

    assert running.wait() == 0, running.stderr
    assert "QueueDoesNotExist" in running.stdout or "NonExistentQueue" in running.stdout
    assert "Traceback" not in running.stderr


def test_a_wrong_setting_is_raised_with_a_line_for_each() -> None:
    with pytest.raises(sqsjkr.ConfigError, match=r"ack = \"never\"") as raised:
        sqsjkr.Config(local="x", ack="never", max_concurrent_num=-1)

    assert len(str(raised.value).splitlines()) == 2


def test_load_config_reads_a_file(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[account]\nid = "1"\nregion = "us-east-1"\n[sqs]\nqueue_name = "q"\n')

    assert sqsjkr.load_config(path).queue_name == "q"


def test_the_lines_go_to_a_program_that_has_set_up_logging(program: Callable[..., Daemon]) -> None:
    running = program("""
        import logging
        logging.basicConfig(level="INFO", format="MINE %(name)s %(message)s")
        sqsjkr.run(sqsjkr.Config(local=DIR))
    """)
    running.wait_for_line("MINE sqsjkr")
    running.wait_for_line("slots")
    running.signal(signal.SIGTERM)
    assert running.wait() == 0

    assert all(line.startswith("MINE") for line in running.lines)


def test_the_log_is_as_configured_where_nobody_has_set_it_up(program: Callable[..., Daemon]) -> None:
    running = program('sqsjkr.run(sqsjkr.Config(local=DIR, log_format="json"))')
    line = running.wait_for_line("worker.started")
    running.signal(signal.SIGTERM)

    assert json.loads(line)["event"] == "worker.started"
    assert running.wait() == 0


@pytest.mark.parametrize(
    ("call", "advice"),
    [
        ("thread = threading.Thread(target=attempt); thread.start(); thread.join()", "main thread"),
        ("asyncio.run(inside())", "sqsjkr.run_async"),
    ],
)
def test_run_in_the_wrong_place_says_where_it_belongs(program: Callable[..., Daemon], call: str, advice: str) -> None:
    running = program(f"""
        import asyncio, threading
        def attempt():
            try:
                sqsjkr.run(sqsjkr.Config(local=DIR))
            except RuntimeError as why:
                print(why)
        async def inside():
            attempt()
        {call}
    """)

    assert running.wait() == 0
    assert advice in running.stdout


def test_a_type_checker_knows_the_public_names(tmp_path: Path) -> None:
    path = tmp_path / "typed.py"
    path.write_text(
        "import sqsjkr\n"
        "code: int = sqsjkr.run(sqsjkr.Config(local='x'), locker=sqsjkr.NoLocker())\n"
        "wrong: str = sqsjkr.run(sqsjkr.Config(local='x'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )

    assert "typed.py:3" in done.stdout
    assert "Found 1 error" in done.stdout, done.stdout
