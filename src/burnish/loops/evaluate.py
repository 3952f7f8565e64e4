"""Held-out evaluation: how often a model is right, with n and a 95% interval, on items and randomness fixed for ever."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from burnish.core import keys
from burnish.core.estimates import pass_at_k
from burnish.core.intervals import Z95, wilson
from burnish.data.chat import Chat
from burnish.engines.decode import LocalSampler
from burnish.engines.local import Engine, LocalModel
from burnish.errors import InputError
from burnish.loops.episodes import Opening, has_turns, play
from burnish.stage import Stage
from burnish.types import Completion, Example, Request, Sampler, Sampling, Task


class Measured(Task, Protocol):
    """A task that can also measure: named scores in [0, 1], whatever it rewards.

    Of a task with an ``env`` the completion is a whole episode: ``messages`` is all that was said after the opening.
    """

    def measure(self, example: Example, completion: Completion) -> dict[str, float]: ...


@dataclass(frozen=True)
class EvalConfig:
    """``n`` items with ``samples`` completions each; pass@k for every k in ``ks`` up to ``samples``."""

    n: int = 200
    samples: int = 1
    ks: tuple[int, ...] = (1,)
    sampling: Sampling = field(default_factory=Sampling)
    engine: Engine = field(default_factory=Engine)


@dataclass(frozen=True)
class Item:
    """One evaluated prompt: its completions and their scores, name by name."""

    prompt: str
    answer: Any
    completions: tuple[str, ...]
    scores: tuple[dict[str, float], ...]
    tokens: tuple[int, ...]
    finishes: tuple[str, ...]


def paired(before: Sequence[float], after: Sequence[float]) -> dict[str, float]:
    """Change of the mean on the same items, with a 95% interval of the paired difference (normal approximation)."""
    differences = [b - a for a, b in zip(before, after, strict=True)]
    n = len(differences)
    mean = sum(differences) / n
    variance = sum((d - mean) ** 2 for d in differences) / max(1, n - 1)
    half = Z95 * math.sqrt(variance / n)
    return {"difference": mean, "low": mean - half, "high": mean + half, "n": n}


def distinct(task: Task, n: int) -> list[Example]:
    """The first ``n`` examples with different prompts: an item counted twice would make an interval too narrow.

    A task with fewer different prompts gives what it has. Raises InputError when it has fewer than ``n`` items at all.
    """
    _require(task, n)
    found: dict[str, Example] = {}
    for i in range(len(task)):
        example = task[i]
        found.setdefault(repr(example.messages), example)
        if len(found) == n:
            break
    return list(found.values())


def _require(task: Task, n: int) -> None:
    if n > len(task):
        raise InputError(f"the task has {len(task)} items, fewer than the {n} to evaluate; lower n")


def run_items(
    sampler: Sampler, chat: Chat, task: Measured, *, n: int, samples: int, sampling: Sampling, key: int
) -> list[Item]:
    """Sample and score the first ``n`` items. Item i and sample j always see the same uniforms, whatever the model.

    Episodes of several turns are played; as chance is a part of each, an opening that is met again is another item.
    """
    measure = task.measure
    if has_turns(task):
        _require(task, n)
        examples = [task[i] for i in range(n)]
        openings = [Opening(task.env(e), (key, i, j), sampling) for i, e in enumerate(examples) for j in range(samples)]
        episodes = play(sampler, chat, openings, max_turns=task.max_turns)
        return _scored(measure, examples, [episode.completion for episode in episodes], samples)
    examples = distinct(task, n)
    requests = [
        Request(chat.encode_prompt(example.messages), keys.derive(key, i, j), sampling)
        for i, example in enumerate(examples)
        for j in range(samples)
    ]
    return _scored(measure, examples, sorted(sampler.sample(requests), key=lambda c: c.index), samples)


def _scored(
    measure: Callable[[Example, Completion], dict[str, float]], examples: Sequence[Example],
    completions: Sequence[Completion], samples: int,
) -> list[Item]:  # fmt: skip
    """``samples`` completions for each example, in order."""
    items = []
    for i, example in enumerate(examples):
        own = completions[i * samples : (i + 1) * samples]
        items.append(
            Item(
                example.messages[-1]["content"],
                example.answer,
                tuple(c.text for c in own),
                tuple(measure(example, c) for c in own),
                tuple(len(c.tokens) for c in own),
                tuple(c.finish for c in own),
            )
        )
    return items


def summarise(items: Sequence[Item], ks: Sequence[int] = (1,)) -> dict[str, Any]:
    """{score: {mean, low, high, n}}, pass@k where several samples were drawn, mean length and share of cut-off replies.

    With several samples per item the interval treats items, not samples, as independent.
    """
    samples = len(items[0].completions)
    summary: dict[str, Any] = {"n": len(items), "samples": samples}
    for name in items[0].scores[0]:
        per_item = [sum(s[name] for s in item.scores) / samples for item in items]
        summary[name] = interval(per_item)
        for k in ks:
            if 1 < k <= samples:
                solved = [pass_at_k(samples, sum(s[name] >= 1 for s in item.scores), k) for item in items]
                summary[f"{name}/pass@{k}"] = interval(solved)
    tokens = [t for item in items for t in item.tokens]
    summary["length/mean"] = sum(tokens) / len(tokens)
    summary["length/truncated_frac"] = sum(f == "length" for item in items for f in item.finishes) / len(tokens)
    return summary


def interval(per_item: Sequence[float]) -> dict[str, float]:
    """{mean, low, high, n}: Wilson's 95% interval where every item is 0 or 1, else the normal approximation's."""
    n, total = len(per_item), sum(per_item)
    if all(x in (0, 1) for x in per_item):
        low, high = wilson(total, n)
    else:
        mean = total / n
        half = Z95 * math.sqrt(sum((x - mean) ** 2 for x in per_item) / max(1, n - 1) / n)
        low, high = mean - half, mean + half
    return {"mean": total / n, "low": low, "high": high, "n": n}


def evaluate(stage: Stage, model: Path, task: Measured, *, cfg: EvalConfig) -> dict[str, Any]:
    """A stage: the model on the first ``cfg.n`` items. Returns the summary and, under "items", every completion.

    A dry run measures nothing: it is about to show what training would begin with.
    """
    if stage.dry_run:
        return {"summary": {}, "items": []}
    engine = replace(stage.decide("engine", cfg.engine.resolved), adapter=None)
    policy = LocalModel(Path(model), engine)
    stage.view.say(f"{stage.name}: {cfg.n} items, {cfg.samples} completion{'s' * (cfg.samples > 1)} each")
    key = keys.derive("evaluate")
    items = run_items(
        LocalSampler(policy), policy.chat, task, n=cfg.n, samples=cfg.samples, sampling=cfg.sampling, key=key
    )
    rows = [{"prompt": i.prompt, "answer": i.answer, "completions": i.completions, "scores": i.scores} for i in items]
    return {"summary": summarise(items, cfg.ks), "items": rows}
