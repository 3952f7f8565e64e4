"""The estimators against the divergence they estimate, enumerated; levels, anchors, the controller, and both places of a KL."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from burnish.core.aggregate import seq_mean_token_mean, seq_mean_token_sum
from burnish.core.algorithms import GRPO, KIMI, PPO, REINFORCE, RLOO
from burnish.core.kl import KL, Adaptive, Estimator, k1, k2, k3, k3_unbiased, old, reference, value_and_slope
from burnish.core.levels import Level, sequence, sequence_mean
from burnish.core.losses import PolicyLoss
from burnish.core.returns import Return
from burnish.core.surrogates import Plain
from burnish.types import Batch, Outputs
from rows import batch_of, cut, padded, rollout

V = 6
SEEDS = st.integers(0, 10**6)
QUIET = settings(deadline=None, max_examples=40, derandomize=True)
ESTIMATORS: dict[str, Estimator] = {"k1": k1, "k2": k2, "k3": k3, "k3_unbiased": k3_unbiased}


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


# --- over all tokens -----------------------------------------------------------------------------


@given(SEEDS)
@QUIET
def test_k1_and_k3_are_unbiased(seed: int) -> None:
    logits, anchor = policies(seed)
    logp = torch.log_softmax(logits, -1).detach()
    exact = divergence(logits, anchor).item()
    for kind in (k1, k3, k3_unbiased):
        assert (logp.exp() * kind(logp, anchor)).sum().item() == pytest.approx(exact, rel=1e-10)


def test_k2_is_biased() -> None:
    logits, anchor = policies(1)
    logp = torch.log_softmax(logits, -1).detach()
    assert (logp.exp() * k2(logp, anchor)).sum().item() != pytest.approx(divergence(logits, anchor).item(), rel=0.05)


@given(SEEDS)
@QUIET
def test_k2_and_the_unbiased_k3_have_the_gradient_of_the_divergence(seed: int) -> None:
    logits, anchor = policies(seed)
    exact = torch.autograd.grad(divergence(logits, anchor), logits)[0]
    for kind in (k2, k3_unbiased):
        assert torch.allclose(expected_gradient(kind, logits, anchor), exact, rtol=1e-10, atol=1e-14)
    assert torch.allclose(expected_gradient(k1, logits, anchor), torch.zeros_like(exact), atol=1e-14)


@given(st.floats(-5, 0), st.floats(-5, 0))
@QUIET
def test_the_unbiased_k3_has_the_value_of_k3_and_the_slope_of_k2_token_by_token(policy: float, anchor: float) -> None:
    now, ref = torch.tensor([policy], dtype=torch.float64, requires_grad=True), torch.tensor([anchor]).double()
    assert torch.equal(k3_unbiased(now, ref), k3(now, ref))
    slope = torch.autograd.grad(k3_unbiased(now, ref).sum(), now)[0]
    assert slope.item() == pytest.approx((now - ref).item(), rel=1e-10, abs=1e-14)


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
    assert k3_unbiased(pi, ref).item() == pytest.approx(0.5 - 1 + u, rel=1e-12)


def test_k3_keeps_its_precision_near_the_anchor() -> None:
    """exp(-u) - 1 + u loses every digit for small u when written out; the true value is u^2/2."""
    u = torch.tensor([1e-6], dtype=torch.float64)
    assert k3(u, torch.zeros_like(u)).item() == pytest.approx(0.5e-12, rel=1e-3)


def test_the_default_is_the_one_grpo_prints() -> None:
    assert KL() == KL(k3, 0.04)


# --- over all sequences --------------------------------------------------------------------------

WORDS = list(product(range(3), repeat=2))


def language(seed: int) -> tuple[list[Tensor], Callable[[], Tensor], Tensor]:
    """A policy over all texts of two tokens: parameters, its log-probs [9, 2] per token, and those of an anchor."""
    generator = torch.Generator().manual_seed(seed)

    def logits() -> list[Tensor]:
        return [
            torch.randn(3, generator=generator, dtype=torch.float64),
            torch.randn(3, 3, generator=generator, dtype=torch.float64),
        ]

    def logprobs(parameters: Sequence[Tensor]) -> Tensor:
        first, second = torch.log_softmax(parameters[0], -1), torch.log_softmax(parameters[1], -1)
        return torch.stack([torch.stack([first[a], second[a, b]]) for a, b in WORDS])

    parameters = [x.requires_grad_() for x in logits()]
    return parameters, lambda: logprobs(parameters), logprobs(logits())


def expected_loss(kl: KL, now: Tensor, anchor: Tensor) -> Tensor:
    """The loss of production code on all texts at once, each weighed by its probability."""
    batch = batch_of([rollout(2, episode=i) for i in range(len(WORDS))], advantages=[[0.0, 0.0]] * len(WORDS))
    batch = replace(batch, ref_logprobs=anchor, old_logprobs=anchor if kl.anchor is old else None)
    loss = PolicyLoss(Plain(), seq_mean_token_sum, kl=kl)
    batch = loss.prepare(batch)
    probability = now.detach().sum(1, keepdim=True).exp()
    batch = replace(batch, weights={"policy": batch.weights["policy"] * probability * len(WORDS)})
    return loss(Outputs(now, torch.zeros_like(now)), batch)[0]


def gradients(scalar: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    found = torch.autograd.grad(scalar, parameters, allow_unused=True)
    return torch.cat(
        [(torch.zeros_like(p) if g is None else g).flatten() for g, p in zip(found, parameters, strict=True)]
    )


def sequence_kl(now: Tensor, anchor: Tensor) -> Tensor:
    u = (now - anchor).sum(1)
    return (now.sum(1).exp() * u).sum()


@pytest.mark.parametrize("anchor_is", [reference, old], ids=["reference", "old"])
@given(SEEDS)
@settings(deadline=None, max_examples=10, derandomize=True)
def test_sequence_estimators_in_expectation(anchor_is: Callable[[Batch], Tensor | None], seed: int) -> None:
    """At level sequence the whole text is one sample: k1, k3 estimate its KL; k2 has its gradient, k3 the reverse one's."""
    parameters, logprobs, anchor = language(seed)

    def of(kind: Estimator) -> Tensor:
        return expected_loss(KL(kind, 1.0, anchor=anchor_is, level=sequence), logprobs(), anchor)

    exact = sequence_kl(logprobs(), anchor)
    for kind in (k1, k3, k3_unbiased):
        assert of(kind).item() == pytest.approx(exact.item(), rel=1e-10)
    slope = gradients(exact, parameters)
    for kind in (k2, k3_unbiased):
        assert torch.allclose(gradients(of(kind), parameters), slope, rtol=1e-10, atol=1e-13)
    assert torch.allclose(gradients(of(k1), parameters), torch.zeros_like(slope), atol=1e-13)
    reverse = (anchor.sum(1).exp() * (anchor - logprobs()).sum(1)).sum()
    assert torch.allclose(gradients(of(k3), parameters), gradients(reverse, parameters), rtol=1e-10, atol=1e-13)


