"""What sampling estimates, computed: optimal values, values of a policy, expectations under a cap, policy gradients.

A policy is an array ``pi[s, a]`` with zeros at moves that are not permitted. Everything is in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from burnish.tabular.worlds import Floats, Grid, Path

TIE = 1e-10
"""A move replaces another only where it is better by more than rounding."""


def q_values(world: Grid, values: Floats, gamma: float = 1.0) -> Floats:
    """[S, A] one step of look-ahead: ``Q(s,a) = sum over s' of P(s'|s,a) [r(s,a,s') + gamma V(s')]``.

    Moves that are not permitted have minus infinity, so that no maximum takes them.
    """
    return np.where(world.permitted, world.rewards + gamma * world.transitions @ values, -np.inf)


def backup(world: Grid, values: Floats, gamma: float = 1.0) -> Floats:
    """[S] Bellman's optimality operator ``(TV)(s) = max over a of Q(s,a)``: a contraction by gamma in the maximum norm."""
    return np.asarray(q_values(world, values, gamma).max(1))


def value_iteration(world: Grid, gamma: float = 1.0, tolerance: float = 1e-12) -> Floats:
    """[S] the optimal values: ``V <- TV`` from V = 0, until no value moves by more than ``tolerance``.

    Source: Bellman 1957; Sutton and Barto 2018, section 4.4. With gamma 1 a step must cost something, or every path
    must be short. With step reward -1, gamma 1 and a goal of 0 this is the classroom rule "best neighbour minus 1":
    V is minus the distance to the goal.
    """
    values = np.zeros(len(world.cells))
    while True:
        before, values = values, backup(world, values, gamma)
        if np.abs(values - before).max() <= tolerance:
            return values


def uniform(world: Grid) -> Floats:
    """[S, A] every permitted move is as likely."""
    return np.asarray(world.permitted / world.permitted.sum(1, keepdims=True))


def greedy(world: Grid, values: Floats, gamma: float = 1.0) -> Floats:
    """[S, A] the first best move by ``values`` has probability 1."""
    q = q_values(world, values, gamma)
    first = np.argmax(q >= q.max(1, keepdims=True) - TIE, axis=1)
    return np.asarray(np.eye(q.shape[1])[first])


def softmax(world: Grid, logits: Floats) -> Floats:
    """[S, A] ``pi(a|s) = exp(theta[s,a]) / sum over permitted b of exp(theta[s,b])``."""
    masked = np.where(world.permitted, logits, -np.inf)
    weights = np.exp(masked - masked.max(1, keepdims=True))
    return np.asarray(weights / weights.sum(1, keepdims=True))


def chain(world: Grid, policy: Floats) -> Floats:
    """[S, S] ``P_pi(s'|s) = sum over a of pi(a|s) P(s'|s,a)``."""
    return np.asarray(np.einsum("sa,sat->st", policy, world.transitions))


def evaluate(world: Grid, policy: Floats, gamma: float = 1.0) -> Floats:
    """[S] the values of a policy, from ``(I - gamma P_pi) V = r_pi`` over the cells that are not absorbing.

    Raises numpy.linalg.LinAlgError where gamma is 1 and the policy may never end.
    """
    live = ~world.terminal
    reward = (policy * world.rewards).sum(1)[live]
    matrix = np.eye(live.sum()) - gamma * chain(world, policy)[np.ix_(live, live)]
    values = np.zeros(len(world.cells))
    values[live] = np.linalg.solve(matrix, reward)
    return values


class Improved(NamedTuple):
    """The result of policy iteration: ``sweeps`` counts evaluations."""

    values: Floats
    policy: Floats
    sweeps: int


def policy_iteration(world: Grid, gamma: float = 1.0) -> Improved:
    """Evaluate exactly, take the best move everywhere, repeat until no move is better: ``pi' = argmax over a of Q_pi``.

    Each policy is better than the one before and there are finitely many, so it stops (Howard 1960). It begins with the
    uniform policy, which always ends; the old move stays where the best is no better by more than rounding.
    """
    policy, sweeps = uniform(world), 0
    while True:
        values = evaluate(world, policy, gamma)
        sweeps += 1
        q = q_values(world, values, gamma)
        kept = np.where(policy == 1, q, -np.inf).max(1) >= q.max(1) - TIE
        better = np.where(kept[:, None], policy, greedy(world, values, gamma))
        if np.array_equal(better, policy):
            return Improved(values, policy, sweeps)
        policy = better


# --- a fixed number of steps -----------------------------------------------------------------------


def horizon_values(world: Grid, policy: Floats, steps: int) -> Floats:
    """[steps + 1, S] ``V_k(s) = sum over a of pi(a|s) Q_k(s,a)`` with k steps to go, and ``V_0 = 0``.

    ``Q_k(s,a) = sum over s' of P(s'|s,a) [r(s,a,s') + V_{k-1}(s')]``; an absorbing cell has value 0 whatever k is.
    """
    values = [np.zeros(len(world.cells))]
    for _ in range(steps):
        values.append((policy * (world.rewards + world.transitions @ values[-1])).sum(1))
    return np.stack(values)


def occupancy(world: Grid, policy: Floats, steps: int) -> Floats:
    """[steps + 1, S] ``Pr(s_t = s)`` for t = 0 .. steps, from the start."""
    visited, follow = [np.eye(len(world.cells))[world.start]], chain(world, policy)
    for _ in range(steps):
        visited.append(visited[-1] @ follow)
    return np.stack(visited)


def success(world: Grid, policy: Floats, steps: int) -> float:
    """The probability of being in the goal after ``steps`` moves from the start."""
    return float(occupancy(world, policy, steps)[-1, world.goal])


def objective(world: Grid, logits: Floats, steps: int) -> float:
    """``J(theta) = V_steps(start)``: the expected sum of rewards of an episode of at most ``steps`` moves."""
    return float(horizon_values(world, softmax(world, logits), steps)[-1, world.start])


def policy_gradient(world: Grid, logits: Floats, steps: int) -> Floats:
    """[S, A] ``dJ/dtheta[s,a] = sum over t of Pr(s_t = s) pi(a|s) (Q_k(s,a) - V_k(s))`` with k = steps - t to go.

    The advantage depends on t because the cap does: the same move is worth less when fewer steps are left. The policy
    does not know t. Source: the policy gradient theorem, Sutton et al. 2000, for a finite horizon.
    """
    policy = softmax(world, logits)
    values = horizon_values(world, policy, steps)
    visited = occupancy(world, policy, steps)
    gradient = np.zeros_like(policy)
    for t in range(steps):
        q = world.rewards + world.transitions @ values[steps - t - 1]
        gradient += visited[t][:, None] * policy * (q - values[steps - t][:, None])
    return gradient


def paths(world: Grid, policy: Floats, steps: int) -> Iterator[tuple[float, Path]]:
    """Every episode of at most ``steps`` moves from the start that the policy can take, with its probability."""
    waiting = [(1.0, Path((world.start,), (), ()))]
    while waiting:
        probability, path = waiting.pop()
        here = path.states[-1]
        if world.terminal[here] or len(path.moves) == steps:
            yield probability, path
            continue
        joint = policy[here][:, None] * world.transitions[here]
        for move, after in np.argwhere(joint > 0).tolist():
            longer = Path((*path.states, after), (*path.moves, move), (*path.rewards, world.pays(here, after)))
            waiting.append((probability * float(joint[move, after]), longer))
