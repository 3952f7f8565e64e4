"""24 points: hands that can be solved, both rules, the paper's scale, and words that name what is wrong."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import permutations, product

import pytest

from burnish.errors import InputError
from burnish.tasks.checks import SPLITS
from burnish.tasks.countdown import evaluate, solves
from burnish.tasks.points24 import Points24, solve
from burnish.types import Completion, Example


def said(text: str, finish: str = "eos") -> Completion:
    return Completion((), text, (), finish)


def hand(*numbers: int) -> Example:
    return Example(({"role": "user", "content": "24"},), "24", {"numbers": numbers})


@pytest.mark.parametrize("style", ["plain", "think"])
@pytest.mark.parametrize("task", [Points24(), Points24().with_faces("rank"), Points24(cards=3, target=12, highest=9)])
def test_validate(task: Points24, style: str) -> None:
    assert "disjoint" in replace(task, style=style).validate(100)
    assert "disjoint" in replace(task, scoring="paper").validate(3)


@pytest.mark.parametrize("faces", ["ten", "rank"])
def test_hands_are_dealt_under_the_rule_and_can_be_solved(faces: str) -> None:
    ranks = {"A": 1, "J": 11, "Q": 12, "K": 13} | {str(x): x for x in range(2, 11)}
    for index in range(60):
        example = Points24(faces=faces)[index]
        cards, numbers = example.meta["cards"], example.meta["numbers"]
        assert numbers == tuple(min(ranks[c], 10) if faces == "ten" else ranks[c] for c in cards)
        assert solves(example.meta["solution"], numbers, 24)
        assert " ".join(cards) in example.messages[0]["content"]
        assert ("K = 10" in example.messages[0]["content"]) == (faces == "ten")


def test_no_hand_is_on_both_sides_whatever_the_rule() -> None:
    """A hand that is trained on under one rule is not measured under the other; J 3 8 A is 10 3 8 A under one of them."""
    rules = [(faces, needed) for faces in ("ten", "rank") for needed in (False, True)]
    seen = {
        split: {
            tuple(sorted("10" if card in "JQK" else card for card in task[i].meta["cards"]))
            for faces, needed in rules
            for task in [Points24(split=split, faces=faces, face_needed=needed)]
            for i in range(80)
        }
        for split in SPLITS
    }
    assert not seen["train"] & seen["test"] and not seen["train"] & seen["dev"] and not seen["dev"] & seen["test"]
    for index in range(30):
        example = Points24().with_faces("rank")[index]
        assert set(example.meta["cards"]) & set("JQK") and max(example.meta["numbers"]) > 10


def brute(numbers: tuple[int, ...], target: int) -> bool:
    """Every order, every choice of signs, every way to put parentheses: the five binary trees, by their shapes."""
    shapes = (
        "(({}{}{}){}{}){}{}", "({}{}({}{}{})){}{}", "({}{}{}){}({}{}{})", "{}{}(({}{}{}){}{})", "{}{}({}{}({}{}{}))",
    )  # fmt: skip
    for order, signs, shape in product(sorted(set(permutations(numbers))), product("+-*/", repeat=3), shapes):
        a, b, c, d = order
        x, y, z = signs
        try:
            if evaluate(shape.format(a, x, b, y, c, z, d))[0] == target:
                return True
        except ZeroDivisionError:
            continue
    return False


@pytest.mark.parametrize(
    "numbers",
    [(3, 3, 8, 8), (3, 3, 7, 7), (1, 1, 1, 1), (1, 1, 2, 2), (5, 7, 12, 13), (10, 10, 10, 13), (2, 2, 13, 13)],
)
def test_the_solver_is_exact_and_exhaustive(numbers: tuple[int, ...]) -> None:
    found = solve(numbers, 24)
    assert (found is not None) == brute(numbers, 24)
    assert found is None or solves(found, numbers, 24)


def test_some_hands_cannot_be_solved() -> None:
    assert solve((1, 1, 1, 1), 24) is None and solve((1, 1, 2, 2), 24) is None
    assert solve((3, 3, 7, 7), 24) is not None


def test_fractions_are_exact() -> None:
    assert evaluate("8/(3-8/3)")[0] == Fraction(24)
    assert solve((3, 3, 8, 8), 24, "+-*") is None
    assert Points24().measure(hand(3, 3, 8, 8), said("8/(3-8/3)")) == {"accuracy": 1.0, "accuracy_strict": 1.0}


@pytest.mark.parametrize(
    ("reply", "parts"),
    [
        ("8/(3-8/3)", {"correct": 5}),
        ("Formula: 8/(3-8/3) = 24", {"correct": 5}),
        ("<think>3*8</think><answer>8/(3-8/3)</answer>", {"correct": 5}),
        ("8/(3-8/3", {"partial": 1}),
        ("8+8+3+3", {"incorrect": -1}),
        ("8/(3-8/3) = 25", {"incorrect": -1}),
        ("8/(3-3)*8", {"incorrect": -1}),
        ("(8+8+3+3", {"incorrect": -1}),
        ("3*8", {"unused": -2}),
        ("8/(3-8/3)*1", {"number": -2}),
        ("3+3+3+8+8", {"number": -2}),
        ("24", {"number": -2, "unused": -2}),
        ("3*8*3", {"unused": -2}),
        ("3*8+x", {"illegal": -3}),
        ("3*8)", {"illegal": -3}),
        ("3 8 3 8", {"illegal": -3}),
        ("", {"illegal": -3}),
        ("<think>8/(3-8/3)", {"illegal": -3}),
    ],
)
def test_the_scale_of_the_paper(reply: str, parts: dict[str, int]) -> None:
    task, example = Points24(scoring="paper"), hand(3, 3, 8, 8)
    [reward] = task.reward(example, [said(reply)])
    assert {part.part: part.value for part in reward} == parts
    assert (task.measure(example, said(reply))["accuracy"] == 1) == ("correct" in parts)


def test_what_is_cut_off_is_illegal_and_wrong() -> None:
    task, example = Points24(scoring="paper"), hand(3, 3, 8, 8)
    assert task.reward(example, [said("8/(3-8/3)", "length")]) == [((-1, -3.0, "illegal"),)]
    assert task.measure(example, said("8/(3-8/3)", "length"))["accuracy"] == 0


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ("8/(3-8/3)", "That is right."),
        ("3*8", "You did not use 3, 8 as often as given. "),
        ("7*3+3", "You used 7, which was not given. You did not use 8 as often"),
        ("3+3+3+8+8", "You used 3 more often than given. It equals 25, not 24."),
        ("8+8+3+3", "It equals 22, not 24."),
        ("8/3+8/3", "It equals 16/3, not 24."),
        ("8/(3-3)+8", "It divides by zero."),
        ("8/(3-8/3)=25", "It equals 24, which is not what you say behind the sign ="),
        ("8 3", "This is no expression of whole numbers, + - * / and parentheses: unexpected '3'."),
        ("<answer>1</answer><answer>2</answer>", "There is no answer to read"),
    ],
)
def test_the_verifier_names_what_is_wrong(reply: str, words: str) -> None:
    told = Points24().explain(hand(3, 3, 8, 8), said(reply))
    assert words.strip() in told
    assert "8/(3-8/3)" not in told, "never the solution"


@pytest.mark.parametrize(
    "settings",
    [{"cards": 1}, {"cards": 5}, {"highest": 14}, {"target": 0}, {"face_needed": True, "highest": 9}, {"size": 0}],
)
def test_bad_settings(settings: dict[str, int]) -> None:
    with pytest.raises(InputError, match=r"give 2 to 4 cards|at least 1"):
        Points24(**settings)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="Did you mean 'rank'"):
        Points24(faces="ranks")
