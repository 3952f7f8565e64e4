"""Estimators of KL(policy || anchor) from sampled tokens, and where they enter the objective.

With u = log pi - log anchor at a sampled token (Schulman 2020, "Approximating KL divergence"):
k1 = u is unbiased and may be negative; k2 = u^2/2 has the right gradient for small u; k3 = e^{-u} - 1 + u is unbiased,
never negative, and the one GRPO prints (arXiv:2402.03300).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Estimator = Callable[[Tensor, Tensor], Tensor]


def k1(logprobs: Tensor, anchor: Tensor) -> Tensor:
    """``u``, per token: E[k1] = KL, value and mean exact; its direct gradient is zero on average."""
    return logprobs - anchor


def k2(logprobs: Tensor, anchor: Tensor) -> Tensor:
    """``u^2 / 2``, per token: biased value, but its gradient under samples of pi is the gradient of KL."""
    return (logprobs - anchor).square() / 2


def k3(logprobs: Tensor, anchor: Tensor) -> Tensor:
    """``e^{-u} - 1 + u``, per token: unbiased and non-negative."""
    u = logprobs - anchor
    return torch.expm1(-u) + u


@dataclass(frozen=True)
class KL:
    """A KL term: ``coef`` times ``estimator`` against the reference policy, per token."""

    estimator: Estimator = k3
    coef: float = 0.04
