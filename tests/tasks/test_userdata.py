"""A user's file as a task: parts that share no prompt, graders, and errors that name the row."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from burnish.data.comparisons import Comparisons
from burnish.data.datasets import Dataset, Texts
from burnish.data.overlap import overlap
from burnish.errors import InputError
from burnish.rewards.function import load_function
from burnish.stage import fingerprint
from burnish.tasks.userdata import Part, UserTask, parts
from burnish.types import Completion, Example


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def questions(tmp_path: Path) -> str:
    return write(tmp_path / "q.jsonl", [{"prompt": f"What is {i}?", "answer": str(i), "level": i} for i in range(40)])


def said(text: str, finish: str = "eos") -> Completion:
    return Completion((1, 2), text, ({"role": "assistant", "content": text},), finish)


def test_parts_cover_the_file_once_and_never_change(questions: str) -> None:
    train, heldout = parts(Part, questions, 7)
    assert heldout is not None and len(heldout) == 7
    assert sorted(train.rows + heldout.rows) == list(range(1, 41))
    assert list(train.rows) == sorted(train.rows), "the order of the file"
    assert list(heldout.rows) != sorted(heldout.rows), "the first few are a random sample"
    assert parts(Part, questions, 7)[1].rows == heldout.rows  # type: ignore[union-attr]
    assert overlap(train, heldout) == []
    assert train[0] == train.data[train.rows[0] - 1]
    with pytest.raises(IndexError):
        train[33]


@pytest.mark.parametrize(("rows", "count"), [(5, 0), (10, 1), (40, 4), (3000, 200)])
def test_a_tenth_is_held_out_by_default(tmp_path: Path, rows: int, count: int) -> None:
    train, heldout = parts(Part, write(tmp_path / "a.jsonl", [{"prompt": f"Q{i}"} for i in range(rows)]), None)
    assert (len(train), len(heldout) if heldout else 0) == (rows - count, count)


def test_all_rows_of_a_prompt_are_held_out_or_none(tmp_path: Path) -> None:
    rows = [{"prompt": "often"}, {"prompt": " Often "}] * 10 + [{"prompt": f"Q{i // 2}"} for i in range(40)]
    train, heldout = parts(Part, write(tmp_path / "a.jsonl", rows), 15)
    assert heldout is not None and len(heldout) == 14, "whole prompts of two rows each; the one with 20 is too large"
    assert len(train) + len(heldout) == 60 and set(train.rows).isdisjoint(heldout.rows)
    assert overlap(train, heldout) == []
    same = write(tmp_path / "b.jsonl", [{"prompt": "one"}] * 20)
    with pytest.raises(InputError, match=r"its prompts occur several times: .*heldout=0"):
        len(parts(Part, same, 5)[0])
    assert len(parts(Part, same, 0)[0]) == 20


def test_a_heldout_file_must_not_share_prompts(questions: str, tmp_path: Path) -> None:
    other = write(tmp_path / "h.jsonl", [{"prompt": "New?", "answer": "1"}])
    train, heldout = parts(UserTask, questions, other)
    assert (len(train), len(heldout or ())) == (40, 1)
    leaking = write(tmp_path / "l.jsonl", [{"prompt": "New?"}, {"prompt": "what is  3?"}])
    with pytest.raises(InputError, match="1 of 2 held-out prompts also occur in the training data"):
        parts(UserTask, questions, leaking)


def test_comparisons_and_texts_are_split_too(tmp_path: Path) -> None:
    pairs = [{"prompt": f"Q{i}", "chosen": "a", "rejected": "b"} for i in range(20)]
    train, heldout = parts(Part, write(tmp_path / "p.jsonl", pairs), None, Comparisons)
    assert heldout is not None and (len(train), len(heldout)) == (18, 2)
    assert {item.prompt[0]["content"] for item in (train[0], heldout[0])} == {
        f"Q{part.rows[0] - 1}" for part in (train, heldout)
    }
    texts = [{"text": f"Story {i}"} for i in range(20)] + [{"text": " story  3"}]
    train, heldout = parts(Part, write(tmp_path / "t.jsonl", texts), 4, Texts)
    assert heldout is not None and len(heldout) == 4 and overlap(train, heldout) == []
    with pytest.raises(InputError, match=r"1 of 1 held-out texts also occur in the training data, .*'story 3'"):
        parts(Part, str(tmp_path / "t.jsonl"), write(tmp_path / "h.jsonl", [{"text": "story 3"}]), Texts)


@pytest.mark.parametrize(("heldout", "message"), [(40, "leaves none to train on"), (-1, "number of rows")])
def test_counts_that_make_no_sense(questions: str, heldout: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        len(parts(Part, questions, heldout)[0])


def test_the_content_of_the_file_is_what_a_stage_knows(questions: str, tmp_path: Path) -> None:
    def hashed(path: str) -> str:
        return fingerprint(do_nothing, [Part(Dataset(path))], {}, 0)

    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(Path(questions).read_bytes())
    before = hashed(questions)
    assert hashed(str(copy)) == before
    copy.write_text(copy.read_text().replace("What is 3?", "What is 4?"))
    assert hashed(str(copy)) != before


def do_nothing(_stage: None, data: Part) -> None:
    del data


def test_without_a_grader_the_answer_decides(questions: str) -> None:
    task = UserTask(Dataset(questions))
    example = task[3]
    assert task.reward(example, [said("It is 3."), said("4")]) == [((-1, 1.0, "accuracy"),), ((-1, 0.0, "accuracy"),)]
    assert task.measure(example, said("It is 3.")) == {"accuracy": 1.0, "accuracy_strict": 0.0}
    task.require_grading()


def test_a_grader_sees_columns_and_plain_prompts(questions: str, tmp_path: Path) -> None:
    (tmp_path / "r.py").write_text(
        "def one(completion, answer, level):\n    return {'right': completion == answer, 'level': level}\n"
        "def many(prompts, completions, **columns):\n"
        "    return [float(p == 'What is 3?' and c == 'x') for p, c in zip(prompts, completions)]\n"
    )
    one = UserTask(Dataset(questions), grader=load_function(f"{tmp_path}/r.py:one"))
    assert one.reward(one[3], [said("3")]) == [((-1, 1.0, "right"), (-1, 3.0, "level"))]
    assert one.measure(one[3], said("3")) == {"reward": 4.0}
    many = UserTask(Dataset(questions), grader=load_function(f"{tmp_path}/r.py:many"))
    assert [sum(p.value for p in r) for r in many.reward(many[3], [said("x"), said("y")])] == [1.0, 0.0]


def test_assistant_messages_at_the_end_are_not_part_of_the_prompt(tmp_path: Path) -> None:
    turns = [{"role": r, "content": r} for r in ("system", "user", "assistant", "user", "assistant")]
    task = UserTask(Dataset(write(tmp_path / "m.jsonl", [{"messages": turns, "answer": "1"}])))
    assert [m["role"] for m in task[0].messages] == ["system", "user", "assistant", "user"]
    assert task[0].answer == "1"


def test_rows_that_cannot_be_graded_are_named(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": "a", "answer": "1", "level": 1},
        {"prompt": "b", "level": 2},
        {"prompt": "c", "answer": ""},
    ]
    path = write(tmp_path / "a.jsonl", rows)
    with pytest.raises(InputError, match=r"2 of 3 rows have no column 'answer' \(the first is row 2; .*: level\)"):
        UserTask(Dataset(path)).require_grading()
    (tmp_path / "r.py").write_text("def score(completion):\n    return 1\n")
    UserTask(Dataset(path), grader=load_function(f"{tmp_path}/r.py:score")).require_grading()


def test_check_names_the_row_of_the_file(questions: str) -> None:
    train, heldout = parts(partial(UserTask), questions, 10)
    row = train.rows[-1]

    def verify(example: Example) -> None:
        if example.answer == str(row - 1):
            raise InputError("not this one")

    with pytest.raises(InputError, match=rf"q\.jsonl, row {row}: not this one"):
        train.check(verify)
    assert heldout is not None
    heldout.check(verify)
