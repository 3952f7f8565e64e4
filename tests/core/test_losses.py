"""Losses by hand, and that they and their metrics add up."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace

import pytest
import torch

from burnish.core.aggregate import seq_mean_token_mean, token_mean
from burnish.core.algorithms import APA, DR_GRPO, GRPO, GSPO, KIMI, PPO, RLOO, SAPO, VAPO, Algorithm, table
from burnish.core.corrections import TIS, SequenceMask
from burnish.core.kl import KL, k1, k3
from burnish.core.losses import NLL, PolicyLoss, ValueLoss
from burnish.core.surrogates import Clip, Plain, Squared, Surrogate
from burnish.types import Batch, Metrics, Outputs, add_metrics, means
from rows import batch_of, cut, groups, padded, rollout

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


@pytest.mark.parametrize("surrogate", [Plain(), Clip()], ids=["plain", "clip"])
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
    corrected = replace(GSPO, correction=SequenceMask(weigh=True))
    losses = [NLL(), ValueLoss(), corrected.loss, *(x for a in table().values() for x in (a.loss, a.value_loss))]
    assert len(losses) > 20
    for loss in losses:
        assert pickle.loads(pickle.dumps(loss)) == loss


def test_prepare_adds_its_own_weights_and_leaves_the_others() -> None:
    _, batch = case()
    both = GRPO.loss.prepare(NLL().prepare(batch))
    assert both.weights.keys() == {"nll", "policy"} and not batch.weights


def test_metrics_add_and_divide_once() -> None:
    total = add_metrics({"a": (1.0, 2.0)}, {"a": (2.0, 4.0), "b": (1.0, 0.0)})
    assert total == {"a": (3.0, 6.0), "b": (1.0, 0.0)}
    assert means(total) == {"a": 0.5}


# --- the critic ----------------------------------------------------------------------------------

VALUES = [[1.0, 3.0], [0.5, 99.0, -1.0], [2.0]]
BEFORE = [[1.0, 2.0], [0.0, 0.0, 0.0], [2.5]]
RETURNS = [[2.0, 2.5], [1.0, -7.0, -3.0], [2.0]]
UNTRAINED = rollout(2, 5.0, episode=3, train=False)


def critic() -> tuple[Outputs, Batch]:
    """Five chosen tokens, an environment token in the middle of the second row, and a row that is not trained on."""
    values, before, returns = ([*x, [7.0, 7.0]] for x in (VALUES, BEFORE, RETURNS))
    batch = batch_of([*ROWS, UNTRAINED], values=before, returns=returns)
    heads = {"value": padded(values).requires_grad_()}
    nothing = torch.zeros(batch.tokens.shape, dtype=torch.float64)
    return Outputs(nothing, nothing, heads), batch


def test_value_loss_by_hand() -> None:
    """Errors V - R: -1, .5 | -.5, 2 | 0 over five tokens."""
    outputs, batch = critic()
    for coef in (1.0, 0.25):
        loss = ValueLoss(clip=0.0, coef=coef)
        value, metrics = loss(outputs, loss.prepare(batch))
        assert value.item() == pytest.approx(coef / 2 * (1 + 0.25 + 0.25 + 4 + 0) / 5, rel=1e-13)
        assert metrics["value/loss"] == (pytest.approx(5.5 / 2), 5.0)
        assert metrics["value/mean"] == (pytest.approx(1 + 3 + 0.5 - 1 + 2), 5.0)
        assert "value/clip_frac" not in metrics


def test_clipped_value_loss_by_hand() -> None:
    """c = .2: clipped values 1, 2.2 | .2, -.2 | 2.3 with errors -1, -.3 | -.8, 2.8 | .3; the larger square counts."""
    outputs, batch = critic()
    loss = ValueLoss(clip=0.2)
    value, metrics = loss(outputs, loss.prepare(batch))
    assert value.item() == pytest.approx((1 + 0.25 + 0.64 + 2.8**2 + 0.09) / 2 / 5, rel=1e-13)
    assert metrics["value/clip_frac"] == (3.0, 5.0)
    assert metrics["value/loss"] == (pytest.approx(5.5 / 2), 5.0)


@pytest.mark.parametrize("clip", [0.0, 0.2, 0.7])
def test_value_gradient_is_the_error_where_the_clip_lets_go(clip: float) -> None:
    """``coef/5 (V - R)``, and 0 where the clipped square is the larger one and V has left the range."""
    outputs, batch = critic()
    loss = ValueLoss(clip, coef=0.5)
    loss(outputs, loss.prepare(batch))[0].backward()
    slope = outputs.heads["value"].grad
    assert slope is not None and batch.values is not None and batch.returns is not None
    value = outputs.heads["value"].detach()
    error = value - batch.returns
    clipped = batch.values + (value - batch.values).clamp(-clip, clip) - batch.returns
    stopped = (clipped.square() > error.square()) & ((value - batch.values).abs() > clip)
    expected = 0.5 / 5 * torch.where(stopped & (clip > 0), 0.0, error)
    expected = expected * (batch.mask & batch.train[:, None])
    assert torch.allclose(slope, expected, rtol=1e-12, atol=0)
    assert int((slope[:3] != 0).sum()) == {0.0: 4, 0.2: 2, 0.7: 3}[clip]


def test_value_loss_is_least_at_the_returns_and_adds_up_over_rows() -> None:
    outputs, batch = critic()
    assert batch.returns is not None
    loss = ValueLoss(clip=0.2)
    prepared = loss.prepare(batch)
    whole, expected = loss(outputs, prepared)
    total, metrics = 0.0, Metrics()
    for row in range(len(batch)):
        head = {"value": outputs.heads["value"][[row]]}
        part, found = loss(replace(outputs, heads=head), prepared.select([row]))
        total += part.item()
        metrics = add_metrics(metrics, found)
    assert total == pytest.approx(whole.item(), rel=1e-12)
    assert metrics == {name: pytest.approx(pair) for name, pair in expected.items()}
    perfect = replace(outputs, heads={"value": batch.returns})
    assert loss(perfect, replace(prepared, values=batch.returns))[0].item() == 0


def test_masked_values_cannot_poison_the_critic() -> None:
    outputs, batch = critic()
    head = outputs.heads["value"].detach().clone()
    head[1, 1] = math.inf
    head.requires_grad_()
    loss = ValueLoss()
    value, _ = loss(replace(outputs, heads={"value": head}), loss.prepare(batch))
    value.backward()
    assert math.isfinite(value.item()) and head.grad is not None and bool(torch.isfinite(head.grad).all())


# --- imitation -----------------------------------------------------------------------------------


def test_imitation_by_hand() -> None:
    """The mean negative log-likelihood over the tokens of episodes with a positive reward: 1, 2 and 4 over three."""
    outputs, batch = case()
    plain, with_term = PolicyLoss(Plain(), token_mean), PolicyLoss(Plain(), token_mean, imitation=0.1)
    values = [loss(outputs, loss.prepare(batch))[0] for loss in (plain, with_term)]
    assert (values[1] - values[0]).item() == pytest.approx(0.1 * (1 + 2 + 4) / 3, rel=1e-12)
    slopes = [torch.autograd.grad(value, outputs.logprobs)[0] for value in values]
    assert (slopes[1] - slopes[0]).flatten().tolist() == pytest.approx(
        [-0.1 / 3, -0.1 / 3, 0, 0, 0, 0, -0.1 / 3, 0, 0], abs=1e-16
    )
    assert VAPO.loss.imitation == 0.1


@pytest.mark.parametrize("reward", [0.0, -1.0])
def test_without_a_positive_reward_there_is_nothing_to_imitate(reward: float) -> None:
    outputs, batch = case()
    batch = replace(batch, token_rewards=torch.full_like(outputs.logprobs, reward).detach())
    values = []
    for imitation in (0.0, 0.1):
        loss = PolicyLoss(Plain(), token_mean, imitation=imitation)
        values.append(loss(outputs, loss.prepare(batch))[0].item())
    assert values[0] == values[1]


def test_an_episode_in_segments_is_imitated_as_a_whole() -> None:
    """Its reward is in the last segment; the one that is not trained on is left out however good it was."""
    rows = [*cut(rollout(3, 2.0), [1]), rollout(1, -1.0, episode=1), UNTRAINED]
    batch = batch_of(rows, advantages=[[0.0, 0.0]] * 4)
    now = padded([[-1.0], [-2.0, -3.0], [-5.0], [-7.0, -7.0]])
    loss = PolicyLoss(Plain(), token_mean, imitation=1.0)
    prepared = loss.prepare(batch)
    assert loss(Outputs(now, torch.zeros_like(now)), prepared)[0].item() == pytest.approx(2.0)
    pieces = [loss(Outputs(now[r], 0 * now[r]), prepared.select(r))[0].item() for r in ([0, 1], [2], [3])]
    assert pieces == pytest.approx([2.0, 0.0, 0.0])
    assert loss.idle(prepared).tolist() == [False, False, True, True]


# --- idle rows -----------------------------------------------------------------------------------


@pytest.mark.parametrize("surrogate", [Plain(), Clip()], ids=["plain", "clip"])
def test_idle_rows_may_be_left_out_of_the_forward_pass(surrogate: Surrogate) -> None:
    rows = [*groups([[1, 1], [0, 2]]), replace(UNTRAINED, episode=9)]
    advantages = [[0.0, 0.0], [0.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [3.0, 3.0]]
    batch = batch_of(rows, advantages=advantages)
    for loss, silent in (
        (PolicyLoss(surrogate, token_mean), [True, True, False, False, True]),
        (PolicyLoss(surrogate, token_mean, correction=TIS()), [True, True, False, False, True]),
        (PolicyLoss(surrogate, token_mean, imitation=0.1), [False, False, False, False, True]),
        (PolicyLoss(surrogate, token_mean, kl=KL()), [False] * 5),
        (PolicyLoss(surrogate, token_mean, entropy=0.1), [False] * 5),
        (PolicyLoss(Squared(), token_mean), [False, False, False, False, True]),
    ):
        assert loss.idle(batch).tolist() == silent


def test_segments_of_one_episode_are_idle_together() -> None:
    """An advantage of 0 on one segment does not let it go: its log-ratio is part of the sequence's, its unit is whole."""
    rows = [*cut(rollout(4, 1.0), [2]), *cut(rollout(4, 1.0, episode=1), [2])]
    batch = batch_of(rows, advantages=[[0.0, 0.0], [1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    idle = GSPO.idle(batch)
    assert idle.tolist() == [False, False, True, True]
    assert len(batch.select(torch.nonzero(~idle).flatten())) == 2


# --- truncated completions -----------------------------------------------------------------------


def test_truncated_completions_stay_in_the_statistics_and_leave_the_loss() -> None:
    """Rewards 0, 1, 5 of one prompt, the last one truncated: the mean is still 2, and N is 2."""
    rows = groups([[0, 1, 5]], [[2, 1, 2]])
    rows[2] = replace(rows[2], finish="length")
    masked = replace(DR_GRPO, mask_truncated=True)
    batch = masked.loss.prepare(masked.credit(batch_of(rows, 4), {}))
    kept = DR_GRPO.loss.prepare(DR_GRPO.credit(batch_of(rows, 4), {}))
    assert batch.advantages is not None and kept.advantages is not None
    assert torch.equal(batch.advantages, kept.advantages) and batch.advantages[:, 0].tolist() == [-2.0, -1.0, 3.0]
    assert batch.train.tolist() == [True, True, False] and kept.train.all()
    assert batch.weights["policy"].tolist() == [[1 / 8, 1 / 8], [1 / 8, 0], [0, 0]]
    assert masked.idle(batch).tolist() == [False, False, True]
    now = padded([[-1.0, -1.0], [-1.0], [-1.0, -1.0]]).requires_grad_()
    value, metrics = masked.loss(Outputs(now, torch.zeros_like(now)), batch)
    assert torch.autograd.grad(value, now)[0].tolist() == [[0.25, 0.25], [0.125, 0], [0, 0]]
    assert metrics["ratio/mean"][1] == 3.0


def test_an_episode_is_truncated_as_a_whole() -> None:
    row = replace(rollout(4, 1.0), finish="length")
    batch = batch_of([*cut(row, [2]), rollout(2, 0.0, episode=1)])
    algo = replace(DR_GRPO, mask_truncated=True)
    assert algo.credit(batch, {}).train.tolist() == [False, False, True]


# --- everything the table says, in any split -----------------------------------------------------


@pytest.mark.parametrize("algo", [GSPO, KIMI, SAPO, APA, PPO, VAPO], ids=["gspo", "kimi", "sapo", "apa", "ppo", "vapo"])
@pytest.mark.parametrize("correction", [None, TIS(), SequenceMask()], ids=["none", "tis", "mask"])
def test_the_table_adds_up_over_units(algo: Algorithm, correction: TIS | SequenceMask | None) -> None:
    """Episodes of several segments, environment tokens, an untrained row: loss, gradient and metrics."""
    algo = replace(algo, correction=correction)
    rows = [
        *cut(rollout(5, 1.0, mask=(True, False, True, True, True)), [2, 3]),
        *groups([[0.0, 3.0]], [[2, 3]]),
        UNTRAINED,
    ]
    rows = [replace(r, episode=e) for r, e in zip(rows, (0, 0, 0, 1, 2, 3), strict=True)]
    generator = torch.Generator().manual_seed(7)
    shape = batch_of(rows).tokens.shape

    def some(scale: float) -> torch.Tensor:
        return -torch.rand(shape, generator=generator, dtype=torch.float64) * scale

    batch = replace(
        batch_of(rows), old_logprobs=some(2), ref_logprobs=some(2), sampler_logprobs=some(2), advantages=some(1) + 0.5
    )
    now = (some(2)).requires_grad_()
    prepared = algo.loss.prepare(batch)
    whole, expected = algo.loss(Outputs(now, torch.zeros_like(now)), prepared)
    slope = torch.autograd.grad(whole, now)[0]
    total, metrics, pieces = 0.0, Metrics(), torch.zeros_like(now)
    for part in ([3], [0, 1, 2], [5], [4]):
        leaf = now.detach()[part].requires_grad_()
        value, found = algo.loss(Outputs(leaf, torch.zeros_like(leaf)), prepared.select(part))
        pieces[part] = torch.autograd.grad(value, leaf)[0]
        total += value.item()
        metrics = add_metrics(metrics, found)
    assert total == pytest.approx(whole.item(), rel=1e-12)
    assert torch.allclose(pieces, slope, rtol=1e-12, atol=1e-16)
    assert metrics == {name: pytest.approx(pair, abs=1e-12) for name, pair in expected.items()}
