"""What jobs inherit."""

from __future__ import annotations

import pytest

from sqsjkr.execution.environment import inherited, of_daemon

DAEMON = {
    b"PATH": b"/bin",
    b"HOME": b"/home",
    b"LC_ALL": b"C",
    b"LC_TIME": b"C",
    b"AWS_REGION": b"eu-west-1",
    b"AWS_ACCESS_KEY_ID": b"key",
    b"AWS_SECRET_ACCESS_KEY": b"secret",
    b"AWS_SESSION_TOKEN": b"token",
    b"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": b"/v2/x",
    b"AWS_CONTAINER_AUTHORIZATION_TOKEN": b"token",
    b"AWS_WEB_IDENTITY_TOKEN_FILE": b"/token",
    b"AWS_ROLE_ARN": b"arn",
    b"AWS_PROFILE": b"prod",
    b"odd\xff": b"x",
}
OF_SYSTEMD = (b"NOTIFY_SOCKET", b"WATCHDOG_PID", b"WATCHDOG_USEC", b"LISTEN_PID", b"LISTEN_FDS", b"LISTEN_FDNAMES")


def test_jobs_inherit_everything_unless_the_operator_says_otherwise() -> None:
    assert inherited(DAEMON) == DAEMON


@pytest.mark.parametrize("names", [["*"], [name.decode() for name in OF_SYSTEMD]])
def test_what_systemd_tells_the_daemon_no_job_gets(names: list[str]) -> None:
    theirs = dict.fromkeys(OF_SYSTEMD, b"x")
    assert not inherited(DAEMON | theirs, names).keys() & theirs.keys()
    assert of_daemon(DAEMON | theirs) == DAEMON
    assert b"LISTEN_ADDRESS" in inherited({b"LISTEN_ADDRESS": b"0.0.0.0"}), "this one is not systemd's"


def test_a_list_of_names_lets_only_those_through() -> None:
    assert inherited(DAEMON, ["PATH", "LC_*", "NOT_THERE"]).keys() == {b"PATH", b"LC_ALL", b"LC_TIME"}
    assert inherited(DAEMON, []) == {}


def test_without_aws_no_credential_is_inherited_and_the_instance_is_not_asked() -> None:
    assert inherited(DAEMON, aws=False) == {
        b"PATH": b"/bin",
        b"HOME": b"/home",
        b"LC_ALL": b"C",
        b"LC_TIME": b"C",
        b"AWS_REGION": b"eu-west-1",
        b"AWS_EC2_METADATA_DISABLED": b"true",
        b"odd\xff": b"x",
    }
    assert inherited(DAEMON, ["AWS_*"], aws=False) == {
        b"AWS_REGION": b"eu-west-1",
        b"AWS_EC2_METADATA_DISABLED": b"true",
    }
