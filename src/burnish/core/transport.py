"""Links of distributions: the scores of one side, sorted, against the sorted scores of the other (AOT, arXiv:2406.05882).

The loss is the cheapest transport between two samples, ``min over couplings of sum m_ij f(u_i - v_j)``. In one dimension,
with a convex f, the cheapest coupling is the monotone one: smallest to smallest, up to largest to largest.

Sorting needs the whole mini-batch, so ``measure`` sorts and writes down, for every row, its part of the loss and the slope of
the loss in its score. The gradient of the micro-batches then adds up to the exact one: nearly everywhere the order, and with
it the coupling, does not change with the weights, so that ``grad L = sum_rows dL/ds_row grad s_row``, and dL/ds_row, though
it depends on the whole batch, is a number.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from burnish.core.links import Link, OfPairs
from burnish.core.pointwise import OfLabels
from burnish.core.scores import Score
from burnish.core.units import Pairs
from burnish.errors import InputError
from burnish.types import Batch, Metrics, Outputs


class Transport(Link):
    """``f(d) = -log sigma(d)`` over a coupling; micro-batches add up the tangents that :meth:`measure` has left."""

    needs_statistics = True
    takes_trust = False

    def __call__(self, scores: Tensor, trust: Tensor | None, batch: Batch) -> tuple[Tensor, Metrics]:
        assert trust is None
        value, slope = batch.extra("transport").to(scores.dtype).unbind(1)
        return (value + slope * (scores - scores.detach())).sum(), {}


@dataclass(frozen=True)
class PairTransport(OfPairs, Transport):
    """``mean_i f(u_(i) - v_(i))``, u the margins of the policy's log-probs, v those of the reference's, each sorted.

    AOT for pairs: the margins, as a distribution, are to exceed the reference's, no matter of which pair. Both come from
    the score: v from its anchor, u is the score's margin and v together.
    """

    def measure(self, score: Score, outputs: Outputs, batch: Batch) -> Batch:
        pairs = Pairs.of(batch)
        anchor, scores = score.anchor(outputs, batch).double(), score(outputs, batch).double()
        before = anchor[pairs.better] - anchor[pairs.worse]
        now = scores[pairs.better] - scores[pairs.worse] + before
        mass = batch.weights["preference"][pairs.unit] * pairs.share
        i, j, moved = coupling(now, mass, before, mass)
        value, slope = _tangent(now[i] - before[j], moved)
        rows = scores.new_zeros(len(batch), 2)
        for side, sign in ((pairs.better, 1.0), (pairs.worse, -1.0)):
            rows = rows.index_add(0, side[i], torch.stack([value / 2, sign * slope], 1))
        return replace(batch, extras={**batch.extras, "transport": ("row", rows)})


@dataclass(frozen=True)
class SideTransport(OfLabels, Transport):
    """``mean_i f(s+_(i) - s-_(i))``: the scores of good answers against those of bad ones, each sorted.

    AOT without pairs: good answers are to be scored higher as a distribution. Counts may differ: mass is split.
    """

    def weigh(self, batch: Batch) -> Tensor:
        good, bad = self.sides(batch)
        if not (bool(good.any()) and bool(bad.any())):
            raise InputError(
                "this loss compares good answers with bad ones and needs both in every step: a larger batch"
            )
        rows = good / good.sum() / 2 + bad / bad.sum() / 2
        place = torch.searchsorted(batch.unit_ids, batch.units)
        return rows.new_zeros(len(batch.unit_ids)).index_add(0, place, rows)

    def measure(self, score: Score, outputs: Outputs, batch: Batch) -> Batch:
        scores = score(outputs, batch).double()
        good, bad = (torch.nonzero(side)[:, 0] for side in self.sides(batch))
        i, j, moved = coupling(scores[good], _even(good), scores[bad], _even(bad))
        value, slope = _tangent(scores[good][i] - scores[bad][j], moved)
        rows = scores.new_zeros(len(batch), 2)
        rows = rows.index_add(0, good[i], torch.stack([value / 2, slope], 1))
        rows = rows.index_add(0, bad[j], torch.stack([value / 2, -slope], 1))
        return replace(batch, extras={**batch.extras, "transport": ("row", rows)})


def coupling(u: Tensor, u_mass: Tensor, v: Tensor, v_mass: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(i, j, mass), all [M]: the monotone coupling of two samples whose masses [N] and [K] have the same sum.

    Both cumulative masses cut [0, sum] into pieces; each piece belongs to one entry on either side.
    """
    u_order, v_order = torch.argsort(u), torch.argsort(v)
    u_ends, v_ends = u_mass[u_order].cumsum(0), v_mass[v_order].cumsum(0)
    ends = torch.cat([u_ends, v_ends]).sort().values
    mass = torch.diff(ends, prepend=ends.new_zeros(1))
    middle = ends - mass / 2
    i = torch.searchsorted(u_ends, middle).clamp(max=len(u) - 1)
    j = torch.searchsorted(v_ends, middle).clamp(max=len(v) - 1)
    return u_order[i], v_order[j], mass


def _even(rows: Tensor) -> Tensor:
    return torch.full((len(rows),), 1 / len(rows), dtype=torch.float64, device=rows.device)


def _tangent(d: Tensor, mass: Tensor) -> tuple[Tensor, Tensor]:
    """``m f(d)`` and ``m f'(d)`` of the logistic f."""
    return -mass * logsigmoid(d), -mass * torch.sigmoid(-d)
