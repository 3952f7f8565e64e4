"""Losses by hand, and that they and their metrics add up."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace

import pytest
import torch

from burnish.core.aggregate import seq_mean_token_mean, token_mean
from burnish.core.algorithms import DR_GRPO, GRPO, REINFORCE, RLOO
from burnish.core.kl import KL, k1, k3
from burnish.core.losses import NLL, PolicyLoss
from burnish.core.surrogates import Clip, Plain
from burnish.types import Batch, Metrics, Outputs, add_metrics, means
from rows import batch_of, padded, rollout

ROWS = [rollout(2, 1.0), rollout(3, 0.0, episode=1, mask=(True, False, True)), rollout(1, 0.5, group=1, episode=2)]
LOGPROBS = [[-1.0, -2.0], [-0.5, -9.0, -0.25], [-4.0]]
ENTROPY = [[0.1, 0.2], [0.3, 7.0, 0.5], [0.6]]
ADVANTAGES = [[1.0, 1.0], [-2.0, 0.0, -2.0], [0.5]]
REFERENCE = [[-1.5, -2.0], [-0.25, -1.0, -0.5], [-3.0]]


def case() -> tuple[Outputs, Batch]:
    batch = batch_of(ROWS, advantages=ADVANTAGES, ref_logprobs=REFERENCE, sampler_logprobs=LOGPROBS)
    return Outputs(padded(LOGPROBS).requires_grad_(), padded(ENTROPY)), batch


def test_nll_by_hand() -> None:
    outputs, batch = case()
    loss, metrics = NLL()(outputs, NLL().prepare(batch))
    assert loss.item() == pytest.approx((1 + 2 + 0.5 + 0.25 + 4) / 5)
    assert metrics["loss"] == (pytest.approx(7.75), 5.0)
    assert metrics["entropy"] == (pytest.approx(0.1 + 0.2 + 0.3 + 0.5 + 0.6), 5.0)
    by_row = NLL(seq_mean_token_mean)
    assert by_row(outputs, by_row.prepare(batch))[0].item() == pytest.approx((3 / 2 + 0.75 / 2 + 4) / 3)


def test_nll_gradient_is_minus_the_weights_and_nothing_on_masked_tokens() -> None:
    outputs, batch = case()
    NLL()(outputs, NLL().prepare(batch))[0].backward()
    assert outputs.logprobs.grad is not None
    assert outputs.logprobs.grad.tolist() == [[-0.2, -0.2, 0], [-0.2, 0, -0.2], [-0.2, 0, 0]]


def test_nll_equals_plain_policy_gradient_with_advantage_one() -> None:
    outputs, batch = case()
    ones = replace(batch, advantages=torch.ones_like(padded(ADVANTAGES)))
    imitation = PolicyLoss(Plain(), token_mean)
    left, right = NLL()(outputs, NLL().prepare(batch))[0], imitation(outputs, imitation.prepare(ones))[0]
    assert left.item() == right.item()
    grads = [torch.autograd.grad(loss, outputs.logprobs)[0] for loss in (left, right)]
    assert torch.equal(*grads)


def test_policy_loss_by_hand() -> None:
    """sum w (-A logp + beta k1 - alpha H), w = 1/5: the terms of the five masked tokens written out."""
    outputs, batch = case()
    loss = PolicyLoss(Plain(), token_mean, kl=KL(k1, 0.1), entropy=0.01)
    value, metrics = loss(outputs, loss.prepare(batch))
    surrogate = 1 * 1 + 1 * 2 - 2 * 0.5 - 2 * 0.25 + 0.5 * 4
    divergence = 0.5 + 0.0 - 0.25 + 0.25 - 1.0
    entropy = 0.1 + 0.2 + 0.3 + 0.5 + 0.6
    assert value.item() == pytest.approx((surrogate + 0.1 * divergence - 0.01 * entropy) / 5, rel=1e-12)
    assert metrics["kl/ref_k1"] == (pytest.approx(divergence), 5.0)
    by_hand = sum(math.exp(-u) - 1 + u for u in (0.5, 0.0, -0.25, 0.25, -1.0))
    assert metrics["kl/ref"] == (pytest.approx(by_hand), 5.0)
    assert metrics["entropy"] == (pytest.approx(entropy), 5.0)


def test_the_entropy_bonus_rewards_entropy() -> None:
    outputs, batch = case()
    entropy = outputs.entropy.clone().requires_grad_()
    loss = PolicyLoss(Plain(), token_mean, entropy=0.3)
    loss(Outputs(outputs.logprobs, entropy), loss.prepare(batch))[0].backward()
    assert entropy.grad is not None
    assert entropy.grad.tolist() == [[-0.06, -0.06, 0], [-0.06, 0, -0.06], [-0.06, 0, 0]]


def test_sampler_and_trainer_are_compared_before_the_update() -> None:
    """E over the sampler's tokens of k3 estimates KL(sampler || trainer), so u = sampler - trainer."""
    outputs, batch = case()
    old = [[value - 0.1 for value in line] for line in LOGPROBS]
    loss = PolicyLoss(Plain(), token_mean)
    for annotated, gap in ((batch, 0.0), (replace(batch, old_logprobs=padded(old)), 0.1)):
        _, metrics = loss(outputs, loss.prepare(annotated))
        assert metrics["mismatch/abs"] == (pytest.approx(5 * gap), 5.0)
        assert metrics["mismatch/kl"] == (pytest.approx(5 * (math.exp(-gap) - 1 + gap), abs=1e-15), 5.0)


