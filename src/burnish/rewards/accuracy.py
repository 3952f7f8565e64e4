"""Exact answers: does the reply give the right number, list of numbers or word?

What is read is the reply without its thoughts: the text after the last ``</think>``, and inside ``<answer>`` where that
tag is used. Numbers are compared as exact fractions, so "0.50" equals "1/2". When in doubt the verdict is "wrong": a
false negative costs a sample, a false positive is learnt.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction

from burnish.rewards.answers import answer_text, final_part
from burnish.rewards.base import Composable, per_completion
from burnish.types import Completion, Example, Reward, outcome

__all__ = ["Accuracy", "accuracies", "answer_text", "final_part", "given", "lenient", "strict"]

# A sign counts only where no operand stands before it ("10-3" ends with 3, "= -3" with -3). ASCII digits only.
_SIGN = r"(?:(?<![)\]])[-+−])?"
_TAIL = r"(?:\.[0-9]+)?(?:/[0-9]+)?(?![\w/]|\.\d)"
_WHOLE = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)"
_NUMBER = re.compile(rf"(?<![\w./]){_SIGN}(?:{_WHOLE}{_TAIL}|(?=\.[0-9]){_TAIL})")
_LISTED_NUMBER = re.compile(rf"(?<![\w./]){_SIGN}(?:[0-9]+{_TAIL}|(?=\.[0-9]){_TAIL})")
_LONGEST = 100  # characters of a number: beyond it arithmetic on the text of a model would cost without bound
_PUNCTUATION = ".,;:!?\"'`*"
_SEPARATORS = " \t\n,;[]()"


def lenient(text: str, answer: str) -> bool:
    """Whether the reply ends with the answer: with its number, its n numbers, or its n words."""
    body, reading = final_part(text), _reading(answer)
    if body is None:
        return False
    wanted = _items(answer, reading)
    return _items(body, reading)[-len(wanted) :] == wanted and not (reading and _alternative(body, reading))


def given(text: str, answer: str) -> tuple[Fraction | str | None, ...] | None:
    """What the reply has in the place of the answer: as many of its last numbers or words. None where it has too few.

    Replies with which :func:`lenient` agrees or disagrees for the same reason are equal.
    """
    body, reading = final_part(text), _reading(answer)
    size = len(_items(answer, reading))
    found = [] if body is None else _items(body, reading)[-size:]
    return tuple(found) if len(found) == size and not (reading and _alternative(body or "", reading)) else None


def strict(text: str, answer: str) -> bool:
    """Whether the reply, or its ``<answer>``, is the answer and nothing else: numbers by value, words by letter."""
    body, reading = final_part(text), _reading(answer)
    if body is None or reading is None:
        return body == answer.strip()
    return _nothing_else(body, reading) and _items(body, reading) == _items(answer, reading)


@dataclass(frozen=True)
class Accuracy(Composable):
    """1 where the reply gives ``example.answer``, else 0; part "accuracy". A reply cut off at its limit is wrong.

    Neighbour: :class:`~burnish.rewards.math.Math` reads mathematical notation, units, sets and expressions, where a reply
    marks its answer. This one takes the number, the list in its order or the word with which a reply ends.
    """

    strict: bool = False

    @per_completion
    def __call__(self, example: Example, completion: Completion) -> Reward:
        grade = strict if self.strict else lenient
        right = not completion.cut and grade(completion.text, answer_text(example))
        return outcome(right, "accuracy")


def accuracies(example: Example, completion: Completion) -> dict[str, float]:
    """Both readings, for evaluation: ``{"accuracy": lenient, "accuracy_strict": strict}``."""
    answer = answer_text(example)
    whole = not completion.cut
    return {
        "accuracy": float(whole and lenient(completion.text, answer)),
        "accuracy_strict": float(whole and strict(completion.text, answer)),
    }


def _alternative(text: str, pattern: re.Pattern[str]) -> bool:
    """Whether the last number is one of several offered: "92 or 93"."""
    return re.search(rf"\bor\b\W*(?:{pattern.pattern})\W*\Z", text, re.IGNORECASE) is not None


def _reading(answer: str) -> re.Pattern[str] | None:
    """How an answer is compared: as one number, as a list of numbers, or (None) as words.

    "1,234" is one number; a list has a space after each comma, or other signs between its numbers.
    """
    for pattern in (_NUMBER, _LISTED_NUMBER):
        if _nothing_else(answer, pattern) and None not in _items(answer, pattern):
            return pattern
    return None


def _nothing_else(text: str, pattern: re.Pattern[str]) -> bool:
    """Whether the text is one number or, for a list, numbers and separators only."""
    if pattern is _NUMBER:
        return pattern.fullmatch(text.strip()) is not None
    return pattern.search(text) is not None and not pattern.sub("", text).strip(_SEPARATORS)


def _items(text: str, pattern: re.Pattern[str] | None) -> list[Fraction | str | None]:
    """The numbers or words of a text, in order. What looks like a number but is none ("7²", "x7", "1/0") is None.

    Words lose the punctuation around them and their case; a sign that stands alone is a word.
    """
    if pattern is None:
        return [(word.strip(_PUNCTUATION) or word).casefold() for word in text.split()]
    found: list[Fraction | str | None] = []
    for match in re.finditer(rf"({pattern.pattern})|\w+", text):
        if match.group(1) is not None:
            found.append(_value(match.group(1)))
        elif any(unicodedata.category(character) in ("Nd", "Nl", "No") for character in match.group()):
            found.append(None)
    return found


def _value(text: str) -> Fraction | None:
    if len(text) > _LONGEST:
        return None
    top, _, bottom = text.replace(",", "").replace("−", "-").partition("/")
    divisor = Fraction(bottom or 1)
    return Fraction(top) / divisor if divisor else None
