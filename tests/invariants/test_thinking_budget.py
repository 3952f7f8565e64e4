"""More thinking is more accurate, up to a point (s1, arXiv:2501.19393), on a table whose accuracy is known for every budget.

A thought is a series of guesses, "5 " or "6 ", and the answer is the last of them. The policy corrects a wrong guess more
often than it leaves a right one, and stops thinking early.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from burnish.core.intervals import wilson
from burnish.engines.table import END
from burnish.loops.evaluate import EvalConfig, evaluate
from burnish.run import Run
from burnish.sampling import Thinking
from burnish.types import Completion, Example, Sampling
from burnish.view import View
from words import ENGINE, Prompts, write

SAMPLES = 1500
WORDS = {
    "ask": {"5 ": 0.8, "6 ": 0.2},
    "5 ": {"5 ": 0.3, "6 ": 0.3, "</think>": 0.4},
    "6 ": {"6 ": 0.58, "5 ": 0.02, "</think>": 0.4},
    "Wait ": {"5 ": 0.2, "6 ": 0.8},
    "</think>": {END: 1.0},
}


@dataclass(frozen=True)
class Last(Prompts):
    """Right is a thought whose last guess is 6."""

    def measure(self, example: Example, completion: Completion) -> dict[str, float]:  # noqa: ARG002
        thought, closed, _ = completion.text.partition("</think>")
        return {"accuracy": float(bool(closed) and thought.replace("Wait ", "").split()[-1:] == ["6"])}


def exact(budget: Thinking) -> float:
    """The accuracy, summed over what may have been said: (last word, last guess) after each token."""
    now, right = {("ask", ""): 1.0}, 0.0
    for said in range(budget.maximum):
        after: dict[tuple[str, str], float] = {}
        for (word, guess), chance in now.items():
            for following, share in WORDS[word].items():
                closes = following == "</think>"
                if closes and said >= budget.minimum:
                    right += chance * share * (guess == "6 ")
                    continue
                then = ("Wait ", guess) if closes else (following, following)
                after[then] = after.get(then, 0.0) + chance * share
        now = after
    return right + sum(chance for (_, guess), chance in now.items() if guess == "6 ")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("thinker") / "table", WORDS)


def sampled(table: Path, out: Path, budget: Thinking) -> dict[str, Any]:
    """What the evaluation finds, and the lengths of the thoughts."""
    cfg = EvalConfig(
        n=1, samples=SAMPLES, sampling=Sampling(max_tokens=budget.maximum + 2, thinking=budget), engine=ENGINE
    )
    with Run.open(out, recipe="t", scale="tiny", seed=0, view=View(quiet=True)) as run:
        found = run.stage(evaluate, "eval", table, Last(("ask",)), cfg=cfg)
    texts = [text.partition("</think>")[0].split() for item in found["items"] for text in item["completions"]]
    return {"accuracy": found["summary"]["accuracy"]["mean"], "lengths": {len(words) for words in texts}}


def test_accuracy_rises_with_the_budget_and_saturates(table: Path, tmp_path: Path) -> None:
    """Every thought has exactly 1, 2, 4, 8, 16 tokens."""
    budgets = [Thinking(minimum=k, maximum=k, wait="Wait ") for k in (1, 2, 4, 8, 16)]
    known = [exact(budget) for budget in budgets]
    assert all(after > before for before, after in pairwise(known))
    assert known[0] == pytest.approx(0.2) and known[2] > known[0] + 0.4, "it rises"
    assert known[2] - known[1] > 0.1 and known[-1] - known[-2] < 0.02, "and saturates"
    for budget, accuracy in zip(budgets, known, strict=True):
        found = sampled(table, tmp_path / str(budget.minimum), budget)
        assert found["lengths"] == {budget.minimum}
        low, high = wilson(found["accuracy"] * SAMPLES, SAMPLES)
        assert low - 0.02 < accuracy < high + 0.02, "as far as samples can say, it is what it is exactly"


def test_a_minimum_alone_and_a_maximum_alone(table: Path, tmp_path: Path) -> None:
    """Waiting helps a policy that stops early, and a maximum costs it what it would have found later."""
    plain, waiting, cut = (
        Thinking(maximum=30, wait="Wait "),
        Thinking(minimum=8, maximum=30, wait="Wait "),
        Thinking(maximum=2, wait="Wait "),
    )
    known = [exact(budget) for budget in (cut, plain, waiting)]
    assert all(after > before + 0.05 for before, after in pairwise(known))
    lengths = []
    for name, budget, accuracy in zip(("cut", "plain", "waiting"), (cut, plain, waiting), known, strict=True):
        found = sampled(table, tmp_path / name, budget)
        assert found["accuracy"] == pytest.approx(accuracy, abs=0.045)
        lengths.append(found["lengths"])
    assert lengths[0] == {1, 2}
    assert min(lengths[1]) == 1 and min(lengths[2]) == 8, "a closing at the minimum stands"
