"""What a run says before its first step, after it, and at its end; and the rehearsal of ``--dry-run``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from burnish.data.batching import micro_batches
from burnish.engines.decode import LocalSampler
from burnish.engines.local import LocalModel
from burnish.errors import InputError
from burnish.loops.plan import MemoryPlan, describe_model, peak_memory_gb
from burnish.loops.rollouts import Group, RewardFunction, draw_groups
from burnish.stage import Stage
from burnish.types import Batch, Task

if TYPE_CHECKING:
    from burnish.loops.rl import RLConfig


class DryRunFinished(Exception):  # noqa: N818 - not an error: the rehearsal is over and nothing was trained
    """Raised where training would have begun."""


def model_plan(stage: Stage, model: LocalModel, memory: MemoryPlan, lines: Sequence[str]) -> None:
    """Print the plan of a stage: the lines given, the model, the predicted peak of memory."""
    table = Table.grid(padding=(0, 2))
    for line in (*lines, f"model|{describe_model(model)}", f"memory|about {memory.total / 1e9:.1f} GB at its peak"):
        name, _, value = line.partition("|")
        table.add_row(Text(name, style="dim"), value)
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


def batch_plan(batch: Batch, minibatches: int, epochs: int, token_budget: int) -> str:
    micro = len(micro_batches(batch, token_budget))
    return f"{minibatches * epochs} update{'s' if minibatches * epochs > 1 else ''}, {micro} micro-batches of at most {token_budget} tokens"


def step_time(stage: Stage, seconds: float, remaining: int) -> None:
    stage.view.say(Text(f"one step took {seconds:.1f} s; {remaining} to go: about {clock(seconds * remaining)}", style="dim"))


def memory_check(stage: Stage, predicted: MemoryPlan) -> None:
    """Print what memory was predicted and what was used."""
    used = peak_memory_gb()
    stage.view.say(Text(f"memory: {used:.1f} GB at the peak, {predicted.total / 1e9:.1f} GB predicted", style="dim"))


def clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def rehearse(stage: Stage, model: LocalModel, task: Task, reward: RewardFunction, cfg: RLConfig) -> None:
    """Sample a few prompts, print completions and rewards, the base rate and the share of groups with nothing to learn."""
    groups = draw_groups(
        LocalSampler(model), model.chat, task, reward, draws=range(min(4, cfg.prompts)), size=cfg.group,
        sampling=cfg.sampling, seed=stage.seed, version=0,
    )  # fmt: skip
    for group in groups:
        stage.view.say(Text("\n" + group.example.messages[-1]["content"], style="bold"))
        for rollout, text in list(zip(group.rollouts, group.texts, strict=True))[:3]:
            parts = "  ".join(f"{p.part} {p.value:g}" for p in rollout.rewards)
            stage.view.say(Text(f"  {rollout.reward:6.3f}  {text!r}  ({parts}; {len(rollout.tokens)} tokens, {rollout.finish})"))
    stage.view.say(rehearsal_summary(groups))
    raise DryRunFinished


def rehearsal_summary(groups: Sequence[Group]) -> str:
    rewards = [[r.reward for r in g.rollouts] for g in groups]
    flat = [r for group in rewards for r in group]
    equal = sum(max(group) - min(group) < 1e-12 for group in rewards)
    best = max(flat)
    verdict = ""
    if equal == len(groups):
        verdict = (
            "\nEvery group has equal rewards, so there is nothing to learn from: choose easier prompts, a larger group, "
            "or a reward with partial credit."
        )
    return (
        f"\nmean reward {sum(flat) / len(flat):.3f}, best {best:.3f}; base rate (share at the best reward) "
        f"{sum(r >= best - 1e-12 for r in flat) / len(flat):.2f}; groups with zero variance {equal}/{len(groups)}{verdict}"
    )
