"""Arithmetic with a difficulty knob: sums, products, the largest number, sorting, comparing."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from burnish.core.keys import derive, uniforms
from burnish.errors import InputError
from burnish.rewards.accuracy import Accuracy, accuracies
from burnish.tasks import checks
from burnish.types import Completion, Example, Reward

KINDS = ("largest", "sum", "product", "sort", "compare")
_STEPS: dict[str, Callable[[int, int], int]] = {"largest": max, "sum": operator.add, "product": operator.mul}
_TRIES = 1000  # a split of one tenth is missed this often in a row only where it is empty


@dataclass(frozen=True)
class Arithmetic:
    """Problems over ``numbers`` integers from ``low`` to ``high`` ("compare" always takes two).

    Example ``i`` of a split is the same for ever, for any ``size``. Style "plain" asks for the answer only; "think"
    asks for ``<think>..</think><answer>..</answer>`` in few characters, since ``nano`` reads character by character.
    ``meta``: kind, difficulty (digits in the question), canonical (sorted operands: they decide the split), operands.
    """

    kinds: tuple[str, ...] = ("largest",)
    numbers: int = 3
    low: int = 1
    high: int = 99
    split: str = "train"
    size: int = 10_000
    seed: int = 0
    style: str = "plain"

    def __post_init__(self) -> None:
        for kind in self.kinds:
            checks.check_choice("arithmetic kind", kind, KINDS)
        checks.check_choice("split", self.split, checks.SPLITS)
        checks.check_choice("style", self.style, checks.STYLES)
        if not self.kinds or self.numbers < 2 or self.low > self.high or self.low < 0 or self.size < 1:
            raise InputError(f"{self}: give at least one kind, numbers >= 2, 0 <= low <= high and size >= 1")

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Example:
        checks.check_index(index, self.size)
        for attempt in range(_TRIES):
            draws = uniforms(derive("arithmetic", self.seed, self.split, index, attempt), self.numbers + 1)
            kind = self.kinds[int(draws[0] * len(self.kinds))]
            count = 2 if kind == "compare" else self.numbers
            operands = tuple(self.low + int(u * (self.high - self.low + 1)) for u in draws[1 : count + 1])
            canonical = " ".join(str(x) for x in sorted(operands))
            if checks.split_of(canonical) == self.split:
                return self._example(kind, operands, canonical)
        raise checks.no_problem(self, self.split)

    def _example(self, kind: str, operands: tuple[int, ...], canonical: str) -> Example:
        text = think_prompt(kind, operands) if self.style == "think" else plain_prompt(kind, operands)
        digits = sum(len(str(x)) for x in operands)
        meta = {"kind": kind, "difficulty": digits, "canonical": canonical, "operands": operands}
        return Example(({"role": "user", "content": text},), solve(kind, operands), meta)

    def with_split(self, split: str) -> Arithmetic:
        return replace(self, split=split)

    def reward(self, example: Example, completions: Sequence[Completion]) -> list[Reward]:
        """Lenient accuracy."""
        return Accuracy()(example, completions)

    def measure(self, example: Example, completion: Completion) -> dict[str, float]:
        """Both readings of the accuracy (see :mod:`burnish.rewards.accuracy`)."""
        return accuracies(example, completion)

    def gold(self, example: Example) -> str:
        """A right reply in the style that was asked for."""
        return self._reply(example, example.answer)

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
        return (*(self._reply(example, text) for text in wrong), "", f"<think>{answer}</think>", f"<think>{answer}")

    def _reply(self, example: Example, answer: str) -> str:
        if self.style == "plain":
            return answer
        return f"<think>{working(example.meta['kind'], example.meta['operands'])}</think><answer>{answer}</answer>"

    def validate(self, count: int = 100) -> str:
        """See :func:`burnish.tasks.checks.validate`."""
        return checks.validate(self, count)


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


def plain_prompt(kind: str, operands: Sequence[int]) -> str:
    """The question for a chat model that answers at once."""
    texts = [str(x) for x in operands]
    if kind == "largest":
        return f"Which number is largest: {', '.join(texts[:-1])} or {texts[-1]}? Reply with the number only."
    if kind == "sort":
        return f"Sort from smallest to largest: {', '.join(texts)}. Reply with the numbers only, separated by commas."
    if kind == "compare":
        return f"Is {texts[0]} greater than {texts[1]}? Reply with yes or no only."
    return f"What is {(' + ' if kind == 'sum' else ' * ').join(texts)}? Reply with the number only."


def think_prompt(kind: str, operands: Sequence[int]) -> str:
    """The question in few characters, with the tags that the reply must use."""
    texts = [str(x) for x in operands]
    question = {
        "largest": f"Largest of {', '.join(texts)}?",
        "sum": f"{' + '.join(texts)} = ?",
        "product": f"{' * '.join(texts)} = ?",
        "sort": f"Sort {', '.join(texts)}.",
        "compare": f"{texts[0]} > {texts[1]}? yes or no.",
    }[kind]
    return f"{question} Use <think></think><answer></answer>."
