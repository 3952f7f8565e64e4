"""Rewards in worker processes that can be killed: a hang, a crash or a memory bomb costs one sample.

Beside what rewards record themselves, a call records ``reward/timeouts`` and ``reward/crashes``: shares of its samples.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import ClassVar

from burnish.errors import InputError
from burnish.rewards.base import Composable, RewardFunction, members
from burnish.rewards.record import record
from burnish.rewards.tree import by_completion, everything, rebuilt, stays
from burnish.rewards.workers import Lost, Scored, Workers
from burnish.types import Completion, Example, Reward, outcome

Group = tuple[Example, Sequence[Completion]]
"""What a reward is asked about at a time: an example and completions of its prompt."""

_pools: dict[tuple[int, ...], Workers] = {}


@dataclass(frozen=True)
class Pooled(Composable):
    """``reward``, run in worker processes. Values, their order and what is recorded are those of ``reward`` itself.

    A reward that judges each completion by itself has ``seconds`` of wall-clock time for each, any other for a group. A
    completion that takes longer, or whose worker dies or needs more than ``memory_mb`` beside what it starts with, is lost:
    its reward is one part, "lost", worth ``lost``. What the reward raises is raised here; loading it has no deadline.

    What is marked ``in_process`` (it holds a model) is not sent to workers. A composition of which a part stays, or one that
    compares the completions of a group, is evaluated here over its pooled members, each with a deadline of its own.

    ``workers`` 0 is one for each core; each is replaced after ``recycle`` jobs. The processes are shared by all values with
    the same ``workers``, ``memory_mb`` and ``recycle``, start at the first call, and end with the program. Threads may share
    them, in turns; a fork of the program starts its own. Raises InputError for a setting outside its range.
    """

    in_process: ClassVar[bool] = True  # a worker starts no workers

    reward: Composable
    seconds: float = 10.0
    memory_mb: int = 2048
    workers: int = 0
    lost: float = 0.0
    recycle: int = 200

    @property
    def by_completion(self) -> bool:
        """Whether the reward of a completion depends on no other of its group: as that of ``reward`` does."""
        return by_completion(self.reward)

    def __post_init__(self) -> None:
        if not (0 < self.seconds < math.inf and self.memory_mb > 0 and self.workers >= 0 and self.recycle > 0):
            raise InputError(
                f"a pool with seconds={self.seconds}, memory_mb={self.memory_mb}, workers={self.workers} and "
                f"recycle={self.recycle}: give positive numbers (workers may be 0: one for each core)"
            )
        if not math.isfinite(self.lost):
            raise InputError(f"a lost sample is worth lost={self.lost}: give a finite number")

    def __call__(self, example: Example, completions: Sequence[Completion], /) -> list[Reward]:
        return self.groups([(example, completions)])[0]

    def groups(self, groups: Sequence[Group]) -> list[list[Reward]]:
        """The rewards of several groups. All are scored at once, so that what hangs in one holds up no other."""
        here = self._here()
        if here is not None:
            return [here(*group) for group in groups]
        if by_completion(self.reward):
            rewards = iter(
                self._scored([(example, (each,)) for example, completions in groups for each in completions])
            )
            return [[each for [each] in islice(rewards, len(completions))] for _, completions in groups]
        return self._scored([(example, tuple(completions)) for example, completions in groups])

    def _here(self) -> Composable | None:
        """What is to be called in this process; None where the whole reward goes to workers."""
        if not any(members(self.reward)):
            return self.reward if stays(self.reward) else None
        if getattr(self.reward, "in_process", False):
            return self.reward
        if by_completion(self.reward) and not stays(self.reward):
            return None
        return rebuilt(self.reward, lambda member: replace(self, reward=member))

    def _scored(self, jobs: Sequence[tuple[Example, tuple[Completion, ...]]]) -> list[list[Reward]]:
        results = _shared(self).score(self.reward, jobs, self.seconds)
        samples = sum(len(completions) for _, completions in jobs)
        for name, why in (("reward/timeouts", Lost.TIMEOUT), ("reward/crashes", Lost.CRASH)):
            lost = sum(len(job[1]) for job, result in zip(jobs, results, strict=True) if result is why)
            record(name, lost, samples)
        return list(self._rewards(jobs, results))

    def _rewards(
        self, jobs: Sequence[tuple[Example, tuple[Completion, ...]]], results: Sequence[Scored | Lost]
    ) -> Iterator[list[Reward]]:
        for (_, completions), result in zip(jobs, results, strict=True):
            if isinstance(result, Lost):
                yield [outcome(self.lost, "lost") for _ in completions]
                continue
            for name, (value, count) in result.metrics.items():
                record(name, value, count)
            yield result.rewards


def score_groups(reward: RewardFunction, groups: Sequence[Group]) -> list[list[Reward]]:
    """The rewards of several groups: at once where ``reward`` is pooled, else one group after the other."""
    return reward.groups(groups) if isinstance(reward, Pooled) else [reward(*group) for group in groups]


def guarded(reward: Composable, seconds: float) -> Composable:
    """The reward in a pool if any part of it is marked ``unbounded``: nobody knows how long it takes. 0 seconds: as it is."""
    return (
        Pooled(reward, seconds)
        if seconds and any(getattr(p, "unbounded", False) for p in everything(reward))
        else reward
    )


def close_pools() -> None:
    """End the worker processes of this program now rather than at its end; a later call starts new ones."""
    for key, workers in _pools.items():
        if key[0] == os.getpid():
            workers.close()


def _shared(pooled: Pooled) -> Workers:
    size = pooled.workers or os.cpu_count() or 1
    key = (os.getpid(), size, pooled.memory_mb, pooled.recycle)
    if key not in _pools:
        _pools.setdefault(key, Workers(size, pooled.memory_mb * 2**20, pooled.recycle))  # atomic: threads may race
    return _pools[key]
