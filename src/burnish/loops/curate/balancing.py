"""Data in which no domain, answer or length outnumbers the others."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path

from burnish.core import keys
from burnish.data.comparisons import compare
from burnish.data.kinds import COMPARED, kind
from burnish.data.rows import load_rows, numbered
from burnish.data.transforms import balance_lengths
from burnish.errors import InputError
from burnish.loops.curate.base import store
from burnish.loops.curate.items import Item, items
from burnish.stage import Stage

CHARACTERS = "characters"
"""What to balance ``by`` for length: buckets in which the longest is up to twice as long as the shortest."""


def capped(labels: Sequence[Hashable], most: int = 0, *, seed: int = 0) -> list[int]:
    """The places, in order, of at most ``most`` items with each label; 0 is as many as the rarest label has.

    Which of them stay is drawn from ``seed``, for every label by itself.
    """
    places: dict[Hashable, list[int]] = defaultdict(list)
    for place, label in enumerate(labels):
        places[label].append(place)
    limit = most or min(map(len, places.values()), default=0)
    kept: list[int] = []
    for label, group in places.items():
        drawn = keys.permutation(keys.derive("capped", seed, repr(label)), len(group))
        kept += [group[i] for i in drawn[:limit]]
    return sorted(kept)


def balance(stage: Stage, data: Path, *, by: str, most: int = 0) -> Path:
    """A stage: at most ``most`` rows of each value in the column ``by``, or of each length where that is "characters".

    0 is as many as there are of the rarest. Raises InputError where a row does not have the column.
    """
    if most < 0:
        raise InputError(f"most={most}: give how many rows of a kind to keep, or 0 for as many as the rarest has")
    own = items(Path(data))
    labels = [_label(item, by) for item in own]
    kept = [own[place].row for place in capped(labels, most, seed=stage.seed)]
    counts = {"rows": len(own), f"values of '{by}'": len(set(labels)), "kept": len(kept)}
    return store(stage, kept, counts=counts, source={"data": str(data), "by": by, "most": most})


def _label(item: Item, by: str) -> str:
    if by == CHARACTERS:
        return str(item.characters.bit_length())
    return json.dumps(item.value(by), sort_keys=True, default=str)


def balance_pairs(stage: Stage, data: Path, *, buckets: int = 10) -> Path:
    """A stage: the preference pairs of a file with as many in which the longer answer is the better one as the shorter.

    See :func:`burnish.data.transforms.balance_lengths`. Raises InputError for what are no pairs.
    """
    rows = load_rows(data)
    found = kind(rows)
    if found not in COMPARED:
        raise InputError(f"{data} has rows of kind '{found}', which are no pairs: give rows with chosen and rejected")
    pairs = [
        replace(pair, meta={"place": place})
        for place, row in enumerate(rows)
        for pair in numbered(place + 1, lambda each: compare(each, found), row)
    ]
    kept = [pair.meta["place"] for pair in balance_lengths(pairs, buckets=buckets, seed=stage.seed)]
    counts = {"pairs": len(pairs), "kept": len(kept)}
    source = {"data": str(data), "buckets": buckets}
    return store(stage, [rows[place] for place in kept], counts=counts, source=source)
