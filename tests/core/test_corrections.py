"""Sampler against trainer: factors by hand, constants of the loss, and exact where nothing is cut off."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from burnish.core.aggregate import seq_mean_token_sum, token_mean
from burnish.core.corrections import TIS, Correction, IcePop, SequenceMask
from burnish.core.kl import KL, k2
from burnish.core.levels import sequence
from burnish.core.losses import PolicyLoss
from burnish.core.surrogates import Clip, Plain, Ratio, Surrogate
from burnish.types import Batch, Metrics, Outputs
from rows import batch_of, cut, padded, rollout

ROWS = [
    *cut(rollout(4, mask=(True, False, True, True)), [2]),
    rollout(2, episode=1),
    rollout(2, episode=2),
    rollout(1, episode=3),
]
W = [[2.0, 1e6], [4.0, 1.0], [0.25, 0.5], [8.0, 0.5], [6.0]]
"""pi_old / mu: 2 | 4, 1 | of one episode with an environment token between, then 1/4, 1/2, then 8, 1/2, then 6."""
CORRECTIONS: dict[str, Correction] = {
    "tis": TIS(2.0),
    "tis_sequence": TIS(2.0, sequence),
    "icepop": IcePop(),
    "mask": SequenceMask(),
    "mask_weigh": SequenceMask(weigh=True),
}


def case() -> tuple[Tensor, Batch]:
    """The trainer's log-probs before the update, and the batch with the sampler's."""
    old = padded([[-1.0, -2.0], [-0.5, -1.0], [-3.0, -0.25], [-0.5, -1.0], [-2.0]])
    return old, batch_of(ROWS, sampler_logprobs=(old - padded(W).clamp(min=1e-9).log()).tolist())


def factor(correction: Correction) -> tuple[list[list[float]], Metrics]:
    old, batch = case()
    found, metrics = correction(old, batch, batch.mask)
    assert found.shape == batch.tokens.shape
    return [line[m].tolist() for line, m in zip(found, batch.mask, strict=True)], metrics


def check(correction: Correction, expected: list[list[float]], changed: float) -> None:
    found, metrics = factor(correction)
    assert [pytest.approx(x, rel=1e-12) for x in expected] == found
    total = sum(map(sum, expected))
    assert metrics == {"correction/mean": (pytest.approx(total), 8.0), "correction/frac": (changed, 8.0)}


def test_truncated_importance_sampling_by_hand() -> None:
    check(TIS(2.0), [[2.0], [2.0, 1.0], [0.25, 0.5], [2.0, 0.5], [2.0]], 3.0)
    check(TIS(5.0), [[2.0], [4.0, 1.0], [0.25, 0.5], [5.0, 0.5], [5.0]], 2.0)


def test_truncated_importance_sampling_of_sequences_by_hand() -> None:
    """2 * 4 * 1 = 8 over both segments, 1/8, 4 and 6."""
    check(TIS(5.0, sequence), [[5.0], [5.0, 5.0], [0.125, 0.125], [4.0, 4.0], [5.0]], 4.0)


def test_icepop_by_hand() -> None:
    """Its own factor inside [.5, 5], both ends included, and 0 outside."""
    check(IcePop(), [[2.0], [4.0, 1.0], [0.0, 0.5], [0.0, 0.5], [0.0]], 3.0)
    assert IcePop() == IcePop(0.5, 5.0)


def test_sequence_mask_by_hand() -> None:
    """Geometric means 8^(1/3) = 2, (1/8)^(1/2), 4^(1/2) = 2 and 6 against [.5, 2.1]."""
    check(SequenceMask(high=2.1), [[1.0], [1.0, 1.0], [0.0, 0.0], [1.0, 1.0], [0.0]], 3.0)
    check(SequenceMask(high=2.1, weigh=True), [[2.0], [4.0, 1.0], [0.0, 0.0], [8.0, 0.5], [0.0]], 3.0)
    check(SequenceMask(low=0.3, high=1.9), [[0.0], [0.0, 0.0], [1.0, 1.0], [0.0, 0.0], [0.0]], 6.0)


@pytest.mark.parametrize("correction", CORRECTIONS.values(), ids=CORRECTIONS)
def test_where_sampler_and_trainer_agree_the_factor_is_one(correction: Correction) -> None:
    old, batch = case()
    found, metrics = correction(old, replace(batch, sampler_logprobs=old), batch.mask)
    assert bool((found[batch.mask] == 1).all())
    assert metrics == {"correction/mean": (8.0, 8.0), "correction/frac": (0.0, 8.0)}


@pytest.mark.parametrize("old_given", [False, True])
@pytest.mark.parametrize("surrogate", [Plain(), Ratio(), Clip()], ids=["plain", "ratio", "clip"])
@pytest.mark.parametrize("correction", CORRECTIONS.values(), ids=CORRECTIONS)
def test_the_factor_is_a_constant_of_the_loss(correction: Correction, surrogate: Surrogate, old_given: bool) -> None:
    """Gradient with a correction = its factor times the gradient without, also where old is the current policy."""
    old, batch = case()
    now = (old + 0.05).requires_grad_()
    batch = replace(batch, advantages=padded([[1, 1], [1, 1], [-2, -2], [0.5, 0.5], [3]]))
    batch = replace(batch, old_logprobs=old if old_given else None)
    slopes = []
    for one in (None, correction):
        loss = PolicyLoss(surrogate, token_mean, correction=one)
        value, metrics = loss(Outputs(now, torch.zeros_like(now)), loss.prepare(batch))
        slopes.append(torch.autograd.grad(value, now)[0])
    before = old if old_given else now.detach()
    expected = torch.where(batch.mask, correction(before, batch, batch.mask)[0], 0.0)
    assert torch.allclose(slopes[1], expected * slopes[0], rtol=1e-12, atol=1e-16)
    assert metrics.keys() >= {"correction/mean", "correction/frac", "mismatch/kl"}


def test_a_correction_touches_the_surrogate_only() -> None:
    """With all factors 0 what is left is the KL and the entropy, as they were."""
    old, batch = case()
    now, entropy = (old + 0.3).requires_grad_(), torch.full_like(old, 0.7, requires_grad=True)
    batch = replace(batch, advantages=torch.ones_like(old), ref_logprobs=old)
    slopes, values = [], []
    for surrogate, correction in ((Plain(), IcePop(1e-9, 1e-8)), (Plain(), None)):
        loss = PolicyLoss(surrogate, token_mean, kl=KL(k2, 0.5), entropy=0.1, correction=correction)
        annotated = batch if correction else replace(batch, advantages=torch.zeros_like(old))
        value, _ = loss(Outputs(now, entropy), loss.prepare(annotated))
        values.append(value.item())
        slopes.append(torch.autograd.grad(value, (now, entropy)))
    assert values[0] == pytest.approx(values[1], rel=1e-12)
    assert values[0] == pytest.approx(0.5 * 0.3**2 / 2 - 0.1 * 0.7, rel=1e-12)
    for left, right in zip(*slopes, strict=True):
        assert torch.equal(left, right) and bool((left != 0).any())


@pytest.mark.parametrize("correction", CORRECTIONS.values(), ids=CORRECTIONS)
def test_corrections_add_up_over_units(correction: Correction) -> None:
    old, batch = case()
    batch = replace(batch, advantages=torch.ones_like(old), old_logprobs=old)
    loss = PolicyLoss(Ratio(), token_mean, correction=correction)
    batch = loss.prepare(batch)
    whole, expected = loss(Outputs(old, torch.zeros_like(old)), batch)
    pieces = [loss(Outputs(old[r], torch.zeros_like(old[r])), batch.select(r)) for r in ([0, 1], [2], [3], [4])]
    assert sum(value.item() for value, _ in pieces) == pytest.approx(whole.item(), rel=1e-12)
    for name, (total, count) in expected.items():
        assert sum(m[name][0] for _, m in pieces) == pytest.approx(total, abs=1e-12)
        assert sum(m[name][1] for _, m in pieces) == count


def test_corrections_travel_as_values() -> None:
    for correction in CORRECTIONS.values():
        assert pickle.loads(pickle.dumps(correction)) == correction


# --- enumerated: samples of one policy, gradient of another --------------------------------------

WORDS = [(a, b) for a in range(3) for b in range(3)]
REWARD = torch.tensor([0.3, -1.0, 2.0, 0.5, 0.0, 1.0, -2.0, 4.0, 1.5], dtype=torch.float64)


def logprobs(parameters: Tensor, temperature: float = 1.0) -> Tensor:
    """[9, 2] per token, of all texts of two of three tokens; row 0 of ``parameters`` is the first token's logits."""
    steps = torch.log_softmax(parameters / temperature, -1)
    return torch.stack([torch.stack([steps[0, a], steps[1 + a, b]]) for a, b in WORDS])


