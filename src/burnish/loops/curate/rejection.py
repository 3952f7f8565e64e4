"""Rejection sampling: what a model says right becomes what it is trained on next.

DeepSeek-R1 (arXiv:2501.12948, section 2.3.3) draws several completions to each prompt from the checkpoint of its
reinforcement learning, keeps those that are right and readable, and fine-tunes the base model on them. Kimi k1.5
(arXiv:2501.12599, section 2.4) keeps the shortest right one of 8, and so trains a model to think less.

    traces = run.stage(reject, "3-traces", thinker, task, reward=rule, cfg=Rejection(n=1000, keep=READABLE))
    tuned = run.stage(fit, "4-sft", base, Dataset(traces), cfg=sft)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from burnish.loops.curate.base import Draw, Scored, asked, draw, made_from, scored, sieve, store
from burnish.loops.curate.filters import Filter
from burnish.rewards.base import RewardFunction
from burnish.stage import Stage
from burnish.types import Task


@dataclass(frozen=True)
class Rejection(Draw):
    """Of the completions with a reward of at least ``threshold`` that every filter of ``keep`` keeps, the first ``per_prompt``
    to a prompt (0: all)."""

    threshold: float = 1.0
    keep: tuple[Filter, ...] = ()
    per_prompt: int = 0


@dataclass(frozen=True)
class Shortest(Rejection):
    """The same, the shortest ``per_prompt`` to a prompt."""

    per_prompt: int = 1


def reject(stage: Stage, model: Path, task: Task, *, reward: RewardFunction | None = None, cfg: Rejection) -> Path:
    """A stage: prompts and completions that are right, for :class:`burnish.data.datasets.Dataset`.

    ``reward`` takes the place of the task's own. A completion that was cut off is never kept, and of the same texts to one
    prompt one is. Column ``reward`` says what each was worth. Raises InputError where nothing is left.
    """
    groups = scored(reward or task.reward, draw(stage, model, task, cfg))
    return _stored(stage, groups, model, task, reward, cfg)


def shortest(stage: Stage, model: Path, task: Task, *, reward: RewardFunction | None = None, cfg: Shortest) -> Path:
    """A stage: as :func:`reject`, but of each prompt the shortest that are right, in tokens."""
    groups = scored(reward or task.reward, draw(stage, model, task, cfg))
    return _stored(stage, [sorted(g, key=lambda s: s.length) for g in groups], model, task, reward, cfg)


def _stored(
    stage: Stage, groups: Sequence[Sequence[Scored]], model: Path, task: Task, reward: RewardFunction | None,
    cfg: Rejection,
) -> Path:  # fmt: skip
    right, counts = kept(groups, cfg)
    return store(stage, [row(s) for s in right], counts=counts, source=made_from(model, task, reward, cfg))


def kept(groups: Sequence[Sequence[Scored]], cfg: Rejection) -> tuple[list[Scored], dict[str, int]]:
    """The completions that pass, group by group in their order, and how many are left after each step."""
    every = [s for group in groups for s in group]
    counts = {"drawn": len(every)}
    right = sieve(every, {"that end": lambda s: s.ends, "right": lambda s: s.reward >= cfg.threshold}, counts)
    unlike = list({(repr(s.example.messages), s.completion.text): s for s in reversed(right)}.values())[::-1]
    counts["different"] = len(unlike)
    steps = {repr(keeps): (lambda s, keeps=keeps: keeps(s.completion)) for keeps in cfg.keep}
    fit = sieve(unlike, steps, counts)
    if not cfg.per_prompt:
        return list(fit), counts
    return first(fit, cfg.per_prompt, counts), counts


def first(items: Sequence[Scored], per_prompt: int, counts: dict[str, int]) -> list[Scored]:
    """The first ``per_prompt`` completions to each prompt; their number is added to ``counts``."""
    taken: Counter[str] = Counter()
    chosen = []
    for each in items:
        prompt = repr(each.example.messages)
        taken[prompt] += 1
        if taken[prompt] <= per_prompt:
            chosen.append(each)
    counts[f"at most {per_prompt} to a prompt"] = len(chosen)
    return chosen


def row(one: Scored) -> dict[str, object]:
    """A prompt and its completion, with what is known of the prompt and what the completion was worth."""
    return asked(one.example, completion=list(one.completion.messages), reward=one.reward)
