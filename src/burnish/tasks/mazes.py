"""A maze of its own for every example, drawn in text: the policy says one move a turn, until the goal or the cap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from burnish.core.keys import derive
from burnish.errors import InputError
from burnish.tabular.worlds import GOAL, MOVES, START, Grid, walled_grid
from burnish.tasks import checks
from burnish.tasks.maze import MazeEnv, MazeTask
from burnish.types import Completion, Example, Message, Reward

_TRIES = 2000


@dataclass(frozen=True)
class Mazes:
    """Square mazes of ``side`` cells, a share ``density`` of them walls, whose goal is at most ``longest`` moves away.

    The rows are drawn once, then the world says after every move where we are and which exits there are, as
    :class:`~burnish.tasks.maze.MazeTask` does in style "text". Only the goal pays, 1; every move may cost ``step_reward``. An
    episode has at most ``cap`` moves. ``meta``: kind, difficulty (the moves of a shortest way), canonical (the first of its
    turned and mirrored pictures, with start and goal exchanged or not: it decides the split), rows.

    Raises InputError for settings that allow no maze.
    """

    side: int = 4
    density: float = 0.3
    longest: int = 8
    cap: int = 12
    step_reward: float = 0.0
    split: str = "train"
    size: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        checks.check_choice("split", self.split, checks.SPLITS)
        shortest = 2 * (self.side - 1)
        if self.side < 3 or not 0 <= self.density < 1 or self.size < 1:
            raise InputError(f"{self}: give side >= 3, 0 <= density < 1 and size >= 1")
        if not shortest <= self.longest <= self.cap:
            raise InputError(f"from corner to corner there are {shortest} moves: give {shortest} <= longest <= cap")

    @property
    def max_turns(self) -> int:
        return self.cap

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Example:
        checks.check_index(index, self.size)
        for attempt in range(_TRIES):
            key = derive("mazes", self.seed, self.split, index, attempt)
            grid = walled_grid(self.side, key, self.density, step_reward=self.step_reward)
            moves, form = int(grid.distances(grid.goal)[grid.start]), canonical(grid.picture)
            if moves <= self.longest and checks.split_of(form) == self.split:
                meta = {"kind": "mazes", "difficulty": moves, "canonical": form, "rows": grid.picture}
                return Example((_drawn(grid),), None, meta)
        raise checks.no_problem(self, self.split)

    def env(self, example: Example) -> MazesEnv:
        return MazesEnv(self._grid(example), "text")

    def with_split(self, split: str) -> Mazes:
        return replace(self, split=split)

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
        seen: dict[str, set[str]] = {}
        for split in checks.SPLITS:
            part = self.with_split(split)
            examples = [part[index] for index in range(min(count, self.size))]
            seen[split] = {example.meta["canonical"] for example in examples}
            for example in examples:
                part._alone(example).validate()
                opening = part.env(example).reset(0)
                if opening != example.messages:
                    raise AssertionError(f"the episode begins with {opening} and not with {example.messages}")
        for one, other in (("train", "dev"), ("train", "test"), ("dev", "test")):
            if seen[one] & seen[other]:
                raise AssertionError(f"{one} and {other} share mazes, such as {min(seen[one] & seen[other])}")
        distinct = ", ".join(f"{len(forms)} {split}" for split, forms in seen.items())
        return f"shortest ways succeed, stumbles do not; splits are disjoint ({distinct} distinct mazes looked at)"

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
        return (_drawn(self.grid),)


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


def _drawn(grid: Grid) -> Message:
    """The maze, what is asked, and where we are."""
    rows = "\n".join(grid.picture)
    exits = " ".join(name for name, open_ in zip(MOVES, grid.permitted[grid.start], strict=True) if open_)
    row, column = grid.cells[grid.start]
    asked = f"Go from {START} to {GOAL}, one move a reply: {', '.join(MOVES)}."
    return {"role": "user", "content": f"{rows}\n{asked}\nyou are at r{row}c{column}; exits: {exits}"}
