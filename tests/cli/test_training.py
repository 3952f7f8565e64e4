"""`burnish run`: where a run goes, how it is resumed, rehearsed, replayed and interrupted, and what it exits with."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from burnish.cli import main
from burnish.errors import TrainingHaltedError
from burnish.recipes import grpo
from burnish.run import Run, Stage
from burnish.view import View

Captured = pytest.CaptureFixture[str]
Grpo = Callable[..., list[str]]

STOPPING = """
import os, signal
count = 0
def score(completion):
    global count
    count += 1
    if count == 6 and not os.path.exists("{fixed}"):
        os.kill(os.getpid(), signal.{name})
    return len(completion)
"""

HERE = "reward_seconds=0"
"""The reward is called in the process of the run: one that counts its calls, and signals."""


@pytest.fixture
def arguments(tmp_path: Path, nano: Path) -> Grpo:
    """A small run of grpo: 2 completions a step, nothing held out, a checkpoint at every step."""
    data = tmp_path / "prompts.jsonl"
    data.write_text("".join(json.dumps({"prompt": f"{i}?", "answer": str(i)}) + "\n" for i in range(6)))
    reward = tmp_path / "reward.py"
    reward.write_text("def score(completion):\n    return len(completion)\n")
    fixed = ("rl.steps=4", "rl.prompts=1", "rl.group=2", "rl.sampling.max_tokens=6", "rl.checkpoint_every=1")

    def build(*more: str, out: Path | None = None) -> list[str]:
        where = ["--out", str(out or tmp_path / "run")]
        settings = [f"model={nano}", f"data={data}", f"reward={reward}:score", "heldout=0", *fixed]
        return ["run", "grpo", "--scale", "tiny", *where, *settings, *more]

    return build


def stopping(path: Path, name: str) -> None:
    path.write_text(STOPPING.format(fixed=path.with_name("fixed"), name=name))


def steps(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "1-rl" / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith("perf/")} for line in lines]


def test_the_directory_is_named_after_recipe_and_scale(
    arguments: Grpo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    given = arguments("rl.steps=1")
    assert main([*given[:4], *given[6:]]) == 0
    assert (tmp_path / "runs" / "grpo-tiny" / "1-rl" / "model").is_dir()
    assert "The run is in runs/grpo-tiny;" in capsys.readouterr().out


def test_settings_come_from_scale_then_file_then_overrides(arguments: Grpo, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("rl: {steps: 9, prompts: 3}\nalgo: rloo\n")
    given = [a for a in arguments("rl.steps=1", "--seed", "5", "--quiet") if a != "rl.prompts=1"]
    assert main([*given, "--config", str(tmp_path / "c.yaml")]) == 0
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["recipe"] == "grpo" and record["scale"] == "tiny" and record["seed"] == 5
    assert record["config"]["rl"]["steps"] == 1 and record["config"]["rl"]["prompts"] == 3
    assert record["config"]["algo"]["advantage"] == {"kind": "LeaveOneOut"}


def test_resume_takes_the_settings_it_was_begun_with(arguments: Grpo, tmp_path: Path, capsys: Captured) -> None:
    assert main(arguments("--seed", "3", "rl.steps=2")) == 0
    before = steps(tmp_path / "run")
    capsys.readouterr()
    assert main(["run", "grpo", "--resume", "--out", str(tmp_path / "run")]) == 0
    assert "step 1/" not in capsys.readouterr().out and steps(tmp_path / "run") == before
    assert main(["run", "grpo", "--resume", "--out", str(tmp_path / "run"), "rl.steps=3"]) == 0
    assert len(steps(tmp_path / "run")) == 3
    command = json.loads((tmp_path / "run" / "command.json").read_text())
    assert command["seed"] == 3 and command["overrides"][-2:] == ["rl.steps=2", "rl.steps=3"]


def test_quiet_prints_nothing(arguments: Grpo, capsys: Captured) -> None:
    assert main(arguments("--quiet", "rl.steps=1")) == 0
    assert capsys.readouterr() == ("", "")


def test_a_dry_run_rehearses_and_leaves_nothing(
    arguments: Grpo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = sorted(tmp_path.iterdir())
    assert main(arguments("--dry-run")) == 0
    printed = capsys.readouterr().out
    assert printed.index("rl.prompts") < printed.index("rollouts of at most") < printed.index("mean reward")
    assert "groups with zero variance" in printed and "nothing was trained" in printed
    assert sorted(tmp_path.iterdir()) == before


def test_replay_trains_on_saved_rollouts(arguments: Grpo, tmp_path: Path) -> None:
    assert main(arguments("rl.steps=2")) == 0
    rollouts = tmp_path / "run" / "1-rl" / "rollouts"
    (tmp_path / "reward.py").write_text("def score(completion):\n    raise RuntimeError('not asked again')\n")
    assert main(arguments("rl.steps=2", "--replay", str(rollouts), out=tmp_path / "again")) == 0
    lost = ("reward/timeouts", "reward/crashes", "draw/")
    asked = [
        {name: value for name, value in step.items() if not name.startswith(lost)} for step in steps(tmp_path / "run")
    ]
    assert steps(tmp_path / "again") == asked


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_saves_and_the_run_goes_on(
    arguments: Grpo, tmp_path: Path, name: str, code: int, capsys: Captured
) -> None:
    before = signal.getsignal(signal.SIGINT)  # ignored, where the tests run in the background of a shell
    stopping(tmp_path / "reward.py", name)
    assert main(arguments(HERE)) == code
    assert "--resume --out" in capsys.readouterr().err
    assert len(steps(tmp_path / "run")) == 2, "the third step was not complete"
    assert signal.getsignal(signal.SIGINT) is before
    (tmp_path / "fixed").touch()
    assert main(["run", "grpo", "--resume", "--out", str(tmp_path / "run")]) == 0
    assert main(arguments(HERE, out=tmp_path / "undisturbed")) == 0
    assert steps(tmp_path / "run") == steps(tmp_path / "undisturbed")


def test_the_program_itself_exits_with_the_code_and_without_noise(arguments: Grpo, tmp_path: Path) -> None:
    stopping(tmp_path / "reward.py", "SIGTERM")
    program = str(Path(sys.executable).with_name("burnish"))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([program, *arguments(HERE)], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 143
    assert [line.split(":")[0] for line in done.stderr.split("\n") if line] == [
        "stopping", "stopped; what was done is kept. Continue with",
    ]  # fmt: skip
    assert "step 2/4" in done.stdout and "Warning" not in done.stdout


def test_what_is_said_after_a_stage_stands_below_it(tmp_path: Path) -> None:
    terminal = io.StringIO()
    view = View(Console(file=terminal, force_terminal=True, width=80))
    with Run.open(tmp_path / "run", view=view) as run:
        run.stage(one_step, "0-work")
        run.view.say("the end")
    assert terminal.getvalue().rstrip().endswith("the end")
    assert terminal.getvalue().rindex("0-work") < terminal.getvalue().rindex("the end")


def one_step(stage: Stage) -> int:
    stage.view.stage(stage.name, 1)
    stage.log(1, {"loss": 1.0})
    return 1


def test_halted_training_is_exit_code_1(arguments: Grpo, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    def halt(*_: object) -> None:
        raise TrainingHaltedError("three times in a row")

    monkeypatch.setattr(grpo, "main", halt)
    assert main(arguments()) == 1
    assert capsys.readouterr().err == "training halted: three times in a row\n"


def test_schema_is_that_of_the_settings(capsys: Captured) -> None:
    assert main(["schema", "sft"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["properties"]["fit"]["properties"]["schedule"]["properties"]["lr"] == {"type": "number"}


def test_the_command_line_as_a_module() -> None:
    command = [sys.executable, "-m", "burnish"]
    shown = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True).stdout
    assert shown == "burnish 0.1.0\n"
    wrong = subprocess.run([*command, "explain", "nothing"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2 and wrong.stderr.startswith("error: ")


def test_version_and_usage(capsys: Captured) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == "burnish 0.1.0\n"
    assert main(["run"]) == 2
    assert "Missing argument 'RECIPE'" in capsys.readouterr().err
    assert main(["rum"]) == 2
    assert main(["run", "sft", "--no-such-option"]) == 2
