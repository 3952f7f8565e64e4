"""Tables of named values: constants of a module, each with its documentation in the string below it."""

from __future__ import annotations

import ast
from collections.abc import Container, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from burnish.errors import unknown

T = TypeVar("T")


def constants(namespace: Mapping[str, Any], kind: Any) -> dict[str, Any]:
    """The constants of that class (or union) among a module's names, by lower-case name, in the order of the file."""
    return {name.lower(): value for name, value in namespace.items() if name.isupper() and isinstance(value, kind)}


def find(what: str, name: str, known: Mapping[str, T]) -> T:
    """The value of that name, in any case, with ``-`` or ``_``. Raises InputError naming the nearest one."""
    key = name.lower().replace("-", "_")
    if key not in known:
        raise unknown(what, name, known)
    return known[key]


def notes(file: str, known: Container[str]) -> dict[str, str]:
    """The documentation string under each constant of a source file whose lower-case name is known, by that name."""
    body = ast.parse(Path(file).read_text(encoding="utf-8")).body
    found: dict[str, str] = {}
    for here, below in pairwise(body):
        if (
            isinstance(here, ast.Assign)
            and isinstance(here.targets[0], ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
            and isinstance(below.value.value, str)
        ):
            found[here.targets[0].id.lower()] = below.value.value
    return {name: text for name, text in found.items() if name in known}
