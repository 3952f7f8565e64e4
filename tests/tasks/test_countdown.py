"""Countdown: an exact parser that runs nothing, and problems that can be solved."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.errors import InputError
from burnish.tasks.checks import SPLITS
from burnish.tasks.countdown import Countdown, evaluate, solves
from burnish.types import Completion, Example


def completion(text: str, finish: str = "eos") -> Completion:
    return Completion((), text, (), finish)


@pytest.mark.parametrize(
    ("text", "value", "used"),
    [
        ("7", 7, [7]),
        ("1+2*3", 7, [1, 2, 3]),
        ("(1 + 2) * 3", 9, [1, 2, 3]),
        ("8-3-2", 3, [2, 3, 8]),
        ("8/4/2", 1, [2, 4, 8]),
        ("8 - (3 - 2)", 7, [2, 3, 8]),
        ("8 / (3 - 8 / 3)", 24, [3, 3, 8, 8]),
        ("1/3", Fraction(1, 3), [1, 3]),
        ("6 × 4 − 2 ÷ 1", 22, [1, 2, 4, 6]),
    ],
)
def test_evaluate(text: str, value: int | Fraction, used: list[int]) -> None:
    got, numbers = evaluate(text)
    assert got == value
    assert sorted(numbers) == used


@pytest.mark.parametrize(
    "text",
    [
        *["", " ", "1+", "+1", "-1", "(1", "1)", "()", "1 2", "2**3", "2//1", "1.5", "1e3", "x", "1,2", "3!", "(1)(2)"],
        *["__import__('os')", "٣", "²", "1+1;2", "1 = 1", "(" * 5000 + "1" + ")" * 5000, "9" * 5000],
    ],
)
def test_evaluate_refuses(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|unexpected|too long|not closed"):
        evaluate(text)


@given(st.text(alphabet="0123456789+-*/() =", max_size=30))
def test_any_text_gets_a_verdict(text: str) -> None:
    try:
        expected = eval(text)  # the oracle: the alphabet is arithmetic only
    except (SyntaxError, ZeroDivisionError, TypeError, OverflowError, ValueError, MemoryError):
        expected = None
    try:
        value, _ = evaluate(text)
    except (ValueError, ZeroDivisionError):
        return
    assert expected is None or float(value) == pytest.approx(expected)


def test_each_number_exactly_once() -> None:
    assert solves("3 * 8", (8, 3), 24)
    assert not solves("3 * 8", (8, 3, 1), 24)
    assert not solves("3 * 8 * 1", (8, 3), 24)
    assert not solves("24", (8, 3), 24)
    assert not solves("3 * 8", (8, 3), 25)
    assert not solves("8 / (3 - 3)", (8, 3, 3), 24)
    assert solves("2 * 2", (2, 2), 4)
    assert not solves("2 + 2", (2,), 4)


def test_problems_are_solvable_fixed_and_split_without_leaks() -> None:
    forms: dict[str, set[str]] = {}
    for split in SPLITS:
        task = Countdown(split=split, high=9)
        examples = [task[i] for i in range(150)]
        assert examples == [Countdown(split=split, high=9, size=150)[i] for i in range(150)]
        assert {len(e.meta["numbers"]) for e in examples} == {2, 3, 4}
        assert all(solves(e.meta["solution"], e.meta["numbers"], int(e.answer)) for e in examples)
        assert all(1 <= int(e.answer) <= 100 and max(e.meta["numbers"]) <= 9 for e in examples)
        forms[split] = {e.meta["canonical"] for e in examples}
    assert sum(map(len, forms.values())) == len(set.union(*forms.values()))


EXAMPLE = Example(({"role": "user", "content": "Use 3, 8, 1."},), "24", {"numbers": (3, 8, 1)})


@pytest.mark.parametrize(
    ("text", "lenient", "strict"),
    [
        ("3 * 8 * 1", 1, 1),
        ("<think>3 * 9 = 27</think><answer>3*8*1</answer>", 1, 1),
        ("3 * 8 * 1 = 24", 1, 0),
        ("Let me see.\nAnswer: 3 * 8 / 1 = 24.", 1, 0),
        ("3 * 8 * 1 = 25", 0, 0),
        ("24 = 3 * 8 * 1", 0, 0),
        ("3 * 8", 0, 0),
        ("<think>3*8*1</think>", 0, 0),
        ("<answer>3*8*1</answer><answer>3*8*1</answer>", 0, 0),
        ("3 * 8 * 1 = 24 = 24", 0, 0),
        ("", 0, 0),
    ],
)
def test_measure(text: str, lenient: float, strict: float) -> None:
    task = Countdown()
    assert task.measure(EXAMPLE, completion(text)) == {"accuracy": lenient, "accuracy_strict": strict}
    assert task.reward(EXAMPLE, [completion(text), completion(text, "length")]) == [
        ((-1, lenient, "accuracy"),),
        ((-1, 0.0, "accuracy"),),
    ]


@pytest.mark.parametrize("style", ["plain", "think"])
def test_validate(style: str) -> None:
    task = Countdown(style=style)
    assert "disjoint" in task.validate(60)
    assert ("<answer>" in task[0].messages[0]["content"]) == (style == "think")


@pytest.mark.parametrize("settings", [{"fewest": 1}, {"most": 5}, {"fewest": 4, "most": 3}, {"high": 0}, {"target": 0}])
def test_bad_settings(settings: dict[str, int]) -> None:
    with pytest.raises(InputError, match="fewest"):
        Countdown(**settings)  # type: ignore[arg-type]


def test_the_verifier_says_what_is_wrong_and_not_how_to_mend_it() -> None:
    task = Countdown()
    assert task.explain(EXAMPLE, completion("3 * 8")) == "You did not use 1 as often as given."
    assert task.explain(EXAMPLE, completion("3 + 8 + 1")) == "It equals 12, not 24."
    assert task.explain(EXAMPLE, completion("3 * 8 * 1")) == "That is right."
    assert "one expression" in task.explain(EXAMPLE, completion("3 * 8 * 1", "length"))
    example = task[4]
    assert example.meta["solution"] not in task.explain(example, completion("1"))
