"""Comparisons changed before training: conditions, clamped labels, lengths in balance."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.data.transforms import balance_lengths, characters, clamp_labels, condition
from burnish.errors import InputError
from burnish.types import Answer, Comparison, Message


def said(text: str, role: str = "assistant") -> Message:
    return {"role": role, "content": text}


def pair(better: int, worse: int, *, turned: bool = False, name: str = "") -> Comparison:
    """Answers of these lengths."""
    answers = Answer((said("x" * better),), rank=0), Answer((said("x" * worse),), rank=1)
    return Comparison((said(f"q{name}", "user"),), answers[::-1] if turned else answers)


def longer_is_better(pairs: list[Comparison]) -> int:
    gaps = [characters(a) - characters(b) for a, b in (sorted(p.answers, key=lambda a: a.rank or 0) for p in pairs)]
    return sum(gap > 0 for gap in gaps) - sum(gap < 0 for gap in gaps)


LENGTHS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.booleans()), max_size=60)


@settings(max_examples=50)
@given(LENGTHS, st.integers(1, 8), st.integers(0, 3))
def test_afterwards_length_says_nothing_in_any_bucket(
    lengths: list[tuple[int, int, bool]], buckets: int, seed: int
) -> None:
    pairs = [pair(a, b, turned=t, name=str(i)) for i, (a, b, t) in enumerate(lengths)]
    kept = balance_lengths(pairs, buckets=buckets, seed=seed)
    assert longer_is_better(kept) == 0
    assert kept == [p for p in pairs if p in kept], "in the order they came in"
    assert kept == balance_lengths(pairs, buckets=buckets, seed=seed)
    equal = [p for p, (a, b, _) in zip(pairs, lengths, strict=True) if a == b]
    assert all(p in kept for p in equal)


def test_buckets_are_of_the_size_of_the_difference() -> None:
    """Small differences cannot pay for large ones: in each bucket both kinds are as many."""
    small = [pair(12, 10, name=f"s{i}") for i in range(10)]
    large = [pair(10, 90, name=f"l{i}") for i in range(10)]
    mixed = [p for both in zip(small, large, strict=True) for p in both]
    assert balance_lengths(mixed, buckets=2) == []
    assert len(balance_lengths(mixed, buckets=1)) == 20


def test_what_is_left_out_depends_on_the_seed() -> None:
    pairs = [pair(20, 10, name=str(i)) for i in range(20)] + [pair(10, 20, name=f"o{i}") for i in range(10)]
    first, second = (balance_lengths(pairs, buckets=1, seed=seed) for seed in (0, 1))
    assert len(first) == len(second) == 20 and first != second


def test_the_length_is_what_you_say() -> None:
    pairs = [pair(20, 10, name="a"), pair(10, 20, name="b")]
    assert len(balance_lengths(pairs, buckets=1, length=lambda _: 1)) == 2


def test_only_pairs_can_be_balanced() -> None:
    three = Comparison((said("q", "user"),), tuple(Answer((said("a"),), rank=rank) for rank in range(3)))
    unranked = Comparison((said("q", "user"),), (Answer((said("a"),)), Answer((said("b"),))))
    for wrong in (three, unranked):
        with pytest.raises(InputError, match="comparison 2 is no pair"):
            balance_lengths([pair(1, 2), wrong])
    with pytest.raises(InputError, match="0 buckets"):
        balance_lengths([pair(1, 2)], buckets=0)


def test_a_condition_is_a_system_prompt() -> None:
    plain = condition(pair(1, 2), "Judge the code.")
    assert plain.prompt == (said("Judge the code.", "system"), said("q", "user"))
    assert plain.answers == pair(1, 2).answers
    own = Comparison((said("You are kind.", "system"), said("q", "user")), pair(1, 2).answers)
    assert condition(own, "Judge the code.").prompt == (
        said("Judge the code.\n\nYou are kind.", "system"),
        own.prompt[1],
    )


@given(st.floats(0, 1))
def test_clamped_labels_lie_between(p: float) -> None:
    answers = (Answer((said("a"),), rank=0, label=p), Answer((said("b"),), rank=1, label=1 - p), Answer((said("c"),)))
    first, second, third = clamp_labels(Comparison((said("q", "user"),), answers)).answers
    assert first.label is not None and second.label is not None and third.label is None
    assert 0.4 <= first.label <= 0.6 and first.label + second.label == pytest.approx(1)
    assert 0.4 < p < 0.6 or first.label in (0.4, 0.6)


def test_a_range_that_leaves_out_one_half_is_an_error() -> None:
    with pytest.raises(InputError, match="cannot be clamped"):
        clamp_labels(pair(1, 2), 0.6, 0.9)
