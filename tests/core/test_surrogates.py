"""What is minimised per token: its value by hand, its gradient elementwise and against the literal formula."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from burnish.core.aggregate import Aggregate, seq_mean_token_mean, seq_mean_token_sum
from burnish.core.levels import Level, sequence, sequence_mean, token
from burnish.core.surrogates import Clip, ClipWeight, Plain, Ratio, Soft, Squared, Surrogate, ratio
from burnish.types import Batch
from rows import batch_of, cut, rollout

REINFORCES = {
    "plain": Plain(),
    "ratio": Ratio(),
    "ratio_sequence": Ratio(sequence),
    "clip": Clip(),
    "clip_higher": Clip(0.1, 0.3),
    "dual_clip": Clip(dual=3.0),
    "clip_sequence": Clip(0.2, 0.2, level=sequence),
    "clip_sequence_mean": Clip(3e-4, 4e-4, level=sequence_mean),
    "clip_weight": ClipWeight(),
    "soft": Soft(),
}
"""All but the squared loss, by stable names."""

TRIPLE = st.tuples(st.floats(-6, -0.01), st.floats(-1.5, 1.5), st.integers(-30, 30).map(lambda n: n / 10))
VALUES = st.lists(TRIPLE, min_size=1, max_size=8)
Drawn = list[tuple[float, float, float]]


def row(drawn: Drawn, mask: Sequence[bool] | None = None, **extra: Sequence[float]) -> tuple[Tensor, Batch]:
    """One row of (log-prob now, how far it has moved, advantage): the log-probs with gradient, and the batch."""
    now, move, advantages = (list(column) for column in zip(*drawn, strict=True))
    old = [a - b for a, b in zip(now, move, strict=True)]
    annotated = {"old_logprobs": [old], "advantages": [advantages], **{name: [x] for name, x in extra.items()}}
    batch = batch_of([rollout(len(drawn), mask=mask)], **annotated)
    return torch.tensor([now], dtype=torch.float64, requires_grad=True), batch


def value(surrogate: Surrogate, now: Tensor, batch: Batch) -> Tensor:
    per_token, _ = surrogate(now, batch, batch.mask)
    assert per_token.shape == now.shape
    return per_token


def gradient(surrogate: Surrogate, now: Tensor, batch: Batch) -> Tensor:
    return torch.autograd.grad(value(surrogate, now, batch).sum(), now)[0]


def parts(now: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """``rho`` and ``A``, without gradient."""
    assert batch.old_logprobs is not None and batch.advantages is not None
    return (now.detach() - batch.old_logprobs).exp(), batch.advantages


@pytest.mark.parametrize(
    ("surrogate", "rho", "advantage", "loss", "slope"),
    [
        (Clip(), 1.0, 2.0, -2.0, -2.0),
        (Clip(), 1.1, 2.0, -2.2, -2.2),
        (Clip(), 1.5, 2.0, -2.4, 0.0),  # far enough up: stopped at 1.2
        (Clip(), 0.5, 2.0, -1.0, -1.0),  # wrong way: pulled back in full
        (Clip(), 0.5, -2.0, 1.6, 0.0),  # far enough down: stopped at 0.8
        (Clip(), 1.5, -2.0, 3.0, 3.0),  # wrong way: pulled back in full
        (Clip(), 1.5, 0.0, 0.0, 0.0),
        (Clip(0.2, 0.28), 1.25, 2.0, -2.5, -2.5),  # clip-higher: room above 1.2
        (Clip(0.2, 0.28), 1.5, 2.0, -2.56, 0.0),
        (Clip(0.2, 0.28), 0.75, -2.0, 1.6, 0.0),  # and none below 0.8
        (Clip(dual=3.0), 4.0, -2.0, 6.0, 0.0),  # dual clip: the loss ends at 3 * 2
        (Clip(dual=3.0), 2.5, -2.0, 5.0, 5.0),
        (Clip(dual=3.0), 4.0, 2.0, -2.4, 0.0),  # A > 0 does not know it
        (Clip(dual=3.0), 0.5, -2.0, 1.6, 0.0),
    ],
    ids=lambda x: f"low{x.low}high{x.high}dual{x.dual}" if isinstance(x, Clip) else str(x),
)
def test_clip_by_hand(surrogate: Clip, rho: float, advantage: float, loss: float, slope: float) -> None:
    now = torch.tensor([[rho]], dtype=torch.float64).log().requires_grad_()
    batch = batch_of([rollout(1)], old_logprobs=[[0.0]], advantages=[[advantage]])
    per_token, metrics = surrogate(now, batch, batch.mask)
    assert per_token.item() == pytest.approx(loss, rel=1e-14)
    assert gradient(surrogate, now, batch).item() == pytest.approx(slope, rel=1e-14)
    assert metrics["ratio/mean"] == (pytest.approx(rho), 1.0)
    assert metrics["ratio/clip_frac"] == (float(advantage != 0 and slope == 0), 1.0)


@given(VALUES, st.sampled_from([(0.2, 0.2, 0.0), (0.2, 0.28, 0.0), (0.0, 0.5, 0.0), (0.2, 0.2, 1.5), (0.2, 0.28, 3.0)]))
@settings(deadline=None, max_examples=120, derandomize=True)
def test_clip_gradient_is_mask_times_ratio_times_advantage(drawn: Drawn, bounds: tuple[float, float, float]) -> None:
    now, batch = row(drawn)
    rho, advantages = parts(now, batch)
    low, high, dual = bounds
    stopped = ((advantages > 0) & (rho > 1 + high)) | ((advantages < 0) & (rho < 1 - low))
    if dual:
        stopped |= (advantages < 0) & (rho > dual)
    expected = torch.where(stopped, 0.0, -rho * advantages)
    assert torch.allclose(gradient(Clip(low, high, dual), now, batch), expected, rtol=1e-12, atol=0)
    _, metrics = Clip(low, high, dual)(now, batch, batch.mask)
    assert metrics["ratio/clip_frac"] == (float(stopped.sum()), float(len(drawn)))


@given(VALUES)
@settings(deadline=None, max_examples=40, derandomize=True)
def test_ratio_gradient_is_ratio_times_advantage(drawn: Drawn) -> None:
    now, batch = row(drawn)
    rho, advantages = parts(now, batch)
    assert torch.allclose(gradient(Ratio(), now, batch), -rho * advantages, rtol=1e-12, atol=0)
    assert torch.allclose(value(Ratio(), now, batch), -rho * advantages, rtol=1e-12, atol=0)


@given(VALUES, st.sampled_from([(1.0, 4.0), (1.0, 0.28), (0.2, 0.2)]))
@settings(deadline=None, max_examples=60, derandomize=True)
def test_clip_weight_keeps_a_gradient_on_every_token(drawn: Drawn, bounds: tuple[float, float]) -> None:
    """The gradient is ``-stop(clip(rho)) A``: bounded, and never stopped where the advantage is not 0."""
    now, batch = row(drawn)
    rho, advantages = parts(now, batch)
    low, high = bounds
    found = gradient(ClipWeight(low, high), now, batch)
    weight = rho.clamp(1 - low, 1 + high)
    assert torch.allclose(found, -weight * advantages, rtol=1e-12, atol=0)
    assert torch.equal(found == 0, advantages == 0)
    assert torch.allclose(value(ClipWeight(low, high), now, batch), found * now.detach(), rtol=1e-12, atol=0)
    _, metrics = ClipWeight(low, high)(now, batch, batch.mask)
    outside = (rho < 1 - low) | (rho > 1 + high)
    assert metrics["ratio/clip_frac"] == (float(outside.sum()), float(len(drawn)))


@given(VALUES)
@settings(deadline=None, max_examples=60, derandomize=True)
def test_soft_value_and_slope(drawn: Drawn) -> None:
    """``f' = 4 p (1 - p)`` with ``p = sigmoid(tau (rho - 1))``; tau is 1 where A > 0 and 1.05 elsewhere."""
    now, batch = row(drawn)
    rho, advantages = parts(now, batch)
    tau = torch.full_like(rho, 1.05).masked_fill(advantages > 0, 1.0)
    p = 1 / (1 + torch.exp(-tau * (rho - 1)))
    assert torch.allclose(value(Soft(), now, batch), -4 / tau * p * advantages, rtol=1e-12, atol=0)
    assert torch.allclose(gradient(Soft(), now, batch), -4 * p * (1 - p) * rho * advantages, rtol=1e-12, atol=0)


