"""The recipe process-reward-model: rated steps from a file or from rollouts, what is measured, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from burnish import config
from burnish.core.process import StepBinary, soft
from burnish.core.reward_models import BRADLEY_TERRY, MATH_SHEPHERD, PRM800K
from burnish.data.comparisons import Comparisons
from burnish.data.steps import ANSWER
from burnish.errors import InputError
from burnish.loops.fit import fit
from burnish.loops.step_labels import Rated, Rollouts
from burnish.recipes import catalog
from burnish.recipes.process_reward_model import SCALES, StepJudging, Stepped, main
from burnish.run import Run
from burnish.tasks.arithmetic import Arithmetic
from burnish.tasks.userdata import Part
from burnish.types import Example, Sampling
from burnish.view import View

FIXTURES = Path(__file__).parents[1] / "data" / "fixtures"
SMALL = replace(SCALES["tiny"].fit, steps=60, batch=16)


def lines(path: Path, rows: Sequence[object]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def copies(count: int = 60) -> list[dict[str, object]]:
    """Answers of three steps to three letters; every second one has a wrong letter at a place that goes round."""
    rows = []
    for i in range(count):
        asked = [chr(97 + place % 26) for place in (i, i // 26, 3 * i)]
        wrong = (i // 2) % 3 if i % 2 else None
        steps = ["#" if k == wrong else letter for k, letter in enumerate(asked)]
        rows.append({"prompt": " ".join(asked), "completions": steps, "labels": [step != "#" for step in steps]})
    return rows


def solved(count: int = 88) -> list[dict[str, object]]:
    """PRM800K lines of one step with the final answer: whether the reasoning is right says nothing of the answer."""
    rows = []
    for i in range(count):
        reason, answer = ("good", "b#d")[i % 2], ("7", "#")[i // 2 % 2]
        rating = 1 if i % 4 == 0 else -1
        step = {"text": f"{reason}{ANSWER}{answer}", "rating": rating, "flagged": None}
        label = {"steps": [{"completions": [step], "human_completion": None, "chosen_completion": 0}]}
        question = {"problem": f"Seven and {i}?", "ground_truth_answer": "7"}
        rows.append({"question": question, "label": {**label, "finish_reason": "solution"}})
    return rows


@pytest.fixture
def settings(tmp_path: Path, nano: Path) -> StepJudging:
    data = lines(tmp_path / "steps.jsonl", copies())
    return replace(SCALES["tiny"], model=str(nano), data=data, heldout=20, fit=SMALL)


def run_it(out: Path, settings: StepJudging) -> tuple[Path, dict[str, Any]]:
    view = View(quiet=True)
    with Run.open(out, recipe="process-reward-model", scale="tiny", config=settings, seed=0, view=view) as run:
        model = main(run, settings)
    return Path(model), json.loads((out / "summary.json").read_text())["2-process"].get("heldout", {})


@pytest.mark.parametrize(("loss", "out"), [(PRM800K, 3), (StepBinary(), 1)], ids=["classes", "binary"])
def test_it_finds_the_first_wrong_step_of_held_out_solutions(
    loss: Any, out: int, settings: StepJudging, tmp_path: Path
) -> None:
    model, held = run_it(tmp_path / "run", replace(settings, loss=loss))
    assert load_file(model / "heads.safetensors")["step.weight"].shape == (out, 192)
    assert held["first_wrong"]["n"] == 20 and held["first_wrong"]["low"] > held["constant"]
    assert held["steps"]["low"] > 0.5 and held["f1"] > 0.5
    assert held["told_apart"]["by"] == "steps" and held["told_apart"]["product"]["low"] > 0.5
    again = replace(settings, model=str(model), loss=loss, fit=replace(SMALL, steps=1))
    run_it(tmp_path / "again", again)
    assert (tmp_path / "again" / "1-before" / "done.json").is_file(), "a model with a head is measured before too"


def test_the_outcome_model_accepts_right_answers_by_wrong_steps(settings: StepJudging, tmp_path: Path) -> None:
    """Both are trained on the same solutions: one sees the steps, the other only where they end."""
    data = lines(tmp_path / "prm.jsonl", solved())
    own = replace(settings, data=data, outcome=True, heldout=30)
    _, held = run_it(tmp_path / "run", own)
    assert held["told_apart"]["by"] == "answers" and held["told_apart"]["outcome"]["low"] > 0.5
    sound, outcome = held["right_by_luck"]["product"], held["right_by_luck"]["outcome"]
    assert sound["low"] > outcome["area"], "the outcome model takes one for the other"
    assert load_file(tmp_path / "run" / "2-outcome" / "model" / "heads.safetensors")["score.weight"].shape == (1, 192)


TASK = Arithmetic(kinds=("largest",), numbers=2, low=0, high=9)


@dataclass(frozen=True)
class Guesses:
    """A number of the question, then one of them at random as the answer."""

    def __len__(self) -> int:
        return 160

    def __getitem__(self, index: int) -> Example:
        found = TASK[index]
        operands = found.meta["operands"]
        text = f"{operands[0]} {operands[index % 2]}"
        return Example((*found.messages, {"role": "assistant", "content": text}))


@pytest.fixture(scope="module")
def guesser(nano: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that is right now and then."""
    out, cfg = tmp_path_factory.mktemp("guesser") / "run", replace(SMALL, steps=25)
    with Run.open(out, recipe="t", scale="tiny", config=cfg, seed=0, view=View(quiet=True)) as run:
        return Path(run.stage(fit, "fit", nano, Guesses(), cfg=cfg))


