"""Answers of mathematics: does the reply state the right number, expression, list, interval, matrix, equation or word?

The reply's own statement of its answer is read (:mod:`burnish.rewards.answers`) and compared as mathematics
(:mod:`burnish.rewards.notation`); gold answers that need symbolic algebra are compared by math-verify
(:mod:`burnish.rewards.latex`). When in doubt the verdict is "wrong": a false negative costs a sample, a false positive
is learnt. ``docs/rewards/math.md`` lists what is read, what is compared and what is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from burnish.errors import InputError, unknown
from burnish.rewards import latex
from burnish.rewards.answers import SOURCES, answer_text, prompt_text, stated
from burnish.rewards.base import Composable
from burnish.rewards.formula import UnreadableError
from burnish.rewards.notation import Reading, equal, read
from burnish.rewards.units import words_of
from burnish.types import Completion, Example, Reward, outcome

MARKED = ("boxed", "tag", "phrase", "whole")
_ORDER = re.compile(
    r"\b(?:sort(?:ed)?|order(?:ed)?|arranged?|(?:a|de)scending|(?:in|de)creasing|sequence|terms|smallest|largest|rank(?:ed)?)\b",
    re.I,
)
_PERCENT = re.compile(r"%|\bpercent", re.IGNORECASE)


@dataclass(frozen=True)
class Math(Composable):
    """1 where the reply states ``example.answer``, else 0; part "math". A reply cut off at its limit is wrong.

    ``sources`` are the places where an answer may stand, a selection of
    :data:`~burnish.rewards.answers.SOURCES`; :func:`~burnish.rewards.answers.stated` says what each means. By default only
    places count that say "this is my answer"; with "number", the last number of any reply does. Every answer that a reply
    states has to be right, so that naming several gains nothing.

    Neighbour: :class:`~burnish.rewards.accuracy.Accuracy` compares numbers and words exactly where the reply ends, in order
    and without notation; it is the one for arithmetic, counting and sorting. Raises InputError for an unknown source, for an
    example without an answer, and for a gold answer that cannot be read: such a row would never be rewarded.
    """

    unbounded: ClassVar[bool] = True  # where a gold answer needs symbolic algebra

    sources: tuple[str, ...] = MARKED
    domains: ClassVar[frozenset[str] | None] = frozenset({"math"})

    def __post_init__(self) -> None:
        for source in self.sources:
            if source not in SOURCES:
                raise unknown("source of answers", source, SOURCES)
        if not self.sources:
            raise InputError(f"a Math reward without sources reads nothing; name some of {', '.join(SOURCES)}")

    def check(self, example: Example) -> None:
        """Raise InputError for an answer that cannot be read."""
        _Grade.of(example)

    def __call__(self, example: Example, completions: Sequence[Completion], /) -> list[Reward]:
        grade = _Grade.of(example)
        return [outcome(not done.cut and grade(done.text, self.sources), "math") for done in completions]


def equivalent(one: str, other: str, asked: str = "") -> bool:
    """Whether two answers to what was ``asked`` are the same: as mathematics or, where one cannot be read so, as text.

    Neither is known to be right, so nothing is handed to symbolic algebra, whose time has no bound.
    """
    if one.strip().casefold() == other.strip().casefold():
        return True
    known = words_of(asked)
    try:
        first, second = read(one, known), read(other, known)
    except UnreadableError:
        return False
    ordered, percents = bool(_ORDER.search(asked)), bool(_PERCENT.search(asked))
    return equal(first, second, ordered, percents) or equal(second, first, ordered, percents)


@dataclass(frozen=True)
class _Grade:
    """A gold answer, read once for all completions, and what its question says about reading theirs."""

    gold: Reading | latex.Parsed
    known: frozenset[str]
    ordered: bool
    percents: bool

    @classmethod
    def of(cls, example: Example) -> _Grade:
        text, asked = answer_text(example), prompt_text(example)
        try:
            gold = _gold(text)
        except UnreadableError as error:
            raise InputError(
                f"the answer {text[:200]!r} of the prompt {asked[:200]!r} cannot be read as mathematics ({error}); "
                "write it in a plainer form, or take the row out"
            ) from error
        return cls(gold, words_of(asked), bool(_ORDER.search(asked)), bool(_PERCENT.search(asked)))

    def __call__(self, text: str, sources: tuple[str, ...]) -> bool:
        answers = stated(text, sources)
        return bool(answers) and all(self.right(answer) for answer in answers)

    def right(self, answer: str) -> bool:
        """Whether one stated answer is the gold one, with "1,234" as one number or as two."""
        try:
            if isinstance(self.gold, latex.Parsed):
                return latex.same(self.gold, latex.parse(answer))
            return any(
                equal(self.gold, read(answer, self.known, thousands), self.ordered, self.percents)
                for thousands in (True, False)
            )
        except UnreadableError:
            return False


def _gold(text: str) -> Reading | latex.Parsed:
    """The gold answer as we read it, or else, where it has LaTeX commands, as math-verify does.

    Raises UnreadableError where neither can. Without a command in it, what we refuse is ambiguous rather than advanced.
    """
    try:
        return read(text, known=None)
    except UnreadableError:
        if "\\" not in text:
            raise
        return latex.parse(text)
