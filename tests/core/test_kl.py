"""The estimators against the divergence they estimate, summed over a whole vocabulary."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from burnish.core.kl import KL, Estimator, k1, k2, k3

V = 6
SEEDS = st.integers(0, 10**6)
QUIET = settings(deadline=None, max_examples=40, derandomize=True)


def policies(seed: int) -> tuple[Tensor, Tensor]:
    """Logits with gradient, and the log-probs of an anchor some distance away."""
    generator = torch.Generator().manual_seed(seed)
    logits, anchor = torch.randn(2, V, generator=generator, dtype=torch.float64) * 1.5
    return logits.requires_grad_(), torch.log_softmax(anchor, -1)


def divergence(logits: Tensor, anchor: Tensor) -> Tensor:
    logp = torch.log_softmax(logits, -1)
    return (logp.exp() * (logp - anchor)).sum()


def expected_gradient(kind: Estimator, logits: Tensor, anchor: Tensor) -> Tensor:
    """E over samples of the gradient of the estimator: the probabilities are constants, as they are in training."""
    logp = torch.log_softmax(logits, -1)
    return torch.autograd.grad((logp.detach().exp() * kind(logp, anchor)).sum(), logits)[0]


@given(SEEDS)
@QUIET
def test_k1_and_k3_are_unbiased(seed: int) -> None:
    logits, anchor = policies(seed)
    logp = torch.log_softmax(logits, -1).detach()
    exact = divergence(logits, anchor).item()
    for kind in (k1, k3):
        assert (logp.exp() * kind(logp, anchor)).sum().item() == pytest.approx(exact, rel=1e-10)


@given(SEEDS)
@QUIET
def test_the_gradient_of_k2_under_samples_is_the_gradient_of_the_divergence(seed: int) -> None:
    logits, anchor = policies(seed)
    exact = torch.autograd.grad(divergence(logits, anchor), logits)[0]
    assert torch.allclose(expected_gradient(k2, logits, anchor), exact, rtol=1e-10, atol=1e-14)
    assert torch.allclose(expected_gradient(k1, logits, anchor), torch.zeros_like(exact), atol=1e-14)


@given(SEEDS)
@QUIET
def test_the_gradient_of_k3_under_samples_is_that_of_the_reverse_divergence(seed: int) -> None:
    """Known and easily forgotten: GRPO's term pulls along the gradient of KL(anchor || policy)."""
    logits, anchor = policies(seed)
    reverse = (anchor.exp() * (anchor - torch.log_softmax(logits, -1))).sum()
    exact = torch.autograd.grad(reverse, logits)[0]
    assert torch.allclose(expected_gradient(k3, logits, anchor), exact, rtol=1e-10, atol=1e-14)


@given(st.floats(-20, 0), st.floats(-20, 0))
@QUIET
def test_k3_and_k2_are_never_negative_and_zero_only_at_the_anchor(policy: float, anchor: float) -> None:
    pi, ref = torch.tensor(policy, dtype=torch.float64), torch.tensor(anchor, dtype=torch.float64)
    assert k3(pi, ref) >= 0 and k2(pi, ref) >= 0
    assert k1(pi, pi) == k2(pi, pi) == k3(pi, pi) == 0
    if abs(policy - anchor) > 1e-3:
        assert k3(pi, ref) > 0 and k2(pi, ref) > 0


def test_by_hand() -> None:
    pi, ref = torch.tensor([0.5]).double().log(), torch.tensor([0.25]).double().log()
    u = 0.6931471805599453
    assert k1(pi, ref).item() == pytest.approx(u, rel=1e-12)
    assert k2(pi, ref).item() == pytest.approx(u * u / 2, rel=1e-12)
    assert k3(pi, ref).item() == pytest.approx(0.5 - 1 + u, rel=1e-12)


def test_k3_keeps_its_precision_near_the_anchor() -> None:
    """exp(-u) - 1 + u loses every digit for small u when written out; the true value is u^2/2."""
    u = torch.tensor([1e-6], dtype=torch.float64)
    assert k3(u, torch.zeros_like(u)).item() == pytest.approx(0.5e-12, rel=1e-3)


def test_the_default_is_the_one_grpo_prints() -> None:
    assert KL() == KL(k3, 0.04)
