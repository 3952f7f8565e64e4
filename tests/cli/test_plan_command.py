"""`burnish plan` says what a run would say of itself, and more than a run could on a machine without the model."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from burnish.cli import main

Captured = pytest.CaptureFixture[str]


def said(capsys: Captured, *arguments: str) -> str:
    assert main(arguments) == 0
    return " ".join(capsys.readouterr().out.split())


def test_it_says_what_the_run_itself_says(nano: Path, capsys: Captured) -> None:
    given = [
        "grpo",
        "--scale",
        "tiny",
        f"model={nano}",
        "task=largest",
        "rl.prompts=2",
        "rl.group=6",
        "rl.minibatches=2",
    ]
    plan = said(capsys, "plan", *given)
    rehearsed = said(capsys, "run", *given, "--dry-run", "rl.steps=5")
    for pattern in (r"2 prompts x 6 .* tokens -> 2 updates, .*? tokens", r"0\.9M parameters.*?cpu", r"about [\d.]+ GB"):
        found = re.search(pattern, plan)
        assert found is not None and found[0] in rehearsed, pattern
    assert "5 steps, 60 rollouts, 10 updates" in plan
    assert "sampling and grading 12 of the 12 rollouts of a step took" in rehearsed


def test_every_training_stage_is_planned_under_its_key(capsys: Captured) -> None:
    plan = said(capsys, "plan", "r1-zero", "--scale", "tiny", "pretrain.batch=5", "pretrain.max_length=77")
    assert "pretrain: nano a step 5 items -> 1 update" in plan and "for rows of up to 77 tokens" in plan
    assert "rl: nano a step 8 prompts x 16 completions = 128 rollouts" in plan
    assert "trains no language model" in said(capsys, "plan", "maze")


def test_auto_is_planned_in_both_precisions(nano: Path, capsys: Captured) -> None:
    plan = said(capsys, "plan", "grpo", f"model={nano}", "rl.engine.dtype=auto")
    assert re.search(r"about [\d.]+ GB in float32 or [\d.]+ GB in bfloat16", plan) and "auto on" in plan


def test_a_model_that_is_not_here_is_said_to_be_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    plan = said(capsys, "plan", "r1-zero", "--scale", "paper")
    assert "512 prompts x 16 completions = 8192 rollouts of at most 32768 tokens -> 16 updates" in plan
    assert "650 steps, 5324800 rollouts, 10400 updates" in plan
    assert "model not on this machine; bfloat16" in plan and "GB" not in plan
    assert "hf download deepseek-ai/DeepSeek-V3-Base config.json" in plan
    assert main(["plan", "grpo", "model=nanoo"]) == 2
    assert "Did you mean 'nano'?" in capsys.readouterr().err


def test_a_configuration_is_enough(nano: Path, tmp_path: Path, capsys: Captured) -> None:
    shutil.copy(nano / "config.json", tmp_path)
    whole = said(capsys, "plan", "grpo", f"model={nano}").replace(str(nano), "")
    assert said(capsys, "plan", "grpo", f"model={tmp_path}").replace(str(tmp_path), "") == whole
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no-such"}))
    assert main(["plan", "grpo", f"model={tmp_path}"]) == 2
    assert "describes no model that transformers can build" in capsys.readouterr().err


def test_kernels_are_kept_for_few_shapes_unless_asked_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
    monkeypatch.setenv(name, "7")
    assert main(["--version"]) == 0 and os.environ[name] == "7"
    monkeypatch.delenv(name)
    assert main(["--version"]) == 0 and os.environ[name] == "64"
