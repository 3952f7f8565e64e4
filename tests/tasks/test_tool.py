"""What all tools share: calls are answered while there are any left, and the reply without one is judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from burnish.errors import InputError
from burnish.tasks.environments import reply
from burnish.tasks.tool import SPENT, Tool
from burnish.types import Completion, Example, Hearing
from guess import Guess


@dataclass(frozen=True)
class Echo(Tool):
    """Says a word again."""

    @property
    def manual(self) -> str:
        return "Say '!word'."

    @property
    def sample(self) -> str:
        return "!b"

    def call(self, text: str) -> str | None:
        return text[1:] if text.startswith("!") else None

    def answer(self, call: str) -> str:
        return f"you said {call}"


GUESS = Guess()


def heard(tool: Tool, *said: Completion, task: Guess = GUESS) -> list[tuple[Any, float | None, bool]]:
    """For every reply: what it was answered, what it was paid (None: nothing at all), whether the episode was over."""
    env = tool(task).env(task[0])
    assert isinstance(env, Hearing)
    env.reset(0)
    found = []
    for completion in said:
        env.hear(completion)
        answer, reward, done, _ = env.step(completion.text)
        found.append((answer, sum(part.value for part in reward) if reward else None, done))
    return found


def user(text: str, role: str = "user") -> Any:
    return ({"role": role, "content": text},)


def test_calls_are_answered_and_the_answer_is_judged() -> None:
    assert heard(Echo(2), reply("!x"), reply("!y"), reply("b")) == [
        (user("you said x"), None, False), (user("you said y"), None, False), ((), 5.0, True),
    ]  # fmt: skip
    assert heard(Echo(2), reply("a")) == [((), -1.0, True)]
    assert heard(Echo(role="tool"), reply("!x"))[0][0] == user("you said x", "tool")


def test_only_calls_that_are_answered_are_paid() -> None:
    paid = [paid for _, paid, _ in heard(Echo(1, per_call=-0.5), reply("!x"), reply("!y"))]
    assert paid == [-0.5, -1.0]
    assert heard(Echo(per_call=0.5), reply("!x", "length"))[0][1] == -1.0
    task = Echo(2, per_call=0.25)(GUESS)
    assert task.play(task[0], ("!x", "!y", "b")) == ({"accuracy": 1.0}, 5.5), "what is measured stays"


class Shout(Guess):
    """Takes any reply with the word in it: a careless grader."""

    def measure(self, example: Example, completion: Completion) -> dict[str, float]:  # noqa: ARG002
        return {"accuracy": float("b" in completion.text and not completion.cut)}


def test_a_call_too_many_and_a_reply_that_was_cut_off_are_no_answers() -> None:
    assert heard(Echo(1), reply("!b"), reply("!b"))[1] == (user(SPENT), -1.0, True)
    assert heard(Echo(1), reply("b", "length")) == [(user("Your reply was cut off."), -1.0, True)]
    assert heard(Echo(1), reply("!b", "length"))[0][2], "half a call is not answered"
    assert heard(Echo(1), reply("!b"), reply("!b"), task=Shout())[1][1] == -1.0
    task = Echo(1)(Shout())
    assert task.play(task[0], ("!b", "!b"))[0] == {"accuracy": 0.0}
    assert task.play(task[0], ("!b", "b"))[0] == {"accuracy": 1.0}


def test_the_manual_stands_behind_the_task_and_may_be_left_out() -> None:
    example = Example(({"role": "system", "content": "s"}, {"role": "user", "content": "u"}))
    opening = Echo().env(Guess(), example).reset(0)
    assert opening == ({"role": "system", "content": "s"}, {"role": "user", "content": "u Say '!word'."})
    assert Echo(tell=False).env(Guess(), example).reset(0) == example.messages


def test_validate_and_settings() -> None:
    assert Echo(2)(Guess()).max_turns == 3
    task = Echo(2)(Guess())
    assert task.try_out(task[0]) == 4
    with pytest.raises(InputError, match="at least once"):
        Echo(0)
    with pytest.raises(InputError, match="Did you mean 'user'"):
        Echo(role="usr")
