"""`burnish eval` on models that say nothing sensible, and on tables of words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from burnish.cli import main
from burnish.engines.nano import build_nano
from burnish.tasks.catalog import TASKS

Captured = pytest.CaptureFixture[str]
SHORT = ("--max-tokens", "6")


def found(capsys: Captured, *arguments: str) -> dict[str, Any]:
    assert main(["eval", *arguments, *SHORT, "--json"]) == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


def test_eval_reports_and_repeats(nano: Path, capsys: Captured) -> None:
    arguments = [str(nano), "--task", "largest", "-n", "6", "--samples", "3", "--k", "1,3", "--cons", "3"]
    report = found(capsys, *arguments)
    assert report["n"] == 6 and report["samples"] == 3 and report["split"] == "test"
    assert report["accuracy"].keys() == {"mean", "low", "high", "n"}
    assert report["accuracy/pass@3"]["mean"] >= report["accuracy"]["mean"]
    assert {"accuracy/cons@3", "length/mean", "length/truncated_frac", "calibration"} <= report.keys()
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
