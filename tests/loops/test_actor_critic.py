"""Policy and critic in the maze: with a lookup table the critic is a table of values, to be held against exact ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from burnish.core.aggregate import seq_mean_token_sum
from burnish.core.algorithms import A2C, PPO, Algorithm
from burnish.core.returns import GAE
from burnish.data.batching import collate
from burnish.engines.decode import LocalSampler
from burnish.engines.local import HEADS, Engine, LocalModel
from burnish.engines.optim import AdamW, Schedule
from burnish.engines.table import build_table, policy_of
from burnish.loops.rl import RLConfig, annotate, rl
from burnish.loops.rollouts import draw_groups
from burnish.loops.update import CriticConfig, Models
from burnish.run import Run
from burnish.tabular import exact
from burnish.tabular.worlds import SIX_STEPS, Floats, Grid
from burnish.tabular.worlds import Path as Way
from burnish.tasks.maze import MazeTask
from burnish.types import Batch, Head, RewardPart, Rollout, Sampling
from burnish.view import View

ONE = Sampling(max_tokens=1)
EXACT = Engine(dtype="float64", device="cpu")
ENGINE = Engine(dtype="float32", device="cpu", optimizer=AdamW(betas=(0.9, 0.99)))
FORK = Grid(("S.1", "..#", "G.."), goal_reward=2.0, step_reward=-0.1)
"""Small enough to enumerate, with a decoy, walls and episodes of different lengths."""

SLOW = Schedule(0.4, shape="cosine", final=0.02)
CONFIG = RLConfig(
    steps=40, prompts=1, group=64, sampling=ONE, schedule=Schedule(0.3), engine=ENGINE, critic=CriticConfig(SLOW)
)


def values_of(directory: Path, world: Grid) -> Floats:
    """[S] the value head's table: what it says after each cell."""
    head, moves = load_file(directory / HEADS), world.permitted.shape[1]
    table = head["value.weight"][0, moves : moves + len(world.cells)] + head["value.bias"]
    return np.asarray(table.double().numpy())


def policy_in(directory: Path, world: Grid) -> Floats:
    logits = policy_of(LocalModel(directory, EXACT).head_weight.detach(), world)
    return exact.softmax(world, logits.numpy())


def expected(world: Grid, policy: Floats, cap: int) -> tuple[Floats, Floats]:
    """[S] what is to be expected in a cell, averaged over the times at which the policy is there, and how often it is.

    The cap makes the exact value depend on the time, and the table knows cells only: this is what it can learn at best.
    """
    there = exact.occupancy(world, policy, cap - 1) * ~world.terminal
    left = exact.horizon_values(world, policy, cap)[:0:-1]
    often = there.sum(0)
    return (there * left).sum(0) / np.maximum(often, 1e-300), often


def trained(out: Path, world: Grid, task: MazeTask, algo: Algorithm, cfg: RLConfig) -> tuple[Floats, Floats]:
    """(the policy, the critic's values) after training a uniform table."""
    build_table(out / "table", world)
    with Run.open(out / "run", recipe="t", scale="tiny", config=cfg, seed=0, view=View(quiet=True)) as run:
        model = Path(run.stage(rl, "rl", out / "table", task, algo=algo, cfg=cfg))
    return policy_in(model, world), values_of(model if cfg.critic.shared else model.with_name("critic"), world)


@pytest.mark.parametrize(
    ("algo", "shared"), [(PPO, False), (PPO, True), (A2C, False)], ids=["ppo", "ppo-shared", "a2c"]
)
def test_six_steps(algo: Algorithm, shared: bool, tmp_path: Path) -> None:
    """The way is found, and along it the critic is within a tenth of the goal's 10 of what is exactly to be expected."""
    cfg = replace(CONFIG, critic=replace(CONFIG.critic, shared=shared))
    policy, values = trained(tmp_path, SIX_STEPS, MazeTask(), algo, cfg)
    assert exact.success(SIX_STEPS, exact.uniform(SIX_STEPS), 6) < 0.018
    assert exact.success(SIX_STEPS, policy, 6) > 0.98
    wanted, often = expected(SIX_STEPS, policy, 6)
    visited = often > 0.05
    assert visited.sum() >= 6 and np.abs(values - wanted)[visited].max() < 1.0


def test_a_critic_learns_the_values_of_a_policy_that_stands_still(tmp_path: Path) -> None:
    """While the critic learns alone the policy is the uniform one, whose values differ from cell to cell."""
    critic = CriticConfig(Schedule(0.1, shape="cosine", final=0.01), pretrain=40)
    cfg = replace(CONFIG, steps=1, group=128, schedule=Schedule(0.0), critic=critic)
    algo = replace(PPO, advantage=GAE(1.0, 1.0), reward_kl=None)
    policy, values = trained(tmp_path, FORK, MazeTask(FORK, cap=4), algo, cfg)
    assert np.abs(policy - exact.uniform(FORK)).max() < 1e-6
    wanted, often = expected(FORK, policy, 4)
    visited = often > 0.05
    assert visited.sum() >= 4 and np.ptp(wanted[visited]) > 0.3
    assert np.abs(values - wanted)[visited].max() < 0.1


