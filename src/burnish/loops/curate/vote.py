"""Majority vote: what most completions to a prompt answer, taken for the answer (self-consistency, arXiv:2203.11171).

It makes labels where there are none: a prompt with the answer that its completions agree on is something to train on, by
reinforcement learning or, with one of the completions that gave it, by fine-tuning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from burnish.errors import InputError, unknown
from burnish.loops.curate.base import Draw, Drawn, asked, draw, made_from, sieve, store
from burnish.rewards.answers import SOURCES, prompt_text, stated
from burnish.rewards.math import MARKED, equivalent
from burnish.stage import Stage
from burnish.types import Completion, Task


@dataclass(frozen=True)
class Vote(Draw):
    """A prompt is kept where at least this share of its completions, the silent ones counted, gives one answer.

    ``sources`` are the places where a completion may say its answer (:data:`burnish.rewards.answers.SOURCES`).
    """

    least: float = 0.0
    sources: tuple[str, ...] = MARKED

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.least <= 1:
            raise InputError(f"least={self.least} is no share of the completions: give a number from 0 to 1")
        for source in self.sources:
            if source not in SOURCES:
                raise unknown("source of answers", source, SOURCES)


class Verdict(NamedTuple):
    """The answer with the most votes, as it was first given, and who gave it, by place."""

    answer: str
    voters: tuple[int, ...]


def majority(stage: Stage, model: Path, task: Task, *, cfg: Vote) -> Path:
    """A stage: prompts with the answer of the majority and its first completion, for
    :class:`burnish.data.datasets.Dataset`.

    Columns ``votes`` and ``share`` say how many of the completions agree, and which part they are of all. Prompts without a
    majority, ties among them, are left out. The task's own answers are not looked at, but the provenance says with how many
    of them the labels agree. Raises InputError where nothing is left.
    """
    drawn = draw(stage, model, task, cfg)
    found = [(each, elected(each, cfg.sources)) for each in drawn]
    counts = {"prompts": len(found)}
    clear = [(each, verdict) for each, verdict in found if verdict is not None]
    counts["with a majority"] = len(clear)
    named = f"with a share of at least {cfg.least:g}"
    sure = sieve(clear, {named: lambda pair: len(pair[1].voters) >= cfg.least * cfg.samples}, counts)
    known = [equivalent(str(e.example.answer), v.answer, prompt_text(e.example)) for e, v in sure if e.example.answer]
    agreeing = {"reward": "none", "labels that agree with a known answer": [sum(known), len(known)]}
    source = made_from(model, task, None, cfg) | agreeing
    return store(stage, [_row(*pair) for pair in sure], counts=counts, source=source)


def elected(drawn: Drawn, sources: tuple[str, ...] = MARKED) -> Verdict | None:
    """What the completions to a prompt elect; None where nobody votes, or no answer has more votes than every other."""
    prompt = prompt_text(drawn.example)
    return vote([said(completion, prompt, sources) for completion in drawn.completions], prompt)


def vote(answers: Sequence[str | None], prompt: str = "") -> Verdict | None:
    """The answer with the most votes; None does not vote. Answers are counted together where they are equivalent."""
    first = classes(answers, prompt)
    voters: dict[int, list[int]] = {}
    for place, same_as in enumerate(first):
        if same_as is not None:
            voters.setdefault(same_as, []).append(place)
    ranked = sorted(voters.values(), key=len, reverse=True)
    if not ranked or (len(ranked) > 1 and len(ranked[0]) == len(ranked[1])):
        return None
    return Verdict(str(answers[ranked[0][0]]), tuple(ranked[0]))


def classes(answers: Sequence[str | None], prompt: str = "") -> list[int | None]:
    """For each answer the place of the first one that it is equivalent to, possibly its own; None for none."""
    found: dict[int, str] = {}
    places: list[int | None] = []
    for place, answer in enumerate(answers):
        if answer is None:
            places.append(None)
            continue
        same = next((i for i, other in found.items() if equivalent(other, answer, prompt)), place)
        found.setdefault(same, answer)
        places.append(same)
    return places


def said(completion: Completion, prompt: str = "", sources: tuple[str, ...] = MARKED) -> str | None:
    """The answer of a completion; None where it was cut off, states none, or several that differ."""
    answers = [] if completion.cut else stated(completion.text, sources)
    agree = answers and all(equivalent(answers[0], other, prompt) for other in answers[1:])
    return answers[0].strip() or None if agree else None


def _row(drawn: Drawn, verdict: Verdict) -> dict[str, object]:
    label = replace(drawn.example, answer=verdict.answer)
    votes = len(verdict.voters)
    messages = list(drawn.completions[verdict.voters[0]].messages)
    return asked(label, completion=messages, votes=votes, share=votes / len(drawn.completions))
