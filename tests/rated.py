"""Batches of judged answers for tests: rows by hand, scores from a generator, gradients of a loss on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from burnish.data.units import Row, collate
from burnish.types import Batch, Loss, Metrics, Outputs, add_metrics

Ranks = Sequence[Sequence[int]]


def row(rank: int = -1, tokens: int = 3, targets: Mapping[str, float] | None = None, prompt: int = 1,
        ratings: Mapping[int, float] | None = None) -> Row:  # fmt: skip
    return Row((prompt,), (5,) * tokens, (True,) * tokens, rank=rank, targets=targets or {}, ratings=ratings or {})


def ranked(ranks: Ranks) -> Batch:
    """One unit a list of ranks."""
    return collate([tuple(row(rank, prompt=unit) for rank in own) for unit, own in enumerate(ranks)])


def seeded(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    """Random numbers to differentiate by."""
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (scale * values).requires_grad_()


def said(batch: Batch, name: str, values: Tensor) -> Outputs:
    """What a model with one head says, and no log-probs."""
    nothing = torch.full(batch.tokens.shape, torch.nan)
    return Outputs(nothing, nothing, {name: values})


def value(loss: Loss, batch: Batch, name: str, values: Tensor) -> Tensor:
    """The loss of the whole batch, prepared as for a step."""
    return loss(said(batch, name, values), loss.prepare(batch))[0]  # type: ignore[attr-defined, no-any-return]


def slope(total: Tensor, values: Tensor) -> Tensor:
    return torch.autograd.grad(total, values, retain_graph=True)[0]


def in_parts(
    loss: Loss, batch: Batch, name: str, values: Tensor, parts: Sequence[Sequence[int]]
) -> tuple[Tensor, Metrics]:
    """The gradient and the metrics of a step whose rows are passed in these micro-batches of whole units."""
    prepared = loss.prepare(batch)  # type: ignore[attr-defined]
    gradient, metrics = torch.zeros_like(values), dict[str, tuple[float, float]]()
    for rows in parts:
        micro = prepared.select(rows)
        total, found = loss(said(micro, name, values[list(rows)]), micro)
        gradient = gradient + slope(total, values)
        metrics = add_metrics(metrics, found)
    return gradient, metrics