def expected_gradient(correction: Correction | None, theta: Tensor, trainer: Tensor, sampler: Tensor) -> Tensor:
    """E over the sampler's texts of the gradient of the loss."""
    rows = [rollout(2, episode=i) for i in range(len(WORDS))]
    advantages = REWARD[:, None].expand(-1, 2).tolist()
    batch = batch_of(rows, advantages=advantages, sampler_logprobs=sampler.tolist())
    loss = PolicyLoss(Plain(), seq_mean_token_sum, correction=correction)
    batch = loss.prepare(batch)
    odds = sampler.sum(1, keepdim=True).exp() * len(WORDS)
    batch = replace(batch, weights={"policy": batch.weights["policy"] * odds})
    return torch.autograd.grad(loss(Outputs(trainer, torch.zeros_like(trainer)), batch)[0], theta)[0]


def setting(temperature: float, noise: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Parameters, the trainer's and the sampler's log-probs at the sampling temperature, and the exact gradient."""
    generator = torch.Generator().manual_seed(0)
    theta = torch.randn(4, 3, generator=generator, dtype=torch.float64).requires_grad_()
    other = theta.detach() + noise * torch.randn(4, 3, generator=generator, dtype=torch.float64)
    trainer = logprobs(theta, temperature)
    exact = torch.autograd.grad(-(trainer.sum(1).exp() * REWARD).sum(), theta, retain_graph=True)[0]
    return theta, trainer, logprobs(other, temperature), exact


@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.7])
def test_without_a_mismatch_every_correction_is_exact_at_any_temperature(temperature: float) -> None:
    for correction in (None, *CORRECTIONS.values()):
        theta, trainer, sampler, exact = setting(temperature, 0.0)
        found = expected_gradient(correction, theta, trainer, sampler)
        assert torch.allclose(found, exact, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.7])
def test_sequence_importance_sampling_without_a_cap_is_exact(temperature: float) -> None:
    """The sampler's own policy is another one: unweighted samples are biased, w of the whole sequence is exact."""
    for correction, right in ((TIS(math.inf, sequence), True), (None, False), (TIS(math.inf), False)):
        theta, trainer, sampler, exact = setting(temperature, 0.5)
        found = expected_gradient(correction, theta, trainer, sampler)
        assert torch.allclose(found, exact, rtol=1e-10, atol=1e-13) is right
        assert right or (found - exact).norm() > 1e-2 * exact.norm()


def test_log_probs_at_another_temperature_than_the_sampling_one_are_a_mismatch() -> None:
    """What the module says of temperature can fail: sampled at .6, trained at 1, uncorrected."""
    theta, _, sampler, _ = setting(0.6, 0.0)
    trainer = logprobs(theta)
    exact = torch.autograd.grad(-(trainer.sum(1).exp() * REWARD).sum(), theta, retain_graph=True)[0]
    found = expected_gradient(None, theta, trainer, sampler)
    assert (found - exact).norm() > 1e-2 * exact.norm()
    assert torch.allclose(
        expected_gradient(TIS(math.inf, sequence), theta, logprobs(theta), sampler), exact, rtol=1e-10
    )
