"""Single labelled answers: KTO and BCO as their papers write them, with baselines of the whole mini-batch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from burnish.core.pointwise import Classify, Prospect
from burnish.core.preference import BCO, KTO, WPO, Preference
from burnish.core.scores import LogRatio
from burnish.data.units import Unit
from burnish.errors import InputError
from burnish.types import Batch, means
from judged import answer, prepared, random_judged, run

OTHER = {"mismatched": True}
UNPAIRED: list[Unit] = [
    (answer(3, label=1.0), answer(2, **OTHER)),
    (answer(2, label=0.0), answer(3, **OTHER)),
    (answer(4, label=1.0), answer(1, **OTHER)),
    (answer(3, label=0.3), answer(2, **OTHER)),
]
PAIRED: list[Unit] = [
    (answer(3, 0), answer(2, 1), answer(2, **OTHER)),
    (answer(1, 1), answer(4, 0), answer(3, **OTHER)),
]
DATA = pytest.mark.parametrize("units", [UNPAIRED, PAIRED, UNPAIRED + PAIRED], ids=["unpaired", "paired", "both"])


def split(batch: Batch, logprobs: Tensor, beta: float) -> tuple[Tensor, list[tuple[Tensor, float]]]:
    """beta log pi/ref of every row, and (score, goodness) of the rows that count."""
    assert batch.ref_logprobs is not None and batch.ranks is not None
    scores = beta * torch.where(batch.mask, logprobs - batch.ref_logprobs, 0.0).sum(1)
    given = batch.targets.get("label", torch.full((len(batch),), torch.nan))
    good = [float(given[i]) if batch.ranks[i] < 0 else float(batch.ranks[i] == 0) for i in range(len(batch))]
    return scores, [(scores[i], good[i]) for i in range(len(batch)) if batch.train[i]]


@DATA
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_kto_is_the_papers(units: list[Unit], seed: int) -> None:
    batch, logprobs = random_judged(units, seed)
    scores, known = split(batch, logprobs, 0.1)
    z = scores[~batch.train].detach().mean().clamp(min=0)
    terms = [y * 1.2 * (1 - torch.sigmoid(s - z)) + (1 - y) * 0.7 * (1 - torch.sigmoid(z - s)) for s, y in known]
    want = torch.stack(terms).mean()
    value, gradient, metrics = run(replace(KTO, link=Prospect(1.2, 0.7)), logprobs, batch)
    torch.testing.assert_close(value, want.detach(), rtol=1e-10, atol=0)
    torch.testing.assert_close(gradient, torch.autograd.grad(want, logprobs)[0].nan_to_num(0.0), rtol=1e-10, atol=1e-14)
    assert means(metrics)["reward/baseline"] == pytest.approx(float(z), abs=1e-15)


@DATA
@pytest.mark.parametrize("seed", [0, 1])
def test_bco_is_the_papers_with_the_mean_of_the_batch(units: list[Unit], seed: int) -> None:
    batch, logprobs = random_judged(units, seed)
    _, known = split(batch, logprobs, 0.01)
    good = sum(y * s.detach() for s, y in known) / sum(y for _, y in known)
    bad = sum((1 - y) * s.detach() for s, y in known) / sum(1 - y for _, y in known)
    d = (good + bad) / 2
    want = torch.stack(
        [-y * torch.log(torch.sigmoid(s - d)) - (1 - y) * torch.log(torch.sigmoid(d - s)) for s, y in known]
    )
    value, gradient, _ = run(BCO, logprobs, batch)
    torch.testing.assert_close(value, want.mean().detach(), rtol=1e-10, atol=0)
    slope = torch.autograd.grad(want.mean(), logprobs)[0].nan_to_num(0.0)
    torch.testing.assert_close(gradient, slope, rtol=1e-10, atol=1e-14)


def test_the_kl_of_kto_is_never_below_zero_and_carries_no_gradient() -> None:
    batch, logprobs = random_judged(UNPAIRED)
    assert batch.ref_logprobs is not None
    for shift, clamped in ((5.0, True), (-5.0, False)):
        moved = replace(batch, ref_logprobs=batch.ref_logprobs + shift * ~batch.train[:, None])
        z = prepared(KTO, logprobs, moved).extra("baseline")
        assert bool((z == 0).all()) is clamped and len(set(z.tolist())) == 1 and float(z[0]) >= 0
        assert bool((run(KTO, logprobs, moved)[1][~batch.train] == 0).all())


def test_bco_of_one_kind_shifts_by_its_mean() -> None:
    batch, logprobs = random_judged([UNPAIRED[0], UNPAIRED[2]])
    scores, _ = split(batch, logprobs, 0.01)
    d = prepared(BCO, logprobs, batch).extra("baseline")
    torch.testing.assert_close(d, scores[batch.train].mean().detach().expand(len(batch)))


def test_a_labelled_row_that_is_not_trained_does_not_count() -> None:
    batch, logprobs = random_judged(UNPAIRED)
    aside = replace(batch, train=batch.train & (batch.units != 1))
    value, gradient, _ = run(BCO, logprobs, aside)
    kept = [0, 1, 4, 5, 6, 7]
    want, _, _ = run(BCO, logprobs.detach()[kept].requires_grad_(), batch.select(kept))
    torch.testing.assert_close(value, want)
    assert bool((gradient[2] == 0).all())


def test_a_batch_without_labels_is_turned_away() -> None:
    batch, logprobs = random_judged([(answer(2), answer(2, **OTHER)), (answer(3), answer(2, **OTHER))])
    for loss in (KTO, BCO):
        with pytest.raises(InputError, match="no answer has one"):
            run(loss, logprobs, batch)


def test_metrics_know_good_from_bad_without_pairs() -> None:
    batch, logprobs = random_judged(UNPAIRED)
    scores, _ = split(batch, logprobs, 0.1)
    found = means(run(KTO, logprobs, batch)[2])
    assert found["reward/chosen"] == pytest.approx(float((scores[0] + scores[4]).detach()) / 2)
    assert found["reward/rejected"] == pytest.approx(float((scores[2] + scores[6]).detach()) / 2)
    assert "reward/margin" not in found and "reward/accuracy" not in found  # there are no pairs
    assert "reward/margin" in means(run(KTO, *random_judged(PAIRED)[::-1])[2])


def test_imitation_and_trust_go_with_labels_too() -> None:
    batch, logprobs = random_judged(UNPAIRED)
    plain, _, _ = run(BCO, logprobs, batch)
    value, _, _ = run(replace(BCO, nll=1.0), logprobs, batch)
    good = torch.cat([logprobs[i][batch.mask[i]] for i in (0, 4)])
    torch.testing.assert_close(value - plain, -good.mean().detach())
    weighted, _, _ = run(Preference(LogRatio(0.01), Classify(), trust=WPO.trust), logprobs, batch)
    _, known = split(batch, logprobs, 0.01)
    d = prepared(BCO, logprobs, batch).extra("baseline")[0]
    w = [logprobs[i][batch.mask[i]].mean().exp() for i in (0, 2, 4, 6)]
    terms = [-y * torch.log(torch.sigmoid(s - d)) - (1 - y) * torch.log(torch.sigmoid(d - s)) for s, y in known]
    torch.testing.assert_close(weighted, torch.stack([a * b for a, b in zip(w, terms, strict=True)]).mean().detach())
