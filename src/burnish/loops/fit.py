"""The loop over fixed data: supervised fine-tuning, preferences, reward models, distillation on given text."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from burnish.core import keys
from burnish.core.losses import NLL
from burnish.data.batching import epoch_order
from burnish.engines.local import Engine, LocalModel
from burnish.engines.optim import Schedule
from burnish.engines.reference import Reference
from burnish.errors import InputError, TrainingHaltedError
from burnish.loops import report
from burnish.loops.fixed import Data, Fixed, encode_all, prepared
from burnish.loops.plan import MemoryPlan, fit_memory, fit_work, peak_memory_gb
from burnish.signals import Interrupted
from burnish.stage import Checkpointable, Stage
from burnish.types import Loss, Metrics, Needs, add_metrics, means, needs_of


@dataclass(frozen=True)
class FitConfig:
    """``epochs`` passes over the data in batches of ``batch`` items, or ``steps`` optimizer steps if that is not 0.

    Every ``eval_every`` steps the held-out metrics are measured before the step (0: never).
    Items longer than ``max_length`` tokens (0: the model's context) are an error, or are left out when ``drop_long``. Of a
    conversation every assistant message is trained, or the last one where ``last_only``. Every ``refresh_reference`` steps the
    reference moves ``refresh_share`` of the way to the policy (0: never).
    """

    epochs: float = 1.0
    steps: int = 0
    batch: int = 16
    max_length: int = 0
    drop_long: bool = False
    last_only: bool = False
    refresh_reference: int = 0
    refresh_share: float = 1.0
    schedule: Schedule = field(default_factory=lambda: Schedule(lr=2e-5, warmup=10, shape="cosine", final=0.1))
    engine: Engine = field(default_factory=Engine)
    eval_every: int = 0
    checkpoint_every: int = 50


@dataclass(frozen=True)
class LoopState:
    step: int
    skipped: int = 0


def fit(
    stage: Stage, model: Path, data: Data, *, cfg: FitConfig, loss: Loss | None = None, heldout: Data | None = None,
    reference: Path | None = None,
) -> Path:  # fmt: skip
    """Train ``model`` on ``data`` and return the directory of the result.

    ``loss`` None is the negative log-likelihood. A loss that compares with a reference gets the model ``reference``, by
    default the one the policy begins as. Every item is encoded and checked before the first step. Resumes from the newest
    checkpoint of the stage, to the bit.
    """
    loss = loss or NLL()
    engine, needs = stage.decide("engine", cfg.engine.resolved), needs_of(loss)
    policy = LocalModel(Path(model), engine, seed=stage.seed, heads=needs.heads)
    limit = cfg.max_length or policy.context
    train = Fixed.of(encode_all(policy.chat, data, limit, drop_long=cfg.drop_long, last_only=cfg.last_only), needs)
    test = Fixed.of(encode_all(policy.chat, heldout, policy.context, drop_long=True), needs) if heldout else None
    moving = _moving_reference(policy, needs, cfg, reference)
    if needs.reference:
        train = train if moving else train.compared_with(policy, reference, cfg.batch, stage.view.say)
        test = test and test.compared_with(policy, reference, cfg.batch, stage.view.say)
    models: dict[str, Checkpointable] = {"policy": policy, **({"reference": moving} if moving else {})}
    total = cfg.steps or max(1, round(cfg.epochs * len(train) / cfg.batch))
    saved = stage.restore(models)
    state = LoopState(**saved["loop"]) if saved else LoopState(0)
    begun = state.step
    memory = _announce(stage, policy, train, cfg, total)
    stage.view.stage(stage.name, total)
    try:
        while state.step < total:
            due = cfg.eval_every and state.step % cfg.eval_every == 0
            numbers = heldout_metrics(policy, test, loss, cfg.batch) if test and due else {}
            started = time.perf_counter()
            order = epoch_order(keys.derive(stage.seed, "order"), len(train), state.step * cfg.batch, cfg.batch)
            batch = train.batch(order)
            if moving is not None:
                batch = replace(batch, ref_logprobs=moving.forward(batch).logprobs)
            batch = prepared(policy, loss, batch)
            metrics, _ = policy.forward_backward(batch, loss)
            with stage.protected():
                lr = cfg.schedule.at(state.step, total)
                metrics = add_metrics(metrics, policy.optim_step(lr), {"lr": (lr, 1.0)})
                state = LoopState(state.step + 1, state.skipped + 1 if metrics["grad/skipped"][0] else 0)
                if moving is not None and state.step % cfg.refresh_reference == 0:
                    moving.refresh(policy, cfg.refresh_share)
                seconds = time.perf_counter() - started
                numbers |= {**means(metrics), **_speed(int(batch.mask.sum()), seconds)}
                stage.log(state.step, numbers)
                if state.skipped >= 3:
                    raise _halted(stage, models, state, order)
                if state.step % cfg.checkpoint_every == 0 or state.step == total:
                    stage.checkpoint(state.step, models, {"loop": asdict(state)})
            if state.step == begun + 1:
                report.step_time(stage, seconds, total - state.step)
    except Interrupted:
        policy.discard_gradient()
        report.save_and_leave(stage, models, state.step, asdict(state))
        raise
    report.memory_check(stage, memory)
    return stage.export(policy)


def heldout_metrics(policy: LocalModel, data: Fixed, loss: Loss, size: int) -> dict[str, float]:
    """The metrics of the loss, by ``eval/<name>``, on items that were not trained on."""
    metrics: Metrics = {}
    for start in range(0, len(data), size):
        batch = prepared(policy, loss, data.batch(range(start, min(start + size, len(data)))))
        metrics = add_metrics(metrics, loss(policy.forward(batch, needs_of(loss)), batch)[1])
    return {f"eval/{name}": value for name, value in means(metrics).items()}


def _moving_reference(policy: LocalModel, needs: Needs, cfg: FitConfig, reference: Path | None) -> Reference | None:
    """The reference of a run that brings it up to date (TR-DPO, arXiv:2404.09656)."""
    if not cfg.refresh_reference:
        return None
    if not needs.reference:
        raise InputError("refresh_reference is set, but this loss has no reference: leave it out")
    return Reference(policy, moving=True, directory=reference)


def _announce(stage: Stage, policy: LocalModel, data: Fixed, cfg: FitConfig, total: int) -> MemoryPlan:
    lengths = sorted(len(row) for unit in data.units for row in unit)
    rows = len(lengths) / len(data)
    memory = fit_memory(policy, cfg, longest=lengths[-1], rows=math.ceil(cfg.batch * rows))
    of = "" if rows == 1 else f"{len(data)} comparisons, "
    lines = {
        "data": f"{of}{len(lengths)} rows of {lengths[0]} to {lengths[-1]} tokens",
        **fit_work(cfg),
        "in all": f"{total} steps, {total * cfg.batch / len(data):.1f} passes over the data",
    }
    report.model_plan(stage, policy, memory, lines)
    report.first_example(stage, policy, data.batch([0]))
    if stage.dry_run:
        raise report.DryRunFinished
    return memory


def _speed(tokens: int, seconds: float) -> dict[str, float]:
    return {
        "tokens/trained": tokens,
        "perf/time_step": seconds,
        "perf/train_tokens_per_s": tokens / seconds,
        "perf/memory_peak_gb": peak_memory_gb(),
    }


def _halted(
    stage: Stage, models: Mapping[str, Checkpointable], state: LoopState, order: Sequence[int]
) -> TrainingHaltedError:
    stage.checkpoint(state.step, models, {"loop": asdict(state)})
    return TrainingHaltedError(
        f"the gradient was not finite three times in a row (last at step {state.step}, rows {[i + 1 for i in order]}). "
        "Weights are as they were before. Lower the learning rate (schedule.lr), or train in float32 (engine.dtype=float32)."
    )
