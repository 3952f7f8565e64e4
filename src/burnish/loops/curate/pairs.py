"""Preference pairs from a model's own completions: the best against the worst, and Kimi's short against long.

    found = run.stage(long2short, "1-pairs", thinker, task, reward=rule, cfg=Long2Short(n=500))
    tuned = run.stage(fit, "2-dpo", thinker, Comparisons(found), loss=DPO, cfg=dpo)

Completions that were cut off are in no pair: they have no end, and a loss on pairs would train the end that the template
writes behind them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from burnish.loops.curate.base import Draw, Scored, asked, draw, made_from, scored, store
from burnish.rewards.base import RewardFunction
from burnish.stage import Stage
from burnish.types import Task


@dataclass(frozen=True)
class BestWorst(Draw):
    """A pair is kept where the rewards are different, and apart by at least ``margin``."""

    margin: float = 0.0


@dataclass(frozen=True)
class Long2Short(Draw):
    """Right is a reward of at least ``threshold``; a right completion is too long from ``ratio`` times the shortest on.

    At most ``per_prompt`` pairs for each prompt, the longest rejected ones first (0: all).
    """

    threshold: float = 1.0
    ratio: float = 1.5
    per_prompt: int = 0


class Pair(NamedTuple):
    """Two completions to one prompt."""

    chosen: Scored
    rejected: Scored


def prefer(stage: Stage, model: Path, task: Task, *, reward: RewardFunction | None = None, cfg: BestWorst) -> Path:
    """A stage: for each prompt the completion with the highest reward above the one with the lowest.

    For :class:`burnish.data.comparisons.Comparisons`; columns ``score_chosen`` and ``score_rejected`` are the rewards.
    ``reward`` takes the place of the task's own. Raises InputError where no two rewards differ.
    """
    return _stored(stage, model, task, reward, cfg, lambda group: best_worst(group, cfg.margin))


def long2short(stage: Stage, model: Path, task: Task, *, reward: RewardFunction | None = None, cfg: Long2Short) -> Path:
    """A stage: for each prompt the shortest right completion above long ones, by :func:`short_long`.

    In the format of :func:`prefer`, with the lengths in tokens in ``length_chosen`` and ``length_rejected``.
    """
    return _stored(
        stage, model, task, reward, cfg, lambda group: short_long(group, cfg.threshold, cfg.ratio, cfg.per_prompt)
    )


def best_worst(group: Sequence[Scored], margin: float = 0.0) -> list[Pair]:
    """The first of the best and the first of the worst, or no pair."""
    best = max(group, key=lambda s: s.reward, default=None)
    worst = min(group, key=lambda s: s.reward, default=None)
    if best is None or worst is None or best.reward <= worst.reward or best.reward - worst.reward < margin:
        return []
    return [Pair(best, worst)]


def short_long(group: Sequence[Scored], threshold: float = 1.0, ratio: float = 1.5, most: int = 0) -> list[Pair]:
    """Kimi k1.5's pairs (arXiv:2501.12599, section 2.4): the shortest right completion above every one that is longer and
    wrong, or right and at least ``ratio`` times as long; the longest first.
    """
    right = [s for s in group if s.reward >= threshold]
    if not right:
        return []
    chosen = min(right, key=lambda s: s.length)
    rejected = {
        s.completion.text: s
        for s in group
        if s.length > chosen.length and (s.reward < threshold or s.length >= ratio * chosen.length)
    }
    ordered = sorted(rejected.values(), key=lambda s: -s.length)
    return [Pair(chosen, s) for s in ordered[: most or None]]


def _stored(
    stage: Stage, model: Path, task: Task, reward: RewardFunction | None, cfg: Draw,
    rule: Callable[[Sequence[Scored]], list[Pair]],
) -> Path:  # fmt: skip
    groups = scored(reward or task.reward, draw(stage, model, task, cfg))
    counts = {"prompts": len(groups), "completions": sum(map(len, groups))}
    whole = [[s for s in group if s.ends] for group in groups]
    found = [pair for group in whole for pair in rule(group)]
    counts |= {"that end": sum(map(len, whole)), "pairs": len(found)}
    return store(stage, [_row(*pair) for pair in found], counts=counts, source=made_from(model, task, reward, cfg))


def _row(chosen: Scored, rejected: Scored) -> dict[str, object]:
    return asked(
        chosen.example, chosen=list(chosen.completion.messages), rejected=list(rejected.completion.messages),
        score_chosen=chosen.reward, score_rejected=rejected.reward, length_chosen=chosen.length,
        length_rejected=rejected.length,
    )  # fmt: skip
