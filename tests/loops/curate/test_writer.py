"""Whoever writes gets whole conversations, and its randomness has a place."""

from __future__ import annotations

import pytest

from burnish.errors import InputError
from burnish.loops.curate.writer import Writer, filled, says
from burnish.rewards.ask import Said
from burnish.rewards.endpoint import Endpoint
from judging import Scripted, serving


def test_templates() -> None:
    assert filled('{"a": {topic}}, {other}', topic="{x}") == '{"a": {x}}, {other}', "values are not read again"
    with pytest.raises(InputError, match=r"has no \{topic\}: write where it goes"):
        filled("Write a question.", topic="x")


def test_every_place_has_its_own_seed_and_nobody_is_asked_nothing() -> None:
    model = Scripted(lambda text: f" {text}! ")
    writer = Writer(model, temperature=0.5, max_tokens=7)
    one = (says("user", "one"),)
    assert writer.write([one, None, one], "here") == ["one!", "", "one!"]
    (asked,) = model.seen
    assert [(q.temperature, q.max_tokens) for q in asked] == [(0.5, 7)] * 2
    writer.write([one], "here")
    writer.write([one], "there")
    seeds = [question.seed for call in model.seen for question in call]
    assert seeds[0] == seeds[2] and len(set(seeds)) == 3


def test_what_was_cut_off_is_nothing() -> None:
    class Cut:
        def ask(self, questions: object) -> list[Said]:  # noqa: ARG002
            return [Said("The answer is", "length"), Said("4", "eos")]

    assert Writer(Cut()).write([(says("user", "a"),), (says("user", "b"),)]) == ["", "4"]


def test_an_endpoint_writes() -> None:
    with serving(lambda text: text.upper()) as server:
        writer = Writer(Endpoint(server.url, "m", cache=False), temperature=0.7)
        assert writer.write([(says("user", "a"), says("assistant", "b"), says("user", "c"))]) == ["C"]
        ((_, body),) = server.requests
    assert [message["content"] for message in body["messages"]] == ["a", "b", "c"]
    assert body["temperature"] == 0.7 and 0 <= body["seed"] < 2**31


def test_settings() -> None:
    with pytest.raises(InputError, match="at least 0 and at least 1"):
        Writer(Scripted(str), max_tokens=0)
