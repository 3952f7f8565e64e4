"""Environments from the command line: by name, from a file, on a task and on data; and the page that shows how to write one."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from burnish import config
from burnish.cli import main
from burnish.errors import InputError
from burnish.recipes import catalog
from burnish.recipes.grpo import SCALES, grading, played
from burnish.rewards.accuracy import Accuracy
from burnish.tasks.catalog import ENVS, environment
from burnish.tasks.countdown import Countdown
from burnish.tasks.environments import Conversation, Rewarded
from burnish.tasks.feedback import Feedback
from burnish.tasks.maze import MazeTask
from burnish.tasks.python_tool import PythonTool

PAGE = Path(__file__).parents[2] / "docs" / "environments.md"
Captured = pytest.CaptureFixture[str]
QUICK = ("rl.steps=2", "rl.prompts=2", "rl.group=2", "rl.sampling.max_tokens=6", "eval_n=2", "--quiet")

ODD = """
from dataclasses import dataclass
from burnish.tasks.environments import Partner

@dataclass(frozen=True)
class Broken(Partner):
    max_turns = 2

    def env(self, task, example):
        return example.nothing

@dataclass(frozen=True)
class Loner:
    pass
"""


@pytest.fixture
def own(tmp_path: Path, nano: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to type commands in."""
    monkeypatch.chdir(tmp_path)
    return nano


