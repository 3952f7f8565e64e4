"""A task of the user's that cannot work says so in one line, before a model is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from burnish.cli import main
from burnish.errors import InputError
from burnish.tasks.rehearsal import rehearse_reply
from burnish.types import Completion, Example, Reward, outcome

FILE = """
from dataclasses import dataclass
from burnish.types import Example

@dataclass(frozen=True)
class Broken:
    def __len__(self):
        return 4
    def __getitem__(self, i):
        return Example(({"role": "user", "content": f"Say {i}."},), "x")
    def with_split(self, split):
        return self
    def measure(self, example, completion):
        return {"right": float(completion.text == example.answers)}
    def reward(self, example, completions):
        return [()]
"""


@dataclass(frozen=True)
class Plain:
    """Says what it is told to; what is in the way of it is ``how``."""

    how: str = ""
    size: int = 3

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Example:
        if self.how == "item":
            raise KeyError(index)
        return Example(({"role": "user", "content": "ask"},), "1")

    def reward(self, example: Example, completions: Sequence[Completion]) -> list[Reward]:
        if self.how == "reward":
            raise SystemExit(0)
        count = len(completions) - (self.how == "few")
        return [outcome(done.text == example.answer and not done.cut) for done in completions[:count]]

    def measure(self, example: Example, completion: Completion) -> dict[str, float]:
        if self.how == "setting":
            raise InputError("no such grader: choose another")
        if self.how == "cut":
            assert not completion.cut, "not\nmine"
        return {"right": float(completion.text == example.answer)}


class Parted(Plain):
    def with_split(self, split: str) -> Parted:  # noqa: ARG002
        return self


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (Plain(size=0), "^task Plain has no examples: give it at least one$"),
        (
            Plain("item"),
            rf"^task Plain does not work: its first example raised KeyError: 0 \({__file__}, line \d+\); mend",
        ),
        (Plain("reward"), "raised SystemExit: 0"),
        (Plain("few"), "returned 1 values for 2 completions"),
        (Parted("cut"), "raised AssertionError: not mine"),
        (Parted("setting"), "^no such grader: choose another$"),
    ],
)
def test_it_says_what_is_wrong(task: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        rehearse_reply(task)
    assert "\n" not in str(error.value)


def test_what_is_not_asked_for_is_not_tried() -> None:
    rehearse_reply(Parted())
    rehearse_reply(Plain("reward"), rewarded=False)  # type: ignore[arg-type]
    rehearse_reply(Plain("setting"))  # type: ignore[arg-type]  # without splits it is never measured


def test_from_the_command_line(
    nano: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(FILE)
    run = ["run", "grpo", "--scale", "tiny", "task=mine.py:Broken", f"model={nano}", "--out", "run"]
    online = ["run", "online-dpo", *run[2:]]
    distill = ["run", "distill", *run[2:], f"teacher={nano}"]
    curate = ["curate", "reject", str(nano), "--task", "mine.py:Broken", "--out", "kept.jsonl"]
    for command in (["eval", str(nano), "--task", "mine.py:Broken", "-n", "2"], run, online, distill, curate):
        assert main(command) == 2
        error = capsys.readouterr().err
        assert "error: task Broken does not work: its first example raised AttributeError" in error
        assert "mine.py, line 14); mend it and run again" in error
    Path("mine.py").write_text(FILE.replace("answers", "answer"))
    assert main(run) == 2
    assert "the reward of task Broken returned 1 values for 2 completions" in capsys.readouterr().err
    assert main([*run, "reward=accuracy", "rl.steps=1", "rl.sampling.max_tokens=2", "eval_n=1", "--quiet"]) == 0
