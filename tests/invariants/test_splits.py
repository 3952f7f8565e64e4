"""Gradients and metrics do not know how a batch was split, ordered, packed or cut: float64, ``nano``, 1e-10 per tensor.

Each loss runs the production path: collate, annotate, credit, prepare, ``forward_backward``. Sharing of prompts is on
where several rows of one prompt fit the token budget, and off under a budget of one token: there each row is alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from burnish.core.aggregate import seq_mean_token_mean
from burnish.core.algorithms import DR_GRPO, GRPO, RLOO, Algorithm
from burnish.core.losses import NLL
from burnish.data.batching import collate, micro_batches
from burnish.engines.local import Engine, LocalModel
from burnish.engines.lora import LoRA
from burnish.types import Batch, Loss, Metrics, RewardPart, Rollout, add_metrics
from rows import cut
from tiny import perturbed

TOLERANCE = 1e-10
LIMIT = 16


@dataclass(frozen=True)
class Noisy:
    """A rollout and the log-probs others gave to its tokens: cutting a row cuts them too."""

    rollout: Rollout
    reference: tuple[float, ...]
    old: tuple[float, ...]

    def cut(self, at: Sequence[int]) -> list[Noisy]:
        edges = [0, *at, len(self.rollout.tokens)]
        return [
            Noisy(segment, self.reference[edges[i] : edges[i + 1]], self.old[edges[i] : edges[i + 1]])
            for i, segment in enumerate(cut(self.rollout, at))
        ]


@dataclass(frozen=True)
class Method:
    """A loss and how its batch is annotated."""

    algo: Algorithm | None
    nll: NLL | None = None
    reference: bool = False
    old: bool = False

    @property
    def loss(self) -> Loss:
        loss = self.nll or (self.algo.loss if self.algo else None)
        assert loss is not None
        return loss

    def batch(self, rows: Sequence[Noisy]) -> Batch:
        """Everything up to the forward pass."""
        batch = collate([row.rollout for row in rows], max_tokens=LIMIT)
        if self.reference:
            batch = replace(batch, ref_logprobs=aligned(batch, [row.reference for row in rows]))
        if self.old:
            batch = replace(batch, old_logprobs=aligned(batch, [row.old for row in rows]))
        batch = self.algo.credit(batch, {}) if self.algo else batch
        prepared: Batch = self.loss.prepare(batch)  # type: ignore[attr-defined]
        return prepared


METHODS = {
    "nll": Method(None, NLL()),
    "nll-by-row": Method(None, NLL(seq_mean_token_mean)),
    "rloo": Method(replace(RLOO, reward_kl=None)),
    "rloo-kl": Method(RLOO, reference=True, old=True),
    "grpo": Method(GRPO, reference=True),
    "grpo-second-update": Method(replace(GRPO, entropy=0.01), reference=True, old=True),
    "dr-grpo": Method(DR_GRPO),
}
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())


def aligned(batch: Batch, values: Sequence[Sequence[float]]) -> Tensor:
    out = torch.zeros(batch.tokens.shape, dtype=torch.float64)
    for line, row in zip(out, values, strict=True):
        line[: len(row)] = torch.tensor(row, dtype=torch.float64)
    return out


def noisy_rows(lengths: Sequence[Sequence[int]], seed: int, hidden: float = 0.25) -> list[Noisy]:
    """``lengths[g][i]`` tokens for answer i to prompt g, groups interleaved; some tokens are the environment's."""
    generator = torch.Generator().manual_seed(seed)

    def ids(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(10, 90, (count,), generator=generator).tolist())

    def nats(count: int) -> tuple[float, ...]:
        return tuple((-4.5 + 0.3 * torch.randn(count, generator=generator, dtype=torch.float64)).tolist())

    prompts = [ids(3 + 2 * g) for g in range(len(lengths))]
    rows = []
    for place in range(max(map(len, lengths))):
        for group, sizes in enumerate(lengths):
            if place >= len(sizes):
                continue
            size = sizes[place]
            mask = tuple((torch.rand(size, generator=generator) >= hidden).tolist())
            reward = RewardPart(-1, float(torch.randn((), generator=generator)), "reward")
            row = Rollout(prompts[group], ids(size), mask, nats(size), (reward,), group, len(rows))
            rows.append(Noisy(row, nats(size), nats(size)))
    return rows


