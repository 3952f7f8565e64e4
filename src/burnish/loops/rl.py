"""The reinforcement-learning loop: fresh rollouts, credit, update. Every policy-gradient method runs through here.

What it leaves out: lag (the sampler always has the newest weights); it joins as a value of the same loop.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from burnish.core import keys
from burnish.core.advantages import State
from burnish.core.algorithms import Algorithm
from burnish.core.method import Method
from burnish.core.orders import Order, Shuffled
from burnish.data.batching import collate
from burnish.data.units import Unit
from burnish.engines import natural
from burnish.engines.controls import suppressed
from burnish.engines.decode import LocalSampler
from burnish.engines.local import Engine, LocalModel
from burnish.engines.optim import Schedule
from burnish.engines.reference import Reference
from burnish.errors import InputError, TrainingHaltedError
from burnish.loops import observe, report
from burnish.loops.alarms import RewardAlarms
from burnish.loops.drawing import Drawing, DrawState, Fresh, replayed
from burnish.loops.evaluate import Measured, run_items, summarise
from burnish.loops.failures import FailureLog
from burnish.loops.fixed import Data, encode_all
from burnish.loops.plan import MemoryPlan, rl_memory, rl_work
from burnish.loops.rollouts import Group, Grouping, rollout_table
from burnish.loops.update import CriticConfig, Models, Seen, Update
from burnish.rewards.base import Composable, RewardFunction
from burnish.rewards.record import recorded
from burnish.rewards.tree import plan
from burnish.signals import Interrupted
from burnish.stage import Stage
from burnish.types import Batch, Head, Metrics, Sampling, Task, add_metrics, means


@dataclass(frozen=True)
class RLConfig:
    """``steps`` times: ``prompts`` x ``group`` rollouts, then ``epochs`` passes over them in ``minibatches`` updates each.

    Every ``eval_every`` steps the policy is measured on ``eval_items`` held-out items before it samples (0: never).
    Every ``refresh_reference`` steps the reference becomes the policy of that moment (0: never). ``pretraining_batch`` rows
    of pretraining text go beside each update of an algorithm that mixes them in. ``replay`` names a folder of saved
    rollouts to train on instead of sampling.

    ``order`` says which prompts are drawn. With ``partial`` completions grow by so many tokens at a time, and those that are
    not finished when the groups of a step are there go on in the next step (0: all are sampled to their end).
    """

    steps: int = 30
    prompts: int = 8
    group: int = 8
    epochs: int = 1
    minibatches: int = 1
    order: Order = field(default_factory=Shuffled)
    partial: int = 0
    sampling: Sampling = field(default_factory=Sampling)
    schedule: Schedule = field(default_factory=lambda: Schedule(lr=1e-5, warmup=2))
    engine: Engine = field(default_factory=Engine)
    critic: CriticConfig = field(default_factory=CriticConfig)
    refresh_reference: int = 0
    pretraining_batch: int = 16
    eval_every: int = 0
    eval_items: int = 50
    checkpoint_every: int = 10
    replay: str = ""

    def __post_init__(self) -> None:
        if self.sampling.temperature <= 0:
            raise ValueError("training samples at a temperature above 0: a greedy policy has no gradient")
        if not 1 <= self.minibatches <= self.prompts:
            raise ValueError(f"{self.minibatches} minibatches of whole groups need as many prompts, not {self.prompts}")
        if min(self.steps, self.prompts, self.group, self.epochs, self.checkpoint_every, self.pretraining_batch) < 1:
            raise ValueError("steps, prompts, group, epochs, checkpoint_every and pretraining_batch are at least 1")
        if self.partial < 0:
            raise ValueError(
                f"partial={self.partial}: the tokens that a completion grows by at a time, or 0 for all of them"
            )

    def pretraining_steps(self, algo: Method) -> int:
        """The steps before the policy's first, in which only the critic learns."""
        return self.critic.pretrain if algo.needs_critic else 0

    def total_steps(self, algo: Method) -> int:
        return self.steps + self.pretraining_steps(algo)


