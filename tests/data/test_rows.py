"""Files of rows: what is read, what is refused with its row and its fix, and what a data file remembers."""

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

from burnish.data import comparisons, datasets
from burnish.data.comparisons import Comparisons
from burnish.data.datasets import Dataset, prompt_of
from burnish.data.rows import DataFile, load_rows, number, rest, truth
from burnish.errors import InputError

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


def test_windows_files_and_trailing_blank_lines_are_fine(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "a"}\r\n{"text": "b"}\r\n\r\n')
    assert load_rows(tmp_path / "a.jsonl") == [{"text": "a"}, {"text": "b"}]


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


def test_numbers_and_labels() -> None:
    row = {"a": 2, "b": 0.5, "c": None, "d": "2", "e": True, "f": float("nan"), "g": []}
    assert [number(row, name) for name in "abcz"] == [2.0, 0.5, None, None]
    for name, shown in {"d": "'2'", "e": "a JSON boolean", "f": "nan", "g": "a JSON array"}.items():
        with pytest.raises(InputError, match=rf"column '{name}' is {shown}: make it a number"):
            number(row, name)
    with pytest.raises(InputError, match="column 'a' is 2: it has to be between 0 and 1"):
        number(row, "a", 0, 1)
    assert [truth(value, "it") for value in (True, 1, 1.0, False, 0)] == [True, True, True, False, False]
    for value, shown in ((2, "a JSON number"), ("yes", "'yes'"), (None, "null"), (0.5, "0.5")):
        with pytest.raises(InputError, match=f"the label is {shown}: make it true or false"):
            truth(value, "the label")
    assert rest({"a": 1, "b": 2}, "a", "z") == {"b": 2}


PAIR = '{"prompt": "%s", "chosen": "a", "rejected": "b"}'


@pytest.mark.parametrize(
    ("kind", "module", "line"),
    [(Dataset, datasets, '{"prompt": "%s"}'), (Comparisons, comparisons, PAIR)],
    ids=["Dataset", "Comparisons"],
)
def test_a_data_file_is_a_lazy_plain_value(
    kind: type[DataFile[Any]], module: Any, line: str, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = kind("/nowhere/a.jsonl")  # the constructor does not touch the disk
    assert data == kind("/nowhere/a.jsonl")
    assert hash(data) == hash(kind("/nowhere/a.jsonl"))
    with pytest.raises(InputError, match="does not exist"):
        len(data)
    path = write("a.jsonl", "\n".join(line % text for text in ("Hi", "Ho")))
    data, reads = kind(str(path)), []
    original = load_rows
    monkeypatch.setattr(module, "load_rows", lambda path: reads.append(path) or original(path))
    assert len(data) == 2
    assert prompt_of(data[1])[0]["content"] == "Ho"
    assert [prompt_of(item)[0]["content"] for item in data] == ["Hi", "Ho"]
    with pytest.raises(IndexError):
        data[2]
    assert len(reads) == 1, "read once"
    path.write_text("\n".join(line % text for text in ("He", "Hu")))  # the same size
    os.utime(path, ns=(1, 1))
    assert prompt_of(data[0])[0]["content"] == "He"
    path.write_text(line % "")
    with pytest.raises(InputError, match=r"a\.jsonl: row 1: .* is empty"):
        len(data)


def test_the_two_kinds_of_file_are_not_one_value(write: Write) -> None:
    path = write("a.jsonl", PAIR % "Hi")
    assert Dataset(path) != Comparisons(path)
    assert len(Comparisons(path)) == 1
    with pytest.raises(InputError, match="are no dialogues"):
        len(Dataset(path))
