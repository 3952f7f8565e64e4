"""`burnish list` and `explain` say what there is."""

from __future__ import annotations

import json
import re
from dataclasses import fields

import pytest

from burnish.cli import curate, main, names
from burnish.core import algorithms, online, orders, preference, reward_models
from burnish.loops.judges import FORMS
from burnish.recipes.catalog import RECIPES
from burnish.rewards import catalog as rewards
from burnish.rewards.catalog import REWARDS
from burnish.tasks.catalog import TASKS
from burnish.types import needs_of

TABLES = {
    "algorithms": algorithms.table(),
    "online_methods": online.table(),
    "preference_losses": preference.table(),
    "reward_model_losses": reward_models.table(),
}
Captured = pytest.CaptureFixture[str]


def printed(capsys: Captured, *arguments: str) -> str:
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert not err
    return str(out)


def test_lists_are_aligned_and_nothing_is_cut(capsys: Captured) -> None:
    text = printed(capsys, "list")
    assert "..." not in text and max(map(len, text.splitlines())) <= 112
    titles = [
        line for line in text.partition("algorithms  (")[2].partition("\n\n")[0].splitlines()[1:] if line[2] != " "
    ]
    assert len({line.index(line.split(maxsplit=1)[1], 3) for line in titles}) == 1


def test_list_names_everything(capsys: Captured) -> None:
    text = printed(capsys, "list")
    for name in (*RECIPES, *algorithms.table(), *REWARDS, *FORMS, *TASKS, "nano", "smollm2-135m"):
        assert name in text
    found = json.loads(printed(capsys, "list", "--json"))
    assert found["recipes"].keys() == RECIPES.keys() and found["rewards"].keys() == REWARDS.keys()
    assert found["judges"].keys() == FORMS.keys()
    for kind, table in TABLES.items():
        assert list(found[kind]) == list(table), "in the order of the file"
        assert all(name in text for name in table)


@pytest.mark.parametrize("name", sorted(algorithms.table()))
def test_an_algorithm_has_its_equation_its_axes_and_its_numbers(name: str, capsys: Captured) -> None:
    text = printed(capsys, "explain", name)
    assert algorithms.notes()[name].replace("``", "") in text and "``" not in text
    assert type(algorithms.get(name).advantage).__name__ in text
    assert "<function" not in text and " object at " not in text
    algo = algorithms.get(name)
    networks = 1 + algo.needs_reference + algo.needs_critic
    assert f"networks     {networks}: the policy" in text
    assert ("frozen reference" in text, "critic that learns" in text) == (algo.needs_reference, algo.needs_critic)
    assert ("decoded greedily" in text, "for each step" in text) == (algo.needs_greedy, name == "grpo_process")
    alone = {"trpo", "reinforce", "remax", "reinforce_pp", "a2c", "ppo", "ppo_ptx", "vapo", "apa"}
    assert ("one or more of each prompt" in text) is (name in alone)
    assert max(map(len, text.partition("--- the recipe")[0].splitlines())) <= 128


@pytest.mark.parametrize("name", sorted(preference.table()))
def test_a_preference_loss_has_its_equation_its_parts_and_what_it_needs(name: str, capsys: Captured) -> None:
    text, loss = printed(capsys, "explain", name), preference.get(name)
    assert preference.notes()[name].replace("``", "") in text and "<function" not in text and " object at " not in text
    assert re.search(rf"^  link +{type(loss.link).__name__}\(", text, re.MULTILINE) and "push on" in text
    assert ("frozen reference" in text) == loss.needs.reference
    assert ("one more forward pass" in text) == loss.needs.statistics
    assert ("an answer to another one" in text) == loss.needs.mismatched
    assert (f"burnish run kto loss={name} " in text) == (name in ("kto", "bco", "aot_unpaired"))
    assert ("give every answer" in text) == (name in ("rpo", "rpo_forward", "rpo_squared", "odpo"))


@pytest.mark.parametrize("name", sorted(reward_models.table()))
def test_a_reward_model_loss_has_its_equation_and_its_head(name: str, capsys: Captured) -> None:
    text = printed(capsys, "explain", name)
    assert (
        reward_models.notes()[name].replace("``", "") in text and "<function" not in text and " object at " not in text
    )
    (head,) = needs_of(reward_models.get(name)).heads.items()
    assert f"{head[0]}: {head[1].out} number" in text and "frozen reference" not in text
    assert (f"burnish run process-reward-model loss={name} " in text) == (head[0] == "step")


