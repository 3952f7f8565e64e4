"""What a pair's scores are made into: minima, symmetries and slopes that the papers state, and what the data have to hold."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from burnish.core.links import (
    AnchoredDown,
    AnchoredZero,
    Contrast,
    Expected,
    GapKL,
    GapSquare,
    Hinge,
    Judged,
    Logistic,
    LogRatioModulated,
    PairLink,
    ReverseKL,
    Robust,
    SelfPlay,
    Square,
    bernoulli_kl,
)
from burnish.core.preference import DPO, Preference
from burnish.core.scores import HeadScore
from burnish.core.units import Pairs
from burnish.data.units import Unit
from burnish.errors import InputError
from burnish.types import Batch
from judged import answer, judge, outputs_of, random_judged, run

STATED: dict[str, Expected] = {
    "logistic": Logistic(),
    "margin": Logistic(margin=0.7),
    "robust": Robust(0.2),
    "square": Square(0.3),
    "hinge": Hinge(0.5),
    "modulated": LogRatioModulated(0.3),
    "contrast": Contrast(),
    "anchored_zero": AnchoredZero(),
    "anchored_down": AnchoredDown(),
}


def pairs(h: Tensor, label: float = 1.0, gap: float = math.nan, margin: float = math.nan) -> Judged:
    """Pairs whose scores are h apart around 0.3."""
    ones = torch.ones_like(h)
    return Judged(0.3 + h / 2, 0.3 - h / 2, label * ones, gap * ones, margin * ones)


def points(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def slope(link: PairLink, h: Tensor, **known: float) -> Tensor:
    return torch.autograd.grad(link.loss(pairs(h, **known)).sum(), h)[0]


def heads(batch: Batch, link: PairLink) -> tuple[Tensor, Tensor]:
    """A reward model's loss at random scores, and its gradient."""
    scores = torch.randn(len(batch), dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = Preference(HeadScore(), link)
    value, _ = loss(outputs_of(torch.zeros(batch.tokens.shape), score=scores), loss.prepare(batch))
    return value.detach(), torch.autograd.grad(value, scores)[0]


@pytest.mark.parametrize("name", STATED)
def test_a_soft_label_is_the_mean_over_hard_ones(name: str) -> None:
    """Also in the ends: with p = 0 the pair is the other way round."""
    link, h = STATED[name], points(-1.5, 0.2, 2.0)
    for p in (0.0, 0.3, 1.0):
        want = p * link.loss(pairs(h)) + (1 - p) * link.loss(pairs(h, label=0.0))
        torch.testing.assert_close(link.loss(pairs(h, label=p)), want)
    forth, back = pairs(h), pairs(h, label=0.0)
    turned = replace(forth, better=back.worse, worse=back.better)
    torch.testing.assert_close(link.loss(turned), link.loss(back))


def test_robust_is_unbiased_under_flips_and_smoothing_is_not() -> None:
    h = points(-2.0, 0.1, 3.0)
    clean = Logistic().loss(pairs(h))
    for link, equal in ((Robust(0.2), True), (Logistic(smoothing=0.2), False)):
        flipped = 0.8 * link.loss(pairs(h)) + 0.2 * link.loss(pairs(h, label=0.0))
        assert torch.allclose(flipped, clean, rtol=1e-12) is equal


def test_smoothing_rests_at_the_log_odds_of_a_right_label() -> None:
    assert float(slope(Logistic(smoothing=0.1), points(math.log(9)))) == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("p", [0.0, 0.5, 0.7, 1.0])
def test_the_minimum_of_ipo_is_finite(p: float) -> None:
    """``(p - 1/2)/tau``, also for a pair that is always ordered the same way."""
    best = (p - 0.5) / 0.2
    found = slope(Square(0.2), points(best - 0.1, best, best + 0.1), label=p)
    assert found.tolist() == pytest.approx([-0.2, 0.0, 0.2], abs=1e-12)


def test_a_hinge_is_silent_past_its_margin() -> None:
    assert slope(Hinge(1.0), points(-3.0, 0.9, 1.1, 9.0)).tolist() == [-1.0, -1.0, 0.0, 0.0]


def test_the_modulated_loss_is_finite_where_its_factors_are_not() -> None:
    """At h = -2000, e^{-h} is infinite; the loss is DPO's, and beyond h = 0 the exponential."""
    link = LogRatioModulated(0.05)
    h = points(-2000.0, -5.0, 5.0, 2000.0)
    value = link.preferred(h / 2, -h / 2, pairs(h))
    assert value.tolist() == pytest.approx([2000.0, math.log1p(math.exp(5)), math.exp(-5), 0.0], rel=1e-12)
    gradient = torch.autograd.grad(value.sum(), h)[0]
    assert bool(torch.isfinite(gradient).all()) and gradient[0] == -1


def test_exo_rests_at_its_smoothed_label() -> None:
    at = math.log(0.999 / 0.001)
    assert ReverseKL(1e-3).loss(pairs(points(at))).item() == pytest.approx(0, abs=1e-15)
    assert slope(ReverseKL(1e-3), points(at - 1, at, at + 1)).sign().tolist()[0::2] == [-1.0, 1.0]
    assert ReverseKL(1e-3).loss(pairs(points(-at), label=0.0)).item() == pytest.approx(0, abs=1e-15)


def test_contrast_lifts_the_better_answer_by_itself() -> None:
    """At equal scores DPO has no opinion on their height, NCA has: better rests at sigma(b) = 2/3."""
    b = points(math.log(2))
    w = torch.zeros_like(b)
    value = Contrast().preferred(b, w, pairs(b))
    assert float(torch.autograd.grad(value, b)[0]) == pytest.approx(0, abs=1e-15)


def test_the_anchored_losses_pull_where_their_names_say() -> None:
    for link, up in ((AnchoredZero(), True), (AnchoredDown(), False)):
        b, w = points(0.2), points(-0.1)
        of_b, of_w = torch.autograd.grad(link.preferred(b, w, pairs(b)).sum(), (b, w))
        assert of_w.item() > 0 and (of_b.item() < 0) is up
        assert link.preferred(points(-900.0), points(-900.0), pairs(b)).item() >= 0


def test_self_play_regresses_each_score_to_its_win() -> None:
    known = pairs(points(1.0), label=0.8)
    at = replace(known, better=points(3.0), worse=points(-3.0))
    assert SelfPlay(10.0).loss(at).item() == pytest.approx(0, abs=1e-15)


# --- known gaps ----------------------------------------------------------------------------------


def test_rpo_is_zero_only_at_the_known_gap_and_has_its_slope() -> None:
    h = points(-2.0, 0.5, 0.8, 3.0)
    value = GapKL(2.0).loss(pairs(h, gap=0.4))
    assert value[2].item() == pytest.approx(0, abs=1e-15) and bool((value[[0, 1, 3]] > 1e-3).all())
    want = torch.sigmoid(h) - torch.sigmoid(torch.tensor(0.8, dtype=torch.float64))
    torch.testing.assert_close(slope(GapKL(2.0), h, gap=0.4), want.detach(), rtol=1e-12, atol=1e-14)
    for link in (GapKL(2.0, backward=False), GapSquare(2.0)):
        assert link.loss(pairs(points(0.8), gap=0.4)).item() == pytest.approx(0, abs=1e-15)
        assert slope(link, points(0.5, 0.8, 3.0), gap=0.4).sign().tolist()[0::2] == [-1.0, 1.0]


def test_rpo_of_a_huge_gap_is_dpo() -> None:
    h = points(-2.0, 0.0, 1.5)
    torch.testing.assert_close(GapKL().loss(pairs(h, gap=1e4)), Logistic().loss(pairs(h)), rtol=1e-12, atol=0)
    torch.testing.assert_close(slope(GapKL(), h, gap=1e4), slope(Logistic(), h), rtol=1e-12, atol=0)


def test_a_bad_but_good_enough_answer_loses_less_under_rpo() -> None:
    """A near tie at a = 0: DPO pushes with 1/2, RPO with sigma(g) - 1/2."""
    assert float(slope(Logistic(), points(0.0))) == -0.5
    assert float(slope(GapKL(), points(0.0), gap=0.1)) == pytest.approx(0.5 - 1 / (1 + math.exp(-0.1)))


def test_the_kl_of_two_coins() -> None:
    a, b = points(-1.0, 0.0, 2.0).detach(), points(0.5, 0.0, -800.0).detach()
    p, q = torch.sigmoid(a), torch.sigmoid(b)
    want = p * torch.log(p / q) + (1 - p) * torch.log((1 - p) / (1 - q))
    torch.testing.assert_close(bernoulli_kl(a, b)[:2], want[:2])
    entropy = -float(p[2] * p[2].log() + (1 - p[2]) * (1 - p[2]).log())
    assert bernoulli_kl(a, b)[2].item() == pytest.approx(float(p[2]) * 800 - entropy)  # q is 0 in these numbers


# --- margins and what the data hold --------------------------------------------------------------


def test_margins_come_from_the_data() -> None:
    unit: Unit = (answer(2, 0, margin=0.5, score=3.0), answer(2, 1, score=1.0))
    batch = judge([unit], [[[-1.0] * 2, [-1.0] * 2]])
    for link, margin in (
        (Logistic(margin=0.2), 0.2),
        (Logistic(given=2.0), 1.0),
        (Logistic(odds=0.3), 0.3 * math.log(2)),
        (Logistic(margin=0.1, given=1.0, odds=1.0), 0.6 + math.log(2)),
    ):
        torch.testing.assert_close(heads(batch, link)[0], heads(batch, Logistic(margin=margin))[0])


def test_the_label_of_a_pair_is_the_better_answers_and_none_is_read_of_a_ranking() -> None:
    """Among K answers a label is an answer's own; the ranks say who is better."""
    soft: Unit = (answer(2, 1, label=0.3), answer(2, 0, label=0.7))
    three: Unit = (answer(2, 0, label=1.0), answer(2, 1, label=0.0), answer(2, 2, label=0.0))
    batch, _ = random_judged([soft, three])
    judged = Judged.of(torch.arange(5.0), Pairs.of(batch), batch)
    assert judged.label.tolist() == pytest.approx([0.7, 1.0, 1.0, 1.0])
    assert (judged.better.tolist(), judged.worse.tolist()) == ([1, 2, 2, 3], [0, 3, 4, 4])


@pytest.mark.parametrize(
    ("link", "message"),
    [
        (Logistic(given=1.0), "'margin'"),
        (Logistic(odds=1.0), "'score', higher"),
        (GapKL(), "'score'"),
        (GapSquare(), "'score'"),
    ],
    ids=["given", "odds", "gap_kl", "gap_square"],
)
def test_what_the_data_lack_is_said_before_the_first_step(link: PairLink, message: str) -> None:
    batch, logprobs = random_judged(
        [(answer(2, 0, score=1.0, margin=0.1), answer(2, 1, score=0.0)), (answer(2, 0), answer(2, 1))]
    )
    with pytest.raises(InputError, match=message):
        run(replace(DPO, link=link), logprobs, batch)


def test_a_gap_of_the_wrong_sign_has_no_logarithm() -> None:
    batch, logprobs = random_judged([(answer(2, 0, score=0.0), answer(2, 1, score=1.0))])
    with pytest.raises(InputError, match="higher for a better rank"):
        run(replace(DPO, link=Logistic(odds=1.0)), logprobs, batch)


def test_constants_outside_their_range_are_refused() -> None:
    for flip in (-0.1, 0.5, 0.7):
        with pytest.raises(InputError, match=r"below 0\.5"):
            Robust(flip)
    for smoothing in (0.0, 1.0):
        with pytest.raises(InputError, match="between 0 and 1"):
            ReverseKL(smoothing)
