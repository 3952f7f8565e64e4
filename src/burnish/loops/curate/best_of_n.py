"""Best-of-n: of several completions to a prompt the one that a reward likes best, and how far that goes.

How far the best of n is from the policy is known exactly, ``KL = log n - (n-1)/n`` (arXiv:2210.10760), and what n completions
would have given follows from N >= n of them (:mod:`burnish.core.estimates`). So one draw gives the whole curve: with a
trusted ``gold`` beside the reward, it shows from which n on the reward is fooled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from burnish.core.estimates import best_of_n, best_of_n_kl
from burnish.loops.curate.base import Draw, Scored, draw, made_from, scored, sieve, store
from burnish.loops.curate.filters import Filter
from burnish.loops.curate.rejection import first, row
from burnish.rewards.base import RewardFunction
from burnish.stage import Stage
from burnish.types import Task


@dataclass(frozen=True)
class Best(Draw):
    """Of the completions that every filter of ``keep`` keeps, the one with the highest reward, whatever it is."""

    keep: tuple[Filter, ...] = ()


def best(
    stage: Stage, model: Path, task: Task, *, reward: RewardFunction | None = None, gold: RewardFunction | None = None,
    cfg: Best,
) -> Path:  # fmt: skip
    """A stage: prompts, each with its best completion, for :class:`burnish.data.datasets.Dataset`.

    ``reward`` takes the place of the task's own; of equals the first is taken, and what was cut off never. The provenance
    has the :func:`curve` of the reward, and of ``gold`` where one is given. Raises InputError where nothing is left.
    """
    drawn = draw(stage, model, task, cfg)
    groups = scored(reward or task.reward, drawn)
    golds = [[s.reward for s in group] for group in scored(gold, drawn)] if gold else None
    chosen, counts = bests(groups, cfg.keep)
    proxies = [[s.reward for s in group] for group in groups]
    rows = [{"n": n, "kl": best_of_n_kl(n), "reward": curve(proxies, proxies, n)} for n in _powers(cfg.samples)]
    if golds:
        rows = [{**point, "gold": curve(golds, proxies, int(point["n"]))} for point in rows]
    source = made_from(model, task, reward, cfg) | {"gold": repr(gold), "best_of_n": rows}
    return store(stage, [row(s) for s in chosen], counts=counts, source=source)


def bests(groups: Sequence[Sequence[Scored]], keep: Sequence[Filter] = ()) -> tuple[list[Scored], dict[str, int]]:
    """The best of each group that ends and that the filters keep, and how many are left after each step."""
    every = [s for group in groups for s in sorted(group, key=lambda s: -s.reward)]
    counts = {"drawn": len(every)}
    steps = {repr(keeps): (lambda s, keeps=keeps: keeps(s.completion)) for keeps in keep}
    return first(sieve(every, {"that end": lambda s: s.ends, **steps}, counts), 1, counts), counts


def curve(golds: Sequence[Sequence[float]], proxies: Sequence[Sequence[float]], n: int) -> float:
    """The mean over prompts of the ``gold`` of the best of n by ``proxy``, unbiased; a list for each prompt."""
    each = [best_of_n(gold, proxy, n) for gold, proxy in zip(golds, proxies, strict=True)]
    return sum(each) / len(each)


def _powers(most: int) -> list[int]:
    """1, 2, 4, ... and the number itself."""
    return sorted({*(2**i for i in range(most.bit_length())), most})
