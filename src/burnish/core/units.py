"""What lies inside a unit: ordered pairs of its rows, and labels of single rows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from burnish.types import Batch


@dataclass(frozen=True)
class Pairs:
    """All pairs of rows of one unit of which the first is ranked better; ties make none. All [P]:

    ``better`` and ``worse`` are row numbers, ``unit`` is the place in ``batch.unit_ids``, ``share`` one over the number of
    pairs of the unit: K ranked answers are one unit of K(K-1)/2 pairs (InstructGPT, arXiv:2203.02155).
    """

    better: Tensor
    worse: Tensor
    unit: Tensor
    share: Tensor

    @staticmethod
    def of(batch: Batch) -> Pairs:
        assert batch.ranks is not None
        ranked = batch.train & (batch.ranks >= 0)
        together = (batch.units[:, None] == batch.units[None, :]) & ranked[:, None] & ranked[None, :]
        better, worse = torch.nonzero(together & (batch.ranks[:, None] < batch.ranks[None, :]), as_tuple=True)
        unit = torch.searchsorted(batch.unit_ids, batch.units[better])
        counts = torch.zeros(len(batch.unit_ids), dtype=torch.float64, device=unit.device)
        counts = counts.index_add(0, unit, torch.ones(len(unit), dtype=torch.float64, device=unit.device))
        return Pairs(better, worse, unit, 1 / counts[unit])


def unit_mean(batch: Batch, units: Tensor) -> Tensor:
    """[U] weights of a mean over the units whose places in ``batch.unit_ids`` occur in ``units``; 0 for the others."""
    out = torch.zeros(len(batch.unit_ids), dtype=torch.float64, device=batch.units.device)
    out[units] = 1.0
    return out / out.sum().clamp(min=1)


def labels(batch: Batch) -> Tensor:
    """[B] the target ``label`` where there is one; else 1 for the best rank of the unit, 0 for others; NaN without either."""
    missing = torch.full(batch.units.shape, torch.nan, dtype=torch.float64, device=batch.units.device)
    given = batch.targets.get("label", missing)
    assert batch.ranks is not None
    ranked = torch.where(batch.ranks >= 0, (batch.ranks == 0).to(given.dtype), given.new_full((), torch.nan))
    return torch.where(torch.isnan(given), ranked, given)
