"""What is minimised per token: its value by hand, its gradient elementwise."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from burnish.core.surrogates import Clip, Plain, Ratio, Surrogate, ratio

SURROGATES = [Plain(), Ratio(), Clip(), Clip(0.1, 0.3)]
TRIPLE = st.tuples(st.floats(-6, -0.01), st.floats(-1.5, 1.5), st.integers(-30, 30).map(lambda n: n / 10))
VALUES = st.lists(TRIPLE, min_size=1, max_size=8)


def tensors(drawn: list[tuple[float, float, float]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Log-probs with gradient, old ones some distance away, advantages, a full mask: all [1, T]."""
    now, move, advantage = (torch.tensor([column], dtype=torch.float64) for column in zip(*drawn, strict=True))
    return now.requires_grad_(), now.detach() - move, advantage, torch.ones_like(now, dtype=torch.bool)


def gradient(surrogate: Surrogate, now: Tensor, old: Tensor | None, advantage: Tensor, mask: Tensor) -> Tensor:
    per_token, _ = surrogate(now, old, advantage, mask)
    assert per_token.shape == now.shape
    return torch.autograd.grad(per_token.sum(), now)[0]


@pytest.mark.parametrize(
    ("rho", "advantage", "loss", "slope"),
    [
        (1.0, 2.0, -2.0, -2.0),
        (1.1, 2.0, -2.2, -2.2),
        (1.5, 2.0, -2.4, 0.0),  # far enough up: stopped at 1.2
        (0.5, 2.0, -1.0, -1.0),  # wrong way: pulled back in full
        (0.5, -2.0, 1.6, 0.0),  # far enough down: stopped at 0.8
        (1.5, -2.0, 3.0, 3.0),  # wrong way: pulled back in full
        (1.5, 0.0, 0.0, 0.0),
    ],
)
def test_clip_by_hand(rho: float, advantage: float, loss: float, slope: float) -> None:
    now = torch.tensor([[rho]], dtype=torch.float64).log().requires_grad_()
    arguments = (now, torch.zeros(1, 1, dtype=torch.float64), torch.tensor([[advantage]], dtype=torch.float64))
    mask = torch.ones(1, 1, dtype=torch.bool)
    per_token, metrics = Clip(0.2, 0.2)(*arguments, mask)
    assert per_token.item() == pytest.approx(loss, rel=1e-14)
    assert gradient(Clip(0.2, 0.2), *arguments, mask).item() == pytest.approx(slope, rel=1e-14)
    assert metrics["ratio/mean"] == (pytest.approx(rho), 1.0)
    assert metrics["ratio/clip_frac"] == (float(advantage != 0 and slope == 0), 1.0)


@given(VALUES, st.sampled_from([(0.2, 0.2), (0.2, 0.28), (0.0, 0.5)]))
@settings(deadline=None, max_examples=80, derandomize=True)
def test_clip_gradient_is_mask_times_ratio_times_advantage(
    drawn: list[tuple[float, float, float]], bounds: tuple[float, float]
) -> None:
    now, old, advantage, mask = tensors(drawn)
    rho = (now.detach() - old).exp()
    low, high = bounds
    going = ~(((advantage > 0) & (rho > 1 + high)) | ((advantage < 0) & (rho < 1 - low)))
    expected = -(going * rho * advantage)
    assert torch.allclose(gradient(Clip(low, high), now, old, advantage, mask), expected, rtol=1e-12, atol=0)
    _, metrics = Clip(low, high)(now, old, advantage, mask)
    assert metrics["ratio/clip_frac"] == (float((~going).sum()), float(len(drawn)))


@given(VALUES)
@settings(deadline=None, max_examples=40, derandomize=True)
def test_ratio_gradient_is_ratio_times_advantage(drawn: list[tuple[float, float, float]]) -> None:
    now, old, advantage, mask = tensors(drawn)
    expected = -(now.detach() - old).exp() * advantage
    assert torch.allclose(gradient(Ratio(), now, old, advantage, mask), expected, rtol=1e-12, atol=0)
    assert torch.allclose(Ratio()(now, old, advantage, mask)[0], expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("surrogate", SURROGATES, ids=str)
@pytest.mark.parametrize("given_old", [False, True])
@given(VALUES)
@settings(deadline=None, max_examples=20, derandomize=True)
def test_at_ratio_one_every_gradient_is_that_of_reinforce(
    surrogate: Surrogate, given_old: bool, drawn: list[tuple[float, float, float]]
) -> None:
    now, _, advantage, mask = tensors(drawn)
    old = now.detach().clone() if given_old else None
    assert torch.equal(gradient(surrogate, now, old, advantage, mask), -advantage)


def test_plain_has_the_value_of_a_weighted_log_likelihood() -> None:
    now, old, advantage, mask = tensors([(-1.0, 0.3, 2.0), (-0.5, 0.0, -4.0)])
    assert Plain()(now, old, advantage, mask)[0].tolist() == [[2.0, -2.0]]
    assert Plain()(now, None, advantage, mask)[1] == {}


def test_ratio_without_old_is_one_and_carries_the_gradient() -> None:
    now = torch.tensor([[-2.0, -0.1]], dtype=torch.float64, requires_grad=True)
    rho = ratio(now, None)
    assert rho.tolist() == [[1.0, 1.0]]
    assert torch.autograd.grad(rho.sum(), now)[0].tolist() == [[1.0, 1.0]]


def test_metrics_count_masked_tokens_only() -> None:
    now, old, advantage, _ = tensors([(-1.0, 1.0, 1.0), (-1.0, 0.0, 1.0), (-1.0, 1.0, 1.0)])
    mask = torch.tensor([[True, True, False]])
    _, metrics = Clip()(now, old, advantage, mask)
    assert metrics["ratio/clip_frac"] == (1.0, 2.0)
    assert metrics["ratio/mean"] == (pytest.approx(torch.e + 1), 2.0)
