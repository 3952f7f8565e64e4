"""What is in a data file, and what it is good for: the report behind ``burnish data FILE``."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from burnish.data.chat import Chat
from burnish.data.datasets import COLUMNS, DIALOGUES, Kind, Row, example, kind, scan
from burnish.errors import InputError
from burnish.types import Example

LONG = 10  # times the median length
SHOWN = 5  # row numbers kept for each problem

RECIPES: dict[Kind, tuple[str, ...]] = {
    "messages": ("sft", "grpo"),
    "prompt-completion": ("sft", "grpo"),
    "prompt-only": ("grpo",),
}


@dataclass(frozen=True)
class Lengths:
    """How long the rows are in ``what`` (a column's characters, or tokens of the whole row)."""

    what: str
    min: int
    median: int
    p95: int
    max: int


@dataclass(frozen=True)
class Problem:
    """Something wrong in ``count`` rows; ``rows`` are the numbers of the first few, ``detail`` is about the first.

    ``what`` is "malformed", "empty", "unusable", "without assistant message", "duplicate" or "very long".
    """

    what: str
    count: int
    rows: tuple[int, ...]
    detail: str = ""


@dataclass(frozen=True)
class Report:
    """What :func:`inspect` found. ``kind`` is None where no kind of data fits, and ``note`` says what to do then."""

    path: str
    kind: Kind | None
    rows: int
    columns: tuple[str, ...]
    lengths: tuple[Lengths, ...]
    problems: tuple[Problem, ...]
    recipes: tuple[str, ...]
    note: str = ""


class _Finding(NamedTuple):
    what: str
    row: int
    detail: str


def inspect(path: str | Path, chat: Chat | None = None) -> Report:
    """Read a whole data file and report on it; with ``chat``, lengths are counted in tokens of its template too.

    Rows that cannot be used are problems in the report. Raises InputError only for what concerns the whole file
    (missing, empty, unknown suffix, not readable at all).
    """
    scanned = list(enumerate(scan(path), start=1))
    rows = {number: row for number, row in scanned if not isinstance(row, str)}
    found = [_Finding("malformed", number, row) for number, row in scanned if isinstance(row, str)]
    columns = tuple(dict.fromkeys(name for row in rows.values() for name in row))
    try:
        what = kind(list(rows.values()))
    except InputError as error:
        return Report(str(path), None, len(scanned), columns, (), _problems(found), (), str(error))
    unusable, tokens = _try_rows(rows, what, chat)
    counts = {
        f"{name} (characters)": {number: _characters(row.get(name)) for number, row in rows.items()}
        for name in _text_columns(what, columns)
    }
    whole = {number: sum(count[number] for count in counts.values()) for number in rows}
    if tokens:
        counts["row (tokens)"] = tokens
    found += unusable + _duplicates(rows) + _very_long(tokens or whole, "tokens" if tokens else "characters")
    lengths = tuple(_lengths(name, count.values()) for name, count in counts.items())
    recipes = RECIPES.get(what, ())
    note = "" if recipes else f"no recipe yet for data of kind '{what}'"
    return Report(str(path), what, len(scanned), columns, lengths, _problems(found), recipes, note)


def render(report: Report) -> RenderableType:
    """The report for a terminal or a plain log."""
    facts = Table.grid(padding=(0, 2))
    facts.add_row("file", Text(report.path))
    facts.add_row("kind", Text(report.kind or "unknown"))
    facts.add_row("rows", Text(str(report.rows)))
    facts.add_row("columns", Text(", ".join(report.columns)))
    facts.add_row("recipes", Text(", ".join(report.recipes) or report.note))
    parts: list[RenderableType] = [facts]
    if report.lengths:
        lengths = Table("length of", "min", "median", "p95", "max", box=box.SIMPLE_HEAD)
        for length in report.lengths:
            lengths.add_row(length.what, *map(str, (length.min, length.median, length.p95, length.max)))
        parts.append(lengths)
    if not report.problems:
        parts.append(Text("no problems found", style="green"))
    for problem in report.problems:
        more = ", ..." if problem.count > len(problem.rows) else ""
        rows = ", ".join(map(str, problem.rows)) + more
        line = f"{problem.count} {problem.what} (row {rows}): {problem.detail}"
        parts.append(Text(line, style="yellow"))
    return Group(*parts)


def _try_rows(rows: Mapping[int, Row], what: Kind, chat: Chat | None) -> tuple[list[_Finding], dict[int, int]]:
    """What keeps rows from being used, and the tokens of those that can be."""
    found: list[_Finding] = []
    tokens: dict[int, int] = {}
    for number, row in rows.items():
        empty = [name for name in _text_columns(what, row) if _is_empty(row.get(name))]
        if empty:
            found.append(_Finding("empty", number, f"column '{empty[0]}' is empty or missing"))
            continue
        try:
            dialogue = example(row, what) if what in DIALOGUES else None
            if what == "messages" and dialogue is not None and not _has_assistant(dialogue):
                found.append(_Finding("without assistant message", number, "sft has nothing to train on there"))
            if chat is not None:
                tokens[number] = _tokens(row, what, dialogue, chat)
        except InputError as error:
            found.append(_Finding("unusable", number, str(error)))
    return found, tokens


def _tokens(row: Row, what: Kind, dialogue: Example | None, chat: Chat) -> int:
    if dialogue is None:
        texts = [text for name in _text_columns(what, row) for text in _strings(row[name])]
        return sum(len(chat.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts)
    if _has_assistant(dialogue):
        return len(chat.encode_dialogue(dialogue.messages)[0])
    return len(chat.encode_prompt(dialogue.messages))


def _has_assistant(dialogue: Example) -> bool:
    return any(message["role"] == "assistant" for message in dialogue.messages)


def _text_columns(what: Kind, columns: Collection[str]) -> list[str]:
    """The columns that hold the text of this kind, by the names used in the file."""
    if what == "messages" and "conversations" in columns:
        return ["conversations"]
    names = ("prompt", *COLUMNS[what]) if what == "preference" and "prompt" in columns else COLUMNS[what]
    return [name for name in names if name not in ("label", "labels")]


def _strings(value: Any) -> Iterator[str]:
    """The text in a field: itself, the contents of its messages, or its steps."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item.get("content", item.get("value")) if isinstance(item, dict) else item)


def _characters(value: Any) -> int:
    return sum(map(len, _strings(value)))


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip()) or value == []


def _duplicates(rows: Mapping[int, Row]) -> list[_Finding]:
    first: dict[str, int] = {}
    found = []
    for number, row in rows.items():
        before = first.setdefault(json.dumps(row, sort_keys=True, default=str), number)
        if before != number:
            found.append(_Finding("duplicate", number, f"the same as row {before}"))
    return found


def _very_long(counts: Mapping[int, int], unit: str) -> list[_Finding]:
    limit = LONG * _quantile(sorted(counts.values()), 0.5)
    return [
        _Finding("very long", number, f"{count} {unit}, more than {LONG} times the median")
        for number, count in counts.items()
        if count > limit
    ]


def _lengths(what: str, counts: Iterable[int]) -> Lengths:
    ordered = sorted(counts)
    return Lengths(what, ordered[0], _quantile(ordered, 0.5), _quantile(ordered, 0.95), ordered[-1])


def _quantile(ordered: Sequence[int], share: float) -> int:
    """The nearest-rank quantile of ascending counts: always one of them."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _problems(found: Sequence[_Finding]) -> tuple[Problem, ...]:
    grouped: dict[str, list[_Finding]] = {}
    for finding in found:
        grouped.setdefault(finding.what, []).append(finding)
    return tuple(
        Problem(what, len(group), tuple(finding.row for finding in group[:SHOWN]), group[0].detail)
        for what, group in grouped.items()
    )
