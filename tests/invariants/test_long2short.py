"""Kimi k1.5's four ways from long to short answers (arXiv:2501.12599, section 2.4), on policies that are enumerated.

A table thinks ("hm ") for a while, then answers; thinking helps a little. Each way has to cut the exact mean length by a
quarter, and may cost at most .03 of the exact accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from burnish.core.algorithms import DR_GRPO
from burnish.core.merging import Average
from burnish.core.preference import DPO
from burnish.data.comparisons import Comparisons
from burnish.data.datasets import Dataset
from burnish.engines.optim import Schedule
from burnish.engines.table import END
from burnish.loops.curate.pairs import Long2Short, long2short
from burnish.loops.curate.rejection import Rejection, Shortest, reject, shortest
from burnish.loops.fit import FitConfig, fit
from burnish.loops.merge import merge
from burnish.rewards.base import Composable, per_completion
from burnish.rewards.length import KimiLength
from burnish.run import Run
from burnish.types import Completion, Example, Reward, Sampling, outcome
from burnish.view import View
from words import ENGINE, Prompts, replies, train, write

LIMIT = 8
PROMPTS = Prompts(tuple(f"ask{i}" for i in range(8)))
LONG = {"hm ": 0.7, "yes": 0.22, "no": 0.08}
SHORT = {"hm ": 0.1, "yes": 0.7, "no": 0.2}
THINKING = {"hm ": 0.6, "yes": 0.31, "no": 0.09}
CUT, COST = 0.75, 0.03


@dataclass(frozen=True)
class Right(Composable):
    """1 for "yes" at the end; what is cut off is wrong."""

    @per_completion
    def __call__(self, example: Example, completion: Completion) -> Reward:  # noqa: ARG002
        return outcome(completion.text.endswith("yes") and completion.finish == "eos", "accuracy")


RIGHT = Right()


def table(directory: Path, first: Mapping[str, float], thinking: Mapping[str, float]) -> Path:
    """A policy that begins with ``first`` after every prompt and goes on with ``thinking``; its template closes replies."""
    words = dict.fromkeys(PROMPTS.words, first)
    write(directory, {**words, "hm ": thinking, "yes": {END: 1.0}, "no": {END: 1.0}})
    closed = (
        "{% for m in messages %}{{ m['content'] }}{% if m['role'] == 'assistant' %}" + END + "{% endif %}{% endfor %}"
    )
    (directory / "chat_template.jinja").write_text(closed)
    return directory


def measured(model: Path) -> tuple[float, float]:
    """The exact (accuracy, mean length in tokens) over all prompts."""
    accuracy = length = 0.0
    for example in PROMPTS:
        for chance, completion in replies(model, example, LIMIT):
            accuracy += chance * RIGHT(example, [completion])[0][0].value
            length += chance * len(completion.tokens)
    return accuracy / len(PROMPTS), length / len(PROMPTS)


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return table(tmp_path_factory.mktemp("thinker") / "table", LONG, THINKING)


def shorter(before: Path, after: Path) -> None:
    (was_right, was_long), (right, length) = measured(before), measured(after)
    assert length < CUT * was_long, f"{was_long:.2f} -> {length:.2f} tokens"
    assert right > was_right - COST, f"{was_right:.3f} -> {right:.3f} right"


def staged(out: Path, fn: Any, *args: Any, **kwargs: Any) -> Path:
    with Run.open(out, recipe="t", scale="tiny", seed=0, view=View(quiet=True)) as run:
        return Path(run.stage(fn, "s", *args, **kwargs))


def taught(out: Path, model: Path, data: Sequence[Any], *, steps: int, lr: float, **kwargs: Any) -> Path:
    cfg = FitConfig(steps=steps, batch=8, schedule=Schedule(lr), engine=ENGINE, checkpoint_every=steps)
    return staged(out, fit, model, data, cfg=cfg, **kwargs)


DRAW = {"samples": 8, "sampling": Sampling(max_tokens=LIMIT), "engine": ENGINE}


def test_thinking_helps_and_is_long(thinker: Path) -> None:
    right, length = measured(thinker)
    assert 0.7 < right < 0.8 and length > 3.5
    assert SHORT["yes"] / (SHORT["yes"] + SHORT["no"]) <= THINKING["yes"] / (THINKING["yes"] + THINKING["no"]) + 0.01


def test_the_average_of_a_long_and_a_short_model(thinker: Path, tmp_path: Path) -> None:
    brief = table(tmp_path / "brief", SHORT, {**THINKING, "hm ": 0.1, "yes": 0.7, "no": 0.2})
    shorter(thinker, staged(tmp_path / "run", merge, [thinker, brief], method=Average()))


def test_fine_tuning_on_the_shortest_right_of_eight(thinker: Path, tmp_path: Path) -> None:
    data = Dataset(staged(tmp_path / "data", shortest, thinker, PROMPTS, reward=RIGHT, cfg=Shortest(**DRAW)))
    assert len(data) == len(PROMPTS), "of eight, one is right"
    tuned = taught(tmp_path / "run", thinker, data, steps=10, lr=0.1)
    shorter(thinker, tuned)
    any_right = Dataset(staged(tmp_path / "any", reject, thinker, PROMPTS, reward=RIGHT, cfg=Rejection(**DRAW)))
    same = taught(tmp_path / "same", thinker, any_right, steps=10, lr=0.1)
    assert measured(same)[1] > measured(tuned)[1] + 0.2, "that they are right does not make them as short"


def test_preferences_for_the_shortest_right_one(thinker: Path, tmp_path: Path) -> None:
    data = Comparisons(staged(tmp_path / "data", long2short, thinker, PROMPTS, reward=RIGHT, cfg=Long2Short(**DRAW)))
    assert len(data) > len(PROMPTS)
    shorter(thinker, taught(tmp_path / "run", thinker, data, steps=10, lr=0.1, loss=DPO))


def test_reinforcement_learning_with_the_length_reward_and_a_lower_limit(thinker: Path, tmp_path: Path) -> None:
    reward = RIGHT + 0.5 * KimiLength(RIGHT)
    settings: dict[str, Any] = {"steps": 8, "group": 16, "lr": 0.2}
    tuned = train(tmp_path / "run", thinker, PROMPTS, reward, DR_GRPO, limit=5, **settings)
    shorter(thinker, tuned)
    alone = train(tmp_path / "alone", thinker, PROMPTS, RIGHT, DR_GRPO, limit=LIMIT, **settings)
    assert measured(alone)[1] > measured(tuned)[1] + 0.2, "accuracy alone does not ask for it"
