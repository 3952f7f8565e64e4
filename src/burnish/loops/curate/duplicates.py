"""Rows that say again what an earlier one said: the same text, or nearly the same."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from burnish import config
from burnish.data.overlap import prompt_key
from burnish.errors import InputError
from burnish.loops.curate.base import store
from burnish.loops.curate.items import Item, items, write_rows
from burnish.stage import Stage
from burnish.types import Example

UNITS = {"words": re.compile(r"\w+|[^\w\s]"), "characters": re.compile(r".", re.DOTALL)}
ON = ("prompt", "row")
_TINY = 1e-9  # a product such as .55 * 20 may lie this far above the whole number that it is


@dataclass(frozen=True)
class Near:
    """Two texts are nearly the same where their sets of ``size`` successive ``unit`` have a Jaccard similarity,
    ``|A and B| / |A or B|``, of at least ``threshold``. A unit is "words" (signs are words) or "characters".

    Problems from one mould that differ in a number are nearly the same: for those, compare exactly.
    """

    threshold: float = 0.8
    size: int = 3
    unit: str = "words"

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1 or self.size < 1 or self.unit not in UNITS:
            raise InputError(f"{self}: give 0 < threshold <= 1, size >= 1 and unit {' or '.join(UNITS)}")

    def grams(self, text: str) -> frozenset[str]:
        """What is compared; a text shorter than ``size`` is a single gram."""
        parts = UNITS[self.unit].findall(text)
        return frozenset("\x1f".join(parts[i : i + self.size]) for i in range(max(1, len(parts) - self.size + 1)))


class Repeat(NamedTuple):
    """``of`` is the place of the text that is repeated; ``similarity`` is 1 where nothing differs."""

    of: int
    similarity: float


def repeats(texts: Sequence[str], near: Near | None = None, known: Sequence[str] = ()) -> list[Repeat | None]:
    """For each text what it repeats, None for those to keep: the first of its kind is kept.

    Texts are compared with those that were kept before them, so that no chain of small changes removes what differs much
    from all that stays. Those in ``known`` come first: their places are negative, ``known[of]``. White space and case are
    the caller's affair. Without ``near`` only equal texts repeat.
    """
    first: dict[str, int] = {}
    index = _Index(near, [*known, *texts]) if near else None
    found: list[Repeat | None] = []
    for place, text in enumerate([*known, *texts], start=-len(known)):
        repeat = Repeat(first[text], 1.0) if text in first else index.nearest(text) if index else None
        if repeat is None or place < 0:
            first.setdefault(text, place)
            if index:
                index.add(text, place)
        if place >= 0:
            found.append(repeat)
    return found


class _Index:
    """Texts by their rarest grams. Sets of similarity t or more share one of their |A| - ceil(t |A|) + 1 rarest: with one
    order of rarity for all, nothing is missed and little is compared (the prefix filter of similarity joins).
    """

    def __init__(self, near: Near, texts: Sequence[str]) -> None:
        self.near = near
        self.grams = {text: near.grams(text) for text in texts}
        self.frequency = Counter(gram for grams in self.grams.values() for gram in grams)
        self.places: dict[str, list[tuple[int, frozenset[str]]]] = defaultdict(list)

    def add(self, text: str, place: int) -> None:
        for gram in self._rarest(text):
            self.places[gram].append((place, self.grams[text]))

    def nearest(self, text: str) -> Repeat | None:
        """The most similar text, the first of several, if it is similar enough."""
        own = self.grams[text]
        candidates = {place: other for gram in self._rarest(text) for place, other in self.places[gram]}
        similar = [Repeat(place, len(own & other) / len(own | other)) for place, other in candidates.items()]
        best = min(similar, key=lambda repeat: (-repeat.similarity, repeat.of), default=None)
        return best if best and best.similarity >= self.near.threshold else None

    def _rarest(self, text: str) -> list[str]:
        grams = sorted(self.grams[text], key=lambda gram: (self.frequency[gram], gram))
        return grams[: len(grams) - math.ceil(self.near.threshold * len(grams) - _TINY) + 1]


def key(item: Item, on: str = "prompt") -> str:
    """What is compared of a row, up to case and white space: its prompt, or all that is said in it."""
    prompt = "\n".join(f"{role}: {text}" for role, text in prompt_key(Example(item.prompt)))
    said = (" ".join(reply.casefold().split()) for reply in item.replies)
    return prompt if on == "prompt" else "\n".join((prompt, *said))


def dedupe(
    stage: Stage, data: Path, *, against: Path | None = None, on: str = "prompt", near: Near | None = None
) -> Path:
    """A stage: the rows of a file without those that repeat an earlier one, or one in the file ``against``.

    ``on`` is what has to repeat: the "prompt", or the whole "row" with its answers. Case and white space do not count. What
    was left out, and what it repeats, is in ``removed.jsonl``. Raises InputError.
    """
    if on not in ON:
        raise InputError(f"on='{on}': rows repeat by their {' or their '.join(ON)}")
    own, other = items(Path(data)), items(Path(against)) if against else []
    found = repeats([key(item, on) for item in own], near, [key(item, on) for item in other])
    gone = [(number, repeat) for number, repeat in enumerate(found, start=1) if repeat]
    removed = [
        {
            "row": number,
            "repeats": repeat.of + 1 if repeat.of >= 0 else repeat.of + len(other) + 1,
            "in": str(data if repeat.of >= 0 else against),
            "similarity": repeat.similarity,
        }
        for number, repeat in gone
    ]
    counts = {
        "rows": len(own),
        "that repeat another": sum(repeat.of >= 0 for _, repeat in gone),
        "that repeat the other file": sum(repeat.of < 0 for _, repeat in gone),
        "kept": len(own) - len(gone),
    }
    source = {"data": str(data), "against": str(against or ""), "on": on, "near": config.plain(near)}
    write_rows(stage.directory / "removed.jsonl", removed)
    kept = [item.row for item, repeat in zip(own, found, strict=True) if repeat is None]
    return store(stage, kept, counts=counts, source=source)
