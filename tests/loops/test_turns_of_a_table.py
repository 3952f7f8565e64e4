"""A lookup table in a maze: episodes are one row, bitwise repeatable, and their gradient is the exact one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from burnish.core.algorithms import REINFORCE
from burnish.data.batching import collate
from burnish.engines.decode import LocalSampler
from burnish.engines.local import LocalModel
from burnish.engines.table import policy_of
from burnish.errors import InputError
from burnish.loops.evaluate import run_items, summarise
from burnish.tabular import exact
from burnish.tabular.worlds import SIX_STEPS, Grid
from burnish.tasks.maze import MazeTask
from burnish.types import Completion, Request, Sampling
from turns import ONE, Scripted, draw, table

FORK = Grid(("S.1", "..#", "G.."), goal_reward=2.0, step_reward=-0.1)
"""Small enough to enumerate, with a decoy, walls and episodes of different lengths."""


def set_policy(model: LocalModel, theta: np.ndarray, world: Grid) -> None:
    with torch.no_grad():
        view, allowed = policy_of(model.head_weight, world), torch.from_numpy(world.permitted)
        view[allowed] = torch.from_numpy(theta)[allowed].to(view.dtype)


def logits_of(world: Grid, seed: int = 5) -> np.ndarray:
    return np.random.Generator(np.random.Philox(seed)).normal(size=world.permitted.shape)


def test_a_table_writes_one_row_of_moves_and_cells(tmp_path: Path) -> None:
    model = table(tmp_path)
    moves = SIX_STEPS.permitted.shape[1]
    rollouts = [r for g in draw(model, range(30), size=4) for r in g.rollouts]
    assert len(rollouts) == 120, "no template is in the way: every episode is one row"
    for row in rollouts:
        assert row.prompt == (moves + SIX_STEPS.start,) and row.turn == 0 and row.version == 2
        cell, paid = SIX_STEPS.start, 0.0
        for place, (token, own) in enumerate(zip(row.tokens, row.mask, strict=True)):
            assert own == (place % 2 == 0) == (token < moves)
            if own:
                after = int(SIX_STEPS.neighbours[cell, token])
                assert SIX_STEPS.permitted[cell, token]
                assert (place, SIX_STEPS.pays(cell, after)) in [(p.position, p.value) for p in row.rewards]
                paid, cell = paid + SIX_STEPS.pays(cell, after), after
            else:
                assert token == moves + cell and row.sampler_logprobs[place] == 0 and row.kept[place] == 1
        assert row.mask[-1], "nothing is read after the last move"
        assert row.reward == paid and len(row.rewards) == sum(row.mask) <= 6
        assert row.finish == ("eos" if SIX_STEPS.terminal[cell] else "length")
    assert {sum(r.mask) for r in rollouts} == {6} and {r.finish for r in rollouts} == {"eos", "length"}


def test_rows_lie_by_group_and_episode(tmp_path: Path) -> None:
    groups = draw(table(tmp_path), range(5, 8), size=3)
    assert [g.draw for g in groups] == [5, 6, 7]
    assert [[(r.group, r.episode) for r in g.rollouts] for g in groups] == [
        [(d, 3 * d), (d, 3 * d + 1), (d, 3 * d + 2)] for d in (5, 6, 7)
    ]
    assert groups[0].texts[0][0] in "→↓" and groups[0].texts[0][1:6] in ("(0,1)", "(1,0)")


class Backwards(LocalSampler):
    def sample(self, requests: Iterable[Request]) -> Iterator[Completion]:
        yield from reversed(list(super().sample(requests)))


def test_the_same_draws_are_bitwise_the_same_episodes(tmp_path: Path) -> None:
    model = table(tmp_path)
    slippery = MazeTask(replace(SIX_STEPS, slip=0.3), cap=12)
    together = draw(model, range(6), slippery)
    assert draw(model, range(6), slippery) == together
    assert draw(model, range(6), slippery, Backwards(model)) == together
    assert [g for d in range(6) for g in draw(model, range(d, d + 1), slippery)] == together
    assert draw(model, range(6), slippery, seed=8) != together
    rows = [r.tokens for g in together for r in g.rollouts]
    assert len(set(rows)) == len(rows), "every episode has randomness of its own"
    set_policy(model, 100 * logits_of(SIX_STEPS), SIX_STEPS)
    rows = [r.tokens for g in draw(model, range(6), slippery) for r in g.rollouts]
    assert len(set(rows)) > 9, "so has its environment: the policy is all but certain now"


def test_sampler_and_trainer_agree_on_what_was_sampled(tmp_path: Path) -> None:
    model = table(tmp_path)
    set_policy(model, logits_of(SIX_STEPS), SIX_STEPS)
    batch = collate([r for g in draw(model, range(10)) for r in g.rollouts])
    assert batch.sampler_logprobs is not None
    found = model.forward(batch).logprobs * batch.mask
    torch.testing.assert_close(found, batch.sampler_logprobs, rtol=0, atol=1e-12)


def test_drawn_one_token_too_far_a_table_still_plays_row_by_row(tmp_path: Path) -> None:
    """Its end of text is not printed by the template, so each turn is a new row, and the moves are the same."""
    model = table(tmp_path)
    one = [r for g in draw(model, range(4)) for r in g.rollouts]
    many = [r for g in draw(model, range(4), sampling=Sampling(max_tokens=9)) for r in g.rollouts]
    assert len(many) == 6 * len(one)
    moves = {e: [r.tokens[0] for r in many if r.episode == e] for e in {r.episode for r in many}}
    assert moves == {r.episode: [t for t, own in zip(r.tokens, r.mask, strict=True) if own] for r in one}


@pytest.mark.parametrize("task", [MazeTask(FORK, cap=4), MazeTask(SIX_STEPS, cap=7)], ids=["fork", "six-steps"])
def test_expected_reinforce_is_the_exact_policy_gradient(task: MazeTask, tmp_path: Path) -> None:
    """Every episode there is, played through the environment and weighed with its probability."""
    grid, cap = task.grid, task.cap
    model = table(tmp_path, grid)
    theta = logits_of(grid)
    set_policy(model, theta, grid)
    every = list(exact.paths(grid, exact.softmax(grid, theta), cap))
    assert sum(p for p, _ in every) == pytest.approx(1, abs=1e-12) and len({len(path.moves) for _, path in every}) > 1
    scripted = Scripted(model.chat, [[(move,) for move in path.moves] for _, path in every])
    rows = [r for g in draw(model, range(len(every)), task, scripted, size=1) for r in g.rollouts]
    assert [r.reward for r in rows] == pytest.approx([sum(path.rewards) for _, path in every], abs=1e-12)

    for baseline in (0.0, 0.7):
        batch = REINFORCE.credit(collate(rows, max_tokens=1), {"sum": baseline, "weight": 1.0})
        batch = REINFORCE.loss.prepare(batch)
        chance = torch.tensor([p for p, _ in every], dtype=torch.float64)[:, None] * len(rows)
        weights = {name: w * chance for name, w in batch.weights.items()}
        model.forward_backward(replace(batch, weights=weights), REINFORCE.loss)
        gradient = model.head_weight.grad
        assert gradient is not None
        found = -policy_of(gradient, grid).numpy()
        wanted = exact.policy_gradient(grid, theta, cap)
        assert np.abs(found - wanted).max() < 1e-10 and np.abs(wanted).max() > 1e-2
        rest = gradient.clone()
        policy_of(rest, grid)[:] = 0
        assert not bool(rest.any()), "nothing else of the table has a gradient"
        model.discard_gradient()


def test_sampled_episodes_have_the_exact_expectation(tmp_path: Path) -> None:
    grid = replace(FORK, slip=0.2)
    model = table(tmp_path, grid)
    theta = logits_of(grid)
    set_policy(model, theta, grid)
    groups = draw(model, range(500), MazeTask(grid, cap=5), size=4)
    rewards = np.array([r.reward for g in groups for r in g.rollouts])
    error = rewards.std() / len(rewards) ** 0.5
    assert abs(rewards.mean() - exact.objective(grid, theta, 5)) < 4 * error < 0.15


def test_success_is_measured_on_episodes(tmp_path: Path) -> None:
    model = table(tmp_path)
    theta = logits_of(SIX_STEPS) / 2 + np.array([-1, 1, 1, -1])
    set_policy(model, theta, SIX_STEPS)
    sampler, task = LocalSampler(model), MazeTask()

    def measured() -> list[Any]:
        return run_items(sampler, model.chat, task, n=100, samples=4, sampling=ONE, key=5)

    items = measured()
    assert items == measured()
    found = summarise(items)
    p = exact.success(SIX_STEPS, exact.softmax(SIX_STEPS, theta), 6)
    assert 0.2 < p < 0.8
    assert abs(found["success"]["mean"] - p) < 4 * (p * (1 - p) / 400) ** 0.5
    assert found["n"] == 100 and found["length/mean"] == 6
    assert found["length/truncated_frac"] == pytest.approx(1 - found["success"]["mean"])
    assert len({reply.text for reply in items[0].replies}) > 1, "samples of one item differ"
    assert items[0].prompt == "(0,0)" and items[0].replies[0].text.count("(") == 6
    with pytest.raises(InputError, match="has 3 items, fewer than the 4"):
        run_items(sampler, model.chat, MazeTask(size=3), n=4, samples=1, sampling=ONE, key=5)
