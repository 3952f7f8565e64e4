"""Reward-model losses that are no link on pairs: a whole ranking, attributes, single verdicts, and penalties on scores.

A reward model is a language model with the head ``score`` at the last token of an answer, where all of its text has been
read. The pairwise loss on it is :class:`burnish.core.preference.Preference` with that head for a score.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from burnish.core.aggregate import Aggregate, seq_mean_token_mean
from burnish.core.links import Expected, Judged
from burnish.core.units import Pairs, labels, unit_mean
from burnish.errors import InputError, unknown
from burnish.types import Batch, Head, Loss, Metrics, Needs, Outputs, needs_of

SCORE = "score"
"""The head of a reward model."""


def _sums(values: Tensor, weights: Tensor) -> tuple[float, float]:
    return float((values.detach() * weights.to(values.dtype)).sum()), float(weights.sum())


def _unit_of(batch: Batch) -> Tensor:
    """[B] the place of each row's unit in ``batch.unit_ids``."""
    return torch.searchsorted(batch.unit_ids, batch.units)


# --- rankings ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlackettLuce:
    """``-sum_i log( e^{r_i} / (e^{r_i} + sum_{j worse than i} e^{r_j}) )`` over the ranked answers of one prompt.

    The likelihood of drawing the whole ranking, best first, each time among those that are left (K-wise loss of
    arXiv:2301.11270; Starling's reward model has K = 7); the mean over prompts. An answer competes with those that are
    strictly worse, so ties say nothing about each other, as they make no pair. With K = 2 it is Bradley-Terry. Neighbour:
    Bradley-Terry on all pairs counts a comparison with each worse answer apart, and weighs a prompt 1 whatever its K.
    """

    needs = Needs(logprobs=False, heads={SCORE: Head(at="last")})

    def prepare(self, batch: Batch) -> Batch:
        competing = _unit_of(batch)[_competing(batch)[0]]
        return replace(batch, weights={**batch.weights, "ranking": unit_mean(batch, competing)})

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Metrics]:
        scores = outputs.heads[SCORE]
        rows, worse = _competing(batch)
        chosen, rivals = scores[rows], torch.where(worse[rows], scores, -torch.inf)
        nll = torch.logsumexp(torch.cat([chosen[:, None], rivals], 1), 1) - chosen
        weights = batch.weights["ranking"].to(scores.dtype)[_unit_of(batch)[rows]]
        units = float(len(torch.unique(batch.units[rows])))
        return (weights * nll).sum(), {"loss": (float(nll.detach().sum()), units), **watch(scores, batch)}


def _competing(batch: Batch) -> tuple[Tensor, Tensor]:
    """[N] the rows that beat another one of their unit, and [B, B] who is worse than whom."""
    pairs = Pairs.of(batch)
    worse = torch.zeros(len(batch), len(batch), dtype=torch.bool, device=batch.units.device)
    worse[pairs.better, pairs.worse] = True
    return torch.unique(pairs.better), worse


def watch(scores: Tensor, batch: Batch) -> Metrics:
    """How often the better answer has the higher score (equal scores count half), by how much, and the scores.

    Each prompt counts 1, shared by its pairs.
    """
    pairs = Pairs.of(batch)
    better, worse = scores.detach()[pairs.better], scores.detach()[pairs.worse]
    gap = better - worse
    return {
        "reward/accuracy": _sums((gap > 0).to(gap.dtype) + (gap == 0).to(gap.dtype) / 2, pairs.share),
        "reward/margin": _sums(gap, pairs.share),
        "reward/chosen": _sums(better, pairs.share),
        "reward/rejected": _sums(worse, pairs.share),
    }


@dataclass(frozen=True)
class Focal(Expected):
    """``-(1 - 2 max(0, P - 1/2))^gamma log P`` with ``P = sigma(b - w)`` (InternLM2, arXiv:2403.17297).

    Pairs that are ordered well already lose their weight; where P <= 1/2 it is 1. Neighbour: ``Logistic`` is gamma = 0.
    """

    gamma: float = 2.0

    def preferred(self, better: Tensor, worse: Tensor, pairs: Judged) -> Tensor:  # noqa: ARG002 - part of the interface
        log_p = logsigmoid(better - worse)
        # 1 - 2 (P - 1/2) = 2 (1 - P), and 1 - P is exact as sigma(w - b) where P rounds to 1.
        return -(2 * torch.sigmoid(worse - better)).clamp(max=1).pow(self.gamma) * log_p


