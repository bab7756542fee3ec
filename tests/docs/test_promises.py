from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "promises.md"
PROOFS = re.findall(r"\[`(test_\w+)`\]\(([^)]+)\)", PAGE.read_text())


@pytest.mark.parametrize(("name", "file"), PROOFS, ids=[name for name, _ in PROOFS])
def test_a_promises_proof_exists(name: str, file: str) -> None:
    text = (PAGE.parent / file).read_text()
    assert re.search(rf"^ *(async )?def {name}\(", text, re.MULTILINE)


def test_every_promise_has_a_proof() -> None:
    promises = re.findall(r"^## \d\. .*?(?=^## )", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(promises) == 7
    assert all("](../../tests/" in promise for promise in promises)
