"""Gridworlds as Markov decision processes: a picture, and the arrays ``P[s, a, s']`` and ``R[s, a]`` that follow from it.

Letters used in shapes: ``S`` states (the cells that are not walls, in reading order), ``A`` the four moves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from burnish.core.keys import permutation
from burnish.errors import InputError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Cell = tuple[int, int]

MOVES = ("up", "right", "down", "left")
STEPS: tuple[Cell, ...] = ((-1, 0), (0, 1), (1, 0), (0, -1))
ARROWS = "↑→↓←"
WALL, START, GOAL = "#SG"


class Path(NamedTuple):
    """An episode: T + 1 ``states``, T ``moves``, T ``rewards``."""

    states: tuple[int, ...]
    moves: tuple[int, ...]
    rewards: tuple[float, ...]


@dataclass(frozen=True)
class Grid:
    """A world drawn as rows of ``#`` wall, ``.`` floor, one ``S`` start, one ``G`` goal and digits, which are decoys.

    Entering the goal pays ``goal_reward``, entering a decoy its digit; both end the episode: they are absorbing, and
    from then on nothing is paid. Every move pays ``step_reward`` besides. Only moves to a cell that is not a wall are
    permitted. With probability ``slip`` a move goes to one of its two sides instead, each as likely, or stays where
    that side is blocked (Sutton and Barto 2018, example 3.5; Russell and Norvig for the slip).

    Raises InputError for a picture that is not a rectangle with one start, one goal and an exit from every floor cell.
    """

    picture: tuple[str, ...]
    goal_reward: float = 1.0
    step_reward: float = 0.0
    slip: float = 0.0

    def __post_init__(self) -> None:
        text = "".join(self.picture)
        if len({len(row) for row in self.picture}) != 1 or text.count(START) != 1 or text.count(GOAL) != 1:
            raise InputError("a grid is a rectangle of characters with one S and one G.")
        if odd := set(text) - set("#.SG0123456789"):
            raise InputError(f"a grid has no {sorted(odd)}: draw it with # . S G and digits.")
        if not 0 <= self.slip <= 1:
            raise InputError(f"slip={self.slip} is not a probability.")
        if not bool(self.permitted.any(1).all()):
            raise InputError("a grid has a cell with walls on all sides: draw a wall there.")

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """(row, column) of each of the S states."""
        return tuple((r, c) for r, row in enumerate(self.picture) for c, mark in enumerate(row) if mark != WALL)

    @cached_property
    def index(self) -> dict[Cell, int]:
        """The state of each cell."""
        return {cell: state for state, cell in enumerate(self.cells)}

    def _find(self, mark: str) -> int:
        return next(state for state, (r, c) in enumerate(self.cells) if self.picture[r][c] == mark)

    @cached_property
    def start(self) -> int:
        return self._find(START)

    @cached_property
    def goal(self) -> int:
        return self._find(GOAL)

    @cached_property
    def bonus(self) -> Floats:
        """[S] what entering a cell pays."""
        marks = [self.picture[r][c] for r, c in self.cells]
        return np.array([self.goal_reward if m == GOAL else float(m) if m.isdigit() else 0.0 for m in marks])

    @cached_property
    def terminal(self) -> Bools:
        """[S] goal and decoys."""
        return np.array([self.picture[r][c] == GOAL or self.picture[r][c].isdigit() for r, c in self.cells])

    @cached_property
    def neighbours(self) -> NDArray[np.int64]:
        """[S, A] the state a move leads to when it does not slip; the state itself where that is a wall or outside."""
        found = [[self.index.get((r + dr, c + dc), s) for dr, dc in STEPS] for s, (r, c) in enumerate(self.cells)]
        return np.array(found)

    @cached_property
    def permitted(self) -> Bools:
        """[S, A] the moves there are. In an absorbing cell all four are, and none has an effect."""
        leaves = self.neighbours != np.arange(len(self.cells))[:, None]
        return np.asarray(leaves | self.terminal[:, None])

    @cached_property
    def transitions(self) -> Floats:
        """[S, A, S] ``P[s, a, s']``; the rows of moves that are not permitted are zero."""
        size = len(self.cells)
        p = np.zeros((size, len(MOVES), size))
        for s in range(size):
            for a in np.flatnonzero(self.permitted[s]):
                for turn, share in ((0, 1 - self.slip), (1, self.slip / 2), (-1, self.slip / 2)):
                    p[s, a, s if self.terminal[s] else self.neighbours[s, (a + turn) % len(MOVES)]] += share
        return p

    @cached_property
    def rewards(self) -> Floats:
        """[S, A] ``R[s, a] = sum over s' of P(s'|s,a) r(s,a,s')``: zero in absorbing cells and for absent moves."""
        alive = self.permitted & ~self.terminal[:, None]
        return np.where(alive, self.step_reward + self.arrivals, 0.0)

    @cached_property
    def arrivals(self) -> Floats:
        """[S, A] the expected bonus of the cell that a move enters; staying in place enters nothing."""
        enters = self.transitions * (1 - np.eye(len(self.cells)))[:, None, :]
        return np.asarray(enters @ self.bonus)

    def pays(self, state: int, after: int) -> float:
        """``r(s, a, s')`` of a move from ``state`` that ended in ``after``."""
        if self.terminal[state]:
            return 0.0
        return self.step_reward + (float(self.bonus[after]) if after != state else 0.0)

    def distances(self, source: int) -> NDArray[np.int64]:
        """[S] the number of permitted moves from each cell to ``source`` without slips; -1 where it is out of reach."""
        found = _reach(set(self.cells), self.cells[source])
        return np.array([found.get(cell, -1) for cell in self.cells])


def _reach(cells: set[Cell], source: Cell) -> dict[Cell, int]:
    """``{cell: distance}`` by breadth-first search over ``cells``."""
    found, waiting = {source: 0}, deque([source])
    while waiting:
        r, c = waiting.popleft()
        for dr, dc in STEPS:
            near = (r + dr, c + dc)
            if near in cells and near not in found:
                found[near] = found[r, c] + 1
                waiting.append(near)
    return found


SIX_STEPS = Grid(("S...", ".#.#", ".#.#", "...G"), goal_reward=10.0)
"""A maze whose goal is exactly six moves right or down from the start, to be solved in six moves.

Beside the goal there are 3 exits, so the last step of a uniform policy is worth 10/3 = 3.333; before it lies a corridor
with 2 exits, worth half of that: 1.666. A move left or up leaves too few steps, and is worth 0.
"""


def _corners(size: int, walls: set[Cell]) -> tuple[str, ...]:
    """A square with the start in its first corner and the goal in its last."""
    marks = {(0, 0): START, (size - 1, size - 1): GOAL} | dict.fromkeys(walls, WALL)
    return tuple("".join(marks.get((r, c), ".") for c in range(size)) for r in range(size))


def open_grid(size: int, goal_reward: float = 1.0, step_reward: float = 0.0, slip: float = 0.0) -> Grid:
    """A ``size`` x ``size`` grid without walls, from corner to corner."""
    return Grid(_corners(size, set()), goal_reward, step_reward, slip)


def walled_grid(
    size: int,
    key: int,
    density: float = 0.25,
    goal_reward: float = 1.0,
    step_reward: float = 0.0,
    slip: float = 0.0,
) -> Grid:
    """A ``size`` x ``size`` grid with a share ``density`` of walls where ``key`` puts them; every cell reaches the goal.

    Cells become walls in the order of a permutation, except where that would cut the floor in two. So there may be
    fewer walls than asked for.
    """
    floor = {(r, c) for r in range(size) for c in range(size)}
    walls: set[Cell] = set()
    for cell in _shuffled(size, key):
        if len(walls) >= density * size * size:
            break
        rest = floor - {cell}
        if len(_reach(rest, (0, 0))) == len(rest):
            floor = rest
            walls.add(cell)
    return Grid(_corners(size, walls), goal_reward, step_reward, slip)


def _shuffled(size: int, key: int) -> Iterator[Cell]:
    """Every cell but start and goal, in the order of ``key``."""
    for place in permutation(key, size * size).tolist():
        if place not in (0, size * size - 1):
            yield divmod(place, size)
