"""Data files to examples: JSONL, JSON and Parquet in the formats people already have.

Row numbers in messages count from 1. In a JSONL file the row number is the line number.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from burnish.errors import InputError, unknown
from burnish.types import PROMPT_IS_TEXT, Example, Message

Kind = Literal[
    "preference", "stepwise", "unpaired", "messages", "prompt-completion", "prompt-only", "language-modelling"
]
Row = dict[str, Any]
Result = TypeVar("Result")

COLUMNS: dict[Kind, tuple[str, ...]] = {
    "preference": ("chosen", "rejected"),
    "stepwise": ("prompt", "completions", "labels"),
    "unpaired": ("prompt", "completion", "label"),
    "messages": ("messages",),
    "prompt-completion": ("prompt", "completion"),
    "prompt-only": ("prompt",),
    "language-modelling": ("text",),
}
"""The columns each kind needs. A file is of the first kind, in this order, whose columns it has."""

DIALOGUES: tuple[Kind, ...] = ("messages", "prompt-completion", "prompt-only")
ROLES = ("system", "developer", "user", "assistant", "tool")
SHAREGPT_ROLES = {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
# Keys of a message that change what is trained: to ignore one would be silently wrong.
UNSUPPORTED_KEYS = ("tool_calls", "function_call", "reasoning_content", "thinking")
LOSS_SWITCHES = ("weight", "train")


def load_rows(path: str | Path) -> list[Row]:
    """The rows of a ``.jsonl``, ``.json`` (an array of objects) or ``.parquet`` file.

    Raises InputError for a file that is missing, empty, of another type or malformed (with the line and what is wrong).
    """
    rows: list[Row] = []
    for number, row in enumerate(scan(path), start=1):
        if isinstance(row, str):
            raise InputError(f"{path}, row {number}: {row}")
        rows.append(row)
    return rows


def scan(path: str | Path) -> list[Row | str]:
    """The rows of a file; where a row cannot be read, a string that says what is wrong takes its place.

    Raises InputError for what concerns the whole file.
    """
    path = Path(path)
    readers = {".jsonl": _scan_jsonl, ".json": _scan_json, ".parquet": _scan_parquet}
    _require_file(path)
    if path.suffix not in readers:
        raise InputError(f"{path} ends in '{path.suffix}': convert it to one of {', '.join(sorted(readers))}")
    try:
        rows = readers[path.suffix](path)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8") from error
    if not rows:
        raise InputError(f"{path} has no rows: put at least one example into it")
    return rows


def kind(rows: Sequence[Mapping[str, Any]]) -> Kind:
    """What the rows are, by the columns that occur in any of them.

    ``conversations`` counts as ``messages``. A ``label`` makes unpaired feedback only where every label given is true
    or false (or 1 or 0). Raises InputError, naming the columns present and what is accepted, where nothing fits.
    """
    present = dict.fromkeys(name for row in rows for name in row)
    usable = set(present)
    if "conversations" in present:
        usable.add("messages")
    if not all(row["label"] in (True, False) for row in rows if "label" in row):
        usable.discard("label")
    for name, columns in COLUMNS.items():
        if usable.issuperset(columns):
            return name
    accepted = "; ".join(f"{' + '.join(columns)} ({name})" for name, columns in COLUMNS.items())
    raise InputError(
        f"the columns are {', '.join(present) or 'none'}, which is no known kind of data: rename them to {accepted}"
    )


def examples(rows: Sequence[Mapping[str, Any]]) -> list[Example]:
    """The rows of a dialogue kind as examples, by :func:`example`. Raises InputError with the row number."""
    found = kind(rows)
    if found not in DIALOGUES:
        raise InputError(f"rows of kind '{found}' are no dialogues: give rows of kind {', '.join(DIALOGUES)}")
    return [_numbered(number, lambda row: example(row, found), row) for number, row in enumerate(rows, start=1)]


def texts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The ``text`` column of rows of kind language-modelling. Raises InputError with the row number."""
    return [_numbered(number, _text_of, row) for number, row in enumerate(rows, start=1)]


def example(row: Mapping[str, Any], kind: Kind) -> Example:
    """One row of a dialogue kind as an example.

    A ``prompt`` is a string (one user message) or a list of messages; a ``completion`` becomes the assistant message at
    the end. ``conversations`` may have their system message in column ``system``. Column ``answer`` is kept as it is,
    all other columns go to ``meta``. Raises InputError.
    """
    used = {"answer", *COLUMNS[kind]}
    if kind == "messages" and "conversations" in row:
        opening = _messages(row, "system", role="system") if row.get("system") else ()
        messages = opening + _messages(row, "conversations", role="")
        used |= {"conversations", "system"}
    elif kind == "messages":
        messages = _messages(row, "messages", role="")
    else:
        messages = _messages(row, "prompt", role="user")
    if kind == "prompt-only" and messages[-1]["role"] == "assistant":
        raise InputError("the prompt ends with an assistant message: end it with the user's")
    if kind == "prompt-completion":
        messages += _messages(row, "completion", role="assistant")
        if messages[-1]["role"] != "assistant":
            raise InputError("the completion does not end with an assistant message: put one at its end")
    meta = {name: value for name, value in row.items() if name not in used}
    return Example(messages, row.get("answer"), meta)


def prompt_of(example: Example) -> tuple[Message, ...]:
    """The messages a policy would be asked with: all up to the assistant messages at the end."""
    messages = example.messages
    while messages and messages[-1]["role"] == "assistant":
        messages = messages[:-1]
    return messages


