from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from sqsjkr.outcome import Outcome, Settlement

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "outcomes.md").read_text()
LEVELS = {logging.DEBUG: "DEBUG", logging.INFO: "INFO", logging.WARNING: "WARN", logging.ERROR: "ERROR"}


def row(name: str) -> list[str]:
    """The cells beside a name in the page's tables, without their backticks."""
    (found,) = re.findall(rf"^\| `{name}` \|(.*)\|$", PAGE, re.MULTILINE)
    return [cell.strip().strip("`") for cell in found.split("|")]


@pytest.mark.parametrize("outcome", Outcome, ids=lambda outcome: outcome.label)
def test_an_outcomes_row_says_what_it_does(outcome: Outcome) -> None:
    settlement, counter, level, meaning = row(outcome.label)
    assert settlement == outcome.settlement.value
    assert counter == (outcome.counter.value if outcome.counter else "none")
    assert level == LEVELS[outcome.level]
    assert meaning.endswith((".", ")."))


@pytest.mark.parametrize("settlement", Settlement, ids=lambda settlement: settlement.value)
def test_every_settlement_is_explained(settlement: Settlement) -> None:
    (meaning,) = row(settlement.value)
    assert meaning


def test_the_page_lists_no_outcome_that_is_none() -> None:
    listed = set(re.findall(r"^\| `([^`]+)` \|", PAGE, re.MULTILINE))
    assert listed == {outcome.label for outcome in Outcome} | {settlement.value for settlement in Settlement}
