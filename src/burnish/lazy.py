"""Public names of a package that are loaded when they are first used (PEP 562)."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence


def lazy(package: str, names: Mapping[str, Sequence[str]]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """(``__getattr__``, ``__dir__``) of ``package`` for ``{module of it: the public names it defines}``."""
    home = {name: module for module, own in names.items() for name in own}
    loaded = vars(sys.modules[package])

    def load(name: str) -> object:
        if name not in home:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        loaded[name] = getattr(importlib.import_module(f"{package}.{home[name]}"), name)
        return loaded[name]

    def known() -> list[str]:
        return sorted({*loaded, *home})

    return load, known
