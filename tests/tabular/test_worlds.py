"""Worlds are what their pictures say."""

from __future__ import annotations

import numpy as np
import pytest

from burnish.core.keys import derive
from burnish.errors import InputError
from burnish.tabular.worlds import MOVES, SIX_STEPS, Grid, open_grid, walled_grid

UP, RIGHT, DOWN, LEFT = range(4)


def test_a_corridor_by_hand() -> None:
    world = Grid(("2S.G",), goal_reward=10.0, step_reward=-1.0)
    assert world.cells == ((0, 0), (0, 1), (0, 2), (0, 3))
    assert (world.start, world.goal) == (1, 3)
    assert world.terminal.tolist() == [True, False, False, True]
    assert world.permitted[1].tolist() == [False, True, False, True]
    assert world.rewards[1].tolist() == [0, -1, 0, 1] and world.rewards[2, RIGHT] == 9
    assert world.transitions[1, RIGHT].tolist() == [0, 0, 1, 0]
    assert not world.transitions[1, UP].any()


@pytest.mark.parametrize("slip", [0.0, 0.3])
def test_transitions_are_distributions_over_neighbours(slip: float) -> None:
    world = walled_grid(5, derive("walls"), slip=slip, step_reward=-1)
    total = world.transitions.sum(2)
    np.testing.assert_allclose(total, world.permitted, atol=1e-15)
    for s, cell in enumerate(world.cells):
        for after in np.flatnonzero(world.transitions[s].any(0)):
            assert sum(abs(x - y) for x, y in zip(cell, world.cells[after], strict=True)) <= 1


def test_the_goal_absorbs_and_pays_once() -> None:
    world = open_grid(3, step_reward=-1.0, slip=0.2)
    for move in range(len(MOVES)):
        assert world.transitions[world.goal, move, world.goal] == 1
    assert not world.rewards[world.goal].any()
    assert world.pays(world.goal, world.goal) == 0


def test_a_slip_goes_to_a_side_or_stays() -> None:
    world = open_grid(3, slip=0.2, goal_reward=10.0)
    corner = world.transitions[world.start]
    assert corner[RIGHT, world.index[0, 1]] == 0.8
    assert corner[RIGHT, world.index[1, 0]] == pytest.approx(0.1) and corner[RIGHT, world.start] == pytest.approx(0.1)
    beside = world.index[1, 2]
    assert world.rewards[beside, DOWN] == pytest.approx(8) and world.rewards[beside, LEFT] == pytest.approx(1)


def test_rewards_are_the_mean_of_what_moves_pay() -> None:
    world = Grid(("S.3", "..G"), goal_reward=5.0, step_reward=-0.5, slip=0.4)
    size = len(world.cells)
    paid = np.array([[world.pays(s, t) for t in range(size)] for s in range(size)])
    np.testing.assert_allclose(np.einsum("sat,st->sa", world.transitions, paid), world.rewards, atol=1e-15)


@pytest.mark.parametrize("size", [2, 6, 12])
def test_walled_grids_are_connected_and_repeat(size: int) -> None:
    world = walled_grid(size, derive("a"))
    assert world == walled_grid(size, derive("a"))
    assert (world.distances(world.goal) >= 0).all()
    walls = size * size - len(world.cells)
    assert 0 <= walls <= 0.25 * size * size + 1
    if size > 2:
        assert walls > 0 and world != walled_grid(size, derive("b"))
    assert len(open_grid(size).cells) == size * size


def test_the_goal_of_the_six_step_maze_is_six_moves_away() -> None:
    assert SIX_STEPS.distances(SIX_STEPS.goal)[SIX_STEPS.start] == 6
    assert SIX_STEPS.goal_reward == 10 and SIX_STEPS.step_reward == 0


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (("S.", "G"), "rectangle"),
        (("S.", ".."), "one G"),
        (("SS", ".G"), "one S"),
        (("Sx", ".G"), "has no"),
        (("S#", "#G"), "walls on all sides"),
    ],
)
def test_bad_pictures(picture: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Grid(picture)


def test_a_slip_is_a_probability() -> None:
    with pytest.raises(InputError, match="slip=2"):
        open_grid(2, slip=2)
