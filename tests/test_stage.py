"""A stage: what its arguments hash to, what it writes, and what damage leaves behind."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from burnish import files
from burnish.errors import InputError
from burnish.run import Artifact, Stage
from burnish.stage import fingerprint
from burnish.view import View
from toy import Toy

EVERY = 4


@dataclass(frozen=True)
class Settings:
    steps: int = 12
    dtype: str = "auto"


@pytest.fixture
def stage(tmp_path) -> Stage:
    return _stage(tmp_path)


def _stage(out: Path) -> Stage:
    return Stage(files.make_directory(out / "1-train"), seed=1, view=View())


def _train_to(stage: Stage, step: int) -> Toy:
    toy = Toy()
    for i in range(1, step + 1):
        toy.train()
        stage.log(i, {"loss": float(i)})
        stage.write_rollouts(i, pa.table({"step": [i]}))
        if i % EVERY == 0:
            stage.checkpoint(i, {"toy": toy}, {"i": i})
    return toy


# --- checkpoints, metrics, decisions --------------------------------------------------------------


def test_restore_cuts_back_to_the_checkpoint(tmp_path, stage):
    _train_to(stage, 7)
    (stage.checkpoints / ".step-000008").mkdir()  # a kill in the middle of a checkpoint
    with stage.metrics.open("a") as file:
        file.write('{"step": 8, "lo')
    toy = Toy()
    state = _stage(tmp_path).restore({"toy": toy})
    assert state == {"step": 4, "i": 4, "best": None}
    assert torch.equal(toy.weights, _train_to(_stage(tmp_path / "other"), 4).weights)
    assert [json.loads(line)["step"] for line in stage.metrics.read_text().splitlines()] == [1, 2, 3, 4]
    assert sorted(p.name for p in stage.rollouts.iterdir()) == [f"step-{i:06d}.parquet" for i in (1, 2, 3, 4)]
    assert sorted(p.name for p in stage.checkpoints.iterdir()) == ["latest", "step-000004"]


def test_restore_without_a_checkpoint_cuts_everything(tmp_path, stage):
    _train_to(stage, 3)
    assert _stage(tmp_path).restore({"toy": Toy()}) is None
    assert stage.metrics.read_text() == ""
    assert not list(stage.rollouts.iterdir())


def test_a_damaged_checkpoint_falls_back_and_says_why(tmp_path, stage, capsys):
    _train_to(stage, 9)
    weights = stage.checkpoints / "step-000008/toy/weights.safetensors"
    flipped = bytearray(weights.read_bytes())
    flipped[-1] ^= 1
    weights.write_bytes(flipped)
    toy = Toy()
    again = _stage(tmp_path)
    assert (again.restore({"toy": toy}) or {})["step"] == 4
    said = capsys.readouterr().out
    assert "step-000008 is damaged (toy/weights.safetensors does not match its sha256)" in said
    assert "resuming from step-000004" in said
    assert (stage.checkpoints / "latest").read_text() == "step-000004\n"
    assert len(stage.metrics.read_text().splitlines()) == 4
    again.log(5, {"loss": 0.0})
    assert again.checkpoint(8, {"toy": toy}, {}).name == "step-000008"
    assert files.verify(stage.checkpoints / "step-000008") is None


def test_no_intact_checkpoint_is_an_error_that_touches_nothing(tmp_path, stage):
    _train_to(stage, 9)
    for path in stage.checkpoints.glob("step-*"):
        (path / "state.json").unlink()
    with pytest.raises(InputError, match=r"is intact \(step-000008: state.json is missing; step-000004"):
        _stage(tmp_path).restore({"toy": Toy()})
    assert len(stage.metrics.read_text().splitlines()) == 9


def test_the_last_two_and_the_best_checkpoint_are_kept(stage):
    toy = Toy()
    for step, score in [(1, 0.1), (2, 0.9), (3, 0.2), (4, float("nan")), (5, None), (6, 0.3)]:
        stage.checkpoint(step, {"toy": toy}, {}, best=score)
    assert sorted(p.name[-1] for p in stage.checkpoints.glob("step-*")) == ["2", "5", "6"]
    stage.checkpoint(6, {"toy": toy}, {}, best=None)  # interrupted right after: not saved again without its score
    assert json.loads((stage.checkpoints / "step-000006/state.json").read_text())["best"] == 0.3


def test_a_checkpoint_closes_its_steps(stage):
    stage.checkpoint(4, {}, {})
    with pytest.raises(ValueError, match="covered by checkpoint 4"):
        stage.log(4, {"loss": 1.0})
    with pytest.raises(ValueError, match="covered by checkpoint 4"):
        stage.write_rollouts(3, pa.table({"a": [1]}))
    stage.log(5, {"loss": 1.0})


def test_a_metrics_line_is_sorted_and_finite(stage):
    stage.log(1, {"z": 1, "a": float("nan"), "b": float("-inf")})
    assert stage.metrics.read_text() == '{"a": null, "b": null, "step": 1, "z": 1.0}\n'


def test_a_decision_is_made_once(tmp_path, stage):
    assert stage.decide("engine", lambda: Settings(dtype="bfloat16")) == Settings(dtype="bfloat16")
    assert _stage(tmp_path).decide("engine", lambda: Settings(dtype="float32")) == Settings(dtype="bfloat16")


# --- arguments ------------------------------------------------------------------------------------


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True)
class Other:
    steps: int = 12
    dtype: str = "auto"


@dataclass
class Loose:
    x: int = 1


def fn(stage: Stage, a: Any, b: Any = 1, **more: Any) -> None: ...


def fn2(stage: Stage, a: Any, b: Any = 1, **more: Any) -> None: ...


def test_different_arguments_have_different_hashes(tmp_path):
    for name, text in (("x", "1"), ("y", "2"), ("d/x", "1"), ("e/x", "2")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    values = [
        None, True, 1, 1.0, "1", "", (1, 2), (2, 1), ((1,), 2), {"a": 1}, {"a": 2}, {1: 1}, float("inf"),
        Colour.RED, "red", Settings(), Settings(steps=3), Other(), (Settings(),),
        Artifact("p", "1"), Artifact("p", "2"), tmp_path / "x", tmp_path / "y", tmp_path / "d", tmp_path / "e", fn, fn2,
    ]  # fmt: skip
    hashes = [fingerprint(fn, (value,), {}, 1) for value in values]
    assert len(set(hashes)) == len(values)


def test_equal_arguments_have_equal_hashes(tmp_path):
    base = fingerprint(fn, (1,), {}, 1)
    assert base == fingerprint(fn, (), {"a": 1, "b": 1}, 1)
    assert base != fingerprint(fn, (1,), {}, 2)
    assert base != fingerprint(fn2, (1,), {}, 1)
    assert fingerprint(fn, ({"a": 1, "b": 2},), {}, 1) == fingerprint(fn, ({"b": 2, "a": 1},), {}, 1)
    assert fingerprint(fn, ([1, 2],), {}, 1) == fingerprint(fn, ((1, 2),), {}, 1)
    (tmp_path / "x").write_text("1")
    (tmp_path / "y").write_text("1")
    assert fingerprint(fn, (tmp_path / "x",), {}, 1) == fingerprint(fn, (tmp_path / "y",), {}, 1)
    assert fingerprint(fn, (Artifact("p", "1"),), {}, 1) == fingerprint(fn, (Artifact("q", "1"),), {}, 1)


def test_a_function_counts_by_its_source(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "my_reward_module.py"
    path.write_text("def score(x):\n    return 1\n")
    module = importlib.import_module("my_reward_module")
    before = fingerprint(fn, (module.score,), {}, 1)
    path.write_text("# a comment elsewhere\ndef score(x):\n    return 1\n")
    assert fingerprint(fn, (importlib.reload(module).score,), {}, 1) == before
    path.write_text("def score(x):\n    return 2\n# longer\n")
    assert fingerprint(fn, (importlib.reload(module).score,), {}, 1) != before
    del sys.modules["my_reward_module"]


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (lambda x: x, "'a'"),
        (object(), "'a'"),
        (Loose(), "'a'"),
        ({"k": [1, {2}]}, r"'a\['k'\]\[1\]'"),
        (Settings(dtype=object()), "'a.dtype'"),  # type: ignore[arg-type]
        (Path("/no/such/file"), "'a': there is no file"),
        (torch.zeros(1), "'a'"),
    ],
)
def test_an_argument_without_a_stable_hash_is_named(value, where):
    with pytest.raises(InputError, match=f"argument {where}"):
        fingerprint(fn, (value,), {}, 1)
    with pytest.raises(InputError, match="argument 'more"):
        fingerprint(fn, (1,), {"x": value}, 1)
