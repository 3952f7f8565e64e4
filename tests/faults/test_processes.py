"""What other processes can do to a run: kill it, signal it, share its directory or its cache. All of it for real."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from burnish import files, signals
from burnish.errors import InputError
from burnish.run import Run, Stage
from burnish.view import View
from toy import Toy

STEPS, EVERY = 9, 3


@dataclass(frozen=True)
class Settings:
    steps: int = STEPS
    dtype: str = "auto"


def train(stage: Stage, steps: int = STEPS, pause: float = 0.0) -> Path:
    toy = Toy()
    saved = stage.restore({"toy": toy})
    step = saved["step"] if saved else 0
    if not saved:
        stage.log(0, {"eval/accuracy": 0.5})
    try:
        while step < steps:
            with stage.protected():
                mean = toy.train()
                step += 1
                stage.log(step, {"reward/mean": mean, "perf/clock": time.time()})
                stage.write_rollouts(step, pa.table({"step": [step], "reward": [mean]}))
                if step % EVERY == 0:
                    stage.checkpoint(step, {"toy": toy}, {"total": step * 10}, best=mean)
            time.sleep(pause)
    except signals.Interrupted:
        stage.checkpoint(step, {"toy": toy}, {"total": step * 10})
        raise
    return stage.export(toy)


@contextmanager
def opened(directory: Path, config: Any = Settings(), seed: int = 1, **more: Any) -> Iterator[Run]:
    with Run.open(directory, recipe="toy", scale="tiny", config=config, seed=seed, view=View(), **more) as run:
        yield run


def attempt(directory: Path, pause: float = 0.0) -> None:
    with opened(directory, resume=directory.exists()) as run:
        run.stage(train, "1-train", STEPS, pause=pause)


def in_child(work: Callable[[], object]) -> int:
    """Start ``work`` in another process; return its id. Its exit status is 0, 130/143 when interrupted, else 1."""
    pid = os.fork()
    if pid:
        return pid
    try:
        with signals.handle_signals():
            work()
    except signals.Interrupted as stop:
        os._exit(128 + stop.signum)
    except BaseException as error:  # noqa: BLE001 (a child must never return into pytest)
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
        os._exit(1)
    os._exit(0)


def exit_code(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.005)


def content(stage: Path) -> dict[str, Any]:
    """What must repeat: every file but the stage's own times, metrics without ``perf/``."""
    kept: dict[str, Any] = {}
    for path in sorted(p for p in stage.rglob("*") if p.is_file() and p.name != "stage.json"):
        kept[path.relative_to(stage).as_posix()] = path.read_bytes()
    lines = [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]
    kept["metrics.jsonl"] = [{k: v for k, v in line.items() if not k.startswith("perf/")} for line in lines]
    return kept


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, Any]:
    directory = tmp_path_factory.mktemp("undisturbed") / "run"
    attempt(directory)
    expected = content(directory / "1-train")
    assert [line["step"] for line in expected["metrics.jsonl"]] == list(range(STEPS + 1))
    return expected


def same(directory: Path, undisturbed: dict[str, Any]) -> None:
    assert content(directory / "1-train") == undisturbed
    assert not list(directory.glob("*.old-*"))  # continued, not begun again beside it


@pytest.fixture
def memory(tmp_path) -> Iterator[Path]:
    """A directory in memory, where there is one: fsync costs nothing there, and a killed process cannot tell."""
    shared = Path("/dev/shm")
    directory = Path(tempfile.mkdtemp(dir=shared if shared.is_dir() else tmp_path))
    yield directory
    shutil.rmtree(directory)


# --- kills ----------------------------------------------------------------------------------------


def _killed_at(directory: Path, n: int) -> None:
    seen = 0

    def kill(_operation: str, _path: Path) -> None:
        nonlocal seen
        seen += 1
        if seen == n:
            os.kill(os.getpid(), signal.SIGKILL)

    files.inject = kill
    attempt(directory)


def test_killed_before_every_write_and_resumed(memory, undisturbed):
    """SIGKILL before the n-th change of the disk, for every n; then one resume."""
    killed = 0
    for n in range(1, 10_000):
        directory = memory / str(n)
        code = exit_code(in_child(lambda d=directory, k=n: _killed_at(d, k)))
        if code == 0:
            break
        assert code == -signal.SIGKILL
        killed += 1
        attempt(directory)
        same(directory, undisturbed)
        files.remove_tree(directory)
    assert killed >= 100  # the test looked at as many moments as it should


