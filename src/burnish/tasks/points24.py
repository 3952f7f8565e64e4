"""24 points, the card game GeneralPoints (arXiv:2501.17161): combine the cards to 24. Exact fractions throughout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations

from burnish.core.keys import derive, permutation, uniforms
from burnish.errors import InputError
from burnish.tasks import checks
from burnish.tasks.countdown import Stated, accuracies, explanation, faults, near_expressions, written
from burnish.tasks.problems import Problems, evasions
from burnish.types import Completion, Example, Reward, outcome

SHOWN = ("A", *(str(x) for x in range(2, 11)), "J", "Q", "K")
"""The ranks 1 .. 13, as cards show them."""
RULES = {"ten": "A = 1, J = Q = K = 10", "rank": "A = 1, J = 11, Q = 12, K = 13"}
SCORINGS = ("accuracy", "paper")
_FIRST_FACE, _LAST_FACE = 11, 13
Part = tuple[int, int, str]
"""Numerator, denominator and text of a partial result. Not reduced: that would take most of the time."""


@dataclass(frozen=True)
class Points24(Problems):
    """``cards`` cards up to rank ``highest``, each to be used exactly once with + - * / ( ), to reach ``target``.

    ``faces`` is the rule for J, Q, K: all "ten", or their "rank" 11, 12, 13. Both rules show the same cards, so that a policy
    trained under one is measured under the other: :meth:`with_faces`. ``face_needed`` deals at least one of them. Every hand
    can be solved. ``meta``: kind, difficulty (cards, plus 1 where it cannot be done without a division), canonical, cards,
    numbers, solution. The split is decided by the sorted hand with all faces as tens: no hand is trained on and held out,
    whatever the rule and the target.

    ``scoring`` "accuracy" pays 1 or 0, "paper" what :meth:`paper` says.
    """

    cards: int = 4
    target: int = 24
    faces: str = "ten"
    highest: int = 13
    face_needed: bool = False
    scoring: str = "accuracy"

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.check_choice("rule for face cards", self.faces, tuple(RULES))
        checks.check_choice("scoring", self.scoring, SCORINGS)
        lowest = _FIRST_FACE if self.face_needed else 1
        if not 2 <= self.cards <= 4 or not lowest <= self.highest <= _LAST_FACE or self.target < 1:
            raise InputError(
                f"{self}: give 2 to 4 cards, {lowest} <= highest <= {_LAST_FACE} and a target of at least 1"
            )

    def with_faces(self, faces: str) -> Points24:
        """The same game under another rule, always with a face card: without one the rules do not differ."""
        return replace(self, faces=faces, face_needed=True)

    def draw(self, key: int) -> Example | None:
        draws = uniforms(key, self.cards)
        ranks = [1 + int(u * self.highest) for u in draws]
        if self.face_needed:
            ranks[-1] = _FIRST_FACE + int(draws[-1] * (self.highest - _FIRST_FACE + 1))
        ranks = [ranks[i] for i in permutation(derive("shuffle", key), self.cards)]
        numbers = tuple(self._number(rank) for rank in ranks)
        hand = tuple(sorted(numbers))
        easy = solve(hand, self.target, "+-*")
        solution = easy or solve(hand, self.target, "+-*/")
        return None if solution is None else self._example(ranks, numbers, solution, self.cards + (easy is None))

    def _number(self, rank: int) -> int:
        return min(rank, 10) if self.faces == "ten" else rank

    def _example(self, ranks: Sequence[int], numbers: tuple[int, ...], solution: str, difficulty: int) -> Example:
        shown = tuple(SHOWN[rank - 1] for rank in ranks)
        canonical = " ".join(str(x) for x in sorted(min(rank, 10) for rank in ranks))
        meta = {"kind": "points24", "difficulty": difficulty, "canonical": canonical}
        meta |= {"cards": shown, "numbers": numbers, "solution": solution}
        question = (
            f"Cards: {' '.join(shown)} ({RULES[self.faces]}). Use each card once and + - * / ( ) to make {self.target}."
        )
        return self.asked(question, "Reply with the expression in numbers only.", str(self.target), meta)

    def reward(self, example: Example, completions: Sequence[Completion]) -> list[Reward]:
        """Lenient accuracy, or the scale of the paper."""
        if self.scoring == "paper":
            return [self.paper(example, done) for done in completions]
        return super().reward(example, completions)

    def paper(self, example: Example, completion: Completion) -> Reward:
        """The scale of the paper, as its code applies it; the part says what was seen.

        "correct" 5: it reaches the target with every card once. "partial" 1: it would, if its last parentheses were closed.
        "incorrect" -1: every card once, another value (or a false statement behind "="). "number" -2: a number that is no
        card, or one used too often. "unused" -2, added to it: a card that is left. "illegal" -3: no expression, no answer, or
        a reply that was cut off; nothing else is counted then.
        """
        stated = Stated.of(completion)
        if stated is None:
            return outcome(-3.0, "illegal")
        open_ = max(0, stated.expression.count("(") - stated.expression.count(")"))
        found = faults(stated.expression + ")" * open_, example.meta["numbers"])
        if found.illegal:
            return outcome(-3.0, "illegal")
        wrong = outcome(-2.0, "number") * bool(found.foreign or found.overused)
        wrong += outcome(-2.0, "unused") * bool(found.unused)
        if wrong:
            return wrong
        if found.value != self.target or not stated.agrees(self.target):
            return outcome(-1.0, "incorrect")
        return outcome(1.0, "partial") if open_ else outcome(5.0, "correct")

    def measure(self, example: Example, completion: Completion) -> dict[str, float]:
        """Strict: the reply is a right expression. Lenient: also with "words:" before it or "= target" after it."""
        return accuracies(completion, example.meta["numbers"], self.target)

    def said(self, example: Example, completion: Completion) -> str | None:  # noqa: ARG002 - of no use here
        """The expression, for votes: of the right ones each is another answer."""
        return written(completion)

    def explain(self, example: Example, completion: Completion) -> str:
        """What is wrong with the expression: cards that are missing or used too often, the value it has."""
        return explanation(completion, example.meta["numbers"], self.target)

    def gold(self, example: Example) -> str:
        """The expression that the solver found."""
        return self.reply(example.meta["solution"])

    def near_misses(self, example: Example) -> tuple[str, ...]:
        """Wrong expressions: a number too many, twice, joined or missing, the target itself, other syntax, the cards' names."""
        solution, numbers = example.meta["solution"], example.meta["numbers"]
        wrong = (*near_expressions(solution, numbers, self.target), " + ".join(example.meta["cards"]) + " - 99")
        return (*(self.reply(text) for text in wrong), *evasions(solution))

    def validate(self, count: int = 100) -> str:
        """See :func:`burnish.tasks.checks.validate`: of the accuracy, with which the paper's scale agrees on what is right."""
        return checks.validate(replace(self, scoring="accuracy"), count)


