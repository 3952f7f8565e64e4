"""Credit along an episode's choices against loops over plain lists: one episode, one list of (reward, value) a choice."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.core.advantages import EMA, Advantage, Greedy, GroupMean
from burnish.core.returns import GAE, NStep, ProcessGroup, Return, Whiten, discounted
from burnish.types import Batch, RewardPart, Rollout
from rows import batch_of, cut, rollout

QUIET = settings(deadline=None, max_examples=50, derandomize=True)
NUMBER = st.integers(-40, 40).map(lambda n: n / 8)
GAMMA = st.sampled_from([1.0, 0.9, 0.5])
LAMBDA = st.sampled_from([0.0, 0.3, 0.95, 1.0])


@dataclass(frozen=True)
class Line:
    """One episode: who chose each token, the reward given at it (None: no step ends there), the value before it."""

    mask: tuple[bool, ...]
    rewards: tuple[float | None, ...]
    values: tuple[float, ...]
    group: int = 0
    train: bool = True

    @property
    def choices(self) -> list[int]:
        return [t for t, m in enumerate(self.mask) if m]

    def by_choice(self) -> tuple[list[float], list[float]]:
        """(r, V) a choice: a reward belongs to the last choice at or before it, and the first to what precedes it."""
        rewards = [0.0] * len(self.choices)
        for t, reward in enumerate(self.rewards):
            if rewards and reward is not None:
                rewards[max(0, sum(self.mask[: t + 1]) - 1)] += reward
        return rewards, [self.values[t] for t in self.choices]


@st.composite
def lines(draw: st.DrawFn, most: int = 4, zero: bool = True) -> list[Line]:
    out = []
    for _ in range(draw(st.integers(1, most))):
        size = draw(st.integers(1, 6))
        mask = draw(st.lists(st.sampled_from([True, True, False]), min_size=size, max_size=size))
        step = st.one_of(st.none(), NUMBER, st.just(0.0)) if zero else st.one_of(st.none(), NUMBER)
        rewards = draw(st.lists(step, min_size=size, max_size=size))
        values = draw(st.lists(NUMBER, min_size=size, max_size=size))
        out.append(
            Line(tuple(mask), tuple(rewards), tuple(values), draw(st.integers(0, 1)), draw(st.integers(0, 5)) > 0)
        )
    return out


def row_of(line: Line, episode: int) -> Rollout:
    parts = tuple(RewardPart(t, r, "step") for t, r in enumerate(line.rewards) if r is not None)
    row = rollout(len(line.mask), group=line.group, episode=episode, mask=line.mask, train=line.train)
    return replace(row, rewards=parts)


def batch_from(many: Sequence[Line], cuts: Sequence[Sequence[int]] | None = None) -> Batch:
    """The episodes as rows, cut at these places; episode ids fall while rows rise."""
    rows, values = [], []
    for n, line in enumerate(many):
        at = cuts[n] if cuts else []
        rows += cut(row_of(line, 50 - n), at)
        values += [line.values[i:j] for i, j in pairwise([0, *at, len(line.mask)])]
    return batch_of(rows, values=values)


def credit(advantage: Advantage, batch: Batch) -> torch.Tensor:
    assert batch.token_rewards is not None
    return advantage(batch, batch.token_rewards, advantage.init())


def targets(advantage: Advantage, batch: Batch) -> torch.Tensor:
    assert batch.token_rewards is not None
    found = advantage.returns(batch, batch.token_rewards)
    assert found is not None
    return found


def assert_lines(found: torch.Tensor, many: Sequence[Line], expected: Sequence[Sequence[float]]) -> None:
    """``expected`` by choice; every other token has exactly 0."""
    for row, line, values in zip(found, many, expected, strict=True):
        assert row[line.choices].tolist() == pytest.approx(list(values), rel=1e-12, abs=1e-12)
        others = [t for t in range(found.shape[1]) if t not in line.choices]
        assert row[others].tolist() == [0.0] * len(others)


def trained(many: Sequence[Line], values: Sequence[Sequence[float]]) -> list[list[float]]:
    return [[x * line.train for x in own] for line, own in zip(many, values, strict=True)]


def double_sum(line: Line, gamma: float, lam: float) -> list[float]:
    """sum over l of (gamma lam)^l (r_{t+l} + gamma V_{t+l+1} - V_{t+l}), term by term."""
    rewards, values = line.by_choice()
    after = [*values, 0.0][1:]
    size = len(rewards)
    return [
        sum((gamma * lam) ** (l - t) * (rewards[l] + gamma * after[l] - values[l]) for l in range(t, size))  # noqa: E741
        for t in range(size)
    ]


def returns_to_go(line: Line, gamma: float) -> list[float]:
    rewards, _ = line.by_choice()
    return [sum(gamma ** (l - t) * rewards[l] for l in range(t, len(rewards))) for t in range(len(rewards))]  # noqa: E741


# --- returns -------------------------------------------------------------------------------------


def test_discounted_by_hand() -> None:
    line = torch.tensor([[1.0, 2.0, 4.0], [8.0, 0.0, 0.0]])
    assert discounted(line, 0.5).tolist() == [[3.0, 4.0, 4.0], [8.0, 0.0, 0.0]]
    assert discounted(line, torch.tensor([1.0, 0.5])).tolist() == [[7.0, 6.0, 4.0], [8.0, 0.0, 0.0]]


def test_returns_by_hand() -> None:
    """Rewards 1 . 2 | 4 with the environment's token in the middle paying 2 for the choice before it."""
    line = Line((True, False, True, True), (1.0, 2.0, None, 4.0), (0.0,) * 4)
    batch = batch_from([line])
    assert credit(Return(), batch).tolist() == [[7, 0, 4, 4]]
    assert credit(Return(gamma=0.5), batch).tolist() == [[4, 0, 2, 4]]
    assert credit(Return(to_go=False), batch).tolist() == [[7, 0, 7, 7]]
    assert credit(Return(gamma=0.5, to_go=False), batch).tolist() == [[4, 0, 4, 4]]


