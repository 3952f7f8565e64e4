"""What a run says before its first step, after it, and at its end; and the rehearsal of ``--dry-run``."""

from __future__ import annotations

import json
import os
import shlex
import textwrap
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from burnish.engines.decode import LocalSampler
from burnish.engines.local import LocalModel
from burnish.errors import InputError
from burnish.loops.evaluation.tables import behaviour_table, compared, scores_table
from burnish.loops.plan import MemoryPlan, describe_model, peak_memory_gb
from burnish.loops.rollouts import Group, draw_groups
from burnish.rewards.base import RewardFunction
from burnish.run import Artifact, Run
from burnish.stage import Checkpointable, Stage
from burnish.types import Batch, Task
from burnish.view import duration

if TYPE_CHECKING:
    from burnish.loops.rl import RLConfig


WRITE_SPEED = 150e6
"""Bytes a second of writing, hashing and syncing a checkpoint: a cautious guess, used to say how long to wait."""


class DryRunFinished(Exception):  # noqa: N818 - not an error: the rehearsal is over and nothing was trained
    """Raised where training would have begun."""


def model_plan(stage: Stage, model: LocalModel, memory: MemoryPlan, lines: Mapping[str, str]) -> None:
    """Print the plan of a stage: the lines given, the model, the predicted peak of memory."""
    table = Table.grid(padding=(0, 2))
    own = {"model": describe_model(model), "memory": f"about {memory.total / 1e9:.1f} GB at its peak (predicted)"}
    for name, value in {**lines, **own}.items():
        table.add_row(Text(name, style="dim"), Text(value))
    stage.view.say(table)


def first_example(stage: Stage, model: LocalModel, batch: Batch) -> None:
    """Print one row as the loss sees it, with the trained tokens marked. Raises InputError if there are none."""
    if not bool(batch.mask.any()):
        raise InputError("no token of the batch would be trained: every mask is empty; check the roles in your data")
    prompt = batch.prompts[0].tolist()
    length = int(batch.lengths[0])
    tokens = [*prompt, *batch.tokens[0, :length].tolist()]
    mask = [False] * len(prompt) + batch.mask[0, :length].tolist()
    stage.view.say(Text("the first example, trained tokens marked:", style="dim"))
    stage.view.say(model.chat.describe(tokens, mask))


def step_time(stage: Stage, seconds: float, remaining: int) -> None:
    stage.view.say(
        Text(f"one step took {seconds:.1f} s; {remaining} to go: about {duration(seconds * remaining)}", style="dim")
    )


def memory_check(stage: Stage, predicted: MemoryPlan) -> None:
    """Print what memory was predicted and what was used."""
    used = peak_memory_gb()
    stage.view.say(Text(f"memory: {used:.1f} GB at the peak, {predicted.total / 1e9:.1f} GB predicted", style="dim"))


def save_and_leave(stage: Stage, saved: Mapping[str, Checkpointable], step: int, loop: dict[str, Any]) -> None:
    """The checkpoint of a run that stops early: the state after its last complete step, without the unfinished one.

    Says how long the wait will be where it is more than a few seconds.
    """
    size = sum(model.state_bytes() for model in saved.values() if isinstance(model, LocalModel))
    if size / WRITE_SPEED > 5:
        stage.view.say(
            f"writing {size / 1e9:.1f} GB of weights and optimizer state: about {duration(size / WRITE_SPEED)}"
        )
    stage.checkpoint(step, saved, {"loop": loop})


def learned(run: Run, model: Artifact, before: dict[str, Any], after: dict[str, Any], *, stage: str) -> None:
    """The end of a run: scores before and after on the same items, how the model replies before and after, the reward
    curve, three prompts, what to do next."""
    found = compared(before["measures"], after["measures"])
    run.summary({stage: found})
    run.view.say(scores_table(found, f"\nheld out, n = {after['summary']['n']}"))
    run.view.say(behaviour_table(found, "\nhow it replies"))
    run.view.say("\nreward, step by step  " + _sparkline(run.directory / stage / "metrics.jsonl"))
    for old, new in list(zip(before["items"], after["items"], strict=True))[:3]:
        run.view.say(Text(f"\n{old['prompt']}", style="bold"))
        run.view.say(Text(f"  before  {_shown(old)}\n  after   {_shown(new)}"))
    say_next(run, model, after["items"][0]["prompt"])


