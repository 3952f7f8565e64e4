"""Runs: stages are done once, an edit re-runs what it changed, and a directory belongs to one run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from burnish.errors import InputError
from burnish.run import Artifact, Run, Stage
from burnish.view import View


@dataclass(frozen=True)
class Settings:
    steps: int = 12
    dtype: str = "auto"


@contextmanager
def opened(directory: Path, config: Any = Settings(), seed: int = 1, **more: Any) -> Iterator[Run]:
    with Run.open(directory, recipe="toy", scale="tiny", config=config, seed=seed, view=View(), **more) as run:
        yield run


# --- stages ---------------------------------------------------------------------------------------


def _called(stage: Stage) -> None:
    """Count the calls of each stage in the run directory's parent."""
    with (stage.out.parent / "calls").open("a") as file:
        file.write(stage.name + "\n")


def calls(tmp_path: Path) -> list[str]:
    path = tmp_path / "calls"
    found = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return found


def make(stage: Stage, text: str) -> Path:
    _called(stage)
    (stage.directory / "model").mkdir(exist_ok=True)
    (stage.directory / "model/x.txt").write_text(text)
    return stage.directory / "model"


def measure(stage: Stage, model: Artifact, scale: float = 1.0) -> dict[str, Any]:
    _called(stage)
    return {"length": scale * len((Path(model) / "x.txt").read_text()), "pair": (1, 2)}


def recipe(run: Run, text: str, scale: float = 1.0) -> Any:
    model = run.stage(make, "0-make", text)
    return run.stage(measure, "1-measure", model, scale=scale)


def test_a_finished_stage_is_not_run_again_and_an_edit_reruns_what_it_changed(tmp_path, capsys):
    directory = tmp_path / "run"
    with opened(directory) as run:
        assert recipe(run, "abc") == {"length": 3.0, "pair": [1, 2]}
    assert calls(tmp_path) == ["0-make", "1-measure"]
    with opened(directory, resume=True) as run:
        assert recipe(run, "abc") == {"length": 3.0, "pair": [1, 2]}
    assert calls(tmp_path) == []
    with opened(directory, resume=True) as run:
        assert recipe(run, "abc", scale=2.0)["length"] == 6.0
    assert calls(tmp_path) == ["1-measure"]
    with opened(directory, resume=True) as run:
        assert recipe(run, "abcd", scale=2.0)["length"] == 8.0
    assert calls(tmp_path) == ["0-make", "1-measure"]
    said = capsys.readouterr().out
    assert "0-make runs again, because its arguments changed; the old one is now 0-make.old-1" in said
    assert (directory / "0-make.old-1/model/x.txt").read_text() == "abc"
    assert {p.name for p in directory.glob("1-*")} == {"1-measure", "1-measure.old-1", "1-measure.old-2"}


def test_the_same_content_made_again_does_not_rerun_what_follows(tmp_path):
    with opened(tmp_path / "run") as run:
        recipe(run, "abc")
    calls(tmp_path)
    (tmp_path / "run/0-make/model/x.txt").write_text("tampered")
    with opened(tmp_path / "run", resume=True) as run:
        assert recipe(run, "abc")["length"] == 3.0
    assert calls(tmp_path) == ["0-make"]


def broken(stage: Stage, path: Path) -> int:
    _called(stage)
    stage.restore({})
    stage.log(1, {"loss": 1.0})
    stage.checkpoint(1, {}, {})
    if path.read_text() == "bad":
        raise RuntimeError("broken")
    return 7


def test_an_unfinished_stage_continues_unless_its_arguments_changed(tmp_path):
    (tmp_path / "flag").write_text("bad")
    directory = tmp_path / "run"
    with opened(directory) as run, pytest.raises(RuntimeError, match="broken"):
        run.stage(broken, "0-a", tmp_path / "flag")
    assert json.loads((directory / "0-a/stage.json").read_text())["status"] == "failed"
    with opened(directory, resume=True) as run, pytest.raises(ValueError, match="covered by checkpoint 1"):
        run.stage(broken, "0-a", tmp_path / "flag")  # continued: the old checkpoint was there
    (tmp_path / "flag").write_text("good")  # a path counts by its content
    with opened(directory, resume=True) as run:
        assert run.stage(broken, "0-a", tmp_path / "flag") == 7
    assert (directory / "0-a.old-1/checkpoints/step-000001").is_dir()
    assert json.loads((directory / "0-a/stage.json").read_text())["status"] == "done"


def give(stage: Stage, what: str) -> Any:
    return {"outside": stage.out, "self": stage.directory, "object": {1, 2}, "nan": float("nan")}[what]


@pytest.mark.parametrize("what", ["outside", "self", "object", "nan"])
def test_a_result_must_be_inside_or_plain(tmp_path, what):
    with opened(tmp_path / "run") as run, pytest.raises(InputError, match="stage '0-a' returned"):
        run.stage(give, "0-a", what)


def test_stage_names_are_plain_and_used_once(tmp_path):
    with opened(tmp_path / "run") as run:
        run.stage(make, "0-a", "x")
        for name in ("0-a", "a/b", "../a", ".a", "a.old-1", ""):
            with pytest.raises(ValueError, match="stage name"):
                run.stage(make, name, "y")


