"""The audit lists exactly the cases that a reward gets wrong."""

from __future__ import annotations

from dataclasses import dataclass

from burnish.rewards.audit import Case, accept, audit, refuse
from burnish.rewards.base import Composable, per_completion
from burnish.types import Completion, Example, Reward, outcome

SUM = Example(({"role": "user", "content": "2+2"},), "4")


@dataclass(frozen=True)
class Contains(Composable):
    """The mistake that many make: a substring is taken for an answer."""

    @per_completion
    def __call__(self, example: Example, completion: Completion) -> Reward:
        return outcome(str(example.answer) in completion.text, "contains")


def test_false_positives_and_negatives_are_told_apart() -> None:
    fooled = refuse(SUM, "14", "substring")
    missed = accept(SUM, "four", "in words")
    found = audit(Contains(), [accept(SUM, "4", "plain"), fooled, missed, refuse(SUM, "5", "wrong")])
    assert (found.accepted, found.refused) == (2, 2)
    assert [m.case for m in found.false_positives] == [fooled] and found.false_positives[0].value == 1
    assert [m.case for m in found.false_negatives] == [missed] and found.false_negatives[0].value == 0


def test_a_graded_case_has_bounds_on_both_sides() -> None:
    half = Case(SUM, "4", 0.4, 0.6, "half right")
    assert audit(0.5 * Contains(), [half]).false_positives == ()
    assert len(audit(Contains(), [half]).false_positives) == 1
    assert len(audit(0.3 * Contains(), [half]).false_negatives) == 1


def test_what_may_get_nothing_counts_as_refused() -> None:
    found = audit(0.0 * Contains(), [Case(SUM, "4", 0.0, 1.0, "anything goes"), Case(SUM, "4", -1.0, 0.0, "no more")])
    assert (found.accepted, found.refused) == (0, 2)
    assert found.false_positives == found.false_negatives == ()
