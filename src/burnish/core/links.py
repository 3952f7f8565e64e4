"""From scores to a loss: what is minimised for a pair of answers.

A link sees the scores b and w of a better and a worse answer. Where the data say that the better one is preferred only with
probability p (target ``label``), the loss is the expected one, ``p f(b, w) + (1 - p) f(w, b)``. Links of labelled single
answers are in ``pointwise``, of distributions of scores in ``transport``.
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
    takes_trust = True
    """Whether rows can be weighted."""

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
        """The global mini-batch with what this link has to know of all of it, as constants."""
        return batch

    @abstractmethod
    def __call__(self, scores: Tensor, trust: Tensor | None, batch: Batch) -> tuple[Tensor, Metrics]: ...


class OfPairs(Link):
    """Links of ranked answers: the mean over units of the mean over all pairs of a unit. Units of ties only have no weight."""

    def weigh(self, batch: Batch) -> Tensor:
        assert batch.ranks is not None
        if not bool((batch.ranks[batch.train] >= 0).any()):
            raise InputError(
                "this loss compares answers to one prompt, but no answer has a rank: "
                "give ranked answers, or take a loss for single labelled ones (kto, bco)"
            )
        return unit_mean(batch, Pairs.of(batch).unit)

    def sides(self, batch: Batch) -> tuple[Tensor, Tensor]:
        pairs, none = Pairs.of(batch), torch.zeros(len(batch), dtype=torch.float64, device=batch.units.device)
        return none.index_add(0, pairs.better, pairs.share), none.index_add(0, pairs.worse, pairs.share)

    def best(self, batch: Batch) -> Tensor:
        assert batch.ranks is not None
        return (batch.ranks == 0) & (self.sides(batch)[0] > 0)


class PairLink(OfPairs):
    """A loss of single pairs. ``trust`` multiplies in from both rows."""

    @abstractmethod
    def loss(self, pairs: Judged) -> Tensor:
        """[P] the loss of each pair."""

    def missing(self, pairs: Judged) -> str:  # noqa: ARG002 - most need nothing
        """What the data lack for this loss, and the fix; empty if nothing."""
        return ""

    def weigh(self, batch: Batch) -> Tensor:
        weights = super().weigh(batch)
        nothing = torch.zeros(len(batch), dtype=torch.float64, device=batch.units.device)
        lack = self.missing(Judged.of(nothing, Pairs.of(batch), batch))
        if lack:
            raise InputError(lack)
        return weights

    def __call__(self, scores: Tensor, trust: Tensor | None, batch: Batch) -> tuple[Tensor, Metrics]:
        pairs = Pairs.of(batch)
        weight = (batch.weights["preference"][pairs.unit] * pairs.share).to(scores.dtype)
        if trust is not None:
            weight = weight * trust[pairs.better] * trust[pairs.worse]
        return (weight * self.loss(Judged.of(scores, pairs, batch))).sum(), {}


class Expected(PairLink):
    """``p f(b, w) + (1 - p) f(w, b)``, p being what is made of the label."""

    @abstractmethod
    def preferred(self, better: Tensor, worse: Tensor, pairs: Judged) -> Tensor:
        """[P] f: the loss if ``better`` is preferred to ``worse``."""

    def belief(self, label: Tensor) -> Tensor:
        """[P] p, of the probability that the better one is preferred according to the data."""
        return label

    def loss(self, pairs: Judged) -> Tensor:
        p = self.belief(pairs.label)
        stated = self.preferred(pairs.better, pairs.worse, pairs)
        return p * stated + (1 - p) * self.preferred(pairs.worse, pairs.better, pairs)


@dataclass(frozen=True)
class Logistic(Expected):
    """``-log sigma(b - w - m)``: Bradley-Terry (DPO, arXiv:2305.18290; reward models).

    The margin is ``m = margin + given * target margin + odds * log(gap of target scores)``: a constant (SimPO), the
    annotators' (Llama 2, arXiv:2307.09288), that of known scores (ODPO, arXiv:2402.10571). ``smoothing`` is the probability
    that a label is wrong (conservative DPO).
    """

    smoothing: float = 0.0
    margin: float = 0.0
    given: float = 0.0
    odds: float = 0.0

    def belief(self, label: Tensor) -> Tensor:
        return _smooth(label, self.smoothing)

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


@dataclass(frozen=True)
class Robust(Expected):
    """``((1 - e) f(b, w) - e f(w, b)) / (1 - 2e)``, f logistic (robust DPO, arXiv:2403.00409).

    Unbiased: its mean over labels that are flipped with probability ``flip`` is the loss of the true label. Smoothing
    expects flips; this inverts them.
    """

    flip: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.flip < 0.5:
            raise InputError(f"flip is the share of wrong labels, at least 0 and below 0.5, not {self.flip}")

    def belief(self, label: Tensor) -> Tensor:
        return (label - self.flip) / (1 - 2 * self.flip)

    def preferred(self, better: Tensor, worse: Tensor, pairs: Judged) -> Tensor:  # noqa: ARG002 - part of the interface
        return -logsigmoid(better - worse)


@dataclass(frozen=True)
class Square(Expected):
    """``(b - w - 1/(2 tau))^2`` (IPO, arXiv:2310.12036): a regression, so a margin that is large enough stops growing.

    With a probability p its minimum is at ``b - w = (2p - 1)/(2 tau)``: finite where the logistic loss has none.
    """

    tau: float = 0.1

    def preferred(self, better: Tensor, worse: Tensor, pairs: Judged) -> Tensor:  # noqa: ARG002 - part of the interface
        return (better - worse - 1 / (2 * self.tau)).square()


@dataclass(frozen=True)
class Hinge(Expected):
    """``max(0, delta - (b - w))`` (SLiC-HF, arXiv:2305.10425): nothing more to learn from a pair past its margin."""

    delta: float = 1.0

    def preferred(self, better: Tensor, worse: Tensor, pairs: Judged) -> Tensor:  # noqa: ARG002 - part of the interface
        return (self.delta - (better - worse)).clamp(min=0)


@dataclass(frozen=True)
class LogRatioModulated(Expected):
    """``sigma(-h/tau) (-log sigma(h)) + sigma(h/tau) e^{-h}``, ``h = b - w`` (DiscoPOP, arXiv:2406.08414), tau < 1.

    Logistic for pairs in the wrong order, exponential for the others. The second product is one exponential: apart, its
    factors overflow.
    """

    tau: float = 0.05

    def preferred(self, better: Tensor, worse: Tensor, pairs: Judged) -> Tensor:  # noqa: ARG002 - part of the interface
        h = better - worse
        return -torch.sigmoid(-h / self.tau) * logsigmoid(h) + torch.exp(logsigmoid(h / self.tau) - h)


@dataclass(frozen=True)
class Contrast(Expected):
    """``-log sigma(b) - 1/2 log sigma(-b) - 1/2 log sigma(-w)`` (NCA of a pair, arXiv:2402.05369).

    Noise contrast: each score is an own classification, so that the better answer's rises above 0 and does not only exceed
    the worse one's.
    """

    def preferred(self, better: Tensor, worse: Tensor, pairs: Judged) -> Tensor:  # noqa: ARG002 - part of the interface
        return -logsigmoid(better) - logsigmoid(-better) / 2 - logsigmoid(-worse) / 2


@dataclass(frozen=True)
class AnchoredZero(Expected):
    """``1 - sigma(b) + sigma(w)`` (APO-zero, arXiv:2408.06266): the better answer up, the worse one down.

    The 1, which the paper leaves out, puts the lower bound at 0 and moves no gradient.
    """

    def preferred(self, better: Tensor, worse: Tensor, pairs: Judged) -> Tensor:  # noqa: ARG002 - part of the interface
        return torch.sigmoid(-better) + torch.sigmoid(worse)


@dataclass(frozen=True)
class AnchoredDown(Expected):
    """``sigma(b) + 1 - sigma(b - w)`` (APO-down, arXiv:2408.06266): both down, the worse one further. The 1 as above."""

    def preferred(self, better: Tensor, worse: Tensor, pairs: Judged) -> Tensor:  # noqa: ARG002 - part of the interface
        return torch.sigmoid(better) + torch.sigmoid(worse - better)


@dataclass(frozen=True)
class SelfPlay(PairLink):
    """``(b - eta (P - 1/2))^2 + (w - eta (1/2 - P))^2`` (SPPO, arXiv:2405.00675), P the probability that b's answer wins.

    Each log-ratio goes to its own share of the win probability: a step of multiplicative weights towards an equilibrium.
    """

    eta: float = 1e3

    def loss(self, pairs: Judged) -> Tensor:
        target = self.eta * (pairs.label - 0.5)
        return (pairs.better - target).square() + (pairs.worse + target).square()


@dataclass(frozen=True)
class ReverseKL(PairLink):
    """``KL(sigma(b - w) || p)`` (EXO of a pair, arXiv:2402.00856): seeks the mode where DPO's cross-entropy covers.

    p is the label, smoothed: at 1 the loss would be infinite.
    """

    smoothing: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 < self.smoothing < 1:
            raise InputError(f"smoothing has to lie between 0 and 1, or the loss is infinite, not {self.smoothing}")

    def loss(self, pairs: Judged) -> Tensor:
        return bernoulli_kl(pairs.better - pairs.worse, torch.logit(_smooth(pairs.label, self.smoothing)))


class OfGap(PairLink):
    """Losses of ``a = b - w`` and ``g = eta`` times the gap of the target scores: how much better matters, not only which."""

    def missing(self, pairs: Judged) -> str:
        if bool(torch.isnan(pairs.gap).any()):
            return "this loss wants the gap of known scores: give every answer of a pair a 'score'"
        return ""


@dataclass(frozen=True)
class GapKL(OfGap):
    """``KL(sigma(g) || sigma(a))`` (RPO, arXiv:2406.11704), with slope ``sigma(a) - sigma(g)``: 0 at a = g, DPO for g to inf.

    ``backward`` is NeMo's name of this direction; forward is ``KL(sigma(a) || sigma(g))``.
    """

    eta: float = 1.0
    backward: bool = True

    def loss(self, pairs: Judged) -> Tensor:
        mine, known = pairs.better - pairs.worse, self.eta * pairs.gap
        return bernoulli_kl(known, mine) if self.backward else bernoulli_kl(mine, known)


@dataclass(frozen=True)
class GapSquare(OfGap):
    """``(a - g)^2`` (RPO with a squared distance, arXiv:2406.11704; REBEL's regression, arXiv:2404.16767)."""

    eta: float = 1.0

    def loss(self, pairs: Judged) -> Tensor:
        return (pairs.better - pairs.worse - self.eta * pairs.gap).square()


def bernoulli_kl(a: Tensor, b: Tensor) -> Tensor:
    """``KL(sigma(a) || sigma(b))`` of two coins given by their logits."""
    heads = torch.sigmoid(a) * (logsigmoid(a) - logsigmoid(b))
    return heads + torch.sigmoid(-a) * (logsigmoid(-a) - logsigmoid(-b))


def _smooth(label: Tensor, wrong: float) -> Tensor:
    return label * (1 - wrong) + (1 - label) * wrong
