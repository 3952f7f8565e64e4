"""A small set to train on: what is clean, then what is hard, then something of everything.

The order is s1's (arXiv:2501.19393; LIMO, arXiv:2502.03387, chooses likewise): a thousand traces chosen so teach more than a
thousand drawn at random.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from burnish import config
from burnish.core import keys
from burnish.data.rows import number
from burnish.errors import InputError
from burnish.loops.curate.base import store
from burnish.loops.curate.items import Item, items
from burnish.stage import Stage

_BROKEN = re.compile(r"\ufffd|Ã[\x80-\xbf]|â\x80|â€|&(?:amp|lt|gt|quot|#\d+);")
_TAG = re.compile(r"</?think>")


class Quality(Protocol):
    """Whether a row is good enough: a frozen dataclass, so that a stage can tell it from another."""

    def __call__(self, item: Item, /) -> bool: ...


@dataclass(frozen=True)
class Readable:
    """No trouble with the encoding: no replacement or control characters, no UTF-8 read as Latin-1, no HTML entities."""

    def __call__(self, item: Item) -> bool:
        return all(map(self._readable, (*(message["content"] for message in item.prompt), *item.replies)))

    def _readable(self, text: str) -> bool:
        controls = any(unicodedata.category(sign) == "Cc" and sign not in "\n\r\t" for sign in text)
        return not controls and _BROKEN.search(text) is None


@dataclass(frozen=True)
class Answered:
    """There is a reply, and if it thinks, it thinks once and says something afterwards."""

    def __call__(self, item: Item) -> bool:
        if not item.replies or not item.replies[-1].strip():
            return False
        tags = _TAG.findall(item.replies[-1])
        return not tags or (
            tags == ["<think>", "</think>"] and bool(item.replies[-1].rpartition("</think>")[2].strip())
        )


@dataclass(frozen=True)
class OfLength:
    """The reply has at least ``least`` and at most ``most`` characters."""

    least: int = 1
    most: int = 100_000

    def __call__(self, item: Item) -> bool:
        return self.least <= sum(map(len, item.replies)) <= self.most


@dataclass(frozen=True)
class Selection:
    """``n`` rows of those that pass all ``filters``.

    ``domain`` is the column by which there is to be something of everything; empty, all is one domain. ``pass_rate`` is the
    column with the share of a model's tries that were right: rows at ``too_easy`` or above are left out, and lower is harder.
    Where it is empty, and among equals, a longer reply is harder.
    """

    n: int = 1000
    domain: str = "domain"
    pass_rate: str = ""
    too_easy: float = 1.0
    filters: tuple[Quality, ...] = field(default=(Readable(), Answered(), OfLength()))

    def __post_init__(self) -> None:
        if self.n < 1 or not 0 < self.too_easy <= 1:
            raise InputError(f"n={self.n}, too_easy={self.too_easy}: give n >= 1 and 0 < too_easy <= 1")


class Candidate(NamedTuple):
    """Something to choose: larger ``hardness`` is harder."""

    domain: str
    hardness: tuple[float, ...]


def diverse(candidates: Sequence[Candidate], n: int, *, seed: int = 0) -> list[int]:
    """The places, in the order in which they were drawn, of ``n`` candidates, or of all if there are no more.

    Each draw takes a domain, all alike, and then in it a candidate: the hardest left with chance 1/2, the next with 1/4, and
    so on. A domain with nothing left is drawn no more. Every draw has uniforms of its own, from ``seed``.
    """
    left: dict[str, list[int]] = defaultdict(list)
    for place in sorted(range(len(candidates)), key=lambda i: (*(-h for h in candidates[i].hardness), i)):
        left[candidates[place].domain].append(place)
    chosen: list[int] = []
    while left and len(chosen) < n:
        which, rank = keys.uniforms(keys.derive("diverse", seed, len(chosen)), 2)
        domain = sorted(left)[int(which * len(left))]
        chosen.append(left[domain].pop(_halving(rank, len(left[domain]))))
        if not left[domain]:
            del left[domain]
    return chosen


def _halving(uniform: float, count: int) -> int:
    """A rank below ``count``, each half as likely as the one before it."""
    return min(count - 1, int(-math.log2(1 - uniform * (1 - 0.5**count))))


def select(stage: Stage, data: Path, *, cfg: Selection) -> Path:
    """A stage: ``cfg.n`` rows of a file. Raises InputError where a row lacks a column that ``cfg`` names."""
    left = items(Path(data))
    counts = {"rows": len(left)}
    for each in cfg.filters:
        left = [item for item in left if each(item)]
        counts[f"after {type(each).__name__}"] = len(left)
    candidates = [_candidate(item, cfg) for item in left]
    hard = [place for place, each in enumerate(candidates) if not cfg.pass_rate or -each.hardness[0] < cfg.too_easy]
    counts["not too easy"] = len(hard)
    drawn = diverse([candidates[place] for place in hard], cfg.n, seed=stage.seed)
    kept = [hard[place] for place in drawn]
    counts["domains"] = len({candidates[place].domain for place in kept})
    counts["kept"] = len(kept)
    return store(
        stage,
        [left[place].row for place in kept],
        counts=counts,
        source={"data": str(data), "settings": config.plain(cfg)},
    )


def _candidate(item: Item, cfg: Selection) -> Candidate:
    domain = str(item.value(cfg.domain)) if cfg.domain else ""
    length = float(sum(map(len, item.replies)))
    if not cfg.pass_rate:
        return Candidate(domain, (length,))
    rate = number({cfg.pass_rate: item.value(cfg.pass_rate)}, cfg.pass_rate, 0, 1)
    if rate is None:
        raise InputError(f"row {item.number}: column '{cfg.pass_rate}' is null: measure its pass rate, or leave it out")
    return Candidate(domain, (-rate, length))
