"""A mixture draws by weight and lets the right part grade."""

from __future__ import annotations

from collections import Counter

import pytest

from burnish.errors import InputError
from burnish.tasks.arithmetic import Arithmetic
from burnish.tasks.countdown import Countdown
from burnish.tasks.mixture import Mixture
from burnish.types import Completion

LARGEST, SUM, COUNTDOWN = Arithmetic(size=300), Arithmetic(kinds=("sum",), size=300), Countdown(size=300)
MIX = Mixture((LARGEST, SUM, COUNTDOWN), weights=(6.0, 1.0, 1.0))


def test_draws_are_fixed_and_follow_the_weights() -> None:
    assert len(MIX) == 900
    examples = list(MIX)
    assert examples == list(Mixture((LARGEST, SUM, COUNTDOWN), weights=(6.0, 1.0, 1.0)))
    parts = Counter(example.meta["task_index"] for example in examples)
    for part, share in enumerate((0.75, 0.125, 0.125)):
        assert parts[part] / 900 == pytest.approx(share, abs=0.04)
    assert examples != list(Mixture(MIX.tasks, MIX.weights, seed=1))
    only = Mixture((LARGEST, SUM), weights=(0.0, 1.0))
    assert {example.meta["kind"] for example in only} == {"sum"}


def test_the_part_that_asked_grades() -> None:
    for example in (MIX[i] for i in range(60)):
        right, wrong = Completion((), MIX.gold(example), (), "eos"), Completion((), example.answer, (), "eos")
        is_countdown = example.meta["kind"] == "countdown"
        assert MIX.measure(example, right) == {"accuracy": 1.0, "accuracy_strict": 1.0}
        assert [r[0].value for r in MIX.reward(example, [right, wrong])] == [1.0, 0.0 if is_countdown else 1.0]


def test_split_and_validation_reach_the_parts() -> None:
    test = MIX.with_split("test")
    assert isinstance(test, Mixture)
    assert test.tasks[0] == LARGEST.with_split("test")
    assert "disjoint" in MIX.validate(40)


@pytest.mark.parametrize("weights", [(1.0,), (0.0, 0.0), (-1.0, 2.0), (float("nan"), 1.0), (float("inf"), 1.0)])
def test_bad_weights(weights: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="weights"):
        Mixture((LARGEST, SUM), weights=weights)


def test_bad_parts() -> None:
    with pytest.raises(InputError, match="cannot hold a mixture"):
        Mixture((LARGEST, MIX))
    with pytest.raises(InputError, match="at least one task"):
        Mixture(())
