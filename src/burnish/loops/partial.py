"""Partial rollouts (Kimi k1.5, arXiv:2501.12599): a completion grows by some tokens at a time, and what is not finished when
a step has all its groups waits for the next one.

So a few long completions no longer hold up a step. What waits is part of the state of the run: nothing is lost, nothing is
used twice. The tokens of a completion may come from several versions of the policy, each with the log-prob it was sampled with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from burnish.core.orders import Pick
from burnish.loops.rollouts import Asked, Grouping
from burnish.types import Completion, Request, Task

PAUSED = "paused"


@dataclass(frozen=True)
class Begun:
    """A group on its way: what there is of each completion, None before its first token. ``version`` is that of the weights
    that begin it."""

    draw: int
    pick: Pick
    version: int
    completions: tuple[Completion | None, ...]

    @property
    def whole(self) -> tuple[Completion, ...] | None:
        """The completions where all of them are finished."""
        found = tuple(c for c in self.completions if c is not None and c.finish != PAUSED)
        return found if len(found) == len(self.completions) else None

    @property
    def tokens(self) -> int:
        """How many tokens there are in all."""
        return sum(len(c.tokens) for c in self.completions if c is not None)

    def asked(self, task: Task) -> Asked:
        return Asked(self.draw, self.pick, task[self.pick.item])

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Begun:
        """What ``dataclasses.asdict`` and JSON have made of it."""
        completions = tuple(None if c is None else _completion(c) for c in record["completions"])
        return cls(record["draw"], Pick(*record["pick"]), record["version"], completions)


def _completion(record: Mapping[str, Any]) -> Completion:
    lists = {name: tuple(value) for name, value in record.items() if isinstance(value, list)}
    return Completion(**{**record, **lists, "kept_ids": tuple(tuple(ids) for ids in record["kept_ids"])})


def lengthen(grouping: Grouping, pool: Sequence[Begun], tokens: int) -> list[Begun]:
    """The groups with every unfinished completion longer by ``tokens`` tokens, or finished on the way."""
    requests: list[Request] = []
    owners: list[tuple[int, int]] = []
    for place, begun in enumerate(pool):
        own = grouping.requests(begun.asked(grouping.task))
        for i, (request, so_far) in enumerate(zip(own, begun.completions, strict=True)):
            if so_far is None or so_far.finish == PAUSED:
                requests.append(replace(request, begun=so_far, pause=tokens))
                owners.append((place, i))
    longer = [list(begun.completions) for begun in pool]
    for completion in grouping.sampler.sample(requests):
        place, i = owners[completion.index]
        longer[place][i] = completion
    return [replace(begun, completions=tuple(now)) for begun, now in zip(pool, longer, strict=True)]