def test_steps_that_rollouts_rate(tmp_path: Path, guesser: Path) -> None:
    labels = Rollouts(
        prompts=20, solutions=3, samples=2, separator=" ", sampling=Sampling(max_tokens=12), engine=SMALL.engine
    )
    own = replace(
        SCALES["tiny"], model=str(guesser), task=TASK, labels=labels, loss=MATH_SHEPHERD, heldout=20, outcome=True,
        fit=replace(SMALL, steps=2),
    )  # fmt: skip
    _, held = run_it(tmp_path / "run", own)
    rated = Rated(tmp_path / "run" / "0-labels" / "rated.jsonl")
    assert {item.answers[0].label for item in rated} == {0.0, 1.0}
    for item in rated:
        steps = item.answers[0].steps
        assert "".join(step.text for step in steps) == item.answers[0].messages[0]["content"]
        assert (steps[-1].rating == 1) == (item.answers[0].label == 1), "the last step is the outcome"
    assert max(len(item.answers[0].steps) for item in rated) > 1
    assert held["told_apart"]["by"] == "answers" and "outcome" in held["told_apart"]
    content = (tmp_path / "run" / "0-labels" / "rated.jsonl").read_bytes()
    run_it(tmp_path / "again", own)
    assert (tmp_path / "again" / "0-labels" / "rated.jsonl").read_bytes() == content, "all randomness is derived"


def test_problems_nobody_solves_teach_nothing(tmp_path: Path, nano: Path) -> None:
    labels = Rollouts(prompts=2, solutions=2, samples=1, sampling=Sampling(max_tokens=40), engine=SMALL.engine)
    own = replace(SCALES["tiny"], model=str(nano), task=Arithmetic(kinds=("product",), low=50), labels=labels)
    with pytest.raises(InputError, match="all are wrong, so that their steps cannot be told apart"):
        run_it(tmp_path / "run", own)


def test_every_stepped_format_is_read(settings: StepJudging) -> None:
    sizes = {
        name: len(Stepped(Part(Comparisons(FIXTURES / name))))
        for name in ("stepwise.jsonl", "prm800k.jsonl", "prm800k-rows.jsonl")
    }
    assert all(sizes.values())
    kept = Stepped(Part(Comparisons(settings.data)), skip=(0, 3))
    assert len(kept) == 58 and len(Stepped(Part(Comparisons(settings.data)), outcome=True)) == 0


def test_settings_by_name() -> None:
    tiny = catalog.get("process-reward-model").SCALES["tiny"]
    changed = config.apply(tiny, ["loss=math-shepherd", "labels.label=soft", "task=arithmetic", "outcome=true"])
    assert (changed.loss, changed.labels.label, changed.outcome) == (MATH_SHEPHERD, soft, True)
    assert config.apply(tiny, ["loss=prm_binary"]).loss == StepBinary()
    assert config.apply(tiny, ["loss=prm800k", "loss.beyond=true"]).loss == replace(PRM800K, beyond=True)
    for override in ("threshold=0", "labels.samples=0", "labels.separator="):
        with pytest.raises(InputError):
            config.apply(tiny, [override])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": ""}, "process-reward-model has no steps to train on: add either data=FILE"),
        ({"task": Arithmetic()}, "both data and task"),
        ({"data": "preference.jsonl"}, "data of kind 'preference', and process-reward-model trains on"),
        ({"loss": BRADLEY_TERRY}, "judges answers, not steps: choose loss=prm800k, or run reward-model"),
        ({"policy": "nano"}, "the steps of a file are rated already"),
        ({"outcome": True}, "needs right and wrong final answers, and of those of these solutions none is known"),
        ({"fit": replace(SMALL, max_length=9)}, "more than 9"),
    ],
    ids=["no-data", "two-sources", "pairs", "outcome-loss", "policy", "no-answers", "long"],
)
def test_what_does_not_fit_is_named_with_the_way_out(
    changes: dict[str, Any], message: str, settings: StepJudging, tmp_path: Path
) -> None:
    if changes.get("data"):
        changes = {**changes, "data": str(FIXTURES / changes["data"])}
    with pytest.raises(InputError, match=re.escape(message)):
        run_it(tmp_path / "run", replace(settings, heldout=0, **changes))
