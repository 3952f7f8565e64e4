"""What a run prints at its edges."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from burnish.data import units
from burnish.engines.local import Engine, LocalModel
from burnish.errors import InputError
from burnish.loops import report
from burnish.loops.rollouts import Group
from burnish.run import Artifact, Run
from burnish.stage import Stage
from burnish.types import Example, Rollout, outcome
from burnish.view import View


def console() -> Console:
    return Console(record=True, width=120, file=io.StringIO())


def test_the_first_example_marks_exactly_the_trained_tokens(nano: Path, tmp_path: Path) -> None:
    model = LocalModel(nano, Engine(dtype="float32", device="cpu"))
    row = model.chat.encode_dialogue([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}])
    screen = console()
    stage = Stage(tmp_path / "s", seed=0, view=View(screen))
    report.first_example(stage, model, units.collate([units.supervised(*row)]))
    assert "<|user|>hi<|end|><|assistant|>⟦yo<|end|>⟧" in screen.export_text()
    with pytest.raises(InputError, match="no token of the batch would be trained"):
        batch = units.collate([units.supervised(*row)])
        report.first_example(stage, model, type(batch)(**{**vars(batch), "mask": batch.mask & False}))


def group(*rewards: float) -> Group:
    rollouts = tuple(Rollout((1,), (2,), (True,), (0.0,), outcome(r), 0, i) for i, r in enumerate(rewards))
    return Group(0, Example(()), rollouts, ("",) * len(rewards))


def test_the_rehearsal_says_what_there_is_to_learn() -> None:
    mixed = report.rehearsal_summary([group(0, 2, 0, 0), group(2, 2, 2, 2)])
    assert "mean reward 1.250, best 2.000" in mixed and "zero variance 1/2" in mixed
    assert "base rate (share at the best reward) 0.62;" in mixed
    assert "nothing to learn from" not in mixed
    assert "unknown: all rewards are equal" in report.rehearsal_summary([group(0, 0)])
    assert "nothing to learn from" in report.rehearsal_summary([group(0, 0), group(1, 1)])


def test_single_completions_are_compared_with_each_other() -> None:
    assert "nothing to learn from" not in report.rehearsal_summary([group(0), group(1), group(1)])
    assert "nothing to learn from" in report.rehearsal_summary([group(1), group(1)])


def result(*accuracies: float) -> dict[str, Any]:
    mean = sum(accuracies) / len(accuracies)
    items = [
        {"prompt": f"q{i}", "answer": "a", "completions": [f"c{a}"], "scores": [{"accuracy": a}]}
        for i, a in enumerate(accuracies)
    ]
    summary = {"n": len(items), "accuracy": {"mean": mean, "low": 0.0, "high": 1.0, "n": len(items)}}
    measures = {"accuracy": [(a, 1.0) for a in accuracies], "reflection/words": [(a + 1, 1.0) for a in accuracies]}
    return {"summary": summary, "items": items, "measures": measures}


def test_what_was_learned(tmp_path: Path) -> None:
    screen = console()
    opened = Run.open(tmp_path / "r", recipe="t", scale="tiny", config=Engine(), seed=0, view=View(screen))
    with opened as run:
        (tmp_path / "r" / "s").mkdir()
        lines = [json.dumps({"step": i, "reward/mean": i / 4}) for i in range(5)]
        (tmp_path / "r" / "s" / "metrics.jsonl").write_text("\n".join(lines) + "\n")
        report.learned(run, Artifact(str(tmp_path / "m"), ""), result(0, 0, 1, 0), result(1, 0, 1, 1), stage="s")
    text = screen.export_text()
    assert "n = 4" in text and "0.250 [0.046, 0.699]" in text and "+0.500" in text
    assert "reflective words a reply" in text and "1.750 [1.260, 2.240]" in text, "beside the base model"
    assert "0.00 ▁▃▅▆█ 1.00" in text
    assert "q0\n  before  'c0'  (accuracy 0)\n  after   'c1'  (accuracy 1)\n" in text
    assert "burnish chat" in text and "loads in transformers.\n" in text
    assert json.loads((tmp_path / "r" / "summary.json").read_text())["s"]["accuracy"]["paired"]["difference"] == 0.5
