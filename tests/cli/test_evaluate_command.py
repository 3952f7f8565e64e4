"""`burnish eval` on models that say nothing sensible, and on tables of words."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from burnish.cli import main
from burnish.engines.nano import build_nano
from burnish.engines.table import END
from burnish.tasks.catalog import TASKS
from words import write

Captured = pytest.CaptureFixture[str]
SHORT = ("--max-tokens", "6")
ASKED = """
from dataclasses import dataclass
from burnish.types import Example, outcome

@dataclass(frozen=True)
class Asked:
    answer: str = "no"

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return Example(({"role": "user", "content": f"ask{index}"},), self.answer, {"odd": index % 2})

    def with_split(self, split):
        return Asked("yes" if split == "test" else "no")

    def measure(self, example, completion):
        return {"success": float(completion.text.endswith(example.answer))}

    def reward(self, example, completions):
        return [outcome(self.measure(example, one)["success"]) for one in completions]
"""
REST = {"hm ": {"yes": 1.0}, "yes": {END: 1.0}, "no": {END: 1.0}}


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A task of eight questions, to which the answer is yes, and models: "good" knows six, "bad" two and says more."""
    monkeypatch.chdir(tmp_path)
    Path("asked.py").write_text(ASKED)
    good = {f"ask{i}": {"no" if i < 2 else "yes": 1.0} for i in range(8)}
    bad = {f"ask{i}": {"hm " if i in (0, 2) else "no": 1.0} for i in range(8)}
    unsure = {f"ask{i}": {"</think>": 0.55, "no": 0.45} for i in range(8)}
    write(Path("good"), {**good, **REST})
    write(Path("bad"), {**bad, **REST})
    write(Path("unsure"), {**unsure, "</think>": {"yes": 1.0}, **REST})
    return "asked.py:Asked"


def found(capsys: Captured, *arguments: str) -> dict[str, Any]:
    assert main(["eval", *arguments, *SHORT, "--json"]) == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


def test_eval_reports_and_repeats(nano: Path, capsys: Captured) -> None:
    arguments = [str(nano), "--task", "largest", "-n", "6", "--samples", "3", "--k", "1,2,3", "--cons", "3"]
    report = found(capsys, *arguments)
    assert report["n"] == 6 and report["samples"] == 3 and report["split"] == "test"
    assert report["length/mean"]["mean"] <= 6, "as --max-tokens says"
    assert report["accuracy"].keys() == {"mean", "low", "high", "n"}
    assert report["accuracy/pass@3"]["mean"] >= report["accuracy"]["mean"]
    assert [name for name in report if name.startswith("accuracy/cons")] == ["accuracy/cons@3"]
    assert [name for name in report if name.startswith("accuracy/pass")] == ["accuracy/pass@2", "accuracy/pass@3"]
    assert {"length/mean", "length/truncated_frac", "calibration"} <= report.keys()
    assert found(capsys, *arguments) == report
    assert main(["eval", *arguments, *SHORT]) == 0
    text = capsys.readouterr().out
    assert "6 problems, 3 replies each" in text and "mean, 95% interval" in text and "pass@3" in text
    assert "length, tokens" in text and "calibration, confidence = share of the majority" in text


def test_two_models_are_compared_on_the_same_problems(nano: Path, tmp_path: Path, capsys: Captured) -> None:
    other = tmp_path / "other"
    build_nano(other)
    arguments = [str(nano), "--task", "largest", "-n", "5", "--samples", "2", "--k", "2", "--against", str(other)]
    arguments += ["--judge", "accuracy + 0.1*repetition", "--by", "difficulty", "--retention"]
    report = found(capsys, *arguments)
    assert report["against"] == str(other)
    change = report["compared"]["accuracy"]["paired"]
    assert (change["difference"], change["p"]) == (0, 1), "equal models say the same"
    assert report["wins"]["tie"] == 1 and report["wins"]["win_rate"]["mean"] == 0.5
    assert report["accuracy/best@2"]["n"] == 5
    assert sum(sides[0]["n"] for sides in report["by"].values()) == 5
    assert all(len(sides) == 2 for sides in report["by"].values())
    assert report["retention"]["all questions"]["nll"]["paired"]["difference"] == 0
    assert main(["eval", *arguments, *SHORT]) == 0
    text = capsys.readouterr().out
    for part in ("B - A on the same problems", "B wins 0.500", "how they reply", "group by group", "general questions"):
        assert part in text
    assert "…" not in text, "no table is cut"
    assert "forgotten: nothing that these questions and tasks would show" in text


