"""Intervals solve the equations that define them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from burnish.core.intervals import correlation, ratio, wilson


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
