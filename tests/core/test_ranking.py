"""Losses on scores: values and gradients against the formula written out, in float64."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import permutations

import pytest
import torch
from torch import Tensor

from burnish.core.aggregate import token_mean
from burnish.core.links import Logistic
from burnish.core.preference import Preference
from burnish.core.ranking import (
    L2,
    SCORE,
    Attributes,
    Barrier,
    Centre,
    Focal,
    Penalised,
    PlackettLuce,
    Pointwise,
    PointwiseTokens,
)
from burnish.core.scores import HeadScore
from burnish.data.units import collate
from burnish.errors import InputError
from burnish.types import Batch, Loss, Needs, needs_of
from rated import Ranks, ranked, row, said, seeded, slope, value

EXACT = 1e-10
BRADLEY_TERRY = Preference(HeadScore(), Logistic())
FOCAL = Preference(HeadScore(), Focal(2.0))
MIXED: Ranks = [[0, 1, 2, 3], [1, 0], [0, 0], [2, 0, 1], [-1, 0, 1], [0, 1, 1, 2]]
"""A ranking, a pair, a tie, one out of order, one with an answer nobody ranked, one with a tie inside."""


def same(loss: Loss, batch: Batch, scores: Tensor, expected: Tensor) -> None:
    found = value(loss, batch, SCORE, scores)
    torch.testing.assert_close(found, expected, rtol=EXACT, atol=EXACT)
    torch.testing.assert_close(slope(found, scores), slope(expected, scores), rtol=EXACT, atol=EXACT)


def each_pair(ranks: Ranks, scores: Tensor) -> list[list[tuple[Tensor, Tensor]]]:
    """For every unit its (better, worse) scores."""
    start, found = 0, []
    for own in ranks:
        r = scores[start : start + len(own)]
        found.append([(r[i], r[j]) for i, a in enumerate(own) for j, b in enumerate(own) if 0 <= a < b])
        start += len(own)
    return found


def mean_over_pairs(ranks: Ranks, scores: Tensor, term: object) -> Tensor:
    units = [own for own in each_pair(ranks, scores) if own]
    return torch.stack([torch.stack([term(b, w) for b, w in own]).mean() for own in units]).mean()  # type: ignore[operator]


# --- rankings ------------------------------------------------------------------------------------


def test_all_pairs_of_a_ranking_share_the_weight_of_their_prompt() -> None:
    scores = seeded(18)
    expected = mean_over_pairs(MIXED, scores, lambda b, w: -torch.log(torch.sigmoid(b - w)))
    same(BRADLEY_TERRY, ranked(MIXED), scores, expected)


def test_the_likelihood_of_a_ranking_is_that_of_drawing_it() -> None:
    """Brute force: the probabilities of all orders add up to 1, and the loss is minus the log of one of them."""
    scores = seeded(4)

    def drawn(order: tuple[int, ...]) -> Tensor:
        left, chance = list(order), torch.ones((), dtype=torch.float64)
        while left:
            chance = chance * scores[left[0]].exp() / scores[left].exp().sum()
            left.pop(0)
        return chance

    chances = {order: drawn(order) for order in permutations(range(4))}
    assert torch.stack(list(chances.values())).sum().item() == pytest.approx(1)
    for order, chance in chances.items():
        ranks = [order.index(i) for i in range(4)]
        same(PlackettLuce(), ranked([ranks]), scores, -chance.log())


def test_the_denominator_runs_from_each_answer_down_to_the_worst() -> None:
    """The reversed cumulative sum: forwards it would be another number."""
    scores = seeded(5, seed=1)
    below = torch.logcumsumexp(scores.flip(0), 0).flip(0)
    same(PlackettLuce(), ranked([range(5)]), scores, (below - scores)[:-1].sum())


def test_two_answers_are_a_pair() -> None:
    batch, scores = ranked([[0, 1], [1, 0], [0, 0]]), seeded(6)
    same(PlackettLuce(), batch, scores, value(BRADLEY_TERRY, batch, SCORE, scores))


def test_tied_answers_compete_with_the_worse_ones_only() -> None:
    scores = seeded(4, seed=2)
    a, b, c, d = scores
    expected = (
        torch.log(1 + (d - b).exp())
        + torch.log(1 + (d - c).exp())
        + torch.log(1 + (b - a).exp() + (c - a).exp() + (d - a).exp())
    )
    same(PlackettLuce(), ranked([[0, 1, 1, 2]]), scores, expected)
    assert value(PlackettLuce(), ranked([[0, 0]]), SCORE, seeded(2)).item() == 0


def test_prompts_weigh_the_same_and_ties_nothing() -> None:
    scores = seeded(18, seed=3)
    start, sums = 0, []
    for own in MIXED:
        r = scores[start : start + len(own)]
        terms = [
            torch.logsumexp(torch.stack([r[i], *(r[j] for j, b in enumerate(own) if b > a)]), 0) - r[i]
            for i, a in enumerate(own)
            if any(b > a for b in own) and a >= 0
        ]
        sums += [torch.stack(terms).sum()] if terms else []
        start += len(own)
    assert len(sums) == 5
    same(PlackettLuce(), ranked(MIXED), scores, torch.stack(sums).mean())


@pytest.mark.parametrize("loss", [BRADLEY_TERRY, FOCAL, PlackettLuce()], ids=["bt", "focal", "plackett-luce"])
def test_a_constant_changes_nothing(loss: Loss) -> None:
    batch, scores = ranked(MIXED), seeded(18)
    moved = (scores + 7.5).detach().requires_grad_()
    before, after = value(loss, batch, SCORE, scores), value(loss, batch, SCORE, moved)
    torch.testing.assert_close(before, after, rtol=EXACT, atol=EXACT)
    torch.testing.assert_close(slope(before, scores), slope(after, moved), rtol=1e-9, atol=1e-12)


def test_equal_scores_cost_log_2_a_pair() -> None:
    scores = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    for loss in (BRADLEY_TERRY, FOCAL, PlackettLuce()):
        assert value(loss, ranked([[0, 1]]), SCORE, scores).item() == pytest.approx(math.log(2))


def test_large_scores_are_no_overflow() -> None:
    scores = torch.tensor([1e4, -1e4, 5e3], dtype=torch.float64, requires_grad=True)
    found = value(PlackettLuce(), ranked([[2, 1, 0]]), SCORE, scores)
    assert float(found) == pytest.approx(5e3 + 2e4)
    assert torch.isfinite(slope(found, scores)).all()


def test_a_batch_of_ties_is_worth_nothing_and_has_a_gradient() -> None:
    scores = seeded(4)
    for loss in (BRADLEY_TERRY, PlackettLuce(), Penalised(BRADLEY_TERRY, (L2(),))):
        found = value(loss, ranked([[0, 0], [-1, 0]]), SCORE, scores)
        assert float(found) == 0 and float(slope(found, scores).abs().sum()) == 0


def test_metrics_count_a_prompt_once() -> None:
    batch = PlackettLuce().prepare(ranked([[0, 1, 2], [0, 1]]))
    scores = torch.tensor([2.0, 1.0, 1.0, 0.0, 3.0], dtype=torch.float64)
    _, metrics = PlackettLuce()(said(batch, SCORE, scores), batch)
    accuracy, margin = metrics["reward/accuracy"], metrics["reward/margin"]
    assert accuracy == (pytest.approx((1 + 1 + 0.5) / 3), 2.0)
    assert margin == (pytest.approx((1 + 1 + 0) / 3 - 3), 2.0)
    assert metrics["loss"][1] == 2


# --- focal ---------------------------------------------------------------------------------------


def test_the_focal_loss_is_the_papers() -> None:
    def term(b: Tensor, w: Tensor) -> Tensor:
        p = torch.sigmoid(b - w)
        return -((1 - 2 * torch.clamp(p - 0.5, min=0)) ** 2) * torch.log(p)

    scores = seeded(18, scale=2.0)
    same(FOCAL, ranked(MIXED), scores, mean_over_pairs(MIXED, scores, term))


def test_what_is_told_apart_fades_out() -> None:
    def factor(gap: float) -> float:
        scores = torch.tensor([gap, 0.0], dtype=torch.float64, requires_grad=True)
        focal, plain = (value(loss, ranked([[0, 1]]), SCORE, scores) for loss in (FOCAL, BRADLEY_TERRY))
        return float(focal / plain)

    assert [factor(gap) for gap in (-30.0, -3.0, -0.1, 0.0)] == pytest.approx([1, 1, 1, 1])
    falling = [factor(gap) for gap in (0.1, 0.5, 1.0, 3.0, 10.0)]
    assert falling == sorted(falling, reverse=True) and falling[0] < 1
    assert factor(30.0) < 1e-20


# --- penalties -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("penalty", "term"),
    [
        pytest.param(Centre(0.3), lambda b, w: 0.3 * (b + w) ** 2, id="centre"),
        pytest.param(L2(0.3), lambda b, w: 0.3 * (b**2 + w**2), id="l2"),
        pytest.param(
            Barrier(0.3),
            lambda b, w: -0.15 * (torch.log(b + 5) + torch.log(5 - b) + torch.log(w + 5) + torch.log(5 - w)),
            id="barrier",
        ),
    ],
)
def test_penalties_are_means_over_pairs(penalty: object, term: object) -> None:
    scores = seeded(18)
    expected = value(BRADLEY_TERRY, ranked(MIXED), SCORE, scores) + mean_over_pairs(MIXED, scores, term)
    same(Penalised(BRADLEY_TERRY, (penalty,)), ranked(MIXED), scores, expected)  # type: ignore[arg-type]


def test_the_barrier_is_symmetric_and_lowest_at_0() -> None:
    x = torch.linspace(-7, 7, 141, dtype=torch.float64, requires_grad=True)
    barrier = Barrier(1.0)(x, x)
    torch.testing.assert_close(barrier, barrier.flip(0), rtol=EXACT, atol=EXACT)
    assert int(barrier.argmin()) == 70
    assert (slope(barrier.sum(), x)[71:] > 0).all(), "it never stops pushing back, not beyond the limit either"
    assert torch.isfinite(barrier).all()


def test_scores_stay_inside() -> None:
    """Pairs that can be told apart drive Bradley-Terry out of every bound; the barrier holds."""
    reached = {}
    for name, loss in (("plain", BRADLEY_TERRY), ("barrier", Penalised(BRADLEY_TERRY, (Barrier(0.02),)))):
        scores = torch.tensor([6.0, -0.5, 0.0, 0.0], dtype=torch.float64, requires_grad=True)
        for _ in range(4000):
            scores = (scores - 0.5 * slope(value(loss, ranked([[0, 1], [1, 0]]), SCORE, scores), scores)).detach()
            scores.requires_grad_()
        reached[name] = float(scores.abs().max())
    assert reached["barrier"] < 5 < reached["plain"]


def test_penalties_ask_for_what_the_loss_asks() -> None:
    assert needs_of(Penalised(BRADLEY_TERRY, (L2(),))) == needs_of(BRADLEY_TERRY)
    assert not needs_of(BRADLEY_TERRY).logprobs


# --- single answers ------------------------------------------------------------------------------


def labelled(labels: list[float | None]) -> Batch:
    rows = [row(tokens=2 + i % 3, targets={} if p is None else {"label": p}) for i, p in enumerate(labels)]
    return collate([(each,) for each in rows])


def test_the_regression_leaves_out_what_is_missing() -> None:
    given = [{"helpfulness": 3.0, "verbosity": 1.0}, {"verbosity": 2.0}, {}, {"helpfulness": 0.0}]
    batch = collate([(row(targets=targets),) for targets in given])
    scores = seeded(4, 2)
    errors = [(scores[0, 0] - 3) ** 2, (scores[0, 1] - 1) ** 2, (scores[1, 1] - 2) ** 2, scores[3, 0] ** 2]
    same(Attributes(("helpfulness", "verbosity")), batch, scores, torch.stack(errors).mean())


def test_one_attribute_is_a_plain_head() -> None:
    batch = collate([(row(targets={"score": 2.0}),), (row(targets={"score": -1.0}),)])
    scores = seeded(2)
    same(Attributes(("score",)), batch, scores, ((scores[0] - 2) ** 2 + (scores[1] + 1) ** 2) / 2)


def test_attributes_that_nobody_gave_are_an_error() -> None:
    batch = collate([(row(targets={"helpfulness": 1.0}),)])
    with pytest.raises(InputError, match="no answer has a score of helpfulnes: the data have helpfulness"):
        Attributes(("helpfulnes",)).prepare(batch)


def test_single_verdicts_are_cross_entropy() -> None:
    batch, scores = labelled([1.0, 0.0, None, 0.3]), seeded(4)
    p = torch.sigmoid(scores)
    terms = [-p[0].log(), -(1 - p[1]).log(), -(0.3 * p[3].log() + 0.7 * (1 - p[3]).log())]
    same(Pointwise(), batch, scores, torch.stack(terms).mean())


@pytest.mark.parametrize("by_token", [False, True], ids=["answers-alike", "tokens-alike"])
def test_the_verdict_at_every_token(by_token: bool) -> None:
    batch, scores = labelled([1.0, 0.0, None]), seeded(3, 4)
    p = torch.sigmoid(scores)
    good, bad = -p[0, :2].log(), -(1 - p[1, :3]).log()
    expected = torch.cat([good, bad]).mean() if by_token else (good.mean() + bad.mean()) / 2
    same(PointwiseTokens(token_mean) if by_token else PointwiseTokens(), batch, scores, expected)


def test_answers_without_labels_are_an_error() -> None:
    for loss in (Pointwise(), PointwiseTokens()):
        with pytest.raises(InputError, match="no answer has a label"):
            loss.prepare(labelled([None, None]))


def test_rows_that_only_serve_as_baselines_are_not_judged() -> None:
    batch, scores = labelled([1.0, 0.0]), seeded(2)
    batch = replace(batch, train=torch.tensor([True, False]))
    same(Pointwise(), batch, scores, -torch.log(torch.sigmoid(scores[0])))


def test_no_loss_on_scores_pays_for_log_probs() -> None:
    for loss in (PlackettLuce(), Attributes(("a",)), Pointwise(), PointwiseTokens()):
        assert replace(needs_of(loss), heads={}) == Needs(logprobs=False)
