"""At which level a log-ratio is read: token by token, or over the whole sequence.

A level maps per-token log-ratios [B, T] (zero outside the mask) to the log-ratio each token is to use [B, T]. It sees
constants only; the gradient flows through ``exp(logp - stop(logp))`` at each token, which gives a sequence term its exact
gradient while it stays a per-token quantity (the token form of GSPO, arXiv:2507.18071). Sequences are episodes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from burnish.types import Batch

Level = Callable[[Tensor, Batch, Tensor], Tensor]
"""``(log-ratios [B, T], batch, mask [B, T]) -> [B, T]``"""


def token(u: Tensor, batch: Batch, mask: Tensor) -> Tensor:  # noqa: ARG001 - part of the interface
    """``u_t``: every token by itself."""
    return u


def sequence(u: Tensor, batch: Batch, mask: Tensor) -> Tensor:
    """``sum_t u_t``: the log-ratio of the whole sequence. Weigh with ``seq_mean_token_sum`` for its literal gradient."""
    return _per_episode(u, batch, mask)


def sequence_mean(u: Tensor, batch: Batch, mask: Tensor) -> Tensor:
    """``1/|y| sum_t u_t``: its geometric mean. Weigh with ``seq_mean_token_mean`` for its literal gradient."""
    return _per_episode(u, batch, mask) / _per_episode(mask.to(u.dtype), batch, mask).clamp(min=1)


def _per_episode(values: Tensor, batch: Batch, mask: Tensor) -> Tensor:
    """[B, T] the sum over the masked tokens of each row's episode, on every one of its tokens."""
    _, of_row = torch.unique(batch.episodes, return_inverse=True)
    rows = torch.where(mask, values, 0.0).sum(1)
    total = rows.new_zeros(len(rows)).index_add(0, of_row, rows)
    return total[of_row, None].expand_as(values)