@given(lines(), GAMMA)
@QUIET
def test_return_to_go_is_the_sum_of_what_follows(many: list[Line], gamma: float) -> None:
    batch = batch_from(many)
    expected = trained(many, [returns_to_go(line, gamma) for line in many])
    assert_lines(credit(Return(gamma), batch), many, expected)
    assert_lines(credit(Return(gamma, to_go=False), batch), many, [[x[0]] * len(x) if x else [] for x in expected])


# --- critics -------------------------------------------------------------------------------------


@given(lines(), GAMMA, LAMBDA)
@QUIET
def test_gae_is_the_double_sum(many: list[Line], gamma: float, lam: float) -> None:
    batch = batch_from(many)
    sums = [double_sum(line, gamma, lam) for line in many]
    assert_lines(credit(GAE(gamma, lam), batch), many, trained(many, sums))
    goals = [[a + v for a, v in zip(s, line.by_choice()[1], strict=True)] for s, line in zip(sums, many, strict=True)]
    assert_lines(targets(GAE(gamma, lam), batch), many, goals)


@given(lines(), GAMMA)
@QUIET
def test_lambda_one_is_the_monte_carlo_return_minus_the_value(many: list[Line], gamma: float) -> None:
    batch = batch_from(many)
    futures = [returns_to_go(line, gamma) for line in many]
    gains = [
        [g - v for g, v in zip(f, line.by_choice()[1], strict=True)] for f, line in zip(futures, many, strict=True)
    ]
    for advantage in (GAE(gamma, 1.0), NStep(6, gamma), NStep(99, gamma)):
        assert_lines(credit(advantage, batch), many, trained(many, gains))
        assert_lines(targets(advantage, batch), many, futures)


