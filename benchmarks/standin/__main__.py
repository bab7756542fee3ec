"""Runs the stand-in: `python -m benchmarks.standin` or `python benchmarks/standin`."""

import sys
from importlib import import_module
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])  # the second way puts this folder there
import_module("benchmarks.standin.cli").main()
