"""Which prompts to train on: how often a model is right, and what that tells.

- A band of pass rates leaves out what is always or never right, which teaches a policy gradient nothing.
- Kimi k1.5 (arXiv:2501.12599, section 2.1) also drops prompts whose answer is guessed without reasoning within 8 tries:
  their reward pays for guesses.
- ChatGLM-RLHF (arXiv:2404.00934) drops prompts whose rewards hardly vary, whatever their mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from burnish.errors import InputError
from burnish.loops.curate.base import Draw, Drawn, Scored, asked, complete, draw, made_from, scored, sieve, store
from burnish.rewards.base import RewardFunction
from burnish.stage import Stage
from burnish.types import Example, Message, Sampling, Task

ANSWER_ONLY = "Do not think about it. Give the final answer only, and nothing else."
"""What is asked below a prompt to have its answer guessed; words of our own."""


@dataclass(frozen=True)
class Guessing:
    """``tries`` guesses (0: none; Kimi: 8) by ``sampling``, whose limit leaves no room to think; a choice."""

    tries: int = 0
    text: str = ANSWER_ONLY
    sampling: Sampling = field(default_factory=lambda: Sampling(max_tokens=24))

    def __post_init__(self) -> None:
        if self.tries < 0 or not self.text.strip():
            raise InputError(
                f"tries={self.tries}, text={self.text!r}: give the number of guesses, and what asks for one"
            )


@dataclass(frozen=True)
class Difficulty(Draw):
    """Prompts with a pass rate in [``low``, ``high``] and a variance of their rewards of at least ``variance`` are kept,
    unless they are guessed. Right is a reward of at least ``threshold``.

    By default all are kept, with what was measured.
    """

    threshold: float = 1.0
    low: float = 0.0
    high: float = 1.0
    variance: float = 0.0
    guess: Guessing = field(default_factory=Guessing)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.low <= self.high <= 1:
            raise InputError(f"low={self.low}, high={self.high}: give a band of pass rates, 0 <= low <= high <= 1")


class Measured(NamedTuple):
    """A prompt with the share of its completions that are right, and mean and variance of their rewards."""

    example: Example
    pass_rate: float
    mean: float
    variance: float


def rate(stage: Stage, model: Path, task: Task, *, reward: RewardFunction | None = None, cfg: Difficulty) -> Path:
    """A stage: prompts with what the model makes of them, for :class:`burnish.data.datasets.Dataset`.

    Columns: ``pass_rate``, ``difficulty`` (1 - pass rate: it takes the place of a task's own), ``reward_mean``,
    ``reward_variance``. ``reward`` takes the place of the task's own. Raises InputError where nothing is left.
    """
    judge = reward or task.reward
    found = [measured(group, cfg.threshold) for group in scored(judge, draw(stage, model, task, cfg))]
    counts = {"prompts": len(found)}
    steps = {
        f"with a pass rate in [{cfg.low:g}, {cfg.high:g}]": lambda m: cfg.low <= m.pass_rate <= cfg.high,
        f"with a reward variance of at least {cfg.variance:g}": lambda m: m.variance >= cfg.variance,
    }
    left = sieve(found, steps, counts)
    if cfg.guess.tries and left:
        lucky = guessed(stage, model, [m.example for m in left], judge, cfg)
        left = [m for m, hit in zip(left, lucky, strict=True) if not hit]
        counts[f"not guessed in {cfg.guess.tries} tries"] = len(left)
    return store(stage, [_row(m) for m in left], counts=counts, source=made_from(model, task, reward, cfg))


def measured(group: Sequence[Scored], threshold: float = 1.0) -> Measured:
    """Of one prompt's completions. The variance is that of the group itself, with n below the line."""
    rewards = [s.reward for s in group]
    mean = math.fsum(rewards) / len(rewards)
    variance = math.fsum((r - mean) ** 2 for r in rewards) / len(rewards)
    return Measured(group[0].example, sum(r >= threshold for r in rewards) / len(rewards), mean, variance)


def guessed(
    stage: Stage, model: Path, examples: Sequence[Example], reward: RewardFunction, cfg: Difficulty
) -> list[bool]:
    """Whether any of the guesses at each prompt is right."""
    tries = replace(cfg, samples=cfg.guess.tries, sampling=cfg.guess.sampling)
    drawn = complete(stage, model, [answer_only(e, cfg.guess.text) for e in examples], tries, "guess")
    groups = scored(reward, [Drawn(e, each.completions) for e, each in zip(examples, drawn, strict=True)])
    return [any(s.reward >= cfg.threshold for s in group) for group in groups]


def answer_only(example: Example, text: str = ANSWER_ONLY) -> Example:
    """The prompt with ``text`` below it, in the message of the user that ends it."""
    *before, last = example.messages
    request: Message = {"role": last["role"], "content": f"{last['content']}\n\n{text}"}
    return replace(example, messages=(*before, request))


def _row(m: Measured) -> dict[str, object]:
    return asked(
        m.example, pass_rate=m.pass_rate, difficulty=1 - m.pass_rate, reward_mean=m.mean, reward_variance=m.variance
    )
