"""Several tasks as one. On the command line: ``task="2*countdown + sum"``."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

from burnish.core.keys import derive, uniforms
from burnish.errors import InputError
from burnish.tasks import checks, votes
from burnish.tasks.environments import explanation
from burnish.types import Completion, Example, Reward


@dataclass(frozen=True)
class Mixture:
    """Draws every example from one of ``tasks`` with probability proportional to its weight, deterministically.

    ``weights`` empty means equal ones. Its length is that of the parts together; example ``i`` is example ``i`` (modulo
    its length) of the part drawn for it. ``meta["task_index"]`` says which part that is, and so who grades, and
    ``meta["domain"]`` how it is called: rewards are routed by it, and scores reported. ``names`` empty means the classes of
    the parts, numbered where one comes twice. A mixture is flat: a mixture inside it would draw with the same keys.
    """

    tasks: tuple[checks.Generated, ...]
    weights: tuple[float, ...] = ()
    seed: int = 0
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.tasks:
            raise InputError("a mixture needs at least one task")
        if any(isinstance(task, Mixture) for task in self.tasks):
            raise InputError("a mixture cannot hold a mixture; list all tasks and their weights in one")
        for task in self.tasks:
            if hasattr(task, "env"):
                raise InputError(
                    f"a mixture holds tasks of one reply, and {type(task).__name__} is played over several turns: train on it "
                    "in a run of its own, or give env= to turn every task of a mixture into a conversation"
                )
        if self.names and (len(self.names) != len(self.tasks) or len(set(self.names)) < len(self.names)):
            raise InputError(f"a mixture of {len(self.tasks)} tasks needs as many different names, not {self.names}")
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
        return replace(example, meta={**example.meta, "task_index": chosen, "domain": self.domains[chosen]})

    @property
    def domains(self) -> tuple[str, ...]:
        """What the parts are called."""
        if self.names:
            return self.names
        classes = [type(task).__name__.lower() for task in self.tasks]
        many = Counter(classes)
        seen: Counter[str] = Counter()
        found = []
        for name in classes:
            seen[name] += 1
            found.append(f"{name}-{seen[name]}" if many[name] > 1 else name)
        return tuple(found)

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

    def explain(self, example: Example, completion: Completion) -> str:
        """What the part that made the example says of a reply; nothing where it explains nothing."""
        return explanation(self._part(example), example, completion)

    def validate(self, count: int = 100) -> str:
        """See :func:`burnish.tasks.checks.validate`."""
        return checks.validate(self, count)

    def _part(self, example: Example) -> checks.Generated:
        index: int = example.meta["task_index"]
        return self.tasks[index]


FORM = 'write names and weights, "2*countdown + sum"'
_NUMBER = r"\d+(?:\.\d+)?"
_TERM = re.compile(rf"\s*(?:({_NUMBER})\s*\*)?\s*([^\s*+]+)\s*")


def is_mixture(text: str) -> bool:
    """Whether a text on the command line means several tasks."""
    return "+" in text or "*" in text


def parse(text: str, get: Callable[[str], checks.Generated]) -> Mixture:
    """The mixture that ``2*countdown + sum`` means: names of tasks, each with its weight (1 where there is none).

    ``get`` gives the task of a name. The parts are called by their names, ``file.py:Name`` and ``package/NAME`` by what comes
    last. Raises InputError for what cannot be read, and for a task that is named twice.
    """
    terms = [_TERM.fullmatch(term) for term in text.split("+")]
    found = [(float(term[1] or 1), term[2]) for term in terms if term]
    if len(found) < len(terms):
        raise InputError(f"the tasks {text!r} cannot be read: {FORM}")
    names = tuple(re.split("[:/]", name)[-1] for _, name in found)
    if len(set(names)) < len(names):
        raise InputError(f"a task of {text!r} is named twice: name each once, with its weight in all; {FORM}")
    return Mixture(tuple(get(name) for _, name in found), tuple(weight for weight, _ in found), names=names)
