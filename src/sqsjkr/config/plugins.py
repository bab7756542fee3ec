"""``"package.module:Class"`` to a locker or throttler of the operator's own, or one line that says what is wrong."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from typing import TypeVar

from sqsjkr.errors import ConfigError

T = TypeVar("T")


def load(name: str, port: type[T], key: str) -> T:
    """Import the class and make one of it, without arguments.

    The current directory may hold the module. Raises ``ConfigError`` that names the key, the value and the mistake.
    """
    where = f'[kicker] {key} = "{name}"'
    module_name, _, class_name = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        module = importlib.import_module(module_name)
    except ImportError as why:
        raise ConfigError(f"{where}: cannot import {module_name}: {why}") from why
    except Exception as why:
        raise ConfigError(f"{where}: importing {module_name} failed: {why!r}") from why
    found = getattr(module, class_name, None)
    if found is None:
        raise ConfigError(f"{where}: {module_name} has no {class_name}")
    if not (inspect.isclass(found) and issubclass(found, port)):
        raise ConfigError(f"{where}: {class_name} is no subclass of sqsjkr.{port.__name__}")
    try:
        return found()
    except Exception as why:
        raise ConfigError(f"{where}: {class_name}() failed: {why!r} (it is made without arguments)") from why
