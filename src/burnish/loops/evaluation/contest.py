"""Two models on the same prompts: whose replies does a judge or a reward prefer?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any, NamedTuple

from burnish.core.intervals import estimate, sign_test
from burnish.loops.evaluation.measures import Item
from burnish.rewards.base import Composable, RewardFunction
from burnish.rewards.pairwise import PairwiseJudge
from burnish.types import Completion, Example

EQUAL = 1e-9
"""Rewards closer than this are equal."""


class Verdict(NamedTuple):
    """Of the replies to one prompt the shares that win, tie and lose, and that tie because the order decided."""

    win: float
    tie: float
    loss: float
    swapped: float


def judged(reward: RewardFunction, items: Sequence[Item]) -> list[list[float]]:
    """The reward of every reply, [items][replies], each group judged together."""
    return [_totals(reward, item.example, item.replies) for item in items]


def contest(reward: Composable, ours: Sequence[Item], theirs: Sequence[Item]) -> list[Verdict]:
    """Our reply j against their reply j to each prompt, judged in both orders: where these disagree, it is a tie.

    A pairwise judge is asked once in each order; any other reward judges the two as a group.
    """
    if isinstance(reward, PairwiseJudge):  # the orders are exchanged here
        reward = replace(reward, comparing=replace(reward.comparing, both_orders=False))
    found = []
    for own, other in zip(ours, theirs, strict=True):
        pairs = list(zip(own.replies, other.replies, strict=True))
        votes = [_votes(reward, own.example, a, b) for a, b in pairs]
        ends = [both[0] if both[0] == both[1] else 0 for both in votes]
        win, tie, loss = (fmean(end == wanted for end in ends) for wanted in (1, 0, -1))
        found.append(Verdict(win, tie, loss, swapped=fmean({1, -1} == set(both) for both in votes)))
    return found


def _votes(reward: RewardFunction, example: Example, a: Completion, b: Completion) -> tuple[int, int]:
    """1 where ``a`` is preferred, -1 where ``b`` is, 0 for neither: asked as (a, b), and as (b, a)."""
    first, second = _totals(reward, example, (a, b)), _totals(reward, example, (b, a))
    return _sign(first[0] - first[1]), _sign(second[1] - second[0])


def _totals(reward: RewardFunction, example: Example, replies: Sequence[Completion]) -> list[float]:
    return [sum(part.value for part in parts) for parts in reward(example, replies)]


def _sign(x: float) -> int:
    return (x > EQUAL) - (x < -EQUAL)


def outcome(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """The win rate, ties half, with its 95% interval over prompts; wins, ties and losses; ``p`` of the exact sign test.

    The test counts the prompts on which more replies win than lose, and the other way round. ``swapped`` is the share of
    comparisons in which the judge preferred a place.
    """
    sides = [_sign(v.win - v.loss) for v in verdicts]
    return {
        "win_rate": estimate([(v.win + v.tie / 2, 1.0) for v in verdicts]),
        **{name: fmean(getattr(v, name) for v in verdicts) for name in Verdict._fields},
        "p": sign_test(sides.count(1), sides.count(-1)),
    }
