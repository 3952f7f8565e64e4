"""Each named algorithm on two prompts with three answers, written out in numbers, and where algorithms coincide."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from burnish.core.advantages import EMA, GroupMean, LeaveOneOut
from burnish.core.aggregate import constant, seq_mean_token_mean, seq_mean_token_sum, token_mean
from burnish.core.algorithms import DR_GRPO, GRPO, REINFORCE, RLOO, Algorithm, get, notes, table
from burnish.core.kl import KL, k1, k3
from burnish.core.surrogates import Clip, Plain, Ratio
from burnish.errors import InputError
from burnish.types import Batch, Metrics, Outputs
from rows import batch_of, groups, padded, rollout

# Two prompts, three answers each, of 2 1 1 | 1 2 1 tokens. Log-probabilities are powers of one half.
REWARDS = [[0, 0, 1], [2, 4, 6]]
LENGTHS = [[2, 1, 1], [1, 2, 1]]
LIMIT = 4
LN2 = math.log(2)
POLICY = [[-1, -2], [-1], [-2], [-1], [-1, -1], [-3]]  # current, in units of ln 2
OLD = [[-1, -1], [-2], [-2], [-2], [-1, -2], [-3]]  # before the update: ratios 1 1/2 | 2 | 1 | 2 | 1 2 | 1
REFERENCE = [[-1, -2], [-2], [-1], [-1], [-2, -1], [-3]]  # u: 0 0 | +1 | -1 | 0 | +1 0 | 0


def nats(rows: Sequence[Sequence[float]]) -> list[list[float]]:
    return [[LN2 * value for value in row] for row in rows]


def case() -> Batch:
    return batch_of(groups(REWARDS, LENGTHS), LIMIT, ref_logprobs=nats(REFERENCE), old_logprobs=nats(OLD))


def run(
    algo: Algorithm, batch: Batch, state: dict[str, float] | None = None
) -> tuple[float, list[list[float]], Metrics]:
    """The loss, its gradient in the log-probabilities (row by row, without padding) and the metrics."""
    batch = algo.credit(batch, algo.init() if state is None else state)
    batch = algo.loss.prepare(batch)
    logprobs = padded(nats(POLICY)).requires_grad_()
    value, metrics = algo.loss(Outputs(logprobs, torch.zeros_like(logprobs)), batch)
    value.backward()
    assert logprobs.grad is not None
    return value.item(), ragged(logprobs.grad, batch), metrics


def ragged(full: Tensor, batch: Batch) -> list[list[float]]:
    return [full[i, :length].tolist() for i, length in enumerate(batch.lengths.tolist())]


def flat(rows: Sequence[Sequence[float]]) -> list[float]:
    return [value for row in rows for value in row]


def test_reinforce_by_hand() -> None:
    """b = 2 from earlier steps: A = -2 -2 -1 | 0 2 4, every token weighs 1/6, the gradient is -A/6."""
    value, gradient, _ = run(REINFORCE, case(), {"sum": 1.0, "weight": 0.5})
    assert flat(gradient) == pytest.approx([2 / 6, 2 / 6, 2 / 6, 1 / 6, 0, -2 / 6, -2 / 6, -4 / 6], rel=1e-13)
    assert value == pytest.approx(LN2 * (-2 * 3 - 2 * 1 - 1 * 2 + 0 + 2 * 2 + 4 * 3) / 6, rel=1e-13)


def test_rloo_by_hand() -> None:
    """The KL penalty .05 log(old/ref) joins the rewards first: old - ref sums to 1 0 -1 | -1 0 0 times ln 2."""
    c = 0.05 * LN2
    r = [0 - c, 0, 1 + c, 2 + c, 4, 6]
    advantage = [
        r[0] - (r[1] + r[2]) / 2, r[1] - (r[0] + r[2]) / 2, r[2] - (r[0] + r[1]) / 2,
        r[3] - (r[4] + r[5]) / 2, r[4] - (r[3] + r[5]) / 2, r[5] - (r[3] + r[4]) / 2,
    ]  # fmt: skip
    assert advantage == pytest.approx([-0.5 - 1.5 * c, -0.5, 1 + 1.5 * c, -3 + c, -c / 2, 3 - c / 2], rel=1e-12)
    value, gradient, _ = run(RLOO, case())
    a = advantage
    by_token = (a[0], a[0], a[1], a[2], a[3], a[4], a[4], a[5])
    assert flat(gradient) == pytest.approx([-x / 6 for x in by_token], rel=1e-12)
    assert value == pytest.approx(LN2 * (3 * a[0] + a[1] + 2 * a[2] + a[3] + 2 * a[4] + 3 * a[5]) / 6, rel=1e-12)


def test_grpo_by_hand() -> None:
    """A = -s -s 2s | -1 0 1, s = 1/sqrt 3; each row weighs 1/6, shared by its tokens; one token is clipped."""
    s, beta = 1 / math.sqrt(3), 0.04
    value, gradient, metrics = run(GRPO, case())
    # ratios 1, 1/2 | 2 | 1 | 2 | 1, 2 | 1;  -min(rho A, clip(rho) A) by token
    surrogate = [[s, 0.8 * s], [2 * s], [-2 * s], [2], [0, 0], [-1]]
    up, down = 0.5 - 1 + LN2, 2 - 1 - LN2  # k3 at u = +ln 2 and u = -ln 2
    divergence = [[0, 0], [up], [down], [0], [up, 0], [0]]
    expected = sum((sum(x) + beta * sum(k)) / len(x) / 6 for x, k in zip(surrogate, divergence, strict=True))
    assert value == pytest.approx(expected, rel=1e-13)
    # d/dlogp: -rho A where the clip lets go, plus beta (1 - e^-u): 1/2 at u = ln 2 and -1 at u = -ln 2
    slopes = [[s, 0], [2 * s + beta / 2], [-2 * s - beta], [2], [beta / 2, 0], [-1]]
    assert flat(gradient) == pytest.approx(flat([[x / len(row) / 6 for x in row] for row in slopes]), rel=1e-13)
    assert metrics["ratio/clip_frac"] == (1.0, 8.0)
    assert metrics["ratio/mean"] == (pytest.approx(1 + 0.5 + 2 + 1 + 2 + 1 + 2 + 1), 8.0)
    assert metrics["kl/ref"] == (pytest.approx(2 * up + down), 8.0)


def test_dr_grpo_by_hand() -> None:
    """A = -1/3 -1/3 2/3 | -2 0 2; every token weighs 1/(6 L) with L = 4."""
    value, gradient, metrics = run(DR_GRPO, replace(case(), ref_logprobs=None))
    third = 1 / 3
    surrogate = [third, 0.8 * third, 2 * third, -2 * third, 4, 0, 0, -2]
    slopes = [third, 0, 2 * third, -2 * third, 4, 0, 0, -2]
    assert value == pytest.approx(sum(surrogate) / 24, rel=1e-13)
    assert flat(gradient) == pytest.approx([x / 24 for x in slopes], rel=1e-13)
    assert "kl/ref" not in metrics


def test_rewards_stay_as_given() -> None:
    batch = case()
    credited = RLOO.credit(batch, {})
    assert torch.equal(credited.token_rewards, case().token_rewards) and batch.advantages is None  # type: ignore[arg-type]


def test_a_kl_in_the_reward_skips_tokens_the_policy_did_not_choose() -> None:
    rows = [rollout(2, 1.0, mask=(True, False)), rollout(1, 0.0, episode=1)]
    batch = batch_of(rows, old_logprobs=[[-1.0, -50.0], [-1.0]], ref_logprobs=[[-2.0, 0.0], [-1.0]])
    advantages = RLOO.credit(batch, {}).advantages
    assert advantages is not None
    assert advantages[:, 0].tolist() == pytest.approx([0.95, -0.95], rel=1e-12)


@pytest.mark.parametrize("algo", [GRPO, DR_GRPO, RLOO, REINFORCE])
def test_equal_rewards_move_nothing_but_the_kl(algo: Algorithm) -> None:
    algo = replace(algo, kl=None, reward_kl=None)
    batch = batch_of(groups([[0.1, 0.1, 0.1], [3, 3, 3]], LENGTHS), LIMIT, old_logprobs=nats(OLD))
    _, gradient, _ = run(algo, batch, {"sum": 0.0, "weight": 0.0} if algo is REINFORCE else None)
    if isinstance(algo.advantage, EMA):
        assert flat(gradient) != [0.0] * 8  # a running mean does not know the group
    else:
        assert flat(gradient) == pytest.approx([0.0] * 8, abs=1e-15)


def test_grpo_equals_dr_grpo_where_the_deviation_is_one_and_lengths_are_equal() -> None:
    """Rewards with sample deviation 1 in every group; up to the constant L / |o|, and without GRPO's KL."""
    batch = batch_of(groups([[0, 1, 2], [5, 6, 7]], [[2] * 3] * 2), LIMIT)
    left = replace(GRPO, kl=None).credit(batch, {})
    right = DR_GRPO.credit(batch, {})
    assert torch.allclose(left.advantages, right.advantages, rtol=1e-14)  # type: ignore[arg-type]
    theirs = DR_GRPO.loss.prepare(right).weights["policy"] * LIMIT / 2
    assert torch.allclose(GRPO.loss.prepare(left).weights["policy"], theirs)