def test_token_by_token_the_gradient_leaves_out_which_prefixes_are_reached() -> None:
    """k2 per token has the gradient of KL in each state the policy reaches, with the odds of reaching it held fixed."""
    parameters, logprobs, anchor = language(3)
    found = gradients(expected_loss(KL(k2, 1.0), logprobs(), anchor), parameters)
    now = logprobs()
    first, second = now[::3, 0], now[:, 1]  # the three first tokens; the second token of all nine texts
    reach = now.detach()[:, 0].exp()
    by_state = (first.exp() * (first - anchor[::3, 0])).sum() + (reach * second.exp() * (second - anchor[:, 1])).sum()
    assert torch.allclose(found, gradients(by_state, parameters), rtol=1e-10, atol=1e-13)
    whole = gradients(sequence_kl(logprobs(), anchor), parameters)
    assert not torch.allclose(found, whole, rtol=0.05)


# --- the literal form above the token level ------------------------------------------------------

WHOLE = [rollout(5, mask=(True, False, True, True, False)), rollout(2, episode=1), rollout(3, episode=2)]
ROWS = [*cut(WHOLE[0], [2, 3]), WHOLE[1], *cut(WHOLE[2], [1])]


def world(seed: int) -> tuple[Tensor, Batch]:
    generator = torch.Generator().manual_seed(seed)
    batch = batch_of(ROWS)
    now, anchor = -torch.rand(2, *batch.tokens.shape, generator=generator, dtype=torch.float64) * 2
    now = torch.where(batch.mask, now, -30.0)
    return now.requires_grad_(), replace(batch, ref_logprobs=anchor, advantages=torch.zeros_like(anchor))


