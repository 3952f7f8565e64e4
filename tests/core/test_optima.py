"""Closed forms: where the expected update of production code comes to rest, on problems small enough to write them down.

Every step takes the gradient of the algorithm's loss on all answers at once, each weighed by its probability, and divides
it by that probability (the natural gradient of a softmax): it rests where the gradient is zero and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from burnish.core.advantages import GroupMean
from burnish.core.algorithms import APA, GRPO, KIMI, REINFORCE, Algorithm
from burnish.core.kl import KL, Adaptive, k1, k2, k3, k3_unbiased
from burnish.core.levels import sequence
from burnish.types import Batch, Outputs
from rows import batch_of, groups, rollout

ARMS = 6
REWARD = torch.tensor([1.0, -0.5, 0.0, 2.0, 0.3, 1.2], dtype=torch.float64)
REFERENCE = torch.log_softmax(torch.tensor([0.2, 1.0, -0.5, -1.0, 0.6, 0.0], dtype=torch.float64), -1)
START = torch.tensor([0.5, -0.5, 1.0, 0.0, -1.0, 0.3], dtype=torch.float64)
BASELINES = {"sum": 0.7, "weight": 1.0}
"""A state of REINFORCE in which the baseline is .7: any constant will do."""
BANDIT = batch_of([rollout(1, episode=i) for i in range(ARMS)])

Annotate = Callable[[Tensor], Batch]
"""Log-probs of the policy [rows, T] to the batch of all answers, with advantages."""


def tilted(coef: float, reward: Tensor = REWARD, anchor: Tensor = REFERENCE) -> Tensor:
    """``log( anchor e^{reward / coef} / Z )``."""
    return torch.log_softmax(anchor + reward / coef, -1)


def expected_gradient(algo: Algorithm, theta: Tensor, annotate: Annotate, odds: Tensor | None = None) -> Tensor:
    """The gradient on all arms weighed by ``odds`` (log), by default those of the policy itself."""
    now = torch.log_softmax(theta, -1)[:, None]
    odds = now.detach() if odds is None else odds[:, None]
    batch = algo.loss.prepare(annotate(now.detach()))
    batch = replace(batch, weights={"policy": batch.weights["policy"] * ARMS * odds.exp()})
    return torch.autograd.grad(algo.loss(Outputs(now, torch.zeros_like(now)), batch)[0], theta)[0]


def rest(
    algo: Algorithm,
    annotate: Annotate,
    *,
    rate: float,
    steps: int = 150,
    odds: Tensor | None = None,
    start: Tensor = START,
) -> Tensor:
    """The log-probs at which the expected update has come to rest."""
    theta = start.clone().requires_grad_()
    for _ in range(steps):
        slope = expected_gradient(algo, theta, annotate, odds)
        with torch.no_grad():
            theta -= rate * slope / (torch.softmax(theta, -1) if odds is None else odds.exp())
    assert expected_gradient(algo, theta, annotate, odds).abs().max() < 1e-12
    return torch.log_softmax(theta, -1).detach()


def rewarded(algo: Algorithm) -> Annotate:
    """Rewards to advantages by the algorithm itself, on its own samples."""

    def annotate(now: Tensor) -> Batch:
        batch = replace(BANDIT, old_logprobs=now, ref_logprobs=REFERENCE[:, None], token_rewards=REWARD[:, None])
        return algo.credit(batch, BASELINES)

    return annotate


# --- the optimum of KL-regularised reward --------------------------------------------------------

REGULARISED = {
    "k1_in_the_reward": lambda beta: replace(REINFORCE, reward_kl=KL(k1, beta)),
    "k2_in_the_loss": lambda beta: replace(REINFORCE, kl=KL(k2, beta)),
    "unbiased_k3_in_the_loss": lambda beta: replace(REINFORCE, kl=KL(k3_unbiased, beta)),
}


@pytest.mark.parametrize("beta", [0.4, 1.0, 5.0])
@pytest.mark.parametrize("build", REGULARISED.values(), ids=REGULARISED)
def test_kl_regularised_reward_is_optimised_exactly(build: Callable[[float], Algorithm], beta: float) -> None:
    """``max E[R] - beta KL(pi || ref)`` is reached at ``ref e^{R / beta} / Z``."""
    algo = build(beta)
    found = rest(algo, rewarded(algo), rate=0.5 / beta)
    assert torch.allclose(found, tilted(beta), rtol=1e-10, atol=1e-10)


def test_k3_in_the_loss_optimises_another_objective() -> None:
    """GRPO's term: ``max E[R] - beta KL(ref || pi)``, where ``R + beta ref / pi`` is the same for every answer."""
    beta = 1.5
    algo = replace(REINFORCE, kl=KL(k3, beta))
    found = rest(algo, rewarded(algo), rate=0.2, steps=800)
    level = REWARD + beta * (REFERENCE - found).exp()
    assert torch.allclose(level, level.mean().expand(ARMS), rtol=1e-10)
    assert (found - tilted(beta)).abs().max() > 0.1