@pytest.mark.parametrize("advantage", [2.0, -2.0])
def test_soft_has_slope_one_at_one_and_no_edge(advantage: float) -> None:
    """Its slope in rho is 1 at rho = 1, falls on both sides without a jump, faster for A < 0; the clip's jumps."""
    rho = torch.linspace(0.05, 4, 800, dtype=torch.float64)[None]
    now = rho.log().requires_grad_()
    shape = [[0.0] * 800]
    batch = batch_of([rollout(800)], old_logprobs=shape, advantages=[[advantage] * 800])

    def slope(surrogate: Surrogate) -> Tensor:
        return -gradient(surrogate, now, batch)[0] / rho[0] / advantage

    found = slope(Soft())
    peak = int(found.argmax())
    assert rho[0, peak].item() == pytest.approx(1, abs=0.01) and found[peak].item() == pytest.approx(1, abs=1e-5)
    assert bool((found[:peak].diff() > 0).all()) and bool((found[peak:].diff() < 0).all())
    assert found.diff().abs().max() < 0.01
    assert slope(Clip()).diff().abs().max() > 0.99
    at_one = batch_of([rollout(1)], old_logprobs=[[-1.0]], advantages=[[advantage]])
    here = torch.tensor([[-1.0]], dtype=torch.float64, requires_grad=True)
    assert gradient(Soft(3.0, 0.5), here, at_one).item() == pytest.approx(-advantage, rel=1e-14)


