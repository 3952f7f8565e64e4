"""Several tasks as one."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

from burnish.core.keys import derive, uniforms
from burnish.errors import InputError
from burnish.tasks import checks, votes
from burnish.types import Completion, Example, Reward


@dataclass(frozen=True)
class Mixture:
    """Draws every example from one of ``tasks`` with probability proportional to its weight, deterministically.

    ``weights`` empty means equal ones. Its length is that of the parts together; example ``i`` is example ``i`` (modulo
    its length) of the part drawn for it. ``meta["task_index"]`` says which part that is, and so who grades. A mixture
    is flat: a mixture inside it would draw with the same keys.
    """

    tasks: tuple[checks.Generated, ...]
    weights: tuple[float, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.tasks:
            raise InputError("a mixture needs at least one task")
        if any(isinstance(task, Mixture) for task in self.tasks):
            raise InputError("a mixture cannot hold a mixture; list all tasks and their weights in one")
        if self.weights and len(self.weights) != len(self.tasks):
            raise InputError(f"a mixture of {len(self.tasks)} tasks needs as many weights, not {len(self.weights)}")
        if self.weights and not (min(self.weights) >= 0 and 0 < sum(self.weights) < math.inf):
            raise InputError(f"weights of a mixture must be finite, not negative and not all zero: {self.weights}")

    def __len__(self) -> int:
        return sum(len(task) for task in self.tasks)

    def __getitem__(self, index: int) -> Example:
        checks.check_index(index, len(self))
        weights = self.weights or (1.0,) * len(self.tasks)
        left = float(uniforms(derive("mixture", self.seed, index), 1)[0]) * sum(weights)
        chosen = 0
        while left >= weights[chosen] and chosen < len(weights) - 1:
            left -= weights[chosen]
            chosen += 1
        example = self.tasks[chosen][index % len(self.tasks[chosen])]
        return replace(example, meta={**example.meta, "task_index": chosen})

    def with_split(self, split: str) -> Mixture:
        return replace(self, tasks=tuple(task.with_split(split) for task in self.tasks))

    def reward(self, example: Example, completions: Sequence[Completion]) -> list[Reward]:
        """The reward of the part that made the example."""
        return self._part(example).reward(example, completions)

    def measure(self, example: Example, completion: Completion) -> dict[str, float]:
        """The measures of the part that made the example."""
        return self._part(example).measure(example, completion)

    def said(self, example: Example, completion: Completion) -> Hashable | None:
        """What a reply says, for votes, as the part that made the example reads it."""
        return votes.said(self._part(example), example, completion)

    def gold(self, example: Example) -> str:
        return self._part(example).gold(example)

    def near_misses(self, example: Example) -> tuple[str, ...]:
        return self._part(example).near_misses(example)

    def validate(self, count: int = 100) -> str:
        """See :func:`burnish.tasks.checks.validate`."""
        return checks.validate(self, count)

    def _part(self, example: Example) -> checks.Generated:
        index: int = example.meta["task_index"]
        return self.tasks[index]
