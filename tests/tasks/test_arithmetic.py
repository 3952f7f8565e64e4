"""Arithmetic: right answers, a fixed example for each index, splits without leaks."""

from __future__ import annotations

import math

import pytest

from burnish.errors import InputError
from burnish.tasks.arithmetic import KINDS, Arithmetic, plain_question, solve, working
from burnish.tasks.checks import SPLITS
from burnish.types import Completion, Example, Task


def completion(text: str, finish: str = "eos") -> Completion:
    return Completion((), text, (), finish)


def test_answers() -> None:
    assert [solve(kind, (12, 7)) for kind in KINDS] == ["12", "19", "84", "7, 12", "yes"]
    assert solve("compare", (7, 7)) == solve("compare", (7, 12)) == "no"
    assert working("largest", (3, 1, 4, 1)) == "3 3 4 4"
    assert working("sum", (3, 1, 4)) == "3 4 8"
    assert working("product", (3, 2, 4)) == "3 6 24"


def test_prompts() -> None:
    assert plain_question("largest", (12, 7, 93)) == "Which number is largest: 12, 7 or 93?"
    assert plain_question("sum", (1, 2)) == "What is 1 + 2?"
    for kind in KINDS:
        prompts = {
            style: Arithmetic(kinds=(kind,), numbers=4, high=9, style=style)[0].messages[0]["content"]
            for style in ("plain", "think")
        }
        assert prompts["plain"].endswith((" only.", " only, separated by commas."))
        assert prompts["think"].endswith("Use <think></think><answer></answer>.") and len(prompts["think"]) < 70


def test_an_example_depends_on_seed_split_and_index_only() -> None:
    task = Arithmetic(kinds=KINDS, size=20)
    assert [task[i] for i in range(20)] == list(Arithmetic(kinds=KINDS, size=5000)[i] for i in range(20))  # noqa: C400
    assert task[3] == Example(
        ({"role": "user", "content": "What is 19 * 67 * 59? Reply with the number only."},),
        "75107",
        {"kind": "product", "difficulty": 6, "canonical": "19 59 67", "operands": (19, 67, 59)},
    )
    assert Arithmetic(seed=1)[3] != Arithmetic(seed=0)[3]
    assert len(list(task)) == 20  # iteration ends
    with pytest.raises(IndexError):
        task[-1]


@pytest.mark.parametrize("kind", KINDS)
def test_range_kinds_and_splits(kind: str) -> None:
    task = Arithmetic(kinds=(kind,), numbers=2, low=0, high=9, size=200)
    forms: dict[str, set[str]] = {}
    for split in SPLITS:
        examples = [task.with_split(split)[i] for i in range(200)]
        forms[split] = {e.meta["canonical"] for e in examples}
        assert all(0 <= x <= 9 for e in examples for x in e.meta["operands"])
        assert all(e.meta["canonical"] == " ".join(map(str, sorted(e.meta["operands"]))) for e in examples)
    assert all(forms.values())
    assert sum(map(len, forms.values())) == len(set.union(*forms.values())) > 50  # of 55: disjoint
    assert isinstance(task.with_split("test"), Arithmetic)


def test_reward_and_measure() -> None:
    task: Task = Arithmetic()
    example = task[0]
    chatty = completion(f"It is {example.answer}.")
    rewards = task.reward(
        example, [completion(example.answer), chatty, completion("0"), completion(example.answer, "length")]
    )
    assert [(r[0].value, r[0].part) for r in rewards] == [(v, "accuracy") for v in (1.0, 1.0, 0.0, 0.0)]
    assert Arithmetic().measure(example, chatty) == {"accuracy": 1.0, "accuracy_strict": 0.0}


@pytest.mark.parametrize("style", ["plain", "think"])
def test_validate(style: str) -> None:
    report = Arithmetic(kinds=KINDS, low=0, style=style).validate(60)
    assert "disjoint" in report


def test_validate_notices_a_wrong_grader() -> None:
    class Generous(Arithmetic):
        def measure(self, example: Example, completion: Completion) -> dict[str, float]:  # noqa: ARG002
            return {"accuracy": 1.0, "accuracy_strict": 1.0}

    with pytest.raises(AssertionError, match="instead of 0"):
        Generous().validate(3)


def test_validate_notices_a_leak() -> None:
    class Leaky(Arithmetic):
        def with_split(self, split: str) -> Leaky:  # noqa: ARG002
            return self

    with pytest.raises(AssertionError, match="share problems"):
        Leaky().validate(3)


def test_difficulty_grows_with_range_and_count() -> None:
    def mean(task: Arithmetic) -> float:
        return math.fsum(task[i].meta["difficulty"] for i in range(50)) / 50

    assert mean(Arithmetic(high=9)) < mean(Arithmetic(high=99)) < mean(Arithmetic(high=99, numbers=5))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kinds": ("larges",)}, "Did you mean 'largest'"),
        ({"split": "tests"}, "Did you mean 'test'"),
        ({"style": "cot"}, "unknown style"),
        ({"kinds": ()}, "at least one kind"),
        ({"numbers": 1}, "numbers >= 2"),
        ({"low": 9, "high": 3}, "low <= high"),
        ({"size": 0}, "size of at least 1"),
    ],
)
def test_bad_settings(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Arithmetic(**settings)  # type: ignore[arg-type]


def test_an_empty_split_is_an_error_not_a_hang() -> None:
    task = Arithmetic(numbers=2, low=1, high=1)
    held = [split for split in SPLITS if split != _split_of_the_only_problem(task)]
    with pytest.raises(InputError, match="widen its range"):
        task.with_split(held[0])[0]


def _split_of_the_only_problem(task: Arithmetic) -> str:
    for split in SPLITS:
        try:
            task.with_split(split)[0]
        except InputError:
            continue
        return split
    raise AssertionError("the only problem is in no split")
