"""The report on a reward model: every number against one worked out by hand, and all of them together for a real model."""

from __future__ import annotations

import io
import math
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from burnish.core.intervals import correlation, wilson
from burnish.engines.local import Engine, LocalModel
from burnish.errors import InputError
from burnish.loops.calibrate import Scored, Verdict, calibrate, calibration, report, table, verdicts_of
from burnish.loops.reward_model import RewardModel
from burnish.run import Run
from burnish.types import Answer, Comparison, Head, Message
from burnish.view import View


def said(text: str, role: str = "assistant") -> Message:
    return {"role": role, "content": text}


def item(scores: Sequence[float], ranks: Sequence[int | None], lengths: Sequence[int] = (), **label: float) -> Scored:
    """A judged prompt. ``label`` is that of the first answer, the others have the rest of 1."""
    lengths = lengths or [1] * len(scores)
    given = [label.get("label"), *([1 - label["label"]] * (len(scores) - 1) if label else [None] * (len(scores) - 1))]
    answers = tuple(
        Answer((said("x" * n),), rank=rank, label=p) for n, rank, p in zip(lengths, ranks, given, strict=True)
    )
    return Scored(Comparison((said("q", "user"),), answers), tuple(scores), tuple((s,) for s in scores), tuple(lengths))


def test_accuracy_has_wilsons_interval() -> None:
    scored = [item([2, 1], [0, 1])] * 7 + [item([2, 1], [1, 0])] * 3
    found = report(scored)
    low, high = wilson(7, 10)
    assert found["accuracy"] == {"mean": 0.7, "low": low, "high": high, "n": 10}
    assert (found["prompts"], found["verdicts"]) == (10, 10)


def test_a_prompt_counts_once_and_equal_scores_half() -> None:
    found = report([item([3, 2, 2, 1], [0, 1, 2, 3]), item([1, 1], [0, 1]), item([5, 1], [0, 0])])
    assert found["accuracy"]["mean"] == pytest.approx((5.5 / 6 + 0.5) / 2)
    assert (found["accuracy"]["n"], found["verdicts"], found["prompts"]) == (2, 7, 3)


def test_verdicts_are_on_pairs_or_else_on_labels() -> None:
    assert verdicts_of(item([2, 0.5], [1, 0])) == [Verdict(pytest.approx(1 / (1 + math.exp(1.5))), 1.0)]
    assert verdicts_of(item([2, 0.5], [0, 1], label=0.6))[0].label == 0.6
    assert verdicts_of(item([0.0], [None], label=1.0)) == [Verdict(0.5, 1.0)]
    assert verdicts_of(item([2, 1], [0, 0])) == verdicts_of(item([2, 1], [None, 0])) == []
    with pytest.raises(InputError, match="nothing to compare with"):
        report([item([2, 1], [0, 0])])


def test_the_calibration_error_by_hand() -> None:
    """.9 sure and right in 1 of 2, .6 sure and right: (2/3)(.9 - .5) + (1/3)(1 - .6). A label of .5 agrees half."""
    verdicts = [Verdict(0.9, 1.0), Verdict(0.1, 1.0), Verdict(0.6, 1.0)]
    found = calibration(verdicts, bins=5)
    assert found["error"] == pytest.approx(2 / 3 * 0.4 + 1 / 3 * 0.4)
    assert [(b["n"], b["confidence"], b["agreement"]) for b in found["bins"]] == [(1, 0.6, 1.0), (2, 0.9, 0.5)]
    assert all(b["low"] - 1e-9 <= b["confidence"] <= b["high"] + 1e-9 for b in found["bins"])
    assert calibration([Verdict(1.0, 0.5)])["error"] == pytest.approx(0.5)
    assert calibration([Verdict(0.5, 1.0)])["error"] == 0


