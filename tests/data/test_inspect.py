"""The report tells what is in a file, what is wrong with it and what it is good for, and does not stop at bad rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from burnish.data.chat import Chat
from burnish.data.inspect import Lengths, Problem, Report, inspect, render
from burnish.errors import InputError

Write = Callable[[str, str], Path]


def jsonl(*rows: Any) -> str:
    return "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)


def shown(report: Report) -> str:
    console = Console(width=120, no_color=True)
    with console.capture() as captured:
        console.print(render(report))
    return captured.get()


def test_a_clean_file(write: Write) -> None:
    path = write("a.jsonl", jsonl(*[{"prompt": "x" * n, "answer": n} for n in range(1, 21)]))
    report = inspect(path)
    lengths = (Lengths("prompt (characters)", 1, 10, 19, 20),)
    assert report == Report(str(path), "prompt-only", 20, ("prompt", "answer"), lengths, (), ("grpo",))
    assert "no problems found" in shown(report)


def test_every_problem_is_counted_and_none_stops_the_report(write: Write) -> None:
    good = [{"prompt": f"question {n}", "completion": "yes"} for n in range(8)]
    bad = [
        '{"prompt": ',
        {"prompt": "question 0", "completion": "yes"},
        {"prompt": " ", "completion": "yes"},
        {"prompt": "no completion"},
        {"prompt": 5, "completion": "yes"},
        {"prompt": "x" * 500, "completion": "yes"},
        "[]",
    ]
    report = inspect(write("a.jsonl", jsonl(*good, *bad)))
    assert (report.kind, report.rows, report.recipes) == ("prompt-completion", 15, ("sft", "grpo"))
    assert [(p.what, p.count, p.rows) for p in report.problems] == [
        ("malformed", 2, (9, 15)),
        ("empty", 2, (11, 12)),
        ("unusable", 1, (13,)),
        ("duplicate", 1, (10,)),
        ("very long", 1, (14,)),
    ]
    details = {problem.what: problem.detail for problem in report.problems}
    assert "malformed JSON at column" in details["malformed"]
    assert details["duplicate"] == "the same as row 1"
    assert "503 characters" in details["very long"]
    text = shown(report)
    assert "2 malformed (row 9, 15): malformed JSON" in text
    assert "completion (characters)" in text


def test_only_the_first_few_rows_are_named(write: Write) -> None:
    report = inspect(write("a.jsonl", jsonl(*[{"text": "same"}] * 9)))
    assert report.problems == (Problem("duplicate", 8, (2, 3, 4, 5, 6), "the same as row 1"),)
    assert "8 duplicate (row 2, 3, 4, 5, 6, ...)" in shown(report)


def test_tokens_are_those_of_the_template(write: Write, chatml: Chat) -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]
    ended = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "a<|im_end|>b"}]
    report = inspect(write("a.jsonl", jsonl(*[{"messages": m} for m in (turns, turns[:1], ended)])), chatml)
    counts = sorted([len(chatml.encode_dialogue(turns)[0]), len(chatml.encode_prompt(turns[:1]))])  # type: ignore[arg-type]
    assert report.lengths[-1] == Lengths("row (tokens)", counts[0], counts[0], counts[1], counts[1])
    assert [(p.what, p.rows) for p in report.problems] == [("without assistant message", (2,)), ("unusable", (3,))]
    assert report.lengths[0].what == "messages (characters)"
    text = inspect(write("b.jsonl", jsonl({"text": "Hi", "id": 1})), chatml)
    assert text.lengths[-1].max == len(chatml.tokenizer("Hi", add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize(
    ("row", "kind", "measured"),
    [
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "preference", ["prompt", "chosen", "rejected"]),
        ({"chosen": [{"role": "user", "content": "b"}], "rejected": "c"}, "preference", ["chosen", "rejected"]),
        ({"prompt": "a", "completion": "b", "label": True}, "unpaired", ["prompt", "completion"]),
        ({"prompt": "a", "completions": ["b"], "labels": [True]}, "stepwise", ["prompt", "completions"]),
    ],
)
def test_kinds_without_a_recipe_say_so(write: Write, row: Any, kind: str, measured: list[str]) -> None:
    report = inspect(write("a.jsonl", jsonl(row)))
    assert (report.kind, report.recipes, report.problems) == (kind, (), ())
    assert [(length.what, length.max) for length in report.lengths] == [(f"{m} (characters)", 1) for m in measured]
    assert f"no recipe yet for data of kind '{kind}'" in shown(report)


def test_sharegpt_is_measured_under_its_own_name(write: Write) -> None:
    turns = [{"from": "human", "value": "abc"}, {"from": "gpt", "value": "de"}]
    report = inspect(write("a.jsonl", jsonl({"conversations": turns})))
    assert report.lengths == (Lengths("conversations (characters)", 5, 5, 5, 5),)
    assert (report.kind, report.problems) == ("messages", ())


def test_unknown_columns_are_a_report_too(write: Write) -> None:
    report = inspect(write("a.jsonl", jsonl({"question": "[bold]a"}, "oops")))
    assert (report.kind, report.rows, report.columns) == (None, 2, ("question",))
    assert report.problems[0].what == "malformed"
    assert "the columns are question" in shown(report).replace("\n", " ")


def test_what_concerns_the_whole_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        inspect(tmp_path / "a.jsonl")