def test_dr_grpo_is_rloo_up_to_g_over_g_minus_one_and_the_length() -> None:
    """At ratio 1 (no old log-probs) and without a KL: gradients are proportional with factor (G - 1) / (G L)."""
    batch = replace(case(), old_logprobs=None)
    _, dr, _ = run(DR_GRPO, batch)
    _, rloo, _ = run(replace(RLOO, reward_kl=None), batch)
    assert flat(dr) == pytest.approx([2 / 3 / LIMIT * x for x in flat(rloo)], rel=1e-12, abs=1e-16)


def test_first_update_without_old_equals_old_given() -> None:
    """Left out, the old log-probs are the current ones: same loss, same gradient."""
    for algo in (GRPO, DR_GRPO):
        given = run(algo, replace(case(), old_logprobs=padded(nats(POLICY))))
        left_out = run(algo, replace(case(), old_logprobs=None))
        assert given[0] == pytest.approx(left_out[0], rel=1e-14)
        assert flat(given[1]) == pytest.approx(flat(left_out[1]), rel=1e-14)


@pytest.mark.parametrize(("algo", "exponent"), [(GRPO, -1), (DR_GRPO, 0), (RLOO, 0), (REINFORCE, 0)])
def test_per_token_weight_and_answer_length(algo: Algorithm, exponent: int) -> None:
    """GRPO's token weight falls as 1/|o_i|; Dr. GRPO's, RLOO's and REINFORCE's does not know |o_i|."""
    lengths = [[1, 2, 5, 8]]
    batch = batch_of(groups([[0, 0, 1, 1]], lengths), 8)
    weights = algo.loss.prepare(batch).weights["policy"]
    firsts = [weights[i, 0].item() for i in range(4)]
    assert firsts == pytest.approx([firsts[0] * n**exponent for n in lengths[0]], rel=1e-14)


