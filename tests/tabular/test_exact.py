"""Dynamic programming against enumeration, finite differences, and the numbers of the six-step maze."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest

from burnish.core.keys import derive, uniforms
from burnish.tabular import exact
from burnish.tabular.worlds import MOVES, SIX_STEPS, Floats, Grid, open_grid, walled_grid

UP, RIGHT, DOWN, LEFT = range(4)
STEPS = 6
CLASSROOM = walled_grid(7, derive("classroom"), goal_reward=0.0, step_reward=-1.0)
WORLDS = [
    pytest.param(open_grid(5), id="open"),
    pytest.param(walled_grid(6, derive("walls"), slip=0.2), id="slippery"),
    pytest.param(Grid(("S..3", ".#..", "...G"), goal_reward=9.0, step_reward=-0.1, slip=0.1), id="decoy"),
]


def logits(world: Grid, name: str, scale: float = 1.0) -> Floats:
    """Any logits, the same ones whenever they are asked for."""
    shape = world.permitted.shape
    return scale * (2 * uniforms(derive("logits", name), world.permitted.size).reshape(shape) - 1)


# --- the six-step maze -----------------------------------------------------------------------------


def test_the_numbers_of_the_six_step_maze() -> None:
    values = exact.horizon_values(SIX_STEPS, exact.uniform(SIX_STEPS), STEPS)
    beside, before, other = (SIX_STEPS.index[cell] for cell in ((3, 2), (2, 2), (3, 1)))
    assert [int(SIX_STEPS.permitted[s].sum()) for s in (beside, before, other)] == [3, 2, 2]
    assert values[1, beside] == pytest.approx(10 / 3, rel=1e-15) and f"{values[1, beside]:.3f}" == "3.333"
    assert values[2, before] == values[2, other] == values[1, beside] / 2
    assert values[6, SIX_STEPS.start] == pytest.approx(25 / 144, abs=1e-15)


def test_a_move_left_or_up_leaves_too_few_steps() -> None:
    away = SIX_STEPS.distances(SIX_STEPS.start)
    values = exact.horizon_values(SIX_STEPS, exact.uniform(SIX_STEPS), STEPS)
    for state in range(len(SIX_STEPS.cells)):
        left = STEPS - int(away[state])
        if left > 0:
            q = exact.q_values(SIX_STEPS, values[left - 1])[state]
            assert all(q[move] in (0, -np.inf) for move in (UP, LEFT))


def test_an_open_grid_gives_other_numbers() -> None:
    """Why the maze has walls: without them the cell before the last has three exits more."""
    world = open_grid(4, goal_reward=10.0)
    values = exact.horizon_values(world, exact.uniform(world), STEPS)
    assert values[1, world.index[3, 2]] == pytest.approx(10 / 3)
    assert values[2, world.index[3, 1]] == pytest.approx(10 / 9)


@pytest.mark.parametrize("slip", [0.0, 0.25])
@pytest.mark.parametrize("steps", range(STEPS + 1))
def test_expectations_equal_enumeration(steps: int, slip: float) -> None:
    world = Grid(SIX_STEPS.picture, goal_reward=10.0, step_reward=-0.1, slip=slip)
    policy = exact.softmax(world, logits(world, "policy"))
    steps = steps if slip == 0 else min(steps, 4)
    found = list(exact.paths(world, policy, steps))
    assert sum(p for p, _ in found) == pytest.approx(1, abs=1e-13)
    total = sum(p * sum(path.rewards) for p, path in found)
    assert exact.horizon_values(world, policy, steps)[-1, world.start] == pytest.approx(total, abs=1e-13)
    reached = sum(p for p, path in found if path.states[-1] == world.goal)
    assert exact.success(world, policy, steps) == pytest.approx(reached, abs=1e-13)
    for t, row in enumerate(exact.occupancy(world, policy, steps)):
        there = np.zeros(len(world.cells))
        for p, path in found:
            there[path.states[min(t, len(path.moves))]] += p
        np.testing.assert_allclose(row, there, atol=1e-13)


@pytest.mark.parametrize("slip", [0.0, 0.2])
@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_the_policy_gradient_equals_finite_differences(scale: float, slip: float) -> None:
    world = Grid(SIX_STEPS.picture, goal_reward=10.0, step_reward=-0.3, slip=slip)
    theta = logits(world, "theta", scale)
    found, width = exact.policy_gradient(world, theta, STEPS), 1e-5
    for place in np.ndindex(theta.shape):
        nudge = np.zeros_like(theta)
        nudge[place] = width
        rise = exact.objective(world, theta + nudge, STEPS) - exact.objective(world, theta - nudge, STEPS)
        assert found[place] == pytest.approx(rise / (2 * width), abs=1e-8)
    assert not found[~world.permitted].any()
    np.testing.assert_allclose(found.sum(1), 0, atol=1e-14)


def test_the_gradient_leads_to_certain_success() -> None:
    """Only the last of six steps is rewarded, and every step learns what to do."""
    theta = np.zeros(SIX_STEPS.permitted.shape)
    reached = []
    for _ in range(200):
        theta += exact.policy_gradient(SIX_STEPS, theta, STEPS)
        reached.append(exact.success(SIX_STEPS, exact.softmax(SIX_STEPS, theta), STEPS))
    assert reached == sorted(reached)
    assert exact.success(SIX_STEPS, exact.uniform(SIX_STEPS), STEPS) == pytest.approx(25 / 1440) and reached[-1] > 0.98


# --- optimal values --------------------------------------------------------------------------------


def breadth_first(world: Grid) -> dict[tuple[int, int], int]:
    """Moves to the goal, counted on the picture."""
    goal = next((r, row.index("G")) for r, row in enumerate(world.picture) if "G" in row)
    found, waiting = {goal: 0}, deque([goal])
    while waiting:
        r, c = waiting.popleft()
        for cell in ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)):
            inside = 0 <= cell[0] < len(world.picture) and 0 <= cell[1] < len(world.picture[0])
            if inside and cell not in found and world.picture[cell[0]][cell[1]] != "#":
                found[cell] = found[r, c] + 1
                waiting.append(cell)
    return found


def test_the_classroom_rule_is_minus_the_distance() -> None:
    """Best neighbour minus 1: value iteration with step reward -1 and gamma 1."""
    values = exact.value_iteration(CLASSROOM)
    distance = breadth_first(CLASSROOM)
    assert values.tolist() == [-distance[cell] for cell in CLASSROOM.cells]
    assert CLASSROOM.distances(CLASSROOM.goal).tolist() == [distance[cell] for cell in CLASSROOM.cells]
    for s in np.flatnonzero(~CLASSROOM.terminal):
        near = CLASSROOM.neighbours[s][CLASSROOM.permitted[s]]
        assert values[s] == values[near].max() - 1


def test_the_greedy_policy_takes_a_shortest_path() -> None:
    policy = exact.greedy(CLASSROOM, exact.value_iteration(CLASSROOM))
    distance = breadth_first(CLASSROOM)
    for state, cell in enumerate(CLASSROOM.cells):
        here, taken = state, 0
        while here != CLASSROOM.goal:
            here, taken = int(CLASSROOM.neighbours[here, policy[here].argmax()]), taken + 1
        assert taken == distance[cell]


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("gamma", [0.5, 0.9])
def test_value_and_policy_iteration_agree(world: Grid, gamma: float) -> None:
    by_policy = exact.policy_iteration(world, gamma)
    values = exact.value_iteration(world, gamma)
    np.testing.assert_allclose(by_policy.values, values, atol=1e-8)
    np.testing.assert_allclose(exact.evaluate(world, exact.greedy(world, values, gamma), gamma), values, atol=1e-8)
    assert by_policy.sweeps <= len(world.cells)
    np.testing.assert_array_equal(by_policy.policy.sum(1), 1)


def test_without_discount_they_agree_where_steps_cost() -> None:
    by_policy = exact.policy_iteration(CLASSROOM)
    np.testing.assert_allclose(by_policy.values, exact.value_iteration(CLASSROOM), atol=1e-8)


@pytest.mark.parametrize("world", WORLDS)
def test_each_policy_of_policy_iteration_is_better(world: Grid) -> None:
    gamma, policy = 0.9, exact.uniform(world)
    values = exact.evaluate(world, policy, gamma)
    for _ in range(exact.policy_iteration(world, gamma).sweeps):
        policy = exact.greedy(world, values, gamma)
        before, values = values, exact.evaluate(world, policy, gamma)
        assert (values >= before - 1e-12).all()


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("gamma", [0.5, 0.9, 1.0])
def test_a_backup_contracts(world: Grid, gamma: float) -> None:
    best = exact.value_iteration(world, gamma)
    values = 10 * uniforms(derive("anywhere"), len(world.cells))
    for _ in range(20):
        nearer = exact.backup(world, values, gamma)
        assert np.abs(nearer - best).max() <= gamma * np.abs(values - best).max() + 1e-12
        values = nearer


@pytest.mark.parametrize("world", WORLDS)
def test_values_of_a_policy_satisfy_their_equation(world: Grid) -> None:
    policy = exact.softmax(world, logits(world, "policy"))
    values = exact.evaluate(world, policy, 0.9)
    q = world.rewards + 0.9 * world.transitions @ values
    np.testing.assert_allclose((policy * q).sum(1), values, atol=1e-12)


def test_a_long_horizon_is_the_infinite_one() -> None:
    world = open_grid(3, step_reward=-1.0)
    policy = exact.uniform(world)
    np.testing.assert_allclose(exact.horizon_values(world, policy, 2000)[-1], exact.evaluate(world, policy), atol=1e-8)


def test_policies_are_distributions_over_permitted_moves() -> None:
    world = walled_grid(5, derive("walls"))
    values = exact.value_iteration(world, 0.9)
    for policy in (
        exact.uniform(world),
        exact.greedy(world, values, 0.9),
        exact.softmax(world, logits(world, "a", 50)),
    ):
        np.testing.assert_allclose(policy.sum(1), 1)
        assert policy.shape == (len(world.cells), len(MOVES)) and not policy[~world.permitted].any()
