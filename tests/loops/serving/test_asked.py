"""What a request asks, and what it is told where it asks for what there is not."""

from __future__ import annotations

from typing import Any

import pytest

from burnish.data.chat import Chat
from burnish.engines.nano import nano_tokenizer
from burnish.loops.serving.asked import Asked, Offer, RefusedError, of_chat, of_text
from burnish.types import Sampling

TOKENIZER = nano_tokenizer()
CHAT = Chat(TOKENIZER, frozenset({int(TOKENIZER.eos_token_id)}))
OFFER = Offer("it", context=64, vocabulary=len(TOKENIZER), max_tokens=32)
HI = {"model": "it", "messages": [{"role": "user", "content": "Hi"}]}
TEXT = {"model": "it", "prompt": "Hi"}


def ids(text: str) -> tuple[int, ...]:
    return tuple(TOKENIZER(text)["input_ids"])


def chatted(**body: Any) -> Asked:
    return of_chat({**HI, **body}, CHAT, OFFER)


def texted(**body: Any) -> Asked:
    return of_text({**TEXT, **body}, CHAT, OFFER)


def test_what_is_asked_where_nothing_is_said() -> None:
    prompt = CHAT.encode_prompt([{"role": "user", "content": "Hi"}])
    assert chatted() == Asked(True, (prompt,), ("",), Sampling(32))
    assert texted() == Asked(False, (ids("Hi"),), ("Hi",), Sampling(16))


def test_every_parameter() -> None:
    how = {"temperature": 0.5, "top_p": 0.9, "top_k": 7, "stop": ["a", "b"], "seed": 3, "n": 2, "stream": True}
    sampling = Sampling(5, 0.5, 0.9, 7, ("a", "b"))
    found = chatted(
        **how, max_completion_tokens=5, logprobs=True, top_logprobs=4, stream_options={"include_usage": True}
    )
    assert (found.sampling, found.n, found.seed, found.stream, found.usage, found.top) == (
        sampling,
        2,
        3,
        True,
        True,
        4,
    )
    found = texted(**how, max_tokens=5, logprobs=0, echo=True)
    assert (found.sampling, found.n, found.seed, found.top, found.echo) == (sampling, 2, 3, 0, True)
    assert chatted(max_tokens=3).sampling.max_tokens == 3 and chatted(stop="x").sampling.stop == ("x",)
    assert chatted(logprobs=True).top == 0 and chatted(logprobs=False).top is None


def test_prompts_are_texts_or_token_ids_or_lists_of_them() -> None:
    assert texted(prompt=[5, 6]).prompts == ((5, 6),)
    assert texted(prompt=[[5, 6], [7]]).prompts == ((5, 6), (7,))
    found = texted(prompt=["Hi", "You"])
    assert found.prompts == (ids("Hi"), ids("You")) and found.texts == ("Hi", "You")


def test_the_content_of_a_message_may_come_in_parts_of_text() -> None:
    parts = [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]
    assert chatted(messages=[{"role": "user", "content": parts, "name": None, "tool_calls": []}]) == chatted()


def test_what_would_change_nothing_may_be_said() -> None:
    assert (
        chatted(frequency_penalty=0, logit_bias={}, response_format={"type": "text"}, user="me", seed=None) == chatted()
    )


