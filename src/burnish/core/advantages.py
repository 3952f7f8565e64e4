"""How good each token was, compared with what was to be expected: rewards in, advantages ``[B, T]`` out.

Statistics are over episodes, not rows, and over the whole rollout batch, before anything is skipped or split. Rows that
only serve as a baseline (``train=False``) enter no statistic here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from burnish.types import Batch

State = Mapping[str, float]
"""What an algorithm remembers between steps. Plain numbers, saved as JSON."""


class Advantage(Protocol):
    """``init`` and ``update`` are for advantages that remember; the others return their state unchanged."""

    def __call__(self, batch: Batch, rewards: Tensor, state: State) -> Tensor: ...
    def init(self) -> State: ...
    def update(self, state: State, batch: Batch) -> State: ...


@dataclass(frozen=True)
class Episodes:
    """Row-to-episode bookkeeping: E episodes, ``of_row`` [B] the episode of each row, ``group`` [E], ``train`` [E]."""

    of_row: Tensor
    group: Tensor
    train: Tensor

    @staticmethod
    def of(batch: Batch) -> Episodes:
        ids, of_row = torch.unique(batch.episodes, return_inverse=True)
        group = batch.groups.new_zeros(len(ids)).scatter(0, of_row, batch.groups)
        train = batch.train.new_zeros(len(ids)).scatter(0, of_row, batch.train)
        _, group = torch.unique(group, return_inverse=True)
        return Episodes(of_row, group, train)

    def sums(self, per_token: Tensor) -> Tensor:
        """[E] a per-token quantity summed over each episode."""
        return per_token.new_zeros(len(self.group)).index_add(0, self.of_row, per_token.sum(1))

    def group_sums(self, per_episode: Tensor) -> Tensor:
        """[E] the sum over the trained episodes of each episode's group."""
        masked = per_episode * self.train
        return per_episode.new_zeros(len(self.group)).index_add(0, self.group, masked)[self.group]

    def spread(self, per_episode: Tensor, batch: Batch) -> Tensor:
        """[B, T] an episode's value on every one of its masked tokens."""
        return per_episode[self.of_row, None] * (batch.mask & batch.train[:, None])


class _Memoryless:
    def init(self) -> State:
        return {}

    def update(self, state: State, batch: Batch) -> State:  # noqa: ARG002
        return state


@dataclass(frozen=True)
class GroupMean(_Memoryless):
    """``A_i = r_i - mean(r)``, divided by ``std(r)`` when ``std`` (GRPO, arXiv:2402.03300; without: arXiv:2503.20783).

    The standard deviation is the sample one (G - 1), as the public implementations compute it; the paper does not say.
    There is no epsilon, so advantages do not change when rewards are scaled or shifted; a group whose rewards are equal
    (up to rounding) or that has one member gets exactly 0.
    """

    std: bool = True

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
class LeaveOneOut(_Memoryless):
    """``A_i = r_i - mean of the other rewards of the group`` (RLOO, arXiv:2402.14740): a baseline free of ``y_i``.

    Equals ``G/(G-1)`` times the centred reward; a group of one has no other member and gets 0.
    """

    def __call__(self, batch: Batch, rewards: Tensor, state: State) -> Tensor:  # noqa: ARG002
        episodes = Episodes.of(batch)
        score = episodes.sums(rewards)
        others = episodes.group_sums(torch.ones_like(score)) - 1
        baseline = (episodes.group_sums(score) - score) / others.clamp(min=1)
        return episodes.spread(torch.where(others > 0, score - baseline, 0.0), batch)


@dataclass(frozen=True)
class EMA:
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
