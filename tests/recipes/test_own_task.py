"""docs/tasks.md: its table is the catalog's, and its task is checked, trained on and measured as the page prints it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from burnish.cli import main
from burnish.tasks.catalog import TITLES

PAGE = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text(encoding="utf-8")
BARE = """
from dataclasses import dataclass
from burnish.types import Example, outcome

@dataclass(frozen=True)
class Bare:
    size: int = 8
    def __len__(self):
        return self.size
    def __getitem__(self, i):
        return Example(({"role": "user", "content": f"Say {i}."},))
    def reward(self, example, completions):
        return [outcome(len(done.text) % 2) for done in completions]
"""
LITTLE = (
    "rl.steps=1",
    "rl.prompts=2",
    "rl.group=2",
    "rl.sampling.max_tokens=8",
    "rl.eval_items=2",
    "eval_n=2",
    "--quiet",
)


@pytest.fixture
def task() -> str:
    block = re.search(r"<!-- task -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    assert block is not None and len(block[1].splitlines()) < 60
    return block[1]


def test_the_table_is_that_of_the_catalog() -> None:
    table = re.search(r"<!-- tasks -->\n(.*?)\n<!-- /tasks -->", PAGE, re.DOTALL)
    assert table is not None
    assert table[1].splitlines()[2:] == [f"| `{name}` | {title} |" for name, title in TITLES.items()]


def test_the_task_of_the_page_validates(task: str, tmp_path: Path) -> None:
    (tmp_path / "clock.py").write_text(task)
    done = subprocess.run(
        [sys.executable, "clock.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0 and "splits are disjoint" in done.stdout, done.stderr


def test_the_commands_of_the_page_run(task: str, nano: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clock.py").write_text(task)
    printed = re.search(r"<!-- commands -->\n```\n(.*?)```", PAGE, re.DOTALL)
    assert printed is not None
    run, evaluate = (shlex.split(line)[1:] for line in printed[1].splitlines())
    assert main([*run, f"model={nano}", *LITTLE, "--out", "run"]) == 0
    [rollouts] = (tmp_path / "run" / "1-rl" / "rollouts").glob("*.parquet")
    assert rollouts.stat().st_size and json.loads((tmp_path / "run" / "run.json").read_text())["config"]["task"] == {
        "kind": "Clock", "split": "train", "size": 10_000, "seed": 0, "style": "think", "longest": 12,
    }  # fmt: skip
    evaluate[1] = str(nano)
    assert main([*evaluate, "-n", "2", "--max-tokens", "4"]) == 0

    before = (tmp_path / "run" / "1-rl" / "stage.json").read_text()
    (tmp_path / "clock.py").write_text(task.replace("longest: int = 12", "longest: int = 11"))
    assert main([*run, f"model={nano}", *LITTLE, "--out", "run", "--resume"]) == 0
    after = (tmp_path / "run" / "1-rl" / "stage.json").read_text()
    assert json.loads(before)["hash"] != json.loads(after)["hash"], "an edited task is another task"


def test_a_task_without_splits_is_trained_on_and_the_run_says_that_nothing_is_measured(
    nano: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bare.py").write_text(BARE)
    settings = [setting for setting in LITTLE if setting != "--quiet"]
    assert (
        main(["run", "grpo", "--scale", "tiny", "task=bare.py:Bare", f"model={nano}", *settings, "--out", "run"]) == 0
    )
    said = " ".join("".join(capsys.readouterr()).split())
    assert "Bare has no with_split: all of it is trained on, and nothing is measured" in said
    assert [path.name for path in (tmp_path / "run").glob("*-*")] == ["1-rl"]
    assert main(["eval", str(nano), "--task", "bare.py:Bare"]) == 2
    assert "Bare has no splits to measure on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("humaneval", "its problems are for measuring"),
        ("gsm8k", "task.path=DIR"),
        ("nowhere.py:Task", "does not exist"),
        ("points42", "Did you mean 'points24'"),
    ],
)
def test_what_cannot_be_trained_on_is_one_clear_error(
    name: str, message: str, nano: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "run",
        "grpo",
        "--scale",
        "tiny",
        f"task={name}",
        f"model={nano}",
        "--out",
        str(tmp_path / "run"),
        *LITTLE,
    ]
    assert main(command) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "Traceback" not in error and len(error.splitlines()) == 1
    assert not (tmp_path / "run").exists()
