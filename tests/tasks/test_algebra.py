"""Small algebra: exact answers, in a form that leaves nothing to do."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import pytest

from burnish.errors import InputError
from burnish.tasks.algebra import KINDS, Algebra, written
from burnish.tasks.checks import SPLITS
from burnish.types import Completion, Example


def said(text: str, finish: str = "eos") -> Completion:
    return Completion((), text, (), finish)


def asked(kind: str, answer: str) -> Example:
    question = "Simplify 3x + 2 + 4x + 1." if kind == "simplify" else "Solve 3x + 2 = 8 for x."
    return Example(({"role": "user", "content": question},), answer, {"kind": kind})


@pytest.mark.parametrize("kind", KINDS)
def test_validate(kind: str) -> None:
    assert "disjoint" in Algebra(kinds=(kind,)).validate(100)
    assert "disjoint" in Algebra(kinds=(kind,), style="think", fractions=True).validate(20)


def test_written() -> None:
    assert written(((3, "x"), (-2, ""))) == "3x - 2"
    assert written(((-1, "x"), (1, "y"), (1, ""))) == "-x + y + 1"


@pytest.mark.parametrize("fractions", [False, True])
def test_solutions_solve(fractions: bool) -> None:
    task = Algebra(kinds=("solve", "both"), fractions=fractions)
    seen = set()
    for index in range(80):
        example = task[index]
        value, letter = Fraction(example.answer), example.meta["letter"]
        left, right = (_value(side, letter, value) for side in example.meta["given"].split(" = "))
        assert left == right
        assert example.meta["difficulty"] == (2 if example.meta["kind"] == "solve" else 3) + (value.denominator > 1)
        seen.add(value.denominator > 1)
    assert seen == ({False, True} if fractions else {False})


def _value(side: str, letter: str, value: Fraction) -> Fraction:
    """By another way than the task's: every term is read on its own."""
    total = Fraction(0)
    for term in side.replace("- ", "-").replace("+ ", "").split():
        number = term.removesuffix(letter)
        factor = {"": 1, "-": -1}.get(number) or int(number)
        total += factor * (value if term.endswith(letter) else 1)
    return total


@pytest.mark.parametrize(
    ("example", "reply", "right"),
    [
        (asked("solve", "2"), "2", 1),
        (asked("solve", "2"), "x = 2", 1),
        (asked("solve", "2"), "So x = 2.", 1),
        (asked("solve", "2"), "The answer is $x = 2$.", 1),
        (asked("solve", "2"), "\\boxed{2}", 1),
        (asked("solve", "2"), "2.0", 1),
        (asked("solve", "2/3"), "\\boxed{\\frac{2}{3}}", 1),
        (asked("solve", "2/3"), "x = 4/6", 1),
        (asked("solve", "-2/3"), "x = -2/3", 1),
        (asked("solve", "2/3"), "0.667", 0),
        (asked("solve", "2"), "(8 - 2) / 3", 0),
        (asked("solve", "2"), "3 * 0 + 2", 0),
        (asked("solve", "2"), "\\boxed{8 - 6}", 0),
        (asked("solve", "2"), "3x + 2 = 8", 0),
        (asked("solve", "2"), "x = 2 or x = 3", 0),
        (asked("solve", "2"), "\\boxed{2} \\boxed{3}", 0),
        (asked("solve", "2"), "٢", 0),
        (asked("solve", "2"), "<think>x = 2</think>", 0),
        (asked("simplify", "7x + 3"), "7x+3", 1),
        (asked("simplify", "7x + 3"), "3 + 7x", 1),
        (asked("simplify", "7x + 3"), "The answer is 7x + 3.", 1),
        (asked("simplify", "7x + 3"), "$7x + 3$", 1),
        (asked("simplify", "7x + 3"), "3x + 2 + 4x + 1", 0),
        (asked("simplify", "7x + 3"), "3x + 4x + 3", 0),
        (asked("simplify", "7x + 3"), "(7x + 3)", 0),
        (asked("simplify", "7x + 3"), "7x + 3x", 0),
        (asked("simplify", "7x + 1"), "7x + 1²", 0),
        (asked("simplify", "7x + 3"), "3x + 7", 0),
    ],
)
def test_grading(example: Example, reply: str, right: float) -> None:
    assert Algebra().measure(example, said(reply))["accuracy"] == right
    assert Algebra().measure(example, said(reply, "length")) == {"accuracy": 0, "accuracy_strict": 0}


def test_a_multiple_of_an_equation_is_the_same_problem() -> None:
    task = Algebra(kinds=("solve",), high=4)
    forms = {task[i].meta["given"].replace(task[i].meta["letter"], "x"): task[i].meta["canonical"] for i in range(200)}
    for form in forms.values():
        coefficients = json.loads(form.removeprefix("solve "))
        assert math.gcd(*coefficients) == 1 and coefficients[0] > 0
    assert len(set(forms.values())) < len(forms)


def test_an_equation_with_its_sides_exchanged_is_the_same_problem() -> None:
    seen = {}
    for split in SPLITS:
        task = Algebra(kinds=("both",), high=2, split=split)
        examples = [task[i] for i in range(150)]
        seen[split] = {frozenset(e.meta["given"].replace(e.meta["letter"], "x").split(" = ")) for e in examples}
    assert not seen["train"] & seen["test"] and not seen["train"] & seen["dev"] and not seen["dev"] & seen["test"]


def test_bad_settings() -> None:
    with pytest.raises(InputError, match="Did you mean 'solve'"):
        Algebra(kinds=("solves",))
    for settings in ({"kinds": ()}, {"high": 1}):
        with pytest.raises(InputError, match="high >= 2"):
            Algebra(**settings)  # type: ignore[arg-type]