# --- what an episode's values and advantages are -----------------------------------------------------


def with_values(tmp_path: Path, world: Grid, seed: int = 3) -> LocalModel:
    """A table with a random policy among permitted moves and a random table of values on its trunk."""
    build_table(tmp_path / "table", world)
    model = LocalModel(tmp_path / "table", EXACT, heads={"value": Head()})
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        allowed, view = torch.from_numpy(world.permitted), policy_of(model.head_weight, world)
        view[allowed] = torch.randn(int(allowed.sum()), generator=generator, dtype=torch.float64)
        model.heads["value"].weight.normal_(0, 1.0, generator=generator)
        model.heads["value"].bias.fill_(0.3)
    return model


def annotated(model: LocalModel, rollouts: list[Rollout], algo: Algorithm) -> Batch:
    batch = collate(rollouts, max_tokens=1)
    return algo.credit(annotate(batch, algo, Models(model, model), CONFIG), algo.init())


def table_values(model: LocalModel, world: Grid) -> list[float]:
    moves, head = world.permitted.shape[1], model.heads["value"]
    return [float((head.weight[0, moves + state] + head.bias).detach()) for state in range(len(world.cells))]


def test_advantages_of_an_episode_pass_over_what_the_world_says(tmp_path: Path) -> None:
    """``delta = r + V(next cell) - V(cell)`` from move to move, whatever the critic thinks of the moves' own tokens."""
    model, task = with_values(tmp_path, FORK), MazeTask(FORK, cap=4)
    algo = replace(PPO, reward_kl=None)
    groups = draw_groups(
        LocalSampler(model), model.chat, task, task.reward, draws=range(8), size=4, sampling=ONE, seed=1, version=0
    )
    rollouts = [r for group in groups for r in group.rollouts]
    batch, known = annotated(model, rollouts, algo), table_values(model, FORK)
    assert batch.advantages is not None and batch.returns is not None and batch.values is not None
    moves = FORK.permitted.shape[1]
    assert len({len(r.tokens) for r in rollouts}) > 1
    for row, rollout in enumerate(rollouts):
        tokens = (*rollout.prompt, *rollout.tokens)
        places = [t for t, own in enumerate(rollout.mask) if own]
        values = [known[tokens[len(rollout.prompt) + t - 1] - moves] for t in places]
        assert batch.values[row, places].tolist() == pytest.approx(values, abs=1e-12)
        paid = dict.fromkeys(places, 0.0)
        for position, value, _ in rollout.rewards:
            paid[position] += value
        later, advantages = 0.0, []
        for t, value, after in reversed(list(zip(places, values, [*values[1:], 0.0], strict=True))):
            later = paid[t] + after - value + 0.95 * later
            advantages.insert(0, later)
        assert batch.advantages[row, places].tolist() == pytest.approx(advantages, abs=1e-12)
        wanted = [a + v for a, v in zip(advantages, values, strict=True)]
        assert batch.returns[row, places].tolist() == pytest.approx(wanted, abs=1e-12)
        rest = [t for t in range(batch.tokens.shape[1]) if t not in places]
        assert not batch.advantages[row, rest].any()


def episode_of(path: Way, moves: int, number: int) -> Rollout:
    """A path as the row that is written when it is walked: a move, where it led to, a move, ..., the last move."""
    tokens = [path.moves[0]]
    for state, move in zip(path.states[1:], path.moves[1:], strict=False):
        tokens += [moves + state, move]
    mask = tuple(t % 2 == 0 for t in range(len(tokens)))
    rewards = tuple(RewardPart(2 * t, value, "paid") for t, value in enumerate(path.rewards))
    return Rollout((moves + path.states[0],), tuple(tokens), mask, (0.0,) * len(tokens), rewards, 0, number, 0, 0)


@pytest.mark.parametrize(("lam", "unbiased"), [(1.0, True), (0.5, False)], ids=["lambda-1", "lambda-half"])
def test_the_expected_gradient_with_a_wrong_critic(lam: float, unbiased: bool, tmp_path: Path) -> None:
    """Every episode there is, weighed with its probability: with lambda 1 any table of values leaves the exact gradient."""
    model, moves = with_values(tmp_path, FORK), FORK.permitted.shape[1]
    theta = policy_of(model.head_weight.detach(), FORK).numpy().copy()
    every = list(exact.paths(FORK, exact.softmax(FORK, theta), 4))
    algo = replace(A2C, advantage=GAE(1.0, lam), aggregate=seq_mean_token_sum, entropy=0.0)
    batch = algo.loss.prepare(annotated(model, [episode_of(path, moves, i) for i, (_, path) in enumerate(every)], algo))
    chance = torch.tensor([p for p, _ in every], dtype=torch.float64)[:, None] * len(every)
    weights = {name: w * chance for name, w in batch.weights.items()}
    model.forward_backward(replace(batch, weights=weights), algo.loss)
    gradient = model.head_weight.grad
    assert gradient is not None
    error = np.abs(-policy_of(gradient, FORK).numpy() - exact.policy_gradient(FORK, theta, 4)).max()
    assert error < 1e-10 if unbiased else error > 1e-2