# --- penalties -----------------------------------------------------------------------------------


class Penalty(Protocol):
    """A term on the scores of a pair, ``(better [P], worse [P]) -> [P]``."""

    def __call__(self, better: Tensor, worse: Tensor, /) -> Tensor: ...


@dataclass(frozen=True)
class Centre:
    """``coef (r_w + r_l)^2``: comparisons leave the zero of the scores open, this sets it (arXiv:2312.09244)."""

    coef: float = 0.01

    def __call__(self, better: Tensor, worse: Tensor) -> Tensor:
        return self.coef * (better + worse).square()


@dataclass(frozen=True)
class L2:
    """``coef (r_w^2 + r_l^2)``: a zero-mean Gaussian prior on scores (ChatGLM-RLHF, arXiv:2404.00934).

    Neighbour: :class:`Centre` costs nothing when the two scores are far apart on both sides of 0.
    """

    coef: float = 0.01

    def __call__(self, better: Tensor, worse: Tensor) -> Tensor:
        return self.coef * (better.square() + worse.square())


@dataclass(frozen=True)
class Barrier:
    """``-coef (log(limit + x) + log(limit - x))``, the mean over both scores: they stay inside (InternLM2, arXiv:2403.17297).

    Within ``edge`` of the limit, and beyond it, the term goes on as its tangent: a step of the optimizer may jump over a
    barrier, and only a slope brings the score back. The mean of the two scores is a choice (the paper names one score x).
    """

    coef: float = 0.02
    limit: float = 5.0
    edge: float = 0.01

    def __call__(self, better: Tensor, worse: Tensor) -> Tensor:
        return self.coef * (self._one(better) + self._one(worse)) / 2

    def _one(self, x: Tensor) -> Tensor:
        last = self.limit - self.edge
        inside = x.clamp(-last, last)
        term = -(torch.log(self.limit + inside) + torch.log(self.limit - inside))
        slope = 1 / self.edge - 1 / (self.limit + last)
        return term + slope * (x.abs() - last).clamp(min=0)


PENALTIES = (Centre, L2, Barrier)
"""What a penalty in a configuration may be."""


def penalty(name: str) -> Penalty:
    """The penalty of that class name, with its defaults. Raises InputError naming the nearest one."""
    found = {cls.__name__: cls for cls in PENALTIES}
    if name not in found:
        raise unknown("penalty", name, found)
    return found[name]()


@dataclass(frozen=True)
class Penalised:
    """``loss + sum of penalties``, each the mean over pairs of a prompt and over prompts. Metrics add ``reward/penalty``."""

    loss: Loss
    penalties: tuple[Penalty, ...]

    @property
    def needs(self) -> Needs:
        return needs_of(self.loss)

    def prepare(self, batch: Batch) -> Batch:
        prepare = getattr(self.loss, "prepare", None)
        batch = prepare(batch) if prepare else batch
        return replace(batch, weights={**batch.weights, "penalty": unit_mean(batch, Pairs.of(batch).unit)})

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Metrics]:
        loss, metrics = self.loss(outputs, batch)
        scores, pairs = outputs.heads[SCORE], Pairs.of(batch)
        terms = [penalty(scores[pairs.better], scores[pairs.worse]) for penalty in self.penalties]
        total = torch.stack(terms).sum(0)
        weights = (batch.weights["penalty"][pairs.unit] * pairs.share).to(total.dtype)
        return loss + (weights * total).sum(), {**metrics, "reward/penalty": _sums(total, pairs.share)}


