"""The rows of a data file as curation sees them: each as it was, with what is asked and what is answered in it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from burnish import files
from burnish.data.comparisons import compare
from burnish.data.datasets import example, prompt_of, texts
from burnish.data.kinds import COMPARED, DIALOGUES, Kind, kind
from burnish.data.rows import Row, load_rows, numbered
from burnish.errors import InputError
from burnish.types import Message


class Item(NamedTuple):
    """``row`` as it stands in the file, with its ``number`` from 1. A plain text is a prompt without a reply."""

    number: int
    row: Row
    prompt: tuple[Message, ...]
    replies: tuple[str, ...]

    @property
    def characters(self) -> int:
        """How long the prompt and all its replies are."""
        return sum(len(message["content"]) for message in self.prompt) + sum(map(len, self.replies))

    def value(self, column: str) -> object:
        """What is in a column. Raises InputError where the row does not have it."""
        if column not in self.row:
            raise InputError(f"row {self.number} has no column '{column}', only {', '.join(self.row)}: add it")
        return self.row[column]


def items(path: Path) -> list[Item]:
    """The rows of a file of any kind. Raises InputError, with the row number, for a row that cannot be used."""
    rows = load_rows(path)
    try:
        found = kind(rows)
        said = [numbered(number, lambda row: _said(row, found), row) for number, row in enumerate(rows, start=1)]
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return [Item(number, row, *each) for number, (row, each) in enumerate(zip(rows, said, strict=True), start=1)]


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the rows as JSONL: what a stage notes beside its data."""
    files.write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def _said(row: Mapping[str, Any], found: Kind) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    """What is asked, and the replies to it."""
    if found in COMPARED:
        comparisons = compare(row, found)
        if not comparisons:
            raise InputError("nothing is judged in it: leave the row out")
        replies = tuple(_text(answer.messages) for each in comparisons for answer in each.answers)
        return comparisons[0].prompt, replies
    if found in DIALOGUES:
        dialogue = example(row, found)
        prompt = prompt_of(dialogue)
        reply = dialogue.messages[len(prompt) :]
        return prompt, (_text(reply),) if reply else ()
    return prompt_of(texts([row])[0]), ()


def _text(messages: tuple[Message, ...]) -> str:
    return "\n".join(message["content"] for message in messages)
