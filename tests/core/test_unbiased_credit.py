"""Which estimators of the policy gradient are exact on average, and how far off the others are, by enumeration.

Every trajectory of a small world, every pair or group of them, goes through the production path (collate, credit,
prepare, loss) and is weighed with its probability. Rewards are given along the way; in one world the environment answers
between choices. Exact means 1e-10 in float64; a known bias is a number here, so that a changed one is seen.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from burnish.core.advantages import EMA, Advantage, BatchMean, GroupMean, LeaveOneOut
from burnish.core.aggregate import seq_mean_token_mean, seq_mean_token_sum, token_mean
from burnish.core.algorithms import A2C, DR_GRPO, GRPO, REINFORCE, REMAX, RLOO, Algorithm
from burnish.core.corrections import TIS, Correction, IcePop, SequenceMask
from burnish.core.kl import KL, Estimator, k1, k2, k3
from burnish.core.levels import sequence
from burnish.core.returns import GAE, NStep, ProcessGroup, Return, Whiten
from burnish.core.surrogates import Plain
from burnish.types import Batch
from tables import Choices, World, angle_off, best_factor, distance, seeded

EXACT = 1e-10
WORLDS = {
    "two-tokens": World(2, 4, seed=3),
    "environment": World(3, 3, seed=0, answers=True),
    "four-tokens": World(4, 2, seed=5),
}
every_world = pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS.keys())
NEAR = WORLDS["environment"]


def plain(advantage: Advantage, correction: Correction | None = None, reward_kl: KL | None = None) -> Algorithm:
    """The policy gradient with this credit and nothing else."""
    return Algorithm(advantage, Plain(), seq_mean_token_sum, correction=correction, reward_kl=reward_kl)


def mean_score(world: World) -> float:
    return sum(world.probability(y) * world.score(y) for y in world.trajectories)


def any_value(world: World) -> dict[Choices, float]:
    return dict(zip(world.prefixes, seeded(17, len(world.prefixes)).tolist(), strict=True))


@every_world
def test_the_world_is_complete(world: World) -> None:
    chances = [world.probability(y) for y in world.trajectories]
    assert sum(chances) == pytest.approx(1, abs=1e-14) and min(chances) > 1e-4
    assert world.value(()) == pytest.approx(mean_score(world), rel=1e-12)
    assert world.greedy in world.trajectories
    assert float(world.exact().norm()) > 0.2


def test_the_exact_gradient_is_the_slope_of_the_expected_reward() -> None:
    """By central differences, so that the yardstick itself is measured."""
    world = World(2, 3, seed=8)
    exact, found = world.exact(), torch.zeros_like(world.logits)
    for place in range(found.numel()):
        ends = []
        for step in (1e-5, -1e-5):
            moved = world.logits.detach().clone()
            moved.view(-1)[place] += step
            ends.append(sum(world.probability(y, moved) * world.score(y) for y in world.trajectories))
        found.view(-1)[place] = (ends[0] - ends[1]) / 2e-5
    assert distance(found, exact) < 1e-8


# --- without a critic ----------------------------------------------------------------------------


@every_world
@pytest.mark.parametrize("baseline", [0.0, 0.7, -3.0])
def test_reinforce_is_exact_with_any_baseline_from_earlier_steps(world: World, baseline: float) -> None:
    state = {"sum": baseline, "weight": 1.0}
    found, _ = world.expected(REINFORCE, credit=lambda batch: REINFORCE.credit(batch, state))
    assert distance(found, world.exact()) < EXACT


@every_world
@pytest.mark.parametrize("to_go", [True, False], ids=["to-go", "whole"])
def test_returns_to_go_leave_out_terms_of_mean_zero(world: World, to_go: bool) -> None:
    assert distance(world.expected(plain(Return(to_go=to_go)))[0], world.exact()) < EXACT


def test_a_discount_is_a_bias() -> None:
    assert distance(NEAR.expected(plain(Return(0.9)))[0], NEAR.exact()) == pytest.approx(0.0635, abs=1e-4)


@every_world
def test_leave_one_out_is_exact_over_all_pairs(world: World) -> None:
    assert distance(world.expected(replace(RLOO, reward_kl=None), 2)[0], world.exact()) < EXACT


def test_leave_one_out_is_exact_over_all_triples() -> None:
    world = World(2, 3, seed=4, answers=True)
    assert distance(world.expected(replace(RLOO, reward_kl=None), 3)[0], world.exact()) < EXACT


@every_world
def test_remax_is_exact_with_one_sample_and_the_greedy_answer(world: World) -> None:
    assert distance(world.expected(replace(REMAX, reward_kl=None))[0], world.exact()) < EXACT


def test_a_baseline_that_depends_on_the_answer_biases() -> None:
    """b = R: every advantage is 0 and nothing is learnt. b = the number of choices: a wrong direction."""

    def credit(batch: Batch, baseline: torch.Tensor) -> Batch:
        assert batch.token_rewards is not None
        given = batch.token_rewards.sum(1) - baseline
        return replace(batch, advantages=torch.where(batch.mask, given[:, None], 0.0))

    exact = NEAR.exact()
    own, _ = NEAR.expected(REINFORCE, credit=lambda b: credit(b, b.token_rewards.sum(1)))  # type: ignore[union-attr]
    assert not own.any()
    length, _ = NEAR.expected(REINFORCE, credit=lambda b: credit(b, b.mask.sum(1)))
    assert distance(length, exact) > 0.1 and angle_off(length, exact) > 0.1


# --- with a critic -------------------------------------------------------------------------------


@every_world
@pytest.mark.parametrize("advantage", [GAE(1.0, 1.0), NStep(9)], ids=["lambda-1", "n-step"])
def test_monte_carlo_returns_forgive_any_critic(world: World, advantage: Advantage) -> None:
    found, _ = world.expected(plain(advantage), values=any_value(world).__getitem__)
    assert distance(found, world.exact()) < EXACT


@every_world
@pytest.mark.parametrize(
    "advantage", [GAE(1.0, 0.0), GAE(1.0, 0.3), GAE(1.0, 0.95), NStep(1), NStep(2)], ids=["0", ".3", ".95", "n1", "n2"]
)
def test_an_exact_critic_makes_any_lambda_exact(world: World, advantage: Advantage) -> None:
    assert distance(world.expected(plain(advantage), values=world.value)[0], world.exact()) < EXACT


def test_a_wrong_critic_biases_below_lambda_one() -> None:
    """And more the smaller lambda is."""
    values, exact = any_value(NEAR).__getitem__, NEAR.exact()
    found = [distance(NEAR.expected(plain(GAE(1.0, lam)), values=values)[0], exact) for lam in (1.0, 0.9, 0.5, 0.0)]
    assert found[0] < EXACT and found == sorted(found) and found[1] > 0.01


def test_a_lambda_that_knows_the_length_is_a_bias_even_with_an_exact_critic() -> None:
    """VAPO's lambda depends on how long the completion will be, which the choices decide. Equal lengths: exact."""
    vapo = plain(GAE(1.0, alpha=0.6))
    assert distance(NEAR.expected(vapo, values=NEAR.value)[0], NEAR.exact()) == pytest.approx(0.0851, abs=1e-4)
    even = World(2, 3, seed=6, ends=False)
    assert distance(even.expected(vapo, values=even.value)[0], even.exact()) < EXACT


