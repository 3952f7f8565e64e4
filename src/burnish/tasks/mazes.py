"""A maze of its own for every example, drawn in text: the policy says one move a turn, until the goal or the cap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from burnish.errors import InputError
from burnish.tabular.worlds import GOAL, MOVES, START, Grid, walled_grid
from burnish.tasks import checks
from burnish.tasks.maze import MazeEnv, MazeTask
from burnish.tasks.problems import Drawn
from burnish.types import Completion, Example, Message, Reward


@dataclass(frozen=True)
class Mazes(Drawn):
    """Square mazes of ``side`` cells, a share ``density`` of them walls, whose goal is at most ``longest`` moves away.

    The rows are drawn once, then the world says after every move where we are and which exits there are, as
    :class:`~burnish.tasks.maze.MazeTask` does in style "text". Only the goal pays, 1; every move may cost ``step_reward``. An
    episode has at most ``cap`` moves. ``meta``: kind, difficulty (the moves of a shortest way), canonical (the first of its
    turned and mirrored pictures, with start and goal exchanged or not: it decides the split), rows.

    Raises InputError for settings that allow no maze.
    """

    keyed: ClassVar[str] = "mazes"

    side: int = 4
    density: float = 0.3
    longest: int = 8
    cap: int = 12
    step_reward: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        shortest = 2 * (self.side - 1)
        if self.side < 3 or not 0 <= self.density < 1:
            raise InputError(f"{self}: give side >= 3 and 0 <= density < 1")
        if not shortest <= self.longest <= self.cap:
            raise InputError(f"from corner to corner there are {shortest} moves: give {shortest} <= longest <= cap")

    @property
    def max_turns(self) -> int:
        return self.cap

    def draw(self, key: int) -> Example | None:
        grid = walled_grid(self.side, key, self.density, step_reward=self.step_reward)
        moves = int(grid.distances(grid.goal)[grid.start])
        if moves > self.longest:
            return None
        meta = {"kind": "mazes", "difficulty": moves, "canonical": canonical(grid.picture), "rows": grid.picture}
        return Example((_shown(grid),), None, meta)

    def env(self, example: Example) -> MazesEnv:
        return MazesEnv(self._grid(example), "text")

    def reward(self, example: Example, completions: Sequence[Completion]) -> list[Reward]:
        """Not for single completions: raises InputError. The environment pays every move."""
        return MazeTask(self._grid(example), self.cap, "text").reward(example, completions)

    def measure(self, example: Example, completion: Completion) -> dict[str, float]:
        """{"success": whether the episode ended in the goal}."""
        return self._alone(example).measure(example, completion)

    def validate(self, count: int = 25) -> str:
        """Check ``count`` mazes of each split: a shortest way succeeds and is paid, and no split has a form of another's maze.

        Returns one line on what was checked. Raises AssertionError.
        """
        return f"shortest ways succeed, stumbles do not; {checks.each(self, count, Mazes._check)}"

    def _check(self, example: Example) -> None:
        self._alone(example).validate()
        opening = self.env(example).reset(0)
        if opening != example.messages:
            raise AssertionError(f"the episode begins with {opening} and not with {example.messages}")

    def _grid(self, example: Example) -> Grid:
        return Grid(tuple(example.meta["rows"]), step_reward=self.step_reward)

    def _alone(self, example: Example) -> MazeTask:
        """The maze of one example as a task of its own."""
        return MazeTask(self._grid(example), self.cap, "text")


@dataclass
class MazesEnv(MazeEnv):
    """One episode in one of the mazes: the first message shows it."""

    def reset(self, seed: int) -> tuple[Message, ...]:
        super().reset(seed)
        return (_shown(self.grid),)


def canonical(picture: tuple[str, ...]) -> str:
    """The first, in the order of strings, of all pictures that are the same maze turned, mirrored, or walked backwards."""
    swapped = str.maketrans({START: GOAL, GOAL: START})
    backwards = tuple(row.translate(swapped) for row in picture)
    return min("/".join(form) for each in (picture, backwards) for form in _turned(each))


def _turned(picture: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The eight symmetries of a square."""
    for _ in range(4):
        picture = tuple("".join(column) for column in zip(*picture[::-1], strict=True))
        yield picture
        yield picture[::-1]


def _shown(grid: Grid) -> Message:
    """The maze, what is asked, and where we are."""
    rows = "\n".join(grid.picture)
    exits = " ".join(name for name, open_ in zip(MOVES, grid.permitted[grid.start], strict=True) if open_)
    row, column = grid.cells[grid.start]
    asked = f"Go from {START} to {GOAL}, one move a reply: {', '.join(MOVES)}."
    return {"role": "user", "content": f"{rows}\n{asked}\nyou are at r{row}c{column}; exits: {exits}"}
