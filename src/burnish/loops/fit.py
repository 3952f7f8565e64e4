"""The loop over fixed data: supervised fine-tuning and pretraining now, every offline loss through the same lines."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

from burnish.core import keys
from burnish.core.losses import NLL
from burnish.data.batching import Row, epoch_order, supervised
from burnish.data.chat import Chat
from burnish.engines.local import Engine, LocalModel
from burnish.engines.optim import Schedule
from burnish.errors import InputError, TrainingHaltedError
from burnish.loops import report
from burnish.loops.plan import MemoryPlan, fit_memory, fit_work, peak_memory_gb
from burnish.signals import Interrupted
from burnish.stage import Stage
from burnish.types import Example, Metrics, add_metrics, means


class Examples(Protocol):
    """Anything with a length whose items are conversations that end with the assistant."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Example: ...


@dataclass(frozen=True)
class FitConfig:
    """``epochs`` passes over the data in batches of ``batch`` rows, or ``steps`` optimizer steps if that is not 0.

    Every ``eval_every`` steps the held-out loss is measured before the step (0: never).
    Rows longer than ``max_length`` tokens (0: the model's context) are an error, or are left out when ``drop_long``.
    """

    epochs: float = 1.0
    steps: int = 0
    batch: int = 16
    max_length: int = 0
    drop_long: bool = False
    schedule: Schedule = field(default_factory=lambda: Schedule(lr=2e-5, warmup=10, shape="cosine", final=0.1))
    engine: Engine = field(default_factory=Engine)
    eval_every: int = 0
    checkpoint_every: int = 50


@dataclass(frozen=True)
class LoopState:
    step: int
    skipped: int = 0


def fit(
    stage: Stage,
    model: Path,
    data: Examples,
    *,
    cfg: FitConfig,
    loss: NLL | None = None,
    heldout: Examples | None = None,
) -> Path:
    """Train ``model`` on ``data`` and return the directory of the result.

    Every row is encoded and checked before the first step. Resumes from the newest checkpoint of the stage, to the bit.
    """
    loss = loss or NLL()
    policy = LocalModel(Path(model), stage.decide("engine", cfg.engine.resolved), seed=stage.seed)
    rows = encode(policy.chat, data, cfg.max_length or policy.context, drop_long=cfg.drop_long)
    test = encode(policy.chat, heldout, policy.context, drop_long=True) if heldout else []
    total = cfg.steps or max(1, round(cfg.epochs * len(rows) / cfg.batch))
    saved = stage.restore({"policy": policy})
    state = LoopState(**saved["loop"]) if saved else LoopState(0)
    begun = state.step
    memory = _announce(stage, policy, rows, cfg, total)
    stage.view.stage(stage.name, total)
    try:
        while state.step < total:
            due = test and cfg.eval_every and state.step % cfg.eval_every == 0
            numbers = {"eval/loss": heldout_loss(policy, test, loss, cfg.batch)} if due else {}
            started = time.perf_counter()
            order = epoch_order(keys.derive(stage.seed, "order"), len(rows), state.step * cfg.batch, cfg.batch)
            batch = loss.prepare(supervised([rows[i] for i in order]))
            metrics, _ = policy.forward_backward(batch, loss)
            with stage.protected():
                lr = cfg.schedule.at(state.step, total)
                metrics = add_metrics(metrics, policy.optim_step(lr), {"lr": (lr, 1.0)})
                state = LoopState(state.step + 1, state.skipped + 1 if metrics["grad/skipped"][0] else 0)
                seconds = time.perf_counter() - started
                numbers |= {**means(metrics), **_speed(int(batch.mask.sum()), seconds)}
                stage.log(state.step, numbers)
                if state.skipped >= 3:
                    raise _halted(stage, policy, state, order)
                if state.step % cfg.checkpoint_every == 0 or state.step == total:
                    stage.checkpoint(state.step, {"policy": policy}, {"loop": asdict(state)})
            if state.step == begun + 1:
                report.step_time(stage, seconds, total - state.step)
    except Interrupted:
        policy.discard_gradient()
        report.save_and_leave(stage, {"policy": policy}, state.step, asdict(state))
        raise
    report.memory_check(stage, memory)
    return stage.export(policy)


def encode(chat: Chat, data: Examples, limit: int, *, drop_long: bool) -> list[Row]:
    """Every conversation as (tokens, mask). Raises InputError for no rows at all and for rows that are too long."""
    rows: list[Row] = []
    long = []
    for number in range(len(data)):
        row = chat.encode_dialogue(data[number].messages)
        if len(row[0]) > limit:
            long.append((number + 1, len(row[0])))
        else:
            rows.append(row)
    if long and not drop_long:
        shown = ", ".join(f"row {number}: {length} tokens" for number, length in long[:3])
        raise InputError(
            f"{len(long)} of {len(data)} rows are longer than {limit} tokens ({shown}); shorten them, or leave them out "
            "with drop_long=true"
        )
    if not rows:
        raise InputError("there is no row to train on; check the data file")
    return rows


def heldout_loss(policy: LocalModel, rows: Sequence[Row], loss: NLL, batch: int) -> float:
    """Mean negative log-likelihood per trained token of rows that were not trained on, in nats."""
    metrics: Metrics = {}
    for start in range(0, len(rows), batch):
        part = loss.prepare(supervised(rows[start : start + batch]))
        metrics = add_metrics(metrics, loss(policy.forward(part), part)[1])
    return means(metrics)["loss"]


def _announce(stage: Stage, policy: LocalModel, rows: Sequence[Row], cfg: FitConfig, total: int) -> MemoryPlan:
    lengths = sorted(len(tokens) for tokens, _ in rows)
    memory = fit_memory(policy, cfg, longest=lengths[-1])
    first = supervised(rows[:1])
    lines = {
        "data": f"{len(rows)} rows of {lengths[0]} to {lengths[-1]} tokens",
        **fit_work(cfg),
        "in all": f"{total} steps, {total * cfg.batch / len(rows):.1f} passes over the data",
    }
    report.model_plan(stage, policy, memory, lines)
    report.first_example(stage, policy, first)
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


def _halted(stage: Stage, policy: LocalModel, state: LoopState, order: Sequence[int]) -> TrainingHaltedError:
    stage.checkpoint(state.step, {"policy": policy}, {"loop": asdict(state)})
    return TrainingHaltedError(
        f"the gradient was not finite three times in a row (last at step {state.step}, rows {[i + 1 for i in order]}). "
        "Weights are as they were before. Lower the learning rate (schedule.lr), or train in float32 (engine.dtype=float32)."
    )