def test_soft_closes_faster_for_negative_advantages() -> None:
    far = torch.tensor([[5.0, 5.0]], dtype=torch.float64).log().requires_grad_()
    batch = batch_of([rollout(2)], old_logprobs=[[0.0, 0.0]], advantages=[[1.0, -1.0]])
    up, down = gradient(Soft(), far, batch)[0].abs().tolist()
    assert 0 < down < up < 5


@given(VALUES, st.floats(0.1, 3))
@settings(deadline=None, max_examples=40, derandomize=True)
def test_squared_by_hand(drawn: Drawn, scale: float) -> None:
    """``(log pi - log pi_ref - scale A)^2``: zero at its target and nowhere idle."""
    reference = [-1.0 - i / 2 for i in range(len(drawn))]
    now, batch = row(drawn, ref_logprobs=reference)
    advantages = parts(now, batch)[1]
    gap = now.detach() - torch.tensor([reference], dtype=torch.float64) - scale * advantages
    assert torch.allclose(value(Squared(scale), now, batch), gap**2, rtol=1e-12, atol=1e-14)
    assert torch.allclose(gradient(Squared(scale), now, batch), 2 * gap, rtol=1e-12, atol=1e-14)
    target = (now.detach() - gap).requires_grad_()
    assert value(Squared(scale), target, batch).sum().item() == pytest.approx(0, abs=1e-24)
    assert Squared.needs_reference and not bool(Squared(scale).idle(batch).any())


@pytest.mark.parametrize("surrogate", REINFORCES.values(), ids=REINFORCES)
@pytest.mark.parametrize("given_old", [False, True])
@given(VALUES)
@settings(deadline=None, max_examples=20, derandomize=True)
def test_at_ratio_one_every_gradient_is_that_of_reinforce(surrogate: Surrogate, given_old: bool, drawn: Drawn) -> None:
    now, batch = row(drawn)
    batch = replace(batch, old_logprobs=now.detach().clone() if given_old else None)
    assert torch.allclose(gradient(surrogate, now, batch), -parts_of(batch), rtol=1e-15, atol=0)


def parts_of(batch: Batch) -> Tensor:
    assert batch.advantages is not None
    return batch.advantages


def test_at_ratio_one_the_squared_loss_is_not_reinforce() -> None:
    """The test above can fail: its gradient has twice the scale, and a pull to the reference."""
    now, batch = row([(-1.0, 0.0, 2.0), (-2.0, 0.0, 0.0)], ref_logprobs=[-1.0, -1.0])
    assert gradient(Squared(), now, batch).tolist() == [[-4.0, -2.0]]


