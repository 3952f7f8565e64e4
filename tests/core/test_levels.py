"""Log-ratios at the level of a token, of a sequence and of its mean."""

from __future__ import annotations

import pickle

import torch
from torch import Tensor

from burnish.core.levels import Level, sequence, sequence_mean, token
from burnish.types import Batch
from rows import batch_of, cut, rollout

ROWS = [
    *cut(rollout(4, mask=(True, False, True, True)), [2]),
    rollout(2, episode=5),
    rollout(1, episode=3, mask=(False,)),
]
"""An episode in two segments with an environment token, a plain one, and one in which nothing was chosen."""
U = [[1.0, 0.0], [2.0, 6.0], [0.5, -1.5], [0.0]]


def read(level: Level) -> list[list[float]]:
    """What the level says at the chosen tokens."""
    batch = batch_of(ROWS, advantages=U)
    assert batch.advantages is not None
    found = level(batch.advantages, batch, batch.mask)
    assert found.shape == batch.tokens.shape
    return [line[chosen].tolist() for line, chosen in zip(found, batch.mask, strict=True)]


def test_by_hand() -> None:
    assert read(token) == [[1.0], [2.0, 6.0], [0.5, -1.5], []]
    assert read(sequence) == [[9.0], [9.0, 9.0], [-1.0, -1.0], []]
    assert read(sequence_mean) == [[3.0], [3.0, 3.0], [-0.5, -0.5], []]


def test_tokens_the_policy_did_not_choose_have_no_say() -> None:
    batch = batch_of(ROWS, advantages=U)
    assert batch.advantages is not None
    loud = torch.where(batch.mask, batch.advantages, 1e9)
    for level in (sequence, sequence_mean):
        found, expected = level(loud, batch, batch.mask), level(batch.advantages, batch, batch.mask)
        assert torch.equal(found[batch.mask], expected[batch.mask])


def test_the_mask_given_is_the_one_that_counts() -> None:
    """A loss passes the chosen tokens of trained rows, which may be fewer than the batch's mask."""
    batch = batch_of(ROWS, advantages=U)
    assert batch.advantages is not None
    fewer = batch.mask.clone()
    fewer[1, 1] = False
    assert sequence(batch.advantages, batch, fewer)[0, 0] == 3.0
    assert sequence_mean(batch.advantages, batch, fewer)[0, 0] == 1.5


def test_order_of_rows_and_of_ids_does_not_matter() -> None:
    batch = batch_of(ROWS, advantages=U)
    order = [2, 1, 3, 0]
    shuffled = batch.select(order)

    def of(b: Batch, level: Level) -> Tensor:
        assert b.advantages is not None
        return torch.where(b.mask, level(b.advantages, b, b.mask), 0.0)

    for level in (token, sequence, sequence_mean):
        assert torch.equal(of(batch, level)[order], of(shuffled, level))


def test_levels_travel_by_name() -> None:
    for level in (token, sequence, sequence_mean):
        assert pickle.loads(pickle.dumps(level)) is level
