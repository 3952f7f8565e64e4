"""Where algorithms meet: different products that are the same update, in numbers and token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from burnish.core.advantages import Advantage, BatchMean, Constant, Greedy, GroupMean, LeaveOneOut
from burnish.core.aggregate import constant, seq_mean_token_mean, seq_mean_token_sum, token_mean
from burnish.core.algorithms import (
    APA,
    CISPO,
    DAPO,
    DR_GRPO,
    GRPO,
    GRPO_PROCESS,
    GSPO,
    KIMI,
    LITE_PPO,
    PPO,
    PPO_PTX,
    REINFORCE_PP,
    REINFORCE_PP_BASELINE,
    RLOO,
    SAPO,
    VAPO,
    Algorithm,
    table,
)
from burnish.core.kl import KL, k2, k3, k3_unbiased
from burnish.core.levels import sequence, sequence_mean
from burnish.core.losses import NLL
from burnish.core.returns import GAE, NStep, ProcessGroup, Return, Whiten
from burnish.core.surrogates import Clip, Plain, Ratio
from burnish.types import Batch, Outputs, Rollout
from rows import batch_of, groups, rollout

LIMIT = 6
LENGTHS = [[3, 1, 5, 2], [4, 4, 1]]
REWARDS = [[0.0, 1.0, 1.0, -2.0], [3.0, 0.5, 0.0]]
QUIET = settings(deadline=None, max_examples=30, derandomize=True)


def normal(seed: int, shape: torch.Size, scale: float) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def case(
    lengths: Sequence[Sequence[int]] = LENGTHS, rewards: Sequence[Sequence[float]] = REWARDS, moved: float = 0.3
) -> Batch:
    """A batch in the middle of its updates: ``now`` is what the policy says, ``moved`` how far it is from the old one."""
    return say(groups(rewards, lengths), moved)


def say(rows: Sequence[Rollout], moved: float) -> Batch:
    batch = batch_of(rows, LIMIT)
    shape = batch.tokens.shape
    now = normal(0, shape, 0.5) - 2
    old = None if moved == 0 else now + normal(1, shape, moved)
    return replace(
        batch,
        old_logprobs=old,
        ref_logprobs=now + normal(2, shape, 0.4),
        values=normal(3, shape, 1.0),
        extras={**batch.extras, "now": ("token", now)},
    )


def gradient(algo: Algorithm, batch: Batch) -> Tensor:
    """[B, T] the gradient of the loss in the log-probabilities."""
    batch = algo.loss.prepare(algo.credit(batch, algo.init()))
    logprobs = batch.extra("now").clone().requires_grad_()
    loss, _ = algo.loss(Outputs(logprobs, torch.zeros_like(logprobs)), batch)
    return torch.autograd.grad(loss, logprobs)[0]


def assert_same(left: Tensor, right: Tensor) -> None:
    assert bool(left.any()), "nothing is proved by comparing zeros"
    assert torch.allclose(left, right, rtol=1e-10, atol=1e-14)


def assert_differ(left: Tensor, right: Tensor) -> None:
    assert not torch.allclose(left, right, rtol=1e-3, atol=1e-6)


def credit(advantage: Advantage, batch: Batch) -> Tensor:
    assert batch.token_rewards is not None
    return advantage(batch, batch.token_rewards, advantage.init())


# --- one surrogate or another --------------------------------------------------------------------


def test_dapo_with_equal_clips_is_token_mean_grpo_without_a_kl() -> None:
    batch = case()
    even = replace(DAPO, surrogate=Clip(0.2, 0.2))
    assert_same(gradient(even, batch), gradient(replace(GRPO, aggregate=token_mean, kl=None), batch))
    assert replace(even, select=None) == replace(GRPO, aggregate=token_mean, kl=None)
    assert_differ(gradient(DAPO, case(moved=0.6)), gradient(even, case(moved=0.6)))


@pytest.mark.parametrize(
    "algo",
    [CISPO, SAPO, DAPO, GSPO, DR_GRPO, LITE_PPO, PPO, VAPO, REINFORCE_PP, GRPO_PROCESS],
    ids=["cispo", "sapo", "dapo", "gspo", "dr-grpo", "lite-ppo", "ppo", "vapo", "reinforce-pp", "grpo-process"],
)
def test_at_ratio_one_every_surrogate_is_reinforce(algo: Algorithm) -> None:
    """No old log-probs, or old ones equal to the current ones: the gradient is -w A."""
    algo = replace(algo, kl=None, reward_kl=None, imitation=0.0)
    batch = case(moved=0)
    expected = gradient(replace(algo, surrogate=Plain()), batch)
    assert_same(gradient(algo, batch), expected)
    assert_same(gradient(algo, replace(batch, old_logprobs=batch.extra("now"))), expected)
    assert_differ(gradient(algo, case()), expected)


def test_gspo_with_single_tokens_is_grpo() -> None:
    """One token a completion: the sequence's ratio is the token's, with whatever clip range."""
    batch = case([[1] * 4, [1] * 3])
    for low, high in ((3e-4, 4e-4), (0.2, 0.28)):
        token = replace(GRPO, kl=None, surrogate=Clip(low, high))
        assert_same(
            gradient(replace(GSPO, surrogate=Clip(low, high, level=sequence_mean)), batch), gradient(token, batch)
        )
    longer = case()
    assert_differ(
        gradient(replace(GSPO, surrogate=Clip(0.2, 0.2, level=sequence_mean)), longer),
        gradient(replace(GRPO, kl=None), longer),
    )


def test_an_open_clip_is_the_plain_ratio() -> None:
    batch = case(moved=0.6)
    for level in (sequence, sequence_mean):
        assert_same(
            gradient(replace(GSPO, surrogate=Clip(1e9, 1e9, level=level)), batch),
            gradient(replace(GSPO, surrogate=Ratio(level)), batch),
        )


def test_an_open_weight_clip_is_the_plain_ratio() -> None:
    """CISPO's gradient is ``rho A grad log pi``, the ratio's own, until the weight is clipped."""
    ratio = replace(CISPO, surrogate=Ratio())
    assert_same(gradient(CISPO, case()), gradient(ratio, case()))
    assert_differ(gradient(CISPO, case(moved=4.0)), gradient(ratio, case(moved=4.0)))


# --- a critic, a group, a constant ---------------------------------------------------------------


def with_group_values(batch: Batch) -> Batch:
    """A critic that says the group's mean reward everywhere."""
    assert batch.token_rewards is not None
    score = batch.token_rewards.sum(1)
    mean = torch.stack([score[batch.groups == g].mean() for g in batch.groups])
    return replace(batch, values=mean[:, None].expand(batch.tokens.shape))


