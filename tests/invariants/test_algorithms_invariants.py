"""Every algorithm of the table, whatever the rows look like: cuts, splits, order, what lies outside the mask, idle rows.

Rows are ragged, some tokens are the environment's, some rewards are given along the way, some rows are not trained on. The
losses get numbers in place of a network: the gradient in the log-probs, the entropies and the critic's values is compared
token by token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from burnish.core.advantages import EMA, BatchMean
from burnish.core.aggregate import group_token_mean
from burnish.core.algorithms import DAPO, GRPO, KIMI, PPO, REINFORCE, Algorithm, table
from burnish.core.corrections import TIS, IcePop, SequenceMask
from burnish.core.kl import KL, Adaptive, k1, k2, k3, k3_unbiased, old
from burnish.core.levels import sequence
from burnish.core.returns import NStep, ProcessGroup, Return
from burnish.core.surrogates import Clip, Ratio
from burnish.data.batching import collate
from burnish.types import Batch, Metrics, Outputs, RewardPart, Rollout, add_metrics
from rows import cut

LIMIT = 9
CLOSE = {"rel": 1e-10, "abs": 1e-12}

VARIANTS = {
    "ema-tis-sequence": replace(REINFORCE, advantage=EMA(), correction=TIS(1.5, sequence)),
    "grpo-icepop": replace(GRPO, correction=IcePop(0.8, 1.3)),
    "grpo-sequence-mask": replace(GRPO, correction=SequenceMask(0.9, 1.1, weigh=True)),
    "grpo-by-group": replace(GRPO, kl=KL(k3_unbiased, 0.1), aggregate=group_token_mean),
    "grpo-truncated": replace(GRPO, kl=None, mask_truncated=True),
    "grpo-adaptive": replace(GRPO, kl=KL(k3, 0.04, adapt=Adaptive())),
    "kimi-entropy": replace(KIMI, entropy=0.02),
    "kimi-sequence-kl": replace(KIMI, kl=KL(k3, 0.1, level=sequence)),
    "ppo-adaptive": replace(PPO, reward_kl=KL(k2, 0.05, adapt=Adaptive(target=0.1))),
    "ppo-sequence-reward-kl": replace(PPO, reward_kl=KL(k1, 0.05, anchor=old, level=sequence)),
    "n-step-ratio": replace(PPO, advantage=NStep(2, 0.9), surrogate=Ratio(level=sequence), imitation=0.1),
    "dapo-dual": replace(DAPO, surrogate=Clip(0.1, 0.1, dual=1.2), advantage=BatchMean(std=True)),
    "process-centred": replace(DAPO, advantage=ProcessGroup(std=False), correction=TIS()),
    "dapo-imitation": replace(DAPO, imitation=0.1),
    "discounted": replace(DAPO, advantage=Return(0.9), surrogate=Clip(0.1, 0.1, level=sequence)),
}
ALGORITHMS = {**table(), **VARIANTS}
every_algorithm = pytest.mark.parametrize("algo", ALGORITHMS.values(), ids=ALGORITHMS.keys())
RAGGED = settings(
    deadline=None, max_examples=12, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)


@dataclass(frozen=True)
class Row:
    """A rollout and what models said about each of its tokens: cutting the rollout cuts all of it."""

    rollout: Rollout
    numbers: dict[str, tuple[float, ...]]

    def cut(self, at: Sequence[int]) -> list[Row]:
        edges = list(pairwise([0, *at, len(self.rollout.tokens)]))
        return [
            Row(segment, {name: x[i:j] for name, x in self.numbers.items()})
            for segment, (i, j) in zip(cut(self.rollout, at), edges, strict=True)
        ]


def made(shape: Sequence[Sequence[tuple[int, bool]]], seed: int, greedy: bool) -> list[Row]:
    """``shape[g][i]`` is (tokens, trained) of answer i to prompt g; the numbers come from the seed."""
    generator = torch.Generator().manual_seed(seed)

    def normal(count: int, mean: float, scale: float) -> Tensor:
        return mean + scale * torch.randn(count, generator=generator, dtype=torch.float64)

    rows: list[Row] = []
    for group, answers in enumerate(shape):
        for size, train in [*answers, (2, False)] if greedy else answers:
            uniform = torch.rand(size, generator=generator)
            parts = [RewardPart(-1, float(torch.randint(-1, 3, (), generator=generator)), "answer")]
            parts += [RewardPart(t, float(uniform[t]), "step") for t in range(size) if 0.5 < uniform[t] < 0.75]
            parts += [RewardPart(t, 0.0, "step") for t in range(size) if 0.4 < uniform[t] < 0.5]
            now = normal(size, -2.0, 0.5)
            numbers = {"now": now, "old": now + normal(size, 0, 0.2), "reference": now + normal(size, 0, 0.4)}
            numbers["sampler"] = numbers["old"] + normal(size, 0, 0.15)
            numbers |= {name: normal(size, 0.5, 0.7) for name in ("values", "head")}
            numbers["entropy"] = normal(size, 1.0, 0.2).abs()
            row = Rollout(
                prompt=(1, group),
                tokens=tuple(range(3, 3 + size)),
                mask=tuple((uniform < 0.8).tolist()),
                sampler_logprobs=tuple(numbers["sampler"].tolist()),
                rewards=tuple(parts),
                group=group,
                episode=len(rows),
                finish="length" if uniform[0] < 0.2 else "eos",
                train=train,
            )
            rows.append(Row(row, {name: tuple(x.tolist()) for name, x in numbers.items()}))
    return rows


ANSWER = st.tuples(st.integers(1, 6), st.sampled_from([True] * 7 + [False]))
SHAPE = st.lists(st.lists(ANSWER, min_size=1, max_size=4), min_size=1, max_size=3)
SEED = st.integers(0, 999)


def rows_for(algo: Algorithm, shape: Sequence[Sequence[tuple[int, bool]]], seed: int) -> list[Row]:
    """A greedy answer has to be the only one of its group that is not trained on."""
    if algo.needs_greedy:
        shape = [[(size, True) for size, _ in answers] for answers in shape]
    return made(shape, seed, algo.needs_greedy)


def annotated(algo: Algorithm, rows: Sequence[Row]) -> Batch:
    """The batch before credit; what the models say travels in ``extras``, so that selecting rows selects it too."""
    batch = collate([row.rollout for row in rows], max_tokens=LIMIT)

    def placed(name: str) -> Tensor:
        out = torch.zeros(batch.tokens.shape, dtype=torch.float64)
        for line, row in zip(out, rows, strict=True):
            line[: len(row.numbers[name])] = torch.tensor(row.numbers[name], dtype=torch.float64)
        return out

    place = torch.arange(batch.tokens.shape[1]).expand_as(batch.tokens)
    start = torch.tensor([len(row.rollout.prompt) - 2 for row in rows])[:, None]
    said = {name: ("token", placed(name)) for name in ("now", "entropy", "head")}
    return replace(
        batch,
        old_logprobs=placed("old"),
        ref_logprobs=placed("reference") if algo.needs_reference else None,
        values=placed("values") if algo.needs_critic else None,
        extras={**batch.extras, **said, "place": ("token", place + start)},
    )


def credited(algo: Algorithm, batch: Batch) -> Batch:
    """As a training step does it; the running mean has seen something before."""
    state = {**algo.init(), **({"sum": 0.3, "weight": 0.5} if "sum" in algo.init() else {})}
    batch = algo.loss.prepare(algo.credit(batch, state))
    return algo.value_loss.prepare(batch) if algo.needs_critic else batch


@dataclass(frozen=True)
class Result:
    """Losses, metrics, and the gradient of each token: (episode, place) -> numbers."""

    loss: float
    metrics: Metrics
    gradient: dict[tuple[int, int], list[float]]

    def __add__(self, other: Result) -> Result:
        both = {**self.gradient, **other.gradient}
        assert len(both) == len(self.gradient) + len(other.gradient)
        return Result(self.loss + other.loss, add_metrics(self.metrics, other.metrics), both)


def run(algo: Algorithm, batch: Batch) -> Result:
    now, entropy, head = (batch.extra(name).clone().requires_grad_() for name in ("now", "entropy", "head"))
    outputs = Outputs(now, entropy, {"value": head})
    loss, metrics = algo.loss(outputs, batch)
    if algo.needs_critic:
        more, found = algo.value_loss(outputs, batch)
        loss, metrics = loss + more, {**metrics, **found}
    grads = torch.autograd.grad(loss, [now, entropy, head], allow_unused=True)
    by_token = torch.stack([torch.zeros_like(now) if g is None else g for g in grads], -1)
    places, found_by = batch.extra("place"), {}
    for i, length in enumerate(batch.lengths.tolist()):
        assert not by_token[i, length:].any(), "padding has no gradient"
        for t in range(length):
            found_by[int(batch.episodes[i]), int(places[i, t])] = by_token[i, t].tolist()
    return Result(loss.item(), metrics, found_by)


def assert_same(found: Result, expected: Result, metrics: bool = True) -> None:
    assert found.gradient.keys() == expected.gradient.keys()
    for token, numbers in expected.gradient.items():
        assert found.gradient[token] == pytest.approx(numbers, **CLOSE), token
    if metrics:
        assert found.loss == pytest.approx(expected.loss, **CLOSE)
        assert found.metrics.keys() == expected.metrics.keys()
        for name, (total, count) in expected.metrics.items():
            assert found.metrics[name] == (pytest.approx(total, **CLOSE), count), name


@every_algorithm
def test_something_moves(algo: Algorithm) -> None:
    """Nothing is proved by comparing zeros: on these rows every algorithm has gradients, of the critic too."""
    batch = credited(algo, annotated(algo, rows_for(algo, [[(4, True)] * 4, [(5, True), (2, True), (6, True)]], 1)))
    gradient = torch.tensor(list(run(algo, batch).gradient.values()))
    assert int((gradient[:, 0] != 0).sum()) >= 8
    assert bool((gradient[:, 2] != 0).any()) is algo.needs_critic
    assert bool((gradient[:, 1] != 0).any()) is bool(algo.entropy)
    assert not batch.mask.all() and batch.mask.any(), "there are tokens of the environment"


@every_algorithm
@given(shape=SHAPE, seed=SEED, data=st.data())
@RAGGED
def test_cutting_episodes_into_segments(
    algo: Algorithm, shape: list[list[tuple[int, bool]]], seed: int, data: st.DataObject
) -> None:
    """And the segments in any order."""
    rows = rows_for(algo, shape, seed)
    pieces = []
    for row in rows:
        at = data.draw(st.sets(st.integers(1, 5), max_size=2))
        pieces += row.cut(sorted(c for c in at if c < len(row.rollout.tokens)))
    order = data.draw(st.permutations(range(len(pieces))))
    whole = run(algo, credited(algo, annotated(algo, rows)))
    assert_same(run(algo, credited(algo, annotated(algo, [pieces[i] for i in order]))), whole)


@every_algorithm
@given(shape=SHAPE, seed=SEED, data=st.data())
@RAGGED
def test_losses_gradients_and_metrics_add_up_over_any_split(
    algo: Algorithm, shape: list[list[tuple[int, bool]]], seed: int, data: st.DataObject
) -> None:
    """Into whole units, here episodes of one or two rows."""
    pieces = [s for row in rows_for(algo, shape, seed) for s in row.cut([2] if len(row.rollout.tokens) > 2 else [])]
    batch = credited(algo, annotated(algo, pieces))
    units = batch.unit_ids.tolist()
    share = torch.tensor([data.draw(st.integers(0, 2)) for _ in units])[batch.units]
    parts = [
        run(algo, batch.select(torch.nonzero(share == n).squeeze(1))) for n in range(3) if bool((share == n).any())
    ]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    assert_same(total, run(algo, batch))


@every_algorithm
@given(shape=SHAPE, seed=SEED, data=st.data())
@RAGGED
def test_any_order_of_rows(
    algo: Algorithm, shape: list[list[tuple[int, bool]]], seed: int, data: st.DataObject
) -> None:
    """Shuffled before credit, and again between credit and loss."""
    batch = annotated(algo, rows_for(algo, shape, seed))
    order = [data.draw(st.permutations(range(len(batch)))) for _ in range(2)]
    shuffled = credited(algo, batch.select(order[0])).select(order[1])
    assert_same(run(algo, shuffled), run(algo, credited(algo, batch)))


@every_algorithm
@given(shape=SHAPE, seed=SEED, size=st.sampled_from([1.0, 1e3, 1e160]))
@RAGGED
def test_what_lies_outside_the_mask_has_no_gradient_and_no_say(
    algo: Algorithm, shape: list[list[tuple[int, bool]]], seed: int, size: float
) -> None:
    """Tokens of the environment, padding and rows that are not trained on: log-probs, values, entropies, advantages."""
    batch = annotated(algo, rows_for(algo, shape, seed))
    outside = ~batch.mask
    generator = torch.Generator().manual_seed(seed)

    def disturbed(values: Tensor | None, where: Tensor = outside, most: float = size) -> Tensor | None:
        if values is None:
            return None
        noise = most * (2 * torch.rand(values.shape, generator=generator, dtype=torch.float64) - 1)
        return torch.where(where, values + noise, values)

    noisy = replace(
        batch,
        old_logprobs=disturbed(batch.old_logprobs),
        ref_logprobs=disturbed(batch.ref_logprobs),
        sampler_logprobs=disturbed(batch.sampler_logprobs),
        values=disturbed(batch.values, outside | ~batch.train[:, None]),
    )
    noisy, plain = credited(algo, noisy), credited(algo, batch)
    out_of_loss = ~(noisy.mask & noisy.train[:, None])
    for name in ("now", "entropy", "head"):
        values = disturbed(noisy.extra(name), out_of_loss)
        assert values is not None
        noisy = replace(noisy, extras={**noisy.extras, name: ("token", values)})
    noisy = replace(noisy, advantages=disturbed(noisy.advantages, out_of_loss, min(size, 1e3)))
    noisy = replace(noisy, returns=disturbed(noisy.returns, out_of_loss))
    found = run(algo, noisy)
    assert_same(found, run(algo, plain))
    places = noisy.extra("place")
    for i, t in torch.nonzero(out_of_loss).tolist():
        if t < int(noisy.lengths[i]):
            assert found.gradient[int(noisy.episodes[i]), int(places[i, t])] == [0.0, 0.0, 0.0]


@every_algorithm
@given(shape=SHAPE, seed=SEED, data=st.data())
@RAGGED
def test_leaving_out_idle_rows(
    algo: Algorithm, shape: list[list[tuple[int, bool]]], seed: int, data: st.DataObject
) -> None:
    """Rows said to be idle have no gradient, of the policy, and the others keep theirs to the last bit."""
    rows = rows_for(algo, shape, seed)
    equal = [replace(row, rollout=replace(row.rollout, rewards=(RewardPart(-1, 1.0, "answer"),))) for row in rows]
    level = data.draw(st.sampled_from([{0}, {1, 2}, set[int]()]), label="groups with equal rewards")
    chosen = [e if r.rollout.group in level else r for r, e in zip(rows, equal, strict=True)]
    pieces = [s for row in chosen for s in row.cut([1] if len(row.rollout.tokens) > 1 else [])]
    policy = replace(algo, value_coef=0.0)
    batch = credited(policy, annotated(policy, pieces))
    active = batch.select(torch.nonzero(~policy.idle(batch)).squeeze(1))
    whole = run(policy, batch).gradient
    kept = run(policy, active).gradient if len(active) else {}
    assert kept == {token: whole[token] for token in kept}
    assert not any(any(whole[token]) for token in whole.keys() - kept.keys())


def test_a_segment_without_a_choice_is_not_idle_by_itself() -> None:
    """Its episode's other segment is busy, and a unit is left out as a whole or not at all."""
    first = made([[(3, True), (2, True)]], 0, False)
    masks = [(False, True, True), (True, True)]
    rows = [
        replace(r, rollout=replace(r.rollout, mask=m, rewards=(RewardPart(-1, float(n), "answer"),)))
        for n, (r, m) in enumerate(zip(first, masks, strict=True))
    ]
    algo = replace(GRPO, kl=None)
    batch = credited(algo, annotated(algo, [*rows[0].cut([1]), rows[1]]))
    assert not algo.idle(batch).any()
    assert batch.advantages is not None and not batch.advantages[0].any()