def test_a_reply_without_a_limit_takes_what_room_there_is() -> None:
    assert texted(prompt=[5] * 60).sampling.max_tokens == 4
    echo = texted(prompt=[5] * 64, max_tokens=0, echo=True)
    assert not echo.reply and echo.width == 64


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"temprature": 1}, "temprature", "Did you mean 'temperature'"),
        ({"logit_bias": {"5": 1}}, "logit_bias", "not supported"),
        ({"presence_penalty": 0.5}, "presence_penalty", "not supported"),
        ({"tools": [{}]}, "tools", "not supported"),
        ({"response_format": {"type": "json_object"}}, "response_format", "not supported"),
        ({"stream_options": {"usage": True}}, "stream_options.usage", "no parameter"),
        ({"stream_options": 1}, "stream_options", "an object"),
        ({"temperature": -1}, "temperature", "from 0"),
        ({"temperature": 1e-9}, "temperature", "from 0.001"),
        ({"temperature": float("inf")}, "temperature", "0 (greedy)"),
        ({"temperature": float("nan")}, "temperature", "a number"),
        ({"temperature": True}, "temperature", "a number"),
        ({"top_p": 0}, "top_p", "above 0"),
        ({"top_p": 1.5}, "top_p", "to 1"),
        ({"top_k": -1}, "top_k", "from 0"),
        ({"n": 0}, "n", "from 1"),
        ({"n": 1.5}, "n", "whole number"),
        ({"seed": "1"}, "seed", "whole number"),
        ({"stop": [""]}, "stop", "not empty"),
        ({"stop": ["a"] * 17}, "stop", "at most 16"),
        ({"stream": 1}, "stream", "true or false"),
        ({"max_tokens": -1}, "max_tokens", "whole number"),
        ({"model": None}, "model", "here 'it'"),
    ],
)
def test_both_kinds_refuse(body: dict[str, Any], param: str, words: str) -> None:
    for ask in (chatted, texted):
        with pytest.raises(RefusedError) as refused:
            ask(**body)
        assert refused.value.status == 400 and refused.value.param == param and words in refused.value.message


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"messages": None}, "messages", "a list that is not empty"),
        ({"messages": []}, "messages", "a list that is not empty"),
        ({"messages": ["Hi"]}, "messages[0]", "JSON string"),
        ({"messages": [{"role": "user"}]}, "messages[0]", "text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0]", "parts of type text"),
        (
            {"messages": [{"role": "user", "content": "a", "tool_calls": [{}]}]},
            "messages[0].tool_calls",
            "not supported",
        ),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "messages", "put a user message in front"),
        ({"top_logprobs": 2}, "top_logprobs", "needs logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "to 20"),
        ({"logprobs": 3}, "logprobs", "true or false"),
        ({"prompt": "a"}, "prompt", "no parameter"),
        ({"max_tokens": 0}, "max_tokens", "from 1"),
    ],
)
def test_chat_refuses(body: dict[str, Any], param: str, words: str) -> None:
    with pytest.raises(RefusedError) as refused:
        chatted(**body)
    assert refused.value.status == 400 and refused.value.param == param and words in refused.value.message


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"prompt": None}, "prompt", "text, a list of token ids"),
        ({"prompt": []}, "prompt", "empty"),
        ({"prompt": ""}, "prompt", "empty"),
        ({"prompt": [[5], []]}, "prompt", "empty"),
        ({"prompt": [5, "a"]}, "prompt", "token ids"),
        ({"prompt": [-1]}, "prompt", "token ids"),
        ({"prompt": [10**6]}, "prompt", "token ids"),
        ({"prompt": {"a": 1}}, "prompt", "token ids"),
        ({"max_tokens": 0}, "max_tokens", "set echo"),
        ({"logprobs": True}, "logprobs", "whole number"),
        ({"suffix": "x"}, "suffix", "not supported"),
        ({"prompt": ["a"] * 100, "n": 3}, "n", "at most 256"),
        ({"messages": []}, "messages", "no parameter"),
    ],
)
def test_completions_refuse(body: dict[str, Any], param: str, words: str) -> None:
    with pytest.raises(RefusedError) as refused:
        texted(**body)
    assert refused.value.status == 400 and refused.value.param == param and words in refused.value.message


@pytest.mark.parametrize("body", [{"prompt": [5] * 64}, {"prompt": [5] * 60, "max_tokens": 5}, {"prompt": "x" * 70}])
def test_what_does_not_fit_is_told_the_context(body: dict[str, Any]) -> None:
    with pytest.raises(RefusedError, match="the context of it holds 64 tokens") as refused:
        texted(**body)
    assert refused.value.code == "context_length_exceeded" and refused.value.status == 400


def test_another_model_is_not_found() -> None:
    with pytest.raises(RefusedError, match="this server has 'it'") as refused:
        chatted(model="gpt")
    assert (refused.value.status, refused.value.code) == (404, "model_not_found")
