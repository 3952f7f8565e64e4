"""Estimates over subsets, held against all subsets; the KL of best-of-n against distributions that are enumerated."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import combinations, product

import numpy as np
import pytest

from burnish.core import keys
from burnish.core.estimates import best_of_n, best_of_n_kl, cons_at_k, pass_at_k


def test_pass_at_k_is_the_share_of_k_subsets_with_a_right_answer() -> None:
    for samples, correct, k in ((5, 2, 1), (5, 2, 3), (6, 0, 2), (4, 4, 2), (6, 5, 3)):
        right = [i < correct for i in range(samples)]
        subsets = list(combinations(right, k))
        assert pass_at_k(samples, correct, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


# --- majority of k -------------------------------------------------------------------------------


def majority_is_right(answers: Sequence[str | None], right: Sequence[bool]) -> float:
    """Of one subset: the chance that the answer with the most votes is right, ties broken by lot."""
    votes = Counter(answer for answer in answers if answer is not None)
    winners = [a for a in votes if votes[a] == max(votes.values())]
    shares = [[ok for a, ok in zip(answers, right, strict=True) if a == winner] for winner in winners]
    return sum(sum(share) / len(share) for share in shares) / len(winners) if winners else 0.0


@pytest.mark.parametrize(
    ("answers", "wanted"),
    [
        ("aab", "a"),
        ("aabbc", "b"),
        ("abcdef", "c"),
        ("aaabbb-", "a"),
        ("a--bb-c", "b"),
        ("----", "a"),
        ("aaaabbcc", "c"),
        ("abab", "x"),
    ],
)
def test_cons_at_k_is_the_mean_over_all_subsets(answers: str, wanted: str) -> None:
    given = [None if letter == "-" else letter for letter in answers]
    right = [letter == wanted for letter in given]
    for k in range(1, len(given) + 1):
        subsets = list(combinations(range(len(given)), k))
        mean = sum(majority_is_right([given[i] for i in s], [right[i] for i in s]) for s in subsets) / len(subsets)
        assert cons_at_k(given, right, k) == pytest.approx(mean, abs=1e-12)


def test_what_a_majority_gains() -> None:
    """An answer with most of the votes gains from more votes, and one with fewer loses; one sample is accuracy."""
    answers = ["r"] * 20 + ["w"] * 8 + ["v"] * 4
    right = [answer == "r" for answer in answers]
    curve = [cons_at_k(answers, right, k) for k in (1, 3, 9, 32)]
    assert curve[0] == pytest.approx(20 / 32) and curve == sorted(curve) and curve[-1] == 1
    assert cons_at_k(answers, [answer == "w" for answer in answers], 9) < 8 / 32


def test_many_answers_are_counted_in_time() -> None:
    """64 samples with as many answers: counting subsets one by one would never end."""
    assert cons_at_k(range(64), [True] * 16 + [False] * 48, 32) == pytest.approx(1 / 4)


# --- best of n -----------------------------------------------------------------------------------


def best_of_each(gold: Sequence[float], proxy: Sequence[float], n: int) -> float:
    """The mean over all subsets, ties broken by lot."""
    subsets = list(combinations(range(len(gold)), n))
    tied = [[i for i in s if proxy[i] == max(proxy[j] for j in s)] for s in subsets]
    return sum(sum(gold[i] for i in best) / len(best) for best in tied) / len(subsets)


@pytest.mark.parametrize("proxy", [(3, 1, 4, 1.5, 9, 2.6), (1, 1, 2, 2, 2, 0), (0, 0, 0, 0, 0, 0), (5, 5, 5, 1, 1, 9)])
def test_best_of_n_is_the_mean_over_all_subsets(proxy: tuple[float, ...]) -> None:
    gold = (0.5, -1.0, 2.0, 7.0, 0.25, 3.0)
    for n in range(1, 7):
        assert best_of_n(gold, proxy, n) == pytest.approx(best_of_each(gold, proxy, n))
    if len(set(proxy)) == 6:
        ranked = [g for _, g in sorted(zip(proxy, gold, strict=True))]
        formula = sum(math.comb(i, 2) / math.comb(6, 3) * g for i, g in enumerate(ranked))
        assert best_of_n(gold, proxy, 3) == pytest.approx(formula), "the published form, where nothing is tied"


def law_of_best(probabilities: Sequence[float], scores: Sequence[float], n: int) -> list[float]:
    """The distribution of the best of n draws, ties by lot: every draw of n, one by one."""
    law = [0.0] * len(scores)
    for drawn in product(range(len(scores)), repeat=n):
        best = [i for i in drawn if scores[i] == max(scores[j] for j in drawn)]
        for i in best:
            law[i] += math.prod(probabilities[j] for j in drawn) / len(best)
    return law


def divergence(p: Sequence[float], q: Sequence[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


@pytest.mark.parametrize("scores", [(1, 2, 3, 4), (1, 1, 2, 2), (0, 0, 0, 1), (1, 1, 1, 1)])
def test_the_kl_of_best_of_n_is_at_most_the_formula(scores: tuple[float, ...]) -> None:
    probabilities = (0.4, 0.3, 0.2, 0.1)
    assert best_of_n_kl(1) == 0
    for n in (2, 3, 5):
        exact = divergence(law_of_best(probabilities, scores, n), probabilities)
        assert -1e-12 <= exact <= best_of_n_kl(n) + 1e-12


@pytest.mark.parametrize("n", [2, 4, 16, 64])
def test_the_kl_of_best_of_n_is_the_formula_for_continuous_scores(n: int) -> None:
    """200 000 outcomes as likely as each other: the best of n is the one at rank i with (i^n - (i-1)^n) / N^n."""
    edges = (np.arange(200_001) / 200_000) ** n
    law = np.diff(edges)
    exact = float((law * np.log(np.maximum(law * 200_000, 1e-300))).sum())
    assert exact == pytest.approx(best_of_n_kl(n), rel=1e-3)


def test_the_estimate_does_not_depend_on_how_many_samples_it_is_made_from() -> None:
    """On average over draws of N: the exact mean of the best of three, whether N is 3 or 12."""
    chances, golds, scores = (0.5, 0.3, 0.2), (1.0, 0.0, 2.0), (1.0, 2.0, 3.0)
    exact = sum(p * g for p, g in zip(law_of_best(chances, scores, 3), golds, strict=True))
    edges = np.cumsum(chances)
    for total in (3, 12):
        drawn = np.searchsorted(edges, keys.uniforms(keys.derive("best", total), 4000 * total)).reshape(4000, total)
        found = [best_of_n([golds[i] for i in row], [scores[i] for i in row], 3) for row in drawn.tolist()]
        assert np.mean(found) == pytest.approx(exact, abs=4 * np.std(found) / math.sqrt(len(found)))


@pytest.mark.parametrize("k", [0, 4])
def test_no_more_than_there_are(k: int) -> None:
    with pytest.raises(ValueError, match="of 3 samples: give a number from 1"):
        cons_at_k("abc", [True] * 3, k)
    with pytest.raises(ValueError, match="of 3 samples: give a number from 1"):
        best_of_n((1, 2, 3), (1, 2, 3), k)


# --- over-optimisation ---------------------------------------------------------------------------


def test_gold_rises_and_falls_along_the_square_root_of_the_exact_kl() -> None:
    """arXiv:2210.10760: with d = sqrt(KL), gold is ``d (alpha - beta d)`` while the proxy keeps rising.

    The planted trade-off: gold pays for the quality that the proxy sees and loses with the square of how far its score is
    pushed beyond what people write, as an exploit does.
    """
    luck = keys.uniforms(keys.derive("gao"), 40_000).reshape(2, -1)
    quality = np.sqrt(-2 * np.log1p(-luck[0])) * np.cos(2 * np.pi * luck[1])
    proxy = quality.tolist()
    gold = (1.5 * quality - 0.35 * (quality**2 - 1)).tolist()
    ns = [2**i for i in range(12)]
    d = np.sqrt([best_of_n_kl(n) for n in ns])
    curve = np.array([best_of_n(gold, proxy, n) for n in ns]) - best_of_n(gold, proxy, 1)
    seen = np.array([best_of_n(proxy, proxy, n) for n in ns])
    assert (np.diff(seen) > 0).all(), "the proxy only rises"
    peak = int(curve.argmax())
    assert 0 < peak < len(ns) - 1 and (np.diff(curve[: peak + 1]) > 0).all() and (np.diff(curve[peak:]) < 0).all()
    (alpha, minus_beta), *_ = np.linalg.lstsq(np.stack([d, d**2], 1), curve, rcond=None)
    left = curve - d * (alpha + minus_beta * d)
    assert alpha > 0 > minus_beta and 1 - left.var() / curve.var() > 0.9
    assert alpha / (-2 * minus_beta) == pytest.approx(d[peak], abs=d[peak] - d[peak - 1])
