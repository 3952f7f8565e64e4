"""The running example of `burnish explain`: three completions of one maths prompt, and what an algorithm makes of them.

A is fluent but wrong, B right but messy, C right and clean. Everything an algorithm may ask for is fixed here by hand:
rewards, steps, a critic's values, log-ratios. All numbers printed are computed by the algorithm itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from burnish.core.advantages import Advantage
from burnish.core.algorithms import Algorithm
from burnish.core.levels import token
from burnish.core.returns import ProcessGroup, Whiten
from burnish.data.batching import collate
from burnish.types import Batch, RewardPart, Rollout

LIMIT = 8  # the sampling limit of the example, in tokens
ABOVE_REFERENCE = 0.2  # log pi_old - log pi_ref, on every token


@dataclass(frozen=True)
class Case:
    """One completion: a reward for each of its steps (their last token, the reward), V before each token, and how far pi
    has moved from pi_old on each token by the time of a later update.
    """

    title: str
    steps: tuple[tuple[int, float], ...]
    values: tuple[float, ...]
    ratios: tuple[float, ...]
    train: bool = True

    @property
    def reward(self) -> float:
        return sum(value for _, value in self.steps)


CASES = (
    Case("A  fluent but wrong", ((2, 0.5), (5, -0.5)), (0.5, 0.5, 0.4, 0.3, 0.2, 0.1), (0.6, *[0.9] * 5)),
    Case(
        "B  right but messy", ((2, 0.5), (5, -0.2), (7, 0.5)), (0.5, 0.5, 0.5, 0.6, 0.6, 0.7, 0.7, 0.8),
        (1.1, 1.1, 0.95, 0.95, 1.1, 1.1, 0.95, 0.95),
    ),
    Case("C  right and clean", ((1, 0.5), (3, 0.5)), (0.5, 0.6, 0.8, 0.9), (1.25, 1.4, 1.05, 1.05)),
)  # fmt: skip
GREEDY = Case("-  greedy decoding", ((4, 0.8),), (0.5,) * 5, (1.0,) * 5, train=False)


@dataclass(frozen=True)
class Series:
    """A quantity that each token of each completion has."""

    title: str
    rows: tuple[tuple[float, ...], ...]
    digits: int = 3

    @staticmethod
    def of(title: str, per_token: Tensor, digits: int = 3) -> Series:
        rows = [tuple(per_token[i, : len(case.values)].tolist()) for i, case in enumerate(CASES)]
        return Series(title, tuple(rows), digits)

    @property
    def constant(self) -> bool:
        """Whether all tokens of a completion have the same."""
        return all(max(row) - min(row) < 1e-9 for row in self.rows)


def lines(algo: Algorithm) -> Iterator[str]:
    """The example, line by line."""
    batch = _batch(algo)
    process = takes_steps(algo)
    yield "three completions of one maths prompt:"
    for case in [*CASES, *[GREEDY] * algo.needs_greedy]:
        told = ", ".join(f"{value:+.1f}" for _, value in case.steps)
        steps = f"  = {told} for its steps" * (process and case.train)
        baseline = "" if case.train else "  (the baseline, not trained on)"
        yield f"  {case.title:20}  {len(case.values)} tokens  reward {case.reward:.2f}{steps}{baseline}"
    if algo.needs_reference:
        yield f"log pi_old - log pi_ref is {ABOVE_REFERENCE} on every token."
    state = algo.init()
    if state:
        state = algo.update(state, batch)
        yield f"One step with the same rewards came before: {', '.join(f'{k} {v:.3g}' for k, v in state.items())}."
    batch = algo.loss.prepare(algo.credit(batch, state))
    yield ""
    yield from _credit(algo, batch, state)
    yield ""
    yield from _later_update(algo, batch)
    if algo.select is not None:
        yield ""
        yield from _selection(algo)


def compares_within_a_group(algo: Algorithm) -> bool:
    """Whether an advantage depends on the other completions of its own prompt: then there have to be several."""
    together, apart = _batch(algo), _batch(algo, apart=True)
    return not torch.equal(*(_advantages(algo.credit(batch, algo.init()))[: len(CASES)] for batch in (together, apart)))


def takes_steps(algo: Algorithm) -> bool:
    """Whether rewards are for the steps of a completion rather than for the whole."""
    return any(isinstance(part, ProcessGroup) for part in _parts(algo))


def _parts(value: Any) -> Iterator[Any]:
    """A value and the dataclasses it is made of, however deep."""
    yield value
    for f in fields(value):
        if is_dataclass(inner := getattr(value, f.name)):
            yield from _parts(inner)


def _advantages(batch: Batch) -> Tensor:
    assert batch.advantages is not None
    return batch.advantages


def _batch(algo: Algorithm, *, apart: bool = False) -> Batch:
    """The three completions, and a greedy one where it is wanted, as rows of one group, or ``apart`` as one group each."""
    process = takes_steps(algo)
    rows = [_rollout(case, i, i if apart else 0, process=process) for i, case in enumerate(CASES)]
    if algo.needs_greedy:
        rows += [_rollout(GREEDY, len(rows) + group, group) for group in range(len(CASES) if apart else 1)]
    batch = collate(rows, max_tokens=LIMIT)
    old = torch.full(batch.tokens.shape, -1.0, dtype=torch.float64)
    values = torch.zeros_like(old)
    for row, case in zip(values, CASES, strict=False):
        row[: len(case.values)] = torch.tensor(case.values)
    return replace(
        batch,
        old_logprobs=old,
        ref_logprobs=old - ABOVE_REFERENCE if algo.needs_reference else None,
        values=values if algo.needs_critic else None,
    )


def _rollout(case: Case, episode: int, group: int, *, process: bool = False) -> Rollout:
    size = len(case.values)
    steps = case.steps if process else ((size - 1, case.reward),)
    rewards = tuple(RewardPart(place, value, "reward") for place, value in steps)
    return Rollout((1,), (2,) * size, (True,) * size, (-1.0,) * size, rewards, group, episode, train=case.train)


# --- rewards to advantages -----------------------------------------------------------------------


def _credit(algo: Algorithm, batch: Batch, state: Any) -> Iterator[str]:
    advantage = Series.of("advantage", _advantages(batch))
    rewards = _rewards(algo, batch, state)
    plain = _unscaled(algo.advantage)(batch, rewards, state)
    baseline = Series.of("baseline", rewards.sum(1, keepdim=True) - plain)
    found = [Series.of("V(s_t)", batch.values, 2)] if batch.values is not None else []
    if algo.reward_kl is not None:
        spread = rewards.sum(1, keepdim=True).expand_as(rewards) if advantage.constant else rewards
        found.append(Series.of("reward - KL", spread))
    found += [baseline] * (baseline.constant and Series.of("", plain).constant)
    found.append(advantage)
    if batch.returns is not None:
        found.append(Series.of("target of V", batch.returns))
    found += [Series.of("weight of a token", batch.weights["policy"], 4)]
    if "imitation" in batch.weights:
        found.append(Series.of("imitation weight", batch.weights["imitation"], 4))
    yield from _show(found)
    yield from _scale(plain, _advantages(batch), batch.mask & batch.train[:, None])


def _rewards(algo: Algorithm, batch: Batch, state: Any) -> Tensor:
    """[B, T] the rewards that the advantage sees: after the KL."""
    seen: list[Tensor] = []

    class Seen(Advantage):
        def __call__(self, batch: Batch, rewards: Tensor, state: Any) -> Tensor:  # noqa: ARG002
            seen.append(rewards)
            return rewards

    replace(algo, advantage=Seen()).credit(batch, state)
    return seen[0]


def _unscaled(advantage: Advantage) -> Advantage:
    """The same advantage before it is divided by any deviation."""
    if isinstance(advantage, Whiten):
        return _unscaled(advantage.inner)
    has_std = any(f.name == "std" for f in fields(advantage))  # type: ignore[arg-type]
    return replace(advantage, std=False) if has_std else advantage  # type: ignore[type-var]


def _scale(plain: Tensor, scaled: Tensor, where: Tensor) -> Iterator[str]:
    """How the advantage follows from the one before scaling: both are known, so mean and deviation are."""
    before, after = plain[where], scaled[where]
    low, high = int(before.argmin()), int(before.argmax())
    deviation = float((before[high] - before[low]) / (after[high] - after[low]))
    mean = float(before[low] - deviation * after[low])
    if abs(deviation - 1) > 1e-6:
        shift = f"minus its mean {mean:.3f}, " if abs(mean) > 1e-6 else ""
        yield f"  (the advantage is scaled: {shift}divided by a deviation of {deviation:.3f})"


# --- the loss ------------------------------------------------------------------------------------


def _later_update(algo: Algorithm, batch: Batch) -> Iterator[str]:
    assert batch.old_logprobs is not None
    moved = torch.zeros_like(batch.old_logprobs)
    for row, case in zip(moved, CASES, strict=False):
        row[: len(case.ratios)] = torch.tensor(case.ratios, dtype=torch.float64).log()
    logprobs, mask = batch.old_logprobs + moved, batch.mask
    found = [Series.of("pi / pi_old", moved.exp(), 2)]
    level = getattr(algo.surrogate, "level", token)
    if level is not token:
        title = f"pi / pi_old at level {level.__name__}"
        found.append(Series.of(title, torch.exp(level(moved, batch, mask)), 4))
    push = _slope(lambda x: -algo.surrogate(x, batch, mask)[0], logprobs)
    shut, total = 0, "push"
    if algo.surrogate.needs_reference:  # a surrogate with a target of its own: its slope is no multiple of A
        found.append(Series.of("push = -d loss / d log pi", push))
    else:
        advantages = _advantages(batch)
        factor = Series.of("factor", (push / advantages).masked_fill(advantages.abs() < 1e-9, math.nan))
        found.append(factor)
        shut, total = sum(x == 0 for row in factor.rows for x in row), "factor x advantage"
        if not shut and algo.kl is None and all(abs(x - 1) < 1e-9 or math.isnan(x) for row in factor.rows for x in row):
            yield "No ratio: a batch is used for one update, while pi = pi_old."
            yield from _extras(algo)
            return
    if algo.kl is not None:
        kl, coef = algo.kl, algo.kl.coef
        found.append(Series.of("KL pull", _slope(lambda x: -coef * kl.per_token(x, batch, mask), logprobs), 4))
        total = f"({total} + KL pull)"
    yield "a later update of the same batch, when pi has moved (at the first one every pi / pi_old is 1):"
    yield from _show(found)
    yield f"  (each token pulls its log pi up by weight x {total})"
    if shut:
        yield f"  (where the factor is 0 the clip is shut: {shut} of {int(mask.sum())} tokens)"
    yield from _extras(algo)


def _extras(algo: Algorithm) -> Iterator[str]:
    """Gradients that come on top, and of which the example has no numbers."""
    if algo.imitation:
        yield f"  (plus {algo.imitation:g} x the imitation weight: positive rewards are imitated)"
    if algo.entropy:
        yield f"  (plus {algo.entropy:g} x the gradient of the entropy of every token)"
    if algo.pretraining:
        yield f"  (plus {algo.pretraining:g} x the gradient of log pi on pretraining text, in every update)"


def _slope(function: Any, logprobs: Tensor) -> Tensor:
    point = logprobs.clone().requires_grad_()
    slope: Tensor = torch.autograd.grad(function(point).sum(), point)[0]
    return slope


def _selection(algo: Algorithm) -> Iterator[str]:
    assert algo.select is not None
    for rewards in ([case.reward for case in CASES], [1.0] * len(CASES)):
        fate = "is kept" if algo.select.keeps(rewards) else "is left out, and another one drawn"
        yield f"a group with rewards {', '.join(f'{r:g}' for r in rewards)} {fate}"


# --- text ----------------------------------------------------------------------------------------


def _show(found: Sequence[Series]) -> Iterator[str]:
    """What is the same for all tokens of a completion as columns of one table, everything else token by token."""
    for series in found:
        if not series.constant:
            yield f"  {series.title}, token by token"
            for case, row in zip(CASES, series.rows, strict=True):
                yield f"    {case.title[0]}  " + " ".join(f"{_number(x, series.digits):>7}" for x in row)
    columns = [series for series in found if series.constant]
    if columns:
        yield "       " + "  ".join(f"{series.title:>{_width(series)}}" for series in columns)
        for place, case in enumerate(CASES):
            cells = (f"{_number(s.rows[place][0], s.digits):>{_width(s)}}" for s in columns)
            yield f"    {case.title[0]}  " + "  ".join(cells)


def _width(series: Series) -> int:
    return max(9, len(series.title))


def _number(value: float, digits: int) -> str:
    """Rounded, without a minus in front of zeros; a dash for what is not there."""
    return "-" if math.isnan(value) else f"{round(value, digits) + 0.0:.{digits}f}"
