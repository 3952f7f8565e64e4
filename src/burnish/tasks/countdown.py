"""Countdown: combine given numbers with + - * / to reach a target. Exact fractions throughout."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, NamedTuple

from burnish.core.keys import derive, permutation, uniforms
from burnish.errors import InputError
from burnish.rewards.accuracy import final_part
from burnish.tasks.problems import Problems, evasions
from burnish.types import Completion, Example

_LONGEST = 100  # characters of an expression; bounds the parser's recursion and the size of its numbers
_TOKEN = re.compile(r"\s*(?:([0-9]+)|([-+*/()]))")
_OTHER_DIGITS = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")
_SIGNS = str.maketrans({"×": "*", "÷": "/", "−": "-"})


@dataclass(frozen=True)
class Countdown(Problems):
    """Between ``fewest`` and ``most`` numbers up to ``high``, each to be used exactly once, to reach ``1 .. target``.

    Solvable by construction: the target is the value of a random expression whose intermediate results are positive
    integers. The reply's expression is the body of ``<answer>``, or the last line. ``meta``: kind, difficulty (how many
    numbers), canonical (sorted numbers and target: they decide the split), numbers, solution.
    """

    keyed: ClassVar[str] = "countdown"

    fewest: int = 2
    most: int = 4
    high: int = 25
    target: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.fewest <= self.most <= 4 or self.high < 1 or self.target < 1:
            raise InputError(f"{self}: give 2 <= fewest <= most <= 4, and high and target of at least 1")

    def draw(self, key: int) -> Example | None:
        draws = uniforms(key, 1 + self.most)
        count = self.fewest + int(draws[0] * (self.most - self.fewest + 1))
        numbers = tuple(1 + int(u * self.high) for u in draws[1 : count + 1])
        reached, solution = _random_expression(numbers, derive("expression", key))
        if not 1 <= reached <= self.target:
            return None
        canonical = f"{' '.join(str(x) for x in sorted(numbers))} -> {reached}"
        meta = {"kind": "countdown", "difficulty": count, "canonical": canonical}
        meta |= {"numbers": numbers, "solution": solution}
        given = ", ".join(str(x) for x in numbers)
        question = f"Use {given} and + - * / to make {reached}, each number exactly once."
        return self.asked(question, "Reply with the expression only.", str(reached), meta)

    def measure(self, example: Example, completion: Completion) -> dict[str, float]:
        """Strict: the reply is a right expression. Lenient: also with "words:" before it or "= target" after it."""
        return accuracies(completion, example.meta["numbers"], int(example.answer))

    def explain(self, example: Example, completion: Completion) -> str:
        """What is wrong with the expression: numbers that are missing or too many, the value it has."""
        return explanation(completion, example.meta["numbers"], int(example.answer))

    def said(self, example: Example, completion: Completion) -> str | None:  # noqa: ARG002 - of no use here
        """The expression, for votes: of the right ones each is another answer."""
        return written(completion)

    def gold(self, example: Example) -> str:
        """The expression from which the problem was made."""
        return self.reply(example.meta["solution"])

    def near_misses(self, example: Example) -> tuple[str, ...]:
        """Wrong expressions: a number too many, twice, joined or missing, the target itself, other syntax."""
        wrong = near_expressions(example.meta["solution"], example.meta["numbers"], example.answer)
        return (*(self.reply(text) for text in wrong), *evasions(example.meta["solution"]))


def near_expressions(solution: str, numbers: Sequence[int], target: object) -> tuple[str, ...]:
    """Texts that look like the right expression and are none."""
    joined, first = "".join(str(x) for x in numbers), numbers[0]
    extra = (f"{solution} + 1", f"{solution} + {first} - {first}", f"({solution}) * 1", joined, f"{target}")
    syntax = (f"{solution})", f"({solution}", f"-({solution})", f"{solution}**1", f"{solution} or 7", f"{solution} = 0")
    return (*extra, *syntax, solution.translate(_OTHER_DIGITS))


# --- what a reply says ----------------------------------------------------------------------------


class Stated(NamedTuple):
    """The expression in the last line of a reply, and what it says to be equal to, if anything."""

    expression: str
    equals: str = ""

    @classmethod
    def of(cls, completion: Completion) -> Stated | None:
        """None where the reply has no answer, two of them, or was cut off. What is before a colon is left out."""
        body = final_part(completion.text)
        if not body or completion.cut:
            return None
        left, equals, right = body.splitlines()[-1].rpartition(":")[2].strip("`*$. ").partition("=")
        return cls(left.strip(), right.strip() if equals else "") if right.strip() or not equals else None

    def agrees(self, target: int) -> bool:
        return self.equals in ("", str(target))


def accuracies(completion: Completion, numbers: Sequence[int], target: int) -> dict[str, float]:
    """Both readings of a reply: lenient as :class:`Stated` reads it, strict with nothing but the expression."""
    stated, body = Stated.of(completion), final_part(completion.text) or ""
    right = stated is not None and stated.agrees(target) and solves(stated.expression, numbers, target)
    return {"accuracy": float(right), "accuracy_strict": float(right and solves(body, numbers, target))}


class Faults(NamedTuple):
    """What an expression does with the numbers that were given. ``value`` is None where it has none."""

    illegal: str = ""
    foreign: tuple[int, ...] = ()
    overused: tuple[int, ...] = ()
    unused: tuple[int, ...] = ()
    value: Fraction | None = None


def faults(expression: str, numbers: Sequence[int]) -> Faults:
    """What is wrong with an expression, each number named once."""
    try:
        value, used = evaluate(expression)
    except ValueError as error:
        return Faults(illegal=str(error))
    except ZeroDivisionError:
        value, used = None, _numbers(expression)
    given, found = Counter(numbers), Counter(used)
    return Faults(
        foreign=tuple(x for x in found if x not in given),
        overused=tuple(x for x in found if 0 < given[x] < found[x]),
        unused=tuple(x for x in given if found[x] < given[x]),
        value=value,
    )


def explanation(completion: Completion, numbers: Sequence[int], target: int) -> str:
    """A verifier's words on a reply: what is wrong with its expression, never how to mend it."""
    stated = Stated.of(completion)
    if stated is None:
        return "There is no answer to read: give exactly one expression."
    found = faults(stated.expression, numbers)
    if found.illegal:
        return f"This is no expression of whole numbers, + - * / and parentheses: {found.illegal}."
    said = [
        (found.foreign, "You used {}, which was not given."),
        (found.overused, "You used {} more often than given."),
        (found.unused, "You did not use {} as often as given."),
    ]
    told = [words.format(_listed(some)) for some, words in said if some]
    if found.value is None:
        told.append("It divides by zero.")
    elif found.value != target:
        told.append(f"It equals {found.value}, not {target}.")
    elif not stated.agrees(target):
        told.append(f"It equals {target}, which is not what you say behind the sign =.")
    return " ".join(told) or "That is right."


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(str(x) for x in numbers)


