"""Units of judged answers for tests, with log-probs for them: by hand, or of every kind a loss may meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from burnish.core.preference import Preference
from burnish.data.units import Row, Unit, collate
from burnish.types import Batch, Metrics, Outputs


def answer(
    length: int,
    rank: int = -1,
    *,
    prompt: Sequence[int] = (1, 2),
    mask: Sequence[bool] | None = None,
    mismatched: bool = False,
    **targets: float,
) -> Row:
    """An answer of which every token counts unless ``mask`` says otherwise; the last one is formatting."""
    chosen = tuple(mask) if mask is not None else (True,) * length
    content = (*chosen[:-1], False)
    return Row(tuple(prompt), tuple(range(3, 3 + length)), chosen, content, rank, targets, mismatched=mismatched)


def judge(units: Sequence[Unit], reference: Sequence[Sequence[Sequence[float]]]) -> Batch:
    return collate(list(units), [[torch.tensor(row, dtype=torch.float64) for row in unit] for unit in reference])


def random_judged(units: Sequence[Unit], seed: int = 0) -> tuple[Batch, Tensor]:
    """The batch, its reference log-probs random, and random log-probs of the policy with a gradient. Padding is NaN.

    The numbers of an answer follow from its unit's place in ``units``: take them along with :func:`reorder`.
    """
    generator = torch.Generator().manual_seed(seed)

    def nats(row: Row) -> list[float]:
        return (-2.0 * torch.rand(len(row.tokens), generator=generator, dtype=torch.float64) - 0.05).tolist()

    batch = judge(units, [[nats(row) for row in unit] for unit in units])
    logprobs = torch.full(batch.tokens.shape, torch.nan, dtype=torch.float64)
    for line, row in zip(logprobs, [row for unit in units for row in unit], strict=True):
        line[: len(row.tokens)] = torch.tensor(nats(row))
    return batch, logprobs.requires_grad_()


def outputs_of(logprobs: Tensor, **heads: Tensor) -> Outputs:
    return Outputs(logprobs, torch.zeros_like(logprobs), heads)


def prepared(loss: Preference, logprobs: Tensor, batch: Batch) -> Batch:
    """What a training step does before the gradient: statistics come from the same weights."""
    found = outputs_of(logprobs.detach()) if loss.needs.statistics else None
    return loss.prepare(batch, found)


def run(loss: Preference, logprobs: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Metrics]:
    """The loss, its gradient in the log-probs and the metrics, of one micro-batch."""
    value, metrics = loss(outputs_of(logprobs), prepared(loss, logprobs, batch))
    return value.detach(), torch.autograd.grad(value, logprobs)[0], metrics


def reorder(
    units: Sequence[Unit], batch: Batch, logprobs: Tensor, order: Sequence[int]
) -> tuple[Batch, Tensor, list[int]]:
    """The units in another order with other ids, their numbers beside them, and the old row of each new row."""
    first = torch.tensor([len(unit) for unit in units]).cumsum(0).tolist()
    rows = [row for place in order for row in range(first[place] - len(units[place]), first[place])]
    moved = collate([units[place] for place in order])
    assert batch.ref_logprobs is not None
    moved = replace(moved, ref_logprobs=batch.ref_logprobs[rows])
    return moved, logprobs.detach()[rows].requires_grad_(), rows


def total(metrics: Metrics) -> dict[str, Any]:
    """Metrics as numbers that can be compared within a tolerance."""
    return {f"{name}/{part}": value for name, both in metrics.items() for part, value in zip("sn", both, strict=True)}


def every_kind() -> list[Unit]:
    """Pairs (plain, soft, masked), rankings of three and of four with a tie, a tie, labelled single answers.

    Each unit has a mismatched row, and every answer what any loss may ask for.
    """
    other = {"mismatched": True}
    return [
        (answer(4, 0, score=2.0, margin=0.5), answer(2, 1, score=1.5), answer(3, **other)),
        (answer(3, 0, score=1.0, margin=1.0, label=0.8), answer(5, 1, score=-1.0, label=0.2), answer(2, **other)),
        (answer(2, 0, score=4.0, margin=0.1), answer(3, 1, score=3.0), answer(4, 2, score=1.0, margin=0.2), answer(2, **other)),
        (
            answer(3, 1, score=1.0, margin=0.3),
            answer(2, 0, score=2.0, margin=0.7),
            answer(2, 2, score=0.0),
            answer(4, 1, score=1.2, margin=0.1),
            answer(3, **other),
        ),
        (answer(2, 0, score=1.0), answer(2, 0, score=1.0), answer(2, **other)),
        (answer(3, label=1.0), answer(3, **other)),
        (answer(2, label=0.0), answer(4, **other)),
        (answer(5, 0, mask=(True, False, True, True, True), score=1.0, margin=0.5),
         answer(4, 1, mask=(False, True, True, True), score=0.5), answer(2, **other)),
    ]  # fmt: skip
