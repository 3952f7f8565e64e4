"""Every accepted format becomes the same examples; every mistake in a file is named with its row and its fix."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.data import datasets
from burnish.data.datasets import Dataset, examples, kind, load_rows, prompt_of, texts
from burnish.errors import InputError
from burnish.types import Example

Write = Callable[[str, str], Path]
USER, ASSISTANT = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}


@given(rows=st.lists(st.dictionaries(st.text(), st.text() | st.integers() | st.none()), min_size=1, max_size=4))
def test_jsonl_and_json_keep_any_text(rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp()
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]  # line separators such as U+2028 stay raw
    (folder / "a.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8", errors="surrogatepass")
    (folder / "a.json").write_text(json.dumps(rows))
    assert load_rows(folder / "a.json") == rows
    if not any(0xD800 <= ord(c) < 0xE000 for c in "".join(lines)):
        assert load_rows(folder / "a.jsonl") == rows


def test_parquet_holds_the_same_rows(tmp_path: Path) -> None:
    rows = [{"messages": [USER, ASSISTANT], "level": 1}, {"messages": [USER], "level": None}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert load_rows(tmp_path / "a.parquet") == rows
    assert examples(load_rows(tmp_path / "a.parquet"))[0].meta == {"level": 1}


def test_windows_files_and_trailing_blank_lines_are_fine(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "a"}\r\n{"text": "b"}\r\n\r\n')
    assert texts(load_rows(tmp_path / "a.jsonl")) == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", "", "is empty"),
        ("a.jsonl", "\n\n", "has no rows"),
        ("a.json", "[]", "has no rows"),
        ("a.jsonl", '{"text": "a"}\n{"text": }\n', r"a.jsonl, row 2: malformed JSON at column 10 \(Expecting value\)"),
        ("a.jsonl", '{"text": "a"}\n\n{"text": "b"}', "row 2: the line is blank: remove it"),
        ("a.jsonl", '{"text": "a"}\n["b"]', "row 2: the row is a JSON array: make it an object"),
        ("a.json", '[{"text": "a"}, 7]', "row 2: the row is a JSON number"),
        ("a.json", '{"text": "a"}', "holds a JSON object: make it an array of objects"),
        ("a.json", '{"text": "a"}\n{"text": "b"}', r"line 2: malformed JSON .*name it .jsonl"),
        ("a.json", '[{"text": "a"},\n', "line 2: malformed JSON"),
        ("a.parquet", "PAR1 no", "not a readable Parquet file"),
        ("a.csv", "text\na", "ends in '.csv': convert it to one of .json, .jsonl, .parquet"),
    ],
)
def test_files_that_cannot_be_read(write: Write, name: str, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_rows(write(name, content))


def test_missing_files_directories_and_other_encodings(write: Write, tmp_path: Path) -> None:
    write("train.jsonl", "{}")
    with pytest.raises(InputError, match=r"does not exist: did you mean .*train\.jsonl\?"):
        load_rows(tmp_path / "trian.jsonl")
    with pytest.raises(InputError, match="does not exist: check the path"):
        load_rows(tmp_path / "nowhere" / "a.jsonl")
    with pytest.raises(InputError, match="is a directory"):
        load_rows(tmp_path)
    (tmp_path / "latin.jsonl").write_bytes('{"text": "é"}'.encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8 text"):
        load_rows(tmp_path / "latin.jsonl")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"text": "a"}, "language-modelling"),
        ({"messages": [], "prompt": "the same again"}, "messages"),
        ({"conversations": []}, "messages"),
        ({"prompt": "a", "completion": "b"}, "prompt-completion"),
        ({"prompt": "a", "completion": "b", "label": "geography"}, "prompt-completion"),
        ({"prompt": "a", "completion": "b", "label": False}, "unpaired"),
        ({"prompt": "a", "answer": 3}, "prompt-only"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "preference"),
        ({"chosen": "b", "rejected": "c"}, "preference"),
        ({"prompt": "a", "completions": ["b"], "labels": [True]}, "stepwise"),
    ],
)
def test_kinds(row: dict[str, Any], expected: str) -> None:
    assert kind([row]) == expected


def test_a_missing_column_names_those_present_and_those_accepted() -> None:
    with pytest.raises(InputError) as caught:
        examples([{"question": "a", "solution": "b"}])
    assert "the columns are question, solution" in str(caught.value)
    assert "prompt + completion (prompt-completion)" in str(caught.value)
    with pytest.raises(InputError, match="the columns are none"):
        kind([{}])


def test_prompts_answers_and_columns() -> None:
    few_shot = [USER, ASSISTANT, USER]
    rows = [{"prompt": "Hi", "answer": 7, "level": 2}, {"prompt": few_shot, "answer": None, "level": 3}]
    assert examples(rows) == [Example((USER,), 7, {"level": 2}), Example(tuple(few_shot), None, {"level": 3})]  # type: ignore[arg-type]
    assert prompt_of(examples(rows)[1]) == tuple(few_shot)


def test_completions_end_the_conversation() -> None:
    expected = Example((USER, ASSISTANT), None, {"source": "x"})  # type: ignore[arg-type]
    plain = {"prompt": "Hi", "completion": "Yo", "source": "x"}
    listed = {"prompt": [USER], "completion": [ASSISTANT], "source": "x"}
    assert examples([plain, listed]) == [expected, expected]
    assert prompt_of(expected) == (USER,)


def test_sharegpt_is_converted() -> None:
    turns = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo", "weight": 1}]
    system = {"role": "system", "content": "S"}
    assert examples([{"conversations": turns, "id": 4}]) == [Example((USER, ASSISTANT), None, {"id": 4})]  # type: ignore[arg-type]
    assert examples([{"conversations": turns, "system": "S"}])[0].messages == (system, USER, ASSISTANT)
    assert examples([{"conversations": turns, "system": ""}]) == [Example((USER, ASSISTANT))]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "  "}, r"message 1 of 'prompt' \(user\) is empty"),
        ({"prompt": []}, "'prompt' is empty"),
        ({"prompt": None}, "'prompt' is missing"),
        ({"answer": 3}, r"'prompt' is missing \(the row has answer\)"),
        ({"prompt": 5}, "'prompt' is a JSON number: make it text or a list of messages"),
        ({"prompt": ["Hi"]}, "message 1 of 'prompt' is a JSON string"),
        ({"prompt": [{"role": "user", "content": [{"type": "image"}]}]}, "content of message 1 .* it has to be text"),
        ({"prompt": [{"content": "Hi"}]}, "has no role"),
        ({"prompt": [{"role": "asistant", "content": "Hi"}]}, "Did you mean 'assistant'"),
        ({"prompt": [USER, ASSISTANT]}, "ends with an assistant message"),
    ],
)
def test_rows_that_cannot_be_used_are_named_by_number(row: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"row 2: .*{message}"):
        examples([{"prompt": "Hi"}, row])


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"tool_calls": [{"name": "f"}]}, "'tool_calls', which is not supported"),
        ({"reasoning_content": "hm"}, "'reasoning_content', which is not supported"),
        ({"weight": 0}, "'weight': 0, but every assistant message is trained"),
        ({"train": False}, "'train': False, but every assistant message is trained"),
    ],
)
def test_message_keys_that_change_training_are_not_ignored(extra: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        examples([{"messages": [USER, {**ASSISTANT, **extra}]}])
    harmless = {"tool_calls": None, "weight": 1, "train": True, "name": "Bo"}
    assert examples([{"messages": [USER, {**ASSISTANT, **harmless}]}])[0].messages[1] == ASSISTANT


def test_other_kinds_and_other_shapes() -> None:
    with pytest.raises(InputError, match="rows of kind 'preference' are no dialogues"):
        examples([{"chosen": "a", "rejected": "b"}])
    with pytest.raises(InputError, match="row 1: column 'messages' is a JSON string: make it a list of messages"):
        examples([{"messages": "Hi"}])
    with pytest.raises(InputError, match="row 1: the completion does not end with an assistant message"):
        examples([{"prompt": "Hi", "completion": [USER]}])
    with pytest.raises(InputError, match="row 2: column 'text' is empty"):
        texts([{"text": "a"}, {"text": " "}])


def test_a_dataset_is_a_lazy_plain_value(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Dataset("/nowhere/a.jsonl")  # the constructor does not touch the disk
    assert data == Dataset("/nowhere/a.jsonl")
    assert hash(data) == hash(Dataset("/nowhere/a.jsonl"))
    with pytest.raises(InputError, match="does not exist"):
        len(data)
    path = write("a.jsonl", '{"prompt": "Hi"}\n{"prompt": "Ho"}')
    data, reads = Dataset(str(path)), []
    original = datasets.load_rows
    monkeypatch.setattr(datasets, "load_rows", lambda path: reads.append(path) or original(path))
    assert len(data) == 2
    assert data[1].messages[0]["content"] == "Ho"
    assert [example.messages[0]["content"] for example in data] == ["Hi", "Ho"]
    with pytest.raises(IndexError):
        data[2]
    assert len(reads) == 1, "read once"
    path.write_text('{"prompt": "He"}\n{"prompt": "Hu"}')  # the same size
    os.utime(path, ns=(1, 1))
    assert data[0].messages[0]["content"] == "He"
    path.write_text('{"prompt": ""}')
    with pytest.raises(InputError, match=r"a\.jsonl: row 1: .* is empty"):
        len(data)
