"""Small algebra: linear equations, values of linear terms, sums to simplify. Graded as exact mathematics."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from burnish.core.keys import uniforms
from burnish.errors import InputError
from burnish.rewards.answers import SOURCES, stated
from burnish.rewards.base import total
from burnish.rewards.math import Math
from burnish.tasks import checks
from burnish.tasks.problems import Problems, evasions, pick
from burnish.types import Completion, Example

KINDS = ("substitute", "simplify", "solve", "both")
LETTERS = "xyznk"
STRICT = ("boxed", "tag", "whole")
_DIFFICULTY = {"substitute": 1, "simplify": 2, "solve": 2, "both": 3}
_NUMBER = re.compile(r"(?:[a-z]\s*=\s*)?[-−+]?\s*(?:\d+(?:\.\d+)?(?:\s*/\s*\d+)?|\\[dt]?frac\{\d+\}\{\d+\})", re.ASCII)
_SUM = re.compile(r"[0-9a-z+−* -]+")
_AROUND = " \n$.*`"
Term = tuple[int, str]
"""A coefficient and a letter; "" for a number that stands alone."""


@dataclass(frozen=True)
class Algebra(Problems):
    """Problems of ``kinds`` with whole coefficients from -``high`` to ``high``.

    "substitute" asks for the value of ax + b, "simplify" for a sum of four terms in its shortest form, "solve" for the solution
    of ax + b = c, "both" for that of ax + b = cx + d. Solutions are whole numbers unless ``fractions``. A reply is right where
    it states the answer and nothing else, in a form that needs no more work: a number, a sum without like terms.

    ``meta``: kind, difficulty (1 to 4: 1 to substitute, 2 to simplify or solve, 3 for both, 1 more for a fraction), canonical
    (the coefficients, an equation's without a common factor; the letter has no say), given, letter.
    """

    kinds: tuple[str, ...] = KINDS
    high: int = 9
    fractions: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for kind in self.kinds:
            checks.check_choice("kind of algebra", kind, KINDS)
        if not self.kinds or self.high < 2:
            raise InputError(f"{self}: give at least one kind and high >= 2")

    def draw(self, key: int) -> Example | None:
        draws = uniforms(key, 6)
        kind, letter = pick(self.kinds, draws[0]), pick(LETTERS, draws[1])
        a, b, c, d = (self._coefficient(u) for u in draws[2:])
        if kind == "simplify":
            return self._simplify((a, b, c, d), letter)
        if kind == "substitute":
            meta = {"canonical": f"substitute {a} {b} {c}", "given": f"{a} * {_bracketed(c)} {_signed(b)}"}
            question = f"What is {written(((a, letter), (b, '')))} for {letter} = {c}?"
            return self._example(kind, letter, question, Fraction(a * c + b), meta)
        rise = a - (c if kind == "both" else 0)
        if rise == 0:
            return None
        if not self.fractions:
            d = d * rise + b  # then the solution is the coefficient d that was drawn
        return self._equation(kind, letter, (a, b, c if kind == "both" else 0, d))

    def _coefficient(self, uniform: float) -> int:
        """From -high to high, without 0."""
        drawn = int(uniform * 2 * self.high)
        return drawn - self.high if drawn < self.high else drawn - self.high + 1

    def _simplify(self, coefficients: Sequence[int], letter: str) -> Example | None:
        terms = tuple(zip(coefficients, (letter, "", letter, ""), strict=True))
        alike, alone = coefficients[0] + coefficients[2], coefficients[1] + coefficients[3]
        if not alike or not alone:
            return None
        pairs = [sorted(coefficients[::2]), sorted(coefficients[1::2])]
        meta = {"canonical": f"simplify {pairs}", "given": written(terms)}
        answer = written(((alike, letter), (alone, "")))
        return self._example("simplify", letter, f"Simplify {written(terms)}.", answer, meta)

    def _equation(self, kind: str, letter: str, coefficients: tuple[int, int, int, int]) -> Example | None:
        """ax + b = cx + d. Its canonical form has no common factor, and is the same with the sides or all signs exchanged.

        None where the equation ends with its own solution, so that whoever repeats it would be right.
        """
        a, b, c, d = coefficients
        solution = Fraction(d - b, a - c)
        if solution == d:
            return None
        common = math.gcd(*coefficients)
        forms = [[sign * x // common for x in form] for form in ((a, b, c, d), (c, d, a, b)) for sign in (1, -1)]
        right = ((c, letter), (d, "")) if c else ((d, ""),)
        equation = f"{written(((a, letter), (b, '')))} = {written(right)}"
        meta = {"canonical": f"{kind} {max(forms)}", "given": equation}
        return self._example(kind, letter, f"Solve {equation} for {letter}.", solution, meta)

    def _example(self, kind: str, letter: str, question: str, answer: Fraction | str, meta: dict[str, Any]) -> Example:
        harder = isinstance(answer, Fraction) and answer.denominator > 1
        closing = "Reply with the sum only." if kind == "simplify" else "Reply with the number only."
        meta |= {"kind": kind, "difficulty": _DIFFICULTY[kind] + harder, "letter": letter}
        return self.asked(question, closing, str(answer), meta)

    def measure(self, example: Example, completion: Completion) -> dict[str, float]:
        """Strict: the reply, ``<answer>`` or box is the answer. Lenient: also what "the answer is" says, or a last number."""
        sources = (*STRICT, "phrase") if example.meta["kind"] == "simplify" else SOURCES
        return {
            "accuracy": _right(example, completion, sources),
            "accuracy_strict": _right(example, completion, STRICT),
        }

    def gold(self, example: Example) -> str:
        return self.reply(example.answer, thoughts=example.meta["given"])

    def near_misses(self, example: Example) -> tuple[str, ...]:
        """Other numbers and signs, two answers, and what is equal to the answer but leaves the work to the reader."""
        answer, letter, given = example.answer, example.meta["letter"], example.meta["given"]
        wrong = [
            given,
            f"{given} ",
            f"({given})",
            f"{answer} + 1",
            f"{answer} or 99",
            f"{answer}²",
            f"{answer}{letter}",
        ]
        if example.meta["kind"] == "simplify":
            wrong += [f"-({answer})", answer.replace(letter, ""), answer.replace(letter, "w"), answer.partition(" ")[0]]
        else:
            value = Fraction(answer)
            wrong += [
                str(value + 1),
                str(value - 10),
                f"{letter} = {value + 2}",
                f"{value + 2} - 2",
                f"2 * {value / 2}",
            ]
        return (*(self.reply(text, given) for text in wrong), *evasions(answer))


def written(terms: Sequence[Term]) -> str:
    """The sum of the terms as people write it: "3x - 2"."""
    first, *others = ((_coefficient(abs(a), letter), "-" if a < 0 else "+") for a, letter in terms)
    return f"{'-' if first[1] == '-' else ''}{first[0]}" + "".join(f" {sign} {text}" for text, sign in others)


def _coefficient(size: int, letter: str) -> str:
    return letter if size == 1 and letter else f"{size}{letter}"


def _bracketed(number: int) -> str:
    return f"({number})" if number < 0 else str(number)


def _signed(number: int) -> str:
    return f"{'-' if number < 0 else '+'} {abs(number)}"


def _right(example: Example, completion: Completion, sources: tuple[str, ...]) -> float:
    """Whether what the reply states has the form of an answer, and is right. The form is looked at first: it costs less."""
    done = _finished if example.meta["kind"] == "simplify" else _is_number
    texts = [
        text.strip(_AROUND).removeprefix("\\(").removesuffix("\\)").strip() for text in stated(completion.text, sources)
    ]
    if not all(done(text, example.answer) for text in texts):
        return 0.0
    return total(Math(sources)(example, [completion])[0])


def _is_number(text: str, _: str) -> bool:
    """Whether the text is a number rather than something to work out."""
    return _NUMBER.fullmatch(text) is not None


def _finished(text: str, answer: str) -> bool:
    """Whether the text is a sum with no more terms than the answer: it is equal to it, so that it has the same ones."""
    counted, wanted = (Counter(re.findall(r"[0-9]+|[a-z]", each)) for each in (text, answer))
    return _SUM.fullmatch(text) is not None and counted == wanted
