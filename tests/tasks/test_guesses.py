"""Guesses: whole conversations in the form of their environment, the same for ever, right as seldom as they are meant to be."""

from __future__ import annotations

from collections import Counter

import pytest

from burnish.errors import InputError
from burnish.tasks.arithmetic import Arithmetic
from burnish.tasks.environments import reply
from burnish.tasks.feedback import AGAIN, Feedback
from burnish.tasks.guesses import CardGuesses, ProgramGuesses
from burnish.tasks.points24 import Points24
from burnish.tasks.python_tool import PythonTool

CARDS = Points24(cards=3, target=6, highest=6)


def test_cards_are_tried_with_signs_by_chance_until_they_are_right_or_the_attempts_are_used_up() -> None:
    rows = CardGuesses(Feedback(3)(CARDS), size=200)
    successes, signs = 0, Counter[str]()
    for row in rows:
        question, *said = row.messages
        tried = [message["content"] for message in said[::2]]
        assert question["content"].startswith("Cards: ")
        assert [message["role"] for message in said] == ["assistant", *["user", "assistant"] * (len(tried) - 1)]
        assert all(message["content"].endswith(AGAIN) for message in said[1::2])
        right = [CARDS.measure(row, reply(text))["accuracy"] for text in tried]
        assert not any(right[:-1]) and (right[-1] or len(tried) == 3)
        successes += int(right[-1])
        for text in tried:
            numbers = tuple(int(word) for word in text.split()[::2])
            assert numbers == row.meta["numbers"]
            signs.update(text.split()[1::2])
    assert 0.04 < successes / 200 < 0.2
    assert set(signs) == set("+-*/") and max(signs.values()) < 1.3 * min(signs.values())
    assert rows[7] == CardGuesses(Feedback(3)(CARDS))[7] != rows[8]
    sums = CardGuesses(Feedback(1)(CARDS), size=9, signs="+")
    assert all(row.messages[1]["content"].count(" + ") == 2 for row in sums)


@pytest.mark.needs_sandbox
def test_a_product_is_guessed_or_the_tool_is_asked_for_it() -> None:
    task = PythonTool(calls=1, tell=False)(Arithmetic(kinds=("product",), numbers=2, low=32, high=99))
    called = 0
    for row in ProgramGuesses(task, size=60, called=0.4):
        said = [message["content"] for message in row.messages[1:]]
        if len(said) == 1:
            assert said[0] in map(str, row.meta["operands"])
            continue
        called += 1
        assert said == [said[0], row.answer, row.answer] and task.partner.call(said[0]) is not None
    assert 15 <= called <= 33


def test_sizes() -> None:
    with pytest.raises(InputError, match="size of at least 1"):
        CardGuesses(Feedback()(CARDS), size=0)
    with pytest.raises(IndexError):
        CardGuesses(Feedback()(CARDS), size=3)[3]
