"""Intervals solve the equations that define them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from burnish.core.intervals import correlation, wilson


def test_wilson_interval_solves_its_own_equation() -> None:
    for successes, n in ((0, 10), (3, 10), (168, 200), (10, 10)):
        low, high = wilson(successes, n)
        share = successes / n
        assert -1e-12 < low <= share + 1e-12 and share - 1e-12 <= high < 1 + 1e-12
        for edge in (edge for edge in (low, high) if 1e-9 < edge < 1 - 1e-9):
            assert abs(share - edge) == pytest.approx(1.959963984540054 * math.sqrt(edge * (1 - edge) / n))
    assert wilson(0, 0) == (0.0, 1.0)


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