@given(lines(), GAMMA)
@QUIET
def test_lambda_zero_is_the_one_step_error(many: list[Line], gamma: float) -> None:
    batch = batch_from(many)
    errors = []
    for line in many:
        rewards, values = line.by_choice()
        errors.append([r + gamma * w - v for r, v, w in zip(rewards, values, [*values, 0.0][1:], strict=True)])
    for advantage in (GAE(gamma, 0.0), NStep(1, gamma)):
        assert_lines(credit(advantage, batch), many, trained(many, errors))


@given(lines(), GAMMA, st.integers(1, 7))
@QUIET
def test_n_steps_then_the_value(many: list[Line], gamma: float, n: int) -> None:
    batch = batch_from(many)
    goals = []
    for line in many:
        rewards, values = line.by_choice()
        size = len(rewards)
        ahead = [*values, *[0.0] * (n + 1)]
        goals.append(
            [
                sum(gamma**i * rewards[t + i] for i in range(min(n, size - t))) + gamma**n * ahead[t + n]
                for t in range(size)
            ]
        )
    assert_lines(targets(NStep(n, gamma), batch), many, goals)
    gains = [
        [g - v for g, v in zip(goal, line.by_choice()[1], strict=True)] for goal, line in zip(goals, many, strict=True)
    ]
    assert_lines(credit(NStep(n, gamma), batch), many, trained(many, gains))


@given(lines(), st.sampled_from([0.05, 0.2, 0.5, 2.0]), st.sampled_from([None, 0.0, 0.5, 1.0]))
@QUIET
def test_the_lambda_that_grows_with_the_length(many: list[Line], alpha: float, lam_value: float | None) -> None:
    """VAPO: 1 - 1/(alpha T) and not below 0, T being the choices of the episode; the critic has its own lambda."""
    advantage = GAE(1.0, lam=0.7, lam_value=lam_value, alpha=alpha)
    batch = batch_from(many)
    sums = [double_sum(line, 1.0, max(0.0, 1 - 1 / (alpha * max(1, len(line.choices))))) for line in many]
    assert_lines(credit(advantage, batch), many, trained(many, sums))
    assert torch.equal(targets(advantage, batch), targets(GAE(1.0, 0.7 if lam_value is None else lam_value), batch))


def test_a_separate_lambda_for_the_critic_leaves_the_policy_alone() -> None:
    line = Line((True,) * 3, (1.0, None, 2.0), (0.5, 0.25, -1.0))
    batch = batch_from([line])
    assert torch.equal(credit(GAE(1.0, 0.5, lam_value=1.0), batch), credit(GAE(1.0, 0.5), batch))
    assert targets(GAE(1.0, 0.5, lam_value=1.0), batch).tolist() == [[3, 2, 2]]
    assert targets(GAE(1.0, 0.0, lam_value=None), batch).tolist() == [[1.25, -1, 2]]


def test_only_critics_have_targets() -> None:
    batch = batch_from([Line((True,), (1.0,), (0.0,))])
    for advantage in (Return(), ProcessGroup(), Whiten(Return())):
        assert not advantage.needs_critic and advantage.returns(batch, torch.zeros(1, 1)) is None
    assert GAE().needs_critic and NStep().needs_critic


# --- process rewards -----------------------------------------------------------------------------


def process(many: Sequence[Line], std: bool) -> list[list[float]]:
    """The rewards of all steps of a group together, normalised, then summed from each choice on."""
    out = []
    for line in many:
        steps = [r for x in many for r in x.rewards if x.group == line.group and x.train and r is not None]
        mean = sum(steps) / max(1, len(steps))
        scale = statistics.stdev(steps) if std and len(steps) > 1 else 1.0
        if len(set(steps)) < 2:
            mean, scale = (steps or [0.0])[0], 1.0
        rewards = tuple(None if r is None else (r - mean) / scale for r in line.rewards)
        out.append(returns_to_go(replace(line, rewards=rewards), 1.0))
    return trained(many, out)


