"""Estimators of KL(policy || anchor) from sampled tokens, and where they enter the objective.

With u = log pi - log anchor at a sampled token (Schulman 2020, "Approximating KL divergence"):
k1 = u is unbiased and may be negative; k2 = u^2/2 has the right gradient for samples of pi; k3 = e^{-u} - 1 + u is unbiased,
never negative, and the one GRPO prints (arXiv:2402.03300).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from burnish.core.levels import Level, token
from burnish.types import Batch

Estimator = Callable[[Tensor, Tensor], Tensor]
Anchor = Callable[[Batch], Tensor | None]


def k1(logprobs: Tensor, anchor: Tensor) -> Tensor:
    """``u``, per token: E[k1] = KL, value and mean exact; its direct gradient is zero on average."""
    return logprobs - anchor


def k2(logprobs: Tensor, anchor: Tensor) -> Tensor:
    """``u^2 / 2``, per token: biased value, but its gradient under samples of pi is the gradient of KL."""
    return (logprobs - anchor).square() / 2


def k3(logprobs: Tensor, anchor: Tensor) -> Tensor:
    """``e^{-u} - 1 + u``, per token: unbiased and non-negative; its direct gradient is that of KL(anchor || pi)."""
    u = logprobs - anchor
    return torch.expm1(-u) + u


def k3_unbiased(logprobs: Tensor, anchor: Tensor) -> Tensor:
    """``rho k3`` with rho = pi / stop(pi): the value of k3 with the gradient of KL itself (DeepSeek-V3.2, arXiv:2512.02556).

    The gradient is ``(k3 + 1 - e^{-u}) grad log pi = u grad log pi``, the one of k2. The paper's rho is pi / pi_old, which
    is the same at the first update of a batch; at later ones this term, like the other estimators, is not reweighted.
    """
    return k3(logprobs, anchor) * torch.exp(logprobs - logprobs.detach())


def reference(batch: Batch) -> Tensor | None:
    """The frozen reference policy."""
    assert batch.ref_logprobs is not None
    return batch.ref_logprobs


def old(batch: Batch) -> Tensor | None:
    """The policy before this rollout batch's first update: a trust region that moves along (Kimi k1.5, arXiv:2501.12599).

    None where the batch leaves it out because it is the current one.
    """
    return batch.old_logprobs


@dataclass(frozen=True)
class Adaptive:
    """``coef <- coef (1 + gain clip(KL / target - 1, -limit, limit))`` after every step (Ziegler et al., arXiv:1909.08593).

    Gain .1, limit .2 and a target of 6 nats are the paper's (its other target is 10).

    ``KL`` is the mean over the batch's episodes of the k1 estimate of the whole episode, in nats, before the update.
    """

    target: float = 6.0
    gain: float = 0.1
    limit: float = 0.2

    def __call__(self, coef: float, kl: float) -> float:
        error = kl / self.target - 1
        return coef * (1 + self.gain * max(-self.limit, min(self.limit, error)))


@dataclass(frozen=True)
class KL:
    """A KL term: ``coef`` times ``estimator`` against ``anchor``.

    At ``level`` token it is a sum over tokens, at ``sequence`` the estimator of the whole sequence's log-ratio. With
    ``adapt`` the coefficient is part of the algorithm's state and follows a target.
    """

    estimator: Estimator = k3
    coef: float = 0.04
    anchor: Anchor = reference
    level: Level = token
    adapt: Adaptive | None = None

    @property
    def needs_reference(self) -> bool:
        return self.anchor is reference

    def per_token(self, logprobs: Tensor, batch: Batch, mask: Tensor) -> Tensor:
        """[B, T] the estimate without its coefficient. Values and gradients are those of ``f(u)`` at the level.

        Above the token level ``f(U)`` of the sequence is shared out: its value in equal parts over the tokens, its gradient
        as ``stop(f'(U)) u_t``. Both are those of the literal form ``1/N sum_i f(U_i)`` with ``seq_mean_token_sum`` at level
        ``sequence``, and with ``seq_mean_token_mean`` at ``sequence_mean``.
        """
        anchor = self.anchor(batch)
        against = (logprobs.detach() if anchor is None else anchor).to(logprobs.dtype)
        if self.level is token:
            return self.estimator(logprobs, against)
        total = self.level((logprobs - against).detach(), batch, mask)
        value, slope = value_and_slope(self.estimator, total)
        count = self.level(torch.ones_like(total), batch, mask).clamp(min=1)
        return value / count + slope * (logprobs - logprobs.detach())


def value_and_slope(estimator: Estimator, u: Tensor) -> tuple[Tensor, Tensor]:
    """``f(u)`` and ``f'(u)`` of an estimator, elementwise, as constants."""
    with torch.enable_grad():
        point = u.detach().clone().requires_grad_()
        value = estimator(point, torch.zeros_like(point))
        slope = torch.autograd.grad(value.sum(), point)[0]
    return value.detach(), slope
