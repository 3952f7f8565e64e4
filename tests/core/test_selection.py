"""Which groups stay, by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from burnish.core.advantages import GroupMean
from burnish.core.algorithms import DAPO
from burnish.core.selection import Band, MixedGroups, Selection
from rows import batch_of, groups


@pytest.mark.parametrize(
    ("rewards", "kept"),
    [
        ([0, 0, 0], False),
        ([1, 1, 1], False),
        ([0, 1, 1], True),
        ([-1, 1], True),
        ([0.3], False),
        ([0.1 + 0.2, 0.3], False),
        ([1e-6, 0], True),
        ([1e9, 1e9 + 1], True),
        ([-2.0, -2.0], False),
    ],
)
def test_groups_with_equal_rewards_are_drawn_anew(rewards: Sequence[float], kept: bool) -> None:
    """Equal up to rounding; and it is the groups that would teach nothing that are left out."""
    assert MixedGroups().keeps(rewards) is kept
    batch = batch_of(groups([rewards]))
    assert batch.token_rewards is not None
    assert bool(GroupMean()(batch, batch.token_rewards, {}).any()) is kept


@pytest.mark.parametrize(
    ("rewards", "kept"),
    [
        ([0, 0, 0, 0], False),
        ([0, 0, 0, 1], True),
        ([0, 1, 1, 1], True),
        ([1, 1, 1, 1], False),
        ([0.2], True),
        ([0.8], True),
    ],
)
def test_a_band_has_both_its_ends(rewards: Sequence[float], kept: bool) -> None:
    assert Band(0.2, 0.8).keeps(rewards) is kept


def test_a_band_looks_at_the_mean_only() -> None:
    assert Band(0.5, 0.5).keeps([0, 1]) and Band(0.5, 0.5).keeps([0.5, 0.5]) and not Band(0.5, 0.5).keeps([0, 0, 1])


@pytest.mark.parametrize("build", [MixedGroups, Band], ids=["mixed", "band"])
def test_a_cap_below_one_step_is_refused(build: Callable[..., Selection]) -> None:
    assert build(cap=1).cap == 1
    with pytest.raises(ValueError, match=r"cap=0\.5"):
        build(cap=0.5)


def test_an_empty_band_is_refused() -> None:
    with pytest.raises(ValueError, match=r"low=0\.7 is above high=0\.6"):
        Band(0.7, 0.6)


def test_dapo_samples_dynamically() -> None:
    assert DAPO.select == MixedGroups()
