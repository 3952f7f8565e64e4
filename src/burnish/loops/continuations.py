"""What becomes of an answer that has only begun: the policy plays it on, many times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from burnish.core import keys
from burnish.data.chat import Chat
from burnish.errors import InputError
from burnish.types import Completion, Request, Sampler, Sampling


class Prefix(NamedTuple):
    """The tokens of a prompt, those of its answer so far, and the parts of the key its randomness follows from."""

    prompt: tuple[int, ...]
    begun: tuple[int, ...]
    key: tuple[int | str, ...]


def continuations(
    sampler: Sampler, chat: Chat, prefixes: Sequence[Prefix], sampling: Sampling, samples: int
) -> list[list[Completion]]:
    """For each prefix ``samples`` whole completions that begin with it, of at most ``sampling.max_tokens`` tokens in all.

    Raises InputError where there is nothing to draw, or a prefix is as long as the limit.
    """
    if samples < 1:
        raise InputError(f"{samples} continuations tell nothing: give at least 1")
    longest = max((len(prefix.begun) for prefix in prefixes), default=0)
    if longest >= sampling.max_tokens:
        raise InputError(f"{longest} tokens have been written and the limit is {sampling.max_tokens}: raise max_tokens")
    requests = [
        Request(
            prefix.prompt + prefix.begun, keys.derive(*prefix.key, i),
            replace(sampling, max_tokens=sampling.max_tokens - len(prefix.begun)),
        )
        for prefix in prefixes
        for i in range(samples)
    ]  # fmt: skip
    found = sorted(sampler.sample(requests), key=lambda c: c.index)
    whole = [
        _joined(chat, prefixes[number // samples].begun, continuation, sampling.stop)
        for number, continuation in enumerate(found)
    ]
    return [whole[start : start + samples] for start in range(0, len(whole), samples)]


def _joined(chat: Chat, begun: tuple[int, ...], continuation: Completion, stop: Sequence[str]) -> Completion:
    """The whole completion. A stop string may begin before the continuation, where the sampler did not look for it."""
    tokens = begun + continuation.tokens
    for end in range(len(begun) + 1, len(tokens) + 1) if stop else ():
        if any(s in chat.decode(tokens[:end]) for s in stop):
            return completed(chat, tokens[:end], "stop")
    return completed(chat, tokens, continuation.finish)


def completed(chat: Chat, tokens: tuple[int, ...], finish: str) -> Completion:
    """These tokens as a sampler would return them, for a judge."""
    text = chat.decode(tokens)
    return Completion(tokens, text, ({"role": "assistant", "content": text},), finish)