def test_k1_in_the_loss_regularises_nothing() -> None:
    algo, free = replace(REINFORCE, kl=KL(k1, 3.0)), REINFORCE
    theta = START.clone().requires_grad_()
    assert torch.allclose(
        expected_gradient(algo, theta, rewarded(algo)), expected_gradient(free, theta, rewarded(free)), atol=1e-14
    )


@pytest.mark.parametrize("build", REGULARISED.values(), ids=REGULARISED)
def test_a_larger_coefficient_ends_nearer_to_the_reference(build: Callable[[float], Algorithm]) -> None:
    distances = []
    for beta in (0.5, 1.0, 2.0, 4.0):
        found = rest(build(beta), rewarded(build(beta)), rate=0.5 / beta)
        distances.append((found.exp() * (found - REFERENCE)).sum().item())
    assert all(later < 0.6 * earlier for earlier, later in pairwise(distances))


@pytest.mark.parametrize("begin", [0.5, 6.0])
@pytest.mark.parametrize("where", ["reward", "loss"])
def test_the_controller_ends_at_its_target(where: str, begin: float) -> None:
    """State, credit, loss and update in a loop: the divergence settles at the target from either side."""
    target, count = 0.15, 200
    adapt = Adaptive(target)
    algo = (
        replace(REINFORCE, reward_kl=KL(k1, begin, adapt=adapt))
        if where == "reward"
        else replace(REINFORCE, kl=KL(k2, begin, adapt=adapt))
    )
    everyone = batch_of([rollout(1, episode=i) for i in range(count)])
    quantiles = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    theta, state = REFERENCE.clone().requires_grad_(), {**algo.init(), **BASELINES}
    for _ in range(300):
        policy = torch.log_softmax(theta, -1)
        drawn = torch.searchsorted(policy.detach().exp().cumsum(0), quantiles).clamp(max=ARMS - 1)
        now = policy[drawn][:, None]
        batch = replace(everyone, old_logprobs=now.detach(), ref_logprobs=REFERENCE[drawn][:, None])
        batch = replace(batch, token_rewards=REWARD[drawn][:, None])
        batch = algo.loss.prepare(algo.credit(batch, {**state, **BASELINES}))
        slope = torch.autograd.grad(algo.loss(Outputs(now, torch.zeros_like(now)), batch)[0], theta)[0]
        state = dict(algo.update(state, batch))
        with torch.no_grad():
            theta -= 0.5 / max(1.0, state["kl_coef"]) * slope / policy.exp()
    policy = torch.log_softmax(theta, -1).detach()
    assert (policy.exp() * (policy - REFERENCE)).sum().item() == pytest.approx(target, rel=0.1)
    assert 1 < state["kl_coef"] < 3, "it has come from below, or from above"


# --- texts of two tokens -------------------------------------------------------------------------

TEXTS = [(a, b) for a in range(3) for b in range(3)]
TEXT_REWARD = torch.tensor([0.3, -1.0, 2.0, 0.5, 0.0, 1.0, -2.0, 4.0, 1.5], dtype=torch.float64)
TEXT_BATCH = batch_of([rollout(2, episode=i) for i in range(len(TEXTS))])


def of_texts(theta: Tensor) -> Tensor:
    """[9, 2] per token; row 0 of ``theta`` [4, 3] is the first token's logits, row 1 + a those after a."""
    steps = torch.log_softmax(theta, -1)
    return torch.stack([torch.stack([steps[0, a], steps[1 + a, b]]) for a, b in TEXTS])


TEXT_REFERENCE = of_texts(torch.randn(4, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64))