def test_group_deviation_scales_grpo_and_not_dr_grpo() -> None:
    """A prompt whose rewards are spread ten times as wide moves Dr. GRPO ten times as much, GRPO not at all."""
    for algo, factor in ((replace(GRPO, kl=None), 1.0), (DR_GRPO, 10.0)):
        slopes = []
        for scale in (1, 10):
            batch = batch_of(groups([[0, scale, 5 * scale], [0, 1, 2]], LENGTHS), LIMIT)
            slopes.append(flat(run(algo, batch)[1][:3]))
        assert slopes[1] == pytest.approx([factor * x for x in slopes[0]], rel=1e-12)


def test_idle_rows_are_those_without_any_gradient() -> None:
    rows = [*groups([[1, 1], [0, 1]]), rollout(1, 5.0, group=1, episode=9, train=False)]
    batch = batch_of(rows, ref_logprobs=[[-1.0]] * 5)
    silent = [True, True, False, False, True]
    assert DR_GRPO.idle(DR_GRPO.credit(batch, {})).tolist() == silent
    assert not GRPO.idle(GRPO.credit(batch, {})).any(), "the KL reaches every row"
    assert replace(GRPO, kl=None).idle(replace(GRPO, kl=None).credit(batch, {})).tolist() == silent
    assert not replace(DR_GRPO, entropy=0.1).idle(DR_GRPO.credit(batch, {})).any()