@pytest.mark.parametrize("advantage", [GAE(1.0, 1.0), NStep(LIMIT)], ids=["gae", "n-step"])
def test_ppo_with_the_groups_mean_for_a_critic_has_the_groups_baseline(advantage: Advantage) -> None:
    """lambda 1, gamma 1, no whitening: Monte Carlo return minus V. With that, PPO is Dr. GRPO by the mean over tokens."""
    batch = with_group_values(case())
    ppo = replace(PPO, advantage=advantage, reward_kl=None)
    centred = replace(DR_GRPO, aggregate=token_mean)
    assert_same(credit(advantage, batch), credit(GroupMean(std=False), batch))
    assert_same(gradient(ppo, batch), gradient(centred, batch))
    assert_differ(gradient(replace(ppo, advantage=GAE(1.0, 0.5)), batch), gradient(centred, batch))


def test_without_a_critic_gae_is_the_return_and_the_target_is_the_return() -> None:
    batch = replace(case(), values=torch.zeros(case().tokens.shape, dtype=torch.float64))
    for gamma in (1.0, 0.8):
        assert_same(credit(GAE(gamma, 1.0), batch), credit(Return(gamma), batch))
    assert batch.token_rewards is not None
    assert_same(credit(Return(), batch), GAE(1.0, lam_value=1.0, alpha=0.05).returns(batch, batch.token_rewards))


def test_vapo_with_a_huge_alpha_or_none() -> None:
    """alpha 0 leaves lambda as it is; alpha without bound is lambda 1; a small one is lambda 0 for short completions."""
    batch = case()
    assert_same(credit(replace_gae(alpha=0.0), batch), credit(GAE(1.0, 0.95), batch))
    assert_same(credit(replace_gae(alpha=1e15), batch), credit(GAE(1.0, 1.0), batch))
    assert_same(credit(replace_gae(alpha=1 / LIMIT), batch), credit(GAE(1.0, 0.0), batch))
    assert isinstance(VAPO.advantage, GAE) and (VAPO.advantage.alpha, VAPO.advantage.lam_value) == (0.05, 1.0)


