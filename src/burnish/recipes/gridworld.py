"""A larger grid: exact values beside the value network that learns them, with actor and critic as networks (arXiv:1602.01783).

    random grid -> policy network + value network, trained together -> exact V, network's V, difference, as they change
    grids of growing size -> the same samples into a table and into a network -> time and error

The networks see a cell as its coordinates. Walkers start anywhere; every few moves the critic takes a step towards its
n-step targets and the actor a step along the n-step advantage. The exact V is that of the present policy, by a linear
solve, so the difference is the critic's error and nothing else. Values are shown in hundredths.

The table of sizes asks why networks replace tables: the value of one policy (the best one, with random moves among its
own) is learnt from the same number of moves at each size. A table learns a cell only by visiting it; a network also guesses
the cells between those it has seen. Where every cell is seen often, the table is better, and far cheaper.

What a scale means here. No paper trains on these grids; a scale is how large they are and how long it takes:

- ``tiny`` is for the tests: seconds.
- ``laptop`` is for looking at: half a minute on one CPU core.
- ``paper`` has ten times the moves: minutes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table
from torch import Tensor, nn

from burnish.core.keys import derive, uniforms
from burnish.loops.report import DryRunFinished
from burnish.recipes.maze import above
from burnish.run import Run, Stage
from burnish.tabular import draw, exact
from burnish.tabular.worlds import MOVES, Floats, Grid, walled_grid

FREQUENCIES = 4
"""A cell is seen as sines and cosines of this many multiples of its coordinates, and as the coordinates themselves."""


@dataclass(frozen=True)
class Training:
    """``updates`` of both networks, each from ``walkers`` x ``moves`` moves. ``table`` is the rate of a lookup table."""

    updates: int = 300
    walkers: int = 64
    moves: int = 8
    hidden: int = 64
    actor: float = 3e-3
    critic: float = 3e-3
    table: float = 0.3
    entropy: float = 0.01
    gamma: float = 0.95


@dataclass(frozen=True)
class Gridworld:
    """``size`` of the grid that is shown, in ``frames`` pictures; ``sizes`` of those in the table, with their own training."""

    size: int = 8
    frames: int = 5
    sizes: tuple[int, ...] = (4, 12, 24)
    density: float = 0.2
    train: Training = Training()
    predict: Training = Training(updates=800, walkers=2, moves=16, gamma=0.98)


def main(run: Run, s: Gridworld) -> dict[str, Any]:
    shown: dict[str, Any] = run.stage(networks, "1-networks", s)
    rows: list[dict[str, Any]] = [
        run.stage(compare, f"2-size-{size}", size, density=s.density, cfg=s.predict) for size in s.sizes
    ]
    run.view.say(_table(rows))
    run.summary({"1-networks": {f"{name}_error": shown["errors"][-1][name] for name in ("critic", "policy")}})
    return {"networks": shown, "sizes": rows}


# --- walkers -----------------------------------------------------------------------------------------


class Moves(NamedTuple):
    """What W walkers did in T moves: ``states``, ``moves``, ``rewards`` and the states ``after``, each [T, W]."""

    states: NDArray[np.int64]
    moves: NDArray[np.int64]
    rewards: Floats
    after: NDArray[np.int64]


def walk(world: Grid, policy: Floats, starts: NDArray[np.int64], moves: int, key: int) -> Moves:
    """Let walkers move together in a world without slips; one that reached an end goes on from a random cell."""
    luck = uniforms(key, 2 * moves * len(starts)).reshape(moves, 2, len(starts))
    live, here = np.flatnonzero(~world.terminal), starts
    below = policy.cumsum(1)
    below /= below[:, -1:]
    taken: list[tuple[Any, ...]] = []
    for chance, again in luck:
        here = np.where(world.terminal[here], live[(again * len(live)).astype(np.int64)], here)
        move = (below[here] <= chance[:, None]).sum(1)
        after = world.neighbours[here, move]
        taken.append((here, move, world.step_reward + world.bonus[after], after))
        here = after
    return Moves(*(np.stack(column) for column in zip(*taken, strict=True)))


def targets(world: Grid, seen: Moves, values: Floats, gamma: float) -> Floats:
    """[T, W] ``G_t = r_t + gamma G_{t+1}``, and ``V`` of the last state where the walk was cut; 0 beyond an end."""
    future, found = values[seen.after[-1]], np.zeros_like(seen.rewards)
    for t in reversed(range(len(found))):
        future = found[t] = seen.rewards[t] + gamma * np.where(world.terminal[seen.after[t]], 0.0, future)
    return found


# --- networks ----------------------------------------------------------------------------------------


def features(world: Grid) -> Tensor:
    """[S, 2 + 4 FREQUENCIES] what the networks see of each cell."""
    place = torch.tensor(world.cells, dtype=torch.float32) / (len(world.picture) - 1)
    waves = [f(torch.pi * k * place) for k in range(1, FREQUENCIES + 1) for f in (torch.sin, torch.cos)]
    return torch.cat([place, *waves], 1)


def mlp(sizes: tuple[int, ...], key: int) -> nn.Sequential:
    """Linear layers with tanh between them; weights uniform in +-1/sqrt(inputs) from ``key``, biases 0."""
    layers: list[nn.Module] = []
    for depth, (inputs, outputs) in enumerate(pairwise(sizes)):
        layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
        weights = (2 * uniforms(derive(key, depth), inputs * outputs) - 1) / inputs**0.5
        layer.weight.data = torch.tensor(weights.reshape(outputs, inputs), dtype=torch.float32)
        layer.bias.data.zero_()
        layers += [layer, nn.Tanh()]
    return nn.Sequential(*layers[:-1])


class Pair:
    """A policy network and a value network for one world, each with its Adam."""

    def __init__(self, world: Grid, cfg: Training, key: int) -> None:
        self.seen, self.permitted = features(world), torch.from_numpy(world.permitted)
        self.live = torch.from_numpy(~world.terminal)
        hidden = (self.seen.shape[1], cfg.hidden, cfg.hidden)
        self.actor, self.critic = (
            mlp((*hidden, len(MOVES)), derive(key, "actor")),
            mlp((*hidden, 1), derive(key, "critic")),
        )
        self.steps = (
            torch.optim.Adam(self.actor.parameters(), cfg.actor),
            torch.optim.Adam(self.critic.parameters(), cfg.critic),
        )

    def logprobs(self) -> Tensor:
        """[S, A]"""
        masked: Tensor = self.actor(self.seen).masked_fill(~self.permitted, -torch.inf)
        return masked.log_softmax(1)

    def policy(self) -> Floats:
        return np.asarray(self.logprobs().detach().double().softmax(1).numpy())

    def predict(self) -> Tensor:
        """[S] the critic's values; 0 in absorbing cells."""
        found: Tensor = self.critic(self.seen)[:, 0] * self.live
        return found

    def values(self) -> Floats:
        return np.asarray(self.predict().detach().double().numpy())

    def learn_values(self, states: Tensor, wanted: Tensor) -> None:
        """One step down the mean of ``(V(s) - G)^2 / 2``."""
        _descend(self.steps[1], (self.predict()[states] - wanted).square().mean() / 2)

    def learn_policy(self, states: Tensor, moves: Tensor, better: Tensor, entropy: float) -> None:
        """One step down the mean of ``-A log pi(a|s) - alpha H(pi(.|s))``."""
        rows = self.logprobs()[states]
        spread = -(rows.exp() * rows.masked_fill(rows.isinf(), 0.0)).sum(1)
        chosen = rows.gather(1, moves[:, None])[:, 0]
        _descend(self.steps[0], -(better * chosen).mean() - entropy * spread.mean())


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def _flat(array: Any) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array).reshape(-1))