@pytest.mark.parametrize("name", sorted(online.table()))
def test_an_online_method_has_its_equation_and_what_it_needs(name: str, capsys: Captured) -> None:
    text, method = printed(capsys, "explain", name), online.get(name)
    assert online.notes()[name].replace("``", "") in text and "<function" not in text
    assert ("of a rival" in text) == (method.rival is not None)
    assert ("frozen reference" in text, "a teacher" in text) == (method.needs_reference, method.needs_teacher)
    assert max(map(len, text.splitlines())) <= 132


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_has_its_docstring_and_its_scales(name: str, capsys: Captured) -> None:
    text = printed(capsys, "explain", name)
    assert "settings that differ between scales" in text
    assert ("smollm2-135m" in text) == (name not in ("maze", "maze-rl", "gridworld")), "a maze is no place for it"
    assert "``" not in text and ":mod:" not in text


@pytest.mark.parametrize("name", sorted(REWARDS))
def test_a_reward_has_its_docstring_and_its_settings(name: str, capsys: Captured) -> None:
    text = printed(capsys, "explain", name)
    cls = rewards.get(name)
    assert (cls.__doc__ or "").replace("``", "").splitlines()[0] in text
    assert all(re.search(rf"^  {field.name} +\S", text, re.MULTILINE) for field in fields(cls))  # type: ignore[arg-type]
    assert f"in Python: {cls.__module__}.{cls.__name__}" in text


@pytest.mark.parametrize("name", sorted(FORMS))
def test_a_judge_has_its_docstring_and_an_example(name: str, capsys: Captured) -> None:
    text = printed(capsys, "explain", name)
    kind, _ = FORMS[name]
    assert (kind.__doc__ or "").replace("``", "").splitlines()[0] in text
    assert f'{name}(model="DIR")' in text and "``" not in text


def test_a_reward_that_needs_settings_says_how_they_are_given(capsys: Captured) -> None:
    assert 'burnish run grpo reward="overlong(limit=..., buffer=...)" ...' in printed(capsys, "explain", "overlong")
    assert "burnish run grpo reward=accuracy ..." in printed(capsys, "explain", "accuracy")


@pytest.mark.parametrize("name", ["grpo", "ppo"])
def test_a_name_of_two_kinds_is_explained_twice(name: str, capsys: Captured) -> None:
    text = printed(capsys, "explain", name)
    assert text.index(f"--- the algorithm {name} ---") < text.index(f"--- the recipe {name} ---")
    assert f"Use it: burnish run {name} algo={name}" in text


@pytest.mark.parametrize("name", sorted(algorithms.table()))
def test_an_algorithm_is_sent_to_the_recipe_that_has_what_it_needs(name: str, capsys: Captured) -> None:
    recipe = "ppo" if algorithms.get(name).needs_critic else "grpo"
    assert f"Use it: burnish run {recipe} algo={name}" in printed(capsys, "explain", name)


def test_a_task_shows_three_problems_with_right_replies(capsys: Captured) -> None:
    text = printed(capsys, "explain", "countdown")
    task = TASKS["countdown"]().with_split("test")
    for index in range(3):
        assert task[index].messages[-1]["content"] in text and task.gold(task[index]) in text


@pytest.mark.parametrize("name", [*names.orders(), *names.curation()])
def test_orders_and_curation_have_their_docstrings_and_settings(name: str, capsys: Captured) -> None:
    text = printed(capsys, "explain", name)
    assert "Use it: burnish" in text and "``" not in text and "<function" not in text
    settings = curate.settings(name) if name in names.curation() else {f.name: 0 for f in fields(getattr(orders, name))}
    assert all(re.search(rf"^  {setting} ", text, re.MULTILINE) for setting in settings)


def test_an_unknown_name_has_a_near_one_of_any_kind(capsys: Captured) -> None:
    for typed, near in {"countdwn": "countdown", "r1zero": "r1-zero", "rlo": "rloo"}.items():
        assert main(["explain", typed]) == 2
        assert f"Did you mean '{near}'?" in capsys.readouterr().err
