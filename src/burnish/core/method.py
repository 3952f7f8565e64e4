"""What the loop over fresh rollouts asks of an algorithm, whatever it is made of."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from burnish.core.advantages import State
from burnish.core.losses import ValueLoss
from burnish.core.selection import Selection
from burnish.core.trust_region import TrustRegion
from burnish.types import Batch, Loss


class Method(ABC):
    """A frozen value: what has to be there, how rewards become what its loss reads, what it remembers between steps."""

    @property
    @abstractmethod
    def loss(self) -> Loss:
        """What the policy minimises. With ``idle(batch)`` it says which rows it has no use for."""

    @abstractmethod
    def credit(self, batch: Batch, state: State) -> Batch:
        """Rewards to what the loss reads (advantages, ranks), on the whole rollout batch."""

    @property
    def value_loss(self) -> ValueLoss:
        """What the critic minimises, where there is one."""
        return ValueLoss()

    @property
    def needs_reference(self) -> bool:
        return False

    @property
    def needs_critic(self) -> bool:
        return False

    @property
    def needs_greedy(self) -> bool:
        """Whether each group gets one more completion, decoded greedily, as its baseline."""
        return False

    @property
    def rival(self) -> float | None:
        """Where as many completions again come from a rival, not trained on as such: the policy mixed with the reference,
        ``pi^(1 - share) pi_ref^share``, whose share this is. None: no rival."""
        return None

    @property
    def needs_old_logprobs(self) -> bool:
        """Whether the log-probs before the update are wanted even when the batch is used for a single update."""
        return False

    @property
    def needs_teacher(self) -> bool:
        """Whether a teacher has to be there, whose distribution the policy is compared with."""
        return False

    @property
    def select(self) -> Selection | None:
        """Which groups a step trains on."""
        return None

    @property
    def pretraining(self) -> float:
        """The weight of a language-model loss on pretraining text beside each update."""
        return 0.0

    @property
    def trust_region(self) -> TrustRegion | None:
        """The natural-gradient step in the place of the optimizer's."""
        return None

    def init(self) -> State:
        return {}

    def update(self, state: State, batch: Batch) -> State:  # noqa: ARG002 - most methods remember nothing
        """The state after a rollout batch has been used. Pure."""
        return state

    def idle(self, batch: Batch) -> Tensor:
        """[B] True for rows that add nothing to the policy's gradient, which the loop may leave out of the forward pass.

        Weights are computed before rows are left out, so the gradient is the same to the last bit of the sum.
        """
        idle = getattr(self.loss, "idle", None)
        found: Tensor = torch.zeros_like(batch.train) if idle is None else idle(batch)
        return found