def test_the_better_model_is_said_to_be_better(asked: str, capsys: Captured) -> None:
    arguments = ["good", "--task", asked, "-n", "8", "--samples", "2", "--against", "bad", "--by", "odd"]
    arguments += ["--judge", "accuracy", "--out", "replies.jsonl"]
    report = found(capsys, *arguments)
    assert report["success"]["mean"] == 0.75 and report["length/mean"]["mean"] == 2
    change = report["compared"]["success"]
    assert [change["before"]["mean"], change["after"]["mean"], change["paired"]["difference"]] == [0.25, 0.75, 0.5]
    assert {label: [side["mean"] for side in sides] for label, sides in report["by"].items()} == {
        "0": [0.75, 0.5], "1": [0.75, 0.0],
    }  # fmt: skip
    assert [report["wins"][name] for name in ("win", "tie", "loss")] == [0.625, 0.25, 0.125]
    assert report["wins"]["win_rate"]["mean"] == 0.75
    assert report["calibration"]["error"]["mean"] == pytest.approx(0.25), "always sure, right in three of four"
    rows = [json.loads(line) for line in Path("replies.jsonl").read_text().splitlines()]
    right = {name: sum(r["scores"]["success"] for r in rows if r["model"] == name) for name in ("good", "bad")}
    assert len(rows) == 32 and right == {"good": 12, "bad": 4}
    assert main(["eval", *arguments, *SHORT]) == 0
    text = capsys.readouterr().out
    assert "B = good against A = bad" in text
    assert re.search(r"\bA +B +B - A", text) and re.search(
        r"^ *success +0\.250 .* 0\.750 .* \+0\.500", text, re.MULTILINE
    )
    assert re.search(r"n +B +A *$", text, re.MULTILINE) and re.search(r"^ *0 +4 +0\.750 .* 0\.500", text, re.MULTILINE)
    assert "B wins 0.750" in text and "62% won, 25% tied, 12% lost" in text


def test_split_temperature_and_thoughts(asked: str, capsys: Captured) -> None:
    assert found(capsys, "good", "--task", asked, "-n", "8", "--split", "train")["success"]["mean"] == 0.25
    typed = ["unsure", "--task", asked, "-n", "8", "--samples", "4", "--out", "replies.jsonl"]
    assert 0 < found(capsys, *typed)["success"]["mean"] < 1
    rows = [json.loads(line) for line in Path("replies.jsonl").read_text().splitlines()]
    assert {(row["text"], row["thinking"]) for row in rows} == {("</think>yes", 1), ("no", 0)}
    assert all(row["scores"]["success"] == row["thinking"] for row in rows)
    assert found(capsys, *typed, "--temperature", "0")["success"]["mean"] == 1


def test_a_wrong_name_is_told_before_the_model_is_read(asked: str, capsys: Captured) -> None:
    assert main(["eval", "nowhere", "--task", asked, "-n", "8", "--by", "ood"]) == 2
    assert "Did you mean 'odd'" in capsys.readouterr().err


def test_settings_of_task_and_environment(nano: Path, tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "replies.jsonl"
    typed = [str(nano), "--task", "countdown", "task.most=2", "--env", "feedback", "env.attempts=2", "-n", "3"]
    found(capsys, *typed, "--out", str(out))
    written = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["meta"]["difficulty"] for row in written] == [2, 2, 2]


FRAIL = """
from dataclasses import dataclass
from itertools import count
from burnish.tasks.environments import Judging, Partner

EPISODES = count()

@dataclass(frozen=True)
class Frail(Partner):
    often: int = 3
    max_turns = 1

    def env(self, task, example):
        return Room(task, example, next(EPISODES) % self.often == 1)

@dataclass
class Room(Judging):
    cursed: bool

    def reset(self, seed):
        return self.example.messages

    def step(self, text):
        if self.cursed:
            raise ValueError("no [way] out")
        return (), (), True, {}
"""