def rows(run: str, step: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(f"runs/{run}/1-rl/rollouts/step-{step:06d}.parquet").to_pylist()
    return found


@pytest.mark.parametrize("recipe", ["grpo", "ppo"])
def test_feedback_on_a_task(recipe: str, own: Path) -> None:
    order = ["run", recipe, "--scale", "tiny", f"model={own}", "task=countdown", "env=feedback", "env.attempts=3"]
    more = ["rl.minibatches=1"] * (recipe == "ppo")
    assert main([*order, "--out", "runs/one", *QUICK, *more]) == 0
    last = {row["episode"]: row for row in rows("one", 1)}  # a control token in a reply begins another row
    for row in last.values():
        assert (row["prompt"] + row["completion"]).count("Try again.<|end|>") == 2, "an untrained model is never right"
        assert [part["position"] for part in row["rewards"]] == [len(row["mask"]) - 1]
    summary = json.loads(Path("runs/one/summary.json").read_text())
    assert {"accuracy", "accuracy_strict", "first_try"} <= set(summary["1-rl"])


def test_feedback_on_data_with_a_reward_of_ones_own(own: Path) -> None:
    Path("p.jsonl").write_text("".join(json.dumps({"prompt": f"{i}?"}) + "\n" for i in range(8)))
    Path("r.py").write_text("def score(completion):\n    return 0.25\n")
    order = ["run", "grpo", "--scale", "tiny", f"model={own}", "data=p.jsonl", "heldout=2", "reward=r.py:score"]
    assert main([*order, "env=feedback", "env.attempts=2", "env.pay=each", "--out", "runs/two", *QUICK]) == 0
    paid = [(row["episode"], part["value"]) for row in rows("two", 2) for part in row["rewards"]]
    assert Counter(paid) == {(episode, 0.25): 2 for episode, _ in paid} and len(paid) == 8


def test_the_page_does_what_it_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = PAGE.read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    source = re.search(r"<!-- hints.py -->\n```python\n(.*?)```", text, re.DOTALL)
    commands = re.search(r"<!-- commands -->\n```\n(.*?)```", text, re.DOTALL)
    assert source is not None and commands is not None and source[1].count("\n") < 60
    Path("hints.py").write_text(source[1])
    for line in commands[1].splitlines():
        assert main(shlex.split(line)[1:]) == 0, line
    said = " ".join(row["completion"] for row in rows("hints", 1))
    assert "a number, please" in said
    task = environment("hints.py:Hints")(catalog.get("grpo") and Countdown())
    assert isinstance(task, Conversation) and task.try_out(Countdown()[0]) == 2


def test_the_page_names_every_environment_and_its_settings() -> None:
    table = dict(re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    for name in ENVS:
        settings = {key for key, _ in config.describe(environment(name)) if "." not in key}
        assert set(re.findall(r"`(\w+)`", table.pop(name))) == settings
    assert not table


def test_bad_environments_are_one_line(own: Path, capsys: Captured) -> None:
    Path("odd.py").write_text(ODD)
    order = ["run", "grpo", "--scale", "tiny", f"model={own}", "--out", "runs/bad", *QUICK]
    for settings, message in (
        (["task=countdown", "env=feedbck"], r"env: unknown environment 'feedbck'\. Did you mean 'feedback'"),
        (["task=countdown", "env=odd.py:Brokn"], "Did you mean 'Broken'"),
        (["task=countdown", "env=none.py:Env"], "does not exist"),
        (["task=countdown", "env=odd.py:Loner"], "inherit from burnish.tasks.environments.Partner"),
        (
            ["task=countdown", "env=odd.py:Broken"],
            r"does not work: its first turn raised AttributeError.*odd\.py, line 10",
        ),
        (["task=maze", "env=feedback"], "MazeTask has turns of its own"),
        (["task=maze", "reward=accuracy"], "its env pays: leave the reward out"),
        (
            ["task=countdown", "env=feedback", "env.attempt=3"],
            r"unknown key 'env\.attempt'\. Did you mean 'env\.attempts'\? Keys of 'env': attempts",
        ),
        (["task=countdown", "env=python", "env.backend=remote"], "no sandbox for programs works here"),
        (["task=word-game", "rl.group=3"], "a group of 3 has one too many: set an even rl.group"),
        (
            ["task=word-game", "rl.group=4", "algo=remax"],
            "a group of 5 has one too many.* algorithm without a greedy row",
        ),
        (["task=countdown", "env=feedback", "reward=accuracy.within_group()"], "judges replies one by one"),
    ):
        assert main([*order, *settings]) == 2, settings
        error = capsys.readouterr().err
        assert re.search(message, error), error
        assert error.startswith("error: ") and error.count("error:") == 1
        assert not Path("runs/bad").exists(), "nothing was begun"


@pytest.mark.parametrize("task", ["maze", "mazes", "word-game"])
def test_conversations_by_name(task: str, own: Path) -> None:
    order = ["run", "grpo", "--scale", "tiny", f"model={own}", f"task={task}", "--out", "runs/c", *QUICK]
    assert main([*order, "rl.steps=1", *(["task.longest=6", "task.cap=6"] if task == "mazes" else [])]) == 0
    assert rows("c", 1)


def test_evaluation_with_an_environment(own: Path, capsys: Captured) -> None:
    order = ["eval", str(own), "--task", "sum", "-n", "3", "--max-tokens", "4"]
    assert main([*order, "--env", "feedback", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["env"] == "feedback" and found["first_try"]["n"] == 3
    assert main([*order, "--env", "calculater"]) == 2
    assert "Did you mean 'calculator'" in capsys.readouterr().err
    Path("odd.py").write_text(ODD)
    assert main([*order, "--env", "odd.py:Broken"]) == 2, "and not a success rate of 0"
    assert "raised AttributeError" in capsys.readouterr().err


def test_names_and_kinds_in_a_configuration() -> None:
    tiny = catalog.get("grpo").SCALES["tiny"]
    assert config.apply(tiny, ["env=feedback", "env.attempts=2"]).env == Feedback(2)
    assert config.apply(tiny, ["env={kind: PythonTool, calls: 1, limits: {cpu: 2}}"]).env == PythonTool(
        calls=1, limits=replace(PythonTool().limits, cpu=2)
    )
    settings = config.apply(tiny, ["env=python"])
    assert config.apply(tiny, [f"env={json.dumps(config.plain(settings.env))}"]) == settings
    with pytest.raises(InputError, match="task maze is a conversation"):
        config.apply(catalog.get("distill").SCALES["tiny"], ["task=maze"])


def test_what_an_environment_grades_with() -> None:
    assert played(Countdown(), Feedback(), None) == Conversation(Countdown(), Feedback())
    assert played(Countdown(), Feedback(), Accuracy()) == Conversation(Rewarded(Countdown(), Accuracy()), Feedback())
    assert played(MazeTask(), None, None) == MazeTask()
    with pytest.raises(InputError, match="no commentary"):
        grading(replace(SCALES["tiny"], task=Countdown(), env=Feedback()))
    with pytest.raises(InputError, match="no commentary"):
        grading(replace(SCALES["tiny"], task=MazeTask()))
