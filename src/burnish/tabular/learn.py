"""Learning from sampled steps, in a table: Q-learning and its exploration, bandits, cloning, REINFORCE, actor-critic.

Every random number comes from a key (:mod:`burnish.core.keys`): the same key gives the same agent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from burnish.core.keys import derive, uniforms
from burnish.tabular import exact
from burnish.tabular.worlds import Floats, Grid, Path

Explore = Callable[[Floats, int], Floats]
"""(action values [A], trial number) -> probabilities [A]. A value of minus infinity is an action that does not exist."""

COLDEST = 1e-8
"""A temperature below which Boltzmann exploration is greedy in float64."""


@dataclass(frozen=True)
class EpsilonGreedy:
    """With probability epsilon any action, else the best one, ties shared: ``epsilon_n = epsilon rate^n`` at trial n.

    Source: Watkins 1989. ``rate`` 1 never decays.
    """

    epsilon: float
    rate: float = 1.0

    def __call__(self, q: Floats, trial: int) -> Floats:
        epsilon = self.epsilon * self.rate**trial
        there, best = np.isfinite(q), q == q.max()
        return np.asarray(epsilon * there / there.sum() + (1 - epsilon) * best / best.sum())


@dataclass(frozen=True)
class Boltzmann:
    """``pi(a) = exp(Q(a) / tau) / sum over b of exp(Q(b) / tau)`` with ``tau_n = temperature rate^n`` at trial n.

    Where epsilon-greedy tries all other actions alike, this tries the good ones more often.
    """

    temperature: float
    rate: float = 1.0

    def __call__(self, q: Floats, trial: int) -> Floats:
        weights = np.exp((q - q.max()) / max(self.temperature * self.rate**trial, COLDEST))
        return np.asarray(weights / weights.sum())


def draw(probabilities: Floats, uniform: float) -> int:
    """The outcome that inverse-CDF sampling gives for a uniform in [0, 1); one of probability 0 is never drawn."""
    below = probabilities.cumsum()
    return int(np.searchsorted(below / below[-1], uniform, side="right"))


def walk(world: Grid, policy: Callable[[int], Floats], cap: int, key: int) -> Path:
    """An episode of at most ``cap`` moves from the start; ``policy(state)`` gives probabilities [A] at each step."""
    luck = uniforms(key, 2 * cap)
    states, moves, rewards = [world.start], list[int](), list[float]()
    while not world.terminal[states[-1]] and len(moves) < cap:
        here, t = states[-1], len(moves)
        moves.append(draw(policy(here), luck[2 * t]))
        states.append(draw(world.transitions[here, moves[-1]], luck[2 * t + 1]))
        rewards.append(world.pays(here, states[-1]))
    return Path(tuple(states), tuple(moves), tuple(rewards))


# --- action values -----------------------------------------------------------------------------------


class QLearned(NamedTuple):
    """``q`` [S, A], minus infinity at moves that are not permitted; ``returns`` [episodes], undiscounted."""

    q: Floats
    returns: Floats


def q_learning(
    world: Grid, explore: Explore, key: int, *, episodes: int, cap: int, alpha: float = 0.5, gamma: float = 0.95
) -> QLearned:
    """``Q(s,a) <- Q(s,a) + alpha [r + gamma max over a' of Q(s',a') - Q(s,a)]`` after every move (Watkins 1989).

    The target takes the best next move, whatever ``explore`` does next: Q-learning is off-policy.
    """
    q = np.where(world.permitted, 0.0, -np.inf)
    returns = np.zeros(episodes)
    for episode in range(episodes):
        luck = uniforms(derive(key, episode), 2 * cap)
        here = world.start
        for t in range(cap):
            if world.terminal[here]:
                break
            move = draw(explore(q[here], episode), luck[2 * t])
            after = draw(world.transitions[here, move], luck[2 * t + 1])
            reward = world.pays(here, after)
            q[here, move] += alpha * (reward + gamma * q[after].max() - q[here, move])
            returns[episode] += reward
            here = after
    return QLearned(q, returns)


def bandit_regret(means: Sequence[float], explore: Explore, key: int, *, pulls: int) -> Floats:
    """[pulls] the regret so far, ``sum over pulls of (max over a of mean_a - mean_chosen)``, of arms that pay 0 or 1.

    Arm a pays 1 with probability ``means[a]``. ``Q(a)`` is the mean of what it has paid, 0 before it is pulled. Source:
    Sutton and Barto 2018, section 2.4.
    """
    true = np.asarray(means, dtype=np.float64)
    luck = uniforms(key, 2 * pulls)
    q, count, chosen = np.zeros(len(true)), np.zeros(len(true)), np.zeros(pulls, dtype=np.int64)
    for n in range(pulls):
        arm = chosen[n] = draw(explore(q, n), luck[2 * n])
        count[arm] += 1
        q[arm] += (float(luck[2 * n + 1] < true[arm]) - q[arm]) / count[arm]
    return np.asarray((true.max() - true[chosen]).cumsum())


# --- imitation ---------------------------------------------------------------------------------------


def cloning_loss(policy: Floats, demonstrations: Sequence[Path]) -> float:
    """``L = -(1/T) sum over demonstrated (s, a) of log pi(a|s)``: the loss of supervised fine-tuning, in a table."""
    taken = [policy[s, a] for path in demonstrations for s, a in zip(path.states, path.moves, strict=False)]
    return float(-np.log(taken).mean())


def behaviour_cloning(world: Grid, demonstrations: Sequence[Path]) -> Floats:
    """[S, A] the minimiser of :func:`cloning_loss`: ``pi(a|s) = n(s,a) / n(s)``, counts over the demonstrations.

    In a cell that no demonstration visits the loss says nothing, and the policy stays uniform.
    """
    counts = np.zeros(world.permitted.shape)
    for path in demonstrations:
        np.add.at(counts, (list(path.states[:-1]), list(path.moves)), 1.0)
    seen = counts.sum(1, keepdims=True)
    return np.where(seen > 0, counts / np.maximum(seen, 1), exact.uniform(world))


# --- policy gradients --------------------------------------------------------------------------------


def score(policy: Floats, path: Path, weights: Floats) -> Floats:
    """[S, A] ``sum over t of w_t grad log pi(a_t|s_t)`` of a softmax table: ``grad = 1[a_t] - pi(.|s_t)`` in row s_t."""
    states, moves = list(path.states[:-1]), list(path.moves)
    gradient = np.zeros_like(policy)
    np.add.at(gradient, states, -weights[:, None] * policy[states])
    np.add.at(gradient, (states, moves), weights)
    return gradient


def advantages(path: Path, values: Floats, n: int, gamma: float) -> Floats:
    """[T] ``A_t = r_t + .. + gamma^(n-1) r_{t+n-1} + gamma^n V(s_{t+n}) - V(s_t)``, with n cut at the last state.

    n = 1 is the TD(0) error; n >= T is the return to go minus V, plus V of the last state where the cap cut the episode.
    """
    length, found = len(path.moves), np.zeros(len(path.moves))
    for t in range(length):
        steps = min(n, length - t)
        paid = sum(gamma**i * path.rewards[t + i] for i in range(steps))
        found[t] = paid + gamma**steps * values[path.states[t + steps]] - values[path.states[t]]
    return found


class Learned(NamedTuple):
    """``logits`` [S, A] of a softmax policy, ``values`` [S] of its critic, ``returns`` [episodes], undiscounted."""

    logits: Floats
    values: Floats
    returns: Floats


def reinforce(
    world: Grid, key: int, *, episodes: int, cap: int, rate: float = 0.1, decay: float | None = None
) -> Learned:
    """``theta <- theta + rate sum over t of grad log pi(a_t|s_t) (r_t + .. + r_T - b)`` after every episode (Williams 1992).

    ``b`` is 0, or with ``decay`` the running mean of earlier returns. There is no critic: ``values`` stay 0.
    """
    logits, none = np.zeros(world.permitted.shape), np.zeros(len(world.cells))
    returns, baseline = np.zeros(episodes), 0.0
    for episode in range(episodes):
        policy = exact.softmax(world, logits)
        path = walk(world, policy.__getitem__, cap, derive(key, episode))
        logits += rate * score(policy, path, advantages(path, none, cap, 1.0) - baseline)
        returns[episode] = sum(path.rewards)
        if decay is not None:
            baseline += (1 - decay) * (returns[episode] - baseline)
    return Learned(logits, none, returns)


def actor_critic(
    world: Grid,
    key: int,
    *,
    episodes: int,
    cap: int,
    n: int = 1,
    actor: float = 0.5,
    critic: float = 0.2,
    gamma: float = 0.95,
) -> Learned:
    """``V(s_t) <- V(s_t) + critic A_t`` and ``theta <- theta + actor sum over t of A_t grad log pi(a_t|s_t)``.

    ``A_t`` is the n-step advantage by the values before the episode; both updates come after it. The factor gamma^t of
    the discounted objective is left out, as is usual. Source: Sutton and Barto 2018, section 13.5; arXiv:1602.01783.
    """
    logits, values = np.zeros(world.permitted.shape), np.zeros(len(world.cells))
    returns = np.zeros(episodes)
    for episode in range(episodes):
        policy = exact.softmax(world, logits)
        path = walk(world, policy.__getitem__, cap, derive(key, episode))
        better = advantages(path, values, n, gamma)
        np.add.at(values, list(path.states[:-1]), critic * better)
        logits += actor * score(policy, path, better)
        returns[episode] = sum(path.rewards)
    return Learned(logits, values, returns)
