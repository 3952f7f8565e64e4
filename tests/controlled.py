"""Models of which every token is known, requests to them, and the rollouts that come of them: for tests of sampler controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from burnish.core import keys
from burnish.engines.decode import LocalSampler
from burnish.engines.local import Engine, LocalModel
from burnish.sampling import Sampling, Thinking
from burnish.types import Completion, Request, Rollout
from tiny import model as tiny_model
from words import END, write

LETTERS = "ab<>W."
"""Of the tiny transformer; "." ends its turn. A closing is two of its tokens."""
SHORT = Thinking(close="<>", minimum=4, maximum=7, wait="W")
WORDS = {
    "ask": {"so": 0.4, "hm": 0.3, "</think>": 0.2, END: 0.1},
    "so": {"so": 0.3, "hm": 0.3, "</think>": 0.3, END: 0.1},
    "hm": {"so": 0.5, "</think>": 0.5},
    "Wait": {"so": 0.2, "hm": 0.2, "</think>": 0.5, END: 0.1},
    "</think>": {"one": 0.5, "two": 0.5},
    "one": {"one": 0.4, END: 0.6},
    "two": {"one": 0.1, END: 0.9},
}


def lettered(directory: Path) -> LocalSampler:
    """A transformer in float64 that writes its closing often."""
    return _in_double(tiny_model(directory, LETTERS, ".", seed=15))


def worded(directory: Path) -> LocalSampler:
    """A table of the words."""
    return _in_double(write(directory, WORDS))


def _in_double(model: Path) -> LocalSampler:
    return LocalSampler(LocalModel(model, Engine(dtype="float64", device="cpu")))


def asked(sampling: Sampling, count: int = 60, pause: int = 0) -> list[Request]:
    prompts = [(0,), (1, 0, 1)]
    return [Request(prompts[i % 2], keys.derive("controls", i), sampling, pause=pause) for i in range(count)]


def sampled(sampler: LocalSampler, wanted: Sequence[Request]) -> list[Completion]:
    found = sorted(sampler.sample(wanted), key=lambda c: c.index)
    assert [c.index for c in found] == list(range(len(wanted)))
    return found


def rollouts(wanted: Sequence[Request], found: Sequence[Completion]) -> list[Rollout]:
    return [
        Rollout(r.prompt, c.tokens, c.chosen, c.logprobs, (), 0, i, kept=c.kept, kept_ids=c.kept_ids)
        for i, (r, c) in enumerate(zip(wanted, found, strict=True))
    ]


def same(one: Completion, other: Completion) -> bool:
    assert one.logprobs == pytest.approx(other.logprobs, abs=1e-10) and one.kept == pytest.approx(other.kept, abs=1e-10)
    return replace(one, logprobs=(), kept=(), index=0) == replace(other, logprobs=(), kept=(), index=0)
