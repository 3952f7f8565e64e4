"""A gridworld as a conversation: the world says where we are, the policy answers with a move, until the goal or the cap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from burnish.core.keys import derive, uniforms
from burnish.errors import InputError
from burnish.tabular.worlds import ARROWS, MOVES, SIX_STEPS, Grid
from burnish.tasks import checks
from burnish.types import Completion, Example, Message, Reward, RewardPart

STYLES: dict[str, Sequence[str]] = {"table": ARROWS, "text": MOVES}
"""``{style: the names of the four moves}``."""


@dataclass(frozen=True)
class MazeTask:
    """From the start of ``grid`` to its goal in at most ``cap`` moves, one move a turn.

    Every move is paid as the grid says: "arrival" for the cell it enters, "step" for the step reward if there is one. What
    is no move, or none that is permitted here, stays in place. In style "table" a cell is "(row,column)" and a move an
    arrow, one token each for :mod:`burnish.engines.table`; in style "text" both are words. All ``size`` examples are the
    same: an episode is told from the next by its randomness. Raises InputError where the goal is out of reach.
    """

    grid: Grid = SIX_STEPS
    cap: int = 6
    style: str = "table"
    size: int = 10_000

    def __post_init__(self) -> None:
        checks.check_choice("style", self.style, tuple(STYLES))
        if self.size < 1:
            raise InputError("a maze needs size >= 1")
        path = _shortest(self.grid, self.grid.goal)
        if path is None:
            raise InputError("the goal of this grid cannot be reached from its start")
        if self.cap < len(path):
            raise InputError(f"the goal is {len(path)} moves from the start: cap={self.cap} does not reach it")

    @property
    def max_turns(self) -> int:
        return self.cap

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Example:
        checks.check_index(index, self.size)
        return Example((_says(self.grid, self.style, self.grid.start),), None, {"kind": "maze"})

    def env(self, example: Example) -> MazeEnv:  # noqa: ARG002
        return MazeEnv(self.grid, self.style)

    def with_split(self, split: str) -> MazeTask:  # noqa: ARG002
        """The same: there is one maze, and what is held out are other episodes of it."""
        return self

    def reward(self, example: Example, completions: Sequence[Completion]) -> list[Reward]:  # noqa: ARG002
        """Not for single completions: raises InputError. The environment pays every move."""
        raise InputError("a maze is played move by move: it is rewarded by its env, not by one completion")

    def conversation(self, cell: int) -> tuple[Message, ...] | None:
        """What is said on a shortest way from the start to ``cell`` on which nothing slips; None where no way leads there."""
        path = _shortest(self.grid, cell)
        if path is None:
            return None
        here, said = self.grid.start, [_says(self.grid, self.style, self.grid.start)]
        for move in path:
            here = int(self.grid.neighbours[here, move])
            said += [
                {"role": "assistant", "content": STYLES[self.style][move]},
                _says(self.grid, self.style, here),
            ]
        return tuple(said)

    def measure(self, example: Example, completion: Completion) -> dict[str, float]:  # noqa: ARG002
        """{"success": whether the episode ended in the goal}."""
        return {"success": float(completion.messages[-1] == _says(self.grid, self.style, self.grid.goal))}

    def validate(self, count: int = 1) -> str:  # noqa: ARG002 - all examples are the same
        """Play without slips: the shortest path succeeds and is paid in full, one move less or a word that is no move not.

        Returns one line on what was checked. Raises AssertionError.
        """
        still = replace(self, grid=replace(self.grid, slip=0.0))
        names = STYLES[self.style]
        path = [names[move] for move in _shortest(self.grid, self.grid.goal) or ()]
        paid = self.grid.goal_reward + len(path) * self.grid.step_reward
        for texts, wanted in ((path, 1.0), (path[:-1], 0.0), (["", *path[:-1]], 0.0)):
            success, total = still._play(texts)
            if success != wanted or (wanted and abs(total - paid) > 1e-9):
                raise AssertionError(f"{texts}: success {success} instead of {wanted}, paid {total} of {paid}")
        return f"the shortest path of {len(path)} moves is paid {paid:g}; without its last move, or after a stumble, it fails"

    def _play(self, texts: Sequence[str]) -> tuple[float, float]:
        """(success, sum of rewards) of an episode in which the policy says ``texts``."""
        env, said, total = self.env(self[0]), list[Message](), 0.0
        env.reset(0)
        for text in texts:
            answer, reward, _, _ = env.step(text)
            said += [{"role": "assistant", "content": text}, *answer]
            total += sum(part.value for part in reward)
        return self.measure(self[0], Completion((), " ".join(texts), tuple(said), "eos"))["success"], total


@dataclass(frozen=True)
class RandomWalks:
    """Supervised rows: ``size`` episodes of ``task`` in which every permitted move is as likely, whether they arrive or not.

    They teach how a maze is talked to and which moves are permitted, and nothing about where the goal is.
    """

    task: MazeTask
    seed: int = 0
    size: int = 2000

    def __post_init__(self) -> None:
        if self.size < 1:
            raise InputError("random walks need size >= 1")

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Example:
        checks.check_index(index, self.size)
        key = derive("random walk", self.seed, index)
        env, names = self.task.env(self.task[0]), STYLES[self.task.style]
        said = list(env.reset(key))
        for luck in uniforms(key, self.task.cap):
            permitted = np.flatnonzero(env.grid.permitted[env.cell])
            move = names[permitted[int(luck * len(permitted))]]
            answer, _, done, _ = env.step(move)
            said += [{"role": "assistant", "content": move}, *answer]
            if done:
                break
        return Example(tuple(said[:-1]))  # a row ends with the assistant, not with what the world has to say to it


@dataclass
class MazeEnv:
    """One episode in ``grid``. The slips of a grid that has them follow from the seed and the number of the move."""

    grid: Grid
    style: str
    cell: int = 0
    moves: int = 0
    seed: int = field(default=0, repr=False)

    def reset(self, seed: int) -> tuple[Message, ...]:
        self.cell, self.moves, self.seed = self.grid.start, 0, derive(seed, "slips")
        return (_says(self.grid, self.style, self.cell),)

    def step(self, text: str) -> tuple[tuple[Message, ...], Reward, bool, Mapping[str, Any]]:
        """Move, or stay where ``text`` is no move that is permitted here."""
        move = self._move(text)
        if move is not None:
            self.cell = self._after(move)
        self.moves += 1
        done = bool(self.grid.terminal[self.cell])
        return (_says(self.grid, self.style, self.cell),), self._paid(), done, {"valid": move is not None}

    def _move(self, text: str) -> int | None:
        word = text.strip().lower()
        names = STYLES[self.style]
        move = names.index(word) if word in tuple(names) else None
        return move if move is not None and self.grid.permitted[self.cell, move] else None

    def _after(self, move: int) -> int:
        """The cell a move leads to, slips included."""
        reached = np.cumsum(self.grid.transitions[self.cell, move])
        point = float(uniforms(self.seed, 1, start=self.moves)[0]) * reached[-1]
        return int(np.searchsorted(reached, point, side="right"))

    def _paid(self) -> Reward:
        """A cell that can be stayed in pays nothing, so what is paid is paid for entering."""
        arrival = RewardPart(-1, float(self.grid.bonus[self.cell]), "arrival")
        step = self.grid.step_reward
        return (arrival, RewardPart(-1, step, "step")) if step else (arrival,)


def _says(grid: Grid, style: str, cell: int) -> Message:
    """What the world says in a cell."""
    row, column = grid.cells[cell]
    if style == "table":
        return {"role": "user", "content": f"({row},{column})"}
    exits = " ".join(name for name, open_ in zip(MOVES, grid.permitted[cell], strict=True) if open_)
    rest = "the end" if grid.terminal[cell] else f"exits: {exits}"
    return {"role": "user", "content": f"you are at r{row}c{column}; {rest}"}


def _shortest(grid: Grid, target: int) -> list[int] | None:
    """The moves of a shortest path from the start to ``target`` that enters no other cell that ends the episode, if any."""
    waiting, seen = [(grid.start, list[int]())], {grid.start}
    while waiting:
        cell, path = waiting.pop(0)
        if cell == target:
            return path
        if grid.terminal[cell]:
            continue
        for move in np.flatnonzero(grid.permitted[cell]).tolist():
            near = int(grid.neighbours[cell, move])
            if near not in seen:
                seen.add(near)
                waiting.append((near, [*path, move]))
    return None
