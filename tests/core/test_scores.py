"""Implicit rewards: which tokens they read, how they reduce, and the derivatives of divergences they are made of."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from burnish.core.scores import (
    Alpha,
    Desensitised,
    HeadScore,
    LogOdds,
    LogProb,
    LogRatio,
    Slope,
    average,
    content,
    forward_kl,
    jensen_shannon,
    log1mexp,
    reverse_kl,
    total,
    trained,
)
from burnish.errors import InputError
from judged import answer, judge, outputs_of, random_judged

UNIT = (answer(4, 0, mask=(True, False, True, True)), answer(2, 1), answer(5, 2), answer(1, mismatched=True))


def test_sums_and_means_are_over_the_mask() -> None:
    batch, logprobs = random_judged([UNIT])
    inside = [line[mask] for line, mask in zip(logprobs, batch.mask, strict=True)]
    torch.testing.assert_close(total(logprobs, batch.mask, batch), torch.stack([x.sum() for x in inside]))
    torch.testing.assert_close(average(logprobs, batch.mask, batch), torch.stack([x.mean() for x in inside]))
    nothing = torch.zeros_like(batch.mask)
    assert average(logprobs, nothing, batch).tolist() == [0.0] * 4  # an answer of formatting alone: no 0/0


def test_a_desensitised_sum_counts_the_common_length_in_full() -> None:
    """The shortest trained answer of the unit has 2 masked tokens; those after them count a quarter."""
    batch, logprobs = random_judged([UNIT, (answer(3, 0), answer(3, 1))])
    found = Desensitised(0.25)(logprobs, batch.mask, batch)
    inside = [line[mask] for line, mask in zip(logprobs, batch.mask, strict=True)]
    common = [2, 2, 2, 2, 3, 3]
    want = [x[:c].sum() + 0.25 * x[c:].sum() for x, c in zip(inside, common, strict=True)]
    torch.testing.assert_close(found, torch.stack(want))
    torch.testing.assert_close(Desensitised(1.0)(logprobs, batch.mask, batch), total(logprobs, batch.mask, batch))


def test_content_is_the_mask_without_formatting() -> None:
    batch, _ = random_judged([UNIT])
    assert content(batch)[0].tolist() == [True, False, True, False, False]
    assert bool((content(batch) <= trained(batch)).all())


DIVERGENCES: dict[str, tuple[Slope, Callable[[Tensor], Tensor]]] = {
    "reverse_kl": (reverse_kl, lambda t: t * torch.log(t) - t),
    "forward_kl": (forward_kl, lambda t: -torch.log(t)),
    "jensen_shannon": (jensen_shannon, lambda t: t * torch.log(2 * t / (1 + t)) + torch.log(2 / (1 + t))),
    "alpha": (Alpha(0.3), lambda t: (t**0.7 - 0.7 * t - 0.3) / (0.3 * -0.7)),
}
"""The slopes, and the f of ``D_f(pi, ref) = E_ref f(pi/ref)`` that they are to be derivatives of, up to a constant."""


@pytest.mark.parametrize("name", DIVERGENCES)
def test_a_slope_is_the_derivative_of_its_divergence(name: str) -> None:
    slope, f = DIVERGENCES[name]
    u = torch.linspace(-3, 3, 25, dtype=torch.float64)
    t = torch.exp(u).requires_grad_()
    derivative = torch.autograd.grad(f(t).sum(), t)[0]
    difference = slope(u) - derivative
    torch.testing.assert_close(difference, difference[0].expand_as(u), rtol=1e-10, atol=1e-10)


def test_alpha_lies_between_the_two_kls() -> None:
    u = torch.linspace(-2, 2, 9, dtype=torch.float64)
    torch.testing.assert_close(Alpha(1e-9)(u), reverse_kl(u), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(Alpha(1.0)(u), 1 + forward_kl(u))


@pytest.mark.parametrize("slope", [forward_kl, Alpha(0.5)], ids=["forward_kl", "alpha"])
def test_exponential_slopes_go_on_as_lines(slope: Slope) -> None:
    """Beyond 40 nats: finite, still falling, without a step in value or slope."""
    u = torch.tensor([-1e4, -500.0, -90.0], requires_grad=True)
    value = slope(u)
    assert bool(torch.isfinite(value).all()) and bool((value[:-1] < value[1:]).all())
    assert bool((torch.autograd.grad(value.sum(), u)[0] > 1e10).all())
    edge = torch.tensor([-40.0 - 1e-9, -40.0 + 1e-9], dtype=torch.float64, requires_grad=True)
    found = forward_kl(edge)
    torch.testing.assert_close(found[0], found[1], rtol=1e-7, atol=0)
    gradient = torch.autograd.grad(found.sum(), edge)[0]
    torch.testing.assert_close(gradient[0], gradient[1], rtol=1e-7, atol=0)


def test_scores_against_a_reference() -> None:
    batch, logprobs = random_judged([UNIT])
    assert batch.ref_logprobs is not None
    u = torch.where(batch.mask, logprobs - batch.ref_logprobs, 0.0)
    count = batch.mask.sum(1)
    torch.testing.assert_close(LogRatio(0.3)(outputs_of(logprobs), batch), 0.3 * u.sum(1))
    torch.testing.assert_close(LogRatio(0.3, average)(outputs_of(logprobs), batch), 0.3 * u.sum(1) / count)
    torch.testing.assert_close(
        LogRatio(0.3, slope=forward_kl)(outputs_of(logprobs), batch), -0.3 * torch.exp(-u.sum(1))
    )
    torch.testing.assert_close(
        LogProb(0.3)(outputs_of(logprobs), batch), 0.3 * torch.where(batch.mask, logprobs, 0).sum(1)
    )


def test_score_and_anchor_together_are_the_policys() -> None:
    batch, logprobs = random_judged([UNIT])
    score = LogRatio(0.3, average, content)
    both = score(outputs_of(logprobs), batch) + score.anchor(outputs_of(logprobs), batch)
    torch.testing.assert_close(both, LogProb(0.3, average, content)(outputs_of(logprobs), batch))
    assert LogProb().anchor(outputs_of(logprobs), batch).tolist() == [0.0] * 4
    with pytest.raises(InputError, match="leave out the slope"):
        LogRatio(slope=forward_kl).anchor(outputs_of(logprobs), batch)


def test_a_head_is_read_as_it_is() -> None:
    batch = judge([UNIT[:2]], [[[-1.0] * 4, [-1.0] * 2]])
    scores = torch.tensor([0.5, -1.0])
    assert HeadScore("quality")(outputs_of(torch.zeros(2, 4), quality=scores), batch) is scores
    assert dict(HeadScore("quality").heads) == {"quality": HeadScore().head}
    assert (HeadScore().head.at, HeadScore().head.out, HeadScore().needs_logprobs) == ("last", 1, False)


def test_log_odds_near_certainty() -> None:
    """Against exact numbers: log(1 - e^x) for x to -1e-17, where e^x rounds to 1, with its gradient -e^x/(1 - e^x)."""
    x = torch.tensor([-1e-17, -1e-15, -1e-8, -1e-3, -0.5, -0.693, -0.694, -3.0, -50.0, -800.0], dtype=torch.float64)
    x.requires_grad_()
    value = log1mexp(x)
    want = [math.log(-math.expm1(v)) if v > -0.1 else math.log1p(-math.exp(v)) for v in x.tolist()]
    assert value.tolist() == pytest.approx(want, rel=1e-14)
    slope = torch.autograd.grad(value.sum(), x)[0]
    assert slope.tolist() == pytest.approx([-math.exp(v) / -math.expm1(v) for v in x.tolist()], rel=1e-12)


def test_log_odds_of_a_certain_answer_are_finite() -> None:
    batch = judge([(answer(2, 0), answer(2, 1))], [[[0.0] * 2, [0.0] * 2]])
    for dtype in (torch.float32, torch.float64):
        logprobs = torch.tensor([[0.0, 0.0], [-1e-9, 0.0]], dtype=dtype, requires_grad=True)
        value = LogOdds()(outputs_of(logprobs), batch)
        assert bool(torch.isfinite(value).all()) and bool((value > 10).all())
        assert bool(torch.isfinite(torch.autograd.grad(value.sum(), logprobs)[0]).all())
