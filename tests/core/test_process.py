"""Losses on steps against the formula written out, which steps they see, and from steps to the score of a solution."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from burnish.core.process import (
    STEP,
    StepBinary,
    StepClasses,
    first_wrong,
    hard,
    judged,
    lowest,
    mean,
    product,
    rightness,
    soft,
    split_steps,
)
from burnish.data.units import collate
from burnish.errors import InputError
from burnish.types import Batch, Loss
from rated import row, seeded, slope, value

EXACT = 1e-10
ENDS = [{1: 1, 3: 0, 5: -1, 7: 1}, {0: 1, 2: 1}, {4: -1, 6: -1}, {}]
"""Good, neutral, wrong and then one more; two good ones; wrong from the start; nobody looked."""
SEEN = [(0, 1, 2), (0, 3, 1), (0, 5, 0), (1, 0, 2), (1, 2, 2), (2, 4, 0)]
"""(row, token, class) up to and with the first wrong step of each."""
BEYOND = [*SEEN, (0, 7, 2), (2, 6, 0)]


def rated() -> Batch:
    return collate([(row(tokens=9, prompt=i, ratings=ends),) for i, ends in enumerate(ENDS)])


def same(loss: Loss, batch: Batch, said: Tensor, expected: Tensor) -> None:
    found = value(loss, batch, STEP, said)
    torch.testing.assert_close(found, expected, rtol=EXACT, atol=EXACT)
    torch.testing.assert_close(slope(found, said), slope(expected, said), rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize(("beyond", "places"), [(False, SEEN), (True, BEYOND)], ids=["to-first-error", "all"])
def test_three_classes_are_cross_entropy(beyond: bool, places: list[tuple[int, int, int]]) -> None:
    """The verdict on the step that ends with token t is what the head says before token t + 1."""
    said = seeded(4, 9, 3)
    terms = [-torch.log_softmax(said[i, t + 1], 0)[c] for i, t, c in places]
    same(StepClasses(beyond), rated(), said, torch.stack(terms).mean())


@pytest.mark.parametrize("neutral", [1.0, 0.0, 0.5], ids=["neutral-right", "neutral-wrong", "neutral-half"])
def test_the_binary_form_places_neutral_steps(neutral: float) -> None:
    said = seeded(4, 9)
    p = torch.sigmoid(said)
    target = {0: 0.0, 1: neutral, 2: 1.0}
    terms = [-(target[c] * p[i, t + 1].log() + (1 - target[c]) * (1 - p[i, t + 1]).log()) for i, t, c in SEEN]
    same(StepBinary(neutral), rated(), said, torch.stack(terms).mean())


@given(st.floats(0, 1))
def test_the_soft_rating_of_a_rate_is_that_rate_as_a_label(rate: float) -> None:
    batch, said = collate([(row(tokens=3, ratings={1: soft(rate)}),)]), seeded(1, 3)
    p = torch.sigmoid(said[0, 2])
    same(StepBinary(neutral=0.5, beyond=True), batch, said, -(rate * p.log() + (1 - rate) * (1 - p).log()))


def test_a_rating_between_two_classes_is_shared_by_them() -> None:
    batch, said = collate([(row(tokens=3, ratings={1: 0.25}),)]), seeded(1, 3, 3)
    logp = torch.log_softmax(said[0, 2], 0)
    same(StepClasses(), batch, said, -(0.75 * logp[1] + 0.25 * logp[2]))


def test_hard_labels_ask_for_one_right_rollout() -> None:
    assert [hard(rate) for rate in (0.0, 0.125, 1.0)] == [-1, 1, 1]
    assert [soft(rate) for rate in (0.0, 0.125, 1.0)] == [-1, -0.75, 1]


def test_what_follows_the_first_wrong_step_is_not_judged() -> None:
    assert torch.nonzero(judged(rated())).tolist() == [[i, t] for i, t, _ in sorted(SEEN)]


def test_unrated_answers_are_an_error() -> None:
    batch = collate([(row(),)])
    for loss in (StepClasses(), StepBinary()):
        with pytest.raises(InputError, match="no step of these answers is rated"):
            loss.prepare(batch)


def test_a_step_needs_a_token_after_it() -> None:
    batch = collate([(row(tokens=3, ratings={2: 1}),), (row(tokens=5, ratings={2: 1}),)])
    with pytest.raises(InputError, match="a step ends with the last token of its answer"):
        StepClasses().prepare(batch)


# --- solutions -----------------------------------------------------------------------------------

LOGITS = torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, 1.0], [-1.0, 2.0, 0.5]], dtype=torch.float64)


@pytest.mark.parametrize("neutral", [1.0, 0.0], ids=["neutral-right", "neutral-wrong"])
def test_the_four_scores_of_a_solution(neutral: float) -> None:
    right = []
    for row_ in LOGITS.exp().tolist():
        right.append((row_[2] + neutral * row_[1]) / sum(row_))
    found = rightness(LOGITS, neutral)
    assert found.tolist() == pytest.approx(right)
    assert float(product(found)) == pytest.approx(right[0] * right[1] * right[2])
    assert float(lowest(found)) == pytest.approx(min(right))
    assert float(mean(found)) == pytest.approx(sum(right) / 3)


def test_one_sure_error_is_enough() -> None:
    for reduce in (product, lowest):
        assert float(reduce(torch.tensor([0.99] * 20 + [1e-9]))) < 1e-8
    assert float(mean(torch.tensor([0.99] * 20 + [1e-9]))) > 0.9, "the mean forgives it"


def test_only_the_product_minds_how_many_steps_there_are() -> None:
    few, many = torch.full((2,), 0.95), torch.full((20,), 0.95)
    assert float(product(many)) < float(product(few)) - 0.5
    assert float(lowest(many)) == float(lowest(few)) and float(mean(many)) == pytest.approx(float(mean(few)))


def test_the_first_step_above_the_threshold_is_wrong() -> None:
    assert first_wrong(torch.tensor([0.1, 0.2, 0.21, 0.9])) == 2
    assert first_wrong(torch.tensor([0.1, 0.2, 0.21, 0.9]), threshold=0.5) == 3
    assert first_wrong(torch.tensor([0.1])) is None


# --- texts ---------------------------------------------------------------------------------------


def test_lines_are_steps_and_blank_lines_are_none() -> None:
    assert split_steps("1+1=2\n2+2=4") == ("1+1=2\n", "2+2=4")
    assert split_steps("\na\n\n b\n") == ("\na\n\n", " b\n")
    assert split_steps("one") == ("one",) and split_steps("") == split_steps(" \n ") == ()
    assert split_steps("a; b", separator=";") == ("a;", " b")


@given(st.text(alphabet="a \n"))
def test_steps_join_to_their_text(text: str) -> None:
    steps = split_steps(text)
    assert "".join(steps) == (text if text.strip() else "")
    assert all(step.strip() for step in steps)