@given(lines(), st.booleans())
@QUIET
def test_process_rewards_are_normalised_together(many: list[Line], std: bool) -> None:
    """Steps rewarded with exactly 0 count, tokens where no step ends do not."""
    found = credit(ProcessGroup(std), batch_from(many))
    for row, line, expected in zip(found, many, process(many, std), strict=True):
        assert row[line.choices].tolist() == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_process_rewards_by_hand() -> None:
    """Steps 0 and 1 | 1 0 0: mean 2/5; each token has the sum of the steps that end at or after it."""
    many = [
        Line((True,) * 4, (None, 0.0, None, 1.0), (0.0,) * 4),
        Line((True,) * 3, (1.0, 0.0, 0.0), (0.0,) * 3),
    ]
    centred = [[0.2, 0.2, 0.6, 0.6], [-0.2, -0.8, -0.4]]
    assert_lines(credit(ProcessGroup(std=False), batch_from(many)), many, centred)
    deviation = math.sqrt((2 * 0.36 + 3 * 0.16) / 4)
    assert_lines(credit(ProcessGroup(), batch_from(many)), many, [[x / deviation for x in row] for row in centred])


@pytest.mark.parametrize("value", [0.0, 0.1, -3.7, 1e9 / 3])
@pytest.mark.parametrize("std", [True, False])
@pytest.mark.parametrize("sizes", [[1], [3], [1, 2, 3], [6, 7], [5] * 9], ids=str)
def test_equal_steps_teach_nothing(value: float, std: bool, sizes: list[int]) -> None:
    """The rounding of their mean must not be blown up by the division."""
    many = [Line((True,) * n, (value,) * n, (0.0,) * n) for n in sizes]
    assert not credit(ProcessGroup(std), batch_from(many)).any()


@given(st.lists(NUMBER, min_size=1, max_size=5), st.booleans())
@QUIET
def test_with_one_step_an_answer_process_rewards_are_outcome_rewards(rewards: list[float], std: bool) -> None:
    many = [Line((True,) * (n + 1), (*[None] * n, r), (0.0,) * (n + 1)) for n, r in enumerate(rewards)]
    batch = batch_from(many)
    assert torch.allclose(credit(ProcessGroup(std), batch), credit(GroupMean(std), batch), rtol=1e-12, atol=1e-12)


# --- whitening -----------------------------------------------------------------------------------


@given(lines(), st.booleans())
@QUIET
def test_whitening_is_over_all_chosen_tokens(many: list[Line], centre: bool) -> None:
    batch = batch_from(many)
    plain = credit(Return(), batch)
    live = [(n, t) for n, line in enumerate(many) if line.train for t in line.choices]
    values = [plain[n, t].item() for n, t in live]
    found = credit(Whiten(Return(), centre), batch)
    if len(values) < 2:
        assert torch.equal(found, plain)
        return
    mean, deviation = statistics.fmean(values) if centre else 0.0, statistics.stdev(values)
    expected = torch.zeros_like(plain)
    for n, t in live:
        expected[n, t] = (plain[n, t] - mean) / (deviation + 1e-8)
    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-7 if deviation < 1e-8 else 1e-9)


@pytest.mark.parametrize("value", [0.0, 0.1, -3.7, 1e9 / 3])
@pytest.mark.parametrize("count", [2, 3, 7, 22, 41])
def test_whitening_makes_no_signal_of_rounding(value: float, count: int) -> None:
    many = [Line((True,), (value,), (0.0,)) for _ in range(count)]
    assert not credit(Whiten(Return()), batch_from(many)).any()


