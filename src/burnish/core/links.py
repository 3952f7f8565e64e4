"""From scores to a loss: what is minimised for a pair of answers, or for an answer with a label.

A pair link sees the scores b and w of a better and a worse answer. Where the data say that the better one is preferred only
with probability p (target ``label``), the loss is the expected one, ``p f(b, w) + (1 - p) f(w, b)``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from burnish.core.scores import Score
from burnish.core.units import Pairs, unit_mean
from burnish.errors import InputError
from burnish.types import Batch, Metrics, Outputs


@dataclass(frozen=True)
class Judged:
    """The pairs of a batch as a link sees them, all [P].

    ``better`` and ``worse`` are scores, ``label`` the probability that the better answer is preferred (1 unless the data of
    a pair say otherwise), ``gap`` the difference of the targets ``score``, ``margin`` the better answer's target of that
    name; both are NaN where the data have none.
    """

    better: Tensor
    worse: Tensor
    label: Tensor
    gap: Tensor
    margin: Tensor

    @staticmethod
    def of(scores: Tensor, pairs: Pairs, batch: Batch) -> Judged:
        def target(name: str) -> Tensor:
            missing = scores.new_full(scores.shape, torch.nan)
            return batch.targets.get(name, missing).to(scores.dtype)

        label, score = target("label")[pairs.better], target("score")
        # A label is a pair's probability in a pair. Among K answers it is each answer's own, and the ranks decide.
        given = (pairs.share == 1) & ~torch.isnan(label)
        return Judged(
            better=scores[pairs.better],
            worse=scores[pairs.worse],
            label=torch.where(given, label, 1.0),
            gap=score[pairs.better] - score[pairs.worse],
            margin=target("margin")[pairs.better],
        )


class Link(ABC):
    """``__call__`` returns the loss of a micro-batch, ``sum of weights * loss``, with the [U] weights of :meth:`weigh`."""

    needs_statistics = False
    needs_mismatched = False

    @abstractmethod
    def weigh(self, batch: Batch) -> Tensor:
        """[U] what each unit weighs in the mean over the global mini-batch: 1 in sum. Raises InputError on unfit data."""

    @abstractmethod
    def sides(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """[B] each: what a row counts as chosen, and as rejected."""

    @abstractmethod
    def best(self, batch: Batch) -> Tensor:
        """[B] True for the answers that are worth imitating."""

    def measure(self, score: Score, outputs: Outputs, batch: Batch) -> Batch:  # noqa: ARG002 - most measure nothing
        """The global mini-batch with what this link has to know of all of it."""
        return batch

    @abstractmethod
    def __call__(self, scores: Tensor, trust: Tensor | None, batch: Batch) -> tuple[Tensor, Metrics]: ...


class PairLink(Link):
    """A loss of pairs: the mean over units of the mean over a unit's pairs. ``trust`` multiplies in from both rows."""

    @abstractmethod
    def preferred(self, better: Tensor, worse: Tensor, pairs: Judged) -> Tensor:
        """[P] the loss if ``better`` is preferred to ``worse``."""

    def belief(self, label: Tensor) -> Tensor:
        """[P] what is made of the probability that the better one is preferred."""
        return label

    def missing(self, pairs: Judged) -> str:  # noqa: ARG002 - most need nothing
        """What the data lack for this loss, and the fix; empty if nothing."""
        return ""

    def loss(self, pairs: Judged) -> Tensor:
        p = self.belief(pairs.label)
        stated = self.preferred(pairs.better, pairs.worse, pairs)
        return p * stated + (1 - p) * self.preferred(pairs.worse, pairs.better, pairs)

    def weigh(self, batch: Batch) -> Tensor:
        assert batch.ranks is not None
        if not bool((batch.ranks[batch.train] >= 0).any()):
            raise InputError(
                "this loss compares answers to one prompt, but no answer has a rank: "
                "give ranked answers, or take a loss for single labelled ones (kto, bco)"
            )
        pairs = Pairs.of(batch)
        lack = self.missing(Judged.of(torch.zeros(len(batch), dtype=torch.float64), pairs, batch))
        if lack:
            raise InputError(lack)
        return unit_mean(batch, pairs.unit)

    def sides(self, batch: Batch) -> tuple[Tensor, Tensor]:
        pairs, none = Pairs.of(batch), torch.zeros(len(batch), dtype=torch.float64, device=batch.units.device)
        return none.index_add(0, pairs.better, pairs.share), none.index_add(0, pairs.worse, pairs.share)

    def best(self, batch: Batch) -> Tensor:
        assert batch.ranks is not None
        return (batch.ranks == 0) & (self.sides(batch)[0] > 0)

    def __call__(self, scores: Tensor, trust: Tensor | None, batch: Batch) -> tuple[Tensor, Metrics]:
        pairs = Pairs.of(batch)
        weight = (batch.weights["preference"][pairs.unit] * pairs.share).to(scores.dtype)
        if trust is not None:
            weight = weight * trust[pairs.better] * trust[pairs.worse]
        return (weight * self.loss(Judged.of(scores, pairs, batch))).sum(), {}


@dataclass(frozen=True)
class Logistic(PairLink):
    """``-log sigma(b - w - m)``: Bradley-Terry (DPO, arXiv:2305.18290; reward models).

    The margin is ``m = margin + given * target margin + odds * log(target score gap)``: a constant (SimPO), the annotators'
    (Llama 2, arXiv:2307.09288), the gap of known scores (ODPO, arXiv:2402.10571). ``smoothing`` is the probability that a
    label is wrong (conservative DPO).
    """

    smoothing: float = 0.0
    margin: float = 0.0
    given: float = 0.0
    odds: float = 0.0

    def belief(self, label: Tensor) -> Tensor:
        return label * (1 - self.smoothing) + (1 - label) * self.smoothing

    def missing(self, pairs: Judged) -> str:
        if self.given and bool(torch.isnan(pairs.margin).any()):
            return "this loss wants a margin: give the better answer of every pair the score 'margin'"
        if self.odds and not bool((pairs.gap > 0).all()):
            return "this loss wants the gap of known scores: give every answer a 'score', higher for a better rank"
        return ""

    def preferred(self, better: Tensor, worse: Tensor, pairs: Judged) -> Tensor:
        distance = better - worse - self.margin
        if self.given:
            distance = distance - self.given * pairs.margin
        if self.odds:
            distance = distance - self.odds * torch.log(pairs.gap)
        return -logsigmoid(distance)
