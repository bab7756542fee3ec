"""argv in, exit code out; the only place that prints errors."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Sequence

from sqsjkr.guard import guarded
from sqsjkr.page import Page


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="sqsjkr")
    sub = parser.add_subparsers(dest="verb", required=True)
    run = sub.add_parser("run")
    run.add_argument("--conf")
    run.add_argument("--local")
    run.add_argument("--until-empty", action="store_true")
    a = parser.parse_args(argv)
    return guarded(lambda page: _run(a, page))


def _run(a: argparse.Namespace, page: Page) -> int:
    from sqsjkr import app, config, logs

    cfg = config.load(a.conf, env=os.environ, overrides={"local": a.local} if a.local else {})
    log = logs.set_up(cfg.log_level, cfg.log_format)
    try:
        return asyncio.run(app.run(cfg, page=page, logs=log, until_empty=a.until_empty))
    finally:
        log.close()
