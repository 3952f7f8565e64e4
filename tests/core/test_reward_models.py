"""The table: what every entry promises, whatever it is made of."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from burnish.core import reward_models
from burnish.core.process import STEP
from burnish.core.ranking import SCORE
from burnish.core.reward_models import HELPSTEER2, LLAMA2, RewardLoss, get, notes, table
from burnish.data.units import Row, Unit, collate
from burnish.errors import InputError
from burnish.types import Needs, means, needs_of
from rated import in_parts, seeded, slope, value

every_loss = pytest.mark.parametrize("loss", table().values(), ids=table().keys())
NAMES = HELPSTEER2.names


def judged(seed: int) -> list[Unit]:
    """Units with all that any loss here may ask for: ranks, labels, margins, attributes, ratings; some of it missing."""
    draw = torch.Generator().manual_seed(seed)

    def chance() -> float:
        return float(torch.rand((), generator=draw))

    def answer(rank: int, prompt: int) -> Row:
        size = 4 + int(4 * chance())
        targets = {name: 4 * chance() for name in NAMES if chance() < 0.7} | {"margin": chance()}
        targets |= {"label": chance()} if chance() < 0.7 else {}
        ratings = {place: round(3 * chance() - 1.5) for place in range(0, size - 1, 2)}
        return Row((prompt,), (5,) * size, (True,) * size, rank=rank, targets=targets, ratings=ratings)

    return [tuple(answer(rank, i) for rank in own) for i, own in enumerate([[0, 1], [0, 1, 2], [0, 0], [1, 0], [-1]])]


def model(loss: RewardLoss, rows: int, tokens: int) -> tuple[str, Tensor]:
    """The head a loss asks for, with numbers."""
    ((name, head),) = needs_of(loss).heads.items()
    shape = (rows, *([tokens] if head.at != "last" else []), *([head.out] if head.out > 1 else []))
    return name, seeded(*shape)


@every_loss
def test_whole_units_may_be_split_and_moved(loss: RewardLoss) -> None:
    batch = collate(judged(seed=3))
    name, said = model(loss, len(batch), batch.tokens.shape[1])
    whole, found = in_parts(loss, batch, name, said, [range(len(batch))])
    torch.testing.assert_close(whole, slope(value(loss, batch, name, said), said), rtol=1e-12, atol=1e-14)
    for parts in ([[0, 1], [2, 3, 4], [5, 6], [7, 8], [9]], [[9, 7, 8], [4, 3, 2, 1, 0], [6, 5]]):
        gradient, metrics = in_parts(loss, batch, name, said, parts)
        torch.testing.assert_close(gradient, whole, rtol=1e-10, atol=1e-12)
        assert means(metrics) == pytest.approx(means(found), rel=1e-10)


@every_loss
@settings(max_examples=10)
@given(st.integers(0, 100))
def test_a_step_down_the_gradient_lowers_the_loss(loss: RewardLoss, seed: int) -> None:
    batch = collate(judged(seed))
    name, said = model(loss, len(batch), batch.tokens.shape[1])
    before = value(loss, batch, name, said)
    after = value(loss, batch, name, said - 1e-3 * slope(before, said))
    assert math.isfinite(before.item()) and after.item() < before.item()


@every_loss
def test_every_loss_reads_one_head_and_no_log_probs(loss: RewardLoss) -> None:
    needs = needs_of(loss)
    assert set(needs.heads) in ({SCORE}, {STEP})
    assert needs == Needs(logprobs=False, heads=needs.heads)


@pytest.mark.parametrize("name", table().keys())
def test_every_constant_is_documented(name: str) -> None:
    assert set(notes()) == set(table())
    assert "arXiv:" in notes()[name] or "loss =" in notes()[name]


def test_names_are_found_and_unknown_ones_are_not() -> None:
    assert get("Bradley-Terry") is reward_models.BRADLEY_TERRY
    with pytest.raises(InputError, match=r"unknown reward-model loss 'internlm'\. Did you mean 'internlm2'"):
        get("internlm")


def test_the_margin_of_the_annotators_is_the_distance_asked_for() -> None:
    margin, scores = 0.7, seeded(2)
    unit = tuple(Row((1,), (5,), (True,), rank=rank, targets={"margin": margin}) for rank in (0, 1))
    expected = -torch.log(torch.sigmoid(scores[0] - scores[1] - margin))
    found = value(LLAMA2, collate([unit]), SCORE, scores)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(slope(found, scores), slope(expected, scores), rtol=1e-10, atol=1e-10)


def test_a_soft_label_is_the_expected_loss() -> None:
    scores, p = seeded(2), 0.6
    unit = tuple(Row((1,), (5,), (True,), rank=rank, targets={"label": q}) for rank, q in ((0, p), (1, 1 - p)))
    chance = torch.sigmoid(scores[0] - scores[1])
    expected = -(p * chance.log() + (1 - p) * (1 - chance).log())
    found = value(reward_models.BRADLEY_TERRY, collate([unit]), SCORE, scores)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(slope(found, scores), slope(expected, scores), rtol=1e-10, atol=1e-10)
