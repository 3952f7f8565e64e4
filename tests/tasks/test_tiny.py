"""The demonstrations have the shares of right answers and of thoughts that their docstring states."""

from __future__ import annotations

import pytest

from burnish.errors import InputError
from burnish.rewards.accuracy import lenient
from burnish.rewards.format import well_formed
from burnish.tasks.arithmetic import Arithmetic, working
from burnish.tasks.tiny import Demonstrations

TASK = Arithmetic(numbers=4, low=0, high=9, style="think")


def test_shares() -> None:
    rows = list(Demonstrations(TASK, size=2000))
    replies = [row.messages[-1]["content"] for row in rows]
    assert all([m["role"] for m in row.messages] == ["user", "assistant"] for row in rows)
    thought = [well_formed(reply) for reply in replies]
    assert sum(thought) / 2000 == pytest.approx(0.5, abs=0.04)
    chance = sum(row.meta["operands"].count(int(row.answer)) / 4 for row in rows) / 2000
    right = [lenient(reply, row.answer) for reply, row in zip(replies, rows, strict=True)]
    assert sum(right) / 2000 == pytest.approx(0.2 + 0.8 * chance, abs=0.04)
    both = sum(a and b for a, b in zip(right, thought, strict=True)) / 2000
    assert both == pytest.approx(sum(right) / 2000 / 2, abs=0.03)  # form and correctness are independent
    for row, reply, form in zip(rows, replies, thought, strict=True):
        steps = working("largest", row.meta["operands"])
        assert not form or reply.startswith(f"<think>{steps}</think><answer>")
        assert form or int(reply) in row.meta["operands"]


def test_rows_are_fixed_and_stay_in_the_split_of_the_task() -> None:
    rows = Demonstrations(TASK, size=50)
    assert list(rows) == [Demonstrations(TASK)[i] for i in range(50)]
    assert rows[0] != Demonstrations(TASK, seed=1)[0]
    test_forms = {example.meta["canonical"] for example in Arithmetic(numbers=4, low=0, high=9, split="test", size=500)}
    assert not test_forms & {row.meta["canonical"] for row in rows}


def test_bad_settings() -> None:
    with pytest.raises(InputError, match="largest"):
        Demonstrations(Arithmetic(kinds=("sum",)))
    with pytest.raises(InputError, match="size"):
        Demonstrations(TASK, size=0)
