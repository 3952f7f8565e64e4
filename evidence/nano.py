"""The task that the experiments with ``nano`` share: R1-Zero at its scale ``tiny``, the same pretrained base for all cells."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from burnish.core.algorithms import Algorithm
from burnish.engines.optim import Schedule
from burnish.engines.pretrained import resolve
from burnish.loops.evaluate import evaluate
from burnish.loops.fit import fit
from burnish.loops.rl import RLConfig, rl
from burnish.loops.update import CriticConfig
from burnish.recipes.r1_zero import SCALES
from burnish.rewards.base import RewardFunction, total
from burnish.run import Artifact, Run
from burnish.tasks.arithmetic import Arithmetic
from burnish.tasks.environments import Rewarded
from burnish.tasks.tiny import Demonstrations
from burnish.types import Completion, Example
from burnish.view import View
from evidence.base import Numbers

TINY = SCALES["tiny"]
DEV_ITEMS, EVERY = 100, 5


@dataclass(frozen=True)
class Paid(Rewarded):
    """A task with another reward, measured also by that reward as a share of the ``highest``."""

    highest: float

    def measure(self, example: Example, completion: Completion) -> dict[str, float]:
        (reward,) = self.reward(example, [completion])
        return {**super().measure(example, completion), "reward": total(reward) / self.highest}


def task() -> Arithmetic:
    assert isinstance(TINY.task, Arithmetic)
    return TINY.task


def config(
    *, lr: float = 3e-4, critic_lr: float = 1e-3, pretrain: int = 0, epochs: int = 1, minibatches: int = 2
) -> RLConfig:
    """30 steps of 8 prompts x 16 completions, as in the recipe; the dev split is measured every 5 steps."""
    return replace(
        TINY.rl,
        epochs=epochs,
        minibatches=minibatches,
        schedule=Schedule(lr, warmup=3),
        critic=CriticConfig(Schedule(critic_lr, warmup=2), pretrain=pretrain),
        eval_every=EVERY,
        eval_items=DEV_ITEMS,
        checkpoint_every=10_000,  # only the last step's: cells are short, and run again when interrupted
    )


def shortened(cfg: RLConfig) -> RLConfig:
    """A few steps, to see whether it runs at all."""
    critic = replace(cfg.critic, pretrain=min(1, cfg.critic.pretrain))
    return replace(cfg, steps=2, prompts=4, group=4, eval_every=1, eval_items=8, critic=critic)


@dataclass(frozen=True)
class Base:
    """The pretrained ``nano`` and its accuracy on the test split before any reinforcement."""

    model: Artifact
    accuracy: float


def base(run: Run) -> Base:
    """From the user's cache when it is there: the stage is the recipe's own, and its seed does not depend on the run's."""
    assert TINY.pretrain is not None
    start = resolve(TINY.model)
    model = run.stage(fit, "0-pretrain", start, Demonstrations(task()), cfg=TINY.pretrain, cache=True)
    before = run.stage(evaluate, "1-before", model, task().with_split("test"), cfg=TINY.eval, cache=True)
    return Base(model, before["summary"]["accuracy"]["mean"])


def train(
    folder: Path, seed: int, algo: Algorithm, cfg: RLConfig, *, reward: RewardFunction = TINY.reward,
    pretraining: Demonstrations | None = None, smoke: bool = False,
) -> Numbers:  # fmt: skip
    """Reinforce the base and measure: the test split at the end, the dev split on the way.

    Stages have the same names in every cell, so cells of one seed see the same prompts in the same order.
    """
    cfg = shortened(cfg) if smoke else cfg
    measure = replace(TINY.eval, n=20) if smoke else TINY.eval
    with Run.open(folder / "run", recipe="evidence", scale="tiny", config=cfg, seed=seed, view=View(quiet=True)) as run:
        start = base(run)
        dev, test = task().with_split("dev"), task().with_split("test")
        model = run.stage(
            rl, "rl", start.model, task(), algo=algo, cfg=cfg, reward=reward, heldout=dev, pretraining=pretraining
        )
        last = run.stage(evaluate, "dev", model, dev, cfg=replace(measure, n=cfg.eval_items))
        after = run.stage(evaluate, "test", model, test, cfg=measure)
        lines = [json.loads(line) for line in (run.directory / "rl" / "metrics.jsonl").read_text().splitlines()]
    return {
        "before": start.accuracy,
        "accuracy": after["summary"]["accuracy"]["mean"],
        "length": after["summary"]["length/mean"],
        "curve": _curve(lines, cfg, algo, last["summary"]["accuracy"]["mean"]),
        **_seen(lines),
    }


def _curve(lines: Sequence[Numbers], cfg: RLConfig, algo: Algorithm, last: float) -> list[list[float]]:
    """(steps of the policy, dev accuracy). A line's score is of the weights that began its step."""
    first = cfg.pretraining_steps(algo)
    points = [[line["step"] - 1 - first, line["eval/accuracy"]] for line in lines if "eval/accuracy" in line]
    return [*([step, score] for step, score in points if step >= 0), [cfg.steps, last]]


def _seen(lines: Sequence[Numbers]) -> Numbers:
    """Sums and extremes over the steps. Tokens count those of groups that were drawn and refused, by their share."""
    kls = [line["kl/ref"] for line in lines if line.get("kl/ref") is not None]
    found = {
        "tokens_sampled": round(sum(line["tokens/sampled"] * line.get("select/drawn", 1.0) for line in lines)),
        "tokens_trained": round(sum(line["tokens/trained"] for line in lines)),
        "seconds_training": round(sum(line["perf/time_step"] for line in lines), 1),
        "reward": lines[-1]["reward/mean"],
        "clip_frac": max((line.get("ratio/clip_frac") or 0.0) for line in lines),
    }
    return {**found, "kl_max": max(kls), "kl_last": kls[-1]} if kls else found
