"""Conversations in data files: rows in the formats people already have, as examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from burnish.data.kinds import COLUMNS, DIALOGUES, Kind, kind
from burnish.data.messages import messages, system_in
from burnish.data.rows import DataFile, load_rows, numbered
from burnish.errors import InputError
from burnish.types import PROMPT_IS_TEXT, Comparison, Example, Message


def examples(rows: Sequence[Mapping[str, Any]]) -> list[Example]:
    """The rows of a dialogue kind as examples, by :func:`example`. Raises InputError with the row number."""
    found = kind(rows)
    if found not in DIALOGUES:
        raise InputError(f"rows of kind '{found}' are no dialogues: give rows of kind {', '.join(DIALOGUES)}")
    return [numbered(number, lambda row: example(row, found), row) for number, row in enumerate(rows, start=1)]


def texts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The ``text`` column of rows of kind language-modelling. Raises InputError with the row number."""
    return [numbered(number, _text_of, row) for number, row in enumerate(rows, start=1)]


def example(row: Mapping[str, Any], kind: Kind) -> Example:
    """One row of a dialogue kind as an example.

    A ``prompt`` is a string (one user message) or a list of messages; a ``completion`` becomes the assistant message at
    the end. ``conversations`` may have their system message in column ``system``. Column ``answer`` is kept as it is,
    all other columns go to ``meta``. Raises InputError.
    """
    used = {"answer", *COLUMNS[kind]}
    if kind == "messages" and "conversations" in row:
        turns = system_in(row) + messages(row, "conversations", role="")
        used |= {"conversations", "system"}
    elif kind == "messages":
        turns = messages(row, "messages", role="")
    else:
        turns = messages(row, "prompt", role="user")
    if kind == "prompt-only" and turns[-1]["role"] == "assistant":
        raise InputError("the prompt ends with an assistant message: end it with the user's")
    if kind == "prompt-completion":
        turns += messages(row, "completion", role="assistant")
        if turns[-1]["role"] != "assistant":
            raise InputError("the completion does not end with an assistant message: put one at its end")
    meta = {name: value for name, value in row.items() if name not in used}
    return Example(turns, row.get("answer"), meta)


def prompt_of(item: Example | Comparison | str) -> tuple[Message, ...]:
    """The messages a policy would be asked with: of an example all up to the assistant messages at the end.

    A plain text asks nothing; as a whole it stands in the place of the prompt.
    """
    if isinstance(item, str):
        return ({"role": "user", "content": item},)
    if isinstance(item, Comparison):
        return item.prompt
    messages = item.messages
    while messages and messages[-1]["role"] == "assistant":
        messages = messages[:-1]
    return messages


@dataclass(frozen=True)
class Dataset(DataFile[Example]):
    """The examples of a data file. Raises InputError as :func:`load_rows` and :func:`examples` do."""

    @staticmethod
    def read(path: Path) -> tuple[Example, ...]:
        """The examples of the file as it is now. Raises InputError."""
        rows = load_rows(path)
        try:
            found = examples(rows)
            prompts = "prompt" in COLUMNS[kind(rows)]
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        plain = [prompts and isinstance(row["prompt"], str) for row in rows]
        return tuple(_marked(one) if text else one for one, text in zip(found, plain, strict=True))


@dataclass(frozen=True)
class Texts(DataFile[str]):
    """The texts of a file with a column ``text``. Raises InputError as :func:`load_rows` and :func:`texts` do."""

    @staticmethod
    def read(path: Path) -> tuple[str, ...]:
        """The texts of the file as it is now. Raises InputError."""
        rows = load_rows(path)
        try:
            return tuple(texts(rows))
        except InputError as error:
            raise InputError(f"{path}: {error}") from error


def _marked(found: Example) -> Example:
    """The example, with a mark that its prompt is a plain string: a reward function then gets strings too."""
    return replace(found, meta={**found.meta, PROMPT_IS_TEXT: True})


def _text_of(row: Mapping[str, Any]) -> str:
    text = row.get("text")
    if not isinstance(text, str) or not text.strip():
        raise InputError("column 'text' is empty or no text: fill it or remove the row")
    return text