@dataclass(frozen=True)
class Dataset:
    """The examples of a data file: sized, indexable, read at the first access and again only when the file changes.

    A plain value: two are equal when their paths are, and a stage knows it by the content of the file. Raises
    InputError as :func:`load_rows` and :func:`examples` do.
    """

    path: str | Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))  # a stage hashes the file behind a Path

    def __len__(self) -> int:
        return len(self._examples())

    def __getitem__(self, index: int) -> Example:
        return self._examples()[index]

    def __iter__(self) -> Iterator[Example]:
        return iter(self._examples())

    def _examples(self) -> tuple[Example, ...]:
        _require_file(Path(self.path))
        stat = Path(self.path).stat()
        return _read_examples(Path(self.path), stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=16)
def _read_examples(path: Path, _mtime: int, _size: int) -> tuple[Example, ...]:
    rows = load_rows(path)
    try:
        found = examples(rows)
        prompts = "prompt" in COLUMNS[kind(rows)]
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    plain = [prompts and isinstance(row["prompt"], str) for row in rows]
    return tuple(_marked(one) if text else one for one, text in zip(found, plain, strict=True))


def _marked(found: Example) -> Example:
    """The example, with a mark that its prompt is a plain string: a reward function then gets strings too."""
    return replace(found, meta={**found.meta, PROMPT_IS_TEXT: True})


def _require_file(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{path} is a directory: give the path of a data file in it")
    if not path.is_file():
        names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, names, n=1)
        hint = f"did you mean {path.parent / near[0]}?" if near else "check the path"
        raise InputError(f"data file {path} does not exist: {hint}")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty: put at least one example into it")


def _scan_jsonl(path: Path) -> list[Row | str]:
    # Only "\n" ends a line: str.splitlines would also cut at separators that are legal inside a JSON string.
    lines = path.read_text(encoding="utf-8-sig").rstrip().split("\n")
    return [] if lines == [""] else [_json_row(line) for line in lines]


def _json_row(line: str) -> Row | str:
    if not line.strip():
        return "the line is blank: remove it"
    try:
        return _row(json.loads(line))
    except json.JSONDecodeError as error:
        return f"malformed JSON at column {error.colno} ({error.msg}): write one complete JSON object a line"


def _scan_json(path: Path) -> list[Row | str]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        hint = "; if it has one object a line, name it .jsonl" if error.msg == "Extra data" else ""
        raise InputError(
            f"{path}, line {error.lineno}: malformed JSON ({error.msg}): the file has to be one array of objects{hint}"
        ) from error
    if not isinstance(rows, list):
        raise InputError(f"{path} holds a JSON {_json_name(rows)}: make it an array of objects, [{{...}}, ...]")
    return [_row(row) for row in rows]


def _scan_parquet(path: Path) -> list[Row | str]:
    try:
        rows: list[Row | str] = pq.read_table(path).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is not a readable Parquet file ({error}): write it again") from error
    return rows


def _row(value: Any) -> Row | str:
    if isinstance(value, dict):
        return value
    return f"the row is a JSON {_json_name(value)}: make it an object with named columns"


def _json_name(value: Any) -> str:
    names = {dict: "object", list: "array", str: "string", bool: "boolean", int: "number", float: "number"}
    return names.get(type(value), "null")


def _numbered(number: int, convert: Callable[[Mapping[str, Any]], Result], row: Mapping[str, Any]) -> Result:
    try:
        return convert(row)
    except InputError as error:
        raise InputError(f"row {number}: {error}") from error


def _text_of(row: Mapping[str, Any]) -> str:
    text = row.get("text")
    if not isinstance(text, str) or not text.strip():
        raise InputError("column 'text' is empty or no text: fill it or remove the row")
    return text


def _messages(row: Mapping[str, Any], column: str, role: str) -> tuple[Message, ...]:
    """The messages in a column; where ``role`` is given, a string is one message of that role."""
    value = row.get(column)
    if value is None:
        raise InputError(f"column '{column}' is missing (the row has {', '.join(row) or 'no columns'}): add it")
    if role and isinstance(value, str):
        value = [{"role": role, "content": value}]
    if not isinstance(value, list):
        accepted = "text or a list of messages" if role else "a list of messages"
        raise InputError(f"column '{column}' is a JSON {_json_name(value)}: make it {accepted}")
    if not value:
        raise InputError(f"column '{column}' is empty: fill it or remove the row")
    return tuple(_message(item, f"message {number} of '{column}'") for number, item in enumerate(value, start=1))


def _message(item: Any, where: str) -> Message:
    if not isinstance(item, dict):
        raise InputError(f"{where} is a JSON {_json_name(item)}: make it an object with 'role' and 'content'")
    role, content = item.get("role"), item.get("content")
    if "from" in item:
        role, content = SHAREGPT_ROLES.get(str(item["from"]), item["from"]), item.get("value")
    lost = [key for key in UNSUPPORTED_KEYS if item.get(key)]
    if lost:
        raise InputError(f"{where} has '{lost[0]}', which is not supported: write it into the content or remove it")
    off = [key for key in LOSS_SWITCHES if item.get(key) not in (None, 1)]
    if off:
        raise InputError(f"{where} has '{off[0]}': {item[off[0]]}, but every assistant message is trained: remove it")
    if not isinstance(role, str):
        raise InputError(f"{where} has no role: give it a 'role' and a 'content'")
    if role not in ROLES:
        raise InputError(f"{where}: {unknown('role', role, ROLES)}")
    if not isinstance(content, str):
        raise InputError(f"the content of {where} is a JSON {_json_name(content)}: it has to be text")
    if not content.strip() and role != "system":
        raise InputError(f"{where} ({role}) is empty: fill it or remove the row")
    return {"role": role, "content": content}
