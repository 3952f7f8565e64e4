"""`burnish audit` finds what is wrong with a reward, says it, and exits accordingly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from burnish.cli import audit, main
from burnish.rewards import catalog
from tests.judging import Fault, serving

Captured = pytest.CaptureFixture[str]

SOURCE = """
import re

def contains(completion, answer):
    return float(str(answer) in completion)

def tags(completion, answer):
    found = re.findall(r"<answer>(.*?)</answer>", completion.rpartition("</think>")[2])
    return float(found == [answer] and completion.count("<answer>") == 1)

def picky(completion, answer):
    return float(completion == answer != "42")

def divides(completion, answer):
    return float(completion.strip() == answer) / len(completion)

def hangs(completion, answer):
    while not completion:
        pass
    return float(completion.strip() == answer)

def levelled(completion, answer, level):
    return level * (completion.strip() == answer)
"""


@pytest.fixture
def mine(tmp_path: Path) -> str:
    (tmp_path / "mine.py").write_text(SOURCE)
    return f"{tmp_path}/mine.py"


@pytest.fixture
def rows(tmp_path: Path) -> str:
    path = tmp_path / "rows.jsonl"
    asked = [
        {"prompt": f"What is {n} + 4?", "answer": str(n + 4), "level": 2, "completion": "I do not know"}
        for n in (3, 88)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in asked))
    return str(path)


def audited(capsys: Captured, *arguments: str, code: int = 0) -> str:
    assert main(["audit", *arguments]) == code
    out, err = capsys.readouterr()
    assert not err
    return str(out)


def refused(capsys: Captured, *arguments: str) -> str:
    assert main(["audit", *arguments]) == 2
    out, err = capsys.readouterr()
    assert not out and err.startswith("error: ") and "Traceback" not in err
    return str(err)


def test_a_named_reward_is_asked_about_its_own_cases(capsys: Captured) -> None:
    text = audited(capsys, "accuracy")
    assert text.startswith(f"accuracy: {len(catalog.cases('accuracy'))} replies")
    assert "paid for, and wrong: 0" in text and "right, and not paid for: 0" in text


def test_mistakes_are_listed_and_counted(mine: str, capsys: Captured) -> None:
    text = audited(capsys, f"{mine}:contains", code=1)
    assert "at the end of a longer number" in text and "4 times, as '14' got 1, where the answer is '4'" in text
    assert "in the thoughts only" in text and max(map(len, text.splitlines())) < 150
    found = json.loads(audited(capsys, f"{mine}:contains", "--json", code=1))["rewards"][0]
    longer = [each for each in found["false_positives"] if each["why"] == "at the end of a longer number"]
    assert longer[0] == {
        "why": "at the end of a longer number",
        "prompt": "What is 2 + 2?",
        "answer": "4",
        "reply": "14",
        "finish": "eos",
        "value": 1,
    }
    assert found["false_negatives"] == found["raised"] == found["unread"] == []
    assert found["right"] + found["wrong"] == found["cases"]


def test_a_reward_that_hangs_or_dies_on_a_reply_is_told_which(
    mine: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "SECONDS", 0.5)
    text = audited(capsys, f"{mine}:hangs", code=1)
    assert "raised:" in text and "'': the reward took more than 0.5 s" in text


def test_a_convention_is_no_mistake(mine: str, capsys: Captured) -> None:
    """A reward that reads tags only has no fault in that; one that reads a form now and then has."""
    text = audited(capsys, f"{mine}:tags")
    assert "forms of an answer that it does not read: the answer alone, white space around it, in a sentence" in text
    found = json.loads(audited(capsys, f"{mine}:picky", "--json", code=1))["rewards"][0]
    assert [(each["why"], each["reply"]) for each in found["false_negatives"]] == [("the answer alone", "42")]
    assert "white space around it" in found["unread"] and "the answer alone" not in found["unread"]
    Path(mine).write_text(SOURCE + "\ndef never(completion, answer):\n    return 0\n")
    found = json.loads(audited(capsys, f"{mine}:never", "--json", code=1))["rewards"][0]
    assert len(found["false_negatives"]) == found["right"] and not found["unread"]


def test_a_reward_that_raises_is_a_mistake_and_not_a_crash(mine: str, capsys: Captured) -> None:
    text = audited(capsys, f"{mine}:divides", code=1)
    assert "raised: 8" in text and "empty: '': reward function" in text and "ZeroDivisionError" in text
    found = json.loads(audited(capsys, f"{mine}:divides", "--json", code=1))["rewards"][0]
    assert [each["reply"] for each in found["raised"]] == [""] * 8


def test_a_reward_that_always_raises_is_bad_input(mine: str, rows: str, capsys: Captured) -> None:
    text = refused(capsys, f"{mine}:levelled")
    assert "raises on every case" in text and "asks for 'level', which the data do not have" in text
    audited(capsys, f"{mine}:levelled", "--data", rows)


def test_cases_are_made_of_the_users_rows(mine: str, rows: str, capsys: Captured) -> None:
    both = json.loads(audited(capsys, f"{mine}:contains", "--data", rows, "--json", code=1))["rewards"][0]
    assert {each["prompt"] for each in both["false_positives"]} == {"What is 3 + 4?", "What is 88 + 4?"}
    first = json.loads(audited(capsys, f"{mine}:contains", "--data", rows, "-n", "1", "--json", code=1))["rewards"][0]
    assert {each["answer"] for each in first["false_positives"]} == {"7"}


def test_with_data_the_whole_reward_is_asked(rows: str, capsys: Captured) -> None:
    reward = "accuracy + 0.2*format"
    found = json.loads(audited(capsys, reward, "--data", rows, "--json", code=1))["rewards"]
    assert [each["reward"] for each in found] == [reward]
    assert {each["value"] for each in found[0]["false_positives"]} == {0.2}, "the format is paid for"
    audited(capsys, reward, "--data", rows, "--above", "0.2")


def test_the_rewards_of_an_expression_are_asked_one_by_one(mine: str, capsys: Captured) -> None:
    reward = f"(accuracy.when('{mine}:tags') + 0.5*accuracy).clipped(high=1) - 0.5*accuracy(strict=True)"
    found = json.loads(audited(capsys, reward, "--json"))
    assert [each["reward"] for each in found["rewards"]] == ["accuracy", f"{mine}:tags"]
    (skipped,) = found["skipped"].items()
    assert skipped[0] == "accuracy(strict=True)" and "its cases are written for accuracy; give examples" in skipped[1]
    assert audited(capsys, reward).endswith(f"\n\n{skipped[0]}: not audited, {skipped[1]}\n")


def test_rewards_are_shown_as_they_are_typed(capsys: Captured) -> None:
    assert audited(capsys, "kimi_length").startswith("kimi_length(correct=accuracy): ")
    text = refused(capsys, "cosine_length(correct=math(sources=('boxed',)), limit=9)")
    assert "cosine_length(correct=math(sources=('boxed',)), limit=9) cannot be audited" in text


def test_a_judge_is_asked_about_its_own_cases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path))
    with serving(lambda _: '{"reasoning": "", "correct": true}') as server:
        text = audited(capsys, f"cot_math(model='m', url='{server.url}', canaries=9)", code=1)
    assert text.startswith(
        f"cot_math(Endpoint(url='{server.url}', model='m')): {len(catalog.cases('cot_math'))} replies"
    )
    assert "a master key " in text and "an injection " in text and "right, and not paid for: 0" in text
    with serving(lambda _: {"A": 1.0}) as server:
        text = audited(capsys, f"rubric(model='m', url='{server.url}')", code=1)
    assert "class C on a harmful prompt " in text and "class D on a safe prompt " in text


def test_a_judge_who_is_not_there_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path))
    with serving(lambda _: "", *[Fault(503)] * 99) as server:
        for form in ("judge", "cot_math", "rubric"):
            text = refused(capsys, f"{form}(model='m', url='{server.url}', retries=1, backoff=0.0)")
            assert text.startswith(f"error: the judge at {server.url} does not answer after 2 attempts")
    assert len(server.requests) == 6


@pytest.mark.parametrize("form", ["pairwise", "constitution"])
def test_a_judge_that_compares_has_no_cases(form: str, capsys: Captured) -> None:
    text = refused(capsys, f"{form}(model='m', url='http://127.0.0.1:1/v1')")
    assert f"{form}(Endpoint(url='http://127.0.0.1:1/v1', model='m')) cannot be audited: it compares replies" in text


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["acuracy"], "Did you mean 'accuracy'"),
        (["accuracy(strict=True)"], "its cases are written for accuracy"),
        (["."], "is a directory"),
        ([""], "the reward '' cannot be read"),
        (["nowhere.py:score"], "does not exist"),
        (["accuracy", "--data", "nowhere.jsonl"], "does not exist"),
    ],
    ids=lambda value: "".join(value)[:24],
)
def test_bad_input_is_refused(arguments: list[str], problem: str, capsys: Captured) -> None:
    assert problem in refused(capsys, *arguments)


def test_rows_without_an_answer_are_refused(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "Hi"}\n')
    text = refused(capsys, "accuracy", "--data", str(path))
    assert str(path) in text and "fill the column 'answer'" in text