def text_optimum(algo: Algorithm, steps: int = 600, rate: float = 0.2) -> Tensor:
    theta = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    for _ in range(steps):
        now = of_texts(theta)
        odds = now.detach().sum(1).exp()
        rewards = torch.stack([torch.zeros_like(TEXT_REWARD), TEXT_REWARD], 1)
        batch = replace(TEXT_BATCH, old_logprobs=now.detach(), ref_logprobs=TEXT_REFERENCE, token_rewards=rewards)
        batch = algo.loss.prepare(algo.credit(batch, BASELINES))
        batch = replace(batch, weights={"policy": batch.weights["policy"] * len(TEXTS) * odds[:, None]})
        slope = torch.autograd.grad(algo.loss(Outputs(now, torch.zeros_like(now)), batch)[0], theta)[0]
        first = odds.reshape(3, 3).sum(1)
        with torch.no_grad():
            theta -= rate * slope / torch.cat([first[None], odds.reshape(3, 3)])
    assert slope.abs().max() < 1e-12
    return of_texts(theta).detach().sum(1)


TEXT_REGULARISED = {
    "k1_in_the_reward": (replace(REINFORCE, reward_kl=KL(k1, 1.0)), True),
    "k1_of_the_text_in_the_reward": (replace(REINFORCE, reward_kl=KL(k1, 1.0, level=sequence)), True),
    "k2_of_the_text_in_the_loss": (replace(REINFORCE, kl=KL(k2, 1.0, level=sequence)), True),
    "k2_of_tokens_in_the_loss": (replace(REINFORCE, kl=KL(k2, 1.0)), False),
}


@pytest.mark.parametrize(("algo", "right"), TEXT_REGULARISED.values(), ids=TEXT_REGULARISED)
def test_the_optimum_over_whole_texts(algo: Algorithm, right: bool) -> None:
    """Token by token in the loss, the term does not see that a first token leads to places far from the reference."""
    exact = tilted(1.0, TEXT_REWARD, TEXT_REFERENCE.sum(1))
    found = text_optimum(algo)
    if right:
        assert torch.allclose(found, exact, rtol=1e-9, atol=1e-9)
    else:
        assert (found - exact).abs().max() > 0.05


# --- Kimi k1.5 -----------------------------------------------------------------------------------

OLD = REFERENCE
"""The policy that drew the samples of one iteration: the reference itself."""


def kimi(tau: float) -> Algorithm:
    assert KIMI.kl is not None
    return replace(KIMI, kl=replace(KIMI.kl, coef=tau))


def minus(baseline: float) -> Annotate:
    return lambda _: replace(BANDIT, old_logprobs=OLD[:, None], advantages=(REWARD - baseline)[:, None])


def log_z(tau: float) -> float:
    """``tau log Z`` with ``Z = E_old[e^{r / tau}]``."""
    return tau * float(torch.logsumexp(OLD + REWARD / tau, -1))