def test_a2c_is_exact_where_lengths_are_equal() -> None:
    """Its mean over tokens is the length then; with lengths that vary it is a bias, and a sum over tokens has none."""
    algo = replace(A2C, entropy=0.0)
    even = World(2, 3, seed=6, ends=False, answers=True)
    values = any_value(even).__getitem__
    for size in (1, 2):
        assert distance(even.expected(algo, size, values=values)[0], even.exact() / 3) < EXACT
    uneven, _ = NEAR.expected(algo, values=any_value(NEAR).__getitem__)
    assert angle_off(uneven, NEAR.exact()) > 0.1
    summed = replace(algo, aggregate=seq_mean_token_sum)
    assert distance(NEAR.expected(summed, values=any_value(NEAR).__getitem__)[0], NEAR.exact()) < EXACT


# --- variance ------------------------------------------------------------------------------------


def test_what_lowers_the_variance() -> None:
    """One completion a step, the variance of the whole gradient: none 4.31, the mean 2.26, an exact critic 1.60 to .94."""
    state = {"sum": mean_score(NEAR), "weight": 1.0}
    found = {
        "none": NEAR.expected(plain(Return(to_go=False)))[1],
        "to go": NEAR.expected(plain(Return()))[1],
        "mean": NEAR.expected(REINFORCE, credit=lambda batch: REINFORCE.credit(batch, state))[1],
        "critic": NEAR.expected(plain(GAE(1.0, 1.0)), values=NEAR.value)[1],
        "lambda .5": NEAR.expected(plain(GAE(1.0, 0.5)), values=NEAR.value)[1],
        "lambda 0": NEAR.expected(plain(GAE(1.0, 0.0)), values=NEAR.value)[1],
    }
    expected = {"none": 4.311, "to go": 2.904, "mean": 2.258, "critic": 1.598, "lambda .5": 1.097, "lambda 0": 0.943}
    assert found == pytest.approx(expected, abs=1e-3)


