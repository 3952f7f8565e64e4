"""From a credited batch to new weights: epochs, minibatches, the policy's update, the critic's, what was seen."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from burnish.core import keys
from burnish.core.losses import NLL, PolicyLoss
from burnish.core.method import Method
from burnish.data import units
from burnish.data.batching import epoch_order, minibatches
from burnish.engines.local import Engine, LocalModel
from burnish.engines.natural import trust_region_step
from burnish.engines.optim import Schedule
from burnish.engines.reference import Reference
from burnish.engines.rival import RivalSampler
from burnish.loops.fixed import prepared
from burnish.stage import Checkpointable, Stage
from burnish.types import Batch, Metrics, Outputs, add_metrics

if TYPE_CHECKING:
    from burnish.loops.rl import RLConfig


@dataclass(frozen=True)
class CriticConfig:
    """The critic of an algorithm that needs one: the head ``value`` at every token.

    It has weights of its own, and begins as the model it is given (a reward model with that head, say) or as the policy.
    For the first ``pretrain`` steps it alone learns, beside the steps of the policy. ``shared`` makes it a head on the
    policy's own trunk, trained by one optimizer with the policy's ``schedule``. ``engine`` None takes the policy's.
    """

    schedule: Schedule = field(default_factory=lambda: Schedule(lr=1e-5, warmup=2))
    pretrain: int = 0
    shared: bool = False
    engine: Engine | None = None

    def __post_init__(self) -> None:
        if self.pretrain < 0:
            raise ValueError("pretrain counts steps: it is 0 or more")
        if self.shared and self.pretrain:
            raise ValueError("a critic on the policy's trunk cannot learn before it: set pretrain=0 or shared=false")


@dataclass(frozen=True)
class Models:
    """Who plays in a run. A critic on the policy's trunk is the policy itself."""

    policy: LocalModel
    critic: LocalModel | None = None
    reference: Reference | None = None
    moving: bool = False

    @property
    def shared(self) -> bool:
        return self.critic is self.policy

    def rival(self, algo: Method) -> RivalSampler | None:
        """Whom the policy's completions are compared with, if the algorithm has a rival."""
        if algo.rival is None:
            return None
        assert self.reference is not None
        return RivalSampler(self.policy, self.reference, algo.rival)

    @property
    def saved(self) -> dict[str, Checkpointable]:
        """What belongs to a checkpoint, by role."""
        roles: dict[str, Checkpointable] = {"policy": self.policy}
        if self.critic is not None and not self.shared:
            roles["critic"] = self.critic
        if self.reference is not None and self.moving:
            roles["reference"] = self.reference
        return roles

    def discard_gradients(self) -> None:
        for model in {id(m): m for m in (self.policy, self.critic) if m is not None}.values():
            model.discard_gradient()


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
class Update:
    """The optimizer steps of one rollout batch.

    ``step`` counts from 0 and includes the steps in which only the critic learns. ``pretraining`` are the rows of the
    language-model loss beside each update (PPO-ptx).
    """

    models: Models
    algo: Method
    cfg: RLConfig
    step: int
    stage: Stage
    pretraining: Sequence[units.Unit] = ()

    @property
    def critic_only(self) -> bool:
        return self.models.critic is not None and self.step < self.cfg.critic.pretrain

    def run(self, batch: Batch, critical: ExitStack) -> tuple[Metrics, Seen]:
        """All epochs and minibatches. From the first change of a weight on, an interrupt waits until the step is complete."""
        seen, metrics = Seen.nothing(batch), Metrics()
        batch = replace(batch, extras={**batch.extras, "row": ("row", torch.arange(len(batch)))})
        number = 0
        for epoch in range(self.cfg.epochs):
            key = keys.derive(self.stage.seed, "minibatch", self.step, epoch)
            for mini in minibatches(batch, self.cfg.minibatches, key):
                found = self.accumulate(mini, number, seen if epoch == 0 else None)
                if number == 0:
                    critical.enter_context(self.stage.protected())
                metrics = add_metrics(metrics, found, self.apply(mini))
                number += 1
        return metrics, seen

    def accumulate(self, mini: Batch, number: int, seen: Seen | None) -> Metrics:
        """Add up the gradients of one update: policy, pretraining text, critic."""
        metrics: Metrics = {}
        if not self.critic_only:
            metrics = add_metrics(self._policy(mini, seen), self._text(number))
        if self.models.critic is not None:
            trained = mini.select(torch.nonzero(mini.train).squeeze(1))
            loss = self.algo.value_loss
            found, _ = self.models.critic.forward_backward(loss.prepare(trained), loss)
            metrics = add_metrics(metrics, found)
        return metrics

    def _policy(self, mini: Batch, seen: Seen | None) -> Metrics:
        loss, idle = self.algo.loss, self.algo.idle(mini)
        if bool(idle.all()):
            return {}
        active = prepared(self.models.policy, loss, mini).select(torch.nonzero(~idle).squeeze(1))
        metrics, outputs = self.models.policy.forward_backward(active, loss)
        if seen is not None:
            seen.note(active.extra("row"), outputs)
        return metrics

    def _text(self, number: int) -> Metrics:
        """The language-model gradient on pretraining text, with fresh rows for every update."""
        if not self.algo.pretraining:
            return {}
        size, seed = self.cfg.pretraining_batch, keys.derive(self.stage.seed, "pretraining")
        place = (self.step * self.cfg.epochs * self.cfg.minibatches + number) * size
        loss = NLL(coef=self.algo.pretraining)
        rows = [self.pretraining[i] for i in epoch_order(seed, len(self.pretraining), place, size)]
        metrics, _ = self.models.policy.forward_backward(loss.prepare(units.collate(rows)), loss)
        return {"pretraining/loss": metrics["loss"]}

    def apply(self, mini: Batch) -> Metrics:
        """One step of everyone who learns: of the optimizer, or inside the trust region, whose KL counts every row."""
        metrics: Metrics = {}
        if not self.critic_only and self.algo.trust_region:
            loss = self.algo.loss
            assert isinstance(loss, PolicyLoss)
            metrics = trust_region_step(self.models.policy, loss.prepare(mini), loss, self.algo.trust_region)
        elif not self.critic_only:
            lr = self.cfg.schedule.at(self.step - self.cfg.pretraining_steps(self.algo), self.cfg.steps)
            metrics = add_metrics(self.models.policy.optim_step(lr), {"lr": (lr, 1.0)})
        if self.models.critic is not None and not self.models.shared:
            lr = self.cfg.critic.schedule.at(self.step, self.cfg.total_steps(self.algo))
            found = add_metrics(self.models.critic.optim_step(lr), {"lr": (lr, 1.0)})
            metrics = add_metrics(metrics, {f"critic/{name}": value for name, value in found.items()})
        return metrics
