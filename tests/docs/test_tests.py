"""The tests against their own rules (CONTRIBUTING.md)."""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
CLOCKS = {"monotonic", "perf_counter", "time", "now"}
WAITS = {"wait_until", "until", "wait_for_line", "wait", "communicate", "result"}


def reads_a_clock(node: ast.AST) -> bool:
    calls = [call.func for call in ast.walk(node) if isinstance(call, ast.Call)]
    return any(
        isinstance(f, ast.Attribute | ast.Name) and getattr(f, "attr", getattr(f, "id", "")) in CLOCKS for f in calls
    )


def bounds_a_duration(node: ast.Compare) -> bool:
    """Whether it says that a time that a clock showed, or a difference of two, is less than a number."""
    sides = [node.left, *node.comparators]
    return any(
        isinstance(sign, ast.Lt | ast.LtE) and reads_a_clock(less) and isinstance(more, ast.Constant)
        for less, sign, more in zip(sides, node.ops, sides[1:], strict=False)
    )


def gives_up(call: ast.Call) -> bool:
    """Whether it waits for so many seconds and no longer, instead of as long as every other test."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    return name in WAITS and any(
        word.arg == "timeout" and isinstance(word.value, ast.Constant) for word in call.keywords
    )


def test_no_test_fails_because_the_machine_is_slow() -> None:
    found = []
    for path in sorted(TESTS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            slow = isinstance(node, ast.Compare) and bounds_a_duration(node)
            if slow or (isinstance(node, ast.Call) and gives_up(node)):
                found.append(f"{path.relative_to(TESTS)}:{node.lineno}: {ast.unparse(node)[:80]}")
    assert [line for line in found if "pigs flew" not in line] == []
