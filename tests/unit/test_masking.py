"""What is hidden of a job's output before it leaves the worker."""

from __future__ import annotations

from sqsjkr.execution.masking import Mask


def test_the_values_of_a_jobs_variables_are_hidden() -> None:
    text = Mask({}).hide("login with hunter22 and mode full", {"PASSPHRASE": "hunter22", "MODE": "full"})
    assert text == "login with *** and mode full", "a short value stands in every text"


def test_of_the_daemons_own_variables_those_with_the_name_of_a_secret_are() -> None:
    own = {
        "HOME": "/home/jobs",
        "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI",
        "DEPLOY_TOKEN": "t0ken-1",
        "PGPASSWORD": "postgres1",
        "client_secret": "s3cret-x",
    }
    assert Mask(own).hide(" ".join(own.values())) == "/home/jobs *** *** *** ***"


def test_a_value_that_holds_another_one_is_hidden_whole() -> None:
    assert Mask({}).hide("hunter22-and-more hunter22", {"A": "hunter22", "B": "hunter22-and-more"}) == "*** ***"


def test_each_line_of_a_value_is_hidden() -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBg\n\nab\n-----END KEY-----"
    assert Mask({}).hide("> MIIEvQIBADANBg ab", {"KEY": key}) == "> *** ab"
