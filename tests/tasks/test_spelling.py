"""Spelling: exact letters, whatever case, and nothing in front of them."""

from __future__ import annotations

import pytest

from burnish.errors import InputError
from burnish.tasks.checks import SPLITS
from burnish.tasks.spelling import KINDS, WORDS, Spelling
from burnish.types import Completion, Example


def said(text: str, finish: str = "eos") -> Completion:
    return Completion((), text, (), finish)


def asked(kind: str, answer: str, separator: str = "-") -> Example:
    meta = {"kind": kind, "word": "cat", "separator": separator}
    return Example(({"role": "user", "content": "cat?"},), answer, meta)


@pytest.mark.parametrize("style", ["plain", "think"])
@pytest.mark.parametrize("kind", KINDS)
def test_validate(kind: str, style: str) -> None:
    task = Spelling(kinds=(kind,), style=style)
    assert "disjoint" in task.validate(100)
    assert {task[i].meta["kind"] for i in range(20)} == {kind}
    assert all(task[i].meta["difficulty"] == len(task[i].meta["word"]) for i in range(20))


def test_answers() -> None:
    for index in range(60):
        example = Spelling()[index]
        word, answer, kind = example.meta["word"], example.answer, example.meta["kind"]
        if kind == "spell":
            assert answer.replace(example.meta["separator"], "") == word
        elif kind == "reverse":
            assert answer[::-1] == word
        else:
            assert f"letter '{word[0]}'" not in example.messages[0]["content"] or int(answer) == word.count(word[0])
        assert f"'{word}'" in example.messages[0]["content"]


@pytest.mark.parametrize(
    ("example", "reply", "right"),
    [
        (asked("spell", "c-a-t"), "c-a-t", 1),
        (asked("spell", "c-a-t"), "C-A-T", 1),
        (asked("spell", "c-a-t"), "It is c-a-t.", 1),
        (asked("spell", "c-a-t"), "s-c-a-t", 0),
        (asked("spell", "c-a-t"), "c a t", 0),
        (asked("spell", "c-a-t"), "cat", 0),
        (asked("spell", "c-a-t"), "c-a-t-", 0),
        (asked("spell", "c a t", " "), "c a t", 1),
        (asked("spell", "c a t", " "), "The letters are c a t", 1),
        (asked("spell", "c a t", " "), "s c a t", 0),
        (asked("spell", "c a t", " "), "c a t s", 0),
        (asked("spell", "c a t", " "), "c, a, t", 1),
        (asked("count", "1"), "There is 1", 1),
        (asked("count", "1"), "1 or 2", 0),
        (asked("count", "1"), "١", 0),
        (asked("count", "1"), "11", 0),
        (asked("reverse", "tac"), "tac", 1),
        (asked("reverse", "tac"), "t-a-c", 0),
        (asked("reverse", "tac"), "<think>tac</think>", 0),
        (asked("reverse", "tac"), "tас", 0),
    ],
)
def test_grading(example: Example, reply: str, right: float) -> None:
    assert Spelling().measure(example, said(reply))["accuracy"] == right
    assert Spelling().measure(example, said(reply, "length"))["accuracy"] == 0


def test_no_word_is_in_two_splits_whatever_is_asked() -> None:
    seen = {split: {Spelling(split=split)[i].meta["word"] for i in range(150)} for split in SPLITS}
    assert sum(map(len, seen.values())) == len(set.union(*seen.values()))
    assert len(set(WORDS)) == len(WORDS) and all(word.isascii() and word.islower() for word in WORDS)
    assert all(word != word[::-1] for word in WORDS), "backwards is another word"


def test_difficulty_is_set_by_the_length() -> None:
    short = Spelling(longest=4)
    assert {len(short[i].meta["word"]) for i in range(40)} == {3, 4}
    with pytest.raises(InputError, match="Did you mean 'count'"):
        Spelling(kinds=("counts",))
    for settings in ({"kinds": ()}, {"shortest": 20}):
        with pytest.raises(InputError, match="at least one kind"):
            Spelling(**settings)  # type: ignore[arg-type]