@every_world
def test_the_mean_as_a_baseline_lowers_the_variance(world: World) -> None:
    none = world.expected(plain(EMA()))[1]
    state = {"sum": mean_score(world), "weight": 1.0}
    assert world.expected(REINFORCE, credit=lambda batch: REINFORCE.credit(batch, state))[1] < 0.85 * none
    far = {"sum": mean_score(world) + 10, "weight": 1.0}
    assert world.expected(REINFORCE, credit=lambda batch: REINFORCE.credit(batch, far))[1] > 10 * none


def test_fewer_terms_are_not_always_less_variance() -> None:
    """The return to go against the whole return: 2.90 for 4.31 in one world, 1.19 for 1.12 in another."""
    found = [
        [WORLDS[name].expected(plain(Return(to_go=to_go)))[1] for to_go in (True, False)]
        for name in ("environment", "two-tokens")
    ]
    assert found == [pytest.approx([2.904, 4.311], abs=1e-3), pytest.approx([1.186, 1.124], abs=1e-3)]


def test_groups_of_two_halve_the_variance_or_better() -> None:
    """Leave-one-out over pairs, against two samples without a baseline: 2.62 for 4.31 / 2 here, .64 for 5.87 / 2 there."""
    for name, pair, single in (("environment", 2.618, 4.311), ("four-tokens", 0.638, 5.870)):
        world = WORLDS[name]
        found = world.expected(plain(LeaveOneOut()), 2)[1], world.expected(plain(EMA()))[1]
        assert found == pytest.approx((pair, single), abs=1e-3)


# --- KL in the reward ----------------------------------------------------------------------------


@every_world
@pytest.mark.parametrize("advantage", [Return(), Return(to_go=False), EMA()], ids=["to-go", "whole", "outcome"])
def test_k1_in_the_reward_ascends_the_regularised_objective(world: World, advantage: Advantage) -> None:
    """E[R] - beta KL(pi || reference), although pi in the reward is a constant: its own gradient has mean zero."""
    found, _ = world.expected(plain(advantage, reward_kl=KL(k1, 0.3)))
    assert distance(found, regularised(world, 0.3)) < EXACT


def regularised(world: World, coef: float) -> torch.Tensor:
    def objective(y: Choices, logp: torch.Tensor) -> torch.Tensor:
        return world.score(y) - coef * (logp - world.logprobs(y, world.reference).sum())

    return world.exact(objective)


@pytest.mark.parametrize(("estimator", "off"), [(k2, 0.2146), (k3, 0.2936)], ids=["k2", "k3"])
def test_other_estimators_in_the_reward_have_another_gradient(estimator: Estimator, off: float) -> None:
    """k3 is unbiased as a value; its score-function gradient leaves out the gradient of its own value."""
    found, _ = NEAR.expected(plain(Return(), reward_kl=KL(estimator, 0.3)))
    assert distance(found, regularised(NEAR, 0.3)) == pytest.approx(off, abs=1e-3)


# --- groups: factors and biases ------------------------------------------------------------------


@every_world
def test_a_mean_that_contains_the_sample_costs_a_factor_and_no_direction(world: World) -> None:
    """(G - 1)/G in a group, (N - 1)/N in a batch; Dr. GRPO has its constant length on top."""
    exact = world.exact()
    for algo, factor in (
        (plain(GroupMean(std=False)), 1 / 2),
        (plain(BatchMean()), 1 / 2),
        (DR_GRPO, 1 / 2 / world.longest),
    ):
        assert distance(world.expected(algo, 2)[0], factor * exact) < EXACT


def test_the_factor_at_three() -> None:
    world = World(2, 3, seed=4)
    for advantage in (GroupMean(std=False), BatchMean()):
        assert distance(world.expected(plain(advantage), 3)[0], 2 / 3 * world.exact()) < EXACT


