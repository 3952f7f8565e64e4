"""The reinforcement-learning loop: fresh rollouts, credit, update. Every policy-gradient method runs through here.

What it leaves out: lag (the sampler always has the newest weights), a critic, and several turns; they join as values of
the same loop.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from burnish.core import keys
from burnish.core.advantages import State
from burnish.core.algorithms import Algorithm
from burnish.data.batching import collate, minibatches
from burnish.engines.decode import LocalSampler
from burnish.engines.local import Engine, LocalModel, Reference
from burnish.engines.optim import Schedule
from burnish.errors import TrainingHaltedError
from burnish.loops import report
from burnish.loops.evaluate import Measured, run_items, summarise
from burnish.loops.plan import MemoryPlan, memory_plan, peak_memory_gb
from burnish.loops.rollouts import Group, RewardFunction, draw_groups, read_groups, rollout_table, stamped
from burnish.signals import Interrupted
from burnish.stage import Stage
from burnish.types import Batch, Metrics, Outputs, Sampling, Task, add_metrics, means


@dataclass(frozen=True)
class RLConfig:
    """``steps`` times: ``prompts`` x ``group`` rollouts, then ``epochs`` passes over them in ``minibatches`` updates each.

    Every ``eval_every`` steps the policy is measured on ``eval_items`` held-out items before it samples (0: never).
    ``replay`` names a folder of saved rollouts to train on instead of sampling.
    """

    steps: int = 30
    prompts: int = 8
    group: int = 8
    epochs: int = 1
    minibatches: int = 1
    sampling: Sampling = field(default_factory=Sampling)
    schedule: Schedule = field(default_factory=lambda: Schedule(lr=1e-5, warmup=2))
    engine: Engine = field(default_factory=Engine)
    eval_every: int = 0
    eval_items: int = 50
    checkpoint_every: int = 10
    replay: str = ""

    def __post_init__(self) -> None:
        if self.sampling.temperature <= 0:
            raise ValueError("training samples at a temperature above 0: a greedy policy has no gradient")
        if not 1 <= self.minibatches <= self.prompts:
            raise ValueError(f"{self.minibatches} minibatches of whole groups need as many prompts, not {self.prompts}")
        if min(self.steps, self.prompts, self.group, self.epochs, self.checkpoint_every) < 1:
            raise ValueError("steps, prompts, group, epochs and checkpoint_every are at least 1")


@dataclass(frozen=True)
class Seen:
    """What the first pass over a batch computed: [B, T] in float64, NaN on rows that were left out; ``rows`` [B]."""

    logprobs: Tensor
    entropy: Tensor
    rows: Tensor

    @staticmethod
    def nothing(batch: Batch) -> Seen:
        empty = torch.full(batch.tokens.shape, torch.nan, dtype=torch.float64)
        return Seen(empty, empty.clone(), torch.zeros(len(batch), dtype=torch.bool))

    def note(self, rows: Tensor, outputs: Outputs) -> None:
        self.logprobs[rows] = outputs.logprobs.to(torch.float64)
        self.entropy[rows] = outputs.entropy.to(torch.float64)
        self.rows[rows] = True


@dataclass(frozen=True)
class LoopState:
    """All that the loop remembers beside weights and optimizer: saved as JSON, replaced and never mutated."""

    step: int
    draws: int
    algo: State
    skipped: int = 0


def rl(
    stage: Stage, model: Path, task: Task, *, algo: Algorithm, cfg: RLConfig, reward: RewardFunction | None = None,
    heldout: Measured | None = None,
) -> Path:  # fmt: skip
    """Train ``model`` on ``task`` and return the directory of the result.

    ``reward`` takes the place of the task's own. Resumes from the newest checkpoint of the stage, to the bit.
    """
    policy = LocalModel(Path(model), stage.decide("engine", cfg.engine.resolved), seed=stage.seed)
    saved = stage.restore({"policy": policy})
    state = LoopState(**saved["loop"]) if saved else LoopState(0, 0, algo.init())
    begun = state.step
    sampler = LocalSampler(policy)
    reference = Reference(policy) if algo.needs_reference else None
    grade = reward or task.reward
    memory = _announce(stage, policy, algo, cfg)
    if stage.dry_run:
        report.rehearse(stage, policy, task, grade, cfg)
    stage.view.stage(stage.name, cfg.steps)
    try:
        while state.step < cfg.steps:
            started = time.perf_counter()
            numbers = _measure(sampler, policy, heldout, cfg, state.step)
            measured = time.perf_counter()
            groups, draws = _fresh(stage, sampler, policy, task, grade, cfg, state)
            rolled = time.perf_counter()
            batch = annotate(_collate(groups, cfg), algo, policy, reference, cfg)
            batch = algo.credit(batch, state.algo)
            if first := state.step == begun:
                report.first_example(stage, policy, batch)
            with ExitStack() as critical:
                metrics, seen = _update(policy, batch, algo, cfg, state.step, stage, critical)
                state = _advance(state, draws, algo, batch, metrics)
                times = {
                    "eval": measured - started,
                    "rollout": rolled - measured,
                    "train": time.perf_counter() - rolled,
                }
                numbers |= {
                    **means(add_metrics(metrics, _describe(groups, batch, algo))),
                    **_speed(batch, int(batch.mask[seen.rows].sum()), times),
                }
                stage.log(state.step, numbers)
                stage.write_rollouts(state.step, _table(state.step, groups, batch, seen, policy))
                _halt_if_broken(stage, policy, state, groups, seen)
                if state.step % cfg.checkpoint_every == 0 or state.step == cfg.steps:
                    stage.checkpoint(state.step, {"policy": policy}, {"loop": asdict(state)})
            if first:
                report.step_time(stage, numbers["perf/time_step"], cfg.steps - state.step)
    except Interrupted:
        report.save_and_leave(stage, policy, state.step, asdict(state))
        raise
    report.memory_check(stage, memory)
    return stage.export(policy)


def _announce(stage: Stage, policy: LocalModel, algo: Algorithm, cfg: RLConfig) -> MemoryPlan:
    """Print the plan: prompts to rollouts to updates, the model, the memory."""
    rollouts = cfg.prompts * cfg.group
    row = 128 + cfg.sampling.max_tokens
    tokens = min(cfg.engine.token_budget, cfg.prompts * 128 + rollouts * cfg.sampling.max_tokens)
    memory = memory_plan(policy, tokens=tokens, rows=rollouts, row_tokens=row, reference=algo.needs_reference)
    updates = cfg.epochs * cfg.minibatches
    lines = {
        "a step": f"{cfg.prompts} prompts x {cfg.group} completions = {rollouts} rollouts of at most "
        f"{cfg.sampling.max_tokens} tokens -> {updates} update{'s' * (updates > 1)}, micro-batches of at most "
        f"{cfg.engine.token_budget} tokens",
        "in all": f"{cfg.steps} steps, {cfg.steps * rollouts} rollouts",
    }
    if cfg.sampling.top_k or cfg.sampling.top_p < 1:
        lines["beware"] = (
            "top_k and top_p sample from a truncated policy, which biases the gradient; leave them out to train"
        )
    report.model_plan(stage, policy, memory, lines)
    return memory


def _fresh(
    stage: Stage, sampler: LocalSampler, policy: LocalModel, task: Task, reward: RewardFunction, cfg: RLConfig,
    state: LoopState,
) -> tuple[list[Group], int]:  # fmt: skip
    """The groups of the next step, sampled or replayed, and how many have been drawn with them.

    The state itself changes only when the step is complete: an interrupted one draws the same groups again.
    """
    if cfg.replay:
        return stamped(read_groups(Path(cfg.replay), state.step + 1), state.step), state.draws
    sampler.load(policy.weights(), version=state.step)
    draws = range(state.draws, state.draws + cfg.prompts)
    groups = draw_groups(
        sampler, policy.chat, task, reward, draws=draws, size=cfg.group, sampling=cfg.sampling, seed=stage.seed,
        version=state.step,
    )  # fmt: skip
    return groups, draws.stop


def _collate(groups: Sequence[Group], cfg: RLConfig) -> Batch:
    rollouts = [r for g in groups for r in g.rollouts]
    return collate(rollouts, temperature=cfg.sampling.temperature, max_tokens=cfg.sampling.max_tokens)


def annotate(batch: Batch, algo: Algorithm, policy: LocalModel, reference: Reference | None, cfg: RLConfig) -> Batch:
    """Add what the algorithm needs and only that: log-probs before the update, log-probs of the reference.

    With a single update per batch the current log-probs are the old ones, and no forward pass is spent on them.
    """
    if algo.needs_old_logprobs or cfg.epochs * cfg.minibatches > 1:
        batch = replace(batch, old_logprobs=policy.forward(batch).logprobs)
    if reference is not None:
        batch = replace(batch, ref_logprobs=reference.forward(batch).logprobs)
    return batch


def _update(
    policy: LocalModel, batch: Batch, algo: Algorithm, cfg: RLConfig, step: int, stage: Stage, critical: ExitStack
) -> tuple[Metrics, Seen]:
    """All optimizer steps of one rollout batch. Returns metrics, and what the first pass computed, NaN where skipped.

    From the first change of a weight on, an interrupt waits until the step is complete.
    """
    seen = Seen.nothing(batch)
    metrics: Metrics = {}
    lr = cfg.schedule.at(step, cfg.steps)
    batch = replace(batch, extras={**batch.extras, "row": ("row", torch.arange(len(batch)))})
    for epoch in range(cfg.epochs):
        for mini in minibatches(batch, cfg.minibatches, keys.derive(stage.seed, "minibatch", step, epoch)):
            weighed = algo.loss.prepare(mini)
            active = weighed.select(torch.nonzero(~algo.idle(weighed)).squeeze(1))
            if len(active):
                found, outputs = policy.forward_backward(active, algo.loss)
                metrics = add_metrics(metrics, found)
                if epoch == 0:
                    seen.note(active.extra("row"), outputs)
            if "lr" not in metrics:
                critical.enter_context(stage.protected())
            metrics = add_metrics(metrics, policy.optim_step(lr), {"lr": (lr, 1.0)})
    return metrics, seen


def _advance(state: LoopState, draws: int, algo: Algorithm, batch: Batch, metrics: Metrics) -> LoopState:
    skipped = state.skipped + 1 if metrics["grad/skipped"][0] else 0
    return LoopState(state.step + 1, draws, dict(algo.update(state.algo, batch)), skipped)


def _describe(groups: Sequence[Group], batch: Batch, algo: Algorithm) -> Metrics:
    """Rewards (total and by part), lengths, and how many groups and tokens had something to teach."""
    rollouts = [r for g in groups for r in g.rollouts if r.train]
    metrics: Metrics = {"reward/mean": (sum(r.reward for r in rollouts), len(rollouts))}
    for name in {part.part for r in rollouts for part in r.rewards}:
        total = sum(p.value for r in rollouts for p in r.rewards if p.part == name)
        metrics[f"reward/{name}"] = (total, len(rollouts))
    equal = sum(len({round(r.reward, 12) for r in g.rollouts if r.train}) == 1 for g in groups)
    useful = int(batch.lengths[~algo.idle(batch)].sum())
    return metrics | {
        "length/mean": (sum(len(r.tokens) for r in rollouts), len(rollouts)),
        "length/truncated_frac": (sum(r.finish == "length" for r in rollouts), len(rollouts)),
        "groups/zero_variance": (equal, len(groups)),
        "tokens/useful_frac": (useful, int(batch.lengths.sum())),
    }


def _speed(batch: Batch, trained: int, times: dict[str, float]) -> dict[str, float]:
    """Token counts of the step and what cannot repeat: seconds, tokens per second, memory in 10^9 bytes."""
    tokens = int(batch.lengths.sum())
    return {
        "tokens/sampled": tokens,
        "tokens/trained": trained,
        **{f"perf/time_{phase}": seconds for phase, seconds in times.items()},
        "perf/time_step": times["rollout"] + times["train"],
        "perf/rollout_tokens_per_s": tokens / times["rollout"],
        "perf/train_tokens_per_s": tokens / times["train"],
        "perf/memory_peak_gb": peak_memory_gb(),
    }


def _measure(
    sampler: LocalSampler, policy: LocalModel, heldout: Measured | None, cfg: RLConfig, step: int
) -> dict[str, float]:
    """Held-out scores of the policy that is about to sample, when they are due: they stand beside its rewards."""
    if heldout is None or not cfg.eval_every or step % cfg.eval_every:
        return {}
    key = keys.derive("evaluate")
    items = run_items(sampler, policy.chat, heldout, n=cfg.eval_items, samples=1, sampling=cfg.sampling, key=key)
    found: dict[str, Any] = summarise(items)
    return {f"eval/{name}": value["mean"] for name, value in found.items() if isinstance(value, dict)}


def _table(step: int, groups: Sequence[Group], batch: Batch, seen: Seen, policy: LocalModel) -> pa.Table:
    return rollout_table(step, groups, batch, {"logprobs": seen.logprobs, "entropy": seen.entropy}, policy.chat)


def _halt_if_broken(stage: Stage, policy: LocalModel, state: LoopState, groups: Sequence[Group], seen: Seen) -> None:
    """Say which samples broke the gradient; after three skipped updates in a row, stop with the weights as they were."""
    if not state.skipped:
        return
    rollouts = [r for g in groups for r in g.rollouts]
    bad = [
        f"group {r.group}, episode {r.episode}: {policy.chat.decode(r.tokens)[:80]!r}"
        for r, row, known in zip(rollouts, seen.logprobs, seen.rows.tolist(), strict=True)
        if known and not torch.isfinite(row[: len(r.tokens)]).all()
    ]
    where = "; ".join(bad[:5]) or "every log-prob was finite, so the overflow happened in the backward pass"
    stage.view.say(f"step {state.step}: the gradient is not finite; the update was skipped. {where}")
    if state.skipped >= 3:
        stage.checkpoint(state.step, {"policy": policy}, {"loop": asdict(state)})
        raise TrainingHaltedError(
            f"the gradient was not finite three times in a row (last at step {state.step}; {where}). Weights are as they "
            "were before. Lower the learning rate (schedule.lr), or train in float32 (engine.dtype=float32)."
        )
