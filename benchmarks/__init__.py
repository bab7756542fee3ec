"""Benchmarks: `python -m benchmarks` measures this checkout, `python -m benchmarks.scale` reckons with fleets."""