# --- both networks, watched ----------------------------------------------------------------------------


def networks(stage: Stage, s: Gridworld) -> dict[str, Any]:
    """Train actor and critic together; the result holds the last picture's numbers and how the errors fell."""
    stage.restore({})
    cfg = s.train
    world = walled_grid(s.size, derive(stage.seed, "walls"), s.density)
    pair, best = Pair(world, cfg, stage.seed), exact.value_iteration(world, cfg.gamma)
    here, every, history, height = np.full(cfg.walkers, world.start), max(1, cfg.updates // s.frames), [], 0
    for update in range(cfg.updates + 1):
        policy, values = pair.policy(), pair.values()
        if update % every == 0 or update == cfg.updates:
            true = exact.evaluate(world, policy, cfg.gamma)
            history.append(
                {"update": update, "critic": _error(world, values, true), "policy": _error(world, true, best)}
            )
            shown = _frame(world, policy, true, values)
            stage.view.say(above(height))
            stage.log(update, {"loss": history[-1]["critic"] ** 2 / 2})
            stage.view.say(shown)
            height = shown.count("\n") + 2  # the frame and the line that the log shows
        if stage.dry_run:
            raise DryRunFinished
        here = _train(world, pair, cfg, here, derive(stage.seed, "walk", update))
    return {"picture": list(world.picture), "exact": true.tolist(), "network": values.tolist(), "errors": history}


def _train(world: Grid, pair: Pair, cfg: Training, here: NDArray[np.int64], key: int) -> NDArray[np.int64]:
    """One step of both networks from moves by the present policy; returns where the walkers are now."""
    values = pair.values()
    seen = walk(world, pair.policy(), here, cfg.moves, key)
    wanted = targets(world, seen, values, cfg.gamma)
    states, better = _flat(seen.states), _flat(wanted - values[seen.states])
    pair.learn_policy(states, _flat(seen.moves), better.float(), cfg.entropy)
    pair.learn_values(states, _flat(wanted).float())
    return np.asarray(seen.after[-1])


def _error(world: Grid, values: Floats, true: Floats) -> float:
    """The root mean square over cells that are not absorbing."""
    return float(np.sqrt(np.mean((values - true)[~world.terminal] ** 2)))


def _frame(world: Grid, policy: Floats, true: Floats, values: Floats) -> str:
    panels = {
        "policy": [f"  {arrow}" for arrow in draw.arrows(policy)],
        "exact V": draw.hundredths(true),
        "network's V": draw.hundredths(values),
        "difference": draw.hundredths(values - true),
    }
    one, two, three, four = (f"{title}\n{draw.draw(world, texts)}" for title, texts in panels.items())
    return f"{draw.beside(one, three)}\n{draw.beside(two, four)}\n"


# --- tables and networks ---------------------------------------------------------------------------------


def compare(stage: Stage, size: int, *, density: float, cfg: Training) -> dict[str, Any]:
    """The value of one policy on one grid: exactly, by a table, by a network; the latter two from the same moves."""
    world = walled_grid(size, derive(stage.seed, "walls"), density)
    began = time.perf_counter()
    best = exact.policy_iteration(world, cfg.gamma).policy
    policy = 0.7 * best + 0.3 * exact.uniform(world)
    true = exact.evaluate(world, policy, cfg.gamma)
    solved = time.perf_counter() - began
    pair, table = Pair(world, cfg, stage.seed), np.zeros(len(world.cells))
    times, here = np.zeros(2), np.full(cfg.walkers, world.start)
    for update in range(cfg.updates):
        seen = walk(world, policy, here, cfg.moves, derive(stage.seed, "walk", update))
        here, began = seen.after[-1], time.perf_counter()
        _learn_table(table, seen.states, targets(world, seen, table, cfg.gamma), cfg.table)
        between = time.perf_counter()
        pair.learn_values(_flat(seen.states), _flat(targets(world, seen, pair.values(), cfg.gamma)).float())
        times += (between - began, time.perf_counter() - between)
    return {
        "size": size,
        "states": len(world.cells),
        "exact_numbers": world.transitions.size,
        "network_numbers": sum(p.numel() for p in pair.critic.parameters()),
        "table_error": _error(world, table, true),
        "network_error": _error(world, pair.values(), true),
        "perf/seconds": {"exact": solved, "table": times[0], "network": times[1]},
    }


def _learn_table(table: Floats, states: NDArray[np.int64], wanted: Floats, rate: float) -> None:
    """Move each visited cell by ``rate`` towards the mean of its targets, in place."""
    count = np.bincount(states.reshape(-1), minlength=len(table))
    total = np.bincount(states.reshape(-1), wanted.reshape(-1), minlength=len(table))
    table += rate * np.where(count > 0, total / np.maximum(count, 1) - table, 0.0)


def _table(rows: list[dict[str, Any]]) -> Table:
    shown = Table("size", "states", title="one policy's values: exact, in a table, in a network", title_justify="left")
    for name in ("numbers in P", "exact time", "error, table", "time", "error, network", "time", "its numbers"):
        shown.add_column(name, justify="right")
    for row in rows:
        times = [f"{1000 * row['perf/seconds'][name]:,.0f} ms" for name in ("exact", "table", "network")]
        errors = [f"{row[f'{name}_error']:.4f}" for name in ("table", "network")]
        shown.add_row(
            *(f"{row[name]:,.0f}" for name in ("size", "states", "exact_numbers")),
            times[0], errors[0], times[1], errors[1], times[2], f"{row['network_numbers']:,.0f}",
        )  # fmt: skip
    return shown


SCALES = {
    "tiny": Gridworld(),
    "laptop": Gridworld(size=10, frames=12, sizes=(4, 8, 16, 24, 32), train=Training(updates=2000)),
    "paper": Gridworld(
        size=12, frames=20, sizes=(4, 8, 16, 24, 32), train=Training(updates=20_000),
        predict=Training(updates=8000, walkers=2, moves=16, gamma=0.98),
    ),
}  # fmt: skip
