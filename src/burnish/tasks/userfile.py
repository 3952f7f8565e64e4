"""The user's own task or environment: a class in a Python file, named ``my_task.py:Name``."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

from burnish.errors import InputError, unknown
from burnish.rewards.function import import_file, last_lines, module_name


def names_file(spec: str) -> bool:
    """Whether it is of the form ``file.py:Name``, and no name of ours."""
    return ":" in spec or spec.endswith(".py")


def load(spec: str) -> Any:
    """What ``path/to/file.py:Name`` names, be it a class, a function or a value.

    As long as the file is what it was, it is imported once in a process. What an edited file defines belongs to a module of
    another name, so that a stage which depends on it is another stage.

    Raises InputError: no file, nothing of that name in it (the nearest one is named), an error while importing.
    """
    file, colon, name = spec.rpartition(":")
    if not colon or not file or not name:
        raise InputError(f"'{spec}' does not say what to take from the file; write it as my_file.py:Name")
    path = Path(file)
    if not path.is_file():
        raise InputError(f"file '{file}' does not exist (looked in {Path.cwd()}); check the path before ':'")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    module = sys.modules.get(module_name(path, sha256))
    if module is None or Path(str(module.__file__)).resolve() != path.resolve():  # a copy is a module of its own
        module = import_file(path, sha256)
    known = [each for each in vars(module) if not each.startswith("_")]
    if name not in known:
        raise InputError(f"{file} has no '{name}': {unknown('name', name, known)}")
    return getattr(module, name)


def make(spec: str, kind: str) -> Any:
    """The value that ``file.py:Name`` means for a configuration: a class is called without arguments. ``kind`` is for errors.

    Raises InputError, beside what :func:`load` raises, where the class is no frozen dataclass (a run records its fields),
    where a field has no default, or where making it raises.
    """
    found = load(spec)
    cls = found if isinstance(found, type) else type(found)
    if not is_dataclass(cls) or not cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise InputError(
            f"{kind} {spec} is no frozen dataclass: write @dataclass(frozen=True) above class {cls.__name__}"
        )
    if not isinstance(found, type):
        return found
    open_ = [f.name for f in fields(found) if f.init and f.default is MISSING and f.default_factory is MISSING]
    if open_:
        raise InputError(f"{kind} {spec}: give {', '.join(open_)} of class {found.__name__} a default")
    try:
        return found()
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(f"{kind} {spec} cannot be made; mend it and run again\n{last_lines(error, skip=1)}") from error
