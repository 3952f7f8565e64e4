"""Rows to batches: nothing lost, nothing twice, nothing out of place."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import groupby, pairwise
from math import log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.core import keys
from burnish.data.batching import collate, epoch_order, flatten, micro_batches, minibatches
from burnish.errors import InputError
from burnish.types import Batch, RewardPart, Rollout
from rows import groups, rollout

QUIET = settings(deadline=None, max_examples=60, derandomize=True)
SHAPES = st.lists(st.tuples(st.sampled_from([0, 4, 4, 9]), st.integers(1, 5)), min_size=1, max_size=10)


def shaped(shapes: list[tuple[int, int]]) -> Batch:
    """Rows of (prompt number, completion length); prompt k has k + 1 tokens."""
    rows = [rollout(n, group=p, episode=i, prompt=range(p + 1)) for i, (p, n) in enumerate(shapes)]
    return collate(rows)


def cost(batch: Batch, rows: list[int]) -> int:
    prompts = {tuple(batch.prompts[i].tolist()) for i in rows}
    return sum(map(len, prompts)) + int(batch.lengths[rows].sum())


def test_collate_puts_everything_in_its_place() -> None:
    first = Rollout(
        (1, 2, 3), (4, 5, 6), (True, False, True), (-0.5, 0.0, -0.25),
        (RewardPart(1, 0.5, "format"), RewardPart(-1, 1.0, "answer"), RewardPart(2, 0.25, "length")),
        group=7, episode=3,
    )  # fmt: skip
    second = Rollout((9,), (8,), (True,), (-2.0,), (RewardPart(-1, 2.0, "answer"),), group=7, episode=1, train=False)
    batch = collate([first, second], temperature=0.7, max_tokens=12)
    assert [p.tolist() for p in batch.prompts] == [[1, 2, 3], [9]]
    assert batch.tokens.tolist() == [[4, 5, 6], [8, 0, 0]]
    assert batch.mask.tolist() == [[True, False, True], [True, False, False]]
    assert batch.lengths.tolist() == [3, 1] and batch.train.tolist() == [True, False]
    assert batch.groups.tolist() == [7, 7] and batch.episodes.tolist() == [3, 1] and batch.units.tolist() == [1, 0]
    assert batch.sampler_logprobs is not None and batch.token_rewards is not None
    assert batch.sampler_logprobs.tolist() == [[-0.5, 0, -0.25], [-2, 0, 0]]
    assert batch.token_rewards.tolist() == [[0, 0.5, 1.25], [2, 0, 0]]
    assert batch.extra("max_tokens").tolist() == [12, 12] and batch.temperature == 0.7 and len(batch) == 2
    assert (first.reward, second.reward) == (1.75, 2.0)


def test_collate_truncates_the_rows_that_have_kept_ids() -> None:
    """Their log-probs lose the log of the kept mass, but not at an environment token, which was not sampled."""
    cut = Rollout(
        (1,), (4, 5, 6), (True, False, True), (-0.5, 0.0, -0.25), (), 0, 0, kept=(0.8, 0.0, 0.5),
        kept_ids=((4, 7), (), (2, 5, 6)),
    )  # fmt: skip
    whole = Rollout((1,), (8, 8), (True, True), (-2.0, -1.0), (), 0, 1, kept=(0.5, 0.5))
    batch = collate([cut, whole])
    assert batch.extras["kept_ids"][0] == "token"
    pad = [-1, -1, -1]
    assert batch.extra("kept_ids").tolist() == [[[4, 7, -1], pad, [2, 5, 6]], [pad, pad, pad]]
    assert batch.sampler_logprobs is not None
    assert batch.sampler_logprobs[0].tolist() == [-0.5 - log(0.8), 0.0, -0.25 - log(0.5)]
    assert batch.sampler_logprobs[1].tolist() == [-2.0, -1.0, 0.0]
    assert batch.select([1, 0]).extra("kept_ids")[1, 2].tolist() == [2, 5, 6]
    assert "kept_ids" not in collate([whole]).extras


def test_kept_ids_that_do_not_fit_the_tokens_are_errors() -> None:
    row = Rollout((1,), (4, 5), (True, True), (-1.0, -1.0), (), 0, 3, kept=(0.5, 0.5), kept_ids=((4,), (4, 6)))
    with pytest.raises(InputError, match="token 1 of episode 3 is not among the ids it was sampled from"):
        collate([row])
    for broken in (replace(row, kept_ids=((4,),)), replace(row, kept=(0.5,), kept_ids=((4,), (5,)))):
        with pytest.raises(InputError, match="episode 3 has 2 tokens, but"):
            collate([broken])


@given(SHAPES, st.integers(1, 60))
@QUIET
def test_micro_batches_hold_every_row_once_within_the_budget(shapes: list[tuple[int, int]], budget: int) -> None:
    batch = shaped(shapes)
    plan = micro_batches(batch, budget)
    assert sorted(row for rows in plan for row in rows) == list(range(len(batch)))
    for rows in plan:
        assert cost(batch, rows) <= budget or len(rows) == 1
    prompts = [key for key, _ in groupby(tuple(batch.prompts[i].tolist()) for rows in plan for i in rows)]
    assert len(prompts) == len(set(prompts)), "rows of one prompt are apart"
    for rows, following in pairwise(plan):
        assert cost(batch, [*rows, following[0]]) > budget, "another row would have fitted"
    assert plan == micro_batches(batch, budget)


def test_a_shared_prompt_is_counted_once() -> None:
    """Once in every micro-batch, that is: a new one starts by reading the prompt again."""
    batch = collate([rollout(2, prompt=(1,) * 10, episode=i) for i in range(5)])
    assert micro_batches(batch, 20) == [[0, 1, 2, 3, 4]]
    assert micro_batches(batch, 16) == [[0, 1, 2], [3, 4]]
    assert micro_batches(batch, 15) == [[0, 1], [2, 3], [4]]


def test_a_suppressed_token_may_be_forced_but_not_chosen() -> None:
    rows = [rollout(2, tokens=(5, 6)), rollout(2, tokens=(6, 5), episode=3, mask=(True, False))]
    assert collate(rows[1:], suppressed=(5,)).suppressed == (5,)
    assert collate(rows).suppressed == () and collate(rows, suppressed=(7,)).select([1]).suppressed == (7,)
    with pytest.raises(InputError, match="token 0 of episode 0 is suppressed, but the policy chose it"):
        collate(rows, suppressed=(5, 7))


def test_rows_that_are_apart_count_their_prompts_one_by_one() -> None:
    batch = collate([rollout(2, prompt=(1,) * 10, episode=i) for i in range(5)])
    assert micro_batches(batch, 60, apart=True) == [[0, 1, 2, 3, 4]]
    assert micro_batches(batch, 59, apart=True) == [[0, 1, 2, 3], [4]]
    assert micro_batches(batch, 20, apart=True) == [[0], [1], [2], [3], [4]]


@given(SHAPES, st.integers(1, 30), st.data())
@QUIET
def test_a_unit_is_never_split(shapes: list[tuple[int, int]], budget: int, data: st.DataObject) -> None:
    batch = shaped(shapes)
    units = torch.tensor(data.draw(st.lists(st.integers(0, 3), min_size=len(batch), max_size=len(batch))))
    batch = replace(batch, units=units)
    home: dict[int, int] = {}
    plan = micro_batches(batch, budget)
    for number, rows in enumerate(plan):
        batch.select(rows)  # raises where a unit is split
        for row in rows:
            assert home.setdefault(int(units[row]), number) == number
    assert sorted(row for rows in plan for row in rows) == list(range(len(batch)))


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.integers(1, 6), st.integers(0, 2**64))
@QUIET
def test_minibatches_are_whole_groups_and_every_group_once(sizes: list[int], count: int, key: int) -> None:
    batch = collate(groups([[float(g)] * size for g, size in enumerate(sizes)]))
    parts = list(minibatches(batch, count, key))
    assert sorted(e for part in parts for e in part.episodes.tolist()) == list(range(len(batch)))
    seen = [set(part.groups.tolist()) for part in parts]
    assert sum(map(len, seen)) == len(sizes)
    assert all(len(part) for part in parts), "a minibatch without rows"
    again = list(minibatches(batch, count, key))
    assert [p.episodes.tolist() for p in parts] == [p.episodes.tolist() for p in again]


def test_minibatches_are_drawn_from_their_key() -> None:
    batch = collate(groups([[0.0]] * 12))
    orders = {tuple(tuple(p.groups.tolist()) for p in minibatches(batch, 3, key)) for key in range(5)}
    assert len(orders) == 5
    assert next(minibatches(batch, 1, 0)) is batch


def test_selecting_reorders_every_field() -> None:
    batch = replace(
        collate(groups([[1, 2], [3]], [[2, 1], [3]])),
        ref_logprobs=torch.arange(9.0).reshape(3, 3),
        units=torch.tensor([5, 5, 2]),
        weights={"policy": torch.arange(9.0).reshape(3, 3), "pair": torch.tensor([0.25, 0.5])},
        extras={
            "row": ("row", torch.tensor([10, 11, 12])),
            "token": ("token", torch.arange(9).reshape(3, 3)),
            "unit": ("unit", torch.tensor([2, 5])),
        },
    )
    assert batch.unit_ids.tolist() == [2, 5]
    chosen = batch.select([1, 0])
    assert chosen.ref_logprobs is not None
    assert chosen.ref_logprobs[:, 0].tolist() == [3, 0] and chosen.weights["policy"][:, 0].tolist() == [3, 0]
    assert chosen.weights["pair"].tolist() == [0.5] and chosen.extra("unit").tolist() == [5]
    assert chosen.extra("row").tolist() == [11, 10] and chosen.extra("token")[:, 0].tolist() == [3, 0]
    assert chosen.episodes.tolist() == [1, 0] and [len(p) for p in chosen.prompts] == [2, 2]
    assert chosen.lengths.tolist() == [1, 2] and chosen.old_logprobs is None
    assert batch.select(torch.tensor([2])).weights["pair"].tolist() == [0.25]
    for rows in ([0], [1, 2], [0, 0]):
        with pytest.raises(ValueError, match="one unit"):
            batch.select(rows)


def test_moving_keeps_everything() -> None:
    batch = collate(groups([[1, 2]]), temperature=0.5, max_tokens=4)
    moved = batch.to("meta")
    assert moved.tokens.device.type == moved.prompts[0].device.type == moved.extra("max_tokens").device.type == "meta"
    assert moved.temperature == 0.5 and moved.values is None


@given(st.integers(1, 9), st.integers(0, 30), st.integers(0, 30))
@QUIET
def test_passes_over_the_data(count: int, start: int, take: int) -> None:
    """Every pass holds each item once; where a run resumes makes no difference."""
    whole = epoch_order(5, count, 0, start + take)
    assert epoch_order(5, count, start, take) == whole[start:]
    for place in range(0, start + take - count + 1, count):
        assert Counter(whole[place : place + count]) == Counter(range(count))


def test_passes_differ_from_one_another_and_with_the_key() -> None:
    passes = epoch_order(5, 20, 0, 60)
    assert len({tuple(passes[i : i + 20]) for i in (0, 20, 40)}) == 3
    assert epoch_order(6, 20, 0, 20) != passes[:20]
    assert keys.derive(5, 0) != keys.derive(5, 1)


def test_flatten_keeps_the_order() -> None:
    rows = groups([[1, 2], [3]])
    assert flatten([rows[:2], rows[2:]]) == rows and flatten([]) == []
