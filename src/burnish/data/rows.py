"""The rows of a data file: JSONL, JSON and Parquet, with an error that names the row and the fix.

Row numbers in messages count from 1. In a JSONL file the row number is the line number.
"""

from __future__ import annotations

import difflib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from burnish.errors import InputError

Row = dict[str, Any]
Result = TypeVar("Result")
Item = TypeVar("Item")


@dataclass(frozen=True)
class DataFile(ABC, Generic[Item]):
    """The items of a data file: sized, indexable, read at the first access and again only when the file changes.

    A plain value: two are equal when their paths are, and a stage knows it by the content of the file.
    """

    path: str | Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))  # a stage hashes the file behind a Path

    def __len__(self) -> int:
        return len(self._items())

    def __getitem__(self, index: int) -> Item:
        return self._items()[index]

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items())

    @staticmethod
    @abstractmethod
    def read(path: Path) -> tuple[Any, ...]:
        """The items of the file as it is now. Raises InputError."""

    def _items(self) -> tuple[Item, ...]:
        path = Path(self.path)
        _require_file(path)
        stat = path.stat()
        return _cached(self.read, path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=16)
def _cached(read: Callable[[Path], tuple[Any, ...]], path: Path, _mtime: int, _size: int) -> tuple[Any, ...]:
    return read(path)


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


def numbered(number: int, convert: Callable[[Mapping[str, Any]], Result], row: Mapping[str, Any]) -> Result:
    """``convert(row)``; an InputError that it raises gets the row number in front."""
    try:
        return convert(row)
    except InputError as error:
        raise InputError(f"row {number}: {error}") from error


def number(row: Mapping[str, Any], column: str, low: float = -math.inf, high: float = math.inf) -> float | None:
    """The number in a column, None where it is missing or null. Raises InputError for anything else, NaN included."""
    value = row.get(column)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"column '{column}' is {_shown(value)}: make it a number")
    if not low <= value <= high:
        raise InputError(f"column '{column}' is {value}: it has to be between {low:g} and {high:g}")
    return float(value)


def truth(value: Any, where: str) -> bool:
    """A label that is true or false, or 1 or 0. Raises InputError for anything else."""
    if not isinstance(value, int | float) or value not in (0, 1):
        raise InputError(f"{where} is {_shown(value)}: make it true or false (or 1 or 0)")
    return bool(value)


def rest(row: Mapping[str, Any], *used: str) -> dict[str, Any]:
    """The columns beside those that were used."""
    return {name: value for name, value in row.items() if name not in used}


def _shown(value: Any) -> str:
    return (
        repr(value) if isinstance(value, str | float) else f"a JSON {json_name(value)}" if value is not None else "null"
    )


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
        raise InputError(f"{path} holds a JSON {json_name(rows)}: make it an array of objects, [{{...}}, ...]")
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
    return f"the row is a JSON {json_name(value)}: make it an object with named columns"


def json_name(value: Any) -> str:
    """What JSON calls a value of this type."""
    names = {dict: "object", list: "array", str: "string", bool: "boolean", int: "number", float: "number"}
    return names.get(type(value), "null")