# --- single answers ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Attributes:
    """``1/N sum (s_a(x, y) - target_a)^2`` over the N targets that are given (Nemotron-4, arXiv:2406.11704).

    The head ``score`` has one output for each of ``names``, in order; a target that is missing (NaN) is left out.
    Neighbour: :class:`Pointwise` fits one probability.
    """

    names: tuple[str, ...]

    @property
    def needs(self) -> Needs:
        return Needs(logprobs=False, heads={SCORE: Head(len(self.names), at="last")})

    def prepare(self, batch: Batch) -> Batch:
        """Raises InputError where no row has any of the targets."""
        given = int(self._given(batch)[1].sum())
        if not given:
            known = ", ".join(sorted(batch.targets)) or "none"
            raise InputError(
                f"no answer has a score of {', '.join(self.names)}: the data have {known}; name one of those"
            )
        weights = torch.full((len(batch.unit_ids),), 1 / given, dtype=torch.float64, device=batch.units.device)
        return replace(batch, weights={**batch.weights, "attributes": weights})

    def _given(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """[B, A] the targets, 0 where missing, and which are there."""
        missing = torch.full(batch.units.shape, torch.nan, dtype=torch.float64, device=batch.units.device)
        targets = torch.stack([batch.targets.get(name, missing) for name in self.names], 1)
        given = ~torch.isnan(targets) & batch.train[:, None]
        return torch.where(given, targets, 0.0), given

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Metrics]:
        scores = outputs.heads[SCORE].reshape(len(batch), len(self.names))  # a head of one output is [B]
        targets, given = self._given(batch)
        error = torch.where(given, scores - targets.to(scores.dtype), 0.0).square()
        weights = batch.weights["attributes"].to(scores.dtype)[_unit_of(batch)]
        metrics: Metrics = {"loss": _sums(error, given)}
        for place, name in enumerate(self.names):
            metrics[f"attributes/{name}"] = _sums(error[:, place], given[:, place])
        return (weights * error.sum(1)).sum(), metrics


@dataclass(frozen=True)
class Pointwise:
    """``-(p log sigma(r) + (1 - p) log sigma(-r))``, the mean over answers with a label p: an outcome reward model.

    Labels are targets named "label", anywhere between 0 and 1; of a ranking the best answers are good ones. Neighbour:
    Bradley-Terry compares answers to one prompt, so it knows nothing of how good they are.
    """

    needs = Needs(logprobs=False, heads={SCORE: Head(at="last")})

    def prepare(self, batch: Batch) -> Batch:
        """Raises InputError where no answer has a label."""
        known = _labelled(batch)
        weights = torch.full((len(batch.unit_ids),), 1 / float(known.sum()), dtype=torch.float64, device=known.device)
        return replace(batch, weights={**batch.weights, "pointwise": weights})

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Metrics]:
        scores, known = outputs.heads[SCORE], ~torch.isnan(labels(batch)) & batch.train
        target = torch.where(known, labels(batch), 0.0).to(scores.dtype)
        error = torch.where(known, binary_cross_entropy_with_logits(scores, target, reduction="none"), 0.0)
        weights = batch.weights["pointwise"].to(scores.dtype)[_unit_of(batch)]
        right = ((scores > 0) == (target > 0.5)).to(scores.dtype)
        return (weights * error).sum(), {"loss": _sums(error, known), "reward/right": _sums(right, known)}


@dataclass(frozen=True)
class PointwiseTokens:
    """:class:`Pointwise` with a score behind every token, each with the label of the whole answer; the last one is read.

    The outcome model of arXiv:2305.20050: on the way it learns how likely the answer is to come out right. How the tokens
    share the weight is a choice (the paper does not say): every answer weighs the same.
    """

    aggregate: Aggregate = seq_mean_token_mean

    needs = Needs(logprobs=False, heads={SCORE: Head(at="steps")})

    def prepare(self, batch: Batch) -> Batch:
        """Raises InputError where no answer has a label."""
        weights = self.aggregate(replace(batch, train=_labelled(batch)), batch.mask)
        return replace(batch, weights={**batch.weights, "pointwise": weights})

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Metrics]:
        scores, known = outputs.heads[SCORE], ~torch.isnan(labels(batch)) & batch.train
        target = torch.where(known, labels(batch), 0.0).to(scores.dtype)
        error = binary_cross_entropy_with_logits(scores, target[:, None].expand_as(scores), reduction="none")
        weights = batch.weights["pointwise"].to(scores.dtype)
        last = scores[torch.arange(len(batch), device=scores.device), batch.lengths - 1]
        right = ((last > 0) == (target > 0.5)).to(scores.dtype)
        metrics: Metrics = {"loss": _sums(error, batch.mask & known[:, None]), "reward/right": _sums(right, known)}
        return (weights * error).sum(), metrics


def _labelled(batch: Batch) -> Tensor:
    """[B] which answers have a label. Raises InputError where none has."""
    known = ~torch.isnan(labels(batch)) & batch.train
    if not bool(known.any()):
        raise InputError("no answer has a label: give each a 'label' between 0 and 1, or a rank")
    return known