def test_baseline_rows_have_no_gradient_and_enter_no_metric() -> None:
    rows = [*ROWS, rollout(2, 5.0, episode=3, train=False)]
    extra = {"advantages": [*ADVANTAGES, [0, 0]], "ref_logprobs": [*REFERENCE, [-9, -9]]}
    batch = batch_of(rows, sampler_logprobs=[*LOGPROBS, [-7, -7]], **extra)
    outputs = Outputs(padded([*LOGPROBS, [-3, -3]]).requires_grad_(), padded([*ENTROPY, [2, 2]]))
    loss = PolicyLoss(Clip(), seq_mean_token_mean, kl=KL(k3, 0.04), entropy=0.1)
    value, metrics = loss(outputs, loss.prepare(batch))
    few_outputs, few = case()
    expected, expected_metrics = loss(few_outputs, loss.prepare(few))
    assert value.item() == pytest.approx(expected.item(), rel=1e-14)
    assert metrics == {name: pytest.approx(pair) for name, pair in expected_metrics.items()}
    value.backward()
    assert outputs.logprobs.grad is not None and (outputs.logprobs.grad[3] == 0).all()


@pytest.mark.parametrize("surrogate", [Plain(), Clip()], ids=str)
def test_masked_tokens_cannot_poison_the_loss(surrogate: Plain | Clip) -> None:
    """An environment token may be as unlikely as it likes: its exp() overflows, and zero times infinity is not zero."""
    outputs, batch = case()
    current = outputs.logprobs.detach().clone()
    old = current.clone()
    current[1, 1], old[1, 1] = -2000.0, 0.0
    reference = padded(REFERENCE)
    reference[1, 1] = 0.0
    for now, before in ((current, old), (old, current)):
        annotated = replace(batch, old_logprobs=before, ref_logprobs=reference if now is current else padded(REFERENCE))
        leaf = now.clone().requires_grad_()
        loss = PolicyLoss(surrogate, token_mean, kl=KL(k3, 0.04))
        value, metrics = loss(Outputs(leaf, outputs.entropy), loss.prepare(annotated))
        value.backward()
        assert leaf.grad is not None and bool(torch.isfinite(leaf.grad).all()) and math.isfinite(value.item())
        assert all(math.isfinite(total) for total, _ in metrics.values())


@pytest.mark.parametrize("loss", [NLL(), RLOO.loss, GRPO.loss], ids=["nll", "rloo", "grpo"])
def test_losses_and_metrics_add_up_over_rows(loss: NLL | PolicyLoss) -> None:
    outputs, batch = case()
    prepared = loss.prepare(batch)
    whole, expected = loss(outputs, prepared)
    total, metrics = 0.0, Metrics()
    for row in range(len(batch)):
        part, found = loss(Outputs(outputs.logprobs[[row]], outputs.entropy[[row]]), prepared.select([row]))
        total += part.item()
        metrics = add_metrics(metrics, found)
    assert total == pytest.approx(whole.item(), rel=1e-12)
    assert metrics == {name: pytest.approx(pair, abs=1e-15) for name, pair in expected.items()}


@pytest.mark.parametrize("loss", [NLL(), RLOO.loss, GRPO.loss], ids=["nll", "rloo", "grpo"])
def test_every_metric_reaches_the_log(loss: NLL | PolicyLoss) -> None:
    """A metric whose count is zero is left out where sums are divided: it would be computed for nobody."""
    outputs, batch = case()
    metrics = loss(outputs, loss.prepare(batch))[1]
    assert means(metrics).keys() == metrics.keys()


def test_losses_travel_as_values() -> None:
    for loss in (NLL(), REINFORCE.loss, RLOO.loss, GRPO.loss, DR_GRPO.loss):
        assert pickle.loads(pickle.dumps(loss)) == loss


def test_prepare_adds_its_own_weights_and_leaves_the_others() -> None:
    _, batch = case()
    both = GRPO.loss.prepare(NLL().prepare(batch))
    assert both.weights.keys() == {"nll", "policy"} and not batch.weights


def test_metrics_add_and_divide_once() -> None:
    total = add_metrics({"a": (1.0, 2.0)}, {"a": (2.0, 4.0), "b": (1.0, 0.0)})
    assert total == {"a": (3.0, 6.0), "b": (1.0, 0.0)}
    assert means(total) == {"a": 0.5}