@dataclass(frozen=True)
class LoopState:
    """All that the loop remembers beside weights and optimizer: saved as JSON, replaced and never mutated."""

    step: int
    drawing: DrawState
    algo: State
    skipped: int = 0

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> LoopState:
        """What ``dataclasses.asdict`` and JSON have made of it."""
        return cls(**{**record, "drawing": DrawState.read(record["drawing"])})


def rl(
    stage: Stage, model: Path, task: Task, *, algo: Method, cfg: RLConfig, reward: RewardFunction | None = None,
    heldout: Measured | None = None, critic: Path | None = None, pretraining: Data | None = None,
    teacher: Path | None = None,
) -> Path:  # fmt: skip
    """Train ``model`` on ``task`` and return the directory of the result.

    ``reward`` takes the place of the task's own. An algorithm with a critic begins it as the model ``critic`` (None: as the
    policy), one that mixes in a language-model loss takes its text from ``pretraining``, one that distils has a ``teacher``.
    Resumes from the newest checkpoint of the stage, to the bit.
    """
    models = _models(stage, Path(model), algo, cfg, critic, teacher)
    policy, total = models.policy, cfg.total_steps(algo)
    text = _text(policy, algo, pretraining)
    saved = stage.restore(models.saved)
    state = LoopState.read(saved["loop"]) if saved else LoopState(0, DrawState(), algo.init())
    begun = state.step
    sampler = LocalSampler(policy)
    grade = reward or task.reward
    drawing = _drawing(stage, models, sampler, task, grade, algo, cfg, state.step)
    memory = _announce(stage, models, algo, cfg, grade)
    if stage.dry_run:
        report.rehearse(stage, policy, task, grade, cfg, rewarded=not algo.needs_teacher)
    alarms = RewardAlarms(stage.view.say)
    stage.view.stage(stage.name, total)
    try:
        while state.step < total:
            started = time.perf_counter()
            numbers = _measure(sampler, policy, heldout, cfg, state.step)
            measured = time.perf_counter()
            with recorded() as said:
                fresh = _fresh(sampler, policy, drawing, cfg, state)
            rolled = time.perf_counter()
            annotated = annotate(_collate(fresh.groups, cfg, policy), algo, models, cfg)
            batch = algo.credit(annotated, state.algo)
            if first := state.step == begun:
                report.first_example(stage, policy, batch)
            with ExitStack() as critical:
                metrics, seen = Update(models, algo, cfg, state.step, stage, text).run(batch, critical)
                state = _advance(state, fresh.state, algo, annotated, metrics)
                if cfg.refresh_reference and state.step % cfg.refresh_reference == 0 and models.reference:
                    models.reference.refresh(policy)
                times = {
                    "eval": measured - started,
                    "rollout": rolled - measured,
                    "train": time.perf_counter() - rolled,
                }
                numbers |= {
                    **means(add_metrics(metrics, observe.describe(fresh.groups, batch, algo, cfg.sampling), said)),
                    **fresh.metrics,
                    **_remembered(state),
                    **observe.speed(batch, int(batch.mask[seen.rows].sum()), times),
                }
                stage.log(state.step, numbers)
                alarms.see(state.step, numbers)
                trainer = {"logprobs": seen.logprobs, "entropy": seen.entropy}
                stage.write_rollouts(state.step, rollout_table(state.step, fresh.groups, batch, trainer, policy.chat))
                _halt_if_broken(stage, models, state, fresh.groups, seen)
                if state.step % cfg.checkpoint_every == 0 or state.step == total:
                    stage.checkpoint(state.step, models.saved, {"loop": asdict(state)})
            if first:
                report.step_time(stage, numbers["perf/time_step"], total - state.step)
    except (Interrupted, TrainingHaltedError):
        models.discard_gradients()
        report.save_and_leave(stage, models.saved, state.step, asdict(state))
        raise
    report.memory_check(stage, memory)
    if models.critic is not None and not models.shared:
        stage.export(models.critic, "critic")
    return stage.export(policy)