def test_a_judge_that_says_what_is_so_is_calibrated_and_an_overconfident_one_is_not() -> None:
    draw = random.Random(0)
    gaps = [draw.gauss(0, 1.5) for _ in range(4000)]
    ranks = [(0, 1) if draw.random() < 1 / (1 + math.exp(-gap)) else (1, 0) for gap in gaps]
    honest, sure = (
        report([item([by * gap, 0], own) for gap, own in zip(gaps, ranks, strict=True)]) for by in (1.0, 4.0)
    )
    assert honest["calibration"]["error"] < 0.03
    assert sure["calibration"]["error"] > 0.1
    assert honest["accuracy"] == sure["accuracy"], "how sure it is says nothing of how often it is right"


def test_length_is_compared_over_all_and_within_prompts() -> None:
    """Within each prompt the longer one scores less; prompts with long answers score more."""
    scored = [item([10 * k + 1, 10 * k], [0, 1], lengths=[10 * k + 1, 10 * k + 3]) for k in range(1, 9)]
    found = report(scored)["length"]
    assert found["characters"]["r"] > 0.9 and found["tokens"] == found["characters"]
    assert found["within"]["r"] == pytest.approx(-1)
    assert found["longer"]["model"]["mean"] == found["longer"]["labels"]["mean"] == 0
    x, y = [s for i in scored for s in i.scores], [float(n) for i in scored for n in i.tokens]
    wide, narrow = found["characters"], correlation(x, y, len(x))
    assert narrow is not None and wide["low"] < narrow[1], "two answers to one prompt are not two witnesses"


def test_what_never_varies_has_no_correlation() -> None:
    assert report([item([2, 1], [0, 1])] * 5)["length"]["characters"] is None
    assert report([item([2, 1], [0, 1])] * 5)["length"]["longer"] == {}


def test_attributes_are_compared_with_their_targets() -> None:
    answers = tuple(Answer((said("x"),), rank=i, scores={"a": 2.0} if i else {}) for i in range(2))
    scored = Scored(Comparison((said("q", "user"),), answers), (1.0, 0.0), ((1.0, 4.0), (0.0, 5.0)), (1, 1))
    found = report([scored] * 4, attributes=("a", "b"))["attributes"]
    assert found["a"] == {"mean": 0.5, "n": 4, "target": 2.0, "rmse": 2.0, "correlation": None}
    assert found["b"] == {"mean": 4.5, "n": 0}


def test_the_table_says_all_of_it() -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    answers = tuple(Answer((said("x" * n),), rank=i, scores={"help": 2.0}) for i, n in enumerate((3, 5)))
    varied = [
        Scored(Comparison((said("q", "user"),), answers), (1.0 + k, 0.0), ((1.0 + k,), (0.0,)), (3, 5))
        for k in range(6)
    ]
    console.print(table(report(varied, attributes=("help",))))
    shown = console.export_text()
    for part in (
        "accuracy",
        "1.000 [",
        "6 verdicts on 6 prompts",
        "calibration",
        "r = -",
        "within a prompt",
        "target 2.00",
    ):
        assert part in shown
    assert "preferred in 0% of pairs, better in 0% of them" in shown


def test_a_stage_reports_on_a_model(nano: Path, tmp_path: Path) -> None:
    engine = Engine(dtype="float32", device="cpu")
    model = LocalModel(nano, engine, heads={"score": Head(at="last", spread=1.0)})
    (tmp_path / "judge").mkdir()
    model.export(tmp_path / "judge")
    pairs = [
        Comparison((said(f"q{i}", "user"),), (Answer((said("a" * (1 + i)),), rank=0), Answer((said("b"),), rank=1)))
        for i in range(6)
    ]
    reward = RewardModel(tmp_path / "judge", engine=engine)
    with Run.open(tmp_path / "run", recipe="t", scale="tiny", seed=0, view=View(quiet=True)) as run:
        found = run.stage(calibrate, "report", reward, pairs)
    expected = reward.scores([(p.prompt, a.messages[0]["content"]) for p in pairs for a in p.answers])
    assert found["scores"]["mean"] == pytest.approx(sum(expected) / 12, abs=1e-6)
    right = [a > b for a, b in zip(expected[::2], expected[1::2], strict=True)]
    assert found["accuracy"]["mean"] == sum(right) / 6
    assert set(found) == {"prompts", "verdicts", "accuracy", "calibration", "length", "scores", "attributes"}
