"""Advantages written out by hand, and what must hold for any rewards."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.core.advantages import EMA, Advantage, BatchMean, Constant, Greedy, GroupMean, LeaveOneOut, State
from burnish.types import RewardPart, Rollout
from rows import batch_of, cut, groups, rollout

GROUP = st.lists(st.floats(-100, 100).map(lambda x: round(x, 3)), min_size=1, max_size=6)
GROUPS = st.lists(GROUP, min_size=1, max_size=4)
QUIET = settings(deadline=None, max_examples=60, derandomize=True)


def advantages(advantage: Advantage, rows: Sequence[Rollout], state: State | None = None) -> list[float]:
    """One number a row; asserts that it is the same on every trained token and 0 on the others."""
    batch = batch_of(rows)
    assert batch.token_rewards is not None
    full = advantage(batch, batch.token_rewards, advantage.init() if state is None else state)
    out = []
    for line, row in zip(full, rows, strict=True):
        live = torch.tensor([m and row.train for m in row.mask] + [False] * (full.shape[1] - len(row.mask)))
        assert (line[~live] == 0).all()
        values = line[live].tolist() or [0.0]
        assert values == [values[0]] * len(values)
        out.append(values[0])
    return out


@pytest.mark.parametrize(
    ("advantage", "expected"),
    [
        (GroupMean(std=False), [-1 / 3, -1 / 3, 2 / 3, -2, 0, 2]),
        (GroupMean(std=True), [-1 / math.sqrt(3), -1 / math.sqrt(3), 2 / math.sqrt(3), -1, 0, 1]),
        (LeaveOneOut(), [-1 / 2, -1 / 2, 1, -3, 0, 3]),
        (EMA(), [0, 0, 1, 2, 4, 6]),
        (Constant(), [1, 1, 1, 1, 1, 1]),
        (Constant(-0.5), [-0.5] * 6),
        (BatchMean(), [-13 / 6, -13 / 6, -7 / 6, -1 / 6, 11 / 6, 23 / 6]),
        (BatchMean(std=True), [x / math.sqrt(173 / 30) for x in (-13 / 6, -13 / 6, -7 / 6, -1 / 6, 11 / 6, 23 / 6)]),
    ],
    ids=["centred", "standardised", "leave-one-out", "ema", "one", "constant", "batch", "batch-standardised"],
)
def test_two_groups_of_three_by_hand(advantage: Advantage, expected: list[float]) -> None:
    rows = groups([[0, 0, 1], [2, 4, 6]], [[2, 1, 3], [1, 2, 2]])
    assert advantages(advantage, rows) == pytest.approx(expected, rel=1e-14, abs=1e-15)


def test_interleaved_rows_belong_to_their_groups() -> None:
    rows = groups([[0, 0, 1], [2, 4, 6]])
    order = [3, 0, 4, 1, 5, 2]
    for advantage in (GroupMean(), GroupMean(std=False), LeaveOneOut()):
        straight = advantages(advantage, rows)
        assert advantages(advantage, [rows[i] for i in order]) == pytest.approx([straight[i] for i in order], rel=1e-14)


@given(GROUPS)
@QUIET
def test_every_group_sums_to_zero(rewards: list[list[float]]) -> None:
    rows = groups(rewards)
    for advantage in (GroupMean(), GroupMean(std=False), LeaveOneOut()):
        found = iter(advantages(advantage, rows))
        for group in rewards:
            size = max(1.0, *map(abs, group))
            assert abs(sum(next(found) for _ in group)) < 1e-10 * size


@given(GROUPS, st.sampled_from([0.25, 1.0, 3.0, 1000.0]), st.sampled_from([-50.0, 0.0, 7.5]))
@QUIET
def test_standardised_advantages_ignore_scale_and_shift(rewards: list[list[float]], scale: float, shift: float) -> None:
    moved = [[scale * r + shift for r in group] for group in rewards]
    plain = advantages(GroupMean(std=True), groups(rewards))
    assert advantages(GroupMean(std=True), groups(moved)) == pytest.approx(plain, rel=1e-9, abs=1e-9)
    centred = advantages(GroupMean(std=False), groups(rewards))
    expected = pytest.approx([scale * a for a in centred], rel=1e-9, abs=1e-9)
    assert advantages(GroupMean(std=False), groups(moved)) == expected


@given(GROUPS)
@QUIET
def test_standardised_groups_have_sample_deviation_one(rewards: list[list[float]]) -> None:
    found = iter(advantages(GroupMean(std=True), groups(rewards)))
    for group in rewards:
        own = [next(found) for _ in group]
        if len(set(group)) > 1:
            assert sum(a * a for a in own) / (len(own) - 1) == pytest.approx(1, rel=1e-9)
        else:
            assert own == [0.0] * len(group)


@pytest.mark.parametrize("advantage", [GroupMean(), GroupMean(std=False), LeaveOneOut()])
@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -3.7, 1e9])
@pytest.mark.parametrize("size", [1, 3, 7])
def test_equal_rewards_and_single_members_get_zero(advantage: Advantage, value: float, size: int) -> None:
    """The rounding of a mean must not be blown up to advantages of one by the division."""
    found = advantages(advantage, groups([[value] * size]))
    assert found == pytest.approx([0.0] * size, abs=1e-15 * abs(value))
    if isinstance(advantage, GroupMean):
        assert found == [0.0] * size


@given(GROUPS)
@QUIET
def test_leave_one_out_is_the_centred_reward_times_g_over_g_minus_one(rewards: list[list[float]]) -> None:
    centred = iter(advantages(GroupMean(std=False), groups(rewards)))
    found = iter(advantages(LeaveOneOut(), groups(rewards)))
    for group in rewards:
        factor = len(group) / (len(group) - 1) if len(group) > 1 else 0.0
        for _ in group:
            assert next(found) == pytest.approx(factor * next(centred), rel=1e-9, abs=1e-9)


@given(GROUPS, st.data())
@QUIET
def test_the_leave_one_out_baseline_does_not_contain_its_own_reward(
    rewards: list[list[float]], data: st.DataObject
) -> None:
    """Raising one reward by 5 raises its advantage by 5."""
    number = data.draw(st.integers(0, len(rewards) - 1))
    if len(rewards[number]) < 2:
        return
    raised = [list(group) for group in rewards]
    raised[number][0] += 5.0
    place = sum(map(len, rewards[:number]))
    before, after = advantages(LeaveOneOut(), groups(rewards)), advantages(LeaveOneOut(), groups(raised))
    assert after[place] - before[place] == pytest.approx(5.0, rel=1e-9)


@given(GROUPS, st.data())
@QUIET
def test_segments_of_an_episode_change_nothing(rewards: list[list[float]], data: st.DataObject) -> None:
    rows = [replace(r, episode=50 - r.episode) for r in groups(rewards, [[4] * len(g) for g in rewards])]
    pieces = [cut(row, sorted(data.draw(st.sets(st.integers(1, 3), max_size=2)))) for row in rows]
    segments = [segment for piece in pieces for segment in piece]
    state = {"sum": 0.3, "weight": 0.5}
    for advantage in (
        GroupMean(),
        GroupMean(std=False),
        LeaveOneOut(),
        EMA(),
        BatchMean(),
        BatchMean(std=True),
        Constant(),
    ):
        found = iter(advantages(advantage, segments, state))
        for whole, piece in zip(advantages(advantage, rows, state), pieces, strict=True):
            assert [next(found) for _ in piece] == pytest.approx([whole] * len(piece), rel=1e-12, abs=1e-12)


def test_rewards_along_the_way_count_for_the_whole_episode() -> None:
    parts = (RewardPart(0, 0.25, "format"), RewardPart(2, 0.5, "answer"), RewardPart(-1, 0.25, "length"))
    early = replace(rollout(3), rewards=parts)
    other = rollout(2, 0.0, episode=1)
    assert advantages(LeaveOneOut(), [early, other]) == pytest.approx([1.0, -1.0])


def test_masked_tokens_get_no_advantage() -> None:
    rows = [rollout(3, 1.0, mask=(True, False, True)), rollout(2, 0.0, episode=1)]
    assert advantages(GroupMean(std=False), rows) == pytest.approx([0.5, -0.5])


@pytest.mark.parametrize(
    "advantage", [GroupMean(), GroupMean(std=False), LeaveOneOut(), BatchMean(), BatchMean(std=True)]
)
@pytest.mark.parametrize("reward", [99.0, 1e15, math.inf])
def test_baseline_rows_enter_no_statistic(advantage: Advantage, reward: float) -> None:
    """A row with train=False changes no other row's advantage, whatever its reward."""
    rows = groups([[0, 1, 5]])
    spectator = rollout(1, reward, episode=9, train=False)
    assert advantages(advantage, [*rows, spectator]) == pytest.approx([*advantages(advantage, rows), 0.0], rel=1e-12)