def _models(
    stage: Stage, model: Path, algo: Method, cfg: RLConfig, critic: Path | None, teacher: Path | None
) -> Models:
    """The policy and whoever the algorithm needs beside it."""
    engine = stage.decide("engine", cfg.engine.resolved)
    shared = algo.needs_critic and cfg.critic.shared
    if critic is not None and (shared or not algo.needs_critic):
        why = "is the policy's own trunk" if shared else "is not needed by this algorithm"
        raise InputError(f"a critic {why}: leave critic out, or choose an algorithm with one and critic.shared=false")
    heads = {"value": Head(like="score")}
    policy = LocalModel(model, engine, seed=stage.seed, heads=heads if shared else None)
    if algo.trust_region:
        natural.check(policy)
    if algo.needs_teacher != (teacher is not None):
        raise InputError(
            "this algorithm learns from a teacher: give one" if algo.needs_teacher else "this algorithm has no teacher"
        )
    if teacher is not None:
        policy.learn_from(LocalModel(Path(teacher), replace(engine, adapter=None)))
    own: LocalModel | None = policy if shared else None
    if algo.needs_critic and not shared:
        held = engine if cfg.critic.engine is None else stage.decide("critic_engine", cfg.critic.engine.resolved)
        own = LocalModel(Path(critic or model), held, seed=keys.derive(stage.seed, "critic"), heads=heads)
        if own.chat.tokenizer.get_vocab() != policy.chat.tokenizer.get_vocab():
            raise InputError(f"the critic {critic} has another tokenizer than the policy {model}; they share tokens")
    moving = cfg.refresh_reference > 0
    reference = Reference(policy, moving=moving) if algo.needs_reference else None
    return Models(policy, own, reference, moving)


def _text(policy: LocalModel, algo: Method, pretraining: Data | None) -> Sequence[Unit]:
    """The rows of the language-model loss, encoded and checked before the first step."""
    if not algo.pretraining:
        return ()
    if pretraining is None:
        raise InputError("this algorithm mixes in pretraining text and got none: give a data set, or pretraining=0")
    return encode_all(policy.chat, pretraining, policy.context, drop_long=True)


def _announce(stage: Stage, models: Models, algo: Method, cfg: RLConfig, reward: RewardFunction) -> MemoryPlan:
    """Print the plan: prompts to rollouts to updates, what the reward has to say, the models, the memory."""
    memory = rl_memory(models.policy, cfg, algo, None if models.shared else models.critic)
    lines = rl_work(cfg, algo) | (plan(reward) if isinstance(reward, Composable) else {})
    report.model_plan(stage, models.policy, memory, lines | _drawn(cfg, algo))
    return memory


def _drawn(cfg: RLConfig, algo: Method) -> dict[str, str]:
    """What the plan says of how prompts and completions are drawn, where it is not the usual way."""
    lines = {} if cfg.order == Shuffled() else {"order": str(cfg.order)}
    if cfg.partial:
        lines["partial"] = (
            f"completions grow by {cfg.partial} tokens at a time; what is not finished waits for the next step"
        )
        if isinstance(algo, Algorithm) and algo.correction is None:
            lines["partial"] += (
                ". Its older tokens are trained on as if they were of the newest policy, but for algo.correction=TIS"
            )
    if cfg.sampling.truncation == "full" and (cfg.sampling.top_k or cfg.sampling.top_p < 1):
        lines["beware"] = (
            "top_k and top_p sample from a truncated policy, which biases the gradient: train on that policy with "
            "sampling.truncation=kept, or leave them out"
        )
    return lines


def _drawing(
    stage: Stage, models: Models, sampler: LocalSampler, task: Task, reward: RewardFunction, algo: Method, cfg: RLConfig,
    step: int,
) -> Drawing:  # fmt: skip
    """Where the groups come from. Raises InputError where the settings do not go together or with the task."""
    grouping = Grouping(
        sampler, models.policy.chat, task, reward, cfg.group, cfg.sampling, stage.seed, greedy=algo.needs_greedy,
        rival=models.rival(algo),
    )  # fmt: skip
    return Drawing(grouping, cfg, algo.select, FailureLog(stage, step))


