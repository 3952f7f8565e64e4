"""The recipe on the command line: models named, a method chosen by name with its settings, what is printed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from burnish import config
from burnish.cli import main
from burnish.core.merging import DARE, TIES, Average, Share
from burnish.recipes import catalog
from burnish.recipes.merge import SCALES, Merging


@pytest.fixture
def other(nano: Path, tmp_path: Path) -> Path:
    shutil.copytree(nano, tmp_path / "other")
    tensors = {n: 1.1 * t for n, t in load_file(nano / "model.safetensors").items()}
    save_file(tensors, tmp_path / "other" / "model.safetensors", {"format": "pt"})
    return tmp_path / "other"


def test_a_merge_from_the_command_line(
    nano: Path, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    given = [
        "run",
        "merge",
        "--scale",
        "tiny",
        "--out",
        str(out),
        f'models=["{nano}", "{other}"]',
        "method.weights=[1, 3]",
    ]
    assert main(given) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "2 models of 0.9M parameters" in printed and str(nano) in printed and "Average(weights=(1.0, 3.0)" in printed
    assert f"burnish chat {os.path.relpath(out)}/1-merge/model" in printed
    merged, start = load_file(out / "1-merge" / "model" / "model.safetensors"), load_file(nano / "model.safetensors")
    assert all(torch.allclose(t, 1.075 * start[n]) for n, t in merged.items())
    assert main(["run", "merge", "--resume", "--out", str(out)]) == 0, "done is done"
    assert "distance" not in capsys.readouterr().out


def test_task_vectors_of_models_by_name(other: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    given = [f'models=["{other}", "{other}"]', "method=ties", "method.keep=1.0", "base=nano"]
    assert main(["run", "merge", "--scale", "tiny", "--out", str(out), *given]) == 0
    merged, same = load_file(out / "1-merge" / "model" / "model.safetensors"), load_file(other / "model.safetensors")
    assert all(torch.allclose(t, same[n], atol=1e-6) for n, t in merged.items())
    assert json.loads((out / "run.json").read_text())["config"]["method"] == {"kind": "TIES", "keep": 1.0, "scale": 1.0}


def test_methods_and_their_settings() -> None:
    catalog.get("merge")  # names are understood from here on

    def method(*given: str) -> object:
        return config.apply(SCALES["tiny"], list(given)).method

    assert method("method=ties", "method.keep=0.3") == TIES(keep=0.3)
    assert method("method=dare", "method.into=ties", "method.into.keep=1.0") == DARE(into=TIES(keep=1.0))
    shares = "method={kind: Average, shares: [{layers: [0, 11], weights: [1, 0]}, {match: lm_head, weights: [1, 3]}]}"
    assert method(shares) == Average(shares=(Share((1.0, 0.0), layers=(0, 11)), Share((1.0, 3.0), match="lm_head")))
    assert set(SCALES) == {"tiny", "laptop", "paper"} and SCALES["paper"] == Merging(shard_gb=5.0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "add models="),
        (['models=["nano"]'], "add models="),
        (['models=["nano", "nano"]', "base=nano"], "leave out base="),
        (['models=["nano", "nano"]', "method=ties"], "add base="),
        (['models=["nano", "nano"]', "method=slerp"], "unknown merging method 'slerp'"),
        (['models=["nano", "nano"]', "shard_gb=0"], "has to hold something"),
        (['models=["nano", "nonesuch"]'], "unknown model 'nonesuch'"),
    ],
    ids=["no-models", "one-model", "base", "no-base", "method", "shard", "name"],
)
def test_what_cannot_be_merged_exits_with_2(
    given: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "merge", "--scale", "tiny", "--out", str(tmp_path / "run"), *given]) == 2
    assert message in capsys.readouterr().err
