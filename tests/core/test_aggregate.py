"""Every aggregation against a reference of a few lines over plain lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.core.aggregate import (
    Aggregate,
    constant,
    group_token_mean,
    seq_mean_token_mean,
    seq_mean_token_sum,
    token_mean,
)
from burnish.types import Rollout
from rows import batch_of, cut, rollout

LIMIT = 10  # the sampling limit that batch_of records
Weights = list[list[float]]


def live(row: Rollout) -> list[float]:
    return [float(m and row.train) for m in row.mask]


def per_token(rows: Sequence[Rollout]) -> Weights:
    total = sum(sum(live(r)) for r in rows)
    return [[m / max(1, total) for m in live(r)] for r in rows]


def per_episode(rows: Sequence[Rollout]) -> Weights:
    count = max(1, len({r.episode for r in rows if r.train}))
    size = {e: max(1, sum(sum(live(r)) for r in rows if r.episode == e)) for e in {r.episode for r in rows}}
    return [[m / size[r.episode] / count for m in live(r)] for r in rows]


def summed(rows: Sequence[Rollout]) -> Weights:
    count = max(1, len({r.episode for r in rows if r.train}))
    return [[m / count for m in live(r)] for r in rows]


def per_group(rows: Sequence[Rollout]) -> Weights:
    count = max(1, len({r.group for r in rows if r.train}))
    size = {g: max(1, sum(sum(live(r)) for r in rows if r.group == g)) for g in {r.group for r in rows}}
    return [[m / size[r.group] / count for m in live(r)] for r in rows]


def by_constant(rows: Sequence[Rollout]) -> Weights:
    return [[w / LIMIT for w in line] for line in summed(rows)]


CASES: list[tuple[Aggregate, Callable[[Sequence[Rollout]], Weights]]] = [
    (token_mean, per_token),
    (seq_mean_token_mean, per_episode),
    (seq_mean_token_sum, summed),
    (group_token_mean, per_group),
    (constant(), by_constant),
]
IDS = ["token_mean", "seq_mean_token_mean", "seq_mean_token_sum", "group_token_mean", "constant"]
every = pytest.mark.parametrize(("aggregate", "reference"), CASES, ids=IDS)

MASKS = st.lists(st.booleans(), min_size=1, max_size=6)
ROWS = st.lists(st.tuples(MASKS, st.integers(0, 2), st.booleans()), min_size=1, max_size=7)


def rows_of(drawn: Sequence[tuple[list[bool], int, bool]]) -> list[Rollout]:
    return [
        rollout(len(mask), group=7 * group, episode=100 - number, mask=mask, train=train)
        for number, (mask, group, train) in enumerate(drawn)
    ]


def weights(aggregate: Aggregate, rows: Sequence[Rollout]) -> list[list[float]]:
    batch = batch_of(rows, LIMIT)
    full = aggregate(batch, batch.mask)
    assert full.shape == batch.tokens.shape
    assert all((full[i, len(r.tokens) :] == 0).all() for i, r in enumerate(rows)), "padding has weight"
    return [full[i, : len(r.tokens)].tolist() for i, r in enumerate(rows)]


@every
@given(drawn=ROWS)
@settings(deadline=None, max_examples=40, derandomize=True)
def test_equals_the_reference_on_ragged_masked_rows(
    aggregate: Aggregate, reference: Callable[[Sequence[Rollout]], Weights], drawn: list[tuple[list[bool], int, bool]]
) -> None:
    rows = rows_of(drawn)
    for got, expected in zip(weights(aggregate, rows), reference(rows), strict=True):
        assert got == pytest.approx(expected, rel=1e-14, abs=0)


@every
@given(drawn=ROWS, data=st.data())
@settings(deadline=None, max_examples=40, derandomize=True)
def test_an_episode_cut_into_segments_weighs_what_it_weighed(
    aggregate: Aggregate, reference: object, drawn: list[tuple[list[bool], int, bool]], data: st.DataObject
) -> None:
    del reference
    rows = rows_of(drawn)
    pieces = [
        cut(row, sorted(at for at in data.draw(st.sets(st.integers(1, 5), max_size=2)) if at < len(row.tokens)))
        for row in rows
    ]
    found = iter(weights(aggregate, [segment for piece in pieces for segment in piece]))
    for whole, piece in zip(weights(aggregate, rows), pieces, strict=True):
        assert [w for _ in piece for w in next(found)] == pytest.approx(whole, rel=1e-14, abs=0)


TWO_GROUPS = [
    rollout(1, group=0, episode=0),
    rollout(3, group=0, episode=1),
    rollout(4, group=5, episode=2, mask=(True, False, True, True)),
    rollout(5, group=5, episode=3, train=False),
]


@pytest.mark.parametrize(
    ("aggregate", "expected"),
    [
        (token_mean, [1 / 7, 1 / 7, 1 / 7]),
        (seq_mean_token_mean, [1 / 3, 1 / 9, 1 / 9]),
        (seq_mean_token_sum, [1 / 3, 1 / 3, 1 / 3]),
        (group_token_mean, [1 / 8, 1 / 8, 1 / 6]),
        (constant(), [1 / 30, 1 / 30, 1 / 30]),
        (constant(4), [1 / 12, 1 / 12, 1 / 12]),
    ],
    ids=[*IDS, "constant(4)"],
)
def test_weights_written_out(aggregate: Aggregate, expected: list[float]) -> None:
    """Three trained episodes of 1, 3 and 3 masked tokens in two groups, and a row that only serves as a baseline."""
    one, three, masked, baseline = weights(aggregate, TWO_GROUPS)
    w, x, y = expected
    assert one == pytest.approx([w])
    assert three == pytest.approx([x] * 3)
    assert masked == pytest.approx([y, 0, y, y])
    assert baseline == [0.0] * 5


@pytest.mark.parametrize(
    ("aggregate", "total"),
    [
        (token_mean, 1.0),
        (seq_mean_token_mean, 1.0),
        (group_token_mean, 1.0),
        (seq_mean_token_sum, 7 / 3),
        (constant(), 0.7 / 3),
    ],
)
def test_weights_sum_to_the_stated_total(aggregate: Aggregate, total: float) -> None:
    assert sum(map(sum, weights(aggregate, TWO_GROUPS))) == pytest.approx(total, rel=1e-14)


@every
def test_nothing_to_train_on_gives_zeros_not_nan(aggregate: Aggregate, reference: object) -> None:
    del reference
    rows = [rollout(3, train=False), rollout(2, episode=1), rollout(2, mask=(False, False), episode=2)]
    assert weights(aggregate, [rows[0], rows[2]]) == [[0.0] * 3, [0.0] * 2]
    assert weights(aggregate, rows)[1][0] > 0


@every
def test_a_narrower_mask_counts_only_its_tokens(
    aggregate: Aggregate, reference: Callable[[Sequence[Rollout]], Weights]
) -> None:
    """A loss may give another mask than the batch's (a term that leaves formatting tokens out)."""
    rows = [rollout(3, episode=0), rollout(2, episode=1, group=1)]
    narrow = torch.tensor([[True, False, True], [False, True, False]])
    batch = batch_of(rows, LIMIT)
    masked = [rollout(3, episode=0, mask=(True, False, True)), rollout(2, episode=1, group=1, mask=(False, True))]
    expected = batch_of(masked, LIMIT)
    assert torch.equal(aggregate(batch, narrow), aggregate(expected, expected.mask))
    assert weights(aggregate, masked) == [pytest.approx(line) for line in reference(masked)]
