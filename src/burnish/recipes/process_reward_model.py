"""A process reward model on rated steps (PRM800K, arXiv:2305.20050), or on steps that rollouts rate.

    burnish run process-reward-model model=SFT data=prm800k.jsonl
    burnish run process-reward-model model=SFT data=steps.jsonl loss=prm_binary outcome=true
    burnish run process-reward-model model=SFT task=arithmetic loss=math_shepherd

``data`` is a file of stepped answers: PRM800K in either of its public forms, or ``prompt``, ``completions``, ``labels``. Steps
are trained up to and with the first wrong one. ``loss`` is prm800k (wrong, neutral or good), prm_binary (right or wrong) or
math_shepherd (every step, from rollouts). On held-out solutions, which share no prompt with the others, it is measured how
often the first wrong step is found exactly, and how well the score of a solution (product, lowest or mean of its steps) tells
right solutions from wrong ones. A step is called wrong where P(wrong) is above ``threshold``.

- ``task`` in the place of ``data`` rates steps without people (Math-Shepherd, arXiv:2312.08935): ``policy`` writes
  ``labels.solutions`` solutions to each of ``labels.prompts`` problems, which are cut into steps at ``labels.separator``; from
  the end of each step it finishes the solution ``labels.samples`` times, and the task's own grader counts the right ones.
- ``outcome=true`` trains an outcome model on the same solutions too, with the final answer's label at every token, and prints
  what both make of the held-out ones; also which of them sees through a right answer to wrong steps.

The result is a model directory with the head ``step``: ``burnish.loops.reward_model.ProcessReward`` is the reward it gives.

- ``tiny`` trains all of ``nano`` for a few steps: it shows that a file works, not that a model learns.
- ``laptop`` adapts SmolLM2-135M-Instruct with LoRA, in two passes over the data.
- ``paper`` trains all weights in two passes, as published; the learning rate, batches of 128, and an open model of 7B in place
  of GPT-4 are choices.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from burnish.core.process import STEP
from burnish.core.reward_models import OUTCOME_TOKENS, PRM800K, JudgeLoss
from burnish.data.comparisons import Comparisons
from burnish.engines.local import HEADS, Engine
from burnish.engines.lora import LoRA
from burnish.engines.optim import Schedule
from burnish.engines.pretrained import resolve
from burnish.errors import InputError
from burnish.loops.fit import FitConfig, fit
from burnish.loops.localise import is_right, localise
from burnish.loops.reward_model import ProcessReward, RewardModel
from burnish.loops.step_labels import Rated, Rollouts, rate
from burnish.recipes.generic import kind_for
from burnish.recipes.reward_model import check
from burnish.run import Artifact, Run
from burnish.tasks.checks import Generated
from burnish.tasks.userdata import Part, parts
from burnish.types import Comparison, Sampling


@dataclass(frozen=True)
class StepJudging:
    """See the recipe. ``policy`` is the model whose solutions and rollouts label steps (empty: ``model``)."""

    model: str
    fit: FitConfig
    data: str = ""
    task: Generated | None = None
    policy: str = ""
    labels: Rollouts = field(default_factory=Rollouts)
    loss: JudgeLoss = PRM800K
    heldout: int | str | None = None
    threshold: float = 0.5
    outcome: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold={self.threshold}: it is a probability between 0 and 1")


@dataclass(frozen=True)
class Stepped:
    """The solutions of ``data`` with a rated step, without those at the places ``skip``.

    With ``outcome`` those whose final answer is known to be right or wrong, with that as their only label.
    """

    data: Part[Comparison]
    skip: tuple[int, ...] = ()
    outcome: bool = False

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Comparison:
        return self._items[index]

    @cached_property
    def _items(self) -> list[Comparison]:
        found = [self.data[i] for i in range(len(self.data)) if i not in self.skip]
        if self.outcome:
            return [labelled for item in found if (labelled := by_outcome(item)) is not None]
        return [item for item in found if any(step.rating is not None for a in item.answers for step in a.steps)]


def by_outcome(item: Comparison) -> Comparison | None:
    """The solution with the label of its final answer alone; None where that is not known."""
    right = is_right(item)
    if right is None:
        return None
    return replace(item, answers=(replace(item.answers[0], label=float(right), steps=()),))


def main(run: Run, s: StepJudging) -> Artifact:
    refuse(s)
    base = resolve(s.model)
    train, heldout = data(run, s, base)
    skip = check(heldout.data, base, s.fit) if heldout else ()
    check(train.data, base, s.fit)
    outcomes = replace(train, outcome=True) if s.outcome else None
    require(train, outcomes, s)
    heldout = replace(heldout, skip=skip) if heldout else None
    run.view.say(f"{len(train)} solutions to train on, {len(heldout) if heldout else 0} held out")
    if heldout and has_head(base):
        run.stage(localise, "1-before", judge(s, base), heldout, threshold=s.threshold)
    during = heldout if s.fit.eval_every else None
    tuned: Artifact = run.stage(fit, "2-process", base, train, cfg=s.fit, loss=s.loss, heldout=during)
    other = run.stage(fit, "2-outcome", base, outcomes, cfg=s.fit, loss=OUTCOME_TOKENS) if outcomes else None
    if heldout:
        beside = RewardModel(other, engine=precise(s)) if other else None
        found = run.stage(localise, "3-after", judge(s, tuned), heldout, threshold=s.threshold, outcome=beside)
        learned(run, found)
    say_next(run, tuned, other)
    return tuned


# --- what is refused -----------------------------------------------------------------------------


def refuse(s: StepJudging) -> None:
    """Raise InputError unless there is one source of steps and a loss for them."""
    if bool(s.data) == (s.task is not None):
        given = "both data and task" if s.data else "no steps to train on"
        raise InputError(
            f"process-reward-model has {given}: add either data=FILE (JSONL, JSON or Parquet with rated steps), or "
            "task=NAME to have steps rated by rollouts."
        )
    if STEP not in s.loss.needs.heads:
        raise InputError("this loss judges answers, not steps: choose loss=prm800k, or run reward-model")
    if s.policy and s.task is None:
        raise InputError(f"policy={s.policy}: the steps of a file are rated already; leave it out, or give task=NAME")
    if s.task is not None and isinstance(s.heldout, str):
        raise InputError(f"heldout={s.heldout} is for data files: give a number of solutions, or leave it out")


def data(run: Run, s: StepJudging, base: Path) -> tuple[Stepped, Stepped | None]:
    """(what is trained on, what is held out): from the file, or from rollouts, which are a stage of their own."""
    if s.task is None:
        kind_for("process-reward-model", s.data)
        train, heldout = parts(Part[Comparison], s.data, s.heldout, read=Comparisons)
    else:
        policy = resolve(s.policy) if s.policy else base
        rated = run.stage(rate, "0-labels", policy, s.task, cfg=s.labels)
        train, heldout = parts(Part[Comparison], str(Path(rated)), s.heldout, read=Rated)
    return Stepped(train), Stepped(heldout) if heldout else None


def require(train: Stepped, outcomes: Stepped | None, s: StepJudging) -> None:
    """Raise InputError unless there is something to learn from, and to compare with."""
    if not len(train):
        raise InputError(f"{s.data} has no rated step to train on: rate steps with -1, 0 or 1, or lower heldout")
    if outcomes is None:
        return
    labels = {item.answers[0].label for item in (outcomes[i] for i in range(len(outcomes)))}
    if len(labels) < 2:
        known = f"all that are known are {'right' if labels.pop() else 'wrong'}" if labels else "none is known"
        raise InputError(
            f"outcome=true needs right and wrong final answers, and of those of these solutions {known}: leave it out, give "
            "whole solutions with their problem's answer (as PRM800K does), or a task"
        )


# --- models --------------------------------------------------------------------------------------


def precise(s: StepJudging) -> Engine:
    """The engine of a model that only judges. "auto" would read a clock."""
    dtype = "float32" if s.fit.engine.dtype == "auto" else s.fit.engine.dtype
    return replace(s.fit.engine, adapter=None, dtype=dtype, neftune=0.0)


def judge(s: StepJudging, model: Path | Artifact) -> ProcessReward:
    """The model as a reward. Neutral steps count as right."""
    return ProcessReward(model, engine=precise(s))


def has_head(model: Path) -> bool:
    """Whether the model is a process reward model already."""
    return (model / HEADS).exists() and f"{STEP}.weight" in load_file(model / HEADS)


# --- what is said --------------------------------------------------------------------------------


def learned(run: Run, found: dict[str, Any]) -> None:
    """Record the held-out numbers, and say what they do not show."""
    if not found:
        return
    run.summary({"2-process": {"heldout": found}})
    if "first_wrong" in found and found["first_wrong"]["low"] <= found["constant"]:
        run.view.say(
            "The first wrong step is found no more often than by one answer to all: train longer (fit.epochs), raise "
            "fit.schedule.lr, or hold out more solutions."
        )
    if "first_wrong" not in found:
        run.view.say("No held-out solution is rated from its first step on, so where it goes wrong is not known.")


def say_next(run: Run, model: Artifact, outcome: Artifact | None) -> None:
    """Where the models are, and what they are good for."""
    lines = f"the process reward model in {os.path.relpath(model)}"
    if outcome is not None:
        lines += f", the outcome reward model in {os.path.relpath(outcome)}"
    run.view.say(
        f"\nThe run is in {os.path.relpath(run.directory)}; {lines}.\n"
        "As a reward, in Python:  burnish.loops.reward_model.ProcessReward"
        f'(Path("{os.path.relpath(model)}"), reduce=product)'
    )


SCALES = {
    "tiny": StepJudging(
        model="nano",
        fit=FitConfig(steps=20, batch=8, schedule=Schedule(2e-3, warmup=3), engine=Engine(dtype="float32")),
        labels=Rollouts(
            prompts=20, solutions=2, samples=4, separator=" ", sampling=Sampling(max_tokens=40),
            engine=Engine(dtype="float32"),
        ),
    ),
    "laptop": StepJudging(
        model="smollm2-135m",
        fit=FitConfig(
            epochs=2, schedule=Schedule(3e-4, warmup=10, shape="cosine", final=0.1),
            engine=Engine(adapter=LoRA(rank=16, alpha=32)),
        ),
        labels=Rollouts(prompts=100, sampling=Sampling(max_tokens=128)),
    ),
    "paper": StepJudging(
        model="Qwen/Qwen2.5-7B",
        fit=FitConfig(
            epochs=2, batch=128, schedule=Schedule(1e-5, warmup=10, shape="cosine", final=0.1),
            engine=Engine(dtype="bfloat16", token_budget=32_768, activation_checkpointing=True), checkpoint_every=500,
        ),
        labels=Rollouts(prompts=12_000, solutions=15, sampling=Sampling(max_tokens=1024)),
    ),
}  # fmt: skip
