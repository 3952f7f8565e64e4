"""No value outnumbers the others, and length tells nothing about preference."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.errors import InputError
from burnish.loops.curate.balancing import balance, balance_pairs, capped
from curating import curate, provenance, rows, write


@given(labels=st.lists(st.sampled_from("abc"), max_size=30), most=st.integers(0, 5), seed=st.integers(0, 3))
def test_no_label_exceeds_the_cap_and_none_loses_more(labels: list[str], most: int, seed: int) -> None:
    kept = capped(labels, most, seed=seed)
    limit = most or min(Counter(labels).values(), default=0)
    assert kept == sorted(set(kept))
    assert Counter(labels[i] for i in kept) == {label: min(limit, n) for label, n in Counter(labels).items()}


def test_which_stay_is_drawn() -> None:
    labels = ["a"] * 100
    first, again, other = capped(labels, 10), capped(labels, 10), capped(labels, 10, seed=1)
    assert first == again != other and first != list(range(10))


def test_by_column_and_by_length(tmp_path: Path) -> None:
    lines = [{"prompt": "x" * 10, "answer": "A"}] * 5 + [{"prompt": "x" * (100 + i), "answer": "B"} for i in range(2)]
    data = write(tmp_path / "a.jsonl", lines)
    path = curate(tmp_path / "column", balance, data, by="answer")
    assert Counter(row["answer"] for row in rows(path)) == {"A": 2, "B": 2}
    assert provenance(path)["counts"] == {"rows": 7, "values of 'answer'": 2, "kept": 4}
    by_length = curate(tmp_path / "length", balance, data, by="characters", most=1)
    assert [row["answer"] for row in rows(by_length)] == ["A", "B"]
    with pytest.raises(InputError, match="row 1 has no column 'domain', only prompt, answer"):
        curate(tmp_path / "none", balance, data, by="domain")
    with pytest.raises(InputError, match="most=-1"):
        curate(tmp_path / "less", balance, data, by="answer", most=-1)


def test_pairs_by_length(tmp_path: Path) -> None:
    """Of 20 pairs whose longer answer is better and 5 the other way round, 5 of each stay; the rows stay as they were."""
    pairs = [{"prompt": "q", "chosen": "y" * 9, "rejected": "n", "id": i} for i in range(20)]
    pairs += [{"prompt": "q", "chosen": "y", "rejected": "n" * 9, "id": i} for i in range(20, 25)]
    path = curate(tmp_path / "r", balance_pairs, write(tmp_path / "a.jsonl", pairs), buckets=1)
    kept = rows(path)
    assert Counter(len(row["chosen"]) > len(row["rejected"]) for row in kept) == {True: 5, False: 5}
    assert [row for row in pairs if row in kept] == kept
    assert provenance(path)["counts"] == {"pairs": 25, "kept": 10}
    with pytest.raises(InputError, match="rows of kind 'prompt-completion', which are no pairs: give rows with chosen"):
        curate(tmp_path / "none", balance_pairs, write(tmp_path / "b.jsonl", [{"prompt": "q", "completion": "y"}]))
