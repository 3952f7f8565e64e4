"""Which groups a step trains on. A group is judged by its rewards, one number per completion; others are drawn for
what is left out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass


class Selection(ABC):
    """``keeps(rewards)`` says whether a group stays. At most ``cap`` times the groups of a step are drawn to fill it."""

    cap: float

    @abstractmethod
    def keeps(self, rewards: Sequence[float]) -> bool: ...


def _check_cap(cap: float) -> None:
    if cap < 1:
        raise ValueError(f"cap={cap}: at least the groups of one step have to be drawn, so cap is 1 or more")


@dataclass(frozen=True)
class MixedGroups(Selection):
    """Dynamic sampling (DAPO, arXiv:2503.14476): groups whose rewards are all equal teach nothing and are drawn anew."""

    cap: float = 10.0

    def __post_init__(self) -> None:
        _check_cap(self.cap)

    def keeps(self, rewards: Sequence[float]) -> bool:
        return max(rewards) - min(rewards) > 1e-12 * max(map(abs, rewards))


@dataclass(frozen=True)
class Band(Selection):
    """Groups whose mean reward lies in [low, high]: neither too hard nor too easy for the policy of today."""

    low: float = 0.2
    high: float = 0.8
    cap: float = 10.0

    def __post_init__(self) -> None:
        _check_cap(self.cap)
        if self.low > self.high:
            raise ValueError(f"low={self.low} is above high={self.high}")

    def keeps(self, rewards: Sequence[float]) -> bool:
        return self.low <= sum(rewards) / len(rewards) <= self.high