def test_plain_has_the_value_of_a_weighted_log_likelihood() -> None:
    now, batch = row([(-1.0, 0.3, 2.0), (-0.5, 0.0, -4.0)])
    assert value(Plain(), now, batch).tolist() == [[2.0, -2.0]]
    assert Plain()(now, replace(batch, old_logprobs=None), batch.mask)[1] == {}


def test_ratio_without_old_is_one_and_carries_the_gradient() -> None:
    now, batch = row([(-2.0, 1.0, 1.0), (-0.1, 1.0, 1.0)])
    for level in (token, sequence, sequence_mean):
        rho = ratio(now, replace(batch, old_logprobs=None), batch.mask, level)
        assert rho.tolist() == [[1.0, 1.0]]
        assert torch.autograd.grad(rho.sum(), now)[0].tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize("surrogate", REINFORCES.values(), ids=REINFORCES)
def test_metrics_count_masked_tokens_only(surrogate: Surrogate) -> None:
    drawn = [(-1.0, 1.0, 1.0), (-1.0, 0.0, 1.0)]
    now, batch = row(drawn)
    longer, masked = row([*drawn, (-1.0, 3.0, 1.0)], mask=(True, True, False))
    assert surrogate(now, batch, batch.mask)[1] == surrogate(longer, masked, masked.mask)[1]


def test_metrics_by_hand() -> None:
    now, batch = row([(-1.0, 1.0, 1.0), (-1.0, 0.0, 1.0), (-1.0, 1.0, 1.0)], mask=(True, True, False))
    _, metrics = Clip()(now, batch, batch.mask)
    assert metrics["ratio/clip_frac"] == (1.0, 2.0)
    assert metrics["ratio/mean"] == (pytest.approx(torch.e + 1), 2.0)


def test_idle_rows_are_those_without_an_advantage() -> None:
    batch = batch_of([rollout(2), rollout(2, episode=1)], advantages=[[0.0, 0.0], [0.0, 1.0]])
    for surrogate in REINFORCES.values():
        assert surrogate.idle(batch).tolist() == [True, False]


# --- levels above the token: the broadcast form against the literal formula ----------------------

WHOLE = [
    rollout(5, mask=(True, False, True, True, False)),
    rollout(2, episode=1),
    rollout(4, episode=2, mask=(True, True, False, True)),
    rollout(3, episode=3),
]
ROWS = [*cut(WHOLE[0], [2, 3]), WHOLE[1], *cut(WHOLE[2], [3]), WHOLE[3]]
"""Four episodes with environment tokens among them, two of them cut into segments."""
ADVANTAGES = (1.5, -0.5, -2.0, 0.75)


def world(seed: int, step: float) -> tuple[Tensor, Batch]:
    """Random log-probs near the old ones and an advantage for each episode; other tokens far off, where none may look."""
    generator = torch.Generator().manual_seed(seed)
    batch = batch_of(ROWS)
    shape = batch.tokens.shape
    old = -torch.rand(shape, generator=generator, dtype=torch.float64) * 3
    now = old + step * torch.randn(shape, generator=generator, dtype=torch.float64)
    now = torch.where(batch.mask, now, old - 7)
    advantages = torch.tensor(ADVANTAGES, dtype=torch.float64)[batch.episodes][:, None] * batch.mask
    return now.requires_grad_(), replace(batch, old_logprobs=old, advantages=advantages)


def log_ratios(now: Tensor, batch: Batch) -> list[Tensor]:
    """Per episode, the log-ratios of its chosen tokens in a row, with gradient."""
    assert batch.old_logprobs is not None
    u = now - batch.old_logprobs
    found = []
    for episode in range(len(ADVANTAGES)):
        rows = torch.nonzero(batch.episodes == episode).flatten()
        found.append(torch.cat([u[i][batch.mask[i]] for i in rows]))
    return found


def literal(rho: Callable[[Tensor], Tensor], low: float, high: float, now: Tensor, batch: Batch) -> Tensor:
    """``-1/N sum_i min(s_i A_i, clip(s_i, 1 - low, 1 + high) A_i)``, written out."""
    terms = []
    for u, advantage in zip(log_ratios(now, batch), ADVANTAGES, strict=True):
        s = rho(u).exp()
        terms.append(torch.minimum(s * advantage, s.clamp(1 - low, 1 + high) * advantage))
    return -torch.stack(terms).mean()