def test_killed_at_any_time_and_resumed(memory, undisturbed):
    """SIGKILL from outside, again and again, until the run gets through."""
    kills, directory = 0, memory / "run"
    for i in range(200):
        pid = in_child(lambda: attempt(directory))
        time.sleep(0.004 + 0.0031 * i)
        os.kill(pid, signal.SIGKILL)
        if exit_code(pid) == 0:
            break
        kills += 1
    attempt(directory)
    assert kills > 3
    same(directory, undisturbed)


# --- signals --------------------------------------------------------------------------------------


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_a_resume_goes_on_from_there(tmp_path, capfd, undisturbed, signum):
    directory = tmp_path / "run"
    pid = in_child(lambda: attempt(directory, pause=0.02))
    _wait_for((directory / "1-train/rollouts/step-000004.parquet").exists)
    os.kill(pid, signum)
    assert exit_code(pid) == 128 + signum
    assert capfd.readouterr().err.count("saving a checkpoint; press Ctrl-C again") == 1
    assert json.loads((directory / "1-train/stage.json").read_text())["status"] == "interrupted"
    saved = int((directory / "1-train/checkpoints/latest").read_text()[-7:])
    assert 4 <= saved < STEPS
    lines = (directory / "1-train/metrics.jsonl").read_text().splitlines()
    assert len(lines) == saved + 1  # nothing done was lost
    attempt(directory, pause=0.02)
    got = content(directory / "1-train")
    for name in ("metrics.jsonl", "model/weights.safetensors", "rollouts/step-000009.parquet"):
        assert got[name] == undisturbed[name]


def _slow_section(ready: Path) -> None:
    with signals.protected():
        with signals.protected():
            ready.touch()
            time.sleep(0.3)
        (ready.parent / "inner").touch()
        time.sleep(0.3)
    (ready.parent / "after").touch()


def test_a_protected_section_is_finished_first(tmp_path):
    pid = in_child(lambda: _slow_section(tmp_path / "ready"))
    _wait_for((tmp_path / "ready").exists)
    os.kill(pid, signal.SIGINT)
    assert exit_code(pid) == 130
    assert (tmp_path / "inner").exists()  # the signal waited for the outer section
    assert not (tmp_path / "after").exists()


def test_a_second_signal_quits_at_once(tmp_path):
    pid = in_child(lambda: _slow_section(tmp_path / "ready"))
    _wait_for((tmp_path / "ready").exists)
    os.kill(pid, signal.SIGINT)
    time.sleep(0.05)
    os.kill(pid, signal.SIGTERM)
    assert exit_code(pid) == 143
    assert not (tmp_path / "inner").exists()


def test_an_unprotected_body_is_interrupted_at_once_and_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with signals.handle_signals(), pytest.raises(signals.Interrupted) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert stop.value.signum == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


# --- two at once ----------------------------------------------------------------------------------


def test_a_second_run_on_the_same_directory_names_the_first(tmp_path):
    directory = tmp_path / "run"

    def hold() -> None:
        with opened(directory):
            (tmp_path / "held").touch()
            time.sleep(30)

    pid = in_child(hold)
    _wait_for((tmp_path / "held").exists)
    for resume in (False, True):
        with pytest.raises(InputError, match=f"process {pid} is using"), opened(directory, resume=resume):
            pass
    os.kill(pid, signal.SIGKILL)
    assert exit_code(pid) == -signal.SIGKILL
    with opened(directory, resume=True):  # a killed process holds nothing
        pass


def slow(stage: Stage) -> int:
    with (stage.out.parent / "calls").open("a") as file:
        file.write(stage.name + "\n")
    time.sleep(0.3)
    return 1


def test_two_processes_compute_a_cached_stage_once(tmp_path, monkeypatch):
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))

    def work(i: int) -> None:
        with opened(tmp_path / f"run{i}") as run:
            run.stage(slow, "0-slow", cache=True)

    children = [in_child(lambda k=i: work(k)) for i in range(3)]
    assert [exit_code(pid) for pid in children] == [0, 0, 0]
    assert (tmp_path / "calls").read_text() == "0-slow\n"
