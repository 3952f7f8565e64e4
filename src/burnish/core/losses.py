"""Losses: values that take what the model computed and the batch, and return a scalar that adds up over any split."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from burnish.core.aggregate import Aggregate, token_mean
from burnish.core.corrections import Correction
from burnish.core.episodes import Episodes, chosen
from burnish.core.kl import KL, k1, k3
from burnish.core.surrogates import Surrogate
from burnish.types import Batch, Metrics, Outputs


def _sums(values: Tensor, mask: Tensor) -> tuple[float, float]:
    return float((values.detach() * mask).sum()), float(mask.sum())


@dataclass(frozen=True)
class NLL:
    """``coef sum_t w_t (-log pi(y_t))`` over masked tokens: supervised fine-tuning, behaviour cloning, pretraining."""

    aggregate: Aggregate = token_mean
    coef: float = 1.0

    def prepare(self, batch: Batch) -> Batch:
        return replace(batch, weights={**batch.weights, "nll": self.aggregate(batch, batch.mask)})

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Metrics]:
        nll = -outputs.logprobs
        loss = self.coef * (batch.weights["nll"].to(nll.dtype) * nll).sum()
        metrics: Metrics = {"loss": _sums(nll, batch.mask), "entropy": _sums(outputs.entropy, batch.mask)}
        return loss, metrics


@dataclass(frozen=True)
class PolicyLoss:
    """``sum_t w_t (c_t S_t(A) + beta KL_t - alpha H_t)``: the one policy-gradient loss, its parts chosen by the algorithm.

    ``imitation`` adds that many times the mean negative log-likelihood of the tokens of episodes with a positive reward
    (VAPO, arXiv:2504.05118). A coefficient of the KL that adapts is in ``batch.extras["kl_coef"]`` [B].
    """

    surrogate: Surrogate
    aggregate: Aggregate
    kl: KL | None = None
    entropy: float = 0.0
    correction: Correction | None = None
    imitation: float = 0.0

    def prepare(self, batch: Batch) -> Batch:
        weights = {**batch.weights, "policy": self.aggregate(batch, batch.mask)}
        if self.imitation:
            weights["imitation"] = token_mean(batch, batch.mask & _positive(batch)[:, None])
        return replace(batch, weights=weights)

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Metrics]:
        mask = chosen(batch)
        batch, outputs = _chosen(batch, outputs, mask)
        logprobs = outputs.logprobs
        per_token, metrics = self.surrogate(logprobs, batch, mask)
        if self.correction is not None:
            old = logprobs.detach() if batch.old_logprobs is None else batch.old_logprobs.to(logprobs.dtype)
            factor, found = self.correction(old, batch, mask)
            per_token, metrics = factor * per_token, {**metrics, **found}
        metrics = {**metrics, **_watch(outputs, batch, mask)}
        if self.kl is not None:
            coef = batch.extra("kl_coef")[:, None].to(logprobs.dtype) if self.kl.adapt else self.kl.coef
            per_token = per_token + coef * self.kl.per_token(logprobs, batch, mask)
        if self.entropy:
            per_token = per_token - self.entropy * outputs.entropy
        loss = (batch.weights["policy"].to(logprobs.dtype) * per_token).sum()
        if self.imitation:
            loss = loss - self.imitation * (batch.weights["imitation"].to(logprobs.dtype) * logprobs).sum()
        return loss, {**metrics, "loss": _sums(per_token, mask)}

    def idle(self, batch: Batch) -> Tensor:
        """[B] True for rows of units that add nothing to the gradient, so that the forward pass may leave them out.

        Segments of one episode go together: what is read over the whole sequence needs every one of them.
        """
        if self.kl is not None or self.entropy:
            return torch.zeros_like(batch.train)
        silent = self.surrogate.idle(batch)
        if self.imitation:
            silent = silent & ~_positive(batch)
        return ~torch.isin(batch.units, batch.units[batch.train & ~silent])


def _positive(batch: Batch) -> Tensor:
    """[B] True for rows of episodes whose rewards add up to more than 0."""
    assert batch.token_rewards is not None
    episodes = Episodes.of(batch)
    return (episodes.sums(batch.token_rewards) > 0)[episodes.of_row]


@dataclass(frozen=True)
class ValueLoss:
    """``coef/2 mean_t max((V - R)^2, (clip(V, V_old - c, V_old + c) - R)^2)``: a critic's regression to its returns.

    V is the head ``value`` at each token, V_old what it said before the update (``batch.values``). ``clip`` 0 leaves the
    second term out (PPO's reference code, arXiv:1707.06347, clips). Neighbour: :class:`PolicyLoss` has the same tokens.
    """

    clip: float = 0.2
    coef: float = 1.0

    def prepare(self, batch: Batch) -> Batch:
        return replace(batch, weights={**batch.weights, "value": token_mean(batch, batch.mask)})

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Metrics]:
        assert batch.returns is not None and batch.values is not None
        mask, values = chosen(batch), outputs.heads["value"]
        returns, before = batch.returns.to(values.dtype), batch.values.to(values.dtype)
        error = torch.where(mask, values - returns, 0.0).square()
        metrics: Metrics = {"value/loss": _sums(error / 2, mask), "value/mean": _sums(values, mask)}
        if self.clip:
            near = before + (values - before).clamp(-self.clip, self.clip)
            clipped = torch.where(mask, near - returns, 0.0).square()
            metrics["value/clip_frac"] = _sums((clipped > error).to(values.dtype), mask)
            error = torch.maximum(error, clipped)
        loss = self.coef / 2 * (batch.weights["value"].to(values.dtype) * error).sum()
        return loss, metrics


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
