"""What the experiment on success rests on: rows that are tasks, counts that add up, and the rule for what is trainable."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from burnish.loops.evaluation.measures import Item
from burnish.tasks import catalog
from burnish.tasks.environments import Conversation
from burnish.types import Completion, Example
from evidence import base, success
from evidence.success import EXPERIMENT, GAMES, GYM, counted, task_of, trainable


def item(*rights: float, finish: str = "eos") -> Item:
    count = len(rights)
    scores = tuple({"accuracy": right, "graded": 1.0} for right in rights)
    reply = Completion((1, 2, 3, 4), "text", (), finish)
    return Item(Example(({"role": "user", "content": "?"},)), (reply,) * count, scores, (None,) * count)


def test_every_task_and_every_environment_has_a_row_and_twenty_of_reasoning_gym() -> None:
    variants = EXPERIMENT.variants
    assert {*catalog.TASKS} - {*success.FROM_HUB} <= {*variants}
    assert {f"{success.CONVERSED}+{name}" for name in catalog.ENVS} <= {*variants}
    assert len({*GYM}) == 20 and len({*variants}) == len(variants)
    assert success.PROBLEMS * success.GROUP == 64
    assert not any("/" in variant for variant in variants)  # each is the name of a file


def test_a_row_is_its_task() -> None:
    assert task_of("sum") == catalog.get("sum").with_split("test")
    wrapped = task_of("arithmetic+feedback")
    assert isinstance(wrapped, Conversation) and wrapped.task == catalog.get("arithmetic").with_split("test")


@pytest.mark.skipif(importlib.util.find_spec("gymnasium") is None, reason="pip install 'burnish[gymnasium]'")
def test_games_are_short() -> None:
    for name, task in GAMES.items():
        assert task_of(name) == task.with_split("test") and success.GAME < task.max_turns <= 12


@pytest.mark.skipif(importlib.util.find_spec("reasoning_gym") is None, reason="pip install 'burnish[reasoning-gym]'")
def test_every_data_set_gives_problems() -> None:
    for name in GYM:
        assert task_of(f"reasoning-gym.{name}")[0].meta["kind"] == name


def test_counts_are_over_samples_and_a_mixed_group_has_both_kinds() -> None:
    numbers = counted([item(1, 0), item(1, 1), item(0, 0.5, finish="length"), item(0, 0)])
    assert numbers == {
        "measure": "accuracy", "samples": 8, "groups": 4, "successes": 3, "mixed": 1, "length": 4.0, "truncated": 0.25,
    }  # fmt: skip


def test_one_group_in_ten_has_to_be_mixed() -> None:
    assert trainable({"mixed": 1, "groups": 8}) and trainable({"mixed": 1, "groups": 10})
    assert not trainable({"mixed": 0, "groups": 8}) and not trainable({"mixed": 1, "groups": 11})


def test_a_cell_runs_and_its_row_says_what_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(success, "MODEL", "nano")
    cell = base.perform(EXPERIMENT, "largest", 0, tmp_path, smoke=True)
    assert (cell.numbers["samples"], cell.numbers["groups"], cell.numbers["max_tokens"]) == (4, 2, 4)
    report = EXPERIMENT.report(base.load(EXPERIMENT, tmp_path))
    row = next(line for line in report.splitlines() if line.startswith("| `largest`"))
    assert row.count("|") == 7
    assert f"{cell.numbers['mixed']} of 2" in row
