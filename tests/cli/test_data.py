"""`burnish data` reports on a file, and lets a model try its prompts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from burnish.cli import main
from curating import speaker, write

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def model(tmp_path: Path) -> str:
    """It says 4 to everything but "?", to which it says 4 or 5."""
    table = {"2+2": {"4": 1.0}, "1+1": {"4": 1.0}, "?": {"4": 0.5, "5": 0.5}}
    return str(speaker(tmp_path / "model", table))


def printed(capsys: Captured, *arguments: str) -> str:
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert not err
    return str(out)


def test_data_reports_on_a_file(tmp_path: Path, nano: Path, capsys: Captured) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "Hi", "completion": "Yo"}\n{"prompt": ""}\n')
    text = printed(capsys, "data", str(path), "--model", str(nano))
    assert "prompt-completion" in text and "sft, grpo" in text and "row (tokens)" in text and "1 empty (row 2)" in text
    assert json.loads(printed(capsys, "data", str(path), "--json"))["rows"] == 2
    assert "prompt_set" not in json.loads(printed(capsys, "data", str(path), "--model", str(nano), "--json"))


def test_a_model_tries_the_prompts(tmp_path: Path, model: str, capsys: Captured) -> None:
    lines = [
        {"prompt": "2+2", "answer": "4", "domain": "sums"},
        {"prompt": "1+1", "answer": "2", "domain": "sums"},
        {"prompt": "true or false?", "answer": "4", "domain": "logic"},
        {"prompt": "?", "domain": "logic"},
    ]
    path = write(tmp_path / "a.jsonl", lines)
    text = printed(capsys, "data", str(path), "--model", model, "--max-tokens", "4")
    for said in (
        "domain", "right in 10 tries", "1 never right (row 2)", "1 always right (row 1)", "1 true or false (row 3)",
        "1 not to be graded (row 4)",
    ):  # fmt: skip
        assert said in text
    found = json.loads(printed(capsys, "data", str(path), "--model", model, "--json", "--samples", "40"))["prompt_set"]
    assert found["coverage"] == {"by": "domain", "kinds": [["sums", 2], ["logic", 2]]}
    assert {doubt["what"]: doubt["rows"] for doubt in found["doubts"]} == {
        "true or false": [3],
        "not to be graded": [4],
    }
    rates = found["difficulty"]["rates"]
    assert rates["1"] == 1 and rates["2"] == 0 and 0.2 < rates["3"] < 0.8 and "4" not in rates


def test_no_tries_and_another_judge(tmp_path: Path, model: str, capsys: Captured) -> None:
    path = write(tmp_path / "a.jsonl", [{"prompt": "2+2"}, {"prompt": "?"}])
    text = printed(capsys, "data", str(path), "--model", model, "--prompts", "0")
    assert "right in" not in text and "2 not to be graded (row 1, 2)" in text
    judge = tmp_path / "mine.py"
    judge.write_text("def score(completion):\n    return 1.0 if completion == '4' else 0.0\n")
    text = printed(capsys, "data", str(path), "--model", model, "--reward", f"{judge}:score")
    assert "1 always right (row 1)" in text and "every answer can be checked" in text


def test_what_cannot_be_done_is_said(tmp_path: Path, model: str, capsys: Captured) -> None:
    path = write(tmp_path / "a.jsonl", [{"prompt": "2+2", "answer": "4"}, {"prompt": ""}])
    assert main(["data", str(path), "--reward", "accuracy"]) == 2
    assert "add --model MODEL" in capsys.readouterr().err
    assert main(["data", str(path), "--model", model]) == 0
    out, err = capsys.readouterr()
    assert "1 empty (row 2)" in out and "the prompts were not checked" in err and "row 2" in err
