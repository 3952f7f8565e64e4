"""Several rewards as one: what they agree on is harder to fool than any of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from burnish.errors import InputError
from burnish.rewards.base import Composable
from burnish.types import Completion, Example, Reward, outcome

Combine = Callable[[Sequence[float]], float]
"""One number from those of the members, in their order."""


def average(scores: Sequence[float]) -> float:
    """The mean."""
    return statistics.fmean(scores)


def lowest(scores: Sequence[float]) -> float:
    """The smallest: the policy has to please the most critical member (worst-case optimisation, arXiv:2310.02743)."""
    return min(scores)


@dataclass(frozen=True)
class LessVariance:
    """``mean - coef var``: uncertainty-weighted optimisation (arXiv:2310.02743), with the variance over members."""

    coef: float = 0.1

    def __call__(self, scores: Sequence[float]) -> float:
        return statistics.fmean(scores) - self.coef * statistics.pvariance(scores)


@dataclass(frozen=True)
class LessDeviation:
    """``mean - coef std``: a lower confidence bound. Neighbour: :class:`LessVariance` depends on the unit of the scores."""

    coef: float = 1.0

    def __call__(self, scores: Sequence[float]) -> float:
        return statistics.fmean(scores) - self.coef * statistics.pstdev(scores)


@dataclass(frozen=True)
class Ensemble(Composable):
    """The members' whole rewards of each completion, combined; one part, "ensemble". Raises InputError without members.

    Members should speak in one unit: scale them (``0.5 * model``) or train them alike.
    """

    members: tuple[Composable, ...]
    combine: Combine = average

    def __post_init__(self) -> None:
        if not self.members:
            raise InputError("an ensemble of no rewards scores nothing: give at least one member")

    def __call__(self, example: Example, completions: Sequence[Completion], /) -> list[Reward]:
        columns = [[sum(part.value for part in r) for r in member(example, completions)] for member in self.members]
        return [outcome(self.combine(scores), "ensemble") for scores in zip(*columns, strict=True)]