# --- cache ----------------------------------------------------------------------------------------


def pretrain(stage: Stage, text: str) -> Path:
    make(stage, text + str(stage.seed))
    stage.checkpoint(1, {}, {})
    return stage.directory / "model"


def test_a_cached_stage_is_shared_between_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    results = []
    for seed in (1, 2):
        with opened(tmp_path / f"run{seed}", seed=seed) as run:
            results.append(run.stage(pretrain, "0-pretrain", "abc", cache=True))
    assert calls(tmp_path) == ["0-pretrain"]
    assert results[0].sha256 == results[1].sha256
    assert Path(results[1]).parent == tmp_path / "run2/0-pretrain"
    assert "cached" in json.loads((tmp_path / "run2/0-pretrain/done.json").read_text())
    assert not (tmp_path / "run2/0-pretrain/checkpoints").exists()
    with opened(tmp_path / "run2", seed=2, resume=True) as run:
        assert run.stage(pretrain, "0-pretrain", "abc", cache=True) == results[1]
    with opened(tmp_path / "run3") as run:
        assert run.stage(pretrain, "0-pretrain", "other", cache=True).sha256 != results[0].sha256
    assert calls(tmp_path) == ["0-pretrain"]
    (tmp_path / "run5").mkdir()
    with opened(tmp_path / "run5") as run:  # killed half-way, and finished by another run in the meantime
        (run.directory / "0-pretrain").mkdir()
        (run.directory / "0-pretrain/.left").touch()
        assert run.stage(pretrain, "0-pretrain", "abc", cache=True).sha256 == results[0].sha256
    assert calls(tmp_path) == []
    for path in (tmp_path / "cache").rglob("x.txt"):
        path.unlink()
        path.write_text("damaged")
    with opened(tmp_path / "run4") as run:
        assert run.stage(pretrain, "0-pretrain", "abc", cache=True).sha256 == results[0].sha256
    assert calls(tmp_path) == ["0-pretrain"]
    assert "the cached result is damaged (model/x.txt" in capsys.readouterr().out


# --- the run directory ----------------------------------------------------------------------------


def test_run_json_says_what_the_run_is(tmp_path):
    with opened(tmp_path / "run") as run:
        run.summary({"0-a": {"before": 0.1}})
        run.summary({"0-a": {"after": 0.9}, "1-b": {"n": 200}})
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert (record["recipe"], record["scale"], record["seed"]) == ("toy", "tiny", 1)
    assert record["config"] == {"kind": "Settings", "steps": 12, "dtype": "auto"}
    assert set(record["versions"]) == {"burnish", "torch", "transformers", "python"}
    assert record["hardware"]["threads"] == torch.get_num_threads()
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary == {"0-a": {"before": 0.1, "after": 0.9}, "1-b": {"n": 200}}
    with opened(tmp_path / "run", resume=True) as run:
        run.summary({"1-b": {"m": 1}})
    assert json.loads((tmp_path / "run/summary.json").read_text())["1-b"] == {"n": 200, "m": 1}


def test_stages_have_their_own_seeds(tmp_path):
    def seeds(directory: Path, seed: int) -> list[int]:
        with opened(directory, seed=seed) as run:
            return [run.stage(tell_seed, name) for name in ("0-a", "1-b")]

    first = seeds(tmp_path / "1", 1)
    assert first == seeds(tmp_path / "same", 1)
    assert len({*first, *seeds(tmp_path / "2", 2)}) == 4


def tell_seed(stage: Stage) -> int:
    return stage.seed


def test_an_existing_directory_needs_resume_and_resume_needs_a_run(tmp_path):
    with pytest.raises(InputError, match="no run to resume"), opened(tmp_path / "run", resume=True):
        pass
    assert not (tmp_path / "run").exists()
    with opened(tmp_path / "run"):
        pass
    with pytest.raises(InputError, match=r"exists: continue it with --resume, or .*--out"), opened(tmp_path / "run"):
        pass
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/diary.txt").write_text("x")
    with pytest.raises(InputError, match="not a run directory"), opened(tmp_path / "notes", resume=True):
        pass
    with pytest.raises(InputError, match="is a file"), opened(tmp_path / "notes/diary.txt"):
        pass


def test_resume_refuses_another_recipe_scale_seed_or_thread_count(tmp_path):
    directory = tmp_path / "run"
    with opened(directory):
        pass
    same_run = {"recipe": "toy", "scale": "tiny", "config": Settings(), "seed": 1, "resume": True, "view": View()}
    for name, value in (("recipe", "other"), ("scale", "paper"), ("seed", 2)):
        with pytest.raises(InputError, match=f"begun with {name} .* --out"):
            Run.open(directory, **{**same_run, name: value})
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        with pytest.raises(InputError, match=f"OMP_NUM_THREADS={threads} "):
            Run.open(directory, **same_run)
    finally:
        torch.set_num_threads(threads)
    with opened(directory, config=Settings(steps=99), resume=True):  # refusals released the lock; a new config is fine
        assert json.loads((directory / "run.json").read_text())["config"]["steps"] == 99