@cache
def solve(numbers: tuple[int, ...], target: int, signs: str = "+-*/") -> str | None:
    """An expression of all ``numbers`` with the value ``target``; None where there is none. All ways are tried, exactly."""
    text = _search(tuple((x, 1, str(x)) for x in numbers), target, signs)
    return text[1:-1] if text is not None and text.startswith("(") else text


def _search(parts: tuple[Part, ...], target: int, signs: str) -> str | None:
    if len(parts) == 1:
        value, divisor, text = parts[0]
        return text if value == target * divisor else None
    for i, j in combinations(range(len(parts)), 2):
        rest = tuple(part for k, part in enumerate(parts) if k not in (i, j))
        for joined in _joined(parts[i], parts[j], signs):
            found = _search((*rest, joined), target, signs)
            if found is not None:
                return found
    return None


def _joined(one: Part, other: Part, signs: str) -> Iterator[Part]:
    """All values that two parts give together."""
    (a, b, left), (c, d, right) = one, other
    yield a * d + c * b, b * d, f"({left} + {right})"
    yield a * c, b * d, f"({left} * {right})"
    yield a * d - c * b, b * d, f"({left} - {right})"
    yield c * b - a * d, b * d, f"({right} - {left})"
    if "/" in signs and c:
        yield a * d, b * c, f"({left} / {right})"
    if "/" in signs and a:
        yield c * b, d * a, f"({right} / {left})"
