"""Items by what is known of them, such as their difficulty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from burnish.core.intervals import Series
from burnish.errors import InputError, near

MANY = 8
"""More values than this, if they are numbers, are put into bins."""
BINS = 5


def groups(metas: Sequence[Mapping[str, Any]], key: str) -> dict[str, list[int]]:
    """{value under the key: places of the items, given by their ``meta``, that have it}, in order of the values.

    More than MANY numbers become BINS ranges, of about as many items each; no value is in two. Raises InputError where no
    item has such a key, naming those there are, and where more than MANY values are no numbers.
    """
    found: dict[Any, list[int]] = {}
    for place, meta in enumerate(metas):
        if key in meta:
            value = meta[key] if isinstance(meta[key], int | float) else str(meta[key])
            found.setdefault(value, []).append(place)
    if not found:
        known = sorted({name for meta in metas for name in meta})
        raise InputError(f"no item says its '{key}'.{near(key, known)} Known: {', '.join(known) or 'nothing'}.")
    numbers = all(isinstance(value, int | float) for value in found)
    ordered = sorted(found, key=None if numbers else str)
    if len(ordered) <= MANY:
        return {str(value): found[value] for value in ordered}
    if not numbers:
        raise InputError(f"'{key}' has {len(ordered)} values that are no numbers: too many for a table, choose another")
    return {_range(part): [place for value in part for place in found[value]] for part in _bins(ordered, found)}


def _bins(ordered: Sequence[float], found: Mapping[float, Sequence[int]]) -> list[list[float]]:
    """The values in BINS runs: a value goes where the middle one of its items falls."""
    total, before = sum(map(len, found.values())), 0
    parts: list[list[float]] = [[] for _ in range(BINS)]
    for value in ordered:
        size = len(found[value])
        parts[min(BINS - 1, int((before + size / 2) * BINS / total))].append(value)
        before += size
    return [part for part in parts if part]


def _range(part: Sequence[float]) -> str:
    return f"{part[0]:g}" if len(part) == 1 else f"{part[0]:g} to {part[-1]:g}"


def of(series: Series, places: Sequence[int]) -> Series:
    """The part of a series that belongs to these items."""
    return [series[place] for place in places]