def _fresh(sampler: LocalSampler, policy: LocalModel, drawing: Drawing, cfg: RLConfig, state: LoopState) -> Fresh:
    """The groups of the next step, sampled with the newest weights or replayed.

    The state itself changes only when the step is complete: an interrupted one draws the same groups again.
    """
    if cfg.replay:
        return Fresh(replayed(cfg, state.step), state.drawing, {})
    sampler.load(policy.weights(), version=state.step)
    return drawing.step(state.step, state.drawing)


def _collate(groups: Sequence[Group], cfg: RLConfig, policy: LocalModel) -> Batch:
    rollouts, how = [r for g in groups for r in g.rollouts], cfg.sampling
    banned = suppressed(policy.chat, how)
    return collate(rollouts, temperature=how.temperature, max_tokens=how.max_tokens, suppressed=banned)


def annotate(batch: Batch, algo: Method, models: Models, cfg: RLConfig) -> Batch:
    """Add what the algorithm needs and only that: log-probs before the update, those of the reference, values.

    With a single update per batch the current log-probs are the old ones, and no forward pass is spent on them.
    """
    if algo.needs_old_logprobs or cfg.epochs * cfg.minibatches > 1 or models.shared:
        outputs = models.policy.forward(batch)
        batch = replace(batch, old_logprobs=outputs.logprobs, values=outputs.heads.get("value"))
    if models.critic is not None and not models.shared:
        batch = replace(batch, values=models.critic.forward(batch).heads["value"])
    if models.reference is not None:
        batch = replace(batch, ref_logprobs=models.reference.forward(batch).logprobs)
    return batch


def _advance(state: LoopState, drawing: DrawState, algo: Method, batch: Batch, metrics: Metrics) -> LoopState:
    broken = sum(metrics[name][0] for name in ("grad/skipped", "critic/grad/skipped") if name in metrics)
    return LoopState(state.step + 1, drawing, dict(algo.update(state.algo, batch)), state.skipped + 1 if broken else 0)


def _remembered(state: LoopState) -> dict[str, float]:
    """What the algorithm's state has to report."""
    return {"kl/coef": state.algo["kl_coef"]} if "kl_coef" in state.algo else {}


def _measure(
    sampler: LocalSampler, policy: LocalModel, heldout: Measured | None, cfg: RLConfig, step: int
) -> dict[str, float]:
    """Held-out scores of the policy that is about to sample, when they are due: they stand beside its rewards.

    All together, and by the domain of the prompts where these have one.
    """
    if heldout is None or not cfg.eval_every or step % cfg.eval_every:
        return {}
    key = keys.derive("evaluate")
    items = run_items(sampler, policy.chat, heldout, n=cfg.eval_items, samples=1, sampling=cfg.sampling, key=key)
    apart = observe.by_domain([(item.example, item) for item in items])
    found: dict[str, Any] = {"eval": summarise(items)}
    found |= {f"eval/{domain}": summarise(own) for domain, own in apart.items()}
    scores = {
        f"{where}/{name}": value["mean"]
        for where, summary in found.items()
        for name, value in summary.items()
        if isinstance(value, dict)
    }
    if "env/failed_frac" in found["eval"]:
        scores["eval/failed_frac"] = found["eval"]["env/failed_frac"]
    return scores


def _halt_if_broken(stage: Stage, models: Models, state: LoopState, groups: Sequence[Group], seen: Seen) -> None:
    """Say which samples broke the gradient; after three skipped updates in a row, stop with the weights as they were."""
    if not state.skipped:
        return
    where = observe.broken(models.policy, groups, seen)
    stage.view.say(f"step {state.step}: the gradient is not finite; the update was skipped. {where}")
    if state.skipped >= 3:
        raise TrainingHaltedError(
            f"the gradient was not finite three times in a row (last at step {state.step}; {where}). Weights are as they "
            "were before. Lower the learning rate (schedule.lr), or train in float32 (engine.dtype=float32)."
        )
