"""What curation shares: a model's completions to the prompts of a task, and data files that say where they came from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from burnish import config, files
from burnish.core import keys
from burnish.data.kinds import COLUMNS
from burnish.engines.decode import LocalSampler
from burnish.engines.local import Engine, LocalModel
from burnish.errors import InputError
from burnish.loops.episodes import has_turns
from burnish.loops.evaluate import distinct
from burnish.rewards.base import RewardFunction, total
from burnish.rewards.pool import score_groups
from burnish.stage import Stage
from burnish.types import PROMPT_IS_TEXT, Completion, Example, Request, Sampling, Task

REHEARSED = 4
"""Prompts that a dry run asks."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class Draw:
    """``samples`` completions to each of the first ``n`` different prompts of a task (0: all of them)."""

    n: int = 0
    samples: int = 8
    sampling: Sampling = field(default_factory=Sampling)
    engine: Engine = field(default_factory=Engine)

    def __post_init__(self) -> None:
        if self.n < 0 or self.samples < 1:
            raise ValueError(f"n={self.n}, samples={self.samples}: give n >= 0 and samples >= 1")


class Drawn(NamedTuple):
    """A prompt and the completions to it."""

    example: Example
    completions: tuple[Completion, ...]


class Scored(NamedTuple):
    """A completion to a prompt with its reward as one number."""

    example: Example
    completion: Completion
    reward: float

    @property
    def ends(self) -> bool:
        return ends(self.completion)

    @property
    def length(self) -> int:
        """In tokens, with the one that ends it."""
        return len(self.completion.tokens)


def ends(completion: Completion) -> bool:
    """Whether it says something and came to its own end: what was cut off shows no end to learn from."""
    return not completion.cut and completion.finish != "paused" and bool(completion.text.strip())


def draw(stage: Stage, model: Path, task: Task, cfg: Draw, who: str = "draw") -> list[Drawn]:
    """The completions of ``model`` to the prompts of a task. Raises InputError for a task of several turns.

    A dry run asks for a few prompts only.
    """
    if has_turns(task):
        raise InputError(
            f"{type(task).__name__} is a task of several turns: curation draws single replies, give another"
        )
    wanted = min(cfg.n or len(task), len(task))
    return complete(stage, model, distinct(task, min(wanted, REHEARSED) if stage.dry_run else wanted), cfg, who)


def complete(stage: Stage, model: Path, examples: Sequence[Example], cfg: Draw, who: str = "draw") -> list[Drawn]:
    """The completions of ``model``, prompt by prompt. Their randomness follows from the stage's seed and ``who``."""
    engine = replace(stage.decide("engine", cfg.engine.resolved), adapter=None)
    policy = LocalModel(Path(model), engine)
    requests = [
        Request(policy.chat.encode_prompt(example.messages), keys.derive(stage.seed, who, i, j), cfg.sampling)
        for i, example in enumerate(examples)
        for j in range(cfg.samples)
    ]
    done = sorted(LocalSampler(policy).sample(requests), key=lambda c: c.index)
    return [Drawn(e, tuple(done[i * cfg.samples : (i + 1) * cfg.samples])) for i, e in enumerate(examples)]


def scored(reward: RewardFunction, drawn: Sequence[Drawn]) -> list[list[Scored]]:
    """The completions of each prompt with what ``reward`` gives them, in their order."""
    rewards = score_groups(reward, [(each.example, each.completions) for each in drawn])
    return [
        [Scored(each.example, c, total(parts)) for c, parts in zip(each.completions, group, strict=True)]
        for each, group in zip(drawn, rewards, strict=True)
    ]


def sieve(items: Sequence[Item], steps: Mapping[str, Callable[[Item], bool]], counts: dict[str, int]) -> Sequence[Item]:
    """The items that pass every step, in order; how many were left after each is added to ``counts``."""
    for name, passes in steps.items():
        items = [item for item in items if passes(item)]
        counts[name] = len(items)
    return items


def asked(example: Example, **columns: Any) -> dict[str, Any]:
    """A row of a data file: the prompt, its answer, whatever else was known of it, then ``columns``.

    A prompt that was plain text is text again. What was known under a name that says which kind a data file is of
    ("label", "chosen", ...) is left out, since the row is of the kind that ``columns`` make it.
    """
    plain = example.meta.get(PROMPT_IS_TEXT, False)
    told = {"prompt": example.messages[-1]["content"] if plain else list(example.messages)}
    if example.answer is not None:
        told["answer"] = example.answer
    known = {name: value for name, value in example.meta.items() if name not in RESERVED}
    return told | known | columns


RESERVED = {PROMPT_IS_TEXT, "answer", *(column for columns in COLUMNS.values() for column in columns)}


def made_from(model: Path, task: Task, reward: RewardFunction | None, cfg: Draw) -> dict[str, Any]:
    """What the provenance says about the sources of a data set. Without ``reward``, the task's own is meant."""
    judge = "the task's own" if reward is None else repr(reward)
    return {"model": str(Path(model)), "task": repr(task), "reward": judge, "settings": config.plain(cfg)}


def store(
    stage: Stage, rows: Iterable[Mapping[str, Any]], *, counts: Mapping[str, int], source: Mapping[str, Any],
    name: str = "data",
) -> Path:  # fmt: skip
    """Write the rows to ``{name}.jsonl`` in the stage's directory, and beside it ``{name}.provenance.json``.

    ``counts`` says how many were left after each step, in order, from the first draw to what was kept; it is also
    printed. ``source`` says what they were made from: models, task, settings. Raises InputError where no row is left.
    """
    path = stage.directory / f"{name}.jsonl"
    lines = [json.dumps(row) + "\n" for row in rows]
    told = ", ".join(f"{count} {what}" for what, count in counts.items())
    if not lines:
        longer = "raise sampling.max_tokens, " if counts.get("that end") == 0 else ""
        raise InputError(
            f"nothing is left to write ({told}): {longer}draw more samples, ask other prompts, or relax that step"
        )
    files.write_text(path, "".join(lines))
    record = {"stage": stage.name, "seed": stage.seed, "source": source, "counts": counts}
    files.write_text(stage.directory / f"{name}.provenance.json", json.dumps(record, indent=2, default=str) + "\n")
    stage.view.say(f"{stage.name}: {told}")
    return path
