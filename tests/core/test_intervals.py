"""Intervals solve the equations that define them."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from burnish.core.intervals import change, correlation, estimate, interval, paired, ratio, sign_test, wilson


def test_wilson_interval_solves_its_own_equation() -> None:
    for successes, n in ((0, 10), (3, 10), (168, 200), (10, 10)):
        low, high = wilson(successes, n)
        share = successes / n
        assert -1e-12 < low <= share + 1e-12 and share - 1e-12 <= high < 1 + 1e-12
        for edge in (edge for edge in (low, high) if 1e-9 < edge < 1 - 1e-9):
            assert abs(share - edge) == pytest.approx(1.959963984540054 * math.sqrt(edge * (1 - edge) / n))
    assert wilson(0, 0) == (0.0, 1.0)


def test_a_ratio_of_equal_sizes_is_a_mean_with_its_usual_interval() -> None:
    values = np.random.default_rng(1).normal(size=20)
    mean, low, high = ratio(list(4 * values), [4.0] * 20)
    assert mean == pytest.approx(values.mean(), abs=1e-12)
    half = 1.959963984540054 * values.std(ddof=1) / math.sqrt(20)
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=1e-12)


def test_the_interval_of_a_ratio_covers_it_as_often_as_it_says() -> None:
    """Rows of many and of few tokens, the long ones with another share: tokens taken for independent would cover far less."""
    rng, covered = np.random.default_rng(2), 0
    every = np.arange(1, 40)
    share = float((every * (1 + every / 20) / (4 + every / 20)).sum() / every.sum())
    for _ in range(1000):
        sizes = rng.integers(1, 40, size=60)
        sums = rng.binomial(sizes, rng.beta(1 + sizes / 20, 3))
        _, low, high = ratio(list(map(float, sums)), list(map(float, sizes)))
        covered += low <= share <= high
    assert 0.92 < covered / 1000 < 0.97


def test_an_estimate_is_wilsons_for_items_that_are_0_or_1_and_a_ratio_for_all_others() -> None:
    assert interval([1, 0, 1, 1]) == {"mean": 0.75, "low": wilson(3, 4)[0], "high": wilson(3, 4)[1], "n": 4}
    found = estimate([(6.0, 2.0), (1.0, 1.0), (0.0, 0.0), (9.0, 3.0)])
    assert (found["mean"], found["low"], found["high"]) == ratio([6.0, 1.0, 9.0], [2.0, 1.0, 3.0])
    assert found["n"] == 3, "an item without any is none"


def test_a_paired_difference_is_narrower_than_an_unpaired_one_where_items_agree() -> None:
    found = paired([0, 0, 1, 1], [0, 1, 1, 1])
    assert found["difference"] == pytest.approx(0.25) and found["p"] == 1.0
    assert found["high"] - found["difference"] == pytest.approx(1.959963984540054 * 0.5 / 2)


def test_where_no_item_changes_the_interval_is_that_of_the_items_that_would() -> None:
    limit = wilson(0, 30)[1]
    same = paired([0, 1, 0] * 10, [0, 1, 0] * 10)
    assert (same["low"], same["high"], same["p"]) == (-limit, limit, 1.0)
    lost = paired([1] * 30, [0] * 30)
    assert (lost["low"], lost["high"]) == (-1.0, -1.0 + limit) and lost["p"] == pytest.approx(2 / 2**30)
    numbers = paired([0, 1, 0], [0, 1, 0], shares=False)
    assert (numbers["low"], numbers["high"]) == (0, 0) and "p" not in numbers


def test_a_change_of_ratios_is_the_derivative_of_their_difference() -> None:
    """The jackknife of the same statistic, which knows nothing of the formula, gives nearly the same width."""
    rng = np.random.default_rng(5)
    sizes = rng.integers(1, 9, size=(2, 200)).astype(float)
    shared = rng.normal(size=200)
    sums = sizes * (shared + rng.normal(size=(2, 200)) / 3 + [[0.0], [0.2]])
    before, after = (list(zip(sums[i], sizes[i], strict=True)) for i in (0, 1))
    found = change(before, after)

    def statistic(keep: np.ndarray) -> float:
        rates = sums[:, keep].sum(1) / sizes[:, keep].sum(1)
        return float(rates[1] - rates[0])

    assert found["difference"] == pytest.approx(statistic(np.arange(200)), abs=1e-12)
    left = np.array([statistic(np.delete(np.arange(200), i)) for i in range(200)])
    half = 1.959963984540054 * math.sqrt(199 / 200 * ((left - left.mean()) ** 2).sum())
    assert found["high"] - found["difference"] == pytest.approx(half, rel=0.03)
    unpaired = estimate(before)["high"] - estimate(before)["mean"]
    assert half < unpaired, "what items have in common cancels"


@pytest.mark.parametrize("correlated", [0.0, 0.8])
def test_the_interval_of_a_change_covers_it_as_often_as_it_says(correlated: float) -> None:
    rng, covered, trials, n = np.random.default_rng(3), 0, 1000, 80
    for _ in range(trials):
        before = rng.random(n) < 0.4
        after = np.where(rng.random(n) < correlated, before, rng.random(n) < 0.6)
        found = paired([float(x) for x in before], [float(x) for x in after])
        covered += found["low"] <= (1 - correlated) * 0.2 <= found["high"]
    assert 0.925 < covered / trials < 0.975


def test_the_interval_of_a_change_of_lengths_covers_it_too() -> None:
    """Lengths of right replies only: of each item another number counts, before and after."""
    rng, covered, trials, n = np.random.default_rng(4), 0, 1000, 80
    for _ in range(trials):
        hard = rng.random(n)
        before, after = (
            [(float(k * (10 + 5 * x + shift + rng.normal())), float(k)) for k, x in zip(right, hard, strict=True)]
            for shift, right in ((0.0, rng.binomial(4, 1 - hard)), (2.0, rng.binomial(4, 1 - hard / 2)))
        )
        found = change(before, after)
        # E k x / E k over x uniform: (1/2 - 1/3)/(1/2) before, (1/2 - 1/6)/(3/4) after
        true = 2 + 5 * ((1 / 3) / (3 / 4) - (1 / 6) / (1 / 2))
        covered += found["low"] <= true <= found["high"]
    assert 0.925 < covered / trials < 0.975


def test_the_sign_test_counts_every_outcome() -> None:
    for wins, losses in ((0, 0), (1, 0), (5, 1), (3, 3), (0, 9)):
        n = wins + losses
        every = [sum(signs) for signs in product((0, 1), repeat=n)]
        extreme = sum(min(k, n - k) <= min(wins, losses) for k in every)
        assert sign_test(wins, losses) == pytest.approx(extreme / 2**n)
    rng = np.random.default_rng(6)
    small = sum(sign_test(k, 40 - k) <= 0.05 for k in rng.binomial(40, 0.5, size=2000))
    assert small / 2000 < 0.06, "it cries wolf no more often than it says"


def test_the_correlation_is_pearsons_with_fishers_interval() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=50)
    y = 0.5 * x + rng.normal(size=50)
    found = correlation(list(x), list(y), 40)
    assert found is not None
    r, low, high = found
    assert r == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-12)
    for edge in (low, high):
        assert abs(np.arctanh(edge) - np.arctanh(r)) == pytest.approx(1.959963984540054 / math.sqrt(37), abs=1e-12)
    assert low < r < high


def test_a_correlation_that_is_not_defined_is_none() -> None:
    assert correlation([1, 2, 3, 4], [1, 2, 4, 3], 3) is None, "three points have no interval"
    assert correlation([1, 1, 1, 1], [1, 2, 3, 4], 4) is None
    assert correlation([1, 2, 3, 4], [2, 2, 2, 2], 4) is None
    assert correlation([1, 2, 3, 4], [4, 3, 2, 1], 4) == pytest.approx((-1, -1, -1))
