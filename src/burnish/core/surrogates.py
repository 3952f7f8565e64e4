"""What is minimised per token. The minus of the policy gradient lives here, once.

Each surrogate maps current log-probs [B, T] and a batch that has ``advantages`` (and ``old_logprobs``; None where they are
the current ones) to a per-token loss [B, T], and reports metrics over the masked tokens. At ``ratio = 1`` every one of them
but the squared loss has the gradient of REINFORCE, ``-A * grad log pi``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from burnish.core.levels import Level, token
from burnish.types import Batch, Metrics


class Surrogate(ABC):
    """A per-token loss. What it needs beside advantages follows from its class."""

    needs_reference = False
    """Whether ``batch.ref_logprobs`` has to be there."""

    @abstractmethod
    def __call__(self, logprobs: Tensor, batch: Batch, mask: Tensor) -> tuple[Tensor, Metrics]: ...

    def idle(self, batch: Batch) -> Tensor:
        """[B] True for rows to whose gradient this adds nothing."""
        assert batch.advantages is not None
        return (batch.advantages == 0).all(1)


def ratio(logprobs: Tensor, batch: Batch, mask: Tensor, level: Level = token) -> Tensor:
    """``pi / pi_old`` [B, T] at a level. Without old log-probs it is 1 with the gradient of ``log pi``: the first update."""
    current = logprobs.detach()
    old = current if batch.old_logprobs is None else batch.old_logprobs.to(current.dtype)
    return torch.exp(level(current - old, batch, mask)) * torch.exp(logprobs - current)


def _advantages(logprobs: Tensor, batch: Batch) -> Tensor:
    assert batch.advantages is not None
    return batch.advantages.to(logprobs.dtype)


@dataclass(frozen=True)
class Plain(Surrogate):
    """``-A log pi`` (REINFORCE, Williams 1992): no importance ratio, so one update per rollout batch."""

    def __call__(self, logprobs: Tensor, batch: Batch, mask: Tensor) -> tuple[Tensor, Metrics]:  # noqa: ARG002
        return -_advantages(logprobs, batch) * logprobs, {}


@dataclass(frozen=True)
class Ratio(Surrogate):
    """``-A rho`` with ``rho = pi / pi_old``: off-policy correction without a trust region (TRPO's surrogate)."""

    level: Level = token

    def __call__(self, logprobs: Tensor, batch: Batch, mask: Tensor) -> tuple[Tensor, Metrics]:
        rho = ratio(logprobs, batch, mask, self.level)
        return -_advantages(logprobs, batch) * rho, {"ratio/mean": _mean(rho, mask)}


@dataclass(frozen=True)
class Clip(Surrogate):
    """``-min(rho A, clip(rho, 1 - low, 1 + high) A)`` (PPO, arXiv:1707.06347).

    The gradient is zero exactly where the step has already gone far enough: A > 0 and rho > 1 + high, or A < 0 and
    rho < 1 - low. ``ratio/clip_frac`` counts those tokens. ``high`` above ``low`` is clip-higher (DAPO,
    arXiv:2503.14476). ``dual`` c > 1 bounds the loss where A < 0 at ``-c A``, so a ratio far above 1 stops pulling back
    (dual clip, arXiv:1912.09729); 0 is without it. ``level`` is where the ratio is read.
    """

    low: float = 0.2
    high: float = 0.2
    dual: float = 0.0
    level: Level = token

    def __call__(self, logprobs: Tensor, batch: Batch, mask: Tensor) -> tuple[Tensor, Metrics]:
        rho, advantages = ratio(logprobs, batch, mask, self.level), _advantages(logprobs, batch)
        gain = torch.minimum(rho * advantages, rho.clamp(1 - self.low, 1 + self.high) * advantages)
        stopped = ((advantages > 0) & (rho > 1 + self.high)) | ((advantages < 0) & (rho < 1 - self.low))
        if self.dual:
            gain = torch.where(advantages < 0, torch.maximum(gain, self.dual * advantages), gain)
            stopped = stopped | ((advantages < 0) & (rho > self.dual))
        metrics = {"ratio/mean": _mean(rho, mask), "ratio/clip_frac": _mean(stopped.to(rho.dtype), mask)}
        return -gain, metrics


@dataclass(frozen=True)
class ClipWeight(Surrogate):
    """``-stop(clip(rho, 1 - low, 1 + high)) A log pi`` (CISPO, arXiv:2506.13585).

    The importance weight is clipped, not the gradient: every token keeps a gradient, however far it has moved.
    """

    low: float = 1.0
    high: float = 4.0

    def __call__(self, logprobs: Tensor, batch: Batch, mask: Tensor) -> tuple[Tensor, Metrics]:
        rho = ratio(logprobs, batch, mask).detach()
        weight = rho.clamp(1 - self.low, 1 + self.high)
        metrics = {"ratio/mean": _mean(rho, mask), "ratio/clip_frac": _mean((weight != rho).to(rho.dtype), mask)}
        return -weight * _advantages(logprobs, batch) * logprobs, metrics


@dataclass(frozen=True)
class Soft(Surrogate):
    """``-f(rho) A`` with ``f(rho) = (4 / tau) sigmoid(tau (rho - 1))`` (SAPO, arXiv:2511.20347).

    The slope of f is 1 at rho = 1 and falls off smoothly on both sides, faster for larger tau: a clip without an edge.
    ``tau`` is ``positive`` where A > 0 and ``negative`` elsewhere.
    """

    positive: float = 1.0
    negative: float = 1.05

    def __call__(self, logprobs: Tensor, batch: Batch, mask: Tensor) -> tuple[Tensor, Metrics]:
        rho, advantages = ratio(logprobs, batch, mask), _advantages(logprobs, batch)
        tau = torch.full_like(rho, self.negative).masked_fill(advantages > 0, self.positive)
        gate = torch.sigmoid(tau * (rho - 1)) * 4 / tau
        return -gate * advantages, {"ratio/mean": _mean(rho, mask)}


@dataclass(frozen=True)
class Squared(Surrogate):
    """``(log pi - log pi_ref - scale A)^2`` (APA, arXiv:2306.02231), scale = 1/lambda.

    A regression. On samples of pi the update rests at ``pi = pi_ref e^{scale A} / Z``, on others where Z is 1; with A the
    advantage of pi_ref Z is nearly that. A token with A = 0 is pulled back to the reference, so no row is idle.
    """

    scale: float = 1.0

    needs_reference = True

    def __call__(self, logprobs: Tensor, batch: Batch, mask: Tensor) -> tuple[Tensor, Metrics]:
        assert batch.ref_logprobs is not None
        target = batch.ref_logprobs.to(logprobs.dtype) + self.scale * _advantages(logprobs, batch)
        rho = ratio(logprobs, batch, mask)
        return (logprobs - target).square(), {"ratio/mean": _mean(rho, mask)}

    def idle(self, batch: Batch) -> Tensor:
        return torch.zeros_like(batch.train)


def _mean(values: Tensor, mask: Tensor) -> tuple[float, float]:
    return float((values.detach() * mask).sum()), float(mask.sum())
