"""The soft overlong punishment of DAPO (arXiv:2503.14476, equation 13)."""

from __future__ import annotations

from dataclasses import dataclass

from burnish.errors import InputError
from burnish.rewards.base import Composable, per_completion
from burnish.types import Completion, Example, Reward, outcome


@dataclass(frozen=True)
class Overlong(Composable):
    """Up to ``limit - buffer`` tokens 0, from there linearly down to -1 at ``limit``, -1 beyond; part "overlong".

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
