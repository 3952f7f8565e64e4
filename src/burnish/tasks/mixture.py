"""Several tasks as one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from burnish.core.keys import derive, uniforms
from burnish.errors import InputError
from burnish.tasks import checks
from burnish.types import Completion, Example, Reward


@dataclass(frozen=True)
class Mixture:
    """Draws every example from one of ``tasks`` with probability proportional to its weight, deterministically.

    ``weights`` empty means equal ones. Its length is that of the parts together; example ``i`` is example ``i`` (modulo
    its length) of the part drawn for it. ``meta["task_index"]`` is the path to that part, one index per level, and
    decides who grades.
    """

    tasks: tuple[checks.Generated, ...]
    weights: tuple[float, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.tasks:
            raise InputError("a mixture needs at least one task")
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
        path = (chosen, *example.meta.get("task_index", ()))
        return replace(example, meta={**example.meta, "task_index": path})

    def with_split(self, split: str) -> Mixture:
        return replace(self, tasks=tuple(task.with_split(split) for task in self.tasks))

    def reward(self, example: Example, completions: Sequence[Completion]) -> list[Reward]:
        """The reward of the part that made the example."""
        task, inner = self._part(example)
        return task.reward(inner, completions)

    def measure(self, example: Example, completion: Completion) -> dict[str, float]:
        """The measures of the part that made the example."""
        task, inner = self._part(example)
        return task.measure(inner, completion)

    def gold(self, example: Example) -> str:
        task, inner = self._part(example)
        return task.gold(inner)

    def near_misses(self, example: Example) -> tuple[str, ...]:
        task, inner = self._part(example)
        return task.near_misses(inner)

    def validate(self, count: int = 100) -> str:
        """See :func:`burnish.tasks.checks.validate`."""
        return checks.validate(self, count)

    def _part(self, example: Example) -> tuple[checks.Generated, Example]:
        first, *rest = example.meta["task_index"]
        meta: dict[str, Any] = {**example.meta, "task_index": tuple(rest)}
        return self.tasks[first], replace(example, meta=meta)
