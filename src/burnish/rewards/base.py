"""Rewards are values: ``Accuracy() + 0.1 * Format()`` scores a group of completions and hashes like a number."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeVarTuple, overload

from burnish.types import Completion, Example, Reward

if TYPE_CHECKING:
    from burnish.rewards.compose import Named, Product, Restricted, Route, Scaled, Sum, When
    from burnish.rewards.wrappers import Against, Clipped, WithinGroup

Before = TypeVarTuple("Before")


class RewardFunction(Protocol):
    """Scores a whole group at once: one :data:`~burnish.types.Reward` per completion, in their order."""

    def __call__(self, example: Example, completions: Sequence[Completion], /) -> list[Reward]: ...


def per_completion(
    score: Callable[[*Before, Example, Completion], Reward],
) -> Callable[[*Before, Example, Sequence[Completion]], list[Reward]]:
    """Lift a function or method that scores one completion to one that scores the group."""

    def group(*arguments: *tuple[*Before, Example, Sequence[Completion]]) -> list[Reward]:
        *before, example, completions = arguments
        return [score(*before, example, completion) for completion in completions]  # type: ignore[arg-type]

    group.__doc__ = score.__doc__
    group.by_completion = True  # type: ignore[attr-defined]  # read by burnish.rewards.tree
    return group


class Composable(ABC):
    """Gives a reward its arithmetic: see :mod:`burnish.rewards.compose`. A subclass is a frozen dataclass with ``__call__``."""

    @abstractmethod
    def __call__(self, example: Example, completions: Sequence[Completion], /) -> list[Reward]: ...

    @property
    def domains(self) -> frozenset[str] | None:
        """The values of ``example.meta["domain"]`` that ``|`` takes this reward for; None for every one.

        A class may state its own as a ``ClassVar``. A reward made of others is for the domains that all of them share.
        """
        given = [member.domains for member in members(self)]
        stated = [domains for domains in given if domains is not None]
        return frozenset.intersection(*stated) if stated else None

    @property
    def plan(self) -> dict[str, str]:
        """Lines that this reward, without its members, adds to the plan of a run: ``{name: text}``.

        Asked for before anything is sampled. Raises InputError where the reward cannot work here.
        """
        return {}

    def check(self, example: Example) -> None:
        """Raise InputError for an example that no reply to can be judged, for want of a column or by a bad value in it.

        A composition asks its members. A rule is asked about an empty reply, where that costs nothing: one that judges each
        completion by itself, in any process and in bounded time.
        """
        inner = members(self)
        for member in inner:
            member.check(example)
        lifted = getattr(type(self).__call__, "by_completion", False)
        if not inner and lifted and not any(getattr(self, mark, False) for mark in ("in_process", "unbounded")):
            self(example, [Completion((), "", (), "eos")])

    def __add__(self, other: Composable) -> Sum:
        from burnish.rewards.compose import Sum

        return Sum((*_flat(self, Sum), *_flat(other, Sum))) if isinstance(other, Composable) else NotImplemented

    def __sub__(self, other: Composable) -> Sum:
        return self + -other if isinstance(other, Composable) else NotImplemented

    def __neg__(self) -> Scaled:
        return -1.0 * self

    def __rmul__(self, weight: float) -> Scaled:
        from burnish.rewards.compose import Scaled

        return Scaled(float(weight), self) if isinstance(weight, (int, float)) else NotImplemented

    @overload
    def __mul__(self, other: float) -> Scaled: ...
    @overload
    def __mul__(self, other: Composable) -> Product: ...
    def __mul__(self, other: float | Composable) -> Scaled | Product:
        from burnish.rewards.compose import Product

        return Product(self, other) if isinstance(other, Composable) else self.__rmul__(other)

    def __or__(self, other: Composable | Literal[0]) -> Route:
        from burnish.rewards.compose import Nothing, Route

        if not isinstance(other, Composable) and other != 0:
            return NotImplemented
        return Route((*_flat(self, Route), *_flat(other or Nothing(), Route)))

    def on(self, *domains: str) -> Restricted:
        """This reward for examples of these domains only, whatever its class says."""
        from burnish.rewards.compose import Restricted

        return Restricted(self, tuple(sorted(set(domains))))

    def when(self, condition: Composable, above: float = 0.0) -> When:
        """This reward where ``condition`` gives more than ``above``, else 0."""
        from burnish.rewards.compose import When

        return When(self, condition, above)

    def named(self, name: str) -> Named:
        """This reward with all its parts called ``name``."""
        from burnish.rewards.compose import Named

        return Named(self, name)

    def clipped(self, low: float = -math.inf, high: float = math.inf) -> Clipped:
        """This reward, at least ``low`` and at most ``high``."""
        from burnish.rewards.wrappers import Clipped

        return Clipped(self, low, high)

    def against(self, column: str) -> Against:
        """This reward less that of the answer in a column of the data."""
        from burnish.rewards.wrappers import Against

        return Against(self, column)

    def within_group(self, *, std: bool = True) -> WithinGroup:
        """This reward less the mean of the group, divided by the group's standard deviation if ``std``."""
        from burnish.rewards.wrappers import WithinGroup

        return WithinGroup(self, std)


def members(reward: Composable) -> tuple[Composable, ...]:
    """The rewards that a reward is made of: those among its fields, in order."""
    if not is_dataclass(reward):
        return ()
    return tuple(member for field in fields(reward) for member in held(getattr(reward, field.name)))


def held(value: object) -> Iterator[Composable]:
    """The rewards in the value of a field: itself, or those in a tuple, however deep."""
    if isinstance(value, Composable):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from held(item)


def total(reward: Reward) -> float:
    """The reward as one number: the sum of its parts, in order."""
    return sum(part.value for part in reward)


def _flat(reward: Composable, kind: type[Sum | Route]) -> tuple[Composable, ...]:
    """The terms of a sum or the cases of a route, so that ``(a + b) + c`` is ``a + (b + c)``."""
    return members(reward) if isinstance(reward, kind) else (reward,)
