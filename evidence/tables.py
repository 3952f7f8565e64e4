"""Means over seeds, their intervals, and Markdown."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

# Quantile .975 of Student's t with 1, 2, .. degrees of freedom.
T975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110,
    2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def half_width(values: Sequence[float]) -> float:
    """Half of the 95% t-interval of the mean; infinite for a single value, which says nothing about others."""
    n = len(values)
    if n < 2:
        return math.inf
    variance = sum((x - mean(values)) ** 2 for x in values) / (n - 1)
    return (T975[n - 2] if n - 2 < len(T975) else 1.96) * math.sqrt(variance / n)


def interval(values: Sequence[float], digits: int = 3, *, sign: bool = False) -> str:
    """``.812 [.790, .834]``: mean and 95% t-interval. The interval is left out for a single value."""
    middle, half = mean(values), half_width(values)
    text = number(middle, digits, sign=sign)
    if math.isinf(half):
        return text
    return f"{text} [{number(middle - half, digits, sign=sign)}, {number(middle + half, digits, sign=sign)}]"


def number(value: float, digits: int = 3, *, sign: bool = False) -> str:
    """Without the zero before the point, as in the other tables."""
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if text.lstrip("+-").startswith("0.") else text


def verdict(differences: Sequence[float], expected: int) -> str:
    """An expected sign (0: none that can be seen) against the 95% t-interval of paired differences."""
    middle, half = mean(differences), half_width(differences)
    if math.isinf(half):
        return "one seed"
    seen = 0 if abs(middle) <= half else int(math.copysign(1, middle))
    if seen == expected:
        return "as expected"
    return "undecided" if seen == 0 else "contrary" if expected else "a difference"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def paragraph(text: str) -> str:
    """The words of a text in lines of up to 118 characters."""
    return "\n".join(textwrap.wrap(" ".join(text.split()), 118, break_long_words=False, break_on_hyphens=False))