def replace_gae(alpha: float) -> GAE:
    assert isinstance(VAPO.advantage, GAE)
    return replace(VAPO.advantage, alpha=alpha)


def test_vapo_without_its_additions_is_ppo() -> None:
    batch = case()
    bare = replace(VAPO, advantage=GAE(1.0, 0.95), surrogate=Clip(0.2, 0.2), imitation=0.0)
    assert bare == replace(PPO, reward_kl=None)
    assert_same(gradient(bare, batch), gradient(replace(PPO, reward_kl=None), batch))


def test_vapos_imitation_is_the_likelihood_of_rewarded_completions() -> None:
    batch = case()
    algo = replace(VAPO, imitation=0.1)
    extra = gradient(algo, batch) - gradient(replace(VAPO, imitation=0.0), batch)
    assert batch.token_rewards is not None
    good = batch.mask & (batch.token_rewards.sum(1) > 0)[:, None]
    assert_same(extra, -0.1 * good.double() / good.sum())


def test_supervised_fine_tuning_is_plain_with_advantage_one() -> None:
    batch = case()
    for aggregate in (token_mean, seq_mean_token_mean):
        logprobs = batch.extra("now").clone().requires_grad_()
        nll = NLL(aggregate)
        loss, _ = nll(Outputs(logprobs, torch.zeros_like(logprobs)), nll.prepare(batch))
        expected = torch.autograd.grad(loss, logprobs)[0]
        assert_same(gradient(Algorithm(Constant(1.0), Plain(), aggregate), batch), expected)


def test_leave_one_out_centred_and_dr_grpo() -> None:
    """G/(G-1) between leave-one-out and the centred reward; 1/L between a sum over tokens and a constant."""
    one = case([LENGTHS[0]], [REWARDS[0]], moved=0)
    rloo = gradient(replace(RLOO, reward_kl=None), one)
    assert_same(rloo, 4 / 3 * gradient(Algorithm(GroupMean(std=False), Plain(), seq_mean_token_sum), one))
    assert_same(rloo, 4 / 3 * LIMIT * gradient(DR_GRPO, one))
    assert_same(gradient(replace(DR_GRPO, aggregate=constant(LIMIT)), one), gradient(DR_GRPO, one))


@given(st.lists(st.integers(-8, 8).map(float), min_size=2, max_size=5), st.floats(-5, 5))
@QUIET
def test_a_pair_and_a_greedy_answer(rewards: list[float], greedy: float) -> None:
    """ReMax against the other answer of a pair is RLOO's first half; one group is a batch of its own."""
    batch = batch_of(groups([rewards]))
    for std in (False, True):
        assert torch.allclose(credit(BatchMean(std), batch), credit(GroupMean(std), batch), rtol=1e-12, atol=1e-12)
    pair = batch_of([rollout(1, rewards[0]), rollout(1, greedy, episode=1, train=False)])
    both = batch_of(groups([[rewards[0], greedy]]))
    assert torch.allclose(credit(Greedy(), pair)[0], credit(LeaveOneOut(), both)[0], rtol=1e-12, atol=1e-12)


# --- credit along the way ------------------------------------------------------------------------


def test_outcome_rewards_make_every_credit_without_a_critic_one() -> None:
    """One reward at the end and no discount: to go or not, by steps or not, every token has the same."""
    batch = case()
    score = credit(Return(), batch)
    assert_same(credit(Return(to_go=False), batch), score)
    assert_same(gradient(GRPO_PROCESS, batch), gradient(GRPO, batch))
    assert_same(credit(ProcessGroup(std=False), batch), credit(GroupMean(std=False), batch))


def test_reinforce_pp_with_single_tokens_standardises_the_batch() -> None:
    batch = case([[1] * 4, [1] * 3])
    whitened = credit(Whiten(Return()), batch)
    assert torch.allclose(whitened, credit(BatchMean(std=True), batch), rtol=1e-7)


