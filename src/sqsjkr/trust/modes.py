"""Files that decide who may do what: read only if nobody else can change them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from sqsjkr.errors import ConfigError


def guarded(path: str, *, secret: bool = False) -> bytes:
    """Read a file that nobody but root and this user may change, nor read if it is ``secret``.

    As sshd does with StrictModes, for the file and for the directories that hold it and what it links to. What is
    mounted read-only cannot be changed from here, whatever its mode says: a config map of Kubernetes.

    Raises:
        ConfigError: it cannot be read, or others may change it. One line.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - pathlib would turn "" into "."
            content = file.read()
            facts = os.fstat(file.fileno())
            frozen = bool(os.fstatvfs(file.fileno()).f_flag & os.ST_RDONLY)
        _check(path, path, facts, frozen=frozen, secret=secret)
        for directory in {Path(path).absolute().parent, Path(path).resolve().parent}:
            frozen = bool(os.statvfs(directory).f_flag & os.ST_RDONLY)
            _check(path, str(directory), directory.stat(), frozen=frozen)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from None
    return content


def _check(path: str, what: str, facts: os.stat_result, *, frozen: bool, secret: bool = False) -> None:
    mode = stat.S_IMODE(facts.st_mode)
    if secret and mode & 0o077:
        raise ConfigError(f"{path}: group or others may read a secret in it (mode {mode:04o}); next: chmod 600 {path}")
    if frozen:
        return
    if facts.st_uid not in {0, os.geteuid()}:
        owner = f"{what} belongs to user id {facts.st_uid}"
        raise ConfigError(f"{path}: {owner}, expected root or the worker's user ({os.geteuid()})")
    if mode & 0o022:
        raise ConfigError(f"{path}: group or others may write {what} (mode {mode:04o}); next: chmod go-w {what}")
