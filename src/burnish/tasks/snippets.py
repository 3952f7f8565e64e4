"""Functions of one line with parameters a (2 to 9), b (1 to 12) and c (a letter), for :mod:`burnish.tasks.coding`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from burnish.core.keys import uniforms

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Snippet:
    """``asks`` says what f returns, ``body`` is the expression, ``mistake`` a wrong one; all may name parameters.

    ``takes`` names the arguments, see :data:`TAKES`.
    """

    takes: str
    asks: str
    body: str
    mistake: str
    difficulty: int = 1

    @property
    def signature(self) -> str:
        return f"f({TAKES[self.takes][0]})"

    def program(self, body: str, parameters: Mapping[str, Any]) -> str:
        """The function that returns ``body``."""
        return f"def {self.signature}:\n    return {body.format(**parameters)}"

    def inputs(self, key: int) -> tuple[Any, ...]:
        """Arguments that follow from ``key``."""
        return TAKES[self.takes][1](key)


def _whole(key: int, count: int, low: int, high: int) -> list[int]:
    return [low + int(u * (high - low + 1)) for u in uniforms(key, count)]


def _numbers(key: int) -> tuple[list[int]]:
    """Up to twelve numbers; half of the lists are short, and some are empty."""
    length, *values = _whole(key, 13, -15, 15)
    return (values[: max(0, length) if length % 2 else 12],)


def _word(key: int) -> tuple[str]:
    """Up to fourteen letters, of which about half are from a few letters that follow from the key."""
    few = _whole(key + 1, 3, 0, 25)
    length, *places = _whole(key, 15, 0, 77)
    letters = [few[place % 3] if place % 2 else place % 26 for place in places]
    return ("".join(_LETTERS[i] for i in letters[: length % 15]),)


TAKES: dict[str, tuple[str, Callable[[int], tuple[Any, ...]]]] = {
    "number": ("x", lambda key: tuple(_whole(key, 1, -40, 40))),
    "count": ("n", lambda key: tuple(_whole(key, 1, 0, 14))),
    "two": ("x, y", lambda key: tuple(_whole(key, 2, -20, 20))),
    "numbers": ("numbers", _numbers),
    "word": ("text", _word),
}
"""``{name: (the arguments of f, what makes them from a key)}``."""

SNIPPETS = {
    "linear": Snippet("number", "{a} times x, plus {b}", "{a} * x + {b}", "{a} * (x + {b})"),
    "remainder": Snippet("number", "the remainder of x divided by {a}", "x % {a}", "x // {a}"),
    "divisible": Snippet("number", "True if x is divisible by {a}, and False if not", "x % {a} == 0", "x % {a} != 0"),
    "at-most": Snippet("number", "x, but {b} where x is greater than {b}", "min(x, {b})", "max(x, {b})"),
    "square": Snippet("number", "the square of x, minus {b}", "x * x - {b}", "2 * x - {b}"),
    "distance": Snippet("number", "the distance between x and {b}, which is never negative", "abs(x - {b})", "x - {b}"),
    "sign": Snippet("number", "{a} if x is greater than {b}, and 0 if not", "{a} if x > {b} else 0",
                    "0 if x > {b} else {a}", 2),
    "multiples": Snippet("count", "the list of the first n multiples of {a}, beginning with {a}",
                         "[{a} * i for i in range(1, n + 1)]", "[{a} * i for i in range(n)]", 2),
    "countdown": Snippet("count", "the list of the numbers from n down to 1, each plus {b}",
                         "[i + {b} for i in range(n, 0, -1)]", "[i + {b} for i in range(n, -1, -1)]", 2),
    "powers": Snippet("count", "{a} to the power of n, plus {b}", "{a} ** n + {b}", "n ** {a} + {b}", 2),
    "weighted": Snippet("two", "{a} times x, minus {b} times y", "{a} * x - {b} * y", "{a} * y - {b} * x"),
    "larger": Snippet("two", "the larger of x and y, plus {b}", "max(x, y) + {b}", "max(x, y + {b})"),
    "between": Snippet("two", "True if x and y differ by at most {b}, and False if not", "abs(x - y) <= {b}",
                       "x - y <= {b}", 2),
    "total": Snippet("numbers", "the sum of the list numbers, plus {b}", "sum(numbers) + {b}", "len(numbers) + {b}"),
    "above": Snippet("numbers", "the list of those numbers that are greater than {b}, in the same order",
                     "[x for x in numbers if x > {b}]", "sorted(x for x in numbers if x > {b})", 2),
    "how-many": Snippet("numbers", "how many of the numbers are less than {b}", "sum(x < {b} for x in numbers)",
                        "sum(x for x in numbers if x < {b})", 2),
    "scaled": Snippet("numbers", "the list of the numbers, each multiplied by {a}", "[{a} * x for x in numbers]",
                      "{a} * numbers", 2),
    "first": Snippet("numbers", "the list of the {a} smallest numbers, the smallest first", "sorted(numbers)[:{a}]",
                     "numbers[:{a}]", 2),
    "multiples-in": Snippet("numbers", "the sum of those numbers that are divisible by {a}",
                            "sum(x for x in numbers if x % {a} == 0)", "sum(x % {a} == 0 for x in numbers)", 3),
    "largest": Snippet("numbers", "{a} times the largest of the numbers, or {b} if the list is empty",
                       "{a} * max(numbers) if numbers else {b}", "{a} * max(numbers, default={b})", 3),
    "repeated": Snippet("word", "the text {a} times in a row", "text * {a}", "[text] * {a}"),
    "around": Snippet("word", "the text with the letter {c} in front of it and behind it", "'{c}' + text + '{c}'",
                      "'{c}' + text"),
    "letters": Snippet("word", "how often the letter {c} occurs in the text", "text.count('{c}')", "text.find('{c}')"),
    "dashes": Snippet("word", "the text with a dash in place of every letter {c}", "text.replace('{c}', '-')",
                      "text.replace('{c}', '')"),
    "backwards": Snippet("word", "the text backwards, followed by the letter {c}", "text[::-1] + '{c}'",
                         "(text + '{c}')[::-1]", 2),
    "long": Snippet("word", "True if the text has more than {b} letters, and False if not", "len(text) > {b}",
                    "len(text) < {b}"),
    "start": Snippet("word", "the first {a} letters of the text, followed by the number of its letters",
                     "text[:{a}] + str(len(text))", "text[:{a}] + str(len(text[:{a}]))", 3),
}  # fmt: skip
"""By kind."""