def say_next(run: Run, model: Artifact, prompt: str) -> None:
    """Where the run and its model are, and what to type next."""
    short, question = os.path.relpath(model), shlex.quote(textwrap.shorten(prompt, 160, placeholder=""))
    run.view.say(
        f"\nThe run is in {os.path.relpath(run.directory)}; the model in {short} loads in transformers.\n"
        f"Talk to it:         burnish chat {short}\nAsk it once:        burnish sample {short} {question}"
    )


def _shown(item: dict[str, Any]) -> str:
    name, score = next(iter(item["scores"][0].items()))
    return f"{item['completions'][0]!r}  ({name} {score:g})"


def _sparkline(metrics: Path) -> str:
    """The mean reward of each step as one row of bars, with its first and last value."""
    rewards = [json.loads(line)["reward/mean"] for line in metrics.read_text(encoding="utf-8").splitlines()]
    low, high = min(rewards), max(rewards)
    bars = "".join("▁▂▃▄▅▆▇█"[round(7 * (r - low) / (high - low or 1))] for r in rewards)
    return f"{rewards[0]:.2f} {bars} {rewards[-1]:.2f}"


def rehearse(
    stage: Stage, model: LocalModel, task: Task, reward: RewardFunction, cfg: RLConfig, *, rewarded: bool = True
) -> None:
    """Sample a few prompts, print completions and rewards, the base rate and the share of groups with nothing to learn.

    Where the method is not ``rewarded``, nothing is said of what rewards would teach.
    """
    started = time.perf_counter()
    groups = draw_groups(
        LocalSampler(model), model.chat, task, reward, draws=range(min(4, cfg.prompts)), size=cfg.group,
        sampling=cfg.sampling, seed=stage.seed, version=0, order=cfg.order,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    for group in groups:
        stage.view.say(Text("\n" + group.example.messages[-1]["content"], style="bold"))
        for rollout, text in list(zip(group.rollouts, group.texts, strict=True))[:3]:
            parts = "  ".join(f"{p.part} {p.value:g}" for p in rollout.rewards)
            stage.view.say(
                Text(f"  {rollout.reward:6.3f}  {text!r}  ({parts}; {len(rollout.tokens)} tokens, {rollout.finish})")
            )
    if rewarded:
        stage.view.say(rehearsal_summary(groups))
    stage.view.say(
        f"sampling and grading {len(groups) * cfg.group} of the {cfg.prompts * cfg.group} rollouts of a step took "
        f"{seconds:.1f} s"
    )
    raise DryRunFinished


def rehearsal_summary(groups: Sequence[Group]) -> str:
    """Mean reward, base rate (the share of completions at the best reward seen, if that is above the worst), and the share
    of groups whose rewards are all equal. Single completions are compared with each other: all prompts are one group.
    """
    rewards = [g.scores for g in groups]
    flat = [r for group in rewards for r in group]
    compared = rewards if len(flat) > len(groups) else [flat]
    equal = sum(max(group) - min(group) < 1e-12 for group in compared)
    best, worst = max(flat), min(flat)
    rate = (
        f"{sum(r >= best - 1e-12 for r in flat) / len(flat):.2f}" if best > worst else "unknown: all rewards are equal"
    )
    verdict = ""
    if equal == len(compared):
        verdict = (
            "\nEvery group has equal rewards, so there is nothing to learn from: choose easier prompts, a larger group, "
            "or a reward with partial credit."
        )
    return (
        f"\nmean reward {sum(flat) / len(flat):.3f}, best {best:.3f}; base rate (share at the best reward) {rate}; "
        f"groups with zero variance {equal}/{len(compared)}{verdict}"
    )