@pytest.mark.parametrize("kind", ESTIMATORS.values(), ids=ESTIMATORS)
@pytest.mark.parametrize(
    ("level", "of_tokens", "aggregate"),
    [(sequence, torch.sum, seq_mean_token_sum), (sequence_mean, torch.mean, seq_mean_token_mean)],
    ids=["sequence", "sequence_mean"],
)
@given(SEEDS)
@settings(deadline=None, max_examples=15, derandomize=True)
def test_value_and_gradient_above_the_token_level_are_those_of_the_literal_form(
    kind: Estimator, level: Level, of_tokens: Callable[[Tensor], Tensor], aggregate: Callable[..., Tensor], seed: int
) -> None:
    """``1/N sum_i f(U_i)``, U_i the log-ratio of episode i, its segments and without its environment tokens."""
    now, batch = world(seed)
    loss = PolicyLoss(Plain(), aggregate, kl=KL(kind, 0.3, level=level))
    found = loss(Outputs(now, torch.zeros_like(now)), loss.prepare(batch))[0]
    u = now - batch.ref_logprobs
    totals = [
        of_tokens(torch.cat([u[i][batch.mask[i]] for i in torch.nonzero(batch.episodes == e).flatten()]))
        for e in range(len(WHOLE))
    ]
    literal = 0.3 * torch.stack([kind(t, torch.zeros_like(t)) for t in totals]).mean()
    assert found.item() == pytest.approx(literal.item(), rel=1e-10)
    exact, slope = (torch.autograd.grad(x, now)[0] for x in (literal, found))
    assert torch.allclose(slope, exact, rtol=1e-10, atol=1e-15)


def test_value_and_slope_by_hand() -> None:
    u = torch.tensor([math.log(2)], dtype=torch.float64)
    for kind, expected, slope in (
        (k1, math.log(2), 1),
        (k2, math.log(2) ** 2 / 2, math.log(2)),
        (k3, 0.193147181, 0.5),
    ):
        with torch.no_grad():
            value, found = value_and_slope(kind, u)
        assert value.item() == pytest.approx(expected, rel=1e-8) and found.item() == pytest.approx(slope, rel=1e-12)
        assert not value.requires_grad and not found.requires_grad


# --- anchors -------------------------------------------------------------------------------------


def test_the_old_policy_as_anchor() -> None:
    now, batch = world(0)
    batch = replace(batch, old_logprobs=now.detach() - 0.5)
    against_old, against_reference = KL(k2, 1.0, anchor=old), KL(k2, 1.0)
    assert against_old.per_token(now, batch, batch.mask)[batch.mask].tolist() == pytest.approx([0.125] * 8)
    assert torch.equal(against_reference.per_token(now, batch, batch.mask), k2(now, batch.ref_logprobs))
    assert (against_old.needs_reference, against_reference.needs_reference) == (False, True)


@pytest.mark.parametrize("kind", ESTIMATORS.values(), ids=ESTIMATORS)
def test_at_the_first_update_the_old_policy_is_the_current_one(kind: Estimator) -> None:
    """The value is 0; the gradient too, but for k1, whose gradient has no say."""
    now, batch = world(0)
    for level in (KL(kind, 1.0, anchor=old), KL(kind, 1.0, anchor=old, level=sequence)):
        found = level.per_token(now, batch, batch.mask)
        assert found[batch.mask].tolist() == pytest.approx([0.0] * 8, abs=1e-15)
        slope = torch.autograd.grad(found.sum(), now)[0][batch.mask]
        assert slope.tolist() == [float(kind is k1)] * 8


def test_a_missing_reference_is_an_error_not_a_zero() -> None:
    now, batch = world(0)
    with pytest.raises(AssertionError):
        KL(k3).per_token(now, replace(batch, ref_logprobs=None), batch.mask)


