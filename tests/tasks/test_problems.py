"""What tasks that draw from keys share: fixed examples, splits without leaks, an error where a split is empty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from burnish.core.keys import uniforms
from burnish.errors import InputError
from burnish.rewards.accuracy import accuracies, final_part
from burnish.tasks.checks import SPLITS, split_of
from burnish.tasks.problems import Problems, evasions
from burnish.types import Completion, Example, Reward


@dataclass(frozen=True)
class Double(Problems):
    high: int = 99

    def draw(self, key: int) -> Example | None:
        x = int(uniforms(key, 1)[0] * (self.high + 1))
        return (
            None
            if x % 7 == 0
            else self.asked(f"2 * {x}?", "A number.", str(2 * x), {"canonical": str(x), "kind": "double"})
        )

    def gold(self, example: Example) -> str:
        return self.reply(example.answer, "thoughts")

    def near_misses(self, example: Example) -> tuple[str, ...]:
        return (self.reply(f"{example.answer}0"), *evasions(example.answer))

    def measure(self, example: Example, completion: Completion) -> dict[str, float]:
        return accuracies(example, completion)


def test_examples_are_fixed_and_in_their_split() -> None:
    for split in SPLITS:
        task = Double(split=split, size=40)
        assert [task[i] for i in range(40)] == [Double(split=split, size=90)[i] for i in range(40)]
        assert all(split_of(task[i].meta["canonical"]) == split for i in range(40))
        assert all(int(task[i].meta["canonical"]) % 7 for i in range(40)), "what is no problem is drawn again"
    assert [Double(seed=1)[i] for i in range(9)] != [Double()[i] for i in range(9)]
    assert len(Double(size=3)) == len(list(Double(size=3))) == 3
    with pytest.raises(IndexError):
        Double(size=3)[3]


def test_styles_ask_and_reply() -> None:
    plain, think = Double()[0], Double(style="think")[0]
    assert plain.messages[0]["content"].endswith("? A number.") and Double().gold(plain) == plain.answer
    assert think.messages[0]["content"].endswith("Use <think></think><answer></answer>.")
    assert Double(style="think").gold(think) == f"<think>thoughts</think><answer>{think.answer}</answer>"
    assert "disjoint" in Double(style="think").validate(30)


def test_an_evasion_has_no_final_part() -> None:
    assert [final_part(text) for text in evasions("7")] == ["", "", None, None, None]


def test_what_cannot_be() -> None:
    with pytest.raises(InputError, match="found no problem of split"):
        Double(high=0)[0]  # the only number is no problem
    with pytest.raises(InputError, match="Did you mean 'test'"):
        Double(split="tests")
    with pytest.raises(InputError, match="unknown style"):
        Double(style="cot")
    with pytest.raises(InputError, match="size of at least 1"):
        Double(size=0)


def test_validate_holds_accuracies_against_the_reward_and_leaves_other_measures_alone() -> None:
    class Measured(Double):
        def measure(self, example: Example, completion: Completion) -> dict[str, float]:
            return {**super().measure(example, completion), "language": 0.3}

    class Disagreeing(Measured):
        def measure(self, example: Example, completion: Completion) -> dict[str, float]:
            return {**super().measure(example, completion), "accuracy": 1.0}

        def reward(self, example: Example, completions: Sequence[Completion]) -> list[Reward]:
            return Double().reward(example, completions)

    assert "disjoint" in Measured().validate(5)
    with pytest.raises(AssertionError, match="instead of 0"):
        Disagreeing().validate(5)