def test_why_environments_failed_is_said(
    nano: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("frail.py").write_text(FRAIL)
    typed = [str(nano), "--task", "sum", "--env", "frail.py:Frail", "-n", "4"]
    report = found(capsys, *typed, "--out", "replies.jsonl")  # the first episode of all is the rehearsal
    why = "ValueError: no [way] out (frail.py:25)"
    assert report["failures"] == {str(nano): [f"the environment failed in 2 of 4 episodes with {why}"]}
    rows = [json.loads(line) for line in Path("replies.jsonl").read_text().splitlines()]
    assert {row["finish"]: row.get("failure") for row in rows}["failed"] == why
    assert all(("failure" in row) == (row["finish"] == "failed") for row in rows)
    assert main(["eval", *typed, *SHORT]) == 0
    assert f"failed in 1 of 4 episodes with {why}" in " ".join(capsys.readouterr().out.split())


def test_where_every_environment_fails_nothing_is_measured(
    nano: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("worse.py").write_text(FRAIL.replace("% self.often == 1", "> 0"))
    assert main(["eval", str(nano), "--task", "sum", "--env", "worse.py:Frail", "-n", "2", *SHORT]) == 2
    error = capsys.readouterr().err
    assert "nothing is measured: the environment failed in 2 of 2 episodes with ValueError" in error
    assert "mend it" in error and error.count("\n") == 1


OPEN = [name for name in TASKS if name not in ("humaneval", "gsm8k", "math")]


@pytest.mark.parametrize("name", OPEN)
def test_every_task_is_measured(name: str, nano: Path, capsys: Captured) -> None:
    assert found(capsys, str(nano), "--task", name, "-n", "1")["n"] == 1


def test_general_questions_before_are_those_of_the_other(nano: Path, tmp_path: Path, capsys: Captured) -> None:
    other = tmp_path / "other"
    build_nano(other, seed=1)
    ours, theirs = (found(capsys, str(model), "--retention")["retention"]["facts"]["nll"] for model in (nano, other))
    both = found(capsys, str(nano), "--against", str(other), "--retention")["retention"]["facts"]["nll"]
    assert both["before"] == theirs and both["after"] == ours and ours["mean"] != theirs["mean"]


def test_general_questions_alone(nano: Path, capsys: Captured) -> None:
    report = found(capsys, str(nano), "--retention")
    assert report.keys() == {"model", "retention"} and report["retention"]["facts"]["right"]["n"] == 12
    assert main(["eval", str(nano), "--retention"]) == 0
    assert "nats per token" in capsys.readouterr().out


def test_every_reply_is_written(nano: Path, tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "replies.jsonl"
    report = found(capsys, str(nano), "--task", "sum", "-n", "4", "--samples", "2", "--out", str(out))
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 8 and {row["item"] for row in rows} == {0, 1, 2, 3}
    assert sum(row["scores"]["accuracy"] for row in rows) / 8 == report["accuracy"]["mean"]
    assert sum(row["tokens"] for row in rows) / 8 == pytest.approx(report["length/mean"]["mean"])
    assert rows[0]["meta"]["kind"] == "sum" and {"prompt", "answer", "text", "finish"} <= rows[0].keys()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--task", "larges"], "Did you mean 'largest'"),
        (["--task", "sum", "--split", "tests"], "Did you mean 'test'"),
        (["--task", "sum", "--k", "4"], "add --samples 4"),
        (["--task", "sum", "--k", "0"], "no pass@0"),
        (["--task", "sum", "--k", "one"], "no list of whole numbers"),
        (["--task", "sum", "--cons", "1,8", "--samples", "4"], "cons@8 needs as many replies to each problem"),
        (["--task", "sum", "--cons", "x"], "--cons x is no list"),
        (["--task", "sum", "-n", "20000"], "lower n"),
        (["--task", "sum", "-n", "2", "--by", "dificulty", *SHORT], "Did you mean 'difficulty'"),
        (["--task", "sum", "--judge", "accurac", "--against", "nano"], "Did you mean 'accuracy'"),
        (["--task", "sum", "--judge", "accuracy"], "--judge has nothing to judge"),
        (["--task", "sum", "--out", "no/such/place.jsonl"], "in a directory that exists"),
        (["task.numbrs=2", "--task", "sum"], "unknown key 'task.numbrs'. Did you mean 'task.numbers'?"),
        (["env.calls=2", "--task", "sum"], "env.calls cannot be set: env is None; set env first by its name"),
        (["task.split=dev", "--task", "sum"], "give --split train, dev or test"),
        ([], "add --task NAME"),
        (["--retention", "--by", "difficulty"], "add --task NAME"),
    ],
)
def test_eval_refuses(nano: Path, options: list[str], message: str, capsys: Captured) -> None:
    assert main(["eval", str(nano), *options]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
