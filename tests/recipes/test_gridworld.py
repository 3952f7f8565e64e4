"""The gridworld recipe: its targets are exact in expectation, its networks learn, its pages are printed, done is done."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from burnish.core.keys import derive
from burnish.recipes.gridworld import SCALES, Moves, Pair, Training, features, main, mlp, targets, walk
from burnish.run import Run
from burnish.tabular import exact
from burnish.tabular.worlds import Grid, walled_grid
from burnish.view import View

WORLD = walled_grid(5, derive("walls"))
SHORT = replace(SCALES["tiny"], size=4, frames=2, sizes=(3, 4), train=Training(updates=4), predict=Training(updates=2))


def play(directory: Path, screen: Console, resume: bool = False) -> str:
    with Run.open(directory, recipe="gridworld", config=SHORT, view=View(screen), resume=resume) as run:
        main(run, SHORT)
    return screen.export_text()


def test_from_networks_to_the_table_of_sizes(tmp_path: Path) -> None:
    text = play(tmp_path / "r", Console(record=True, width=120, file=io.StringIO()))
    for words in ("exact V", "network's V", "difference", "error, table", "error, network", "5,441"):
        assert words in text
    assert text.count("policy ") == 3, "the start, the middle, the end"
    done = {path.parent.name: json.loads(path.read_text()) for path in (tmp_path / "r").glob("*/done.json")}
    assert sorted(done) == ["1-networks", "2-size-3", "2-size-4"]
    errors = done["1-networks"]["result"]["value"]["errors"]
    assert [row["update"] for row in errors] == [0, 2, 4]
    again = play(tmp_path / "r", Console(record=True, width=120, file=io.StringIO()), resume=True)
    assert "exact V" not in again and "error, table" in again


def test_runs_repeat(tmp_path: Path) -> None:
    results = []
    for name in "ab":
        with Run.open(tmp_path / name, config=SHORT, view=View(quiet=True)) as run:
            results.append(main(run, SHORT))
    first, second = (
        [result["networks"], *({k: v for k, v in row.items() if "perf/" not in k} for row in result["sizes"])]
        for result in results
    )
    assert first == second


def test_both_networks_learn(tmp_path: Path) -> None:
    settings = replace(SHORT, size=5, train=Training(updates=200))
    with Run.open(tmp_path / "r", config=settings, view=View(quiet=True)) as run:
        errors = main(run, settings)["networks"]["errors"]
    assert errors[-1]["critic"] < 0.05 < errors[0]["critic"]
    assert errors[-1]["policy"] < 0.02 < errors[0]["policy"]


def test_targets_by_hand() -> None:
    world = Grid(("S..G",))
    seen = Moves(
        states=np.array([[0, 2], [1, 1]]),
        moves=np.array([[1, 1], [1, 1]]),
        rewards=np.array([[0.5, 1.0], [0.0, 0.0]]),
        after=np.array([[1, 3], [2, 2]]),
    )
    values = np.array([9.0, 9.0, 4.0, 9.0])
    np.testing.assert_allclose(targets(world, seen, values, 0.5), [[0.5 + 0.25 * 4, 1.0], [2.0, 2.0]])


def test_walkers_follow_the_policy_and_the_walls() -> None:
    policy = exact.softmax(WORLD, np.arange(WORLD.permitted.size).reshape(WORLD.permitted.shape) % 3.0)
    seen = walk(WORLD, policy, np.full(200, WORLD.start), 100, derive("walk"))
    assert WORLD.permitted[seen.states, seen.moves].all() and not WORLD.terminal[seen.states].any()
    np.testing.assert_array_equal(seen.after, WORLD.neighbours[seen.states, seen.moves])
    assert ((seen.rewards == 1) == (seen.after == WORLD.goal)).all()
    going_on = ~WORLD.terminal[seen.after[:-1]]
    np.testing.assert_array_equal(seen.states[1:][going_on], seen.after[:-1][going_on])
    often = int(np.bincount(seen.states.reshape(-1)).argmax())
    share = np.bincount(seen.moves[seen.states == often], minlength=4) / (seen.states == often).sum()
    np.testing.assert_allclose(share, policy[often], atol=0.05)


def test_targets_of_exact_values_are_exact_in_the_mean() -> None:
    """A critic that is right stays right: the mean target of a cell is its value."""
    policy, gamma = exact.uniform(WORLD), 0.9
    values = exact.evaluate(WORLD, policy, gamma)
    seen = walk(WORLD, policy, np.full(500, WORLD.start), 60, derive("right"))
    error = targets(WORLD, seen, values, gamma) - values[seen.states]
    for state in np.flatnonzero(~WORLD.terminal):
        here = error[seen.states == state]
        assert abs(here.mean()) < 6 * here.std() / len(here) ** 0.5 + 1e-12


def test_a_cell_is_its_coordinates() -> None:
    seen = features(WORLD)
    assert seen.shape[0] == len(WORLD.cells) == len(torch.unique(seen, dim=0))


def test_networks_come_from_their_key() -> None:
    one, same, other = mlp((3, 5, 2), 1), mlp((3, 5, 2), 1), mlp((3, 5, 2), 2)
    assert torch.equal(one[0].weight, same[0].weight) and not torch.equal(one[0].weight, other[0].weight)
    assert len(one) == 3


def test_an_absorbing_cell_has_no_value_and_absent_moves_no_probability() -> None:
    pair = Pair(WORLD, Training(), 0)
    assert pair.values()[WORLD.goal] == 0
    assert not pair.policy()[~WORLD.permitted].any()
    np.testing.assert_allclose(pair.policy().sum(1), 1, atol=1e-12)


@pytest.mark.parametrize("better", [1.0, -1.0])
def test_the_policy_moves_with_the_advantage(better: float) -> None:
    pair = Pair(WORLD, Training(), 0)
    state = int(WORLD.permitted.sum(1).argmax())
    move = int(np.flatnonzero(WORLD.permitted[state])[0])
    before = pair.policy()[state, move]
    pair.learn_policy(torch.tensor([state]), torch.tensor([move]), torch.tensor([better]), 0.0)
    assert (pair.policy()[state, move] - before) * better > 0
