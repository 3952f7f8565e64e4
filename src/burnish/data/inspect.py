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

from burnish.data import feedback
from burnish.data.chat import Chat
from burnish.data.comparisons import compare
from burnish.data.datasets import example
from burnish.data.feedback import Feedback
from burnish.data.kinds import COLUMNS, COMPARED, DIALOGUES, RECIPES, Kind, kind
from burnish.data.rows import Row, scan
from burnish.data.transforms import characters
from burnish.data.units import encode
from burnish.errors import InputError
from burnish.types import Comparison, Example

LONG = 10  # times the median length
SHOWN = 5  # row numbers kept for each problem

# Required columns that are no text, or may be empty.
NOT_TEXT = ("label", "labels", "rating", "question", "responses")


@dataclass(frozen=True)
class Lengths:
    """How long ``what`` is: a column, prompt or answer in characters, a row or a prompt with its answer in tokens."""

    what: str
    min: int
    median: int
    p95: int
    max: int


@dataclass(frozen=True)
class Problem:
    """Something wrong in ``count`` rows; ``rows`` are the numbers of the first few, ``detail`` is about the first.

    ``what`` is "malformed", "empty", "unusable", "without assistant message", "without a rating", "duplicate", "very long"
    or one of :func:`burnish.data.feedback.doubts`.
    """

    what: str
    count: int
    rows: tuple[int, ...]
    detail: str = ""


@dataclass(frozen=True)
class Report:
    """What :func:`inspect` found. ``kind`` is None where no kind of data fits, and ``note`` says what to do then.

    ``feedback`` measures the judgements where there are any.
    """

    path: str
    kind: Kind | None
    rows: int
    columns: tuple[str, ...]
    lengths: tuple[Lengths, ...]
    problems: tuple[Problem, ...]
    recipes: tuple[str, ...]
    note: str = ""
    feedback: Feedback | None = None


class _Finding(NamedTuple):
    what: str
    row: int
    detail: str


class _Read(NamedTuple):
    """What came of reading the rows: lengths by what is measured, and the length in ``unit`` of each row as a whole."""

    found: list[_Finding]
    counts: dict[str, list[int]]
    whole: dict[int, int]
    unit: str
    comparisons: list[Comparison]


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
    read = _read_comparisons(rows, what, chat) if what in COMPARED else _read_others(rows, what, chat, columns)
    found += read.found + _duplicates(rows) + _very_long(read.whole, read.unit)
    lengths = tuple(_lengths(name, counts) for name, counts in read.counts.items() if counts)
    recipes = RECIPES.get(what, ())
    note = "" if recipes else f"no recipe yet for data of kind '{what}'"
    judged = feedback.measure(read.comparisons) if read.comparisons else None
    return Report(str(path), what, len(scanned), columns, lengths, _problems(found), recipes, note, judged)


def render(report: Report) -> RenderableType:
    """The report for a terminal or a plain log."""
    facts = Table.grid(padding=(0, 2))
    facts.add_row("file", Text(report.path))
    facts.add_row("kind", Text(report.kind or "unknown"))
    facts.add_row("rows", Text(str(report.rows)))
    facts.add_row("columns", Text(", ".join(report.columns)))
    facts.add_row("recipes", Text(", ".join(report.recipes) or report.note))
    for name, text in feedback.lines(report.feedback) if report.feedback else ():
        facts.add_row(name, Text(text))
    parts: list[RenderableType] = [facts]
    if report.lengths:
        lengths = Table("length of", "min", "median", "p95", "max", box=box.SIMPLE_HEAD)
        for length in report.lengths:
            lengths.add_row(length.what, *map(str, (length.min, length.median, length.p95, length.max)))
        parts.append(lengths)
    if report.kind and not report.problems:
        parts.append(Text("no problems found", style="green"))
    for problem in report.problems:
        more = ", ..." if problem.count > len(problem.rows) else ""
        rows = ", ".join(map(str, problem.rows)) + more
        line = f"{problem.count} {problem.what} (row {rows}): {problem.detail}"
        parts.append(Text(line, style="yellow"))
    return Group(*parts)


def _read_others(rows: Mapping[int, Row], what: Kind, chat: Chat | None, columns: Collection[str]) -> _Read:
    """Rows of a dialogue kind or of plain text."""
    found: list[_Finding] = []
    tokens: dict[int, int] = {}
    for number, row in rows.items():
        empty = _first_empty(row, what)
        if empty:
            found.append(_Finding("empty", number, f"column '{empty}' is empty or missing"))
            continue
        try:
            dialogue = example(row, what) if what in DIALOGUES else None
            if what == "messages" and dialogue is not None and not _has_assistant(dialogue):
                found.append(_Finding("without assistant message", number, "sft has nothing to train on there"))
            if chat is not None:
                tokens[number] = _tokens(row, what, dialogue, chat)
        except InputError as error:
            found.append(_Finding("unusable", number, str(error)))
    characters = {
        f"{name} (characters)": [_characters(row.get(name)) for row in rows.values()]
        for name in _text_columns(what, columns)
    }
    if tokens:
        return _Read(found, characters | {"row (tokens)": list(tokens.values())}, tokens, "tokens", [])
    whole = dict(zip(rows, map(sum, zip(*characters.values(), strict=True)), strict=True))
    return _Read(found, characters, whole, "characters", [])


def _read_comparisons(rows: Mapping[int, Row], what: Kind, chat: Chat | None) -> _Read:
    """Rows of a kind with judged answers."""
    found: list[_Finding] = []
    usable: dict[int, tuple[Comparison, ...]] = {}
    tokens: dict[int, list[int]] = {}
    for number, row in rows.items():
        empty = _first_empty(row, what)
        if empty:
            found.append(_Finding("empty", number, f"column '{empty}' is empty or missing"))
            continue
        try:
            comparisons = compare(row, what)
            if chat is not None:
                tokens[number] = [len(line) for comparison in comparisons for line in encode(chat, comparison)]
        except InputError as error:
            found.append(_Finding("unusable", number, str(error)))
            continue
        usable[number] = comparisons
        if not comparisons:
            found.append(
                _Finding("without a rating", number, "no step is rated, or the problem was reported as broken")
            )
        found += [_Finding(doubt, number, detail) for each in comparisons for doubt, detail in feedback.doubts(each)]
    every = [comparison for comparisons in usable.values() for comparison in comparisons]
    counts = {
        "prompt (characters)": [_asked(each) for each in every],
        "answer (characters)": [characters(answer) for each in every for answer in each.answers],
    }
    if chat is not None:
        counts["prompt with answer (tokens)"] = [count for some in tokens.values() for count in some]
        return _Read(found, counts, {number: max(some) for number, some in tokens.items() if some}, "tokens", every)
    whole = {number: max(map(_longest, comparisons)) for number, comparisons in usable.items() if comparisons}
    return _Read(found, counts, whole, "characters", every)


def _longest(comparison: Comparison) -> int:
    """The characters of the prompt with the longest answer."""
    return _asked(comparison) + max(map(characters, comparison.answers))


def _asked(comparison: Comparison) -> int:
    """The characters of the prompt."""
    return sum(len(message["content"]) for message in comparison.prompt)


def _first_empty(row: Row, what: Kind) -> str | None:
    return next((name for name in _text_columns(what, row) if _is_empty(row.get(name))), None)


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
    return [name for name in COLUMNS[what] if name not in NOT_TEXT]


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
    limit = LONG * _quantile(sorted(counts.values()), 0.5) if counts else 0
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
