"""Who wins: planted judges, one that prefers a place, and an interval that covers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from burnish.loops.evaluation.contest import Verdict, contest, judged, outcome
from burnish.loops.evaluation.measures import Item
from burnish.rewards.base import Composable
from burnish.types import Completion, Example, Reward
from burnish.types import outcome as paid


@dataclass(frozen=True)
class Longer(Composable):
    """Prefers the longer reply; ``first`` is what the first place is worth."""

    first: float = 0.0

    def __call__(self, example: Example, completions: Sequence[Completion], /) -> list[Reward]:  # noqa: ARG002
        return [paid(len(c.text) + self.first * (place == 0), "longer") for place, c in enumerate(completions)]


def item(*texts: str) -> Item:
    replies = tuple(Completion((), text, (), "eos") for text in texts)
    return Item(Example(({"role": "user", "content": "?"},)), replies, ({"accuracy": 0.0},) * len(texts), texts)


def test_each_reply_meets_the_other_models_reply_of_its_number() -> None:
    found = contest(Longer(), [item("aaa", "b", "cc")], [item("a", "bb", "cc")])
    assert found == [Verdict(pytest.approx(1 / 3), pytest.approx(1 / 3), pytest.approx(1 / 3), 0.0)]


def test_a_judge_who_prefers_a_place_decides_nothing() -> None:
    found = contest(Longer(first=10), [item("aaa")] * 3, [item("a")] * 3)
    assert found == [Verdict(0.0, 1.0, 0.0, 1.0)] * 3
    assert outcome(found)["win_rate"]["mean"] == 0.5 and outcome(found)["swapped"] == 1.0
    assert contest(Longer(first=1), [item("aaa")], [item("a")])[0].win == 1, (
        "a small preference does not change this one"
    )


def test_the_outcome_counts_prompts() -> None:
    found = outcome([Verdict(1, 0, 0, 0)] * 6 + [Verdict(0, 0, 1, 0)] + [Verdict(0, 1, 0, 0)] * 3)
    assert found["win_rate"]["mean"] == pytest.approx(0.75) and found["win_rate"]["n"] == 10
    assert (found["win"], found["tie"], found["loss"]) == pytest.approx((0.6, 0.3, 0.1))
    assert found["p"] == pytest.approx(2 * (1 + 7) / 2**7), "six of seven, ties left out"


def test_the_win_rate_is_covered_as_often_as_it_says() -> None:
    rng, covered, trials = np.random.default_rng(1), 0, 1000
    for _ in range(trials):
        ends = rng.choice(3, size=60, p=[0.5, 0.2, 0.3])
        low, high = (
            outcome([Verdict(*(float(end == place) for place in range(3)), 0.0) for end in ends])["win_rate"][edge]
            for edge in ("low", "high")
        )
        covered += low <= 0.6 <= high
    assert 0.92 < covered / trials < 0.975


def test_every_reply_is_judged_in_its_group() -> None:
    assert judged(Longer(first=1), [item("aaa", "b"), item("cc", "c")]) == [[4.0, 1.0], [3.0, 1.0]]
