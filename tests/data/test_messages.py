"""A column becomes messages in whatever layout it is written, or says what is wrong with it."""

from __future__ import annotations

from typing import Any

import pytest

from burnish.data.messages import conversation, messages, prompt_in, reply_in, spoken, system_in
from burnish.errors import InputError

HH = "\n\nHuman: Name a river.\n\nAssistant: The Elbe.\n\nIt is long.\n\nHuman: Where does it end?\n\nAssistant: "


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def assistant(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


def test_paragraphs_of_human_and_assistant_are_turns() -> None:
    river = (user("Name a river."), assistant("The Elbe.\n\nIt is long."), user("Where does it end?"))
    assert prompt_in({"prompt": HH}) == river
    assert prompt_in({"prompt": HH.strip()}) == river, "with or without the empty lines in front"
    assert conversation({"chosen": HH + "In the sea."}, "chosen") == (*river, assistant("In the sea."))


@pytest.mark.parametrize(
    "text", ["Human: and Assistant: are words", "Who said\n\nHuman: hello?", "", "\n\nAssistant: Hi"], ids=str
)
def test_other_text_is_one_message(text: str) -> None:
    assert [turn["role"] for turn in spoken(text)] in ([], ["user"])
    assert spoken("Who said\n\nHuman: hello?") == spoken("\n\nAssistant: Hi") == spoken("") == []


def test_turns_of_helpsteer2() -> None:
    text = "What is rust?\n<extra_id_1>Assistant\nIron oxide.\n<extra_id_1>User\nHow do I remove it?"
    expected = (user("What is rust?"), assistant("Iron oxide."), user("How do I remove it?"))
    assert prompt_in({"prompt": text}) == expected


def test_the_system_message_stands_in_front() -> None:
    row = {"system": "Be brief.", "prompt": "Hi"}
    assert prompt_in(row) == ({"role": "system", "content": "Be brief."}, user("Hi"))
    assert system_in({"system": ""}) == system_in({}) == ()


def test_an_answer_is_text_a_message_or_a_list() -> None:
    for value in ("Yo", assistant("Yo"), [assistant("Yo")], {"from": "gpt", "value": "Yo"}):
        assert reply_in({"completion": value}, "completion") == (assistant("Yo"),)
    assert messages({"a": [user("Hi")]}, "a", role="") == (user("Hi"),)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "a"}, r"column 'completion' is missing \(the row has prompt\): add it"),
        ({"completion": " "}, "message 1 of 'completion' .* is empty: fill it or remove the row"),
        ({"completion": []}, "column 'completion' is empty"),
        ({"completion": 7}, "column 'completion' is a JSON number: make it text or a list of messages"),
        ({"completion": [user("Hi")]}, "'completion' does not end with an assistant message"),
        ({"completion": [user("Hi"), assistant("Yo")]}, "begins with a user message: leave the prompt out of it"),
    ],
    ids=["missing", "blank", "no messages", "a number", "the user's", "with the prompt"],
)
def test_answers_that_are_none(row: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        reply_in(row, "completion")


def test_a_prompt_ends_with_the_user() -> None:
    with pytest.raises(InputError, match="ends with an assistant message: end it with the user's"):
        prompt_in({"prompt": [user("Hi"), assistant("Yo")]})
    with pytest.raises(InputError, match="ends with an assistant message"):
        prompt_in({"prompt": HH + "In the sea."})
