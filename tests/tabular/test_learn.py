"""Learners against what they estimate: exact values and gradients, enumerated over every episode where that is possible."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from burnish.core.keys import derive, uniforms
from burnish.tabular import exact, learn
from burnish.tabular.learn import Boltzmann, EpsilonGreedy
from burnish.tabular.worlds import SIX_STEPS, Floats, Grid, Path, open_grid, walled_grid

DECOY = Grid(("1S.G",), goal_reward=10.0)
"""A small reward one move away, a large one two moves away."""
ARMS = (0.3, 0.5, 0.7)
KEYS = [derive("learn", n) for n in range(5)]
WALLED = walled_grid(5, derive("walls"))
LINE = Grid(("S..", "..G"), goal_reward=2.0, step_reward=-0.25)


# --- exploration -------------------------------------------------------------------------------------


def late(explore: learn.Explore, key: int) -> float:
    """The mean return of the last of 2000 episodes."""
    return float(learn.q_learning(DECOY, explore, key, episodes=2000, cap=12).returns[-300:].mean())


@pytest.mark.parametrize("key", KEYS)
def test_how_much_to_explore(key: int) -> None:
    locked, some, always, decayed = (
        late(explore, key)
        for explore in (EpsilonGreedy(0), EpsilonGreedy(0.1), EpsilonGreedy(1), EpsilonGreedy(1, rate=0.99))
    )
    random = exact.horizon_values(DECOY, exact.uniform(DECOY), 12)[-1, DECOY.start]
    assert locked == 1, "the decoy, in every episode"
    assert 8.5 < some < 10, "the far reward, but for the moves that are still random"
    assert always == pytest.approx(random, abs=1), "what it has learnt is never used"
    assert decayed == 10


@pytest.mark.parametrize("key", KEYS)
def test_boltzmann_exploration_settles_when_it_cools(key: int) -> None:
    assert late(Boltzmann(5, rate=0.99), key) == 10
    assert late(Boltzmann(1e9), key) < 5


def test_regret_on_a_bandit() -> None:
    """The same contrast, as a mean over 25 keys: what does not decay costs for ever, and without exploring one may lock."""

    def regret(explore: learn.Explore) -> Floats:
        runs = [learn.bandit_regret(ARMS, explore, derive("bandit", n), pulls=1000) for n in range(25)]
        return np.asarray(np.mean(runs, 0))

    locked, some, always, decayed = (
        regret(e) for e in (EpsilonGreedy(0), EpsilonGreedy(0.1), EpsilonGreedy(1), EpsilonGreedy(1, rate=0.99))
    )
    assert always[-1] == pytest.approx(1000 * (max(ARMS) - np.mean(ARMS)), rel=0.02)
    assert some[-1] < locked[-1] < always[-1] + 1e-9
    assert decayed[-1] < some[-1]
    assert some[-1] - some[-301] > 0.8 * 300 * 0.1 * (max(ARMS) - np.mean(ARMS)), "it grows as fast as it explores"


def test_regret_never_falls_and_is_zero_for_equal_arms() -> None:
    found = learn.bandit_regret(ARMS, Boltzmann(0.2), KEYS[0], pulls=200)
    assert (np.diff(found) >= 0).all() and found[-1] > 0
    assert not learn.bandit_regret((0.5, 0.5), EpsilonGreedy(0.3), KEYS[0], pulls=50).any()


def test_exploration_by_hand() -> None:
    q = np.array([1.0, 3.0, -np.inf, 3.0])
    np.testing.assert_allclose(EpsilonGreedy(0.3)(q, 7), [0.1, 0.45, 0, 0.45])
    np.testing.assert_allclose(EpsilonGreedy(0.8, rate=0.5)(q, 1), EpsilonGreedy(0.4)(q, 0))
    weights = np.exp([-1, 0, -np.inf, 0])
    np.testing.assert_allclose(Boltzmann(2)(q, 0), weights / weights.sum(), atol=0.1)
    np.testing.assert_allclose(Boltzmann(1, rate=0.1)(q, 5000), [0, 0.5, 0, 0.5])


def test_drawing_is_by_inverse_cdf() -> None:
    p = np.array([0.0, 0.25, 0.0, 0.75, 0.0])
    assert [learn.draw(p, u) for u in (0, 0.2499, 0.25, 1 - 2**-53)] == [1, 1, 3, 3]


# --- action values -----------------------------------------------------------------------------------


def test_q_learning_reaches_the_optimal_values() -> None:
    """Off-policy: the moves are uniform, the values are the best ones."""
    found = learn.q_learning(WALLED, EpsilonGreedy(1), KEYS[0], episodes=400, cap=100, gamma=0.9, alpha=1.0)
    best = exact.q_values(WALLED, exact.value_iteration(WALLED, 0.9), 0.9)
    live = WALLED.permitted & ~WALLED.terminal[:, None]
    np.testing.assert_allclose(found.q[live], best[live], atol=1e-8)
    assert (found.q[~WALLED.permitted] == -np.inf).all()


def test_agents_repeat_by_their_key() -> None:
    def agent(key: int) -> learn.Learned:
        return learn.actor_critic(WALLED, key, episodes=20, cap=30)

    np.testing.assert_array_equal(agent(KEYS[0]).logits, agent(KEYS[0]).logits)
    assert not np.array_equal(agent(KEYS[0]).logits, agent(KEYS[1]).logits)


# --- sampling ----------------------------------------------------------------------------------------


def test_monte_carlo_converges_as_one_over_root_n() -> None:
    """N times the mean squared error is the variance of one return, whatever N is."""
    policy, steps, runs = exact.uniform(LINE), 4, 400
    value = exact.horizon_values(LINE, policy, steps)[-1, LINE.start]
    variance = sum(p * (sum(path.rewards) - value) ** 2 for p, path in exact.paths(LINE, policy, steps))
    returns = np.array(
        [sum(learn.walk(LINE, policy.__getitem__, steps, derive("mc", n)).rewards) for n in range(16 * runs)]
    )
    for size in (1, 4, 16):
        errors = returns[: size * runs].reshape(runs, size).mean(1) - value
        assert size * np.mean(errors**2) == pytest.approx(variance, rel=0.2)
    assert returns.mean() == pytest.approx(value, abs=4 * (variance / len(returns)) ** 0.5)


def test_a_walk_takes_permitted_moves_and_ends_in_time() -> None:
    world = Grid(SIX_STEPS.picture, goal_reward=10.0, slip=0.3)
    for n in range(50):
        path = learn.walk(world, exact.uniform(world).__getitem__, 30, derive("walk", n))
        assert len(path.states) == len(path.moves) + 1 == len(path.rewards) + 1 <= 31
        assert not world.terminal[list(path.states[:-1])].any()
        assert world.permitted[list(path.states[:-1]), list(path.moves)].all()
        assert sum(path.rewards) == (10 if path.states[-1] == world.goal else 0)


# --- policy gradients --------------------------------------------------------------------------------

STEPS = 4


def estimates(world: Grid, logits: Floats, baseline: float) -> list[tuple[float, Floats]]:
    """(probability, estimate) of every episode: reward to go minus a baseline."""
    policy, none = exact.softmax(world, logits), np.zeros(len(world.cells))
    return [
        (p, learn.score(policy, path, learn.advantages(path, none, STEPS, 1.0) - baseline))
        for p, path in exact.paths(world, policy, STEPS)
    ]


@pytest.fixture(params=[0.0, 0.2], ids=["sure", "slippery"])
def slippery(request: pytest.FixtureRequest) -> Grid:
    return Grid(LINE.picture, LINE.goal_reward, LINE.step_reward, request.param)


def logits_of(world: Grid) -> Floats:
    return 2 * uniforms(derive("logits"), world.permitted.size).reshape(world.permitted.shape) - 1


def test_reinforce_is_exact_in_expectation_with_and_without_a_baseline(slippery: Grid) -> None:
    logits = logits_of(slippery)
    gradient = exact.policy_gradient(slippery, logits, STEPS)
    for baseline in (0.0, 0.7, -3.0):
        mean = sum((p * found for p, found in estimates(slippery, logits, baseline)), np.zeros_like(logits))
        np.testing.assert_allclose(mean, gradient, atol=1e-13)


def test_a_baseline_lowers_the_variance(slippery: Grid) -> None:
    """The expected return, where only the outcome is rewarded."""
    slippery = replace(slippery, step_reward=0.0)
    logits = logits_of(slippery)

    def second_moment(baseline: float) -> float:
        return sum(p * float((found**2).sum()) for p, found in estimates(slippery, logits, baseline))

    value = exact.objective(slippery, logits, STEPS)
    assert second_moment(value) < second_moment(0.0)


def test_a_baseline_that_contains_the_reward_is_biased() -> None:
    logits = logits_of(LINE)
    policy, none = exact.softmax(LINE, logits), np.zeros(len(LINE.cells))
    mean = np.zeros_like(logits)
    for p, path in exact.paths(LINE, policy, STEPS):
        weights = learn.advantages(path, none, STEPS, 1.0) - sum(path.rewards)
        mean += p * learn.score(policy, path, weights)
    assert np.abs(mean - exact.policy_gradient(LINE, logits, STEPS)).max() > 0.01


def test_exact_advantages_give_the_exact_gradient() -> None:
    """TD(0) with the true time-dependent values is unbiased too: the critic only has to be right."""
    logits = logits_of(LINE)
    policy = exact.softmax(LINE, logits)
    values = exact.horizon_values(LINE, policy, STEPS)
    mean = np.zeros_like(logits)
    for p, path in exact.paths(LINE, policy, STEPS):
        left = STEPS - np.arange(len(path.states))
        known = values[left, list(path.states)]
        errors = np.array(path.rewards) + np.array([b - a for a, b in pairwise(known)])
        mean += p * learn.score(policy, path, errors)
    np.testing.assert_allclose(mean, exact.policy_gradient(LINE, logits, STEPS), atol=1e-13)


def test_advantages_from_one_step_to_the_whole_return() -> None:
    path = Path((0, 1, 2, 0), (1, 1, 3), (1.0, 2.0, 4.0))
    values = np.array([10.0, 20.0, 30.0])
    one = [1 + 0.5 * 20 - 10, 2 + 0.5 * 30 - 20, 4 + 0.5 * 10 - 30]
    whole = [1 + 1 + 1 + 0.125 * 10 - 10, 2 + 2 + 0.25 * 10 - 20, 4 + 0.5 * 10 - 30]
    np.testing.assert_allclose(learn.advantages(path, values, 1, 0.5), one)
    for n in (3, 99):
        np.testing.assert_allclose(learn.advantages(path, values, n, 0.5), whole)
    two = [1 + 1 + 0.25 * 30 - 10, whole[1], whole[2]]
    np.testing.assert_allclose(learn.advantages(path, values, 2, 0.5), two)


def test_td_errors_sum_to_longer_ones() -> None:
    path = learn.walk(WALLED, exact.uniform(WALLED).__getitem__, 20, KEYS[0])
    values = uniforms(KEYS[1], len(WALLED.cells))
    errors = learn.advantages(path, values, 1, 0.9)
    summed = [sum(0.9**i * e for i, e in enumerate(errors[t : t + 4])) for t in range(len(errors))]
    np.testing.assert_allclose(learn.advantages(path, values, 4, 0.9), summed, atol=1e-12)


@pytest.mark.parametrize("key", KEYS[:3])
@pytest.mark.parametrize("decay", [None, 0.9])
def test_reinforce_solves_the_maze(key: int, decay: float | None) -> None:
    found = learn.reinforce(SIX_STEPS, key, episodes=3000, cap=6, rate=0.1, decay=decay)
    assert exact.success(SIX_STEPS, exact.softmax(SIX_STEPS, found.logits), 6) > 0.9
    assert not found.values.any()


@pytest.mark.parametrize("key", KEYS[:3])
@pytest.mark.parametrize("n", [1, 4])
def test_actor_critic_solves_a_grid_and_knows_its_values(key: int, n: int) -> None:
    found = learn.actor_critic(WALLED, key, episodes=1500, cap=60, n=n)
    policy = exact.softmax(WALLED, found.logits)
    start = exact.evaluate(WALLED, policy, 0.95)[WALLED.start]
    assert start > 0.9 * exact.value_iteration(WALLED, 0.95)[WALLED.start]
    assert found.values[WALLED.start] == pytest.approx(start, abs=0.1)


# --- imitation ---------------------------------------------------------------------------------------


def test_cloning_fits_its_demonstrations_and_fails_beside_them() -> None:
    """Imitation knows the way only where it was shown; an agent that explored finds back from everywhere."""
    world, cap = open_grid(5), 8
    expert = exact.greedy(world, exact.value_iteration(world, 0.9), 0.9)
    shown = [learn.walk(world, expert.__getitem__, cap, KEYS[0])]
    cloned = learn.behaviour_cloning(world, shown)
    assert learn.cloning_loss(exact.uniform(world), shown) > 0.5 and learn.cloning_loss(cloned, shown) == 0

    explored = learn.q_learning(world, EpsilonGreedy(1, rate=0.995), KEYS[0], episodes=1500, cap=60)
    agent = np.where(explored.q == explored.q.max(1, keepdims=True), 1.0, 0.0)
    agent /= agent.sum(1, keepdims=True)
    by_cloning, by_reward = (exact.horizon_values(world, policy, cap)[-1] for policy in (cloned, agent))
    on = np.isin(np.arange(len(world.cells)), shown[0].states)
    live = ~world.terminal
    assert (by_cloning[on & live] == 1).all() and (by_reward[on & live] == 1).all()
    assert by_cloning[~on].max() < 1 and by_cloning[~on].mean() < 0.7
    assert (by_reward[live] == 1).all()


def test_cloning_minimises_its_loss() -> None:
    shown = [learn.walk(LINE, exact.uniform(LINE).__getitem__, 6, derive("shown", n)) for n in range(30)]
    cloned = learn.behaviour_cloning(LINE, shown)
    best = learn.cloning_loss(cloned, shown)
    for n in range(20):
        nearby = exact.softmax(LINE, np.log(cloned + 1e-9) + uniforms(derive("near", n), 20).reshape(5, 4)[:1])
        assert learn.cloning_loss(nearby, shown) >= best
