"""Where the prompts come from, and what the recipe refuses before it loads a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from burnish import config
from burnish.core.algorithms import RLOO
from burnish.errors import InputError
from burnish.recipes import catalog
from burnish.recipes.grpo import SCALES, tasks
from burnish.tasks.countdown import Countdown
from burnish.tasks.userdata import UserTask

TINY = SCALES["tiny"]


def test_a_named_task_brings_its_own_splits() -> None:
    train, during, test = tasks(replace(TINY, task=Countdown(most=3)), None)
    assert [part.split for part in (train, during, test)] == ["train", "dev", "test"]  # type: ignore[union-attr]
    assert {part.most for part in (train, during, test)} == {3}  # type: ignore[union-attr]


def test_a_file_is_split(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text("".join(f'{{"prompt": "{i}?", "answer": "1"}}\n' for i in range(20)))
    train, during, test = tasks(replace(TINY, data=str(path), heldout=5), None)
    assert isinstance(train, UserTask) and (len(train), len(during or ()), len(test or ())) == (15, 5, 5)
    assert tasks(replace(TINY, data=str(path), heldout=0), None)[1:] == (None, None)


def test_prompts_come_from_one_place() -> None:
    with pytest.raises(InputError, match=r"no prompts to train on: add either data=FILE .* or task=NAME"):
        tasks(TINY, None)
    with pytest.raises(InputError, match="both data and task"):
        tasks(replace(TINY, data="a.jsonl", task=Countdown()), None)
    with pytest.raises(InputError, match="leave it out"):
        tasks(replace(TINY, task=Countdown(), heldout=3), None)


def test_algorithms_and_tasks_are_given_by_name() -> None:
    scales = catalog.get("grpo").SCALES
    settings = config.apply(scales["laptop"], ["algo=rloo", "task=countdown", "task.most=2", "heldout=7"])
    assert (settings.algo, settings.task, settings.heldout) == (RLOO, Countdown(most=2), 7)
    assert config.apply(scales["laptop"], ["heldout=7.jsonl"]).heldout == "7.jsonl"
    with pytest.raises(InputError, match=r"algo: unknown algorithm 'rlo'. Did you mean 'rloo'"):
        config.apply(scales["laptop"], ["algo=rlo"])
    with pytest.raises(InputError, match=r"task: unknown task 'countdwn'. Did you mean 'countdown'"):
        config.apply(scales["laptop"], ["task=countdwn"])
    with pytest.raises(InputError, match="task=5: expected"):
        config.apply(scales["laptop"], ["task=5"])


@pytest.mark.parametrize("name", list(catalog.RECIPES))
def test_every_recipe_has_three_scales_that_can_be_recorded(name: str) -> None:
    recipe = catalog.get(name)
    assert tuple(recipe.SCALES) == ("tiny", "laptop", "paper")
    for settings in recipe.SCALES.values():
        config.plain(settings)
    assert catalog.titles()[name] == (recipe.__doc__ or "").splitlines()[0]


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"unknown recipe 'gropo'. Did you mean 'grpo'"):
        catalog.get("gropo")
