"""No loss of the table knows how its mini-batch was split into units, in which order they came, or what padding held."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.core.preference import get, table
from burnish.types import add_metrics
from judged import every_kind, outputs_of, prepared, random_judged, reorder, run, total

UNITS = every_kind()
ROWS = sum(len(unit) for unit in UNITS)
by_name = pytest.mark.parametrize("name", sorted(table()))


@by_name
@settings(max_examples=8, deadline=None)
@given(parts=st.lists(st.integers(0, 3), min_size=len(UNITS), max_size=len(UNITS)))
def test_micro_batches_of_whole_units_add_up(name: str, parts: list[int]) -> None:
    loss = get(name)
    batch, logprobs = random_judged(UNITS)
    value, gradient, metrics = run(loss, logprobs, batch)
    batch = prepared(loss, logprobs, batch)
    found, sums = torch.zeros_like(gradient), dict[str, tuple[float, float]]()
    added = torch.zeros_like(value)
    for part in sorted(set(parts)):
        rows = [row for row, unit in enumerate(batch.units.tolist()) if parts[unit] == part]
        micro = logprobs.detach()[rows].requires_grad_()
        piece, of_piece = loss(outputs_of(micro), batch.select(rows))
        found[rows] = torch.autograd.grad(piece, micro)[0]
        added, sums = added + piece.detach(), add_metrics(sums, of_piece)
    torch.testing.assert_close(added, value, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found, gradient, rtol=1e-10, atol=1e-12)
    assert total(sums) == pytest.approx(total(metrics), rel=1e-9, abs=1e-9)


@by_name
@settings(max_examples=8, deadline=None)
@given(order=st.permutations(range(len(UNITS))))
def test_the_order_of_units_changes_nothing(name: str, order: list[int]) -> None:
    loss = get(name)
    batch, logprobs = random_judged(UNITS)
    value, gradient, metrics = run(loss, logprobs, batch)
    moved, there, rows = reorder(UNITS, batch, logprobs, order)
    after, slope, others = run(loss, there, moved)
    torch.testing.assert_close(after, value, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(slope, gradient[rows], rtol=1e-10, atol=1e-12)
    assert total(others) == pytest.approx(total(metrics), rel=1e-9, abs=1e-9)


@by_name
def test_tokens_outside_the_mask_and_mismatched_rows_have_no_gradient(name: str) -> None:
    """Padding is NaN in these log-probs, so nothing may have touched it."""
    batch, logprobs = random_judged(UNITS)
    value, gradient, metrics = run(get(name), logprobs, batch)
    assert bool(torch.isfinite(value)) and bool(torch.isfinite(gradient).all())
    assert bool((gradient[~batch.mask] == 0).all()) and bool((gradient[~batch.train] == 0).all())
    assert bool((gradient[batch.train] != 0).any())
    assert all(torch.isfinite(torch.tensor(both)).all() for both in metrics.values())


@by_name
def test_single_precision_gives_the_same_numbers(name: str) -> None:
    batch, logprobs = random_judged(UNITS)
    value, gradient, _ = run(get(name), logprobs, batch)
    narrow = logprobs.detach().float().requires_grad_()
    after, slope, _ = run(get(name), narrow, batch)
    assert after.dtype == slope.dtype == torch.float32
    torch.testing.assert_close(after, value.float(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(slope, gradient.float(), rtol=1e-3, atol=1e-5)


@by_name
def test_extreme_log_probs_stay_numbers(name: str) -> None:
    """Answers thousands of nats from the reference on either side, in single precision."""
    batch, logprobs = random_judged(UNITS)
    sign = torch.where(torch.arange(ROWS) % 2 == 0, 1.0, -1.0)[:, None]
    for scale in (1e3, -1e3):
        assert batch.ref_logprobs is not None
        far = replace(batch, ref_logprobs=batch.ref_logprobs + scale * sign)
        value, gradient, _ = run(get(name), logprobs.detach().float().requires_grad_(), far)
        assert bool(torch.isfinite(value)) and bool(torch.isfinite(gradient).all())
