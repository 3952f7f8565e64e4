"""The kinds of data there are: which columns tell them apart, and which recipes train on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from burnish.errors import InputError

Kind = Literal[
    "prm800k",
    "prm800k-rows",
    "stepwise",
    "ranked",
    "preference",
    "unpaired",
    "attributes",
    "messages",
    "prompt-completion",
    "prompt-only",
    "language-modelling",
]

COLUMNS: dict[Kind, tuple[str, ...]] = {
    "prm800k": ("question", "label"),
    "prm800k-rows": ("instruction", "responses", "next_response", "rating"),
    "stepwise": ("prompt", "completions", "labels"),
    "ranked": ("prompt", "answers"),
    "preference": ("chosen", "rejected"),
    "unpaired": ("prompt", "completion", "label"),
    "attributes": ("prompt", "response"),
    "messages": ("messages",),
    "prompt-completion": ("prompt", "completion"),
    "prompt-only": ("prompt",),
    "language-modelling": ("text",),
}
"""The columns each kind needs. A file is of the first kind, in this order, whose columns it has and whose shape fits."""

ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity", "score")
"""Columns of kind attributes: at least one of them."""

DIALOGUES: tuple[Kind, ...] = ("messages", "prompt-completion", "prompt-only")
COMPARED: tuple[Kind, ...] = (
    "preference", "ranked", "unpaired", "attributes", "stepwise", "prm800k", "prm800k-rows",
)  # fmt: skip

RECIPES: dict[Kind, tuple[str, ...]] = {
    "messages": ("sft", "grpo", "ppo", "online-dpo", "distill"),
    "prompt-completion": ("sft", "grpo", "ppo", "online-dpo", "distill"),
    "prompt-only": ("grpo", "ppo", "online-dpo", "distill"),
    "preference": ("dpo", "kto", "reward-model"),
    "ranked": ("dpo", "reward-model"),
    "unpaired": ("kto", "reward-model"),
    "attributes": ("reward-model",),
    "stepwise": ("process-reward-model",),
    "prm800k": ("process-reward-model",),
    "prm800k-rows": ("process-reward-model",),
    "language-modelling": ("sft",),
}
"""The recipes that train on each kind."""

# A column of these names may mean something else. A kind is taken where most rows look like it, so that a bad row is an
# error of its own and does not turn the whole file into another kind.
SHAPES: dict[Kind, Callable[[Mapping[str, Any]], bool]] = {
    "prm800k": lambda row: isinstance(row["question"], dict) and isinstance(row["label"], dict),
    "ranked": lambda row: isinstance(row["answers"], list) and isinstance((row["answers"] or [None])[0], dict),
    "unpaired": lambda row: row["label"] in (True, False),
    "attributes": lambda row: not set(row).isdisjoint(ATTRIBUTES),
}


def kind(rows: Sequence[Mapping[str, Any]]) -> Kind:
    """What the rows are, by the columns that occur in any of them.

    ``conversations`` counts as ``messages``. Where a column could mean something else, most rows decide: ``label`` makes
    unpaired feedback where most are true or false (or 1 or 0), ``answers`` a ranking where most are lists of objects,
    ``response`` needs an attribute. Raises InputError, naming the columns present and what is accepted, where nothing fits.
    """
    present = dict.fromkeys(name for row in rows for name in row)
    usable = {*present, "messages"} if "conversations" in present else set(present)
    for name, columns in COLUMNS.items():
        if usable.issuperset(columns) and _shaped(name, rows):
            return name
    accepted = "; ".join(f"{_accepted(name)} ({name})" for name in COLUMNS)
    raise InputError(
        f"the columns are {', '.join(present) or 'none'}, which is no known kind of data: rename them to {accepted}"
    )


def _shaped(name: Kind, rows: Sequence[Mapping[str, Any]]) -> bool:
    if name not in SHAPES:
        return True
    whole = [row for row in rows if all(row.get(column) is not None for column in COLUMNS[name])]
    return 2 * sum(SHAPES[name](row) for row in whole) > len(whole)


def _accepted(name: Kind) -> str:
    columns = " + ".join(COLUMNS[name])
    return f"{columns} + one of {', '.join(ATTRIBUTES)}" if name == "attributes" else columns
