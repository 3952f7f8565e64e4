"""The documentation of constants: the string that stands under each in its file."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path


def notes_in(path: Path) -> Mapping[str, str]:
    """The string under each constant of a Python file, by the constant's lower-case name."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
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
    return found
