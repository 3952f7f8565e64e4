"""The messages in a column: text, a list in OpenAI's or ShareGPT's keys, or a whole conversation in one string."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from burnish.data.rows import json_name
from burnish.errors import InputError, unknown
from burnish.types import Message

ROLES = ("system", "developer", "user", "assistant", "tool")
SHAREGPT_ROLES = {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
# Keys of a message that change what is trained: to ignore one would be silently wrong.
UNSUPPORTED_KEYS = ("tool_calls", "function_call", "reasoning_content", "thinking")
LOSS_SWITCHES = ("weight", "train")
# Conversations in one string: those of Anthropic's HH-RLHF and Nectar, and the longer prompts of HelpSteer2.
HUMAN = re.compile(r"(?:^|\n\n)(Human|Assistant):")
EXTRA_ID = re.compile(r"\n<extra_id_1>(User|Assistant)\n")
SPEAKERS = {"Human": "user", "User": "user", "Assistant": "assistant"}


def prompt_in(row: Mapping[str, Any], column: str = "prompt") -> tuple[Message, ...]:
    """What is asked: the messages in a column, after that in column ``system``. See :func:`asked`. Raises InputError."""
    return (*system_in(row), *asked(row, column))


def system_in(row: Mapping[str, Any]) -> tuple[Message, ...]:
    """The message in column ``system``, if there is one."""
    return messages(row, "system", role="system") if row.get("system") else ()


def asked(row: Mapping[str, Any], column: str) -> tuple[Message, ...]:
    """The messages in a column, where text is one user message.

    Text in which the turns are marked by ``Human:`` and ``Assistant:`` in paragraphs of their own, or by HelpSteer2's
    ``<extra_id_1>``, becomes several messages. Raises InputError unless the user (or a tool) has the last word.
    """
    value = row.get(column)
    turns = spoken(value) if isinstance(value, str) else []
    if turns and turns[-1]["role"] == "assistant" and not turns[-1]["content"]:
        turns = turns[:-1]
    found = messages({**row, column: turns} if turns else row, column, role="user")
    if found[-1]["role"] == "assistant":
        raise InputError("the prompt ends with an assistant message: end it with the user's")
    return found


def conversation(row: Mapping[str, Any], column: str) -> tuple[Message, ...]:
    """What ends with the assistant: text (one message, or a whole conversation, see :func:`asked`), a message, a list."""
    value = row.get(column)
    listed = [value] if isinstance(value, dict) else spoken(value) if isinstance(value, str) else []
    found = messages({**row, column: listed} if listed else row, column, role="assistant")
    if found[-1]["role"] != "assistant":
        raise InputError(f"column '{column}' does not end with an assistant message: put one at its end")
    return found


def reply_in(row: Mapping[str, Any], column: str) -> tuple[Message, ...]:
    """A :func:`conversation` that begins with the assistant: what follows a prompt. Raises InputError."""
    found = conversation(row, column)
    if found[0]["role"] != "assistant":
        raise InputError(f"column '{column}' begins with a {found[0]['role']} message: leave the prompt out of it")
    return found


def spoken(text: str) -> list[Message]:
    """The turns of a conversation written as one string; empty where it is not."""
    if EXTRA_ID.search(text):
        pieces = ["User", *EXTRA_ID.split(text)]
    else:
        before, *pieces = HUMAN.split(text)
        if before or not pieces or pieces[0] != "Human":
            return []
    turns = zip(pieces[::2], pieces[1::2], strict=True)
    return [{"role": SPEAKERS[speaker], "content": content.strip()} for speaker, content in turns]


def messages(row: Mapping[str, Any], column: str, role: str) -> tuple[Message, ...]:
    """The messages in a column; where ``role`` is given, a string is one message of that role."""
    value = row.get(column)
    if value is None:
        raise InputError(f"column '{column}' is missing (the row has {', '.join(row) or 'no columns'}): add it")
    if role and isinstance(value, str):
        value = [{"role": role, "content": value}]
    if not isinstance(value, list):
        accepted = "text or a list of messages" if role else "a list of messages"
        raise InputError(f"column '{column}' is a JSON {json_name(value)}: make it {accepted}")
    if not value:
        raise InputError(f"column '{column}' is empty: fill it or remove the row")
    return tuple(_message(item, f"message {number} of '{column}'") for number, item in enumerate(value, start=1))


def _message(item: Any, where: str) -> Message:
    if not isinstance(item, dict):
        raise InputError(f"{where} is a JSON {json_name(item)}: make it an object with 'role' and 'content'")
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
        raise InputError(f"the content of {where} is a JSON {json_name(content)}: it has to be text")
    if not content.strip() and role != "system":
        raise InputError(f"{where} ({role}) is empty: fill it or remove the row")
    return {"role": role, "content": content}
