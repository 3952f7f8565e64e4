"""Rejection sampling: nothing wrong gets through, what is kept is what the filters keep, and the file says how it was made."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from quiz import SETTINGS, SHORT, TABLE, Quiz, Right, curate, group, provenance, rows

from burnish.data.datasets import Dataset
from burnish.errors import InputError
from burnish.loops.curate.base import REHEARSED, Draw, asked
from burnish.loops.curate.filters import READABLE, AtMost, Not
from burnish.loops.curate.rejection import Rejection, Shortest, kept, reject, shortest
from burnish.rewards.base import Composable, per_completion
from burnish.tasks.maze import MazeTask
from burnish.types import PROMPT_IS_TEXT, Completion, Example, Reward, outcome
from words import replies, write


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("quiz") / "table", TABLE)


def test_of_planted_right_and_wrong_replies_only_right_ones_are_kept(model: Path, tmp_path: Path) -> None:
    path = curate(tmp_path / "run", reject, model, Quiz(), cfg=Rejection(samples=24, **SETTINGS))
    found = Dataset(path)
    told = [(str(row.messages[0]["content"]), str(row.messages[1]["content"])) for row in found]
    assert {prompt for prompt, _ in told} == {"ask", "tell"}
    assert len(set(told)) == len(told) == len(rows(path)) > 4, "of the same texts to one prompt one is kept"
    every = {c.text: c for word in Quiz() for _, c in replies(model, word, SHORT.max_tokens)}
    assert any("no" in text for text in every) and any(c.finish == "length" for c in every.values())
    for example, (_, text) in zip(found, told, strict=True):
        verdict = Right()(example, [every[text]])[0][0].value
        assert verdict == 1 and text.endswith("yes") and every[text].finish == "eos", "each is verified again"


def test_the_provenance_counts_every_step(model: Path, tmp_path: Path) -> None:
    cfg = Rejection(samples=24, per_prompt=2, keep=(AtMost(4),), **SETTINGS)
    path = curate(tmp_path / "run", reject, model, Quiz(), reward=Right(), cfg=cfg)
    record = provenance(path)
    counts = record["counts"]
    assert list(counts) == ["drawn", "that end", "right", "different", "AtMost(tokens=4)", "at most 2 to a prompt"]
    assert all(after <= before for before, after in pairwise(counts.values())) and counts["drawn"] == 48
    assert counts["drawn"] > counts["that end"] > counts["right"] > counts["different"]
    assert counts["at most 2 to a prompt"] == len(rows(path)) == 4
    assert record["source"]["model"] == str(model) and record["source"]["reward"] == "Right()"
    assert record["source"]["settings"]["per_prompt"] == 2 and record["stage"] == "s"


def test_the_same_seed_gives_the_same_file_and_another_another(model: Path, tmp_path: Path) -> None:
    cfg = Rejection(samples=8, **SETTINGS)
    texts = [curate(tmp_path / str(i), reject, model, Quiz(), cfg=cfg, seed=i // 2).read_text() for i in range(3)]
    assert texts[0] == texts[1] != texts[2]


def test_of_each_prompt_the_shortest_right_ones(model: Path, tmp_path: Path) -> None:
    path = curate(tmp_path / "run", shortest, model, Quiz(), cfg=Shortest(samples=32, **SETTINGS))
    assert [(row["prompt"][0]["content"], row["completion"][0]["content"]) for row in rows(path)] == [
        ("ask", "yes"), ("tell", "yes")
    ]  # fmt: skip
    cfg = Shortest(samples=32, per_prompt=2, **SETTINGS)
    two = rows(curate(tmp_path / "two", shortest, model, Quiz(("ask",)), cfg=cfg))
    assert [row["completion"][0]["content"] for row in two] == ["yes", "hm yes"]


def test_what_is_kept_is_in_order_and_counted() -> None:
    mixed = "we add 我们 把 这个 数 加 起来 and get yes"
    code = "so\n```python\nprint('yes')\n```\nyes"
    long = "the sum is this and that " * 50
    one = group(
        "a", ("no", 0.0), (mixed, 1.0), (code, 1.0), (long, 1.0), ("it is yes", 1.0), ("it is yes", 1.0), ("yes", 1.0)
    )
    two = group("b", ("it is yes", 1.0), ("half", 0.5))
    right, counts = kept([one, two], Rejection(keep=READABLE))
    assert [(s.example.messages[0]["content"], s.completion.text) for s in right] == [
        ("a", "it is yes"), ("a", "yes"), ("b", "it is yes")
    ]  # fmt: skip
    assert list(counts.values()) == [9, 9, 7, 6, 5, 4, 3]
    assert [s.completion.text for s in kept([one, two], Rejection(threshold=0.5, keep=(Not(AtMost(2)),)))[0]] == [
        mixed, code, long, "it is yes", "it is yes"
    ]  # fmt: skip
    first, _ = kept([one, two], Rejection(per_prompt=1))
    assert [s.completion.text for s in first] == [mixed, "it is yes"]


def test_what_is_known_of_a_prompt_stays_with_it_unless_it_would_make_another_kind_of_data() -> None:
    meta = {"operands": (1, 2), "label": True, "chosen": "x", PROMPT_IS_TEXT: True}
    example = Example(({"role": "user", "content": "1 + 2?"},), "3", meta)
    assert asked(example, completion="3") == {"prompt": "1 + 2?", "answer": "3", "operands": (1, 2), "completion": "3"}


@dataclass(frozen=True)
class Never(Composable):
    """Nothing is ever right."""

    @per_completion
    def __call__(self, example: Example, completion: Completion) -> Reward:  # noqa: ARG002
        return outcome(0.0)


def test_where_nothing_is_right_the_error_says_what_was_left(model: Path, tmp_path: Path) -> None:
    cfg = Rejection(samples=4, **SETTINGS)
    with pytest.raises(
        InputError, match=r"nothing is left to write \(8 drawn, . that end, 0 right, .*draw more samples"
    ):
        curate(tmp_path / "run", reject, model, Quiz(), reward=Never(), cfg=cfg)


def test_a_task_of_several_turns_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="MazeTask is a task of several turns: curation draws single replies"):
        curate(tmp_path / "run", reject, model, MazeTask(), cfg=Rejection(**SETTINGS))


def test_a_dry_run_asks_a_few(tmp_path: Path) -> None:
    words = {f"ask{i}": TABLE["ask"] for i in range(6)}
    many = write(tmp_path / "table", {**words, **TABLE})
    path = curate(
        tmp_path / "run", reject, many, Quiz(tuple(words)), cfg=Rejection(samples=16, **SETTINGS), dry_run=True
    )
    assert len(Counter(row["prompt"][0]["content"] for row in rows(path))) == REHEARSED


def test_sizes_are_checked() -> None:
    for wrong in ({"n": -1}, {"samples": 0}):
        with pytest.raises(ValueError, match="give n >= 0 and samples >= 1"):
            Draw(**wrong)
