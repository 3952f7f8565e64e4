"""How per-token losses become one number: weights ``[B, T]`` computed once per optimizer step on the global mini-batch.

A loss is ``sum(weights * per_token)``. Weights are data, so gradients add up over any split of the batch into
micro-batches, packed rows or workers. Sequences are episodes: an episode cut into several rows weighs what it weighed in
one. Rows with ``train=False`` get no weight and do not count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from burnish.types import Batch

Aggregate = Callable[[Batch, Tensor], Tensor]
"""``(batch, mask [B, T]) -> weights [B, T]``: which tokens share the unit weight of the step, and how."""


def _trained(batch: Batch, mask: Tensor) -> Tensor:
    return (mask & batch.train[:, None]).to(torch.float64)


def _share(ids: Tensor, tokens: Tensor) -> Tensor:
    """[B, 1] the number of masked tokens over all rows that carry the same id."""
    _, place = torch.unique(ids, return_inverse=True)
    counts = torch.zeros(len(ids), dtype=tokens.dtype, device=tokens.device).index_add(0, place, tokens.sum(1))
    return counts[place].clamp(min=1)[:, None]


def _distinct(ids: Tensor, batch: Batch) -> int:
    return max(1, len(torch.unique(ids[batch.train])))


def token_mean(batch: Batch, mask: Tensor) -> Tensor:
    """``1 / (all masked tokens)``: every token of the mini-batch weighs the same (DAPO, arXiv:2503.14476)."""
    tokens = _trained(batch, mask)
    return tokens / tokens.sum().clamp(min=1)


def seq_mean_token_mean(batch: Batch, mask: Tensor) -> Tensor:
    """``1/N 1/|o_i|``: every episode weighs the same, short or long (GRPO, arXiv:2402.03300)."""
    tokens = _trained(batch, mask)
    return tokens / _share(batch.episodes, tokens) / _distinct(batch.episodes, batch)


def seq_mean_token_sum(batch: Batch, mask: Tensor) -> Tensor:
    """``1/N``: the log-probability of a whole episode, averaged over episodes (REINFORCE, RLOO)."""
    return _trained(batch, mask) / _distinct(batch.episodes, batch)


def group_token_mean(batch: Batch, mask: Tensor) -> Tensor:
    """``1/M 1/(tokens of the group)``: every prompt weighs the same, and every token within its group."""
    tokens = _trained(batch, mask)
    return tokens / _share(batch.groups, tokens) / _distinct(batch.groups, batch)


@dataclass(frozen=True)
class constant:  # noqa: N801 - reads as a function beside the others
    """``1/(N L)`` with a fixed length L: no token's weight depends on its own answer's length (Dr. GRPO, arXiv:2503.20783).

    ``length`` 0 takes the sampling limit of the run, which the batch carries as ``extras["max_tokens"]``.
    """

    length: int = 0

    def __call__(self, batch: Batch, mask: Tensor) -> Tensor:
        length = self.length or int(batch.extra("max_tokens").max())
        return _trained(batch, mask) / (_distinct(batch.episodes, batch) * length)
