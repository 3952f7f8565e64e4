"""The six-step maze, from a uniform policy to certain success by its exact policy gradient (arXiv:1908.00261).

    uniform policy -> expectation of every cell -> gradient of J -> better policy -> ... -> success probability 1

No sample is drawn: ``dJ/dtheta[s,a] = sum over t of Pr(s_t = s) pi(a|s) A_t(s,a)`` is computed (:mod:`burnish.tabular.exact`)
and followed. Only the step into the goal is rewarded, and every cell learns its move. Each frame is one improvement: in a
cell stand what is still to be expected when it is reached as early as possible, and the likeliest move.

What a scale means here. No paper trains on this maze, and all of it is quick:

- ``tiny`` is the maze of six steps, in few large improvements.
- ``laptop`` is the same in small improvements, slow enough to be watched.
- ``paper`` is a larger maze with steps to spare, where a uniform policy succeeds once in 480 episodes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.control import Control
from rich.segment import ControlType

from burnish.core.keys import derive
from burnish.loops.report import DryRunFinished
from burnish.run import Run, Stage
from burnish.tabular import draw, exact
from burnish.tabular.worlds import SIX_STEPS, Floats, Grid, walled_grid


@dataclass(frozen=True)
class Maze:
    """``steps`` is the cap on moves, ``rate`` the factor of the gradient; each frame stays for ``pause`` seconds."""

    world: Grid = SIX_STEPS
    steps: int = 6
    improvements: int = 12
    rate: float = 3.0
    pause: float = 0.0


def main(run: Run, s: Maze) -> dict[str, Any]:
    result: dict[str, Any] = run.stage(improve, "1-exact-gradient", s)
    first, last = result["success"][0], result["success"][-1]
    run.view.say(f"success within {s.steps} moves: {first:.4f} -> {last:.4f} in {s.improvements} improvements")
    run.summary({"1-exact-gradient": {"success_before": first, "success_after": last}})
    return result


def improve(stage: Stage, s: Maze) -> dict[str, Any]:
    """Climb the exact gradient; the success probability before and after each improvement, and the last policy."""
    stage.restore({})
    logits = np.zeros(s.world.permitted.shape)
    reached: list[float] = []
    for step in range(s.improvements + 1):
        policy = exact.softmax(s.world, logits)
        reached.append(exact.success(s.world, policy, s.steps))
        shown = frame(s.world, policy, s.steps)
        if step:
            time.sleep(s.pause)
            stage.view.say(above(shown.count("\n") + 2))  # the frame and the line that the log shows
        stage.log(step, {"reward/mean": exact.objective(s.world, logits, s.steps)})
        stage.view.say(shown)
        if stage.dry_run:
            raise DryRunFinished
        logits += s.rate * exact.policy_gradient(s.world, logits, s.steps)
    return {"success": reached, "policy": policy.tolist(), "cells": [list(cell) for cell in s.world.cells]}


def frame(world: Grid, policy: Floats, steps: int) -> str:
    """The success probability, and in each cell ``V_k`` and the likeliest move; k are the steps left at the earliest."""
    values = exact.horizon_values(world, policy, steps)
    left = np.maximum(steps - world.distances(world.start), 0)
    expected = values[left, np.arange(len(world.cells))]
    texts = [f"{value:6.3f} {arrow}" for value, arrow in zip(expected, draw.arrows(policy), strict=True)]
    return f"success {exact.success(world, policy, steps):.4f}\n{draw.draw(world, texts)}\n"


def above(lines: int) -> Control:
    """Go back over ``lines`` printed lines and clear them. Outside a terminal rich leaves it out, and nothing happens."""
    return Control(*([(ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2)] * lines))


SCALES = {
    "tiny": Maze(),
    "laptop": Maze(improvements=60, rate=1.0, pause=0.1),
    "paper": Maze(
        walled_grid(6, derive("maze"), goal_reward=10.0), steps=14, improvements=40, rate=5.0, pause=0.1
    ),
}  # fmt: skip
