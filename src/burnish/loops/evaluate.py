"""Held-out evaluation: how often a model is right, with n and a 95% interval, on items and randomness fixed for ever."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from burnish.core import keys
from burnish.data.chat import Chat
from burnish.engines.decode import LocalSampler
from burnish.engines.local import Engine, LocalModel
from burnish.errors import InputError
from burnish.loops.episodes import Opening, environments, has_turns, play
from burnish.loops.evaluation.measures import Item, behaviour, estimates, measures, scores, thinking
from burnish.loops.failures import Failure, told
from burnish.stage import Stage
from burnish.tasks.votes import said
from burnish.types import Completion, Example, Request, Sampler, Sampling, Task


class Measured(Task, Protocol):
    """A task that can also measure: named scores in [0, 1], whatever it rewards.

    Of a task with an ``env`` the completion is a whole episode: ``messages`` is all that was said after the opening.
    """

    def measure(self, example: Example, completion: Completion) -> dict[str, float]: ...


@dataclass(frozen=True)
class EvalConfig:
    """``n`` items with ``samples`` completions each; pass@k and cons@k for every k up to ``samples``."""

    n: int = 200
    samples: int = 1
    ks: tuple[int, ...] = (1,)
    cons: tuple[int, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    engine: Engine = field(default_factory=Engine)


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
    An episode whose environment fails is scored as one in which the policy says nothing, and finishes with "failed".
    """
    measured = task  # the check below forgets that it measures
    if has_turns(task):
        _require(task, n)
        examples = [task[i] for i in range(n)]
        openings = [
            Opening(env, (key, i, j), sampling)
            for i, example in enumerate(examples)
            for j, env in enumerate(environments(task, example, samples, meet=False))
        ]
        episodes = play(sampler, chat, openings, max_turns=task.max_turns, spare=True)
        replies = [episode.completion for episode in episodes]
        return _scored(measured, examples, replies, samples, failures=[episode.failure for episode in episodes])
    examples = distinct(task, n)
    requests = [
        Request(chat.encode_prompt(example.messages), keys.derive(key, i, j), sampling)
        for i, example in enumerate(examples)
        for j in range(samples)
    ]
    replies = sorted(sampler.sample(requests), key=lambda c: c.index)
    return _scored(measured, examples, replies, samples, [thinking(chat, reply) for reply in replies])


def _scored(
    task: Measured, examples: Sequence[Example], replies: Sequence[Completion], samples: int,
    thoughts: Sequence[int] = (), failures: Sequence[Failure | None] = (),
) -> list[Item]:  # fmt: skip
    """``samples`` replies to each example, in order, the tokens of each that are thoughts, and why its environment failed."""
    items = []
    for i, example in enumerate(examples):
        own = slice(i * samples, (i + 1) * samples)
        scored = tuple(task.measure(example, reply) for reply in replies[own])
        votes = tuple(said(task, example, reply) for reply in replies[own])
        items.append(Item(example, tuple(replies[own]), scored, votes, tuple(thoughts[own]), tuple(failures[own])))
    return items


def reasons(items: Sequence[Item]) -> list[str]:
    """Why environments have failed, in lines (:func:`burnish.loops.failures.told`)."""
    return told([failure for item in items for failure in item.failures])


def summarise(items: Sequence[Item], ks: Sequence[int] = (1,)) -> dict[str, Any]:
    """{score: {mean, low, high, n}}, pass@k where several samples were drawn, mean length and share of cut-off replies.

    With several samples per item the interval treats items, not samples, as independent.
    """
    found = estimates(behaviour(items))
    failed = found["env/failed_frac"]["mean"]
    return {
        "n": len(items),
        "samples": len(items[0].replies),
        **estimates(scores(items, ks)),
        **{name: found[name]["mean"] for name in ("length/mean", "length/truncated_frac")},
        **({"env/failed_frac": failed} if failed else {}),
    }


def evaluate(stage: Stage, model: Path, task: Measured, *, cfg: EvalConfig) -> dict[str, Any]:
    """A stage: the model on the first ``cfg.n`` items. Returns the summary, under "items" every completion, and under
    "measures" what :func:`burnish.loops.evaluation.measures.measures` finds, item by item.

    A dry run measures nothing: it is about to show what training would begin with.
    """
    if stage.dry_run:
        return {"summary": {}, "items": [], "measures": {}}
    engine = replace(stage.decide("engine", cfg.engine.resolved), adapter=None)
    policy = LocalModel(Path(model), engine)
    stage.view.say(f"{stage.name}: {cfg.n} items, {cfg.samples} completion{'s' * (cfg.samples > 1)} each")
    key = keys.derive("evaluate")
    items = run_items(
        LocalSampler(policy), policy.chat, task, n=cfg.n, samples=cfg.samples, sampling=cfg.sampling, key=key
    )
    for line in reasons(items):
        stage.view.say(f"{stage.name}: {line}")
    rows = [
        {"prompt": i.prompt, "answer": i.example.answer, "completions": [c.text for c in i.replies], "scores": i.scores}
        for i in items
    ]
    return {"summary": summarise(items, cfg.ks), "items": rows, "measures": measures(items, cfg.ks, cfg.cons)}
