"""Names for the values that configurations take: ``algo=grpo`` on the command line is a frozen value in the program."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import is_dataclass
from types import ModuleType
from typing import Any, NamedTuple, get_args, get_type_hints

from burnish.errors import unknown


class Names(NamedTuple):
    """What turns a name into a value; where they can be counted, all names; classes that are values of the type too."""

    lookup: Callable[[str], Any]
    all: tuple[str, ...] = ()
    classes: tuple[Any, ...] = ()


NAMED: dict[Any, Names] = {}
"""``{type: names}`` for fields of that type. Searched by equality: an annotation with metadata cannot be hashed."""


def named(type_: Any, lookup: Callable[[str], Any], classes: Sequence[Any] = ()) -> None:
    """Let fields of ``type_`` be given by name (``lookup`` raises InputError for one that does not exist), or as one of the
    dataclasses ``classes`` by ``kind``: for a protocol, of which they are no subclasses.
    """
    NAMED[type_] = Names(lookup, classes=tuple(classes))


def functions(type_: Any, called: str, module: ModuleType) -> None:
    """Let fields of ``type_``, a ``Callable[...]``, be given by the name of a public function of the module with its signature.

    A dataclass whose instances can be called with that signature counts too: its name stands for its defaults, ``kind`` picks
    it. ``module:name``, as :func:`burnish.config.plain` writes it, is understood. ``called`` is what errors call such a value.
    """
    found = {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == module.__name__ and _fits(value, type_)
    }

    def lookup(name: str) -> Any:
        own = name.removeprefix(f"{module.__name__}:")
        if own not in found:
            raise unknown(called, name, found)
        return found[own]() if is_dataclass(found[own]) else found[own]

    NAMED[type_] = Names(lookup, tuple(found), tuple(value for value in found.values() if is_dataclass(value)))


def _fits(value: Any, type_: Any) -> bool:
    """Whether a function, or the instances of a dataclass, have the signature of a ``Callable[...]``."""
    function = value.__call__ if is_dataclass(value) and isinstance(value, type) else value
    if not inspect.isfunction(function):
        return False
    hints = get_type_hints(function)
    wanted = get_args(type_)
    result = hints.pop("return", None)
    return (list(hints.values()), result) == wanted
