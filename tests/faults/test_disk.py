"""A full disk: whatever write it hits, the last checkpoint stays intact and loads."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
from pathlib import Path

import torch
from safetensors.torch import load_file

from burnish import files
from burnish.stage import Stage
from burnish.view import View


class Weights:
    def __init__(self, value: float, size: int = 8) -> None:
        self.tensor = torch.full((size,), value)

    def checkpoint(self, directory: Path) -> None:
        files.write_safetensors(directory / "w.safetensors", {"w": self.tensor})
        files.write_json(directory / "shape.json", list(self.tensor.shape))

    def restore(self, directory: Path) -> None:
        self.tensor = load_file(directory / "w.safetensors")["w"]


def _stage(out: Path) -> Stage:
    return Stage(files.make_directory(out / "1-train"), seed=1, view=View(quiet=True))


def _intact(stage: Stage, step: int) -> None:
    """A fresh process would find checkpoint ``step``, whole, and metrics cut to it."""
    weights = Weights(-1.0)
    state = Stage(stage.directory, seed=1, view=View(quiet=True)).restore({"policy": weights})
    assert state is not None
    assert state["step"] == step
    assert set(weights.tensor.tolist()) == {float(step)}
    assert [json.loads(line)["step"] for line in stage.metrics.read_text().splitlines()] == list(range(1, step + 1))
    assert [p.name for p in stage.checkpoints.iterdir() if p.name.startswith(".")] == []


def _step(stage: Stage, step: int) -> None:
    stage.log(step, {"loss": float(step)})
    stage.checkpoint(step, {"policy": Weights(float(step))}, {})


def test_full_at_every_write_of_a_checkpoint(tmp_path, monkeypatch):
    operations: list[str] = []
    hit = 0
    for n in range(1, 1000):
        stage = _stage(tmp_path / str(n))
        _step(stage, 1)
        operations.clear()

        def fail(operation: str, path: Path, n: int = n) -> None:
            operations.append(f"{operation} {path.name}")
            if len(operations) == n:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

        monkeypatch.setattr(files, "inject", fail)
        try:
            _step(stage, 2)
        except files.DiskFullError:
            hit += 1
            monkeypatch.setattr(files, "inject", None)
            committed = (stage.checkpoints / "step-000002").exists()
            if not committed:  # what was written of it is gone at once, which frees the space
                assert not list(stage.checkpoints.glob(".step-*"))
            assert committed == ("rename step-000002" in operations[: n - 1])
            _intact(stage, 2 if committed else 1)
            again = Stage(stage.directory, seed=1, view=View(quiet=True))
            state = again.restore({"policy": Weights(0.0)}) or {}
            if state["step"] == 1:
                _step(again, 2)  # space was freed
            _intact(stage, 2)
        else:
            break
    assert hit > 12
    assert {"append metrics.jsonl", "sync metrics.jsonl", "write w.safetensors", "rename state.json"} <= set(operations)


def test_a_real_file_size_limit(tmp_path):
    """In a process of its own, because the limit cannot be lifted again; the kernel's error, not ours."""
    stage = _stage(tmp_path)
    _step(stage, 1)
    pid = os.fork()
    if pid == 0:
        os._exit(_hit_the_limit(stage))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    _intact(stage, 1)


def _hit_the_limit(stage: Stage) -> int:
    """0 if both a large tensor and a long line are refused with the right error and leave nothing."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limit = 4096
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        try:
            stage.checkpoint(2, {"policy": Weights(2.0, size=100_000)}, {})
            return 10
        except files.DiskFullError as error:
            if "w.safetensors" not in str(error) or "File too large" not in str(error):
                return 11
        before = stage.metrics.read_bytes()
        try:
            stage.log(2, {f"metric/{i}": float(i) for i in range(1000)})
            return 12
        except files.DiskFullError:
            return 0 if stage.metrics.read_bytes() == before else 13
    except BaseException:  # noqa: BLE001 (a child must never return into pytest)
        return 14
