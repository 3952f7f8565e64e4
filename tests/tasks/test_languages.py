"""Questions in several languages: the phrasebook is whole, answers are words, thinking is measured in its own language."""

from __future__ import annotations

import pytest

from burnish.errors import InputError
from burnish.rewards.language import OneLanguage
from burnish.rewards.languages import LANGUAGES as KNOWN
from burnish.tasks.checks import SPLITS
from burnish.tasks.languages import KINDS, Languages
from burnish.tasks.phrasebook import ASKED, LANGUAGES
from burnish.types import Completion, Example


def said(text: str, finish: str = "eos") -> Completion:
    return Completion((), text, (), finish)


@pytest.mark.parametrize("style", ["plain", "think"])
@pytest.mark.parametrize("kind", KINDS)
def test_validate(kind: str, style: str) -> None:
    if kind == "day":  # none of the seven pairs of days is in the split "dev"
        with pytest.raises(InputError, match="found no problem of split 'dev'"):
            Languages(kinds=(kind,), style=style).validate(1)
        return
    assert "disjoint" in Languages(kinds=(kind,), style=style).validate(100)


def test_validate_all() -> None:
    assert "disjoint" in Languages(style="think").validate(100)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_phrasebook_is_whole(language: str) -> None:
    phrases = LANGUAGES[language]
    assert language in KNOWN
    assert (len(phrases.days), len(phrases.months), len(phrases.numbers)) == (7, 12, 12)
    assert len(phrases.opposites) == len(LANGUAGES["en"].opposites)
    for words in (phrases.days, phrases.months, phrases.numbers, [word for pair in phrases.opposites for word in pair]):
        assert len(set(words)) == len(words)
    for sentences in (phrases.asks, phrases.thinks):
        assert tuple(sentences) == ASKED
        assert all("{a}" in sentence for sentence in sentences.values()) and "{b}" in sentences["sum"]
    assert all("{z}" in sentence for sentence in phrases.thinks.values())


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_thinking_of_a_right_reply_is_in_the_language(language: str) -> None:
    task = Languages(languages=(language,), style="think")
    for index in range(60):
        example = task[index]
        assert example.meta["language"] == language
        reply = said(task.gold(example))
        assert task.measure(example, reply) == {"accuracy": 1, "accuracy_strict": 1, "language": 1}
        assert OneLanguage()(example, [reply])[0][0].value == 1, "the reward reads the same column"


def test_thinking_in_another_language_is_measured_and_still_right() -> None:
    task = Languages(languages=("de",), kinds=("day",), style="think")
    example = task[0]
    foreign = f"<think>The day that comes next is {example.answer}.</think><answer>{example.answer}</answer>"
    measured = task.measure(example, said(foreign))
    assert measured["accuracy"] == 1 and measured["language"] < 0.5
    assert task.reward(example, [said(foreign)])[0][0].value == 1
    assert task.measure(example, said(f"<answer>{example.answer}</answer>"))["language"] == 0, (
        "no thinking is in no language"
    )


EXAMPLE = Example(({"role": "user", "content": "?"},), "été", {"language": "fr", "kind": "opposite"})


@pytest.mark.parametrize(
    ("reply", "lenient", "strict"),
    [
        ("été", 1, 1),
        ("Été", 1, 1),
        ("e\u0301te\u0301", 1, 1),
        ("C'est « été ».", 1, 0),
        ("été hiver", 0, 0),
        ("ete", 0, 0),
        ("<think>été</think>", 0, 0),
        ("<answer>été</answer><answer>été</answer>", 0, 0),
        ("", 0, 0),
    ],
)
def test_grading(reply: str, lenient: float, strict: float) -> None:
    measured = Languages().measure(EXAMPLE, said(reply))
    assert (measured["accuracy"], measured["accuracy_strict"]) == (lenient, strict)
    assert Languages().measure(EXAMPLE, said(reply, "length"))["accuracy"] == 0


def test_chinese_needs_no_spaces() -> None:
    example = Example((), "星期二", {"language": "zh"})
    assert Languages().measure(example, said("星期二。"))["accuracy"] == 1
    assert Languages().measure(example, said("星期二星期三"))["accuracy"] == 0


def in_english(example: Example) -> tuple[str, frozenset[int]]:
    """What is asked about, in no language: places in the phrasebook."""
    phrases, kind = LANGUAGES[example.meta["language"]], example.meta["kind"]
    words = {
        "day": list(phrases.days),
        "month": list(phrases.months),
        "sum": list(phrases.numbers),
        "opposite": [word for pair in phrases.opposites for word in pair],
    }[kind]
    given, answer = words.index(example.meta["given"]), words.index(example.answer)
    return kind, frozenset((given, answer - given - 1 if kind == "sum" else answer))


def test_what_is_asked_in_one_language_is_not_held_out_in_another() -> None:
    seen = {}
    for split in SPLITS:
        examples = [Languages(split=split)[i] for i in range(600)]
        seen[split] = {in_english(example) for example in examples}
        assert len({example.meta["language"] for example in examples}) == len(LANGUAGES)
    assert not seen["train"] & seen["test"] and not seen["train"] & seen["dev"] and not seen["dev"] & seen["test"]
    assert {kind for kind, _ in seen["test"]} == set(KINDS)


def test_bad_settings() -> None:
    with pytest.raises(InputError, match="unknown language 'xx'"):
        Languages(languages=("xx",))
    with pytest.raises(InputError, match="Did you mean 'month'"):
        Languages(kinds=("months",))
    with pytest.raises(InputError, match="at least one language"):
        Languages(languages=())
