"""Conversations in which the policy mostly guesses: they teach ``nano`` how to talk with an environment, at a low base rate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from burnish.core.keys import derive, uniforms
from burnish.errors import InputError
from burnish.tasks import checks
from burnish.tasks.environments import Conversation
from burnish.tasks.problems import pick
from burnish.types import Example, Message


@dataclass(frozen=True)
class Guesses(ABC):
    """Supervised rows: ``size`` episodes of ``task``, each played to its end by :meth:`say`.

    A model trained on them knows the form of a turn and seldom what to say, so reinforcement learning has something to find.
    The examples are drawn from the task with repetition; row ``i`` depends on ``seed`` and ``i`` alone. A row ends with the
    policy's last turn. Raises InputError for a size below 1.
    """

    task: Conversation
    seed: int = 0
    size: int = 1000

    def __post_init__(self) -> None:
        if self.size < 1:
            raise InputError(f"{type(self).__name__} has size={self.size}: give a size of at least 1")

    @abstractmethod
    def say(self, example: Example, heard: Sequence[Message], key: int) -> str:
        """A turn of the policy after ``heard``, the conversation so far; all chance follows from ``key``."""

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Example:
        checks.check_index(index, self.size)
        key = derive(type(self).__name__, self.seed, index)
        example = self.task[int(uniforms(key, 1)[0] * len(self.task))]
        env = self.task.env(example)
        said = list(env.reset(derive(key, "env")))
        for turn in range(self.task.max_turns):
            said.append({"role": "assistant", "content": self.say(example, said, derive(key, turn))})
            answer, _, done, _ = env.step(said[-1]["content"])
            if done:
                break
            said += answer
        return Example(tuple(said), example.answer, example.meta)


@dataclass(frozen=True)
class CardGuesses(Guesses):
    """For :class:`~burnish.tasks.points24.Points24` with feedback: the cards as they lie, joined by signs drawn from ``signs``.

    A sign that is there twice is drawn twice as often. What was said before has no say.
    """

    signs: str = "+-*/"

    def say(self, example: Example, heard: Sequence[Message], key: int) -> str:  # noqa: ARG002
        first, *others = example.meta["numbers"]
        signs = (pick(self.signs, luck) for luck in uniforms(key, len(others)))
        return " ".join([str(first), *(f"{sign} {number}" for sign, number in zip(signs, others, strict=True))])


@dataclass(frozen=True)
class ProgramGuesses(Guesses):
    """For products of :class:`~burnish.tasks.arithmetic.Arithmetic` with the Python tool: a program, or an answer at once.

    With probability ``called`` the tool is asked for the product, and what it prints is repeated; else the answer is one of
    the factors.
    """

    called: float = 0.4

    def say(self, example: Example, heard: Sequence[Message], key: int) -> str:
        if len(heard) > 1:
            return heard[-1]["content"]
        call, factor = uniforms(key, 2)
        factors = [str(x) for x in example.meta["operands"]]
        if call < self.called:
            return f"```python\nprint({'*'.join(factors)})\n```"
        answer: str = pick(factors, factor)
        return answer
