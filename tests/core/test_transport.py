"""Sorted scores: the tangents of AOT add up to the gradient of the sorted loss, and its coupling is the cheapest one."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import logsigmoid

from burnish.core.preference import AOT, AOT_UNPAIRED, DPO
from burnish.core.transport import coupling
from burnish.data.units import Unit
from burnish.errors import InputError
from burnish.types import Batch
from judged import answer, random_judged, run

PAIRS: list[Unit] = [(answer(1 + n % 4, n % 2), answer(2 + n % 3, 1 - n % 2)) for n in range(7)]
numbers = st.lists(st.floats(-5, 5), min_size=1, max_size=6)


def sums(batch: Batch, values: Tensor) -> Tensor:
    return torch.where(batch.mask, values, 0.0).sum(1)


def sides(batch: Batch) -> tuple[Tensor, Tensor]:
    assert batch.ranks is not None
    return torch.nonzero(batch.ranks == 0)[:, 0], torch.nonzero(batch.ranks == 1)[:, 0]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_aot_of_pairs_is_the_papers(seed: int) -> None:
    """Margins of the policy and of the reference, each sorted over the whole batch, by autograd through the sort."""
    batch, logprobs = random_judged(PAIRS, seed)
    assert batch.ref_logprobs is not None
    good, bad = sides(batch)
    policy, reference = sums(batch, logprobs), sums(batch, batch.ref_logprobs)
    u, v = (policy[good] - policy[bad]).sort().values, (reference[good] - reference[bad]).sort().values
    want = -logsigmoid(0.1 * (u - v)).mean()
    value, gradient, metrics = run(AOT, logprobs, batch)
    torch.testing.assert_close(value, want.detach(), rtol=1e-10, atol=0)
    torch.testing.assert_close(gradient, torch.autograd.grad(want, logprobs)[0].nan_to_num(0.0), rtol=1e-10, atol=1e-14)
    assert metrics["loss"] == (pytest.approx(want.item()), pytest.approx(1.0))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_aot_without_pairs_is_the_papers(seed: int) -> None:
    batch, logprobs = random_judged(PAIRS, seed)
    assert batch.ref_logprobs is not None
    good, bad = sides(batch)
    s = 0.1 * (sums(batch, logprobs) - sums(batch, batch.ref_logprobs))
    want = -logsigmoid(s[good].sort().values - s[bad].sort().values).mean()
    value, gradient, metrics = run(AOT_UNPAIRED, logprobs, batch)
    torch.testing.assert_close(value, want.detach(), rtol=1e-10, atol=0)
    torch.testing.assert_close(gradient, torch.autograd.grad(want, logprobs)[0].nan_to_num(0.0), rtol=1e-10, atol=1e-14)
    assert metrics["loss"] == (pytest.approx(want.item()), pytest.approx(1.0))


def test_unequal_counts_split_mass() -> None:
    """Three good answers against two bad ones are the same as six against six, each repeated."""
    units: list[Unit] = [(answer(2, label=float(n < 3)),) for n in range(5)]
    batch, logprobs = random_judged(units)
    assert batch.ref_logprobs is not None
    s = 0.1 * (sums(batch, logprobs) - sums(batch, batch.ref_logprobs))
    good, bad = s[:3].sort().values.repeat_interleave(2), s[3:].sort().values.repeat_interleave(3)
    want = -logsigmoid(good - bad).mean()
    value, gradient, _ = run(AOT_UNPAIRED, logprobs, batch)
    torch.testing.assert_close(value, want.detach())
    torch.testing.assert_close(gradient, torch.autograd.grad(want, logprobs)[0])


def test_one_pair_is_dpo() -> None:
    batch, logprobs = random_judged(PAIRS[:1])
    for loss in (AOT, AOT_UNPAIRED):
        for found, want in zip(run(loss, logprobs, batch)[:2], run(DPO, logprobs, batch)[:2], strict=True):
            torch.testing.assert_close(found, want)


@settings(max_examples=40, deadline=None)
@given(numbers, numbers)
def test_a_coupling_moves_all_the_mass_in_order(u: list[float], v: list[float]) -> None:
    a, b = torch.tensor(u, dtype=torch.float64), torch.tensor(v, dtype=torch.float64)
    weight = torch.arange(1, len(u) + 1, dtype=torch.float64)
    mass, even = weight / weight.sum(), torch.full((len(v),), 1 / len(v), dtype=torch.float64)
    i, j, moved = coupling(a, mass, b, even)
    torch.testing.assert_close(torch.zeros_like(a).index_add(0, i, moved), mass)
    torch.testing.assert_close(torch.zeros_like(b).index_add(0, j, moved), even)
    assert bool((moved >= 0).all()) and bool((a[i].diff() >= 0).all()) and bool((b[j].diff() >= 0).all())


def test_the_monotone_coupling_is_the_cheapest() -> None:
    u, v = torch.tensor([0.3, -1.0, 2.0, 0.9]), torch.tensor([0.0, 1.5, -0.4, -2.0])
    even = torch.full((4,), 0.25)
    i, j, mass = coupling(u, even, v, even)
    cost = float((mass * -logsigmoid(u[i] - v[j])).sum())
    others = [float(-logsigmoid(u - v[list(order)]).mean()) for order in permutations(range(4))]
    assert cost == pytest.approx(min(others))


def test_both_kinds_have_to_be_there() -> None:
    batch, logprobs = random_judged([(answer(2, label=1.0),), (answer(2, label=1.0),)])
    with pytest.raises(InputError, match="a larger batch"):
        run(AOT_UNPAIRED, logprobs, batch)
