"""How completions are drawn, and what may be forced upon the policy while it writes. docs/sampling.md has the controls."""

from __future__ import annotations

import math
from dataclasses import dataclass

from burnish.errors import InputError

TRUNCATIONS = ("full", "kept")


@dataclass(frozen=True)
class Repetition:
    """Stop a completion whose end is one block of ``least`` to ``most`` tokens, ``times`` times over.

    Kimi k1.5 (arXiv:2501.12599) stops such rollouts early and gives no numbers; these are a choice. With them 32 equal tokens
    are cut, and a paragraph of 64 tokens when it has been written eight times.
    """

    least: int = 4
    most: int = 64
    times: int = 8

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most or self.times < 2:
            raise InputError(f"{self}: give 1 <= least <= most, and times >= 2")


@dataclass(frozen=True)
class Thinking:
    """Budget forcing (s1, arXiv:2501.19393): a thought of at least ``minimum`` and at most ``maximum`` tokens (0: no limit).

    Thinking lasts from the beginning, behind ``Sampling.begin``, to the first ``close``; its tokens are all in between, those
    of ``wait`` included. Where the policy writes ``close``, or ends its turn, before ``minimum`` tokens, that is taken back and
    ``wait`` is forced in its place, however often it takes, or at most ``waits`` times: after these it may close. At
    ``maximum`` tokens ``close`` is forced. The paper takes back a number of times, whatever the length: a high ``minimum``,
    and ``waits``.
    """

    close: str = "</think>"
    minimum: int = 0
    maximum: int = 0
    wait: str = "Wait"
    waits: int | None = None

    def __post_init__(self) -> None:
        if self.minimum < 0 or self.maximum < 0 or 0 < self.maximum < self.minimum:
            raise InputError(
                f"minimum={self.minimum}, maximum={self.maximum}: give numbers of tokens with minimum <= maximum, or "
                "maximum=0 for no limit"
            )
        if self.waits is not None and self.waits < 1:
            raise InputError(f"waits={self.waits}: give how often at most to go on, from 1, or null for no limit")
        if not self.close or not self.wait or self.close in self.wait:
            raise InputError(f"close={self.close!r}, wait={self.wait!r}: give two texts, the second without the first")


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn. The training default is the model's own distribution: temperature 1, no truncation.

    ``temperature`` 0 is greedy. ``top_k`` 0 and ``top_p`` 1 keep the whole vocabulary. A completion ends at the end-of-turn
    token, after any of the ``stop`` strings, where ``repetition`` stops it, or after ``max_tokens`` tokens.

    ``truncation`` says which policy is trained where top-k or top-p cut the vocabulary: "full", the one before the cut,
    with a biased gradient, or "kept", the one that was sampled from, exactly. "kept" stores the ids of the kept tokens at
    every place: bound them with ``top_k``, as ``top_p`` alone may keep much of a large vocabulary.

    ``suppress`` are texts of one token each, which are never drawn: the policy is the one over all other tokens, in sampling
    and in training. ``begin`` is forced at the start of every completion, ``thinking`` forces tokens in its middle. Forced
    tokens belong to the completion and count for ``max_tokens``; they are not trained.
    """

    max_tokens: int = 256
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()
    truncation: str = "full"
    suppress: tuple[str, ...] = ()
    begin: str = ""
    repetition: Repetition | None = None
    thinking: Thinking | None = None

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise InputError(f"max_tokens={self.max_tokens}: a completion has at least one token; give 1 or more")
        if self.truncation not in TRUNCATIONS:
            raise InputError(f"truncation must be {' or '.join(TRUNCATIONS)}, not '{self.truncation}'")
        if not 0 <= self.temperature < math.inf:
            raise InputError(f"temperature={self.temperature}: give 0, which is greedy, or a finite number above it")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p={self.top_p} keeps no token: give a number above 0 and at most 1")
        if self.thinking is None:
            return
        if self.thinking.minimum >= self.max_tokens:
            raise InputError(
                f"thinking.minimum={self.thinking.minimum} fills max_tokens={self.max_tokens}: raise max_tokens"
            )
        if self.thinking.close in self.begin:
            raise InputError(f"begin={self.begin!r} closes the thinking: leave thinking out, or open it only")
