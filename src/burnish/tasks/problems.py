"""What tasks share that draw their problems from keys: splits, styles, and the loop that looks for a problem of a split."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from burnish.core.keys import derive
from burnish.errors import InputError
from burnish.tasks import checks
from burnish.types import Completion, Example, Reward, outcome

TRIES = 5000  # a split of one tenth is missed this often in a row only where it is empty
CLOSING = "Use <think></think><answer></answer>."


@dataclass(frozen=True, kw_only=True)
class Drawn(ABC):
    """Examples that are the same for ever: example ``i`` of a split depends on the settings and ``seed``, not on ``size``.

    A subclass draws an example from a key; ``meta["canonical"]`` decides its split. Raises InputError for a split that does
    not exist, a size below 1, and on access where a split is empty.
    """

    keyed: ClassVar[str] = ""
    """What the keys are derived from beside seed, split and place; by default the name of the class."""

    split: str = "train"
    size: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        checks.check_choice("split", self.split, checks.SPLITS)
        if self.size < 1:
            raise InputError(f"{type(self).__name__} has size={self.size}: give a size of at least 1")

    @abstractmethod
    def draw(self, key: int) -> Example | None:
        """The example that follows from ``key``, of whatever split; None where what was drawn is none."""

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Example:
        checks.check_index(index, self.size)
        for attempt in range(TRIES):
            example = self.draw(derive(self.keyed or type(self).__name__, self.seed, self.split, index, attempt))
            if example is not None and checks.split_of(example.meta["canonical"]) == self.split:
                return example
        raise checks.no_problem(self, self.split)

    def with_split(self, split: str) -> Self:
        return replace(self, split=split)


@dataclass(frozen=True, kw_only=True)
class Problems(Drawn):
    """Drawn examples with a question and an answer: a subclass draws them and grades replies.

    Style "plain" asks for the answer only, "think" for ``<think>..</think><answer>..</answer>``. Raises InputError also for a
    style that does not exist.
    """

    style: str = "plain"

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.check_choice("style", self.style, checks.STYLES)

    @abstractmethod
    def gold(self, example: Example) -> str:
        """A right reply in the style that was asked for."""

    @abstractmethod
    def near_misses(self, example: Example) -> tuple[str, ...]:
        """Wrong replies that look right."""

    @abstractmethod
    def measure(self, example: Example, completion: Completion) -> dict[str, float]:
        """Scores in [0, 1] by name; "accuracy" is what is rewarded."""

    def reward(self, example: Example, completions: Sequence[Completion]) -> list[Reward]:
        """The measured accuracy."""
        return [outcome(self.measure(example, done)["accuracy"], "accuracy") for done in completions]

    def validate(self, count: int = 100) -> str:
        """See :func:`burnish.tasks.checks.validate`."""
        return checks.validate(self, count)

    def asked(self, question: str, closing: str, answer: Any, meta: dict[str, Any]) -> Example:
        """The example for a question; ``closing`` says how to reply in style "plain"."""
        text = f"{question} {CLOSING if self.style == 'think' else closing}"
        return Example(({"role": "user", "content": text},), answer, meta)

    def reply(self, answer: str, thoughts: str = "") -> str:
        """A reply with this answer in the style that was asked for."""
        return f"<think>{thoughts}</think><answer>{answer}</answer>" if self.style == "think" else answer


def evasions(answer: str) -> tuple[str, ...]:
    """Replies that say the right answer only where it does not count: in thoughts, in two answers, beside another one."""
    return (
        "",
        f"<think>{answer}</think>",
        f"<think>{answer}",
        f"<answer>{answer}</answer><answer>{answer}</answer>",
        f"<answer>{answer}",
    )


def pick(options: Sequence[Any], uniform: float) -> Any:
    """The option at this place of the unit interval."""
    return options[int(uniform * len(options))]
