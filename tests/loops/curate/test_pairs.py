"""Preference pairs: which two, in the format that losses on pairs read."""

from __future__ import annotations

from pathlib import Path

import pytest
from quiz import SETTINGS, TABLE, Quiz, curate, group, provenance, rows

from burnish.data.comparisons import Comparisons
from burnish.errors import InputError
from burnish.loops.curate.base import Scored
from burnish.loops.curate.pairs import BestWorst, Long2Short, Pair, best_worst, long2short, prefer, short_long
from words import write


def texts(pairs: list[Pair]) -> list[tuple[str, str]]:
    return [(pair.chosen.completion.text, pair.rejected.completion.text) for pair in pairs]


def test_the_best_above_the_worst() -> None:
    some = group("a", ("b", 0.5), ("a", 1.0), ("a too", 1.0), ("c", 0.25), ("c too", 0.25))
    assert texts(best_worst(some)) == [("a", "c")]
    assert texts(best_worst(some, margin=0.75)) == [("a", "c")] and best_worst(some, margin=0.8) == []
    assert best_worst(group("a", ("a", 1.0), ("b", 1.0))) == [] == best_worst([])


def lengths(*judged: tuple[float, int]) -> list[Scored]:
    return group("a", *((f"reply {place}", reward, length) for place, (reward, length) in enumerate(judged)))


def test_kimis_rules_for_short_above_long() -> None:
    """The shortest right one above longer wrong ones and right ones of at least 1.5 times its length, exactly."""
    some = lengths((1, 12), (1, 8), (0, 9), (0, 8), (0, 4), (1, 11), (1, 8), (0, 30))
    assert texts(short_long(some)) == [("reply 1", "reply 7"), ("reply 1", "reply 0"), ("reply 1", "reply 2")]
    assert texts(short_long(some, most=1)) == [("reply 1", "reply 7")]
    assert len(short_long(some, ratio=1.3)) == 4 and len(short_long(some, ratio=1.51)) == 2
    assert short_long(lengths((0, 3), (0, 9))) == [], "nothing is right"
    assert short_long(lengths((1, 3), (1, 4), (0, 2))) == [], "nothing is too long"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("quiz") / "table", TABLE)


def test_pairs_are_read_as_comparisons(model: Path, tmp_path: Path) -> None:
    path = curate(tmp_path / "run", prefer, model, Quiz(), cfg=BestWorst(samples=24, **SETTINGS))
    for comparison, row in zip(Comparisons(path), rows(path), strict=True):
        better, worse = comparison.answers
        assert better.messages[-1]["content"].endswith("yes") and worse.messages[-1]["content"].endswith("no")
        assert (better.scores["score"], worse.scores["score"]) == (1, 0) == (row["score_chosen"], row["score_rejected"])
    assert list(provenance(path)["counts"]) == ["prompts", "completions", "that end", "pairs"]


def test_short_is_chosen_above_long(model: Path, tmp_path: Path) -> None:
    cfg = Long2Short(samples=24, **SETTINGS)
    path = curate(tmp_path / "run", long2short, model, Quiz(), cfg=cfg)
    found = rows(path)
    assert len(found) == len(Comparisons(path)) >= 4
    assert {row["chosen"][0]["content"] for row in found} == {"yes"}
    assert all(row["length_rejected"] >= 1.5 * row["length_chosen"] or not row["score_rejected"] for row in found)
    assert all(row["length_rejected"] > row["length_chosen"] for row in found)


def test_what_was_cut_off_is_in_no_pair(tmp_path: Path) -> None:
    slow = write(tmp_path / "table", {**TABLE, "hm ": {"hm ": 0.9, "yes": 0.1}})
    path = curate(tmp_path / "run", long2short, slow, Quiz(), cfg=Long2Short(samples=24, **SETTINGS))
    counts = provenance(path)["counts"]
    assert counts["that end"] < counts["completions"] - 4
    assert all(row["rejected"][0]["content"].endswith(("yes", "no")) for row in rows(path))


def test_where_all_are_alike_there_is_no_pair(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing is left to write \(.* 0 pairs\)"):
        curate(tmp_path / "run", prefer, model, Quiz(), cfg=BestWorst(margin=2.0, **SETTINGS))
