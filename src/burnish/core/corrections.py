"""Sampler against trainer: the tokens came from mu (the sampler), the gradient is of pi_old (the trainer), and the two may
differ by precision, kernels, quantisation or staleness. A correction is a constant factor per token, from
``w = pi_old / mu``, on the surrogate.

Both log-probs are at the sampling temperature, so temperature needs no correction. Where the sampler kept only some ids
(top-p, top-k), ``batch.sampler_logprobs`` and the trainer's log-probs are both of the truncated policy in mode ``kept``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from burnish.core.levels import Level, sequence_mean, token
from burnish.types import Batch, Metrics


class Correction(ABC):
    """A constant factor [B, T] per token, and metrics over the masked tokens."""

    @abstractmethod
    def __call__(self, old: Tensor, batch: Batch, mask: Tensor) -> tuple[Tensor, Metrics]: ...


def _ratio(old: Tensor, batch: Batch, mask: Tensor, level: Level) -> Tensor:
    assert batch.sampler_logprobs is not None
    return torch.exp(level(old - batch.sampler_logprobs.to(old.dtype), batch, mask))


def _metrics(factor: Tensor, changed: Tensor, mask: Tensor) -> Metrics:
    count = float(mask.sum())
    return {
        "correction/mean": (float((factor * mask).sum()), count),
        "correction/frac": (float((changed & mask).sum()), count),
    }


@dataclass(frozen=True)
class TIS(Correction):
    """``min(w, cap)``: truncated importance sampling (Ionides 2008), at the token or the sequence level.

    At the sequence level it is exact where no w exceeds the cap, at a high variance. At the token level it corrects each
    choice but not how likely its prefix was. The cap is a choice.
    """

    cap: float = 2.0
    level: Level = token

    def __call__(self, old: Tensor, batch: Batch, mask: Tensor) -> tuple[Tensor, Metrics]:
        w = _ratio(old, batch, mask, self.level)
        return w.clamp(max=self.cap), _metrics(w.clamp(max=self.cap), w > self.cap, mask)


@dataclass(frozen=True)
class IcePop(Correction):
    """``w`` where ``low <= w <= high``, else 0: tokens on which the two disagree are masked (Ling Team, arXiv:2510.18855)."""

    low: float = 0.5
    high: float = 5.0

    def __call__(self, old: Tensor, batch: Batch, mask: Tensor) -> tuple[Tensor, Metrics]:
        w = _ratio(old, batch, mask, token)
        out = (w < self.low) | (w > self.high)
        factor = w.masked_fill(out, 0.0)
        return factor, _metrics(factor, out, mask)


@dataclass(frozen=True)
class SequenceMask(Correction):
    """1 where the geometric mean of an episode's w is in [low, high], else 0: whole sequences are kept or masked.

    With ``weigh`` the kept ones have the token's own w in place of 1. The bounds are a choice.
    """

    low: float = 0.5
    high: float = 2.0
    weigh: bool = False

    def __call__(self, old: Tensor, batch: Batch, mask: Tensor) -> tuple[Tensor, Metrics]:
        mean = _ratio(old, batch, mask, sequence_mean)
        out = (mean < self.low) | (mean > self.high)
        factor = _ratio(old, batch, mask, token) if self.weigh else torch.ones_like(mean)
        factor = factor.masked_fill(out, 0.0)
        return factor, _metrics(factor, out, mask)
