"""What is measured on items, against counting by hand."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from statistics import fmean

import pytest

from burnish.core.intervals import estimate
from burnish.data.chat import Chat
from burnish.loops.evaluation.measures import Item, best_of, circles, consensus, measures, scores, thinking
from burnish.types import Completion, Example


def reply(text: str, tokens: int = 3, finish: str = "eos") -> Completion:
    return Completion(tuple(range(tokens)), text, ({"role": "assistant", "content": text},), finish)


def item(
    *replies: tuple[str, float], lengths: tuple[int, ...] = (), finish: str = "eos", thoughts: tuple[int, ...] = ()
) -> Item:
    """An item of which each reply is (what it says, its accuracy)."""
    sizes = lengths or (3,) * len(replies)
    return Item(
        Example(({"role": "user", "content": "?"},), "a"),
        tuple(reply(text, size, finish) for (text, _), size in zip(replies, sizes, strict=True)),
        tuple({"accuracy": right} for _, right in replies),
        tuple(text or None for text, _ in replies),
        thoughts,
    )


def test_the_majority_of_k_is_that_of_every_subset() -> None:
    one = item(("a", 1), ("b", 0), ("a", 1), ("", 0), ("c", 0))
    for k in (2, 3, 5):
        won = []
        for subset in combinations(range(5), k):
            votes = [one.said[j] for j in subset if one.said[j]]
            most = {v for v in votes if votes.count(v) == max(map(votes.count, votes))}
            won.append("a" in most and 1 / len(most))
        assert consensus([one], (1, k))[f"accuracy/cons@{k}"] == [(pytest.approx(fmean(won)), 1.0)]
    assert list(consensus([one], (1, 6))) == [], "one reply is no vote, and there are five"


def test_the_best_of_k_by_a_reward_is_that_of_every_subset() -> None:
    one, proxy = item(("a", 1), ("b", 0), ("c", 0), ("a", 1)), [0.3, 0.9, 0.1, 0.5]
    best = [one.scores[max(subset, key=proxy.__getitem__)]["accuracy"] for subset in combinations(range(4), 3)]
    assert best_of([one], [proxy], (3,))["accuracy/best@3"] == [(pytest.approx(fmean(best)), 1.0)]


def test_lengths_of_right_and_wrong_replies_are_means_over_those_replies() -> None:
    items = [
        item(("a", 1), ("b", 0), lengths=(4, 10), thoughts=(1, 6)),
        item(("a", 1), ("a", 1), lengths=(6, 8), thoughts=(0, 2)),
    ]
    found = {name: estimate(series) for name, series in measures(items).items()}
    assert found["length/right"]["mean"] == pytest.approx((4 + 6 + 8) / 3) and found["length/right"]["n"] == 2
    assert found["length/wrong"]["mean"] == 10 and found["length/wrong"]["n"] == 1
    assert found["length/mean"]["mean"] == 7
    assert found["length/thinking"]["mean"] == 9 / 4 and found["length/answer"]["mean"] == 7 - 9 / 4
    assert "length/wrong" not in measures([items[1]]), "nothing is wrong there"
    assert "length/thinking" not in measures([item(("a", 1))])


def test_reflective_words_are_whole_words_in_any_case() -> None:
    items = [item(("Wait, let me double-check. However... butter errors", 0), ("re-evaluate", 1))]
    found = measures(items)
    assert found["reflection/words"] == [(4 / 2, 1.0)], "wait, check, however; re-evaluate once"
    assert found["reflection/frac"] == [(1.0, 1.0)]


def test_what_was_cut_off_and_what_goes_round_in_circles() -> None:
    assert measures([item(("a", 0), finish="length")])["length/truncated_frac"] == [(1.0, 1.0)]
    assert measures([item(("a", 0), finish="repetition")])["length/circles_frac"] == [(1.0, 1.0)]
    assert measures([item(("a", 0), finish="failed")])["env/failed_frac"] == [(1.0, 1.0)]
    assert circles("So we go. " + "and on and on " * 5) and circles("12 " * 12)
    assert not circles("") and not circles("...") and not circles("no no no no") and not circles("12 " * 12 + "13")
    assert not circles("one two three four five six seven eight nine ten eleven twelve thirteen")


def test_scores_of_a_mixture_are_over_the_items_that_have_them() -> None:
    other = item(("a", 0))
    other = Item(other.example, other.replies, ({"success": 1.0},), other.said)
    found = scores(
        [item(("a", 1), ("b", 0)), Item(other.example, other.replies * 2, other.scores * 2, other.said * 2)], (2,)
    )
    assert found["accuracy"] == [(0.5, 1.0), (0.0, 0.0)] and found["success"] == [(0.0, 0.0), (1.0, 1.0)]
    assert found["accuracy/pass@2"] == [(1.0, 1.0), (0.0, 0.0)]


def test_thoughts_are_counted_in_tokens(nano: Path) -> None:
    """``nano`` reads characters, and each tag is one token."""
    chat = Chat.load(nano)

    def counted(text: str) -> int:
        tokens = tuple(chat.tokenizer(text, add_special_tokens=False)["input_ids"])
        return thinking(chat, Completion(tokens, text, (), "eos"))

    assert counted("<think>1 2</think><answer>2</answer>") == 5
    assert counted("1 2</think>2") == 4, "the prompt may have opened the tag"
    assert counted("<think>1 2 3") == 6, "thoughts that never end are all there is"
    assert counted("just 5") == 0 and counted("") == 0
