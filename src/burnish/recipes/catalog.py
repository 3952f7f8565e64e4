"""Recipe names for the command line. No recipe is imported before it is asked for, so that listing them is quick."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from burnish.errors import unknown

if TYPE_CHECKING:
    from burnish.run import Artifact, Run

RECIPES = {
    "r1-zero": "burnish.recipes.r1_zero",
    "sft": "burnish.recipes.sft",
    "grpo": "burnish.recipes.grpo",
    "ppo": "burnish.recipes.ppo",
    "dpo": "burnish.recipes.dpo",
    "kto": "burnish.recipes.kto",
    "online-dpo": "burnish.recipes.online_dpo",
    "reward-model": "burnish.recipes.reward_model",
    "process-reward-model": "burnish.recipes.process_reward_model",
    "distill": "burnish.recipes.distill",
    "merge": "burnish.recipes.merge",
    "maze": "burnish.recipes.maze",
    "maze-rl": "burnish.recipes.maze_rl",
    "gridworld": "burnish.recipes.gridworld",
}
"""``{name: module}``."""


class Recipe(Protocol):
    """The module of a recipe: a docstring whose first line is its title, a configuration for each scale, a program."""

    __doc__: str | None
    SCALES: Mapping[str, Any]

    def main(self, run: Run, s: Any, /) -> Artifact: ...


def get(name: str) -> Recipe:
    """The recipe of that name, imported. Raises InputError with the nearest name.

    From here on, configurations take names, too: see :func:`register`.
    """
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    register()
    return cast("Recipe", importlib.import_module(RECIPES[name]))


def register() -> None:
    """Let configurations take an algorithm, a loss, a task, an environment and the functions these are made of by name."""
    from burnish import names
    from burnish.core import (
        aggregate,
        algorithms,
        kl,
        levels,
        merging,
        method,
        online,
        preference,
        process,
        ranking,
        reward_models,
        scores,
    )
    from burnish.loops.evaluation import retention
    from burnish.tasks import catalog as tasks
    from burnish.tasks.checks import Generated, Split
    from burnish.tasks.environments import Environment

    names.named(algorithms.Algorithm, algorithms.get)
    names.named(method.Method, online.get)
    names.named(preference.Preference, preference.get)
    names.named(merging.Merge, merging.get)
    names.named(online.OnPolicyDistillation, online.get)
    names.named(reward_models.JudgeLoss, reward_models.get, reward_models.CLASSES)
    names.named(ranking.Penalty, ranking.penalty, ranking.PENALTIES)
    names.named(Split, tasks.get, tasks.CLASSES)
    names.named(Generated, tasks.single, tasks.CLASSES)
    names.named(Environment, tasks.environment, tasks.ENV_CLASSES)
    names.named(retention.Retention, retention.by_name)
    names.functions(aggregate.Aggregate, "aggregate", aggregate)
    names.functions(kl.Estimator, "estimator", kl)
    names.functions(kl.Anchor, "anchor", kl)
    names.functions(levels.Level, "level", levels)
    names.functions(scores.Read, "read", scores)
    names.functions(scores.Reduce, "reduce", scores)
    names.functions(scores.Slope, "slope", scores)
    names.functions(preference.Trust, "trust", preference)
    names.functions(process.Label, "label", process)


def titles() -> dict[str, str]:
    """``{name: first line of the docstring}``, read from the sources."""
    return {name: _docstring(module).partition("\n")[0] for name, module in RECIPES.items()}


def _docstring(module: str) -> str:
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    return ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
