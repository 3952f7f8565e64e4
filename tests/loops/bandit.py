"""The smallest task there is: of two tokens, one is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from burnish.types import Completion, Example, Reward, outcome


@dataclass(frozen=True)
class Bandit:
    """Reward 1 for the token "a". ``broken`` draws get a reward no optimizer can use."""

    broken: bool = False

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Example:
        return Example(({"role": "user", "content": "a" * (1 + index % 2)},), "a")

    def reward(self, example: Example, completions: Sequence[Completion]) -> list[Reward]:  # noqa: ARG002
        scale = 1e200 if self.broken else 1.0  # a finite reward whose square is not
        return [
            outcome(scale * (c.tokens[0] == 0) + scale / 3 * i * self.broken, "a") for i, c in enumerate(completions)
        ]

    def measure(self, example: Example, completion: Completion) -> dict[str, float]:  # noqa: ARG002
        return {"accuracy": float(completion.tokens[0] == 0)}
