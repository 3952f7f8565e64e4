"""The user's own data file: parts of it that share no prompt, and prompts with a grader as a task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Generic, TypeVar

from burnish.core.keys import derive, permutation
from burnish.data.datasets import Dataset, prompt_of
from burnish.data.overlap import prompt_key, require_disjoint
from burnish.data.rows import DataFile
from burnish.errors import InputError
from burnish.rewards.accuracy import Accuracy, accuracies
from burnish.rewards.base import Composable
from burnish.tasks import checks
from burnish.types import Comparison, Completion, Example, Reward

PARTS = ("train", "heldout")
MOST_HELD_OUT = 200
SHARE_HELD_OUT = 10  # one row in so many

Item = TypeVar("Item", bound=Example | Comparison | str)
P = TypeVar("P", bound="Part[Any]")


@dataclass(frozen=True)
class Part(Generic[Item]):
    """The rows of a data file, or one of two parts of it that share no prompt.

    Prompts are drawn once and for ever, whatever the seed of the run, each with all its rows, as long as these are no more
    than ``heldout`` in all; part "train" is all others, in the order of the file. A prompt with more rows than are still
    wanted is trained on, so that part "heldout" may be smaller than asked. Raises InputError where nothing would be left for
    one of the two.
    """

    data: DataFile[Item]
    heldout: int = 0
    part: str = "train"

    def __post_init__(self) -> None:
        checks.check_choice("part", self.part, PARTS)
        if self.heldout < 0:
            raise InputError(f"heldout={self.heldout}: give the number of rows to keep apart, or a data file")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Item:
        checks.check_index(index, len(self))
        return self.data[self.rows[index] - 1]

    @cached_property
    def rows(self) -> tuple[int, ...]:
        """The numbers of this part's rows in the file, from 1."""
        if len(self.data) <= self.heldout:
            raise InputError(
                f"{self.data.path} has {len(self.data)} rows: heldout={self.heldout} leaves none to train on"
            )
        apart: list[int] = self._apart() if self.heldout else []
        if self.heldout and not apart:
            raise InputError(
                f"no row of {self.data.path} can be held out, because its prompts occur several times: "
                "give a file of other prompts with heldout=FILE, or heldout=0 to train on all rows"
            )
        chosen = apart if self.part == "heldout" else sorted({*range(len(self.data))} - {*apart})
        return tuple(row + 1 for row in chosen)

    def _apart(self) -> list[int]:
        """The places of the held-out rows, from 0: all rows of the prompts that were drawn."""
        groups: dict[tuple[tuple[str, str], ...], list[int]] = {}
        for place in range(len(self.data)):
            groups.setdefault(prompt_key(self.data[place]), []).append(place)
        every = list(groups.values())
        apart: list[int] = []
        for group in permutation(derive("heldout"), len(every)):
            if len(apart) + len(every[group]) <= self.heldout:
                apart += every[group]
        return apart

    def check(self, verify: Callable[[Item], Any]) -> None:
        """Call ``verify`` on every item. An InputError that it raises gets the file and the row number."""
        for index, row in enumerate(self.rows):
            try:
                verify(self[index])
            except InputError as error:
                raise InputError(f"{self.data.path}, row {row}: {error}") from error


@dataclass(frozen=True)
class UserTask(Part[Example]):
    """The prompts of a data file as a task: ``grader`` judges the replies, or else their exact answer.

    Assistant messages at the end of a row are left out; the answer and all other columns reach the grader.
    """

    grader: Composable | None = None

    def __getitem__(self, index: int) -> Example:
        example = super().__getitem__(index)
        return replace(example, messages=prompt_of(example))

    def reward(self, example: Example, completions: Sequence[Completion]) -> list[Reward]:
        """What the grader gives; without one, lenient accuracy."""
        return (self.grader or Accuracy())(example, completions)

    def measure(self, example: Example, completion: Completion) -> dict[str, float]:
        """The grader's reward; without one, both readings of the accuracy (see :mod:`burnish.rewards.accuracy`)."""
        if self.grader is None:
            return accuracies(example, completion)
        return {"reward": sum(part.value for part in self.grader(example, [completion])[0])}

    def require_grading(self) -> None:
        """Raise InputError unless there is a grader or every row has an answer."""
        if self.grader is not None:
            return
        missing = [row for index, row in enumerate(self.rows) if self[index].answer in (None, "")]
        if not missing:
            return
        columns = ", ".join(name for name in self.data[missing[0] - 1].meta if name != "prompt_is_text") or "none"
        raise InputError(
            f"{self.data.path}: {len(missing)} of {len(self)} rows have no column 'answer' (the first is row "
            f"{missing[0]}; columns beside the prompt: {columns}). Add it, or grade replies with "
            "reward=my_reward.py:score"
        )


def parts(
    make: Callable[..., P], data: str, heldout: int | str | None, read: Callable[[str], DataFile[Any]] = Dataset
) -> tuple[P, P | None]:
    """(training part, held-out part) as ``make(read(file), ...)`` builds them.

    ``heldout`` is the file of the held-out rows, or how many rows to keep apart; None keeps 10% apart, at most 200. No
    held-out part where that is 0 rows. Raises InputError where a held-out file shares prompts with the training data.
    """
    rows = read(data)
    if isinstance(heldout, str):
        train, test = make(rows), make(read(heldout))
        require_disjoint(train, test)
        return train, test
    count = min(MOST_HELD_OUT, len(rows) // SHARE_HELD_OUT) if heldout is None else heldout
    return make(rows, heldout=count), make(rows, heldout=count, part="heldout") if count else None