ROWS = noisy_rows([[4, 1, 7, 3], [5, 5, 2], [6]], seed=0)


@pytest.fixture(scope="module", params=["full", "lora"])
def model(request: pytest.FixtureRequest, nano: Path) -> LocalModel:
    return fresh(nano, request.param == "lora")


def fresh(nano: Path, adapted: bool) -> LocalModel:
    model = LocalModel(nano, Engine(dtype="float64", device="cpu", adapter=LoRA(rank=4) if adapted else None))
    return perturbed(model, 0.05)


@dataclass(frozen=True)
class Result:
    gradient: Mapping[str, Tensor]
    metrics: Metrics
    logprobs: Tensor


def run(model: LocalModel, batches: Batch | Sequence[Batch], loss: Loss, budget: int = 8192) -> Result:
    """What one optimizer step would see, from one or several ``forward_backward`` calls."""
    model.discard_gradient()
    model.engine = replace(model.engine, token_budget=budget)
    metrics: Metrics = {}
    logprobs = []
    for batch in [batches] if isinstance(batches, Batch) else batches:
        found, outputs = model.forward_backward(batch, loss)
        metrics = add_metrics(metrics, found)
        logprobs.append(outputs.logprobs)
    gradient = {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in model.masters.params.items()}
    model.discard_gradient()
    return Result(gradient, metrics, logprobs[0])


def assert_same(found: Result, expected: Result) -> None:
    assert_same_tensors(found.gradient, expected.gradient)
    assert found.metrics.keys() == expected.metrics.keys()
    for name, (total, count) in expected.metrics.items():
        assert found.metrics[name][0] == pytest.approx(total, rel=TOLERANCE, abs=1e-13), name
        assert found.metrics[name][1] == count, name


def assert_same_tensors(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name] - value).norm().item() <= TOLERANCE * value.norm().item(), name


def assert_moving(result: Result) -> None:
    """Nothing is proved by comparing zeros."""
    assert all(g.norm().item() > 1e-8 for g in result.gradient.values())


@every_method
def test_any_token_budget(model: LocalModel, method: Method) -> None:
    """From everything in one pass, prompts shared, to every row alone with its own copy of the prompt."""
    batch = method.batch(ROWS)
    whole = run(model, batch, method.loss)
    assert_moving(whole)
    plans = set()
    for budget in (1, 12, 20, 33):
        plans.add(len(micro_batches(batch, budget)))
        assert_same(run(model, batch, method.loss, budget), whole)
    assert len(micro_batches(batch, 8192)) == 1 and max(plans) == len(ROWS) and len(plans) >= 3


@every_method
def test_any_order_of_rows(model: LocalModel, method: Method) -> None:
    whole = run(model, method.batch(ROWS), method.loss)
    generator = torch.Generator().manual_seed(1)
    for budget in (8192, 25):
        order = torch.randperm(len(ROWS), generator=generator).tolist()
        shuffled = method.batch([ROWS[i] for i in order])
        found = run(model, shuffled, method.loss, budget)
        assert_same(found, whole)
        assert torch.allclose(found.logprobs, whole.logprobs[order], rtol=1e-10, atol=1e-12), "outputs left their rows"
        assert_same(run(model, method.batch(ROWS).select(order), method.loss, budget), whole)


@every_method
@pytest.mark.parametrize("cuts", [{0: [2]}, {1: [], 2: [1, 5]}, {0: [1, 2, 3], 2: [3], 4: [1], 7: [4]}])
def test_episodes_cut_into_segments(model: LocalModel, method: Method, cuts: dict[int, list[int]]) -> None:
    """Each segment is a row whose prompt is all that came before; they need not lie side by side."""
    whole = run(model, method.batch(ROWS), method.loss)
    pieces = [segment for i, row in enumerate(ROWS) for segment in row.cut(cuts.get(i, []))]
    assert len(pieces) > len(ROWS)
    for rows in (pieces, pieces[::-1], pieces[::2] + pieces[1::2]):
        assert_same(run(model, method.batch(rows), method.loss), whole)
    assert_same(run(model, method.batch(pieces), method.loss, 15), whole)


