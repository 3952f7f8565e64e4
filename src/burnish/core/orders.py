"""Which item of a task each draw takes, and why. An order is a frozen value; what it remembers between steps is plain JSON.

All randomness follows from the key of the run, the number of the draw and what is remembered, so a resumed run draws what the
uninterrupted one drew.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from burnish.core.keys import derive, passes, uniforms
from burnish.errors import InputError

OrderState = Mapping[str, Any]
"""What an order remembers, as JSON gives it back: replaced, never mutated. {} at the start of a run."""


class Pick(NamedTuple):
    """The item that a draw takes, why it was taken, and its running success rate where there is one."""

    item: int
    why: str
    rate: float | None = None


class Outcome(NamedTuple):
    """What came of a draw: of each trained episode the sum of its reward, part by part."""

    item: int
    episodes: tuple[Mapping[str, float], ...]


class Graded(NamedTuple):
    """How difficult an item is, in the unit of its domain."""

    domain: str
    difficulty: float


@dataclass(frozen=True)
class Items:
    """The items of a task as an order sees them: ``count`` of them, and where an order asks for it, how difficult each is."""

    count: int
    key: int
    grade: Callable[[], Sequence[Graded]]

    @cached_property
    def graded(self) -> Sequence[Graded]:
        """[count]"""
        return self.grade()

    @cached_property
    def easier(self) -> NDArray[np.float64]:
        """[count] the share of the items of the same domain that are strictly easier: 0 for the easiest."""
        return beaten(self.graded)

    @cached_property
    def harder(self) -> NDArray[np.float64]:
        """[count] the share of the items of the same domain that are strictly harder: 0 for the hardest."""
        return beaten([Graded(domain, -difficulty) for domain, difficulty in self.graded])


def beaten(graded: Sequence[Graded]) -> NDArray[np.float64]:
    """[count] the share of the items of the same domain with a lower difficulty.

    Difficulties of one domain are only compared with each other: digits of a sum say nothing about the size of a maze.
    """
    domains: dict[str, list[int]] = {}
    for item, (domain, _) in enumerate(graded):
        domains.setdefault(domain, []).append(item)
    shares = np.zeros(len(graded))
    for members in domains.values():
        difficulties = np.array([graded[item].difficulty for item in members])
        shares[members] = np.searchsorted(np.sort(difficulties), difficulties, side="left") / len(members)
    return shares


class Order(ABC):
    """``choose`` takes an item for every draw, ``update`` learns from what came of them. Both are pure."""

    by_difficulty: ClassVar[bool] = False
    """Whether it asks how difficult the items are."""

    @abstractmethod
    def choose(self, draws: range, step: int, items: Items, state: OrderState) -> tuple[list[Pick], OrderState]:
        """A pick for each of the draws of step ``step`` (from 0), and what is remembered of them."""

    def update(self, state: OrderState, outcomes: Sequence[Outcome]) -> OrderState:  # noqa: ARG002 - most learn nothing
        """The state after these draws, kept for training or not."""
        return state


@dataclass(frozen=True)
class Shuffled(Order):
    """Endless shuffled passes: every item once before any comes again."""

    def choose(self, draws: range, step: int, items: Items, state: OrderState) -> tuple[list[Pick], OrderState]:  # noqa: ARG002
        taken = islice(passes(items.key, items.count, draws.start), len(draws))
        return [Pick(item, "shuffled") for item in taken], state


def walk(
    draws: range, items: Items, state: OrderState, judge: Callable[[int, int], Pick | None]
) -> tuple[list[Pick], OrderState]:
    """The next items of the shuffled passes for which ``judge(place, item)`` has a pick; ``state["place"]`` is where it got.

    Where every item has one, these are the items of :class:`Shuffled`.
    """
    place: int = state.get("place", 0)
    stream = passes(items.key, items.count, place)
    picks: list[Pick] = []
    while len(picks) < len(draws):
        pick = judge(place, next(stream))
        place += 1
        if pick is not None:
            picks.append(pick)
    return picks, {**state, "place": place}


@dataclass(frozen=True)
class Curriculum(Order):
    """Easy to hard: at step t only the easiest share ``start + (1 - start) t / steps`` of each domain is drawn.

    Items are compared by ``meta["difficulty"]`` within their domain; a level of difficulty enters as a whole, as soon as the
    share of easier items is below the share that is allowed. From step ``steps`` on it is :class:`Shuffled`.
    """

    by_difficulty: ClassVar[bool] = True

    start: float = 0.1
    steps: int = 100

    def __post_init__(self) -> None:
        if not 0 < self.start <= 1 or self.steps < 1:
            raise ValueError(f"start={self.start}, steps={self.steps}: the share is in (0, 1], the steps are 1 or more")

    def allowed(self, step: int) -> float:
        """The share of the items that may be drawn at ``step``."""
        return min(1.0, self.start + (1 - self.start) * step / self.steps)

    def choose(self, draws: range, step: int, items: Items, state: OrderState) -> tuple[list[Pick], OrderState]:
        allowed = self.allowed(step)

        def judge(_: int, item: int) -> Pick | None:
            if items.easier[item] >= allowed:
                return None
            return Pick(item, f"curriculum: difficulty {items.graded[item].difficulty:g}, in the easiest {allowed:.0%}")

        return walk(draws, items, state, judge)


@dataclass(frozen=True)
class UniformThenHard(Order):
    """All items alike before step ``switch``, from there the hardest share of each domain only (Kimi k1.5, arXiv:2501.12599,
    whose ablation switches at 24). A level of difficulty counts as a whole, as in :class:`Curriculum`.
    """

    by_difficulty: ClassVar[bool] = True

    switch: int = 24
    hardest: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.hardest <= 1 or self.switch < 0:
            raise ValueError(f"switch={self.switch}, hardest={self.hardest}: a step from 0 on, and a share in (0, 1]")

    def choose(self, draws: range, step: int, items: Items, state: OrderState) -> tuple[list[Pick], OrderState]:
        share = self.hardest if step >= self.switch else 1.0
        phase = "uniform" if step < self.switch else f"in the hardest {share:.0%}"

        def judge(_: int, item: int) -> Pick | None:
            if items.harder[item] >= share:
                return None
            return Pick(item, f"curriculum: difficulty {items.graded[item].difficulty:g}, {phase}")

        return walk(draws, items, state, judge)


@dataclass(frozen=True)
class Rates:
    """The running success rate of every item. An episode is a success if its reward is at least ``success``; with ``part`` only
    that part of the reward counts ("accuracy", say), without it the sum of all.

    With each new group an item's earlier counts are multiplied by ``memory``: the policy they tell of is gone. Its running
    rate is ``(solved + weight prior) / (tried + weight)``, so an item that was never drawn has the rate ``prior``.
    """

    success: float = 1.0
    part: str = ""
    memory: float = 0.5
    prior: float = 0.5
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not (0 <= self.memory <= 1 and 0 <= self.prior <= 1 and 0 <= self.weight < math.inf):
            raise ValueError(
                f"memory={self.memory}, prior={self.prior}, weight={self.weight}: memory and prior are shares from 0 to 1, "
                "weight is 0 or more"
            )

    def updated(self, state: OrderState, outcomes: Sequence[Outcome]) -> OrderState:
        """The state with these outcomes counted. Raises InputError where no reward has the part that decides about them."""
        seen = {name for outcome in outcomes for parts in outcome.episodes for name in parts}
        if self.part and seen and self.part not in seen:
            raise InputError(
                f"rates.part={self.part}: no reward has such a part, there are {', '.join(sorted(seen))}; name one of them, or "
                "leave it out for their sum"
            )
        counts: dict[str, Sequence[float]] = {**state.get("counts", {})}
        for item, episodes in outcomes:
            solved, tried = counts.get(str(item), (0.0, 0.0))
            new = sum(self.solves(parts) for parts in episodes)
            counts[str(item)] = [self.memory * solved + new, self.memory * tried + len(episodes)]
        return {**state, "counts": counts}

    def solves(self, parts: Mapping[str, float]) -> bool:
        """Whether an episode with these sums of its reward parts is a success."""
        value = parts.get(self.part, 0.0) if self.part else sum(parts.values())
        return value >= self.success - 1e-9  # a sum of parts may fall short by rounding

    def of(self, state: OrderState, item: int) -> float:
        """The running rate of an item."""
        solved, tried = state.get("counts", {}).get(str(item), (0.0, 0.0))
        known = tried + self.weight
        return float((solved + self.weight * self.prior) / known) if known else self.prior

    def record(self, state: OrderState, item: int) -> str:
        """What is known of the item, in words: "solved 3 of 8"."""
        counts = state.get("counts", {}).get(str(item))
        return "never drawn" if counts is None else f"solved {counts[0]:.3g} of {counts[1]:.3g}"


@dataclass(frozen=True)
class Prioritised(Order):
    """Each draw takes item i with probability proportional to ``1 - s_i``, s_i its running success rate (Kimi k1.5,
    arXiv:2501.12599). Where every rate is 1, all items are alike.
    """

    rates: Rates = field(default_factory=Rates)

    def choose(self, draws: range, step: int, items: Items, state: OrderState) -> tuple[list[Pick], OrderState]:  # noqa: ARG002
        edges = self.probabilities(state, items.count).cumsum()
        points = uniforms(derive(items.key, "prioritised"), len(draws), draws.start) * edges[-1]
        points = np.minimum(points, np.nextafter(edges[-1], 0))
        taken = np.searchsorted(edges, points, side="right").tolist()
        rates = self.rates
        return [Pick(i, f"prioritised: {rates.record(state, i)}", rates.of(state, i)) for i in taken], state

    def update(self, state: OrderState, outcomes: Sequence[Outcome]) -> OrderState:
        return self.rates.updated(state, outcomes)

    def probabilities(self, state: OrderState, count: int) -> NDArray[np.float64]:
        """[count] the probability of each item."""
        failing = np.full(count, 1.0 - self.rates.prior)
        for item in map(int, state.get("counts", {})):
            failing[item] = 1.0 - self.rates.of(state, item)
        total = float(failing.sum())
        return failing / total if total > 0 else np.full(count, 1 / count)


@dataclass(frozen=True)
class Bands(Order):
    """Shuffled passes in which the items outside of a difficulty band rest: those whose running success rate is below ``low``
    or above ``high``.

    What was never drawn is drawn. A resting item is drawn all the same with probability ``explore`` whenever a pass comes to
    it, so that it can come back when the policy has changed.
    """

    low: float = 0.1
    high: float = 0.9
    explore: float = 0.05
    rates: Rates = field(default_factory=Rates)

    def __post_init__(self) -> None:
        if not (0 <= self.low <= self.high <= 1 and 0 < self.explore <= 1):
            raise ValueError(
                f"low={self.low}, high={self.high}, explore={self.explore}: the band is 0 <= low <= high <= 1, and explore a "
                "share above 0: without it items that rest would never come back"
            )

    def choose(self, draws: range, step: int, items: Items, state: OrderState) -> tuple[list[Pick], OrderState]:  # noqa: ARG002
        key, known = derive(items.key, "explore"), state.get("counts", {})

        def judge(place: int, item: int) -> Pick | None:
            record, rate = self.rates.record(state, item), self.rates.of(state, item)
            if str(item) not in known or self.low <= rate <= self.high:
                return Pick(item, f"band: {record}", rate)
            if uniforms(key, 1, place)[0] < self.explore:
                return Pick(item, f"explored: {record}", rate)
            return None

        return walk(draws, items, state, judge)

    def update(self, state: OrderState, outcomes: Sequence[Outcome]) -> OrderState:
        return self.rates.updated(state, outcomes)
