"""Every layout of a conversation becomes the same examples; every mistake is named with its row and its fix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from burnish.data.datasets import Texts, examples, prompt_of, texts
from burnish.errors import InputError
from burnish.types import Answer, Comparison, Example

USER, ASSISTANT = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}


def test_prompts_answers_and_columns() -> None:
    few_shot = [USER, ASSISTANT, USER]
    rows = [{"prompt": "Hi", "answer": 7, "level": 2}, {"prompt": few_shot, "answer": None, "level": 3}]
    assert examples(rows) == [Example((USER,), 7, {"level": 2}), Example(tuple(few_shot), None, {"level": 3})]  # type: ignore[arg-type]
    assert prompt_of(examples(rows)[1]) == tuple(few_shot)
    assert prompt_of(Comparison((USER,), (Answer((ASSISTANT,)),))) == (USER,)  # type: ignore[arg-type]


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


def test_texts_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "one"}\n{"text": "two", "source": "web"}\n')
    assert list(Texts(path)) == ["one", "two"] and Texts(path) == Texts(str(path))
    path.write_text('{"text": "one"}\n{"text": ""}\n')
    with pytest.raises(InputError, match=r"t\.jsonl: row 2: column 'text' is empty"):
        len(Texts(path))
