"""Rows to episodes and back: an episode cut into several rows is treated as the one sequence that it is.

Letters: ``E`` episodes of a batch, ``L`` the most chosen tokens an episode has.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from burnish.types import Batch


@dataclass(frozen=True)
class Episodes:
    """Row-to-episode bookkeeping: ``of_row`` [B] the episode of each row, ``group`` [E], ``train`` [E]."""

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

    def group_sums(self, per_episode: Tensor, among: Tensor | None = None) -> Tensor:
        """[E] the sum over each episode's group, of the trained episodes, or of those where ``among`` [E] is True."""
        masked = torch.where(self.train if among is None else among, per_episode, 0.0)
        return per_episode.new_zeros(len(self.group)).index_add(0, self.group, masked)[self.group]

    def spread(self, per_episode: Tensor, batch: Batch) -> Tensor:
        """[B, T] an episode's value on every one of its chosen tokens."""
        return torch.where(chosen(batch), per_episode[self.of_row, None], 0.0)


def chosen(batch: Batch) -> Tensor:
    """[B, T] True where the policy chose the token and the row is trained on."""
    return batch.mask & batch.train[:, None]


@dataclass(frozen=True)
class Timeline:
    """The chosen tokens of each episode on one line, through all its segments: credit flows along it, not along rows.

    ``slot`` [B, T] is the place of a token on its episode's line; a token that was not chosen (the environment's) shares
    the place of the chosen token before it, so a reward given there goes to the choice that led to it; before the first
    choice it shares the place of that one. ``chosen`` [B, T]; ``length`` [E] chosen tokens of each episode. Segments are
    ordered by ``batch.extras["turn"]``.
    """

    of_row: Tensor
    slot: Tensor
    chosen: Tensor
    length: Tensor

    @staticmethod
    def of(batch: Batch) -> Timeline:
        ids, of_row = torch.unique(batch.episodes, return_inverse=True)
        counts = batch.mask.sum(1)
        before = torch.zeros_like(counts)
        length = counts.new_zeros(len(ids))
        for row in torch.argsort(batch.extra("turn"), stable=True).tolist():
            before[row] = length[of_row[row]]
            length[of_row[row]] += counts[row]
        slot = before[:, None] + torch.cumsum(batch.mask.long(), 1) - 1
        return Timeline(of_row, slot.clamp(min=0), batch.mask, length)

    def lay(self, per_token: Tensor) -> Tensor:
        """[E, L] a per-token quantity [B, T] summed into the places of its tokens."""
        width = max(1, int(self.length.max()))
        place = self.of_row[:, None] * width + self.slot.clamp(max=width - 1)
        line = per_token.new_zeros(len(self.length) * width)
        return line.index_add(0, place.flatten(), per_token.flatten()).view(-1, width)[:, : int(self.length.max())]

    def put(self, line: Tensor) -> Tensor:
        """[B, T] the value of each chosen token's place on its line [E, L]; 0 at every other token."""
        if not line.shape[1]:
            return line.new_zeros(self.slot.shape)
        values = line[self.of_row[:, None], self.slot.clamp(max=line.shape[1] - 1)]
        return torch.where(self.chosen, values, 0.0)
