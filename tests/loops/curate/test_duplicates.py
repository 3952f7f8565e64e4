"""Repeated rows go, the first stays; nothing that is near enough is missed, and nothing else is touched."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.errors import InputError
from burnish.loops.curate.duplicates import Near, Repeat, dedupe, repeats
from curating import curate, provenance, rows, write

WORDS = Near(threshold=0.5, size=2)


def jaccard(near: Near, one: str, other: str) -> float:
    a, b = near.grams(one), near.grams(other)
    return len(a & b) / len(a | b)


def by_hand(texts: list[str], near: Near) -> list[Repeat | None]:
    """Every text against every one that was kept."""
    kept: list[int] = []
    found: list[Repeat | None] = []
    for place, text in enumerate(texts):
        similar = [(jaccard(near, text, texts[k]), -k) for k in kept]
        best = max(similar, default=(0.0, 0))
        found.append(Repeat(-best[1], best[0]) if best[0] >= near.threshold else None)
        if found[-1] is None:
            kept.append(place)
    return found


@given(
    texts=st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=8).map(" ".join), max_size=12),
    threshold=st.sampled_from([0.2, 0.5, 0.55, 0.7, 0.8, 1.0]),
    size=st.integers(1, 3),
    unit=st.sampled_from(["words", "characters"]),
)
def test_the_index_finds_what_comparing_all_pairs_finds(
    texts: list[str], threshold: float, size: int, unit: str
) -> None:
    near = Near(threshold, size, unit)
    places = [repeat and repeat.similarity for repeat in repeats(texts, near)]
    assert places == [repeat and repeat.similarity for repeat in by_hand(texts, near)]


def test_a_similarity_that_is_just_the_threshold_counts() -> None:
    """14 of 25 words are shared, and .56 * 25 is a little more than 14 in floating point."""
    shared = [f"s{i}" for i in range(14)]
    texts = [" ".join([*shared, *(f"a{i}" for i in range(11))]), " ".join(shared)]
    near = Near(threshold=0.56, size=1)
    assert jaccard(near, *texts) == 14 / 25 and 0.56 * 25 > 14
    assert repeats(texts, near) == [None, Repeat(0, 0.56)]
    assert repeats(texts, Near(threshold=0.57, size=1)) == [None, None]


def test_a_chain_of_small_changes_keeps_both_its_ends() -> None:
    """Each text is like the one before it, but the last is nothing like the first."""
    texts = ["a b c d", "b c d e", "c d e f", "d e f g"]
    near = Near(threshold=0.5, size=1)
    assert all(jaccard(near, one, other) == 0.6 for one, other in pairwise(texts))
    assert repeats(texts, near) == [None, Repeat(0, 0.6), None, Repeat(2, 0.6)]


def test_signs_are_words() -> None:
    assert repeats(["2 + 2", "2 - 2"], Near(1.0, 1)) == [None, None]


def test_known_texts_come_first_and_are_all_compared_with() -> None:
    """The second known text repeats the first; what is like the second alone still goes."""
    known = ["a b c d", "b c d e"]
    assert repeats(["c d e f", "x"], Near(0.6, 1), known) == [Repeat(-1, 0.6), None]
    assert repeats(["a", "b", "a"], known=["b"]) == [None, Repeat(-1, 1.0), Repeat(0, 1.0)]


def test_a_file_without_repeats(tmp_path: Path) -> None:
    data = write(
        tmp_path / "a.jsonl",
        [
            {"prompt": "What is  2 + 2?", "completion": "4"},
            {"prompt": "what is 2 + 2?", "completion": "four"},
            {"prompt": "Name a big red colour", "completion": "red"},
            {"prompt": "Name a big red fruit", "completion": "apple"},
            {"prompt": "Held out", "completion": "x"},
        ],
    )
    other = write(tmp_path / "b.jsonl", [{"prompt": "held  out"}])
    path = curate(tmp_path / "exact", dedupe, data, against=other)
    assert [row["completion"] for row in rows(path)] == ["4", "red", "apple"]
    assert provenance(path)["counts"] == {
        "rows": 5, "that repeat another": 1, "that repeat the other file": 1, "kept": 3,
    }  # fmt: skip
    removed = rows(path.with_name("removed.jsonl"))
    assert [(each["row"], each["repeats"], Path(each["in"]).name) for each in removed] == [
        (2, 1, "a.jsonl"),
        (5, 1, "b.jsonl"),
    ]
    near = curate(tmp_path / "near", dedupe, data, near=WORDS)
    assert [row["completion"] for row in rows(near)] == ["4", "red", "x"]
    whole = curate(tmp_path / "row", dedupe, data, on="row")
    assert len(rows(whole)) == 5, "the answers differ"


def test_bad_settings(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="0 < threshold <= 1"):
        Near(threshold=0)
    with pytest.raises(InputError, match="unit words or characters"):
        Near(unit="lines")
    with pytest.raises(InputError, match="by their prompt or their row"):
        curate(tmp_path / "r", dedupe, write(tmp_path / "a.jsonl", [{"prompt": "a"}]), on="answer")
