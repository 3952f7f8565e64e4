"""Where the groups of a step come from: an order picks items, prompts are asked, and what cannot be trained on is replaced.

Groups are left out because the algorithm's selection refuses them, because their environment failed, or, with partial
rollouts, because they are not finished yet. A step has exactly its number of groups all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from burnish.core.orders import OrderState, Pick
from burnish.core.selection import Selection
from burnish.errors import InputError, TrainingHaltedError
from burnish.loops.episodes import has_turns
from burnish.loops.failures import FailureLog, Lost, check_hope
from burnish.loops.partial import Begun, lengthen
from burnish.loops.rollouts import Group, Grouping, read_groups, stamped

if TYPE_CHECKING:
    from burnish.loops.rl import RLConfig


@dataclass(frozen=True)
class DrawState:
    """What drawing remembers between steps: saved as JSON, replaced and never mutated.

    ``draws`` counts the groups ever requested, ``order`` is what the order remembers, and ``held`` are the groups of partial
    rollouts that wait, in the order of their draws.
    """

    draws: int = 0
    order: OrderState = field(default_factory=dict)
    held: tuple[Begun, ...] = ()

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> DrawState:
        """What ``dataclasses.asdict`` and JSON have made of it."""
        return cls(record["draws"], record["order"], tuple(Begun.read(begun) for begun in record["held"]))


@dataclass(frozen=True)
class Fresh:
    """The groups of a step, the state after them, and what there is to log of how they were drawn."""

    groups: list[Group]
    state: DrawState
    metrics: Mapping[str, float]


class Drawing:
    """Yields the groups of each step. What it remembers of them is in a :class:`DrawState`, which it is given.

    Raises InputError for settings that do not go together, and where the order asks for difficulties and a task has none.
    """

    def __init__(self, grouping: Grouping, cfg: RLConfig, select: Selection | None, log: FailureLog) -> None:
        self.grouping, self.cfg, self.select, self.log = grouping, cfg, select, log
        self.items = grouping.items
        if cfg.partial and has_turns(grouping.task):
            name = type(grouping.task).__name__
            raise InputError(f"partial rollouts are for tasks of one reply, and {name} has turns: set partial=0")
        if cfg.partial and grouping.rival is not None:
            raise InputError("partial rollouts cannot wait for a rival's completions: set partial=0 for this algorithm")
        if cfg.order.by_difficulty:
            len(self.items.graded)

    def step(self, step: int, state: DrawState) -> Fresh:
        """The ``cfg.prompts`` groups of step ``step`` (from 0). The state itself is never changed: an interrupted step draws
        the same groups again.

        Raises TrainingHaltedError where selection or failing environments leave too few.
        """
        before = {begun.draw: begun.tokens for begun in state.held}
        kept, drawn, lost = list[Group](), list[Group](), list[Lost]()
        while (missing := self.cfg.prompts - len(kept)) > 0:
            self._check_cap(step, len(drawn), len(kept))
            groups, failed, state = self._more(step, state, missing)
            state = replace(state, order=self.cfg.order.update(state.order, [group.outcome for group in groups]))
            drawn += groups
            lost += failed
            for each in failed:
                self.log.add(step + 1, each)
            episodes = (len(drawn) + len(lost)) * len(self.grouping.members)
            check_hope(step + 1, lost, episodes, self.cfg.prompts, self.log.path)
            kept += [group for group in groups if self.select is None or self.select.keeps(group.scores)]
        metrics = describe(drawn)
        if self.select:
            metrics["select/drawn"] = len(drawn) / len(kept)
        if has_turns(self.grouping.task):
            metrics["env/failed"] = len(lost)
        if self.cfg.partial:
            stale = sum(before.get(group.draw, 0) for group in kept)
            metrics["partial/held"] = len(state.held)
            metrics["partial/lag_tokens"] = stale / (len(kept) * len(self.grouping.members))
        return Fresh(kept, state, metrics)

    def _more(self, step: int, state: DrawState, missing: int) -> tuple[list[Group], list[Lost], DrawState]:
        """At most ``missing`` further groups, those that were lost, and the state after them."""
        if self.cfg.partial:
            groups, state = self._ripened(step, state, missing)
            return groups, [], state
        draws, picks, state = self._picked(step, state, missing)
        groups, lost = self.grouping.groups(self.grouping.ask(draws, picks), step)
        return groups, lost, state

    def _picked(self, step: int, state: DrawState, count: int) -> tuple[range, list[Pick], DrawState]:
        draws = range(state.draws, state.draws + count)
        picks, order = self.cfg.order.choose(draws, step, self.items, state.order)
        return draws, picks, replace(state, draws=draws.stop, order=order)

    def _ripened(self, step: int, state: DrawState, missing: int) -> tuple[list[Group], DrawState]:
        """The first groups of the pool that are complete, at most ``missing``. Where there is none, the pool is filled up to
        the groups of a step and all its completions grow.
        """
        if not any(begun.whole for begun in state.held):
            draws, picks, state = self._picked(step, state, self.cfg.prompts - len(state.held))
            nothing = (None,) * len(self.grouping.members)
            new = [Begun(draw, pick, step, nothing) for draw, pick in zip(draws, picks, strict=True)]
            grown = lengthen(self.grouping, [*state.held, *new], self.cfg.partial)
            state = replace(state, held=tuple(grown))
        ripe = [(begun, whole) for begun in state.held if (whole := begun.whole)][:missing]
        taken = {begun.draw for begun, _ in ripe}
        groups = self.grouping.graded(
            [begun.asked(self.grouping.task) for begun, _ in ripe],
            [whole for _, whole in ripe],
            [begun.version for begun, _ in ripe],
        )
        return groups, replace(state, held=tuple(begun for begun in state.held if begun.draw not in taken))

    def _check_cap(self, step: int, drawn: int, kept: int) -> None:
        wanted, select = self.cfg.prompts, self.select
        if select and drawn + wanted - kept > select.cap * wanted:
            raise TrainingHaltedError(
                f"step {step + 1}: of {drawn} groups only {kept} were fit to train on, and {wanted} are needed ({select}). The "
                "prompts are too easy or too hard for this policy: choose others, a larger group, or a higher algo.select.cap."
            )


def replayed(cfg: RLConfig, step: int) -> list[Group]:
    """The groups of step ``step`` (from 0) that an earlier run has saved. Raises InputError where they will not do."""
    groups = stamped(read_groups(Path(cfg.replay), step + 1), step)
    cut = cfg.sampling.truncation == "kept" and (cfg.sampling.top_k or cfg.sampling.top_p < 1)
    if cut and not all(r.kept_ids for g in groups for r in g.rollouts if r.train):
        raise InputError(
            f"{cfg.replay} has rollouts without the ids that top_k and top_p kept: replay rollouts that were sampled with "
            "sampling.truncation=kept, or train with truncation=full"
        )
    return groups


def describe(drawn: Sequence[Group]) -> dict[str, float]:
    """``draw/...``: how many items the groups of a step are of, how difficult they are, and the running success rates for which
    they were picked, refused groups included."""
    graded = [g.example.meta["difficulty"] for g in drawn if isinstance(g.example.meta.get("difficulty"), int | float)]
    rates = [g.pick.rate for g in drawn if g.pick.rate is not None]
    found: dict[str, float] = {"draw/distinct": len({g.pick.item for g in drawn})}
    if graded:
        found["draw/difficulty"] = sum(graded) / len(graded)
    if rates:
        found["draw/pass_rate"] = sum(rates) / len(rates)
    return found
