"""What a set of prompts covers, how hard it is for a model, and whose answers show nothing."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from burnish.engines.decode import LocalSampler
from burnish.engines.local import LocalModel
from burnish.loops.curate.prompt_set import (
    BINS,
    Coverage,
    Difficulty,
    Doubt,
    PromptSet,
    Trying,
    coverage,
    difficulty,
    doubts,
    render,
)
from burnish.rewards.accuracy import Accuracy
from burnish.types import Example, Sampling
from curating import speaker
from judging import asked
from words import ENGINE


def test_coverage_by_column() -> None:
    rows = [asked("a", domain="x"), asked("b", domain="y"), asked("c", domain="x"), asked("d")]
    assert coverage(rows) == Coverage("domain", (("x", 2), ("y", 1), ("(none)", 1)))
    tagged = [asked("a", tags=["x", "y"]), asked("b", tags=["x"])]
    assert coverage(tagged) == Coverage("tags", (("x", 2), ("y", 1)))


def test_coverage_by_likeness() -> None:
    rows = [asked(f"What is the sum of {n} and 3?") for n in (1, 2)] + [asked("Name a colour that is not red.")]
    assert coverage(rows) == Coverage("", (("What is the sum of 1 and 3?", 2), ("Name a colour that is not red.", 1)))


@pytest.mark.parametrize(
    ("text", "answer", "what"),
    [
        ("Which is red?\n(A) blood (B) grass (C) sky", "A", "multiple choice"),
        ("Which is red? A. blood B. grass", "blood", "multiple choice"),
        ("Which letter is meant?", "C", "multiple choice"),
        ("True or false: 2 is odd.", "false", "true or false"),
        ("Is 2 even?", "Yes", "true or false"),
        ("Prove that there is no largest prime.", "it is", "proof"),
        ("Let n be odd. Show that n^2 is odd.", "odd", "proof"),
        ("Why is the sky blue?", " ".join(["word"] * 13), "long answer"),
        ("What is 2 + 2?", None, "not to be graded"),
        ("What is 2 + 2?", " ", "not to be graded"),
    ],
)
def test_what_shows_nothing(text: str, answer: str | None, what: str) -> None:
    ((found),) = doubts([asked("What is 1 + 1?", "2"), asked(text, answer)], Accuracy())
    assert (found.what, found.rows) == (what, (2,)) and found.detail


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("What is 2 + 2?", "4"),
        ("Alice (A) and Bob meet. How old is Bob?", "12"),
        ("The proof of a spirit is twice its percentage. What is the proof at 40%?", "80"),
        ("Show the sum of 3 and 4.", 7),
        ("Vitamin A. is found where?", "carrots"),
    ],
)
def test_what_shows_something(text: str, answer: object) -> None:
    assert doubts([asked(text, answer)], Accuracy()) == ()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LocalModel:
    table = {"sure": {"4": 1.0}, "half": {"4": 0.5, "5": 0.5}, "wrong": {"5": 1.0}, "long": {"long": 1.0}}
    return LocalModel(speaker(tmp_path_factory.mktemp("model"), table), ENGINE)


def tried(model: LocalModel, rows: list[Example], **settings: int) -> Difficulty:
    cfg = Trying(**settings, sampling=Sampling(max_tokens=3))
    return difficulty(LocalSampler(model), model.chat, rows, Accuracy(), cfg, key=0)


def test_pass_rates_are_those_of_the_model(model: LocalModel) -> None:
    """Of 400 tries 3 deviations are .075. A row without an answer is not tried, and a reply without an end is wrong."""
    rows = [asked("sure", "4"), asked("half"), asked("half", "4"), asked("wrong", "4"), asked("long", "4")]
    found = tried(model, rows, samples=400)
    assert list(found.rates) == [1, 3, 4, 5]
    assert found.rates[3] == pytest.approx(0.5, abs=0.075)
    assert (found.rates[1], found.rates[4], found.rates[5], found.cut) == (1, 0, 0, 1 / 4)
    assert found.histogram == dict(zip(BINS, (2, 0, 1, 0, 1), strict=True))
    assert found.rows("never") == [4, 5]


def test_prompts_are_spread_over_the_file(model: LocalModel) -> None:
    rows = [asked("sure", "4")] * 10
    assert list(tried(model, rows, prompts=4, samples=1).rates) == [1, 3, 6, 8]
    assert list(tried(model, rows, prompts=20, samples=1).rates) == list(range(1, 11))
    assert tried(model, [asked("sure")], samples=1) == Difficulty(1, {}, 0.0)


@pytest.mark.parametrize(("rate", "name"), [(0.1, 1), (0.25, 1), (0.3, 2), (0.7, 2), (0.75, 3), (0.9, 3)])
def test_bins(rate: float, name: int) -> None:
    assert Difficulty(20, {1: rate}, 0.0).rows(BINS[name]) == [1]


def test_the_report_says_what_to_drop() -> None:
    console = Console(width=110, file=StringIO(), record=True)
    hard = Difficulty(10, {1: 0.0, 2: 1.0, 3: 0.5}, 0.4)
    flags = (Doubt("proof", tuple(range(1, 9)), "a right last line proves nothing"),)
    console.print(render(PromptSet(Coverage("domain", tuple((f"d{i}", 9 - i) for i in range(7))), flags, hard)))
    text = console.export_text()
    for said in (
        "1 never right (row 1)", "1 always right (row 2)", "40% of the replies were cut off",
        "8 proof (row 1, 2, 3, 4, 5, ...)", "2 others", "d0",
    ):  # fmt: skip
        assert said in text
    console.print(render(PromptSet(Coverage("", (("a", 1), ("b", 1))), (), None)))
    text = console.export_text()
    assert "no two prompts are much alike" in text and "every answer can be checked" in text and "tries" not in text
