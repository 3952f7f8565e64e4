"""Where the prompts come from, and what the recipe refuses before it loads a model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from burnish import config
from burnish.cli import main
from burnish.core import algorithms
from burnish.core.aggregate import constant, token_mean
from burnish.core.algorithms import GRPO, RLOO, Algorithm
from burnish.core.corrections import TIS
from burnish.core.kl import KL, k2, old
from burnish.core.levels import sequence_mean
from burnish.core.returns import GAE, Return, Whiten
from burnish.core.selection import MixedGroups
from burnish.core.surrogates import Clip
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


@pytest.mark.parametrize("algo", ["grpo", "rloo", "reinforce_pp_baseline"])
def test_a_group_of_one_has_nothing_to_be_compared_with(
    algo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = ["run", "grpo", "--scale", "tiny", "--quiet", "task=sum", f"algo={algo}", "rl.group=1"]
    assert main([*typed, "--out", str(tmp_path / "r")]) == 2
    assert "set rl.group=2 or more, or algo=reinforce" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


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


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("algo.correction={kind: TIS, cap: 3}", replace(GRPO, correction=TIS(3.0))),
        ("algo.select=MixedGroups", replace(GRPO, select=MixedGroups())),
        ("algo.kl={kind: KL, estimator: k2, anchor: old}", replace(GRPO, kl=KL(k2, 0.04, anchor=old))),
        ("algo.kl=none", replace(GRPO, kl=None)),
        ("algo.surrogate.level=sequence_mean", replace(GRPO, surrogate=Clip(0.2, 0.2, level=sequence_mean))),
        ("algo.advantage={kind: GAE, lam: 0.99}", replace(GRPO, advantage=GAE(1.0, 0.99))),
        ("algo.advantage={kind: Whiten, inner: Return}", replace(GRPO, advantage=Whiten(Return()))),
        ("algo.aggregate=token_mean", replace(GRPO, aggregate=token_mean)),
        ("algo.aggregate={kind: constant, length: 512}", replace(GRPO, aggregate=constant(512))),
    ],
)
def test_every_axis_of_an_algorithm_can_be_set(override: str, expected: Algorithm) -> None:
    assert config.apply(catalog.get("grpo").SCALES["tiny"], [override]).algo == expected


def test_a_wrong_name_on_an_axis_has_a_near_one() -> None:
    tiny = catalog.get("grpo").SCALES["tiny"]
    for override, near in {
        "algo.correction=tsi": "TIS",
        "algo.surrogate.level=sequence_men": "sequence_mean",
        "algo.kl.estimator=k4": "k3",
        "algo.kl.anchor=refrence": "reference",
        "algo.aggregate=tokenmean": "token_mean",
        "algo.advantage={kind: GEA}": "GAE",
    }.items():
        with pytest.raises(InputError, match=f"Did you mean '{near}'"):
            config.apply(tiny, [override])


@pytest.mark.parametrize("name", sorted(algorithms.table()))
@pytest.mark.parametrize("before", ["grpo", "ppo", "kimi"])
def test_every_algorithm_is_recorded_and_read_back(name: str, before: str, tmp_path: Path) -> None:
    """Whatever algorithm stood there before: what ``plain`` writes says everything."""
    tiny, algo = catalog.get("grpo").SCALES["tiny"], algorithms.get(name)
    (tmp_path / "c.json").write_text(json.dumps({"algo": config.plain(algo)}))
    assert config.from_yaml(replace(tiny, algo=algorithms.get(before)), tmp_path / "c.json").algo == algo


def test_the_schema_offers_every_value_of_every_axis() -> None:
    schema = config.schema(type(catalog.get("grpo").SCALES["tiny"]))
    kinds = {
        axis: {choice["properties"]["kind"]["const"] for choice in found["anyOf"] if "properties" in choice}
        for axis, found in schema["$defs"].items()
    }
    for algo in algorithms.table().values():
        assert (
            type(algo.advantage).__name__ in kinds["Advantage"] and type(algo.surrogate).__name__ in kinds["Surrogate"]
        )
    assert {"TIS", "IcePop", "SequenceMask"} <= kinds["Correction"] and {"MixedGroups", "Band"} <= kinds["Selection"]


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
