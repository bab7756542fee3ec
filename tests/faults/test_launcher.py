from __future__ import annotations

import importlib

import pytest

from faults.launcher import KEPT, SCALED


@pytest.mark.parametrize("home", SCALED)
def test_every_constant_in_seconds_is_scaled_or_kept_on_purpose(home: str) -> None:
    module = importlib.import_module(f"sqsjkr.{home}")
    seconds = {name for name, value in vars(module).items() if name.isupper() and isinstance(value, float)}

    assert not {name for name in seconds if not name.startswith("_")} - KEPT - {n for ns in SCALED.values() for n in ns}
