"""Preference losses as products: score x link x optional NLL, each a small choice.

Minimised per optimizer step: ``coef * mean over units of link(scores) + nll * NLL of the best answers``. Scores (implicit
rewards) are in ``scores``, links in ``links``; what a loss needs (a reference, a head, statistics of the batch) follows from
its parts. The string under each constant is its documentation: ``burnish explain NAME`` prints it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from burnish.core.aggregate import Aggregate, seq_mean_token_mean
from burnish.core.links import Link, Logistic
from burnish.core.scores import LogRatio, Score
from burnish.core.units import Pairs
from burnish.types import Batch, Metrics, Needs, Outputs

Trust = Callable[[Outputs, Batch], Tensor]
"""``(outputs, batch) -> [B]``: how much a row counts, a constant."""


@dataclass(frozen=True)
class Preference:
    """``coef * link(score) + nll * mean of -log pi(best answers)``, a loss of comparisons.

    The score reads the tokens of its own mask; the NLL reads all of ``batch.mask``, of the best answer of every unit,
    averaged by ``aggregate``. ``trust`` weighs every row by a number in which no gradient flows.
    """

    score: Score
    link: Link
    coef: float = 1.0
    nll: float = 0.0
    aggregate: Aggregate = seq_mean_token_mean
    trust: Trust | None = None

    @property
    def needs(self) -> Needs:
        return Needs(
            logprobs=self.score.needs_logprobs or bool(self.nll) or self.trust is not None,
            reference=self.score.needs_reference,
            statistics=self.link.needs_statistics,
            mismatched=self.link.needs_mismatched,
            heads=self.score.heads,
        )

    def prepare(self, batch: Batch, outputs: Outputs | None = None) -> Batch:
        """Weights of the global mini-batch, and its statistics where ``needs.statistics`` (``outputs`` are then read)."""
        weights = {**batch.weights, "preference": self.link.weigh(batch)}
        if self.nll:
            imitated = replace(batch, train=batch.train & self.link.best(batch))
            weights["nll"] = self.aggregate(imitated, batch.mask)
        batch = replace(batch, weights=weights)
        if self.needs.statistics:
            assert outputs is not None
            with torch.no_grad():
                batch = self.link.measure(self.score, outputs, batch)
        return batch

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Metrics]:
        scores = self.score(outputs, batch)
        trust = None if self.trust is None else self.trust(outputs, batch).detach()
        linked, metrics = self.link(scores, trust, batch)
        loss = self.coef * linked
        if self.nll:
            nll = -torch.where(batch.mask, outputs.logprobs, 0.0)
            loss = loss + self.nll * (batch.weights["nll"].to(nll.dtype) * nll).sum()
            metrics = {**metrics, "nll": _sums(nll, batch.mask & self.link.best(batch)[:, None])}
        metrics = {**metrics, **self._watch(scores.detach(), outputs, batch)}
        return loss, {**metrics, "loss": (float(loss.detach()), float(batch.weights["preference"].sum()))}

    def _watch(self, scores: Tensor, outputs: Outputs, batch: Batch) -> Metrics:
        """Scores and log-probs (of whole answers, in nats) of both sides; margin and accuracy over all pairs."""
        pairs, (chosen, rejected) = Pairs.of(batch), self.link.sides(batch)
        margin = scores[pairs.better] - scores[pairs.worse]
        right = (margin > 0).to(scores.dtype) + (margin == 0).to(scores.dtype) / 2
        metrics: Metrics = {
            "reward/chosen": _sums(scores, chosen),
            "reward/rejected": _sums(scores, rejected),
            "reward/margin": _sums(margin, pairs.share),
            "reward/accuracy": _sums(right, pairs.share),
        }
        if self.needs.logprobs:
            logprobs = torch.where(batch.mask, outputs.logprobs.detach(), 0.0).sum(1)
            metrics["logprobs/chosen"] = _sums(logprobs, chosen)
            metrics["logprobs/rejected"] = _sums(logprobs, rejected)
        return metrics


def _sums(values: Tensor, weight: Tensor) -> tuple[float, float]:
    return float((values.detach() * weight).sum()), float(weight.sum())


DPO = Preference(LogRatio(0.1), Logistic())
"""DPO, direct preference optimization (arXiv:2305.18290)."""