def test_lite_ppo_is_reinforce_pp_with_a_baseline_and_without_its_kl() -> None:
    """With answers of one length the centred rewards have mean 0 already, so centring them again does nothing."""
    even = case([[3] * 4, [3] * 3])
    assert_same(gradient(replace(REINFORCE_PP_BASELINE, kl=None), even), gradient(LITE_PPO, even))
    assert_differ(gradient(replace(REINFORCE_PP_BASELINE, kl=None), case()), gradient(LITE_PPO, case()))


# --- divergences ---------------------------------------------------------------------------------


def test_k2_and_the_weighted_k3_have_one_gradient_and_k3_another() -> None:
    batch = case()
    squared, weighted, plain = (
        gradient(replace(GRPO, kl=KL(estimator, 5.0)), batch) for estimator in (k2, k3_unbiased, k3)
    )
    assert_same(squared, weighted)
    assert_differ(squared, plain)


def test_a_kl_to_the_reference_at_the_reference_changes_nothing() -> None:
    batch = case()
    there = replace(batch, ref_logprobs=batch.extra("now"))
    assert_same(gradient(GRPO, there), gradient(replace(GRPO, kl=None), there))
    assert_differ(gradient(GRPO, batch), gradient(replace(GRPO, kl=None), batch))
    home = replace(batch, ref_logprobs=batch.old_logprobs)
    assert_same(gradient(RLOO, home), gradient(replace(RLOO, reward_kl=None), home))


def test_kimi_at_its_first_update_is_reinforce_with_the_groups_mean() -> None:
    assert_same(gradient(KIMI, case(moved=0)), gradient(replace(KIMI, kl=None), case(moved=0)))
    assert_differ(gradient(KIMI, case()), gradient(replace(KIMI, kl=None), case()))


def test_apa_at_the_reference_is_a_policy_gradient() -> None:
    """d/dlogp (u - A)^2 at u = 0 is -2 A: twice the plain gradient with the same advantages."""
    batch = case(moved=0)
    there = replace(batch, ref_logprobs=batch.extra("now"))
    assert_same(gradient(APA, there), 2 * gradient(replace(APA, surrogate=Plain()), there))


# --- the table -----------------------------------------------------------------------------------


def test_ppo_ptx_differs_from_ppo_beside_the_policy_loss_only() -> None:
    assert replace(PPO_PTX, pretraining=0.0) == PPO and PPO_PTX.loss == PPO.loss


def test_only_critics_have_value_parameters() -> None:
    """GRPO and its relatives have no critic, no targets, and no use for values."""
    critics = {name for name, algo in table().items() if algo.needs_critic}
    assert critics == {"a2c", "trpo", "ppo", "ppo_ptx", "vapo", "apa"}
    batch = replace(case(), values=None)
    for name, algo in table().items():
        if name not in critics and not algo.needs_greedy:
            assert algo.credit(batch, {**algo.init()}).returns is None


@pytest.mark.parametrize(
    "name", ["grpo", "dr_grpo", "dapo", "gspo", "cispo", "sapo", "kimi", "lite_ppo", "grpo_process"]
)
def test_groups_without_a_difference_have_no_policy_gradient(name: str) -> None:
    """Equal rewards, and groups of one: no gradient but the KL's, at the first update and later."""
    algo = table()[name]
    for moved in (0.0, 0.3):
        batch = case([[3, 1, 5], [2]], [[0.1, 0.1, 0.1], [7.0]], moved)
        assert not gradient(replace(algo, kl=None), batch).any()


def test_the_weight_of_a_token_under_dr_grpo() -> None:
    """Not on the length of its own answer and not on the spread of its group; GRPO's on both."""

    def slopes(algo: Algorithm, length: int, scale: float) -> float:
        batch = case([[length, 2, 2], [1, 1]], [[scale, 0.0, 0.0], [0.0, 1.0]], moved=0)
        return gradient(replace(algo, kl=None), batch)[0, 0].item() / scale

    free, bound = DR_GRPO, GRPO
    assert slopes(free, 5, 1.0) == pytest.approx(slopes(free, 1, 1.0), rel=1e-12)
    assert slopes(free, 5, 1.0) == pytest.approx(slopes(free, 5, 10.0), rel=1e-12)
    assert slopes(bound, 5, 1.0) == pytest.approx(slopes(bound, 1, 1.0) / 5, rel=1e-12)
    assert slopes(bound, 5, 10.0) == pytest.approx(slopes(bound, 5, 1.0) / 10, rel=1e-12)