@pytest.mark.parametrize(("algo", "reference", "old"), [(REINFORCE, 0, 0), (RLOO, 1, 1), (GRPO, 1, 0), (DR_GRPO, 0, 0)])
def test_needs_follow_from_the_parts(algo: Algorithm, reference: int, old: int) -> None:
    assert (algo.needs_reference, algo.needs_old_logprobs) == (bool(reference), bool(old))


def test_published_settings() -> None:
    assert Algorithm(GroupMean(std=True), Clip(0.2, 0.2), seq_mean_token_mean, kl=KL(k3, 0.04)) == GRPO
    assert Algorithm(GroupMean(std=False), Clip(0.2, 0.2), constant()) == DR_GRPO
    assert Algorithm(LeaveOneOut(), Plain(), seq_mean_token_sum, reward_kl=KL(k1, 0.05)) == RLOO
    assert Algorithm(EMA(0.9), Plain(), seq_mean_token_sum) == REINFORCE


def test_state_goes_through_json_and_never_sees_the_present() -> None:
    state = REINFORCE.init()
    batch = case()
    first = REINFORCE.credit(batch, state)
    state = json.loads(json.dumps(dict(REINFORCE.update(state, batch))))
    second = REINFORCE.credit(batch, state)
    assert first.advantages is not None and second.advantages is not None
    mean = sum(flat(REWARDS)) / 6
    assert (first.advantages - second.advantages)[:, 0].tolist() == pytest.approx([mean] * 6)
    assert dict(GRPO.update(GRPO.init(), batch)) == {}


def test_every_constant_is_documented_with_its_source() -> None:
    assert {"reinforce", "rloo", "grpo", "dr_grpo"} <= table().keys()
    for name in table():
        note = notes()[name]
        assert re.search(r"arXiv:\d{4}\.\d{4,5}|Williams 1992", note), f"{name} names no source"
        assert "Neighbour:" in note and "=" in note, f"{name} needs its equation and its nearest relative"


@pytest.mark.parametrize("name", ["grpo", "GRPO", "dr_grpo", "DR-GRPO", "dr-grpo"])
def test_names_in_any_spelling(name: str) -> None:
    assert get(name) is (DR_GRPO if "dr" in name.lower() else GRPO)


@pytest.mark.parametrize(
    ("wrong", "nearest"), [("gropo", "grpo"), ("RLO", "rloo"), ("drgrpo", "dr_grpo"), ("reinforced", "reinforce")]
)
def test_an_unknown_name_suggests_the_nearest(wrong: str, nearest: str) -> None:
    with pytest.raises(InputError, match=rf"unknown algorithm '{wrong}'.*Did you mean '{nearest}'") as caught:
        get(wrong)
    assert all(name in str(caught.value) for name in table())


def test_a_new_algorithm_is_a_new_combination() -> None:
    """Off-policy REINFORCE: nothing but the surrogate changes, and its gradient is rho A."""
    algo = replace(REINFORCE, surrogate=Ratio(), aggregate=token_mean)
    _, gradient, _ = run(algo, case(), {"sum": 0.0, "weight": 0.0})
    rho = [1, 0.5, 2, 1, 2, 1, 2, 1]
    reward = [0, 0, 0, 1, 2, 4, 4, 6]
    assert flat(gradient) == pytest.approx([-p * r / 8 for p, r in zip(rho, reward, strict=True)], rel=1e-12)