def test_ema_compares_with_earlier_steps_only() -> None:
    """Written out: b is 0, then 2, then the bias-corrected average (.9 * .1 * 2 + .1 * 4) / (.9 * .1 + .1)."""
    ema = EMA(0.9)
    steps = [groups([[1.0, 3.0]]), groups([[4.0, 4.0]]), groups([[0.0, 10.0]])]
    baselines = [0.0, 2.0, (0.09 * 2 + 0.1 * 4) / 0.19]
    state = ema.init()
    for rows, baseline in zip(steps, baselines, strict=True):
        batch = batch_of(rows)
        assert advantages(ema, rows, state) == pytest.approx([r.reward - baseline for r in rows], rel=1e-12)
        state = json.loads(json.dumps(dict(ema.update(state, batch))))


def test_ema_state_is_pure_json_and_ignores_baseline_rows() -> None:
    ema = EMA(0.5)
    state = {"sum": 1.0, "weight": 0.5}
    kept = dict(state)
    rows = [*groups([[2.0, 4.0]]), rollout(1, 1000.0, episode=7, train=False)]
    after = ema.update(state, batch_of(rows))
    assert after == {"sum": 0.5 * 1.0 + 0.5 * 3.0, "weight": 0.75} and state == kept
    assert all(type(value) is float for value in after.values())
    assert ema.update(state, batch_of([rollout(1, 3.0, train=False)])) == kept


