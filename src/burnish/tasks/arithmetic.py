"""Arithmetic with a difficulty knob: sums, products, the largest number, sorting, comparing."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar

from burnish.core.keys import uniforms
from burnish.errors import InputError
from burnish.rewards.accuracy import accuracies
from burnish.tasks import checks
from burnish.tasks.problems import Problems, evasions, pick
from burnish.types import Completion, Example

CLOSINGS = {
    **dict.fromkeys(("largest", "sum", "product"), "Reply with the number only."),
    "sort": "Reply with the numbers only, separated by commas.",
    "compare": "Reply with yes or no only.",
}
KINDS = tuple(CLOSINGS)
_STEPS: dict[str, Callable[[int, int], int]] = {"largest": max, "sum": operator.add, "product": operator.mul}


@dataclass(frozen=True)
class Arithmetic(Problems):
    """Problems over ``numbers`` integers from ``low`` to ``high`` ("compare" always takes two).

    Style "think" asks in few characters, since ``nano`` reads character by character. Rewarded is the lenient accuracy.
    ``meta``: kind, difficulty (digits in the question), canonical (sorted operands: they decide the split), operands.
    """

    keyed: ClassVar[str] = "arithmetic"

    kinds: tuple[str, ...] = ("largest",)
    numbers: int = 3
    low: int = 1
    high: int = 99

    def __post_init__(self) -> None:
        super().__post_init__()
        for kind in self.kinds:
            checks.check_choice("arithmetic kind", kind, KINDS)
        if not self.kinds or self.numbers < 2 or self.low > self.high or self.low < 0:
            raise InputError(f"{self}: give at least one kind, numbers >= 2 and 0 <= low <= high")

    def draw(self, key: int) -> Example:
        draws = uniforms(key, self.numbers + 1)
        kind = pick(self.kinds, draws[0])
        count = 2 if kind == "compare" else self.numbers
        operands = tuple(self.low + int(u * (self.high - self.low + 1)) for u in draws[1 : count + 1])
        question = short_question(kind, operands) if self.style == "think" else plain_question(kind, operands)
        digits = sum(len(str(x)) for x in operands)
        meta = {"kind": kind, "difficulty": digits, "canonical": " ".join(str(x) for x in sorted(operands))}
        return self.asked(question, CLOSINGS[kind], solve(kind, operands), meta | {"operands": operands})

    def measure(self, example: Example, completion: Completion) -> dict[str, float]:
        """Both readings of the accuracy (see :mod:`burnish.rewards.accuracy`)."""
        return accuracies(example, completion)

    def gold(self, example: Example) -> str:
        """A right reply in the style that was asked for."""
        return self._worked(example, example.answer)

    def near_misses(self, example: Example) -> tuple[str, ...]:
        """Wrong replies that look right."""
        kind, answer = example.meta["kind"], example.answer
        if kind == "compare":
            wrong = ["no" if answer == "yes" else "yes", f"{answer} or not"]
        elif kind == "sort":
            wrong = [f"{answer}, -1", answer.rpartition(",")[0]]
        else:
            others = [str(x) for x in example.meta["operands"] if str(x) != answer]
            wrong = [str(int(answer) + 1), f"{answer}1", f"-{answer}1", f"{answer}²", *others]
        return (*(self._worked(example, text) for text in wrong), *evasions(answer))

    def _worked(self, example: Example, answer: str) -> str:
        return self.reply(answer, working(example.meta["kind"], example.meta["operands"]))


def solve(kind: str, operands: Sequence[int]) -> str:
    """The answer, as text."""
    if kind == "sort":
        return ", ".join(str(x) for x in sorted(operands))
    if kind == "compare":
        return "yes" if operands[0] > operands[1] else "no"
    return working(kind, operands).rpartition(" ")[2]


def working(kind: str, operands: Sequence[int]) -> str:
    """The steps to the answer: running maxima, sums or products; for the other kinds, the sorted operands."""
    if kind in ("sort", "compare"):
        return " ".join(str(x) for x in sorted(operands))
    return " ".join(str(x) for x in accumulate(operands, _STEPS[kind]))


def plain_question(kind: str, operands: Sequence[int]) -> str:
    """The question for a chat model that answers at once."""
    texts = [str(x) for x in operands]
    if kind == "largest":
        return f"Which number is largest: {', '.join(texts[:-1])} or {texts[-1]}?"
    if kind == "sort":
        return f"Sort from smallest to largest: {', '.join(texts)}."
    if kind == "compare":
        return f"Is {texts[0]} greater than {texts[1]}?"
    return f"What is {(' + ' if kind == 'sum' else ' * ').join(texts)}?"


def short_question(kind: str, operands: Sequence[int]) -> str:
    """The question in few characters."""
    texts = [str(x) for x in operands]
    return {
        "largest": f"Largest of {', '.join(texts)}?",
        "sum": f"{' + '.join(texts)} = ?",
        "product": f"{' * '.join(texts)} = ?",
        "sort": f"Sort {', '.join(texts)}.",
        "compare": f"{texts[0]} > {texts[1]}? yes or no.",
    }[kind]
