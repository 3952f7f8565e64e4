"""Where a solution goes wrong, and scores that tell right solutions from wrong ones: counted by hand on planted verdicts."""

from __future__ import annotations

import random
from itertools import product as pairs

import pytest

from burnish.data.steps import ANSWER
from burnish.errors import InputError
from burnish.loops.localise import Checked, area, is_right, report, table
from burnish.types import Answer, Comparison, Step

CLEAN = Checked("a", (1, 0, 1), (0.9, 0.8, 0.9))
FOUND = Checked("b", (1, -1, 1), (0.9, 0.1, 0.9))
LATE = Checked("b", (1, -1, 1), (0.9, 0.8, 0.1))
ALTERNATIVE = Checked("c", (None, None, -1), (0.1, 0.1, 0.1))


def test_the_first_wrong_step_is_found_exactly_or_not_at_all() -> None:
    assert (CLEAN.wrong, FOUND.wrong, ALTERNATIVE.wrong) == (None, 1, 2)
    assert (CLEAN.found(0.5), FOUND.found(0.5), LATE.found(0.5)) == (None, 1, 2)
    found = report([CLEAN, FOUND, LATE], 0.5)
    assert found["first_wrong"]["mean"] == pytest.approx((1 + 0.5) / 2), (
        "prompt b has one of two right, and counts once"
    )
    assert found["with_error"]["mean"] == 0.5 and found["without"]["mean"] == 1.0
    assert found["f1"] == pytest.approx(2 * 0.5 * 1 / 1.5)
    assert found["constant"] == pytest.approx(2 / 3)


def test_steps_count_up_to_the_first_wrong_one() -> None:
    """What follows an error builds on it: whether it is right is not defined."""
    assert (CLEAN.judged, LATE.judged, ALTERNATIVE.judged) == ([0, 1, 2], [0, 1], [2])
    assert report([LATE], 0.5)["steps"]["mean"] == 0.5
    assert report([LATE], 0.15)["steps"]["mean"] == 1.0, "P(wrong) = .2 is above the threshold"


def test_a_solution_with_unrated_steps_says_nothing_of_where_it_goes_wrong() -> None:
    assert not ALTERNATIVE.whole and LATE.whole
    found = report([ALTERNATIVE], 0.5)
    assert "first_wrong" not in found and found["steps"]["mean"] == 1.0
    with pytest.raises(InputError, match="no step of the held-out solutions is rated"):
        report([Checked("a", (None,), (0.5,))], 0.5)


def test_scores_tell_apart_by_the_answer_where_it_is_known() -> None:
    right, wrong = Checked("a", (1, 1), (0.9, 0.8), True), Checked("b", (1, 1), (0.9, 0.7), False)
    by_answer = report([right, wrong], 0.5)["told_apart"]
    assert by_answer["by"] == "answers" and {by_answer[name]["area"] for name in ("product", "lowest", "mean")} == {1.0}
    by_steps = report([CLEAN, FOUND], 0.5)["told_apart"]
    assert by_steps["by"] == "steps" and by_steps["lowest"]["area"] == 1.0
    assert "told_apart" not in report([CLEAN], 0.5)


def test_a_right_answer_by_wrong_steps_is_a_case_of_its_own() -> None:
    """The outcome model sees two right answers; the process model sees a wrong step."""
    clean = Checked("a", (1, 1), (0.9, 0.9), True, outcome=3.0)
    lucky = Checked("b", (1, -1), (0.9, 0.1), True, outcome=3.0)
    found = report([clean, lucky], 0.5)["right_by_luck"]
    assert found["product"]["area"] == 1.0 and found["outcome"]["area"] == 0.5
    assert "sound above lucky, outcome" in [str(cell) for cell in table(report([clean, lucky], 0.5)).columns[0].cells]


def test_the_area_is_the_share_of_pairs_and_its_interval_covers() -> None:
    draw, hits = random.Random(0), 0
    for _ in range(300):
        a = [draw.gauss(1, 1) for _ in range(60)]
        b = [draw.gauss(0, 1) for _ in range(60)]
        found = area(a, b)
        assert found["area"] == pytest.approx(sum((x > y) + (x == y) / 2 for x, y in pairs(a, b)) / 3600, abs=1e-12)
        hits += found["low"] < 0.7602499 < found["high"]  # Phi(1 / sqrt 2)
    assert 0.92 <= hits / 300 <= 0.98
    assert area([1.0], [1.0])["area"] == 0.5


@pytest.mark.parametrize(
    ("text", "meta", "label", "right"),
    [
        (f"6 + 6 = 12{ANSWER}12", {"ground_truth_answer": "12"}, None, True),
        (f"6 + 6 = 13{ANSWER}13", {"ground_truth_answer": "12"}, None, False),
        ("6 + 6 = 13", {"ground_truth_answer": "12"}, None, None),
        (f"6 + 6 = 12{ANSWER}12", {}, None, None),
        ("anything", {}, 0.0, False),
    ],
    ids=["right", "wrong", "unfinished", "no-truth", "labelled"],
)
def test_whether_the_final_answer_is_right(
    text: str, meta: dict[str, str], label: float | None, right: bool | None
) -> None:
    reply = Answer(({"role": "assistant", "content": text},), label=label, steps=(Step(text, 1),))
    assert is_right(Comparison(({"role": "user", "content": "6 + 6?"},), (reply,), meta)) is right
