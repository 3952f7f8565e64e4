"""What adapters share: the other package, and its settings in a frozen value."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Annotated, Any

from pydantic import BeforeValidator

from burnish.errors import InputError


def package(module: str, *, extra: str) -> ModuleType:
    """The module of another package. Raises InputError that names the extra where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(f"tasks {extra}/... need a package that is missing: pip install 'burnish[{extra}]'") from error


def freeze(options: Any) -> Any:
    """The pairs of a mapping, or the pairs as given; lists inside become tuples, so that the whole has a hash.

    Raises InputError for a mapping inside: no option that these packages take is one.
    """
    return tuple(
        (name, _frozen(value)) for name, value in (options.items() if isinstance(options, Mapping) else options)
    )


Options = Annotated[tuple[tuple[str, Any], ...], BeforeValidator(freeze)]
"""``((name, value), ...)``; a configuration may give a mapping."""


def thaw(options: Options) -> dict[str, Any]:
    """The options as keyword arguments, with lists for tuples."""
    return {name: _thawed(value) for name, value in options}


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        raise InputError(f"{dict(value)} cannot be an option: give a number, a text, or a list of these")
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _thawed(value: Any) -> Any:
    return [_thawed(item) for item in value] if isinstance(value, tuple) else value
