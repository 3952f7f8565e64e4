"""What is minimised per token. The minus of the policy gradient lives here, once.

Each surrogate maps log-probs [B, T], the log-probs before the update (None where they are the current ones) and advantages
[B, T] to a per-token loss, and reports metrics over the masked tokens. At ``ratio = 1`` every one of them has the gradient
of REINFORCE, ``-A * grad log pi``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from burnish.types import Metrics


class Surrogate(Protocol):
    def __call__(
        self, logprobs: Tensor, old: Tensor | None, advantages: Tensor, mask: Tensor
    ) -> tuple[Tensor, Metrics]: ...


def ratio(logprobs: Tensor, old: Tensor | None) -> Tensor:
    """``pi / pi_old`` per token. Without ``old`` it is 1 with the gradient of ``log pi``: the first update of a batch."""
    return torch.exp(logprobs - (logprobs.detach() if old is None else old))


@dataclass(frozen=True)
class Plain:
    """``-A log pi`` (REINFORCE, Williams 1992): no importance ratio, so one update per rollout batch."""

    def __call__(
        self,
        logprobs: Tensor,
        old: Tensor | None,  # noqa: ARG002 - part of the interface
        advantages: Tensor,
        mask: Tensor,  # noqa: ARG002
    ) -> tuple[Tensor, Metrics]:
        return -advantages * logprobs, {}


@dataclass(frozen=True)
class Ratio:
    """``-A rho`` with ``rho = pi / pi_old``: off-policy correction without a trust region."""

    def __call__(
        self, logprobs: Tensor, old: Tensor | None, advantages: Tensor, mask: Tensor
    ) -> tuple[Tensor, Metrics]:
        rho = ratio(logprobs, old)
        return -advantages * rho, {"ratio/mean": _mean(rho, mask)}


@dataclass(frozen=True)
class Clip:
    """``-min(rho A, clip(rho, 1 - low, 1 + high) A)`` (PPO, arXiv:1707.06347).

    The gradient is zero exactly where the step has already gone far enough: A > 0 and rho > 1 + high, or A < 0 and
    rho < 1 - low. ``ratio/clip_frac`` counts those tokens.
    """

    low: float = 0.2
    high: float = 0.2

    def __call__(
        self, logprobs: Tensor, old: Tensor | None, advantages: Tensor, mask: Tensor
    ) -> tuple[Tensor, Metrics]:
        rho = ratio(logprobs, old)
        clipped = rho.clamp(1 - self.low, 1 + self.high)
        stopped = ((advantages > 0) & (rho > 1 + self.high)) | ((advantages < 0) & (rho < 1 - self.low))
        metrics = {"ratio/mean": _mean(rho, mask), "ratio/clip_frac": _mean(stopped.to(rho.dtype), mask)}
        return -torch.minimum(rho * advantages, clipped * advantages), metrics


def _mean(values: Tensor, mask: Tensor) -> tuple[float, float]:
    return float((values.detach() * mask).sum()), float(mask.sum())
