"""Replies that say the same vote for the same answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from burnish.tasks.arithmetic import Arithmetic
from burnish.tasks.calculator import Calculator
from burnish.tasks.countdown import Countdown
from burnish.tasks.environments import CUT, Rewarded
from burnish.tasks.feedback import Feedback
from burnish.tasks.mixture import Mixture
from burnish.tasks.points24 import Points24
from burnish.tasks.votes import said
from burnish.types import Completion, Example, Message, Reward


def reply(text: str, finish: str = "eos", before: tuple[Message, ...] = ()) -> Completion:
    messages: tuple[Message, ...] = (*before, {"role": "assistant", "content": text})
    return Completion((), " ".join(message["content"] for message in messages), messages, finish)


def votes(task: Any, example: Example, *texts: str) -> list[Any]:
    return [said(task, example, reply(text)) for text in texts]


def test_numbers_vote_by_value_and_words_by_letter() -> None:
    sums = Arithmetic(kinds=("sum",))
    number, word = (
        Example(({"role": "user", "content": "?"},), "7"),
        Example(({"role": "user", "content": "?"},), "yes"),
    )
    same = votes(sums, number, "7", "The sum is 7.0", "<think>8</think>7", "7.")
    assert len({*same}) == 1 and same[0] is not None
    assert said(sums, number, reply("8")) not in {*same, None}
    assert votes(sums, word, "Yes.", "yes", "I say yes!") == [("yes",)] * 3
    assert votes(sums, number, "", "<think>7", "no idea", "7 or 8") == [None] * 4, "they give no answer"


def test_what_was_cut_off_says_nothing() -> None:
    example = Example(({"role": "user", "content": "?"},), "7")
    assert [said(Arithmetic(), example, reply("7", finish)) for finish in ("length", "repetition")] == [None, None]


def test_right_expressions_are_different_answers_also_in_a_mixture() -> None:
    part = Countdown()
    mixed = Mixture((part,))
    for task in (part, Points24()):
        assert votes(task, task[0], "1 + 2", "1+2", "2+1", "") == ["1+2", "1+2", "2+1", None]
    assert votes(mixed, mixed[0], "1 + 2", "2+1") == ["1+2", "2+1"]


def test_of_a_conversation_the_last_reply_counts() -> None:
    example = Example(({"role": "user", "content": "?"},), "7")
    before: tuple[Message, ...] = ({"role": "assistant", "content": "9"}, {"role": "user", "content": "no: 5"})
    assert said(Arithmetic(), example, reply("7", before=before)) == said(Arithmetic(), example, reply("7"))


def test_in_an_environment_the_task_reads_the_reply_that_is_judged() -> None:
    part = Countdown()
    told: Message = {"role": "user", "content": "That is not right."}
    wrong: tuple[Message, ...] = ({"role": "assistant", "content": "9"}, told)
    for task in (part, Rewarded(part, part.reward)):
        tried, called = Feedback(2)(task), Calculator(1)(task)
        for played in (tried, called):
            found = [said(played, part[0], reply(text, before=wrong)) for text in ("1 + 2", "1+2", "2+1", "")]
            assert found == ["1+2", "1+2", "2+1", None]
        answered = replace(reply("1 + 2"), messages=(*reply("1 + 2").messages, told))
        assert said(tried, part[0], answered) == "1+2", "what the verifier answers is about this reply"
        assert said(called, part[0], answered) is None, "a call too many is no answer"
    cut: tuple[Message, ...] = (*reply("1 + 2").messages, {"role": "user", "content": CUT})
    assert said(Feedback(1)(part), part[0], replace(reply("1 + 2"), messages=cut)) is None


class Free:
    """A task without an answer to compare with."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Example:
        return Example(({"role": "user", "content": "?"},))

    def reward(self, example: Example, completions: Any) -> list[Reward]:  # noqa: ARG002
        raise AssertionError("nobody is graded")


def test_without_an_answer_the_text_behind_the_thoughts_counts() -> None:
    assert votes(Free(), Free()[0], "<think>a</think> Blue", "blue", "red") == ["blue", "blue", "red"]
