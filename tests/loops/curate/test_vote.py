"""Majority vote: who votes, which answers are one, who wins, and what is written of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from quiz import SETTINGS, TABLE, Quiz, curate, drawn, provenance, rows
from quiz import said as reply

from burnish.data.datasets import Dataset
from burnish.errors import InputError
from burnish.loops.curate.vote import Vote, classes, elected, majority, said, vote
from words import write


def test_answers_that_mean_the_same_vote_together() -> None:
    assert classes(["1/2", "7", "0.5", None, "\\frac{1}{2}", "7.0", "Yes", "yes"]) == [0, 1, 0, None, 0, 1, 6, 6]
    assert classes(["1, 2", "2, 1"], "What are the roots?") == [0, 0]
    assert classes(["1, 2", "2, 1"], "Sort these numbers.") == [0, 1]
    assert classes(["so we )( get", "so we )( get", "else )("]) == [0, 0, 2]


@pytest.mark.parametrize(
    ("answers", "winner"),
    [
        (["4", "5", "4.0"], ("4", (0, 2))),
        (["5", "8/2", None, "4"], ("8/2", (1, 3))),
        ([None, "9", None], ("9", (1,))),
        (["4", "5"], None),
        (["4", "5", "5", "4", "6"], None),
        ([None, None], None),
        ([], None),
    ],
)
def test_the_answer_with_more_votes_than_every_other_wins(
    answers: list[str | None], winner: tuple[str, tuple[int, ...]] | None
) -> None:
    assert vote(answers) == winner


def test_a_reply_says_its_answer_where_it_marks_one() -> None:
    assert said(reply("<think>3 or 4</think><answer>4</answer>")) == "4"
    assert said(reply("So the answer is 4.")) == "4"
    assert said(reply("\\boxed{4} and so \\boxed{4.0}")) == "4"
    assert said(reply("\\boxed{4} or \\boxed{5}")) is None, "two answers are none"
    assert said(reply("<answer>4</answer>", finish="length")) is None
    assert said(reply("<answer>4</answer>", finish="repetition")) is None
    assert said(reply("<think>4")) is None
    assert said(reply("it may be 4"), sources=("number",)) == "4"
    assert said(reply("it may be 4"), sources=("boxed",)) is None


def test_completions_elect() -> None:
    assert elected(drawn("a", reply("4"), reply("<answer>8/2</answer>"), reply("5"))) == ("4", (0, 1))
    assert elected(drawn("a", reply("4"), reply("5"))) is None


def test_labels_come_with_a_completion_that_gave_them(tmp_path: Path) -> None:
    """Where "yes" is said more often than "no" the label is right, elsewhere it is wrong: a vote knows no better."""
    table = {**TABLE, "ask": {"yes": 0.7, "no": 0.3}, "tell": {"yes": 0.2, "no": 0.8}}
    model = write(tmp_path / "table", table)
    path = curate(tmp_path / "run", majority, model, Quiz(), cfg=Vote(samples=32, **SETTINGS))
    found = rows(path)
    assert [(row["answer"], row["completion"][0]["content"]) for row in found] == [("yes", "yes"), ("no", "no")]
    assert all(row["share"] == row["votes"] / 32 > 0.5 for row in found)
    assert [example.answer for example in Dataset(path)] == ["yes", "no"]
    record = provenance(path)
    assert record["counts"] == {"prompts": 2, "with a majority": 2, "with a share of at least 0": 2}
    assert record["source"]["labels that agree with a known answer"] == [1, 2]
    share = found[1]["share"]
    fewer = curate(tmp_path / "sure", majority, model, Quiz(), cfg=Vote(samples=32, least=share, **SETTINGS))
    assert [row["share"] >= share for row in rows(fewer)] == [True] * sum(row["share"] >= share for row in found)


def test_settings_are_checked() -> None:
    with pytest.raises(InputError, match="least=2 is no share"):
        Vote(least=2)
    with pytest.raises(InputError, match="unknown source of answers 'box'"):
        Vote(sources=("box",))
