"""Rewards of length: the soft punishment of DAPO, the group reward of Kimi k1.5, the cosine reward."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from burnish.errors import InputError
from burnish.rewards.base import Composable, per_completion
from burnish.types import Completion, Example, Reward, outcome


@dataclass(frozen=True)
class Overlong(Composable):
    """The soft overlong punishment of DAPO (arXiv:2503.14476, equation 13); part "overlong".

    Up to ``limit - buffer`` tokens 0, from there linearly down to -1 at ``limit``, -1 beyond.

    A completion that is cut off is wrong from one token to the next; the slope says before that it is getting long. Lengths
    are in tokens and count the end token. The paper: limit 20480, the sampling limit; buffer 4096. Raises InputError unless
    ``1 <= buffer <= limit``.
    """

    limit: int
    buffer: int

    def __post_init__(self) -> None:
        if not 1 <= self.buffer <= self.limit:
            raise InputError(f"{self}: the buffer is the last tokens before the limit; give 1 <= buffer <= limit")

    @per_completion
    def __call__(self, example: Example, completion: Completion) -> Reward:  # noqa: ARG002 - only the length counts
        room = self.limit - self.buffer - len(completion.tokens)
        return outcome(max(min(room, 0) / self.buffer, -1.0), "overlong")


@dataclass(frozen=True)
class KimiLength(Composable):
    """The length reward of Kimi k1.5 (arXiv:2501.12599, section 2.3.3); part "length", in [-1/2, 1/2].

    ``lambda = 1/2 - (len - min) / (max - min)`` with the shortest and the longest of the group, in tokens. A right
    completion gets lambda, a wrong one ``min(0, lambda)``; everybody gets 0 where all are equally long. ``correct`` says
    who is right: a completion whose whole reward there is above 0. Its parts are not added, so that the sum is written out:
    ``Math() + 0.2 * KimiLength(Math())``.

    The paper found that it slows early training, and left it out at first, then kept it constant: two stages of ``rl``, the
    first without it, each starting from the result of the one before.
    """

    correct: Composable

    def __call__(self, example: Example, completions: Sequence[Completion], /) -> list[Reward]:
        lengths = [len(completion.tokens) for completion in completions]
        shortest, spread = min(lengths, default=0), max(lengths, default=0) - min(lengths, default=0)
        scores = [0.5 - (length - shortest) / spread if spread else 0.0 for length in lengths]
        right = _right(self.correct, example, completions)
        return [outcome(score if ok else min(0.0, score), "length") for score, ok in zip(scores, right, strict=True)]


@dataclass(frozen=True)
class CosineLength(Composable):
    """The cosine reward of arXiv:2502.03373, section 4.2; part "length". It contains the correctness.

    ``at_limit + (at_zero - at_limit) (1 + cos(pi len / limit)) / 2`` with the two ends of ``right`` where ``correct`` is above
    0 and of ``wrong`` elsewhere, in tokens: a right answer had better be short, a wrong one had better think on. From ``limit``
    on, and where a completion was cut off, it is ``exceeded``. The defaults are the paper's; right answers are worth more than
    wrong ones at any length. Raises InputError unless that holds, ends ordered so, and ``limit`` is above 0.
    """

    correct: Composable
    limit: int
    right: tuple[float, float] = (2.0, 1.0)
    wrong: tuple[float, float] = (-10.0, 0.0)
    exceeded: float = -10.0

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise InputError(f"limit={self.limit}: give the number of tokens from which a completion is too long")
        if min(self.right) < max(self.wrong) or self.exceeded > min(self.right):
            raise InputError(
                f"right={self.right}, wrong={self.wrong}, exceeded={self.exceeded}: a right answer may never be worth less "
                "than a wrong or an overlong one; raise both ends of right, or lower the others"
            )

    def __call__(self, example: Example, completions: Sequence[Completion], /) -> list[Reward]:
        right = _right(self.correct, example, completions)
        return [outcome(self._value(done, ok), "length") for done, ok in zip(completions, right, strict=True)]

    def _value(self, completion: Completion, right: bool) -> float:
        length = len(completion.tokens)
        if length >= self.limit or completion.cut:
            return self.exceeded
        at_zero, at_limit = self.right if right else self.wrong
        return at_limit + (at_zero - at_limit) * (1.0 + math.cos(math.pi * length / self.limit)) / 2.0


def _right(correct: Composable, example: Example, completions: Sequence[Completion]) -> list[bool]:
    return [sum(part.value for part in reward) > 0 for reward in correct(example, completions)]