@pytest.mark.parametrize("name", ["rloo", "dr-grpo"])
def test_idle_rows_left_out_change_no_gradient(model: LocalModel, name: str) -> None:
    method = METHODS[name]
    algo = method.algo
    assert algo is not None
    same = (RewardPart(-1, 1.0, "reward"),)
    equal = [replace(row, rollout=replace(row.rollout, rewards=same, group=9)) for row in ROWS[:2]]
    spectator = replace(ROWS[2], rollout=replace(ROWS[2].rollout, train=False, episode=77))
    alone = [row for row in ROWS if row.rollout.group == 2]
    others = [row for row in ROWS[2:] if row.rollout.group != 2]
    batch = method.batch([*equal, spectator, *others, *alone])
    idle = algo.idle(batch)
    assert idle.tolist() == [True] * 3 + [False] * len(others) + [True] * len(alone)
    whole = run(model, batch, method.loss)
    assert_moving(whole)
    active = batch.select(torch.nonzero(~idle).squeeze(1))
    assert_same_tensors(run(model, active, method.loss).gradient, whole.gradient)


@every_method
def test_accumulated_calls_add_up(model: LocalModel, method: Method) -> None:
    """Minibatches given to several calls, with the weights of the whole: the gradient and the metrics of one call."""
    batch = method.batch(ROWS)
    parts = [batch.select([0, 3, 6]), batch.select([1, 2]), batch.select([4, 5, 7])]
    assert_same(run(model, parts, method.loss), run(model, batch, method.loss))


def test_two_losses_accumulate_to_their_sum(model: LocalModel) -> None:
    """SFT mixed into RL is one more call."""
    rl, sft = METHODS["grpo"], METHODS["nll"]
    batches = rl.batch(ROWS), sft.batch(noisy_rows([[3, 8]], seed=9))
    left, right = run(model, batches[0], rl.loss).gradient, run(model, batches[1], sft.loss).gradient
    model.discard_gradient()
    model.forward_backward(batches[0], rl.loss)
    model.forward_backward(batches[1], sft.loss)
    together = {n: p.grad for n, p in model.masters.params.items() if p.grad is not None}
    assert_same_tensors(together, {name: left[name] + right[name] for name in left})
    model.discard_gradient()


SHAPES = st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=3), min_size=1, max_size=3)


@every_method
@given(lengths=SHAPES, seed=st.integers(0, 99), data=st.data())
@settings(deadline=None, max_examples=4, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
def test_ragged_rows_any_split(
    model: LocalModel, method: Method, lengths: list[list[int]], seed: int, data: st.DataObject
) -> None:
    rows = noisy_rows(lengths, seed, hidden=0.4)
    whole = run(model, method.batch(rows), method.loss)
    order = data.draw(st.permutations(range(len(rows))))
    at = [data.draw(st.sets(st.integers(1, max(1, len(r.rollout.tokens) - 1)), max_size=2)) for r in rows]
    pieces = [s for i in order for s in rows[i].cut(sorted(c for c in at[i] if c < len(rows[i].rollout.tokens)))]
    found = run(model, method.batch(pieces), method.loss, data.draw(st.integers(1, 40)))
    for name, value in whole.gradient.items():
        # A batch of zeros (one answer a group, say) has only rounding in it.
        assert (found.gradient[name] - value).norm().item() <= TOLERANCE * value.norm().item() + 1e-14, name
    for name, (total, count) in whole.metrics.items():
        assert found.metrics[name] == (pytest.approx(total, rel=TOLERANCE, abs=1e-12), count)


@pytest.mark.parametrize("adapted", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("name", ["nll", "rloo-kl", "grpo", "dr-grpo"])
def test_two_steps_later_the_weights_agree(nano: Path, adapted: bool, name: str) -> None:
    """Adam divides by the root of the second moment; agreement must survive it."""
    method = METHODS[name]
    pieces = [segment for i, row in enumerate(ROWS) for segment in row.cut([1] if i in (0, 2, 4) else [])]
    ends = []
    for rows, budget in ((ROWS, 8192), (pieces[::-1], 14)):
        model = fresh(nano, adapted)
        before = {name: value.clone() for name, value in model.weights().items()}
        model.engine = replace(model.engine, token_budget=budget)
        for _ in range(2):
            model.forward_backward(method.batch(rows), method.loss)
            model.optim_step(1e-3)
        ends.append(dict(model.weights()))
        moved = [name for name, value in model.weights().items() if not torch.equal(value, before[name])]
        assert len(moved) == len(model.adapted or before)
    assert_same_tensors(ends[1], ends[0])
