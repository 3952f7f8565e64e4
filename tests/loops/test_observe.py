"""What a step reports: by episode, not by row; what broke, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from burnish.core.algorithms import A2C, GRPO, RLOO
from burnish.data.batching import collate
from burnish.engines.local import Engine, LocalModel
from burnish.loops import observe
from burnish.loops.rollouts import Group
from burnish.loops.update import Seen
from burnish.sampling import Repetition
from burnish.types import Batch, Example, Metrics, RewardPart, Rollout, Sampling, means
from rows import cut, groups, padded, rollout
from tiny import three_token_model

PLAIN = Sampling()


def grouped(rows: Sequence[Rollout]) -> list[Group]:
    numbers = sorted({row.group for row in rows})
    own = [tuple(row for row in rows if row.group == number) for number in numbers]
    return [Group(number, Example(()), part, ("",) * len(part)) for number, part in zip(numbers, own, strict=True)]


def described(rows: Sequence[Rollout], sampling: Sampling = PLAIN, **annotations: Sequence[Sequence[float]]) -> Metrics:
    algo = replace(GRPO, kl=None)
    batch = replace(collate(rows), **{name: padded(values) for name, values in annotations.items()})
    return observe.describe(grouped(rows), algo.credit(batch, {}), algo, sampling)


def test_rewards_lengths_and_variance_by_hand() -> None:
    rows = [
        *groups([[1.0, 0.0, 0.5], [0.25, 0.25]], [[2, 4, 1], [3, 3]]),
        rollout(9, 5.0, group=1, episode=9, train=False),
    ]
    rows[1] = replace(rows[1], finish="length", mask=(True, False, False, True))
    rows[0] = replace(rows[0], rewards=(RewardPart(0, 0.75, "format"), RewardPart(1, 0.25, "answer")))
    found = means(described(rows))
    assert found["reward/mean"] == pytest.approx((1 + 0 + 0.5 + 0.25 + 0.25) / 5)
    assert found["reward/format"] == pytest.approx(0.75 / 5) and found["reward/answer"] == pytest.approx(0.25 / 5)
    assert found["length/mean"] == (2 + 2 + 1 + 3 + 3) / 5, "what the environment said is not a length"
    assert found["length/truncated_frac"] == 0.2 and found["groups/zero_variance"] == 0.5
    assert found["tokens/useful_frac"] == pytest.approx((2 + 4 + 0) / (2 + 4 + 1 + 3 + 3 + 9)), "reward .5 is the mean"


def test_what_repeats_itself_is_cut_off_and_counted_where_that_is_looked_for() -> None:
    rows = groups([[1.0, 0.0, 0.5, 0.25]])
    rows[1], rows[2] = replace(rows[1], finish="length"), replace(rows[2], finish="repetition")
    found = means(described(rows, Sampling(repetition=Repetition())))
    assert found["length/truncated_frac"] == 0.5 and found["length/repeated_frac"] == 0.25
    assert "length/repeated_frac" not in described(rows)
    assert collate(rows).extra("truncated").tolist() == [False, True, True, False]


def test_an_episode_in_segments_counts_once() -> None:
    rows = groups([[1.0, 0.0], [0.5, 0.5]], [[3, 4], [3, 2]])
    segments = [part for row in rows for part in cut(row, [1])]
    whole, pieces = means(described(rows)), means(described(segments))
    assert pieces == pytest.approx(whole)


def test_explained_variance_by_hand() -> None:
    rows = groups([[1.0, 0.0, 1.0, 0.0]])

    def explained(values: list[list[float]]) -> float:
        batch = replace(collate(rows), values=padded(values))
        credited = A2C.credit(batch, {})
        return means(observe.describe(grouped(rows), credited, A2C, PLAIN))["value/explained_variance"]

    assert explained([[1.0], [0.0], [1.0], [0.0]]) == pytest.approx(1.0)
    assert explained([[0.3], [0.3], [0.3], [0.3]]) == pytest.approx(0.0)
    assert explained([[0.0], [1.0], [0.0], [1.0]]) == pytest.approx(-3.0)


def test_without_a_critic_there_is_nothing_to_explain() -> None:
    assert not [name for name in described(groups([[1.0, 0.0]])) if name.startswith("value/")]


def test_the_samples_that_broke_are_named(tmp_path: Path) -> None:
    policy = LocalModel(three_token_model(tmp_path / "m"), Engine(dtype="float32", device="cpu"))
    rows = [rollout(2, tokens=(0, 1), group=0, episode=0), rollout(2, tokens=(1, 0), group=4, episode=7)]
    batch: Batch = RLOO.credit(
        replace(collate(rows), old_logprobs=torch.zeros(2, 2), ref_logprobs=torch.zeros(2, 2)), {}
    )
    seen = Seen.nothing(batch)
    assert "backward" in observe.broken(policy, grouped(rows), seen), "rows that were left out are not to blame"
    seen.rows[:] = True
    seen.logprobs[:] = -1.0
    seen.logprobs[1, 1] = torch.nan
    assert observe.broken(policy, grouped(rows), seen) == "group 4, episode 7: 'ba'"