def test_whitening_is_transparent() -> None:
    """What the inner advantage needs, remembers and aims at goes through."""
    assert Whiten(GAE()).needs_critic and not Whiten(Return()).needs_critic
    assert Whiten(Greedy()).needs_greedy and not Whiten(GAE()).needs_greedy
    batch = batch_from([Line((True, True), (1.0, 3.0), (0.5, 1.0))])
    assert torch.equal(targets(Whiten(GAE(1.0, 0.5)), batch), targets(GAE(1.0, 0.5), batch))
    assert Whiten(EMA()).init() == EMA().init()
    assert Whiten(EMA()).update(EMA().init(), batch) == EMA().update(EMA().init(), batch)


# --- all of them ---------------------------------------------------------------------------------

EVERY = {
    "return": Return(0.9),
    "whole-return": Return(to_go=False),
    "gae": GAE(0.9, 0.7),
    "vapo": GAE(1.0, lam_value=1.0, alpha=0.4),
    "n-step": NStep(2, 0.9),
    "process": ProcessGroup(),
    "process-centred": ProcessGroup(std=False),
    "whitened": Whiten(GAE(1.0, 0.8)),
    "scaled": Whiten(GroupMean(std=False), centre=False),
}
every = pytest.mark.parametrize("advantage", EVERY.values(), ids=EVERY.keys())


@every
@given(lines(), st.data())
@QUIET
def test_episodes_cut_anywhere_have_the_same_advantages(
    advantage: Advantage, many: list[Line], data: st.DataObject
) -> None:
    """Cut into segments, the segments in any order: every token keeps its advantage and its target."""
    whole = batch_from(many)
    cuts = [sorted(data.draw(st.sets(st.integers(1, 5), max_size=3))) for _ in many]
    cuts = [[c for c in at if c < len(line.mask)] for at, line in zip(cuts, many, strict=True)]
    pieces = batch_from(many, cuts)
    order = data.draw(st.permutations(range(len(pieces))))
    moved = pieces.select(order)
    where = [(n, i, j) for n, at in enumerate(cuts) for i, j in pairwise([0, *at, len(many[n].mask)])]
    for compute in (credit, targets) if advantage.needs_critic else (credit,):
        expected, found = compute(advantage, whole), compute(advantage, moved)
        for row, place in zip(found, order, strict=True):
            n, i, j = where[place]
            assert row[: j - i].tolist() == pytest.approx(expected[n, i:j].tolist(), rel=1e-12, abs=1e-12)
            assert not row[j - i :].any()


@every
@given(lines())
@QUIET
def test_what_lies_outside_the_mask_leaks_nowhere(advantage: Advantage, many: list[Line]) -> None:
    """Values that are not numbers at padding, at environment tokens and in rows that are not trained on."""
    batch = batch_from(many)
    assert batch.values is not None
    poisoned = replace(batch, values=torch.where(batch.mask & batch.train[:, None], batch.values, torch.nan))
    assert torch.equal(credit(advantage, poisoned), credit(advantage, batch))
    if advantage.needs_critic:
        live = batch.train
        assert torch.equal(targets(advantage, poisoned)[live], targets(advantage, batch)[live])


@every
def test_other_groups_and_untrained_rows_are_not_seen(advantage: Advantage) -> None:
    """Whitening sees the whole batch by design; the others see their own group or their own episode."""
    own = [Line((True,) * 3, (0.0, 1.0, 2.0), (1.0, 0.5, 0.0)), Line((True,) * 2, (None, 5.0), (1.0, -1.0))]
    spectator = Line((True,) * 2, (1e15, -3.0), (7.0, 7.0), train=False)
    stranger = Line((True,) * 2, (-1e6, 3.0), (7.0, 7.0), group=1)
    alone = credit(advantage, batch_from(own))
    guests = [spectator] if isinstance(advantage, Whiten) else [spectator, stranger]
    found = credit(advantage, batch_from([*own, *guests]))
    assert torch.allclose(found[:2], alone, rtol=1e-12, atol=1e-12)
    assert not found[2].any()