def of_table(surrogate: Surrogate, aggregate: Aggregate, now: Tensor, batch: Batch) -> Tensor:
    return (aggregate(batch, batch.mask) * surrogate(now, batch, batch.mask)[0]).sum()


LEVELS: dict[str, tuple[Level, Callable[[Tensor], Tensor], Aggregate]] = {
    "sequence": (sequence, torch.sum, seq_mean_token_sum),
    "sequence_mean": (sequence_mean, torch.mean, seq_mean_token_mean),
}


@pytest.mark.parametrize("name", LEVELS)
@pytest.mark.parametrize(("low", "high"), [(3e-4, 4e-4), (0.05, 0.08), (0.2, 0.2), (1.0, 1e9)])
@given(st.integers(0, 10**6), st.sampled_from([1e-4, 0.01, 0.1, 0.4]))
@settings(deadline=None, max_examples=25, derandomize=True)
def test_the_gradient_of_a_sequence_ratio_is_that_of_the_literal_formula(
    name: str, low: float, high: float, seed: int, step: float
) -> None:
    level, rho, aggregate = LEVELS[name]
    now, batch = world(seed, step)
    exact = torch.autograd.grad(literal(rho, low, high, now, batch), now)[0]
    found = torch.autograd.grad(of_table(Clip(low, high, level=level), aggregate, now, batch), now)[0]
    assert torch.allclose(found, exact, rtol=1e-10, atol=1e-15)


@given(st.integers(0, 10**6), st.sampled_from([1e-4, 0.01, 0.1, 0.4]))
@settings(deadline=None, max_examples=25, derandomize=True)
def test_the_value_of_gspo_is_that_of_its_equation(seed: int, step: float) -> None:
    """Every token of a sequence has the sequence's value, so its mean is the value too (for the mean level)."""
    now, batch = world(seed, step)
    exact = literal(torch.mean, 3e-4, 4e-4, now, batch).item()
    found = of_table(Clip(3e-4, 4e-4, level=sequence_mean), seq_mean_token_mean, now, batch).item()
    assert found == pytest.approx(exact, rel=1e-10)


def test_gspo_clips_all_tokens_of_a_sequence_or_none() -> None:
    now, batch = world(0, 0.01)
    slope = torch.autograd.grad(of_table(Clip(3e-4, 4e-4, level=sequence_mean), seq_mean_token_mean, now, batch), now)[
        0
    ]
    moving = []
    for episode in range(len(ADVANTAGES)):
        mine = (batch.episodes == episode)[:, None] & batch.mask
        assert len(set((slope[mine] == 0).tolist())) == 1
        moving.append(bool((slope[mine] != 0).any()))
    assert len(set(moving)) == 2, "the test needs a sequence that is clipped and one that is not"


@pytest.mark.parametrize("name", LEVELS)
def test_cutting_an_episode_changes_nothing(name: str) -> None:
    level, _, aggregate = LEVELS[name]
    surrogate = Clip(0.05, 0.08, level=level)
    now, batch = world(11, 0.05)
    uncut = batch_of(WHOLE, advantages=[[a * m for m in r.mask] for a, r in zip(ADVANTAGES, WHOLE, strict=True)])
    assert batch.old_logprobs is not None

    def joined(values: Tensor) -> Tensor:
        out = torch.zeros(uncut.tokens.shape, dtype=torch.float64)
        for episode in range(len(WHOLE)):
            rows = torch.nonzero(batch.episodes == episode).flatten().tolist()
            line = torch.cat([values[i, : int(batch.lengths[i])] for i in rows])
            out[episode, : len(line)] = line
        return out

    one = joined(now.detach()).requires_grad_()
    uncut = replace(uncut, old_logprobs=joined(batch.old_logprobs))
    pieces = torch.autograd.grad(of_table(surrogate, aggregate, now, batch), now)[0]
    whole = torch.autograd.grad(of_table(surrogate, aggregate, one, uncut), one)[0]
    assert torch.allclose(joined(pieces), whole, rtol=1e-12, atol=1e-16)
