"""What the recipes for the user's own model and data share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoConfig

from burnish import config
from burnish.data.kinds import RECIPES, Kind, kind
from burnish.data.rows import load_rows
from burnish.errors import InputError
from burnish.loops import judges
from burnish.loops.judges import MAKERS
from burnish.recipes import catalog
from burnish.rewards.base import Composable
from burnish.rewards.expression import parse
from burnish.rewards.pool import guarded
from burnish.rewards.tree import plan
from burnish.tasks.checks import Split
from burnish.tasks.environments import Environment


def kind_for(recipe: str, path: str) -> Kind:
    """The kind of data in a file. Raises InputError where the recipe does not train on it, naming those that do."""
    rows = load_rows(path)
    try:
        found = kind(rows)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    others = RECIPES.get(found, ())
    if recipe not in others:
        own = ", ".join(name for name, recipes in RECIPES.items() if recipe in recipes)
        raise InputError(
            f"{path} has data of kind '{found}', and {recipe} trains on {own}: rename the columns, or take the recipe "
            f"{' or '.join(others)} (burnish data FILE says what is in a file)."
        )
    return found


@dataclass(frozen=True)
class Asked:
    """A task and who plays it, for commands that have no other settings: ``task.style=think env.attempts=3``."""

    task: Split | None = None
    env: Environment | None = None


def asked(task: str, env: str, settings: Sequence[str]) -> Asked:
    """Both by their names, empty for none, with their settings. Raises InputError as a recipe does for the same words."""
    catalog.register()
    names = [f"{key}={name}" for key, name in (("task", task), ("env", env)) if name]
    return config.apply(Asked(), [*names, *settings])


def given_reward(reward: str, reward_model: str, seconds: float) -> Composable | None:
    """The reward that an expression means (:mod:`burnish.rewards.expression`) or a trained reward model; None for neither.

    A reward that may take for ever gets ``seconds`` for each sample, in a process that can be killed; 0 waits for ever.

    Raises InputError for both, and, before anything is sampled, where the one cannot be read, cannot work on this machine, or
    the other cannot be loaded.
    """
    if reward and reward_model:
        raise InputError("both reward and reward_model are given: one of them judges; leave the other out")
    if not 0 <= seconds < math.inf:
        raise InputError(
            f"reward_seconds={seconds:g}: give the seconds that one sample may take, or 0 to wait for ever"
        )
    if reward:
        found = parse(reward, MAKERS)
        plan(found)
        return guarded(found, seconds)
    if not reward_model:
        return None
    return judges.reward_model(model=reward_model)


def context_length(model: Path) -> int:
    """The most tokens a prompt and its completion may have together, as the model's configuration says.

    Raises InputError where the configuration cannot be read.
    """
    try:
        config = AutoConfig.from_pretrained(model, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{model / 'config.json'} cannot be used ({reason}): copy it from the model again") from error
    return int(getattr(config, "max_position_embeddings", 2**31))
