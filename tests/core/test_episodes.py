"""Episodes and their timelines, by hand and against loops over plain lists."""

from __future__ import annotations

from dataclasses import replace

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.core.episodes import Episodes, Timeline, chosen
from burnish.types import Batch
from rows import batch_of, cut, padded, rollout

QUIET = settings(deadline=None, max_examples=60, derandomize=True)


def two_episodes() -> Batch:
    """Episode 7 in two segments with its second half first, episode 3 between them, one row that is not trained on."""
    first, second = cut(rollout(5, episode=7, group=4, mask=(False, True, False, True, True)), [3])
    return batch_of(
        [second, rollout(2, episode=3, group=9), first, rollout(1, episode=11, group=9, train=False)], max_tokens=5
    )


def test_rows_find_their_episode_and_group() -> None:
    episodes = Episodes.of(two_episodes())
    assert episodes.of_row.tolist() == [1, 0, 1, 2]
    assert episodes.group.tolist() == [1, 0, 1]
    assert episodes.train.tolist() == [True, True, False]


def test_sums_are_over_all_segments() -> None:
    batch = two_episodes()
    ones = padded([[1, 2], [10, 20], [100, 200, 400], [5]])
    assert Episodes.of(batch).sums(ones).tolist() == [30.0, 703.0, 5.0]


def test_group_sums_are_of_trained_episodes_or_of_those_named() -> None:
    episodes = Episodes.of(two_episodes())
    values = torch.tensor([1.0, 2.0, 4.0])
    assert episodes.group_sums(values).tolist() == [1.0, 2.0, 1.0]
    assert episodes.group_sums(values, among=~episodes.train).tolist() == [4.0, 0.0, 4.0]
    assert episodes.group_sums(torch.tensor([1.0, 2.0, torch.inf])).tolist() == [1.0, 2.0, 1.0]


def test_spread_reaches_chosen_tokens_of_trained_rows_only() -> None:
    batch = two_episodes()
    spread = Episodes.of(batch).spread(torch.tensor([1.0, 2.0, torch.nan]), batch)
    assert spread.tolist() == [[2, 2, 0], [1, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert torch.equal(spread != 0, chosen(batch))


def test_a_timeline_by_hand() -> None:
    """Choices of episode 7 are tokens 1 | 3 4; token 0 goes to the first choice, token 2 to the choice before it."""
    timeline = Timeline.of(two_episodes())
    assert timeline.length.tolist() == [2, 3, 1]
    assert timeline.slot[0, :2].tolist() == [1, 2]
    assert timeline.slot[1, :2].tolist() == [0, 1]
    assert timeline.slot[2].tolist() == [0, 0, 0]
    line = timeline.lay(padded([[8, 16], [1, 2], [1, 2, 4], [3]]))
    assert line.tolist() == [[1, 2, 0], [7, 8, 16], [3, 0, 0]]
    assert timeline.put(line).tolist() == [[8, 16, 0], [1, 2, 0], [0, 7, 0], [3, 0, 0]]


def test_a_segment_that_opens_with_the_environment_pays_the_choice_before_the_cut() -> None:
    row = rollout(4, episode=0, mask=(True, True, False, True))
    timeline = Timeline.of(batch_of(cut(row, [2])))
    assert timeline.lay(padded([[1, 2], [4, 8]])).tolist() == [[1, 6, 8]]


def test_an_episode_without_any_choice_has_an_empty_line() -> None:
    alone = batch_of([rollout(2, mask=(False, False))])
    timeline = Timeline.of(alone)
    line = timeline.lay(padded([[1, 2]]))
    assert line.shape == (1, 0) and timeline.put(line).tolist() == [[0, 0]]
    beside = Timeline.of(batch_of([rollout(2, mask=(False, False)), rollout(1, episode=1)]))
    assert beside.length.tolist() == [0, 1]
    assert beside.put(beside.lay(padded([[1, 2], [5]]))).tolist() == [[0, 0], [5, 0]]


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=7), min_size=1, max_size=4), st.data())
@QUIET
def test_cutting_and_reordering_rows_leaves_the_line_as_it_was(masks: list[list[bool]], data: st.DataObject) -> None:
    rows = [rollout(len(mask), episode=9 - n, mask=mask) for n, mask in enumerate(masks)]
    values = [[float(10 * n + t + 1) for t in range(len(mask))] for n, mask in enumerate(masks)]
    whole = Timeline.of(batch_of(rows)).lay(padded(values))
    pieces, parts = [], []
    for row, line in zip(rows, values, strict=True):
        at = sorted(data.draw(st.sets(st.integers(1, max(1, len(line) - 1)), max_size=3)) - {len(line)})
        pieces += cut(row, at)
        parts += [line[i:j] for i, j in zip([0, *at], [*at, len(line)], strict=True)]
    batch = batch_of(pieces, values=parts)
    batch = batch.select(data.draw(st.permutations(range(len(batch)))))
    assert batch.values is not None
    timeline = Timeline.of(batch)
    laid = timeline.lay(batch.values)
    assert torch.equal(laid, whole)
    put = timeline.put(laid)
    assert torch.equal(timeline.put(timeline.lay(put)), put), "every choice has a place of its own"


def test_lines_follow_the_turn_and_not_the_row() -> None:
    batch = batch_of(cut(rollout(4), [1, 3]), values=[[1], [2, 3], [4]])
    assert batch.values is not None
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        moved = batch.select(order)
        assert moved.values is not None
        assert Timeline.of(moved).lay(moved.values).tolist() == [[1, 2, 3, 4]]
    backwards = replace(batch, extras={**batch.extras, "turn": ("row", torch.tensor([2, 1, 0]))})
    assert Timeline.of(backwards).lay(batch.values).tolist() == [[4, 2, 3, 1]]
