"""Who is let in to the page, decided from nothing but a request's headers."""

from __future__ import annotations

import pytest

from sqsjkr.page.door import Door

HERE = "127.0.0.1:8062"


def refused(door: Door, method: str = "GET", *, cookie: str | None = None, **headers: str) -> int:
    """The status of the refusal; 0 for none."""
    given = {"Host": HERE} | {name.replace("_", "-"): value for name, value in headers.items()}
    cookies = {door.cookie: door.cookie_value if cookie is None else cookie}
    refusal = door.refusal(method, given, cookies)
    return refusal.status if refusal else 0


@pytest.fixture
def door() -> Door:
    return Door(8062)


@pytest.mark.parametrize("host", [HERE, "127.0.0.1", "localhost:8062", "LocalHost:9000", "[::1]:8062", "127.1.2.3:1"])
def test_a_loopback_host_is_let_in(door: Door, host: str) -> None:
    assert refused(door, Host=host) == 0


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:8062",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "[::2]",
        "10.0.0.1",
        "x@127.0.0.1",
    ],
)
def test_a_name_that_was_pointed_here_is_not(door: Door, host: str) -> None:
    assert refused(door, Host=host) == 421
    assert door.refusal("GET", {"Host": host}, {}, public=True) is not None, "not even to the files that need no cookie"


@pytest.mark.parametrize("cookie", ["", "x", "é", "\udcff"])
def test_a_browser_without_the_cookie_is_not_let_in(door: Door, cookie: str) -> None:
    assert refused(door, cookie=cookie) == 403
    assert refused(door, cookie=door.token) == 403, "the token is good for the way in only"


def test_each_start_has_its_own_token_and_cookie() -> None:
    one, other = Door(8062), Door(8062)
    assert one.token != other.token
    assert refused(other, cookie=one.cookie_value) == 403
    assert one.opens(one.token)
    assert not one.opens(other.token)
    assert not one.opens("")
    assert not one.opens("\udcff")


def test_two_pages_on_one_host_do_not_share_a_cookie() -> None:
    assert Door(8062).cookie != Door(8063).cookie


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none", ""])
def test_an_order_from_elsewhere_is_refused_by_what_the_browser_says_of_it(door: Door, site: str) -> None:
    assert refused(door, "POST", Sec_Fetch_Site=site, Origin=f"http://{HERE}") == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize(
    ("mode", "target", "status"),
    [
        ("navigate", "document", 0),
        ("navigate", "iframe", 403),
        ("no-cors", "image", 403),
        ("no-cors", "script", 403),
        ("cors", "empty", 403),
    ],
)
def test_another_site_may_link_here_but_embed_nothing(
    door: Door, site: str, mode: str, target: str, status: int
) -> None:
    assert refused(door, Sec_Fetch_Site=site, Sec_Fetch_Mode=mode, Sec_Fetch_Dest=target) == status
    assert refused(door, Sec_Fetch_Site="same-origin", Sec_Fetch_Mode=mode, Sec_Fetch_Dest=target) == 0


def test_an_order_from_the_page_itself_is_let_in(door: Door) -> None:
    assert refused(door, "POST", Sec_Fetch_Site="same-origin") == 0


@pytest.mark.parametrize(
    ("origin", "status"),
    [(f"http://{HERE}", 0), ("http://127.0.0.1:9000", 403), (f"https://{HERE}", 403), ("null", 403), ("", 403)],
)
def test_an_old_browser_is_judged_by_the_origin(door: Door, origin: str, status: int) -> None:
    assert refused(door, "POST", Origin=origin) == status


def test_an_order_that_says_nothing_of_where_it_comes_from_is_refused(door: Door) -> None:
    assert refused(door, "POST") == 403
