"""95% intervals of a proportion and of a correlation."""

from __future__ import annotations

import math
from collections.abc import Sequence

Z95 = 1.959963984540054


def wilson(successes: float, n: int) -> tuple[float, float]:
    """The 95% Wilson score interval of a proportion."""
    if n == 0:
        return 0.0, 1.0
    share, z2 = successes / n, Z95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def correlation(x: Sequence[float], y: Sequence[float], independent: int) -> tuple[float, float, float] | None:
    """Pearson's r and its 95% interval ``tanh(atanh r +- z / sqrt(independent - 3))`` (Fisher).

    ``independent`` is how many of the points are independent of each other: of the answers to one prompt, one. None where
    fewer than 4 are, or one side is constant.
    """
    n = len(x)
    if independent < 4 or min(x) == max(x) or min(y) == max(y):
        return None
    dx, dy = ([value - math.fsum(side) / n for value in side] for side in (x, y))
    covariance = math.fsum(a * b for a, b in zip(dx, dy, strict=True))
    r = covariance / math.sqrt(math.fsum(a * a for a in dx) * math.fsum(b * b for b in dy))
    if abs(r) >= 1:
        return math.copysign(1.0, r), math.copysign(1.0, r), math.copysign(1.0, r)
    half = Z95 / math.sqrt(independent - 3)
    return r, math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)
