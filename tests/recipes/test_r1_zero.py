"""R1-Zero: every scale is a valid configuration; a short tiny run goes from a base model to a report."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from burnish import config
from burnish.core.algorithms import GRPO
from burnish.core.intervals import wilson
from burnish.loops.report import DryRunFinished
from burnish.recipes.r1_zero import SCALES, main
from burnish.rewards.format import well_formed
from burnish.run import Run
from burnish.view import View

SHORT = ["rl.steps=2", "rl.prompts=2", "rl.group=4", "eval.n=8", "pretrain.steps=3", "pretrain.batch=4"]


def test_scales_are_what_they_say() -> None:
    assert set(SCALES) == {"tiny", "laptop", "paper"}
    for scale in SCALES.values():
        json.dumps(config.plain(scale))
        assert scale.rl.sampling.temperature == 1 and scale.rl.sampling.top_p == 1
    paper = SCALES["paper"]
    assert paper.rl.steps * paper.rl.minibatches == 10_400
    assert paper.rl.prompts * paper.rl.group == 8192
    assert paper.algo == replace(GRPO, kl=replace(GRPO.kl, coef=0.001))  # type: ignore[type-var]
    assert [part for part, _ in parts(SCALES["laptop"])] == ["accuracy"]
    assert [part for part, _ in parts(paper)] == ["accuracy", "format"]


def parts(scale: object) -> list[tuple[str, float]]:
    from burnish.types import Completion, Example

    good = Completion((1,), "<think>x</think><answer>7</answer>", (), "eos")
    (reward,) = scale.reward(Example((), "7"), [good])  # type: ignore[attr-defined]
    return [(part.part, part.value) for part in reward]


def test_from_base_model_to_report(tmp_path: Path) -> None:
    """At a rate of zero, what comes out of the last stage shows what went into it."""
    settings = config.apply(SCALES["tiny"], [*SHORT, "rl.schedule.lr=0"])
    screen = Console(record=True, width=100, file=io.StringIO())
    opened = Run.open(tmp_path / "r", recipe="r1-zero", scale="tiny", config=settings, seed=0, view=View(screen))
    with opened as run:
        model = main(run, settings)
    base = tmp_path / "r" / "0-pretrain" / "model" / "model.safetensors"
    assert Path(model, "model.safetensors").read_bytes() == base.read_bytes()
    text = screen.export_text()
    for words in ("held out, n = 8", "accuracy_strict", "reward, step by step", "before", "burnish chat"):
        assert words in text
    done = sorted(path.parent.name for path in (tmp_path / "r").glob("*/done.json"))
    assert done == ["0-pretrain", "1-before", "2-r1-zero", "3-after"]
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert summary["2-r1-zero"]["tokens/sampled"] >= summary["2-r1-zero"]["tokens/trained"] >= 0


def test_a_dry_run_rehearses_on_the_pretrained_base(tmp_path: Path) -> None:
    settings = config.apply(SCALES["tiny"], SHORT)
    screen = Console(record=True, width=100, file=io.StringIO())
    opened = Run.open(
        tmp_path / "r", recipe="r1-zero", scale="tiny", config=settings, seed=0, view=View(screen), dry_run=True
    )
    with opened as run, pytest.raises(DryRunFinished):
        main(run, settings)
    assert "base rate" in screen.export_text()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_tiny_learns_to_answer_and_to_think(seed: int, tmp_path: Path) -> None:
    settings = SCALES["tiny"]
    opened = Run.open(tmp_path / "r", recipe="r1-zero", scale="tiny", config=settings, seed=seed, view=View(quiet=True))
    with opened as run:
        main(run, settings)
    result = {
        name: json.loads((tmp_path / "r" / name / "done.json").read_text())["result"]["value"]
        for name in ("1-before", "3-after")
    }
    before, after = (result[name]["summary"]["accuracy"] for name in ("1-before", "3-after"))
    assert after["low"] > before["high"]
    shares = [
        wilson(sum(well_formed(item["completions"][0]) for item in result[name]["items"]), len(result[name]["items"]))
        for name in ("1-before", "3-after")
    ]
    assert shares[1][0] > shares[0][1], "the think/answer format is learnt too"
