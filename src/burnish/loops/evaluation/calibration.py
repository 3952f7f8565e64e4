"""Does a model know when it is right? The confidence of its answers beside how often they are right.

With several replies to an item the confidence is the share of them that give the most frequent answer, and what is right or
wrong is that answer (self-consistency). With one reply it is the geometric mean of the probabilities of its tokens behind the
thoughts, at the sampling temperature: what the model believes of its words, not of what they mean.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from burnish.core import keys
from burnish.core.intervals import interval
from burnish.core.intervals import paired as gap
from burnish.loops.evaluation.measures import Item

BINS = 10
RESAMPLES = 500
MAJORITY, PROBABILITY = "share of the majority", "probability of the answer's tokens"
Floats = NDArray[np.float64]


def calibration(items: Sequence[Item], bins: int = BINS) -> dict[str, Any] | None:
    """The expected calibration error ``sum_b n_b / n |accuracy_b - confidence_b|`` over bins of equal width, and the bins.

    - "error": {mean, low, high, n}. No bin's share of it is off by more than that bin's own error, so the interval is as wide
      as the 95% quantile of the sum of these (bootstrap over items): it covers at least as often as it says. The usual
      bootstrap interval of a sum of absolute values does not.
    - "chance": the mean and the 95% quantile of the error that these confidences would give if they were exactly right. The
      error of a finite sample is never 0: one below the quantile is no sign of anything.
    - "overconfidence": mean confidence less accuracy, {difference, low, high, n}; too much is positive.

    None where nothing has a confidence: conversations of which the log-probs are not kept.
    """
    kind, found = confidences(items)
    if not found:
        return None
    sure, right = (np.array(side) for side in zip(*found, strict=True))
    error = expected_error(sure, right, bins)
    half = reach(sure, right, bins)
    chance = np.array([expected_error(sure, drawn, bins) for drawn in _calibrated(sure)])
    return {
        "confidence": kind,
        "error": {"mean": error, "low": max(0.0, error - half), "high": error + half, "n": len(sure)},
        "chance": {"mean": float(chance.mean()), "high": float(np.quantile(chance, 0.95))},
        "overconfidence": gap(right.tolist(), sure.tolist(), shares=False),
        "bins": _rows(sure, right, bins),
    }


def confidences(items: Sequence[Item]) -> tuple[str, list[tuple[float, float]]]:
    """What the confidence is, and for each item that has one (confidence, share of right answers among the chosen)."""
    if len(items[0].replies) > 1:
        return MAJORITY, [vote for item in items if (vote := majority(item)) is not None]
    sure = [(probability(item), float(item.right[0])) for item in items if item.replies[0].logprobs and item.thinking]
    return PROBABILITY, [(p, right) for p, right in sure if p is not None]


def majority(item: Item) -> tuple[float, float] | None:
    """(the share of all replies that give the most frequent answer, the share of these that are right), ties half each.

    None where no reply gives an answer.
    """
    votes = Counter(said for said in item.said if said is not None)
    if not votes:
        return None
    most = max(votes.values())
    good = [ok for said, ok in zip(item.said, item.right, strict=True) if votes[said] == most]
    return most / len(item.replies), sum(good) / len(good)


def probability(item: Item) -> float | None:
    """``exp(mean log p)`` of the tokens behind the thoughts that the policy chose; None where there are none."""
    reply, first = item.replies[0], item.thinking[0]
    chosen = [lp for lp, own in zip(reply.logprobs[first:], reply.chosen[first:], strict=True) if own]
    return math.exp(math.fsum(chosen) / len(chosen)) if chosen else None


def expected_error(sure: Floats, right: Floats, bins: int) -> float:
    """``sum_b |sum of (right - confidence) in b| / n``: a bin's size cancels."""
    return float(np.abs(_by_bin(sure, right, bins)).sum())


def reach(sure: Floats, right: Floats, bins: int) -> float:
    """The 95% quantile, over resampled items, of how far the bins are off in sum."""
    n, here = len(sure), _by_bin(sure, right, bins)
    drawn = (keys.uniforms(keys.derive("calibration"), RESAMPLES * n) * n).astype(np.int64).reshape(RESAMPLES, n)
    off = [float(np.abs(_by_bin(sure[rows], right[rows], bins) - here).sum()) for rows in drawn]
    return float(np.quantile(off, 0.95))


def _by_bin(sure: Floats, right: Floats, bins: int) -> Floats:
    """[bins] the mean over all items of right - sure in the bin and 0 elsewhere."""
    return np.bincount(_places(sure, bins), right - sure, minlength=bins) / len(sure)


def _places(sure: Floats, bins: int) -> NDArray[np.int64]:
    """The bin of each confidence; an edge belongs to the bin above it, 1 to the last one."""
    return np.minimum((sure * bins).astype(np.int64), bins - 1)


def _calibrated(sure: Floats) -> list[Floats]:
    """What would be right if every confidence were the probability of it."""
    n = len(sure)
    drawn = keys.uniforms(keys.derive("calibrated"), RESAMPLES * n).reshape(RESAMPLES, n)
    return [(row < sure).astype(np.float64) for row in drawn]


def _rows(sure: Floats, right: Floats, bins: int) -> list[dict[str, Any]]:
    places, rows = _places(sure, bins), []
    for number in sorted(set(places.tolist())):
        own = places == number
        rows.append({
            "low": number / bins, "high": (number + 1) / bins, "n": int(own.sum()),
            "confidence": float(sure[own].mean()), "accuracy": interval(right[own].tolist()),
        })  # fmt: skip
    return rows
