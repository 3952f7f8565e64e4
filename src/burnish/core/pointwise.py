"""Links of single answers with a label, good or bad: thumbs up and down, from pairs or without any.

What they compare a score with is a number of the whole mini-batch, a constant that ``measure`` writes before the gradient.
Pairs and rankings without labels count as labelled: the best answer of a unit is good, the others are bad.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from burnish.core.links import Link
from burnish.core.scores import Score
from burnish.core.units import labels
from burnish.errors import InputError
from burnish.types import Batch, Metrics, Outputs


def labelled(batch: Batch) -> Tensor:
    """[B] True for trained rows of which it is known whether they are good."""
    return batch.train & ~torch.isnan(labels(batch))


class OfLabels(Link):
    """Links of labelled answers: a mean over rows, whichever units they are in."""

    def sides(self, batch: Batch) -> tuple[Tensor, Tensor]:
        label, known = labels(batch), labelled(batch)
        return (known & (label > 0.5)).double(), (known & (label < 0.5)).double()

    def best(self, batch: Batch) -> Tensor:
        return self.sides(batch)[0] > 0


class PointLink(OfLabels):
    """A loss of single scores against one baseline. ``label`` may be a probability: the loss is the expected one."""

    needs_statistics = True

    @abstractmethod
    def baseline(self, scores: Tensor, batch: Batch) -> Tensor:
        """[] the number of the global mini-batch."""

    @abstractmethod
    def loss(self, scores: Tensor, label: Tensor, baseline: Tensor) -> Tensor:
        """[N] the loss of each labelled row."""

    def weigh(self, batch: Batch) -> Tensor:
        place, known = torch.searchsorted(batch.unit_ids, batch.units), labelled(batch).double()
        if not bool(known.any()):
            raise InputError("this loss reads labels, but no answer has one: give each a label, or rank them")
        return known.new_zeros(len(batch.unit_ids)).index_add(0, place, known) / known.sum()

    def measure(self, score: Score, outputs: Outputs, batch: Batch) -> Batch:
        baseline = self.baseline(score(outputs, batch), batch).expand(len(batch))
        return replace(batch, extras={**batch.extras, "baseline": ("row", baseline)})

    def __call__(self, scores: Tensor, trust: Tensor | None, batch: Batch) -> tuple[Tensor, Metrics]:
        known, place = labelled(batch), torch.searchsorted(batch.unit_ids, batch.units)
        weights = batch.weights["preference"]
        rows = weights.new_zeros(len(weights)).index_add(0, place, known.to(weights.dtype))
        weight = (weights / rows.clamp(min=1))[place][known].to(scores.dtype)
        if trust is not None:
            weight = weight * trust[known]
        baseline = batch.extra("baseline").to(scores.dtype)[known]
        loss = self.loss(scores[known], labels(batch)[known].to(scores.dtype), baseline)
        return (weight * loss).sum(), {"reward/baseline": (float(baseline.sum()), float(known.sum()))}


@dataclass(frozen=True)
class Prospect(PointLink):
    """``desirable (1 - sigma(s - z))`` for a good answer, ``undesirable (1 - sigma(z - s))`` for a bad one (KTO).

    arXiv:2402.01306: utility relative to a reference point, losses felt as gains are. z is beta KL(pi || pi_ref), estimated
    by the mean score of answers to other prompts (``extras["mismatched"]``) over the whole mini-batch, and never below 0;
    no gradient flows through it.
    """

    desirable: float = 1.0
    undesirable: float = 1.0

    needs_mismatched = True

    def baseline(self, scores: Tensor, batch: Batch) -> Tensor:
        return scores[batch.extra("mismatched")].mean().clamp(min=0)

    def loss(self, scores: Tensor, label: Tensor, baseline: Tensor) -> Tensor:
        good, bad = torch.sigmoid(baseline - scores), torch.sigmoid(scores - baseline)
        return label * self.desirable * good + (1 - label) * self.undesirable * bad


@dataclass(frozen=True)
class Classify(PointLink):
    """``-log sigma(s - d)`` for a good answer, ``-log sigma(d - s)`` for a bad one (BCO, arXiv:2404.04656).

    The shift d is half the sum of the mean scores of both kinds, over the mini-batch: the paper's moving average of it
    lags behind a policy that moves, and would be a state to save. Where a kind is missing, the other's mean alone.
    """

    def baseline(self, scores: Tensor, batch: Batch) -> Tensor:
        known = labelled(batch)
        good = labels(batch)[known].to(scores.dtype)
        means = [(kind * scores[known]).sum() / kind.sum() for kind in (good, 1 - good) if bool(kind.any())]
        return torch.stack(means).mean()

    def loss(self, scores: Tensor, label: Tensor, baseline: Tensor) -> Tensor:
        return -label * logsigmoid(scores - baseline) - (1 - label) * logsigmoid(baseline - scores)