def test_ema_counts_an_episode_once_however_many_segments() -> None:
    rows = groups([[2.0, 8.0]], [[4, 4]])
    ema = EMA()
    assert ema.update(ema.init(), batch_of([*cut(rows[0], [1, 2]), rows[1]])) == ema.update(ema.init(), batch_of(rows))


def test_the_others_remember_nothing() -> None:
    for advantage in (GroupMean(), LeaveOneOut(), BatchMean(), Constant(), Greedy()):
        assert advantage.update(advantage.init(), batch_of(groups([[1.0, 2.0]]))) == {}


# --- the batch, a constant, a greedy answer ------------------------------------------------------


@given(GROUPS, st.sampled_from([0.25, 1.0, 1000.0]), st.sampled_from([-50.0, 0.0, 7.5]))
@QUIET
def test_the_batch_mean_does_not_know_groups(rewards: list[list[float]], scale: float, shift: float) -> None:
    """Advantages sum to 0 over the batch, ignore a shift, and with ``std`` a scale as well; one group gives the same."""
    rows, together = groups(rewards), groups([[r for group in rewards for r in group]])
    moved = groups([[scale * r + shift for r in group] for group in rewards])
    for advantage, factor in ((BatchMean(), scale), (BatchMean(std=True), 1.0)):
        found = advantages(advantage, rows)
        assert sum(found) == pytest.approx(0, abs=1e-9)
        assert found == advantages(advantage, together) == pytest.approx(advantages(GroupMean(advantage.std), together))
        assert advantages(advantage, moved) == pytest.approx([factor * a for a in found], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("advantage", [BatchMean(), BatchMean(std=True)], ids=["centred", "standardised"])
@pytest.mark.parametrize("value", [0.0, 0.1, -3.7, 1e9])
@pytest.mark.parametrize("size", [1, 3, 7])
def test_a_batch_of_equal_rewards_gets_zero(advantage: Advantage, value: float, size: int) -> None:
    assert advantages(advantage, groups([[value]] * size)) == [0.0] * size


def test_a_constant_is_blind_to_rewards_and_stays_on_trained_choices() -> None:
    rows = [rollout(3, 5.0, mask=(True, False, True)), rollout(2, -1.0, episode=1, train=False)]
    assert advantages(Constant(2.0), rows) == [2.0, 0.0]


def with_greedy(rewards: Sequence[Sequence[float]], greedy: Sequence[float]) -> list[Rollout]:
    """Every group with one more row, which is not trained on; that row comes first in every other group."""
    rows = groups(rewards)
    for group, reward in enumerate(greedy):
        row = rollout(2, reward, group=group, episode=100 + group, train=False)
        rows.insert(0 if group % 2 else len(rows), row)
    return rows


def test_greedy_compares_with_the_greedy_answer_to_the_same_prompt() -> None:
    rows = with_greedy([[0, 1, 5], [2]], [1, -3])
    found = {row.episode: a for row, a in zip(rows, advantages(Greedy(), rows), strict=True)}
    assert found == {0: -1, 1: 0, 2: 4, 3: 5, 100: 0, 101: 0}
    assert Greedy().needs_greedy and not GroupMean().needs_greedy


def test_a_greedy_answer_in_segments_is_one_baseline() -> None:
    rows = with_greedy([[0, 1, 5]], [2.5])
    pieces = [*rows[:3], *cut(rows[3], [1])]
    assert advantages(Greedy(), pieces)[:3] == advantages(Greedy(), rows)[:3] == [-2.5, -1.5, 2.5]


@pytest.mark.parametrize("count", [0, 2])
def test_a_group_without_exactly_one_greedy_row_is_refused(count: int) -> None:
    spare = [rollout(1, 1.0, episode=50 + i, train=False) for i in range(count)]
    with pytest.raises(ValueError, match="one greedy row"):
        advantages(Greedy(), [*groups([[0, 1]]), *spare])
