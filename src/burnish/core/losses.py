"""Losses: values that take what the model computed and the batch, and return a scalar that adds up over any split."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from burnish.core.aggregate import Aggregate, token_mean
from burnish.core.kl import KL, k1, k3
from burnish.core.surrogates import Surrogate
from burnish.types import Batch, Metrics, Outputs


def _sums(values: Tensor, mask: Tensor) -> tuple[float, float]:
    return float((values.detach() * mask).sum()), float(mask.sum())


@dataclass(frozen=True)
class NLL:
    """``sum_t w_t (-log pi(y_t))`` over masked tokens: supervised fine-tuning, behaviour cloning, pretraining."""

    aggregate: Aggregate = token_mean

    def prepare(self, batch: Batch) -> Batch:
        return replace(batch, weights={**batch.weights, "nll": self.aggregate(batch, batch.mask)})

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Metrics]:
        nll = -outputs.logprobs
        loss = (batch.weights["nll"].to(nll.dtype) * nll).sum()
        metrics: Metrics = {"loss": _sums(nll, batch.mask), "entropy": _sums(outputs.entropy, batch.mask)}
        return loss, metrics


@dataclass(frozen=True)
class PolicyLoss:
    """``sum_t w_t (S_t(A) + beta KL_t - alpha H_t)``: the one policy-gradient loss, its parts chosen by the algorithm."""

    surrogate: Surrogate
    aggregate: Aggregate
    kl: KL | None = None
    entropy: float = 0.0

    def prepare(self, batch: Batch) -> Batch:
        return replace(batch, weights={**batch.weights, "policy": self.aggregate(batch, batch.mask)})

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Metrics]:
        assert batch.advantages is not None
        mask = batch.mask & batch.train[:, None]
        batch, outputs = _chosen(batch, outputs, mask)
        logprobs, weights = outputs.logprobs, batch.weights["policy"].to(outputs.logprobs.dtype)
        assert batch.advantages is not None
        per_token, metrics = self.surrogate(logprobs, batch.old_logprobs, batch.advantages.to(logprobs.dtype), mask)
        metrics = {**metrics, **_watch(outputs, batch, mask)}
        if self.kl is not None:
            assert batch.ref_logprobs is not None
            per_token = per_token + self.kl.coef * self.kl.estimator(logprobs, batch.ref_logprobs)
        if self.entropy:
            per_token = per_token - self.entropy * outputs.entropy
        loss = (weights * per_token).sum()
        return loss, {**metrics, "loss": _sums(per_token, mask)}


def _chosen(batch: Batch, outputs: Outputs, mask: Tensor) -> tuple[Batch, Outputs]:
    """Log-probs of tokens outside the mask set to 0: an exp() of theirs may overflow, and 0 * inf is not 0."""

    def only(values: Tensor | None) -> Tensor | None:
        return None if values is None else torch.where(mask, values, 0.0)

    batch = replace(
        batch,
        old_logprobs=only(batch.old_logprobs),
        ref_logprobs=only(batch.ref_logprobs),
        sampler_logprobs=only(batch.sampler_logprobs),
    )
    return batch, replace(outputs, logprobs=torch.where(mask, outputs.logprobs, 0.0))


def _watch(outputs: Outputs, batch: Batch, mask: Tensor) -> Metrics:
    """Metrics every policy loss reports: entropy, KL to the reference (k1 and k3), sampler against trainer."""
    metrics: Metrics = {"entropy": _sums(outputs.entropy, mask)}
    current = outputs.logprobs.detach()
    if batch.ref_logprobs is not None:
        metrics["kl/ref"] = _sums(k3(current, batch.ref_logprobs), mask)
        metrics["kl/ref_k1"] = _sums(k1(current, batch.ref_logprobs), mask)
    if batch.sampler_logprobs is not None:
        trainer = current if batch.old_logprobs is None else batch.old_logprobs
        # Samples come from the sampler, so KL(sampler || trainer) is the direction these tokens can estimate.
        metrics["mismatch/kl"] = _sums(k3(batch.sampler_logprobs.to(trainer.dtype), trainer), mask)
        gap = torch.where(mask, (batch.sampler_logprobs - trainer).abs(), 0.0)
        metrics["mismatch/abs"] = _sums(gap, mask)
    return metrics
