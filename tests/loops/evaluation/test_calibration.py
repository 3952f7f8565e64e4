"""Confidence beside correctness: planted truths, brute force, and intervals that cover."""

from __future__ import annotations

import math

import numpy as np
import pytest

from burnish.loops.evaluation.calibration import (
    BINS,
    MAJORITY,
    PROBABILITY,
    calibration,
    confidences,
    expected_error,
    reach,
)
from burnish.loops.evaluation.measures import Item
from burnish.types import Completion, Example


def item(
    said: list[str | None],
    right: list[bool],
    logprobs: tuple[float, ...] = (),
    thinking: int = 0,
    mask: tuple[bool, ...] = (),
) -> Item:
    one = Completion((0,) * len(logprobs), "", (), "eos", logprobs, mask=mask)
    scores = tuple({"accuracy": float(ok)} for ok in right)
    return Item(Example((), "a"), (one,) * len(said), scores, tuple(said), (thinking,) * len(said))


def test_the_majority_is_sure_by_its_share() -> None:
    items = [
        item(["a", "a", "b", None], [True, True, False, False]),
        item(["a", "b", None, None], [True, False, False, False]),
        item([None] * 4, [False] * 4),
    ]
    assert confidences(items) == (MAJORITY, [(0.5, 1.0), (0.25, 0.5)]), "a tie is half right; who says nothing has none"


def test_a_single_reply_is_as_sure_as_its_tokens_behind_the_thoughts() -> None:
    logs = tuple(map(math.log, (0.1, 0.1, 0.5, 0.2)))
    kind, [(sure, right)] = confidences([item(["a"], [True], logs, thinking=2)])
    assert kind == PROBABILITY and sure == pytest.approx(math.sqrt(0.5 * 0.2)) and right == 1
    [(forced, _)] = confidences([item(["a"], [True], logs, thinking=2, mask=(True, True, False, True))])[1]
    assert forced == pytest.approx(0.2), "a token that was forced is no sign of confidence"
    assert calibration([item(["a"], [True])]) is None, "nothing is known of it"


def test_the_error_is_that_of_the_bins_by_hand() -> None:
    sure, right = [0.05, 0.07, 0.55, 0.55, 1.0], [0, 1, 1, 0, 1]
    by_hand = (2 * abs(0.5 - 0.06) + 2 * abs(0.5 - 0.55) + 1 * 0) / 5
    assert expected_error(np.array(sure), np.array(right, float), BINS) == pytest.approx(by_hand)


def test_a_report_has_bins_with_intervals_and_says_what_chance_gives() -> None:
    votes: list[str | None] = ["a"] * 9 + ["b"]
    items = [item(votes, [i % 10 < 6] * 9 + [False]) for i in range(100)]
    found = calibration(items)
    assert found is not None
    assert found["error"]["mean"] == pytest.approx(0.3) and found["error"]["low"] > found["chance"]["high"]
    assert found["overconfidence"]["difference"] == pytest.approx(0.3) and found["overconfidence"]["low"] > 0
    [row] = found["bins"]
    assert (row["low"], row["high"], row["n"]) == (0.9, 1.0, 100) and row["accuracy"]["mean"] == pytest.approx(0.6)


@pytest.mark.parametrize("shift", [0.0, 0.05, 0.15])
def test_the_interval_covers_the_planted_error(shift: float) -> None:
    rng, covered, trials = np.random.default_rng(0), 0, 60
    for _ in range(trials):
        sure = rng.choice([0.55, 0.65, 0.75, 0.85, 0.95], 200)
        right = (rng.random(200) < sure - shift).astype(float)
        covered += abs(expected_error(sure, right, BINS) - shift) <= reach(sure, right, BINS)
    assert covered / trials >= 0.9