@pytest.mark.parametrize("tau", [0.5, 1.0, 3.0])
def test_kimi_is_half_the_slope_of_its_regression(tau: float) -> None:
    """``E_old (r - tau log Z - tau log pi / pi_old)^2``, whose gradient is 2 tau times that of the loss, anywhere."""
    theta = START.clone().requires_grad_()
    move = torch.log_softmax(theta, -1) - OLD
    regression = (OLD.exp() * (REWARD - log_z(tau) - tau * move).square()).sum()
    exact = torch.autograd.grad(regression, theta)[0]
    found = expected_gradient(kimi(tau), theta, minus(log_z(tau)), OLD)
    assert torch.allclose(2 * tau * found, exact, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("tau", [0.5, 1.0, 3.0])
def test_kimi_with_the_exact_normaliser_ends_at_the_optimum(tau: float) -> None:
    """``pi_old e^{r / tau} / Z``, from samples of ``pi_old`` throughout."""
    found = rest(kimi(tau), minus(log_z(tau)), rate=0.3 / tau, odds=OLD, steps=500)
    assert torch.allclose(found, tilted(tau), rtol=1e-10, atol=1e-10)


def test_kimi_with_the_mean_reward_ends_nearby() -> None:
    """There ``r - mean r = tau (log pi/pi_old + KL(pi_old || pi) pi/pi_old)``; off the optimum by order 1 / tau^3."""
    mean = float((OLD.exp() * REWARD).sum())
    gaps = []
    for tau in (2.0, 20.0, 40.0):
        found = rest(kimi(tau), minus(mean), rate=0.3 / tau, odds=OLD, steps=300, start=OLD)
        move = found - OLD
        back = -(OLD.exp() * move).sum()
        assert torch.allclose(REWARD - mean, tau * (move + back * move.exp()), rtol=1e-8, atol=1e-8)
        gaps.append((found - tilted(tau)).abs().max().item())
    assert gaps[0] > 1e-3
    assert gaps[1] / gaps[2] == pytest.approx(8, rel=0.15)


@pytest.mark.parametrize("old_given", [False, True])
def test_kimi_begins_as_reinforce_with_the_mean_of_the_group(old_given: bool) -> None:
    rows = groups([[0, 1, 5], [2, 2, 3]], [[2, 1, 3], [1, 2, 1]])
    plain = replace(REINFORCE, advantage=GroupMean(std=False))
    slopes = []
    for algo in (KIMI, plain):
        batch = batch_of(rows)
        now = -torch.rand(batch.tokens.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        batch = replace(batch, old_logprobs=now.clone() if old_given else None)
        batch = algo.loss.prepare(algo.credit(batch, algo.init()))
        now.requires_grad_()
        slopes.append(torch.autograd.grad(algo.loss(Outputs(now, torch.zeros_like(now)), batch)[0], now)[0])
    assert torch.equal(*slopes) and bool((slopes[0] != 0).any())


# --- APA -----------------------------------------------------------------------------------------


def apa(scale: float) -> Algorithm:
    return replace(APA, surrogate=replace(APA.surrogate, scale=scale))


def towards(advantages: Tensor) -> Annotate:
    return lambda now: replace(
        BANDIT, old_logprobs=now, ref_logprobs=REFERENCE[:, None], advantages=advantages[:, None]
    )


CENTRED = REWARD - (REFERENCE.exp() * REWARD).sum()
"""The advantage of the reference policy."""


@pytest.mark.parametrize("scale", [0.1, 0.5, 1.0])
def test_apa_ends_at_the_tilted_reference(scale: float) -> None:
    """``ref e^{c A} / Z``: on its own samples always; on those of the reference where the target is normalised."""
    exact = torch.log_softmax(REFERENCE + scale * CENTRED, -1)
    own = rest(apa(scale), towards(CENTRED), rate=0.25)
    assert torch.allclose(own, exact, rtol=1e-10, atol=1e-10)
    surplus = float(torch.logsumexp(REFERENCE + scale * CENTRED, -1))
    other = rest(apa(scale), towards(CENTRED - surplus / scale), rate=0.15, odds=REFERENCE, steps=400, start=REFERENCE)
    assert torch.allclose(other, exact, rtol=1e-10, atol=1e-10)


def test_apa_on_samples_of_the_reference_is_off_by_less_than_the_normaliser() -> None:
    """With the plain advantage log Z is about c^2 Var A / 2: near 0, and so is the distance from the optimum."""
    for scale, bound in ((0.05, 1e-3), (0.1, 5e-3), (0.3, 0.05)):
        surplus = float(torch.logsumexp(REFERENCE + scale * CENTRED, -1))
        variance = float((REFERENCE.exp() * CENTRED.square()).sum())
        assert surplus == pytest.approx(scale**2 * variance / 2, rel=0.2) and surplus < bound
        found = rest(apa(scale), towards(CENTRED), rate=0.15, odds=REFERENCE, steps=300, start=REFERENCE)
        exact = torch.log_softmax(REFERENCE + scale * CENTRED, -1)
        assert 0 < (found - exact).abs().max() < surplus


def test_the_other_family_ends_elsewhere() -> None:
    """Nothing here is an accident of the descent: GRPO without a KL runs to the best arm."""
    algo = replace(GRPO, kl=None, advantage=REINFORCE.advantage)
    theta = START.clone().requires_grad_()
    for _ in range(200):
        slope = expected_gradient(algo, theta, rewarded(algo))
        with torch.no_grad():
            theta -= 0.5 * slope / torch.softmax(theta, -1)
    assert torch.softmax(theta, -1)[3].item() > 0.99
