from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import daemons
import servers
from daemons import Daemon
from fleet import Fleet

TESTS = Path(__file__).parent


def shell(script: str) -> dict[str, Any]:
    """What makes a daemon of a shell script; it finds the arguments in $0, $1, ..."""
    return {"command": ("sh", "-c", script)}


def killable(script: str, tmp_path: Path) -> subprocess.Popen[bytes]:
    """Another process with these helpers at hand; what it cannot clean up when it is killed stays in `tmp_path`."""
    full = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(TESTS)!r})\n{script}"]
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    return subprocess.Popen(full, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def exists(pid: int) -> bool:
    return any(process.pid == pid and process.lives() for process in daemons.processes().values())


def test_a_fleet_has_a_queue_that_dead_letters_and_a_table(fleet: Fleet) -> None:
    fleet.send("one")
    fleet.send("later", DelaySeconds=60)
    fleet.send_job(command="true")
    fleet.put({"Id": "a", "Type": "lock", "Expired": 7})
    fleet.put({"Id": "b", "Type": "throttle"})

    assert fleet.depth() == (2, 0, 1)
    assert fleet.rows("lock") == [{"Id": "a", "Type": "lock", "Expired": 7}]
    assert len(fleet.rows()) == 2
    assert fleet.dead_letters() == []


def test_dead_letters_can_be_looked_at_again_and_again(fleet: Fleet) -> None:
    reason = {"Reason": {"DataType": "String", "StringValue": "no job"}}
    fleet.sqs("SendMessage", QueueUrl=fleet.dlq_url, MessageBody="bad", MessageAttributes=reason)

    for _ in range(2):
        (letter,) = fleet.dead_letters()
        assert (letter["Body"], letter["MessageAttributes"]["Reason"]["StringValue"]) == ("bad", "no job")


def test_a_fleet_can_be_first_in_first_out(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(FifoQueue="true")
    fleet.send("a", MessageGroupId="g", MessageDeduplicationId="1")
    assert fleet.depth() == (1, 0, 0)
    assert fleet.queue_url.endswith(".fifo")


def test_the_index_answers_on_every_kind_of_server(make_fleet: Callable[..., Fleet], dynamodb_url: str) -> None:
    fleet = make_fleet(dynamodb_url=dynamodb_url)
    for number in range(3):
        fleet.put({"Id": str(number), "Type": "throttle", "Expired": number})
    names = {"#t": "Type", "#e": "Expired"}
    found = fleet.dynamodb(
        "Query",
        TableName=fleet.table,
        IndexName="TypeExpiredIndex",
        KeyConditionExpression="#t = :t AND #e <= :e",
        ExpressionAttributeNames=names,
        ExpressionAttributeValues={":t": {"S": "throttle"}, ":e": {"N": "1"}},
    )
    assert sorted(item["Id"]["S"] for item in found["Items"]) == ["0", "1"]


def test_messages_survive_a_kill_of_roto(tmp_path: Path) -> None:
    with servers.roto(tmp_path) as url:
        queue = servers.call(url, "sqs", "CreateQueue", {"QueueName": "q"})[1]["QueueUrl"]
        servers.call(url, "sqs", "SendMessage", {"QueueUrl": queue, "MessageBody": "kept"})
        os.kill(servers.pid_of(url), signal.SIGKILL)
    with servers.roto(tmp_path) as url:
        (message,) = servers.call(url, "sqs", "ReceiveMessage", {"QueueUrl": queue})[1]["Messages"]
        assert message["Body"] == "kept"


def test_a_server_is_gone_after_its_block() -> None:
    with servers.ministack() as url:
        pid = servers.pid_of(url)
        assert exists(pid)
    assert not exists(pid)
    assert pid not in servers.RUNNING
    with pytest.raises(ConnectionRefusedError):
        servers.call(url, "sqs", "ListQueues", {})


def test_a_server_dies_with_a_test_process_that_is_killed(tmp_path: Path) -> None:
    script = "import servers\nwith servers.ministack() as url: print(servers.pid_of(url), flush=True); input()"
    with killable(script, tmp_path) as tests:
        assert tests.stdout is not None
        pid = int(tests.stdout.readline())
        assert exists(pid)
        tests.kill()
    servers.wait_until(lambda: not exists(pid), description="the server was gone too")


def test_a_server_that_cannot_start_shows_its_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(servers, "clean_environment", lambda: {"PATH": os.environ["PATH"], "GATEWAY_TLS": ""})
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(servers.ServerError, match=r"roto at .* ended, exit code \d+; its log:\n.*\w"),
        servers.roto(tmp_path / "file"),
    ):
        pytest.fail("it started")
    assert not [process for process in daemons.ours() if "roto" in process.command]


def test_a_half_made_installation_is_made_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(servers, "CACHE", tmp_path / "cache")

    def breaks_off(home: Path) -> None:
        (home / "program").write_text("half")
        raise KeyboardInterrupt

    def succeeds(home: Path) -> None:
        made.append(home)
        (home / "program").write_text("whole")

    made: list[Path] = []
    with contextlib.suppress(KeyboardInterrupt):
        servers.installed("thing", breaks_off, "program")
    with ThreadPoolExecutor(4) as pool:  # a lock on a file is per open file, so threads stand for runs side by side
        homes = set(pool.map(lambda _: servers.installed("thing", succeeds, "program"), range(4)))

    (home,) = homes
    assert (home / "program").read_text() == "whole"
    assert len(made) == 1
    (home / "program").unlink()
    servers.installed("thing", succeeds, "program")
    assert len(made) == 2


def test_nothing_is_started_from_a_thread_that_would_take_it_along() -> None:
    problems: list[BaseException] = []

    def start() -> None:
        try:
            servers.ending_with_this_process(["sleep", "1"])
        except RuntimeError as problem:
            problems.append(problem)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert "main thread" in str(problems)


def test_waiting_in_vain_fails_with_the_description() -> None:
    with pytest.raises(AssertionError, match=r"waited 0\.05 s in vain until pigs flew"):
        servers.wait_until(lambda: False, timeout=0.05, description="pigs flew")


async def test_the_loop_goes_on_while_an_async_test_waits() -> None:
    said: list[str] = []
    asyncio.get_running_loop().call_later(0.05, said.append, "done")
    await servers.until(lambda: said, description="the loop had called back")


def test_a_daemon_gets_its_config_and_a_clean_environment(
    daemon: Callable[..., Daemon], monkeypatch: pytest.MonkeyPatch, aws_url: str
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "mine")
    monkeypatch.setenv("https_proxy", "http://elsewhere")
    begun = daemon(
        "--extra", config="[kicker]\n", env={"MORE": "1"}, **shell('echo "$0 $1 $@"; cat "$1"; env >&2; exit 7')
    )

    assert begun.wait() == 7
    assert "--conf" in begun.stdout
    assert "--stats-socket" in begun.stdout
    assert "--extra" in begun.stdout
    assert "[kicker]" in begun.stdout
    assert f"AWS_ENDPOINT_URL={aws_url}" in begun.lines
    assert "MORE=1" in begun.lines
    assert "https_proxy" not in begun.stderr


def test_lines_are_seen_while_the_daemon_runs(daemon: Callable[..., Daemon]) -> None:
    begun = daemon(**shell('trap "echo bye >&2; exit 0" TERM; echo ready >&2; while :; do sleep 0.05; done'))

    assert begun.wait_for_line("ready") == "ready"
    assert begun.is_running()
    begun.signal(signal.SIGTERM)
    assert begun.wait_for_line(lambda line: line.startswith("by")) == "bye"
    assert begun.wait() == 0


def test_a_line_that_cannot_come_any_more_is_not_waited_for(daemon: Callable[..., Daemon]) -> None:
    begun = daemon(**shell("echo only >&2"))
    with pytest.raises(AssertionError, match=r"no line with 'more': it closed its stderr; it said:\nonly"):
        begun.wait_for_line("more")


@pytest.mark.parametrize("place", ["default", "socket", "port", "argument"])
def test_stats_are_asked_where_the_daemon_was_told_to_serve_them(
    place: str, daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    serve = """if True:
        import http.server, socketserver, sys
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b'{"path": "%s"}' % self.path.encode())
            def log_message(self, *a): pass
            def address_string(self): return ""
        where = sys.argv[1]
        if where.isdecimal():
            server = http.server.HTTPServer(("127.0.0.1", int(where)), Handler)
        else:
            server = socketserver.UnixStreamServer(where, Handler)
        print("ready", file=sys.stderr, flush=True)
        server.serve_forever()
    """
    port = servers.free_port()
    run = (sys.executable, "-c", serve)
    if place == "port":
        begun = daemon(config=f"[kicker]\nstats_port = {port}", command=(*run, str(port)))
    elif place == "socket":
        path = tmp_path / "s"
        begun = daemon(config=f'[kicker]\nstats_socket = "{path}"', command=(*run, str(path)))
    elif place == "argument":
        begun = daemon(f"--stats-port={port}", command=(*run, str(port)))
    else:
        begun = daemon(command=(sys.executable, "-c", serve.replace("argv[1]", "argv[2]")))
    begun.wait_for_line("ready")
    assert begun.stats() == {"path": "/stats/metrics/v2"}


def test_a_daemon_is_killed_with_all_that_came_from_it(daemon: Callable[..., Daemon]) -> None:
    # One child that is stopped, one in a session of its own, and one whose parent is gone.
    begun = daemon(**shell("sleep 300 & kill -STOP $!; setsid sleep 301 & (sleep 302 &); echo ready >&2; wait"))
    begun.wait_for_line("ready")
    servers.wait_until(
        lambda: {"sleep 301", "sleep 302"} < {process.command for process in begun.tree()},
        description="all its processes had begun",
    )
    family = begun.tree()
    begun.kill_tree()
    assert not [process for process in family if process.lives()]
    assert not begun.directory.exists()


def test_a_daemon_dies_with_a_test_process_that_is_killed(tmp_path: Path) -> None:
    start = "d = daemons.Daemon(env=dict(os.environ), command=['sleep', '3216'], own_socket=False)"
    script = f"import daemons, os\n{start}\nprint(d.pid, flush=True); input()"
    with killable(script, tmp_path) as tests:
        assert tests.stdout is not None
        pid = int(tests.stdout.readline())
        servers.wait_until(lambda: exists(pid), description="the daemon ran")
        tests.kill()
    servers.wait_until(lambda: not exists(pid), description="the daemon was gone too")


def test_a_test_that_leaves_a_process_behind_fails(tmp_path: Path) -> None:
    orphan = "subprocess.run(['sh', '-c', 'setsid sleep 3217 & :'], env={daemons.MARK: daemons._RUN + '.0.'})"
    tests = {"child": "subprocess.Popen(['sleep', '3217'])", "orphan": orphan, "nothing": "subprocess.run(['true'])"}
    text = "".join(f"def test_{name}():\n    {body}\n" for name, body in tests.items())
    (tmp_path / "test_leaks.py").write_text(f"import daemons, subprocess\n{text}")
    own = ["-p", "conftest", "-p", "no:cacheprovider", "-W", "ignore::ResourceWarning", "-c", os.devnull]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *own, "-rE", f"--rootdir={tmp_path}", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(TESTS), "SQSJKR_TEST_PATIENCE": "1"},
        check=False,
        capture_output=True,
        text=True,
    )

    assert "3 passed, 2 errors" in run.stdout, run.stdout
    for leaky in ("child", "orphan"):
        assert f"ERROR at teardown of test_{leaky}" in run.stdout
    assert run.stdout.count("AssertionError: the test left processes behind: ['") >= 2
    assert not [process for process in daemons.processes().values() if process.command == "sleep 3217"]