def test_a_kl_travels_as_a_value() -> None:
    for kl in (KL(), KIMI.kl, KL(k1, 0.1, adapt=Adaptive(), level=sequence)):
        assert pickle.loads(pickle.dumps(kl)) == kl


# --- the controller ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kl", "factor"),
    [(6.0, 1.0), (6.6, 1.01), (5.4, 0.99), (7.2, 1.02), (1e9, 1.02), (4.8, 0.98), (0.0, 0.98), (-5.0, 0.98)],
)
def test_the_controller_by_hand(kl: float, factor: float) -> None:
    """``1 + .1 clip(KL/6 - 1, -.2, .2)``: the published constants."""
    assert Adaptive()(0.5, kl) == pytest.approx(0.5 * factor, rel=1e-12)
    assert Adaptive() == Adaptive(target=6.0, gain=0.1, limit=0.2)
    assert Adaptive(target=1.0, gain=1.0, limit=0.5)(2.0, 1.25) == pytest.approx(2.5)


def two_episodes(gap: float) -> Batch:
    """log(old / ref) adds up to ``gap`` over the tokens of each trained episode; elsewhere it is far off."""
    rows = [*cut(rollout(3, 1.0, mask=(True, False, True)), [2]), rollout(1, 0.0, episode=1)]
    rows.append(rollout(1, 0.0, episode=2, train=False))
    batch = batch_of(rows, old_logprobs=[[-1.0, -1.0], [-1.0], [-1.0], [-1.0]], advantages=[[0.0] * 2] * 4)
    u = padded([[gap / 4, 99.0], [3 * gap / 4], [gap], [99.0]])
    assert batch.old_logprobs is not None
    return replace(batch, ref_logprobs=batch.old_logprobs - u)


ADAPTS = {
    "in_the_loss": replace(GRPO, kl=KL(k3, 0.5, adapt=Adaptive(target=2.0))),
    "in_the_reward": replace(RLOO, reward_kl=KL(k1, 0.5, adapt=Adaptive(target=2.0))),
    "against_old": replace(KIMI, kl=KL(k2, 0.5, anchor=old, level=sequence, adapt=Adaptive(target=2.0))),
}


@pytest.mark.parametrize("algo", ADAPTS.values(), ids=ADAPTS)
def test_the_coefficient_follows_the_divergence_of_the_trained_episodes(algo: object) -> None:
    assert isinstance(algo, type(GRPO))
    state = algo.init()
    assert dict(state) == {"kl_coef": 0.5} == json.loads(json.dumps(dict(state)))
    assert algo.needs_reference and algo.needs_old_logprobs
    assert algo.update(state, two_episodes(2.1))["kl_coef"] == pytest.approx(0.5 * 1.005, rel=1e-10)
    assert algo.update(state, two_episodes(50.0))["kl_coef"] == pytest.approx(0.5 * 1.02, rel=1e-10)
    assert algo.update(state, two_episodes(1.9))["kl_coef"] == pytest.approx(0.5 * 0.995, rel=1e-10)
    assert dict(state) == {"kl_coef": 0.5}
    assert json.loads(json.dumps(dict(algo.update(state, two_episodes(3.0))))).keys() == {"kl_coef"}


def test_a_batch_without_a_trained_episode_says_nothing_about_the_divergence() -> None:
    algo = ADAPTS["in_the_loss"]
    batch = replace(two_episodes(50.0), train=torch.zeros(4, dtype=torch.bool))
    assert dict(algo.update({"kl_coef": 0.5}, batch)) == {"kl_coef": 0.5}


def test_a_fixed_coefficient_keeps_no_state() -> None:
    assert dict(GRPO.init()) == {} == dict(GRPO.update({}, two_episodes(50.0)))


def test_the_state_of_the_advantage_is_kept_beside_the_coefficient() -> None:
    algo = replace(REINFORCE, reward_kl=KL(k1, 0.5, adapt=Adaptive(target=2.0)))
    assert algo.init().keys() == {"sum", "weight", "kl_coef"}
    after = algo.update(algo.init(), two_episodes(50.0))
    assert after["weight"] == pytest.approx(0.1) and after["kl_coef"] == pytest.approx(0.51)