# --- expressions ----------------------------------------------------------------------------------


def written(completion: Completion) -> str | None:
    """The expression of a reply without its white space, None where there is none."""
    return "".join((final_part(completion.text) or "").split()) or None


def solves(text: str, numbers: Sequence[int], target: int) -> bool:
    """Whether the expression uses exactly these numbers, each as often as given, and has the target as its value."""
    try:
        value, used = evaluate(text)
    except (ValueError, ZeroDivisionError):
        return False
    return value == target and sorted(used) == sorted(numbers)


def evaluate(text: str) -> tuple[Fraction, list[int]]:
    """The exact value of an expression of + - * / and parentheses over whole numbers, and the numbers in it.

    Raises ValueError for anything else (there is no sign before a number, no power, no decimal point), and
    ZeroDivisionError. ×, ÷ and − are read as * / -.
    """
    if len(text) > _LONGEST:
        raise ValueError("the expression is too long")
    tokens = _tokens(text.translate(_SIGNS))
    value = _sum(tokens)
    if tokens:
        raise ValueError(f"unexpected {tokens[-1]!r}")
    return value, _numbers(text)


def _numbers(text: str) -> list[int]:
    return [int(token) for token in _tokens(text.translate(_SIGNS)) if token.isdigit()]


def _tokens(text: str) -> list[str]:
    """The tokens in reverse, so that the next one is popped from the end."""
    found, place = [], 0
    text = text.rstrip()
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise ValueError(f"unexpected {text[place]!r}")
        found.append(match.group(1) or match.group(2))
        place = match.end()
    return found[::-1]


def _sum(tokens: list[str]) -> Fraction:
    value = _product(tokens)
    while tokens and tokens[-1] in "+-":
        value = value + _product(tokens) if tokens.pop() == "+" else value - _product(tokens)
    return value


def _product(tokens: list[str]) -> Fraction:
    value = _atom(tokens)
    while tokens and tokens[-1] in "*/":
        value = value * _atom(tokens) if tokens.pop() == "*" else value / _atom(tokens)
    return value


def _atom(tokens: list[str]) -> Fraction:
    token = tokens.pop() if tokens else ""
    if token.isdigit():
        return Fraction(int(token))
    if token != "(":
        raise ValueError(f"expected a number or '(', found {token!r}")
    value = _sum(tokens)
    if not tokens or tokens.pop() != ")":
        raise ValueError("a parenthesis is not closed")
    return value


def _random_expression(numbers: Sequence[int], key: int) -> tuple[int, str]:
    """A random way to combine all numbers: its value and its text. Every intermediate result is a positive integer."""
    parts = [(numbers[i], str(numbers[i])) for i in permutation(key, len(numbers))]
    for step in range(len(numbers) - 1):
        where, choice = uniforms(derive("step", key, step), 2)
        (a, left), (b, right) = parts.pop(int(where * len(parts))), parts.pop()
        if a < b:
            (a, left), (b, right) = (b, right), (a, left)
        options = [(a + b, "+"), (a * b, "*")]
        options += [(a - b, "-")] if a > b else []
        options += [(a // b, "/")] if a % b == 0 else []
        value, sign = options[int(choice * len(options))]
        parts.append((value, f"({left} {sign} {right})"))
    value, text = parts[0]
    return value, text[1:-1]
