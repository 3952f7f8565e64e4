"""How good each episode was, compared with what was to be expected: rewards in, advantages ``[B, T]`` out.

Here are the baselines that know an episode's outcome only, the same advantage for all of its tokens; credit that differs
from token to token is in :mod:`burnish.core.returns`. Statistics are over episodes, not rows, and over the whole rollout
batch, before anything is skipped or split. Rows that only serve as a baseline (``train=False``) enter no statistic here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from burnish.core.episodes import Episodes, chosen
from burnish.types import Batch

State = Mapping[str, float]
"""What an algorithm remembers between steps. Plain numbers, saved as JSON."""


class Advantage(ABC):
    """Rewards [B, T] to advantages [B, T]. What an advantage needs and remembers follows from its class."""

    needs_critic = False
    """Whether ``batch.values`` has to be there."""
    needs_greedy = False
    """Whether each group has one more row, decoded greedily and not trained on, to be its baseline."""
    needs_group = False
    """Whether the completions of a prompt are only compared with each other, so that a group of one is worth 0."""
    rival: float | None = None
    """The share of the reference in the rival that as many completions come from, not trained on (Method.rival)."""

    @abstractmethod
    def __call__(self, batch: Batch, rewards: Tensor, state: State) -> Tensor: ...

    def returns(self, batch: Batch, rewards: Tensor) -> Tensor | None:  # noqa: ARG002 - only a critic has a target
        """[B, T] the targets of the critic; None without one."""
        return None

    def init(self) -> State:
        return {}

    def update(self, state: State, batch: Batch) -> State:  # noqa: ARG002 - most advantages remember nothing
        return state


@dataclass(frozen=True)
class Constant(Advantage):
    """``A = value`` on every chosen token: with 1 and :class:`~burnish.core.surrogates.Plain`, supervised fine-tuning."""

    value: float = 1.0

    def __call__(self, batch: Batch, rewards: Tensor, state: State) -> Tensor:  # noqa: ARG002
        return torch.full_like(rewards, self.value) * chosen(batch)


@dataclass(frozen=True)
class GroupMean(Advantage):
    """``A_i = r_i - mean(r)``, divided by ``std(r)`` when ``std`` (GRPO, arXiv:2402.03300; without: arXiv:2503.20783).

    The standard deviation is the sample one (G - 1), as the public implementations compute it; the paper does not say.
    There is no epsilon, so advantages do not change when rewards are scaled or shifted; a group whose rewards are equal
    (up to rounding) or that has one member gets exactly 0.
    """

    std: bool = True
    needs_group = True

    def __call__(self, batch: Batch, rewards: Tensor, state: State) -> Tensor:  # noqa: ARG002
        episodes = Episodes.of(batch)
        score = episodes.sums(rewards)
        count = episodes.group_sums(torch.ones_like(score)).clamp(min=1)
        centred = score - episodes.group_sums(score) / count
        trained = score.abs() * episodes.train
        largest = score.new_zeros(len(score)).scatter_reduce(0, episodes.group, trained, "amax")[episodes.group]
        centred = torch.where(centred.abs() <= 1e-12 * largest, 0.0, centred)
        if self.std:
            deviation = (episodes.group_sums(centred.square()) / (count - 1).clamp(min=1)).sqrt()
            centred = torch.where(deviation > 0, centred / deviation.where(deviation > 0, torch.ones(())), 0.0)
        return episodes.spread(centred, batch)


@dataclass(frozen=True)
class LeaveOneOut(Advantage):
    """``A_i = r_i - mean of the other rewards of the group`` (RLOO, arXiv:2402.14740): a baseline free of ``y_i``.

    Equals ``G/(G-1)`` times the centred reward; a group of one has no other member and gets 0.
    """

    needs_group = True

    def __call__(self, batch: Batch, rewards: Tensor, state: State) -> Tensor:  # noqa: ARG002
        episodes = Episodes.of(batch)
        score = episodes.sums(rewards)
        others = episodes.group_sums(torch.ones_like(score)) - 1
        baseline = (episodes.group_sums(score) - score) / others.clamp(min=1)
        return episodes.spread(torch.where(others > 0, score - baseline, 0.0), batch)


@dataclass(frozen=True)
class BatchMean(Advantage):
    """``A_i = r_i - mean(r)`` over all episodes of the batch, divided by their sample standard deviation when ``std``.

    The baseline contains ``r_i`` itself, so the gradient is the exact one times (N - 1)/N without ``std``.
    """

    std: bool = False

    def __call__(self, batch: Batch, rewards: Tensor, state: State) -> Tensor:  # noqa: ARG002
        episodes = Episodes.of(batch)
        score = episodes.sums(rewards)
        trained = score[episodes.train]
        if len(trained) < 2:
            return torch.zeros_like(rewards)
        deviation = trained.std() if self.std else torch.ones_like(trained[0])
        equal = trained.max() - trained.min() <= 1e-12 * trained.abs().max()
        centred = torch.zeros_like(score) if equal else (score - trained.mean()) / deviation
        return episodes.spread(centred, batch)


@dataclass(frozen=True)
class Greedy(Advantage):
    """``A_i = r_i - r(greedy completion of the same prompt)`` (ReMax, arXiv:2310.10505).

    The baseline depends on the prompt and the policy only, so the gradient stays unbiased, even with one sample a prompt.
    A group has one more row for it (``train=False``). Raises ValueError for a group without one.
    """

    needs_greedy = True

    def __call__(self, batch: Batch, rewards: Tensor, state: State) -> Tensor:  # noqa: ARG002
        episodes = Episodes.of(batch)
        score = episodes.sums(rewards)
        count = episodes.group_sums(torch.ones_like(score), among=~episodes.train)
        if not bool((count == 1).all()):
            raise ValueError("every group needs one greedy row that is not trained on")
        return episodes.spread(score - episodes.group_sums(score, among=~episodes.train), batch)


@dataclass(frozen=True)
class EMA(Advantage):
    """``A_i = r_i - b`` with b a running mean of past rewards (reinforcement comparison, Williams 1992).

    b is the bias-corrected exponential average over earlier steps: it never contains the reward it is compared with. At
    the first step there is no past and b is 0.
    """

    decay: float = 0.9

    def __call__(self, batch: Batch, rewards: Tensor, state: State) -> Tensor:
        episodes = Episodes.of(batch)
        baseline = state["sum"] / state["weight"] if state["weight"] else 0.0
        return episodes.spread(episodes.sums(rewards) - baseline, batch)

    def init(self) -> State:
        return {"sum": 0.0, "weight": 0.0}

    def update(self, state: State, batch: Batch) -> State:
        assert batch.token_rewards is not None
        episodes = Episodes.of(batch)
        score = episodes.sums(batch.token_rewards)[episodes.train]
        if not len(score):
            return state
        share = 1 - self.decay
        return {
            "sum": self.decay * state["sum"] + share * float(score.mean()),
            "weight": self.decay * state["weight"] + share,
        }