def test_the_coefficient_travels_from_the_state_to_the_loss() -> None:
    """With .7 in the state the loss is that of a fixed .7, in any split."""
    algo = ADAPTS["in_the_loss"]
    fixed = replace(GRPO, kl=KL(k3, 0.7))
    now = padded([[-1.5, -1.0], [-2.0], [-0.5], [-1.0]])
    losses, slopes = [], []
    for one in (algo, fixed):
        batch = one.loss.prepare(one.credit(two_episodes(1.0), {"kl_coef": 0.7}))
        leaf = now.clone().requires_grad_()
        losses.append(one.loss(Outputs(leaf, torch.zeros_like(leaf)), batch)[0])
        slopes.append(torch.autograd.grad(losses[-1], leaf)[0])
        pieces = [one.loss(Outputs(now[r], 0 * now[r]), batch.select(r))[0].item() for r in ([0, 1], [2], [3])]
        assert sum(pieces) == pytest.approx(losses[-1].item(), rel=1e-12)
    assert torch.equal(*slopes) and losses[0].item() == losses[1].item() != 0
    assert "kl_coef" not in fixed.credit(two_episodes(1.0), {}).extras


def test_the_coefficient_travels_from_the_state_to_the_reward() -> None:
    """Rewards 1 - .7 * 1 and 0 - .7 * 3 of one prompt: each less the other."""
    algo, fixed = ADAPTS["in_the_reward"], replace(RLOO, reward_kl=KL(k1, 0.7))
    near, far = two_episodes(1.0), two_episodes(3.0)
    assert near.ref_logprobs is not None and far.ref_logprobs is not None
    batch = replace(near, ref_logprobs=torch.cat([near.ref_logprobs[:2], far.ref_logprobs[2:]]))
    left, right = algo.credit(batch, {"kl_coef": 0.7}).advantages, fixed.credit(batch, {}).advantages
    assert left is not None and right is not None and torch.equal(left, right)
    assert left[[0, 1, 2], 0].tolist() == pytest.approx([2.4, 2.4, -2.4], rel=1e-12)


# --- in the reward -------------------------------------------------------------------------------


@pytest.mark.parametrize("kl", [KL(k1, 0.3), KL(k1, 0.3, level=sequence)], ids=["token", "sequence"])
@given(SEEDS)
@settings(deadline=None, max_examples=15, derandomize=True)
def test_rewards_add_up_to_the_reward_minus_the_log_ratio(kl: KL, seed: int) -> None:
    """``sum_t r_t = R - beta log(pi / pi_ref)(y)``, whatever the segments and the environment's tokens."""
    now, batch = world(seed)
    rewards = padded([[0.0, 0.0], [0.0], [0.0, 2.0], [0.0, -1.0], [0.0], [0.0, 5.0]])
    batch = replace(batch, old_logprobs=now.detach(), token_rewards=rewards)
    algo = replace(PPO, advantage=Return(to_go=False), reward_kl=kl)
    credited = algo.credit(batch, {})
    assert credited.advantages is not None and batch.ref_logprobs is not None
    u = torch.where(batch.mask, now.detach() - batch.ref_logprobs, 0.0)
    for episode, reward in enumerate((2.0, -1.0, 5.0)):
        mine = batch.episodes == episode
        expected = reward - 0.3 * u[mine].sum().item()
        where = mine[:, None] & batch.mask
        assert credited.advantages[where].tolist() == pytest.approx([expected] * int(where.sum()), rel=1e-10)
    assert torch.equal(credited.token_rewards, rewards)  # type: ignore[arg-type]


def test_any_estimator_may_be_in_the_reward() -> None:
    now, batch = world(4)
    batch = replace(batch, old_logprobs=now.detach(), token_rewards=torch.zeros_like(now))
    algo = replace(PPO, advantage=Return(to_go=False), reward_kl=KL(k3, 0.3))
    credited = algo.credit(batch, {})
    assert credited.advantages is not None and batch.ref_logprobs is not None
    penalty = torch.where(batch.mask, k3(now.detach(), batch.ref_logprobs), 0.0)
    assert credited.advantages[3, 0].item() == pytest.approx(-0.3 * penalty[3].sum().item(), rel=1e-10)