def pairs(algo: Algorithm) -> tuple[float, float]:
    """The factor nearest to the exact gradient over all pairs, and the relative distance that is left at it."""
    found, exact = NEAR.expected(algo, 2)[0], NEAR.exact()
    return best_factor(found, exact), angle_off(found, exact)


@pytest.mark.parametrize(
    ("algo", "factor", "off"),
    [
        (replace(GRPO, kl=None), 0.120, 0.192),
        (plain(GroupMean(std=True)), 0.272, 0.197),
        (Algorithm(GroupMean(std=False), Plain(), seq_mean_token_mean), 0.230, 0.424),
        (Algorithm(GroupMean(std=False), Plain(), token_mean), 0.238, 0.190),
        (plain(ProcessGroup(std=False)), 0.629, 0.420),
        (plain(ProcessGroup(std=True)), 0.628, 0.335),
        (plain(Whiten(Return())), 0.436, 0.245),
    ],
    ids=["grpo", "std", "length", "token-mean", "process", "process-std", "whitened"],
)
def test_known_biases_as_numbers(algo: Algorithm, factor: float, off: float) -> None:
    """Standard deviation, length, a mean over all steps (longer answers pay it more often), whitening: no factor mends it."""
    assert pairs(algo) == pytest.approx((factor, off), abs=1e-3)


# --- a sampler that is not the policy ------------------------------------------------------------


def elsewhere(world: World) -> torch.Tensor:
    """The logits of a sampler that differs from the policy."""
    return (world.logits + 0.7 * seeded(9, *world.logits.shape)).detach()


@every_world
def test_sequence_importance_weights_are_exact_below_their_cap(world: World) -> None:
    algo = plain(Return(), TIS(1e6, sequence))
    assert distance(world.expected(algo, sampler=elsewhere(world))[0], world.exact()) < EXACT
    critic = plain(GAE(1.0, 0.5), TIS(1e6, sequence))
    assert distance(world.expected(critic, sampler=elsewhere(world), values=world.value)[0], world.exact()) < EXACT


def test_token_weights_are_exact_for_single_choices() -> None:
    world = World(4, 1, seed=2)
    found, _ = world.expected(plain(Return(), TIS(1e6)), sampler=elsewhere(world))
    assert distance(found, world.exact()) < EXACT


@pytest.mark.parametrize(
    ("correction", "off"),
    [
        (None, 0.620),
        (TIS(2.0, sequence), 0.125),
        (TIS(2.0), 0.362),
        (IcePop(), 0.364),
        (IcePop(0.8, 1.25), 1.094),
        (SequenceMask(), 0.620),
        (SequenceMask(0.8, 1.25), 0.972),
        (SequenceMask(0.8, 1.25, weigh=True), 0.831),
    ],
    ids=["none", "tis-sequence", "tis-token", "icepop", "icepop-narrow", "mask", "mask-narrow", "mask-weigh"],
)
def test_corrections_that_cut_are_biased(correction: Correction | None, off: float) -> None:
    """A sampler far from the policy. Masks that cut much may be worse than no correction."""
    found, _ = NEAR.expected(plain(Return(to_go=False), correction), sampler=elsewhere(NEAR))
    assert distance(found, NEAR.exact()) == pytest.approx(off, abs=2e-3)


@pytest.mark.parametrize(
    "correction",
    [TIS(), TIS(2.0, sequence), IcePop(), SequenceMask(), SequenceMask(weigh=True)],
    ids=["tis", "tis-sequence", "icepop", "mask", "mask-weigh"],
)
def test_no_correction_where_sampler_and_trainer_agree(correction: Correction) -> None:
    found, _ = NEAR.expected(plain(Return(), correction), sampler=NEAR.logits.detach())
    assert distance(found, NEAR.exact()) < EXACT


def test_trajectories_by_hand() -> None:
    """Two choices, the second token ends, the environment answers in between."""
    world = World(2, 2, seed=0, answers=True)
    assert world.trajectories == [(1,), (0, 1), (0, 0)]
    row = world.row((0, 1))
    assert (row.tokens, row.mask, [p.position for p in row.rewards]) == ((0, 0, 1), (True, False, True), [1, 2])
    assert row.reward == pytest.approx(world.score((0, 1)))
    assert list(world.prefixes) == [(), (0,)]
