"""Which patterns a trust file may hold: those that no value can keep busy."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqsjkr.trust.patterns import compiled


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "[a-z0-9_-]{1,64}",
        r"/opt/batch/[a-z-]+\.sh( [A-Za-z0-9_.-]{1,80}){0,4}",
        "full|delta",
        "[a-z]+(-[a-z]+)*",
        r"\d{4}-\d{2}-\d{2}",
        ".*",
        ".{0,1024}",
        "[^/]+(/[^/]+)*",
        "(s3://[a-z]+/)?[a-z]+",
        r"\w+@\w+(\.\w+)+",
        "(foo|bar|baz)(,(foo|bar|baz))*",
        "-?[0-9]+",
    ],
)
def test_a_pattern_that_matches_each_text_in_one_way_is_taken(pattern: str) -> None:
    assert compiled(pattern).pattern == pattern


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+",
        "(a*)*",
        "(a|a)*",
        "(a|aa)+",
        "(a|b|ab)*c",
        "(x+x+)+y",
        "([a-z]+)*x",
        "([a-z]{0,64}){0,64}",
        "(a?){64}a{64}",
        ".*.*",
        ".*foo.*",
        "a*b?a*",
        "(ab?)*(b)*",
        "(|a)+",
        "(a?|b?)",
        "(?:)*",
        "(a|b?)*",
    ],
)
def test_a_pattern_that_a_hostile_value_could_keep_busy_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="in one way only"):
        compiled(pattern)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("(", "a regular expression"),
        ("(?i)a", "without flags"),
        ("a(?=b)", "without look-around"),
        (r"(a)\1", "without look-around, back-references"),
        (r"\bfoo", "without look-around"),
        ("^a$", r"without \^"),
        ("a{0,2000}", "no count above 1024"),
        ("((a{0,100}){0,100}){0,100}", "a shorter pattern"),
    ],
)
def test_what_is_not_supported_is_refused_with_what_was_expected(pattern: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        compiled(pattern)


def test_a_digit_is_an_ascii_digit() -> None:
    assert compiled(r"\d").fullmatch("7")
    assert not compiled(r"\d").fullmatch("\N{ARABIC-INDIC DIGIT SEVEN}")


_LETTERS = st.sampled_from(["a", "b", "[ab]", ".", "[^a]"])
_QUANTIFIERS = st.sampled_from(["*", "+", "?", "{0,3}", "{2,}", "{1,20}", "*?"])
_PATTERNS = st.recursive(
    _LETTERS,
    lambda parts: st.one_of(
        st.tuples(parts, parts).map("".join),
        st.tuples(parts, parts).map(lambda pair: f"({pair[0]}|{pair[1]})"),
        st.tuples(parts, _QUANTIFIERS).map(lambda pair: f"({pair[0]}){pair[1]}"),
    ),
    max_leaves=8,
)


@settings(max_examples=300)
@given(_PATTERNS, st.text("ab", max_size=8))
def test_a_pattern_that_is_taken_means_what_python_says(pattern: str, text: str) -> None:
    try:
        ours = compiled(pattern)
    except ValueError:
        return
    assert bool(ours.fullmatch(text)) == bool(re.fullmatch(pattern, text, re.ASCII))


_HOSTILE = """
import random
from sqsjkr.trust.patterns import compiled

random.seed(2026)

def pattern(depth):
    chance = random.random()
    if depth == 0 or chance < 0.25:
        return random.choice(["a", "b", "[ab]", ".", "c"])
    if chance < 0.5:
        return pattern(depth - 1) + pattern(depth - 1)
    if chance < 0.65:
        return f"({pattern(depth - 1)}|{pattern(depth - 1)})"
    return f"({pattern(depth - 1)}){random.choice(['*', '+', '?', '{0,3}', '{2,}', '{1,20}', '*?'])}"

taken = 0
for _ in range(3000):
    try:
        made = compiled(pattern(random.randint(1, 5)))
    except ValueError:
        continue
    taken += 1
    for text in ("a" * 1024 + "!", "ab" * 512 + "!", "b" * 1024 + "c"):
        made.fullmatch(text)
print(taken)
"""


def test_no_pattern_that_is_taken_is_kept_busy_by_a_hostile_value() -> None:
    """An exponential one would never come to an end here."""
    done = subprocess.run([sys.executable, "-c", _HOSTILE], capture_output=True, text=True, check=True, timeout=110)
    assert int(done.stdout) > 1000
