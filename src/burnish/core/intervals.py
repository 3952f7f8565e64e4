"""95% intervals of a proportion, of a mean, of a ratio, of a change on the same items, and of a correlation."""

from __future__ import annotations

import math
from collections.abc import Sequence

Z95 = 1.959963984540054
Series = Sequence[tuple[float, float]]
"""For each item a sum and what it is a sum over: (right replies, replies), (tokens of wrong replies, wrong replies). An item
without any has the size 0."""


def wilson(successes: float, n: int) -> tuple[float, float]:
    """The 95% Wilson score interval of a proportion."""
    if n == 0:
        return 0.0, 1.0
    share, z2 = successes / n, Z95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def ratio(sums: Sequence[float], sizes: Sequence[float]) -> tuple[float, float, float]:
    """``R = sum s / sum n`` and its 95% interval where the entries, not what they are sums of, are independent.

    ``Var R = k / (k - 1) sum (s_i - R n_i)^2 / (sum n)^2`` over k entries: the ratio estimator of survey sampling, so that
    an entry of many tokens weighs more, and tokens of one entry may be alike. One entry says nothing about its spread:
    the interval then has no width. The sizes must not add up to 0.
    """
    count, total = len(sizes), math.fsum(sizes)
    found = math.fsum(sums) / total
    spread = math.fsum((s - found * n) ** 2 for s, n in zip(sums, sizes, strict=True)) * count / max(1, count - 1)
    half = Z95 * math.sqrt(spread) / total
    return found, found - half, found + half


def interval(per_item: Sequence[float]) -> dict[str, float]:
    """{mean, low, high, n}: Wilson's 95% interval where every item is 0 or 1, else the normal approximation's."""
    return estimate([(value, 1.0) for value in per_item])


def estimate(series: Series) -> dict[str, float]:
    """{mean, low, high, n} of ``sum s / sum n`` over the items with any: the ratio estimator's interval, and Wilson's where
    all have the size 1 and are 0 or 1. At least one item has to have a size.
    """
    found = [(s, n) for s, n in series if n]
    if _binary(found):
        low, high = wilson(sum(s for s, _ in found), len(found))
        return {"mean": sum(s for s, _ in found) / len(found), "low": low, "high": high, "n": len(found)}
    mean, low, high = ratio(*zip(*found, strict=True))
    return {"mean": mean, "low": low, "high": high, "n": len(found)}


def paired(before: Sequence[float], after: Sequence[float], *, shares: bool = True) -> dict[str, float]:
    """The change of the mean on the same items: see :func:`change`."""
    return change([(value, 1.0) for value in before], [(value, 1.0) for value in after], shares=shares)


def change(before: Series, after: Series, *, shares: bool = True) -> dict[str, float]:
    """{difference, low, high, n}: ``sum s'/sum n' - sum s/sum n`` on the same items, with a 95% interval of the difference.

    An item adds ``(s' - R' n') / N' - (s - R n) / N`` to the spread, so what it has in common before and after cancels
    (normal approximation; of means it is that of the differences). Where every item is 0 or 1 there is also ``p``, of
    McNemar's exact test; and if all items change alike, the interval is as wide as Wilson's limit for those that would not:
    none of n need not mean none at all. ``shares`` False says that the numbers only happen to be 0 and 1. Both sides need an
    item with a size.
    """
    kept = [pair for pair in zip(before, after, strict=True) if pair[0][1] or pair[1][1]]
    (was, errors), (now, others) = (_errors([pair[side] for pair in kept]) for side in (0, 1))
    n, difference = len(kept), now - was
    spread = math.fsum((a - b) ** 2 for b, a in zip(errors, others, strict=True)) * n / max(1, n - 1)
    half = Z95 * math.sqrt(spread)
    if not (shares and all(_binary(pair) for pair in kept)):
        return {"difference": difference, "low": difference - half, "high": difference + half, "n": n}
    steps = [a[0] - b[0] for b, a in kept]
    if len(set(steps)) == 1:
        half = wilson(0, n)[1]
    low, high = max(-1.0, difference - half), min(1.0, difference + half)
    p = sign_test(steps.count(1), steps.count(-1))
    return {"difference": difference, "low": low, "high": high, "n": n, "p": p}


def _errors(series: Series) -> tuple[float, list[float]]:
    """The ratio, and what each item adds to the error of its estimate."""
    total = math.fsum(n for _, n in series)
    found = math.fsum(s for s, _ in series) / total
    return found, [(s - found * n) / total for s, n in series]


def sign_test(wins: int, losses: int) -> float:
    """The two-sided p of so many wins and losses if both were equally likely, ties left out: exact, binomial.

    Of items that were right before and wrong after, and the other way round, it is McNemar's exact test.
    """
    n = wins + losses
    tail = sum(math.comb(n, k) for k in range(min(wins, losses) + 1))
    return min(1.0, 2 * tail / (1 << n))


def _binary(series: Series) -> bool:
    return all(n == 1 and s in (0, 1) for s, n in series)


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
