"""Judges from plain settings, as they are written on a command line or in a configuration file.

They stand beside the loops since a judge may be a model in this process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from burnish.core.ranking import SCORE
from burnish.engines.pretrained import resolve
from burnish.errors import InputError, unknown
from burnish.loops.local_judge import LocalJudge
from burnish.loops.reward_model import RewardModel, loaded
from burnish.rewards.ask import Judge
from burnish.rewards.base import Composable
from burnish.rewards.canaries import Canaries
from burnish.rewards.constitution import Constitution
from burnish.rewards.endpoint import Endpoint
from burnish.rewards.generative import GenerativeReward, cot_math
from burnish.rewards.material import Reading
from burnish.rewards.pairwise import Comparing, PairwiseJudge
from burnish.rewards.rubric import INSTRUCTION, Kind, Rubric

FORMS: Mapping[str, tuple[type[Composable], Callable[..., Any]]] = {
    "rubric": (Rubric, Rubric),
    "constitution": (Constitution, Constitution),
    "pairwise": (PairwiseJudge, PairwiseJudge),
    "judge": (GenerativeReward, GenerativeReward),
    "cot_math": (GenerativeReward, cot_math),
}
"""How a judge is asked, by name: the kind of reward, and what makes one of a judge and its fields."""

_INNER: Mapping[str, type] = {"reading": Reading, "comparing": Comparing}


def judge(model: str, url: str = "", **settings: Any) -> Judge:
    """The model behind an OpenAI-compatible ``url`` with further fields of :class:`Endpoint`, or the one in a directory.

    Raises InputError for settings that are none, and where there is no such model.
    """
    if not url:
        if settings:
            raise InputError(
                f"a judge in this process has no setting {', '.join(settings)}: give the url of an endpoint"
            )
        return LocalJudge(resolve(model))
    known = {field.name for field in fields(Endpoint)}
    for name in settings:
        if name not in known:
            raise unknown("setting of a judge", name, known - {"url", "model"})
    return Endpoint(url, model, **settings)


def from_arguments(
    form: str, *, model: str, url: str = "", file: str = "", canaries: int = 0, **settings: Any
) -> Composable:
    """The reward of that form, with a judge from ``model`` and ``url`` (see :func:`judge`).

    ``file`` is that of a rubric (:func:`rubric_file`). ``canaries`` N probes one group in N. ``settings`` are numbers, texts
    and truth values by the names of the fields that they set: those of the form, of its ``reading`` and ``comparing``, and of
    the endpoint. Raises InputError for a form, a file or a setting that does not exist.
    """
    if form not in FORMS:
        raise unknown("form of judge", form, FORMS)
    kind, make = FORMS[form]
    if file and kind is not Rubric:
        raise InputError(f"a judge of the form '{form}' reads no rubric file: take the form 'rubric'")
    own = _taken(kind, settings)
    held = {name: within for name, within in _INNER.items() if name in _fields(kind)}
    inner = {name: _taken(within, settings) for name, within in held.items()}
    for name in settings:
        if name not in _fields(Endpoint):
            known = {*_plain(kind), *(each for within in held.values() for each in _plain(within)), *_fields(Endpoint)}
            raise unknown("setting of a judge", name, known - {"url"})
    made = make(judge(model, url, **settings), **(rubric_file(Path(file)) if file else {}), **own)
    made = replace(made, **{name: replace(getattr(made, name), **given) for name, given in inner.items()})
    return Canaries(made, every=canaries) if canaries else made


def form_of(reward: Composable) -> str:
    """The form that makes this reward of its judge and nothing else, by name; "" where there is none."""
    of_kind = {name: make for name, (kind, make) in FORMS.items() if type(reward) is kind}
    return next((name for name, make in of_kind.items() if make(getattr(reward, "judge")) == reward), "")  # noqa: B009


def reward_model(
    *, model: str, condition: str = "", answer_only: bool = False, weights: tuple[float, ...] = (1.0,)
) -> RewardModel:
    """The trained reward model of that name or directory. Raises InputError where it cannot be loaded."""
    found = RewardModel(resolve(model), weights, condition=condition, answer_only=answer_only)
    loaded(found.model, found.engine, SCORE, "last")
    return found


MAKERS: Mapping[str, Callable[..., Composable]] = {
    **{form: partial(from_arguments, form) for form in FORMS},
    "reward_model": reward_model,
}
"""What is written in an expression of rewards (:func:`burnish.rewards.expression.parse`): ``judge(model="...", url="...")``."""


def _fields(kind: type) -> dict[str, Any]:
    return {field.name: field.default for field in fields(kind)}


def _taken(kind: type, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that are plain fields of this class, taken out of ``settings``."""
    return {name: settings.pop(name) for name in _plain(kind) if name in settings}


def _plain(kind: type) -> list[str]:
    """The fields of a class that numbers, texts and truth values set."""
    return [name for name, default in _fields(kind).items() if isinstance(default, str | int | float | bool)]


class _RubricFile(BaseModel):
    model_config = ConfigDict(extra="forbid")
    classes: tuple[str, ...]
    kinds: dict[str, tuple[float, ...]]
    instruction: str = INSTRUCTION


def rubric_file(path: Path) -> dict[str, Any]:
    """Fields of a :class:`Rubric` from YAML or JSON: ``classes``, a list of sentences; ``kinds``, of prompts, each with the
    scores of the classes in their order; and, if wanted, an ``instruction``. Raises InputError.
    """
    try:
        found = _RubricFile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as error:
        raise InputError(
            f"{path} is no rubric ({_in_a_line(error)}): give 'classes', a list of sentences, and 'kinds', for each kind of "
            "prompt the scores of the classes, such as {harmful: [1, 0, -1, 0]}"
        ) from error
    kinds = tuple(Kind(name, scores) for name, scores in found.kinds.items())
    return {"classes": found.classes, "kinds": kinds, "instruction": found.instruction}


def _in_a_line(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return " ".join(str(error).split())
    return "; ".join(
        f"{'.'.join(map(str, each['loc'])) or 'the file'}: {each['msg'].lower()}" for each in error.errors()[:3]
    )
