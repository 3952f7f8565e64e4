"""What becomes of an answer that has only begun: the policy plays it on, many times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from burnish.core import keys
from burnish.data.chat import Chat
from burnish.engines.controls import forced
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
        Request(prefix.prompt, keys.derive(*prefix.key, i), sampling, forced(chat, prefix.begun))
        for prefix in prefixes
        for i in range(samples)
    ]
    found = sorted(sampler.sample(requests), key=lambda c: c.index)
    return [found[start : start + samples] for start in range(0, len(found), samples)]


def completed(chat: Chat, tokens: tuple[int, ...], finish: str) -> Completion:
    """These tokens as a sampler would return them, for a judge."""
    text = chat.decode(tokens)
    return Completion(tokens, text, ({"role": "assistant", "content": text},), finish)
