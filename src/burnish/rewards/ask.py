"""What a judge is asked and what it says. Who answers (an endpoint, a local model) is a :class:`Judge`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Protocol

from burnish.errors import InputError
from burnish.types import Message


class NoJudgeError(InputError):
    """The judge answers nobody, so that no other question is worth asking."""


@dataclass(frozen=True)
class Question:
    """One conversation for a judge to continue. ``temperature`` 0 is greedy.

    Where ``choices`` are given, such as ("A", "B"), the reply is the probability of each as the beginning of the answer
    instead of a text. Raises InputError where one choice begins another: what would they be the beginning of?
    """

    messages: tuple[Message, ...]
    max_tokens: int = 512
    temperature: float = 0.0
    choices: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        for choice, other in permutations(self.choices, 2):
            if other.startswith(choice):
                raise InputError(
                    f"the choice {choice!r} begins the choice {other!r}: give choices that begin differently"
                )


@dataclass(frozen=True)
class Said:
    """A judge's reply. ``finish`` is "eos", "stop" or "length". ``choices`` sum to 1 over the choices of the question.

    ``mass`` is what they had together before that: far below 1 the judge did not mean to choose among them. At 0 they are
    equal.
    """

    text: str = ""
    finish: str = "eos"
    choices: Mapping[str, float] = field(default_factory=dict)
    mass: float = 1.0


class Judge(Protocol):
    """Answers questions, in their order. Raises NoJudgeError where it cannot be reached at all."""

    def ask(self, questions: Sequence[Question]) -> list[Said]: ...


def ask(judge: Judge, questions: Sequence[Question | None]) -> list[Said | None]:
    """What the judge says to each question, in one call; None where there was none to ask."""
    asked = [question for question in questions if question is not None]
    said = judge.ask(asked) if asked else []
    if len(said) != len(asked):
        raise InputError(
            f"{type(judge).__name__} gave {len(said)} replies to {len(asked)} questions; it must give one each"
        )
    replies = iter(said)
    return [None if question is None else next(replies) for question in questions]


def chosen(masses: Mapping[str, float]) -> Said:
    """The reply that gives each choice this probability, before they are made to sum to 1."""
    total = sum(masses.values())
    shares = {choice: mass / total if total else 1 / len(masses) for choice, mass in masses.items()}
    return Said(choices=shares, mass=min(total, 1.0))
