"""The loop over fixed data: supervised fine-tuning, preferences, reward models, distillation on given text."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from burnish.core import keys
from burnish.core.losses import NLL
from burnish.data.batching import epoch_order
from burnish.data.units import Unit
from burnish.engines.local import Engine, LocalModel
from burnish.engines.neftune import seeded
from burnish.engines.optim import Schedule
from burnish.engines.reference import Reference
from burnish.errors import InputError, TrainingHaltedError
from burnish.loops import report
from burnish.loops.alarms import Alarms
from burnish.loops.fixed import Data, Fixed, encode_all, prepared
from burnish.loops.plan import MemoryPlan, fit_memory, fit_work, peak_memory_gb
from burnish.signals import Interrupted
from burnish.stage import Checkpointable, Stage
from burnish.types import Batch, Loss, Metrics, Needs, add_metrics, means, needs_of


@dataclass(frozen=True)
class FitConfig:
    """``epochs`` passes over the data in batches of ``batch`` items, or ``steps`` optimizer steps if that is not 0.

    Every ``eval_every`` steps the held-out metrics are measured before the step (0: never). Items longer than ``max_length``
    tokens (0: the model's context) are an error, or are left out when ``drop_long``; a plain text is cut into windows of that
    size. Of a conversation every assistant message is trained, or the last one where ``last_only``. Every
    ``refresh_reference`` steps the reference moves ``refresh_share`` of the way to the policy (0: never).
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

    def limit(self, context: int) -> int:
        """The most tokens of a row, for a model with that context."""
        return min(self.max_length or context, context)


@dataclass(frozen=True)
class LoopState:
    step: int
    skipped: int = 0


@dataclass(frozen=True)
class Job:
    """What a run over fixed data works with. ``moving`` is the reference of a run that brings it up to date."""

    policy: LocalModel
    loss: Loss
    train: Fixed
    test: Fixed | None
    moving: Reference | None
    cfg: FitConfig
    seed: int

    @staticmethod
    def of(
        stage: Stage, model: Path, data: Data, cfg: FitConfig, loss: Loss, heldout: Data | None, reference: Path | None
    ) -> Job:
        """Load the model, encode and check every item, ask the reference."""
        needs = needs_of(loss)
        engine = stage.decide("engine", cfg.engine.resolved)
        policy = LocalModel(model, engine, seed=stage.seed, heads=needs.heads)
        limit = cfg.limit(policy.context)
        train = Fixed.of(encode_all(policy.chat, data, limit, drop_long=cfg.drop_long, last_only=cfg.last_only), needs)
        test = Fixed.of(encode_heldout(policy, heldout, cfg), needs) if heldout else None
        moving = _moving_reference(policy, needs, cfg, reference)
        if needs.reference and not stage.dry_run:
            train = train if moving else train.compared_with(policy, reference, cfg.batch, stage.view.say)
            test = test and test.compared_with(policy, reference, cfg.batch, stage.view.say)
        return Job(policy, loss, train, test, moving, cfg, stage.seed)

    @property
    def models(self) -> dict[str, Checkpointable]:
        """What belongs to a checkpoint, by role."""
        return {"policy": self.policy, **({"reference": self.moving} if self.moving else {})}

    @property
    def total(self) -> int:
        return self.cfg.steps or max(1, round(self.cfg.epochs * len(self.train) / self.cfg.batch))

    def items(self, step: int) -> list[int]:
        """The numbers of the items of a step, counted from 0."""
        order = keys.derive(self.seed, "order")
        return epoch_order(order, len(self.train), step * self.cfg.batch, self.cfg.batch)

    def batch(self, step: int) -> Batch:
        """The batch of a step, with all that the loss wants in it."""
        batch = self.train.batch(self.items(step))
        if self.moving is not None:
            batch = replace(batch, ref_logprobs=self.moving.forward(batch).logprobs)
        if self.policy.engine.neftune:
            batch = seeded(batch, keys.derive(self.seed, "noise", step))
        return prepared(self.policy, self.loss, batch)

    def measured(self, step: int) -> dict[str, float]:
        """The held-out metrics, where they are due before a step."""
        if self.test is None or not self.cfg.eval_every or step % self.cfg.eval_every:
            return {}
        return heldout_metrics(self.policy, self.test, self.loss, self.cfg.batch)


def fit(
    stage: Stage, model: Path, data: Data, *, cfg: FitConfig, loss: Loss | None = None, heldout: Data | None = None,
    reference: Path | None = None,
) -> Path:  # fmt: skip
    """Train ``model`` on ``data`` and return the directory of the result.

    ``loss`` None is the negative log-likelihood. A loss that compares with a reference gets the model ``reference``, by
    default the one the policy begins as. Every item is encoded and checked before the first step. Resumes from the newest
    checkpoint of the stage, to the bit.
    """
    job = Job.of(stage, Path(model), data, cfg, loss or NLL(), heldout, reference)
    policy, total = job.policy, job.total
    saved = stage.restore(job.models)
    state = LoopState(**saved["loop"]) if saved else LoopState(0)
    begun = state.step
    memory = _announce(stage, policy, job.train, cfg, total)
    alarms = Alarms(total, stage.view.say, referenced=needs_of(job.loss).reference)
    stage.view.stage(stage.name, total)
    try:
        while state.step < total:
            numbers = job.measured(state.step)
            started = time.perf_counter()
            batch = job.batch(state.step)
            metrics, _ = policy.forward_backward(batch, job.loss)
            with stage.protected():
                lr = cfg.schedule.at(state.step, total)
                metrics = add_metrics(metrics, policy.optim_step(lr), {"lr": (lr, 1.0)})
                state = LoopState(state.step + 1, state.skipped + 1 if metrics["grad/skipped"][0] else 0)
                if job.moving is not None and state.step % cfg.refresh_reference == 0:
                    job.moving.refresh(policy, cfg.refresh_share)
                seconds = time.perf_counter() - started
                numbers |= {**means(metrics), **_speed(int(batch.mask.sum()), seconds)}
                stage.log(state.step, numbers)
                alarms.see(state.step, numbers)
                if state.skipped >= 3:
                    raise _halted(stage, job, state)
                if state.step % cfg.checkpoint_every == 0 or state.step == total:
                    stage.checkpoint(state.step, job.models, {"loop": asdict(state)})
            if state.step == begun + 1:
                report.step_time(stage, seconds, total - state.step)
    except Interrupted:
        policy.discard_gradient()
        report.save_and_leave(stage, job.models, state.step, asdict(state))
        raise
    report.memory_check(stage, memory)
    return stage.export(policy)


def encode_heldout(policy: LocalModel, data: Data, cfg: FitConfig) -> list[Unit]:
    """The units to measure on, masked and cut as those that are trained. What the context cannot hold is left out."""
    window = cfg.limit(policy.context)
    return encode_all(policy.chat, data, policy.context, drop_long=True, last_only=cfg.last_only, window=window)


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


def _halted(stage: Stage, job: Job, state: LoopState) -> TrainingHaltedError:
    stage.checkpoint(state.step, job.models, {"loop": asdict(state)})
    rows = [i + 1 for i in job.items(state.step - 1)]
    return TrainingHaltedError(
        f"the gradient was not finite three times in a row (last at step {state.step}, rows {rows}). "
        "Weights are as they were before. Lower the learning rate (schedule.lr), or train in float32 (engine.dtype=float32)."
    )
