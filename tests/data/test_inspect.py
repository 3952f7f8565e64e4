"""The report tells what is in a file, what is wrong with it and what it is good for, and does not stop at bad rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from burnish.data.chat import Chat
from burnish.data.comparisons import comparisons
from burnish.data.inspect import Lengths, Problem, Report, inspect, render
from burnish.data.kinds import COMPARED, RECIPES, kind
from burnish.data.rows import load_rows
from burnish.data.units import encode
from burnish.errors import InputError

Write = Callable[[str, str], Path]
FIXTURES = Path(__file__).parent / "fixtures"


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
    assert report == Report(
        str(path), "prompt-only", 20, ("prompt", "answer"), lengths, (), ("grpo", "ppo", "online-dpo", "distill")
    )
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
    assert (report.kind, report.rows, report.recipes[:2]) == ("prompt-completion", 15, ("sft", "grpo"))
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


@pytest.mark.parametrize("name", sorted(path.stem for path in FIXTURES.iterdir()))
def test_every_public_layout_has_a_report(name: str, chatml: Chat) -> None:
    path = FIXTURES / f"{name}.jsonl"
    report = inspect(path, chatml)
    assert report.kind == kind(load_rows(path))
    assert report.recipes == RECIPES.get(report.kind, ())
    assert (report.feedback is None) == (report.kind not in COMPARED)
    assert report.lengths[-1].what.endswith("(tokens)")
    assert {problem.what for problem in report.problems} <= {"without a rating", "against the scores"}
    json.dumps(asdict(report))
    assert (", ".join(report.recipes) or report.note) in shown(report)


def test_judged_rows_are_read_and_measured(write: Write, chatml: Chat) -> None:
    good = [{"prompt": f"q{n}", "chosen": "long answer", "rejected": "short"} for n in range(20)]
    bad = [
        {"prompt": "q", "chosen": "same", "rejected": "same"},
        {"prompt": "q", "chosen": "", "rejected": "b"},
        {"prompt": "q", "chosen": "a", "rejected": "b", "margin": "x"},
        {"prompt": "q", "chosen": "a", "rejected": "b", "score_chosen": 1, "score_rejected": 2},
    ]
    report = inspect(write("a.jsonl", jsonl(*good, *bad)))
    assert [(p.what, p.rows) for p in report.problems] == [
        ("identical answers", (21,)),
        ("empty", (22,)),
        ("unusable", (23,)),
        ("against the scores", (24,)),
    ]
    assert report.feedback is not None
    assert (report.feedback.pairs, report.feedback.longer and report.feedback.longer.value) == (22, 1.0)
    assert [(each.what, each.max) for each in report.lengths] == [
        ("prompt (characters)", 3),
        ("answer (characters)", 11),
    ]
    text = " ".join(shown(report).split())
    assert "the better answer is longer in 100% of pairs" in text and "may learn to judge by length" in text
    tokens = inspect(write("b.jsonl", jsonl(*good)), chatml).lengths[-1]
    units = sorted(len(row) for item in comparisons(good) for row in encode(chatml, item))
    assert tokens == Lengths("prompt with answer (tokens)", units[0], units[19], units[37], units[-1])


def test_an_answer_much_longer_than_the_others_is_named(write: Write) -> None:
    rows = [{"prompt": f"q{n}", "completion": "yes", "label": True} for n in range(9)]
    report = inspect(write("a.jsonl", jsonl(*rows, {"prompt": "q", "completion": "x" * 500, "label": False})))
    assert [(p.what, p.rows) for p in report.problems] == [("very long", (10,))]


def test_many_answers_are_not_one_long_one(write: Write, chatml: Chat) -> None:
    rows = [{"prompt": "q", "answers": [{"answer": f"a{n}", "rank": n} for n in range(k)]} for k in (2, 2, 2, 40)]
    for chat in (None, chatml):
        report = inspect(write("a.jsonl", jsonl(*rows)), chat)
        assert "very long" not in [problem.what for problem in report.problems]


def test_rows_without_a_rating_are_named() -> None:
    report = inspect(FIXTURES / "prm800k.jsonl")
    detail = "no step is rated, or the problem was reported as broken"
    assert report.problems == (Problem("without a rating", 1, (4,), detail),)


def test_a_file_without_a_usable_row_has_a_report(write: Write) -> None:
    report = inspect(write("a.jsonl", jsonl({"prompt": "q", "chosen": "", "rejected": ""})))
    assert (report.kind, report.feedback, report.lengths) == ("preference", None, ())
    assert [(p.what, p.count) for p in report.problems] == [("empty", 1)]


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
