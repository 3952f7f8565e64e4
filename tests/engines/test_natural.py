"""The trust-region step on small networks: F against its definition, the bounds of a step, what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from burnish.core.aggregate import seq_mean_token_mean
from burnish.core.losses import PolicyLoss
from burnish.core.surrogates import Ratio
from burnish.core.trust_region import TrustRegion
from burnish.data.batching import collate
from burnish.engines.local import Engine, LocalModel
from burnish.engines.lora import LoRA
from burnish.engines.natural import Region, check, trust_region_step
from burnish.errors import InputError
from burnish.types import Batch, Head, Loss, Metrics, Outputs, means
from rows import rollout
from tiny import plain_distributions, plain_network, three_token_model

EXACT = Engine(dtype="float64", device="cpu")
LOSS = PolicyLoss(Ratio(), seq_mean_token_mean)
SOLVED = TrustRegion(iterations=40)
"""Before it has converged, conjugate gradient multiplies the rounding of its products."""
SMALL = {"hidden_size": 8, "intermediate_size": 12}
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "tied": {"tie_word_embeddings": True},
    "grouped-queries": {"num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2},
}


def data(temperature: float = 0.7) -> Batch:
    """Ragged rows of two prompts, interleaved also where they are packed, since two of them are one unit; a token outside
    the mask, a row that is not trained, one without advantage."""
    rows = [
        rollout(3, prompt=(0, 1), tokens=(0, 1, 2), episode=0),
        rollout(4, prompt=(1,), tokens=(1, 1, 0, 2), group=1, episode=1, mask=(True, False, True, True)),
        rollout(1, prompt=(0, 1), tokens=(2,), episode=2),
        rollout(2, prompt=(1,), tokens=(0, 0), group=1, episode=3, train=False),
        rollout(4, prompt=(0, 1), tokens=(1, 0, 0, 1), episode=4),
    ]
    advantages = torch.tensor([1.0, -0.5, 0.0, 3.0, -1.2], dtype=torch.float64)[:, None]
    batch = collate(rows, temperature=temperature, max_tokens=4)
    batch = replace(batch, units=torch.tensor([0, 0, 1, 2, 3]))
    return LOSS.prepare(replace(batch, advantages=advantages * batch.mask))


def policy(directory: Path, engine: Engine = EXACT, **options: Any) -> LocalModel:
    return LocalModel(three_token_model(directory, **{**SMALL, **options}), engine)


def update(model: LocalModel, settings: TrustRegion, batch: Batch | None = None, loss: Loss = LOSS) -> dict[str, float]:
    batch = data() if batch is None else batch
    model.forward_backward(batch, LOSS)
    return means(trust_region_step(model, batch, loss, settings))


def values(model: LocalModel) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.masters.params.items()}


def flat(parameters: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([p.reshape(-1) for p in parameters.values()]).to(torch.float64)


# ----------------------------------------------------------------------------------------------- the definitions


@dataclass(frozen=True)
class Literal:
    """Row by row through the network as transformers runs it, with attention that can be differentiated twice."""

    network: Any
    batch: Batch

    def rows(self, params: Mapping[str, Tensor] | None = None) -> list[tuple[Tensor, Tensor]]:
        """For every trained row the log-probabilities [T, V] of its tokens, and the tokens' shares [T] of the mean."""
        found = []
        total = self.batch.weights["policy"].sum()
        for row, length in enumerate(self.batch.lengths.tolist()):
            tokens, prompt = self.batch.tokens[row, :length].tolist(), self.batch.prompts[row].tolist()
            with sdpa_kernel(SDPBackend.MATH):
                raw = plain_distributions(self.network, prompt, tokens, params)
            raw = raw[:, [i for i in range(raw.shape[1]) if i not in self.batch.suppressed]]
            logp = torch.log_softmax(raw / self.batch.temperature, -1)
            found.append((logp, self.batch.weights["policy"][row, :length] / total))
        return found

    def unflat(self, vector: Tensor, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
        parts = vector.split([p.numel() for p in params.values()])
        return {name: part.view(p.shape) for (name, p), part in zip(params.items(), parts, strict=True)}

    def kl(self, old: Mapping[str, Tensor], new: Mapping[str, Tensor]) -> Tensor:
        pairs = zip(self.rows(old), self.rows(new), strict=True)
        per_row = [share @ (a.exp() * (a - b)).sum(-1) for (a, share), (b, _) in pairs]
        return torch.stack(per_row).sum()

    def gain(self, old: Mapping[str, Tensor], new: Mapping[str, Tensor]) -> float:
        """``sum_t w_t A_t (rho_t - 1)``"""
        assert self.batch.advantages is not None
        total = 0.0
        for row, ((a, _), (b, _)) in enumerate(zip(self.rows(old), self.rows(new), strict=True)):
            targets = self.batch.tokens[row, : len(a), None]
            rho = (b - a).gather(1, targets).squeeze(1).exp()
            weights, advantages = (x[row, : len(a)] for x in (self.batch.weights["policy"], self.batch.advantages))
            total += float((weights * advantages * (rho - 1)).sum())
        return total

    def fisher(self, params: Mapping[str, Tensor]) -> Tensor:
        """[N, N] the mean of ``J^T (diag p - p p^T) J``, from the Jacobian of every token."""

        def everything(vector: Tensor) -> Tensor:
            return torch.cat([logp for logp, _ in self.rows(self.unflat(vector, params))])

        jacobian = torch.autograd.functional.jacobian(everything, flat(params), vectorize=True)
        total = torch.zeros(jacobian.shape[2], jacobian.shape[2], dtype=torch.float64)
        pairs = [pair for logp, share in self.rows(params) for pair in zip(logp.exp(), share, strict=True)]
        for j, (p, share) in zip(jacobian, pairs, strict=True):
            total += share * j.T @ (torch.diag(p) - torch.outer(p, p)) @ j
        return total

    def gradient(self, params: Mapping[str, Tensor]) -> Tensor:
        """Of the gain at the present parameters: ``sum_t w_t A_t grad log pi``."""
        assert self.batch.advantages is not None
        vector = flat(params).requires_grad_()
        total = torch.zeros((), dtype=torch.float64)
        for row, (logp, _) in enumerate(self.rows(self.unflat(vector, params))):
            chosen = logp.gather(1, self.batch.tokens[row, : len(logp), None]).squeeze(1)
            weights, advantages = (x[row, : len(logp)] for x in (self.batch.weights["policy"], self.batch.advantages))
            total = total + (weights * advantages * chosen).sum()
        (found,) = torch.autograd.grad(total, vector)
        return found


def literal(model: LocalModel, batch: Batch | None = None) -> Literal:
    return Literal(plain_network(model.directory), data() if batch is None else batch)


def directions(size: int, count: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return list(torch.randn(count, size, generator=generator, dtype=torch.float64))


def near(found: Tensor, expected: Tensor, tolerance: float = 1e-10) -> bool:
    return bool((found - expected).norm() <= tolerance * expected.norm())


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS.keys())
def test_the_product_is_that_of_the_explicit_fisher_matrix(tmp_path: Path, options: dict[str, Any]) -> None:
    model = policy(tmp_path, **options)
    fisher = literal(model).fisher(values(model))
    region = Region(model, data())
    assert float(torch.linalg.matrix_rank(fisher)) > 5
    for v in directions(len(fisher)):
        assert near(region.fisher(v), fisher @ v)


def test_suppressed_ids_are_no_part_of_the_region(tmp_path: Path) -> None:
    """The policy is the one over the other tokens."""
    model, whole = policy(tmp_path), data()
    batch = replace(whole, tokens=whole.tokens * (whole.tokens < 2), suppressed=(2,))
    exact, region, here = literal(model, batch), Region(model, batch), values(model)
    fisher = exact.fisher(here)
    for v in directions(len(fisher)):
        assert near(region.fisher(v), fisher @ v)
        moved = region.moved(0.01 * v)
        assert region.kl(moved) == pytest.approx(float(exact.kl(here, moved)), rel=1e-8)


def test_the_product_is_that_of_the_hessian_of_the_mean_kl(tmp_path: Path) -> None:
    """The other definition, by double backward: equal at the present parameters, where the policy is its own anchor."""
    model = policy(tmp_path)
    params, exact, region = values(model), literal(model), Region(model, data())
    for v in directions(flat(params).numel(), 2):

        def mean_kl(vector: Tensor) -> Tensor:
            return exact.kl(params, exact.unflat(vector, params))

        _, product = torch.autograd.functional.hvp(mean_kl, flat(params), v)
        assert near(region.fisher(v), product)


def test_the_product_leaves_tokens_out_that_are_not_trained(tmp_path: Path) -> None:
    """Weights on masked tokens or on rows without ``train`` are not looked at, and what those tokens are has no part."""
    batch = data()
    everywhere = torch.where(batch.mask & batch.train[:, None], batch.weights["policy"], 9.0)
    model = policy(tmp_path)
    v = directions(flat(values(model)).numel())[0]
    expected = Region(model, batch).fisher(v)
    assert near(Region(model, replace(batch, weights={"policy": everywhere})).fisher(v), expected, 1e-14)
    assert near(
        Region(model, replace(batch, weights={"policy": 7 * batch.weights["policy"]})).fisher(v), expected, 1e-14
    )
    other = batch.tokens.clone()
    other[3, 1] = 1
    assert near(Region(model, replace(batch, tokens=other)).fisher(v), expected, 1e-14)


def test_micro_batches_change_nothing(tmp_path: Path) -> None:
    model = policy(tmp_path)
    split = LocalModel(model.directory, replace(EXACT, token_budget=6))
    v = directions(flat(values(model)).numel())[0]
    assert near(Region(split, data()).fisher(v), Region(model, data()).fisher(v), 1e-13)
    found, expected = (update(m, SOLVED) for m in (split, model))
    assert found == pytest.approx(expected, rel=1e-9)
    assert near(flat(values(split)), flat(values(model)), 1e-10)


# ----------------------------------------------------------------------------------------------- the step


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("delta", [1e-4, 0.01, 0.3])
def test_an_accepted_step_keeps_its_bounds(tmp_path: Path, seed: int, delta: float) -> None:
    """By the plain network at the weights before and after: KL and gain are what is reported, and within the bounds."""
    model = policy(tmp_path, seed=seed)
    exact, before = literal(model), values(model)
    metrics = update(model, TrustRegion(delta=delta))
    after = values(model)
    assert metrics["trpo/accepted"] == 1 and metrics["grad/skipped"] == 0
    assert metrics["grad/norm"] == pytest.approx(float(exact.gradient(before).norm()), rel=1e-10)
    kl, gain = float(exact.kl(before, after)), exact.gain(before, after)
    assert 0 < kl <= delta and gain > 0
    assert metrics["trpo/kl"] == pytest.approx(kl, rel=1e-9) and metrics["trpo/gain"] == pytest.approx(gain, rel=1e-9)
    assert kl > 0.3 * delta, "most of what is allowed is used"
    assert all(p.grad is None for p in model.masters.params.values())


def test_as_delta_shrinks_the_step_is_the_natural_gradient(tmp_path: Path) -> None:
    model = policy(tmp_path)
    exact, before = literal(model), values(model)
    fisher, gradient = exact.fisher(before), exact.gradient(before)
    natural = torch.linalg.solve(fisher + 0.1 * torch.eye(len(fisher), dtype=torch.float64), gradient)
    update(model, TrustRegion(delta=1e-8, iterations=100))
    moved = flat(values(model)) - flat(before)
    assert float(torch.cosine_similarity(moved, natural, dim=0)) == pytest.approx(1, abs=1e-9)
    assert float(torch.cosine_similarity(moved, gradient, dim=0)) < 0.98, "which is not the gradient's direction"
    assert 0.6 * 1e-8 < float(moved @ fisher @ moved) / 2 < 1.001 * 1e-8


@dataclass(frozen=True)
class Reversed:
    """A loss that goes up where the gradient says down."""

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Metrics]:
        value, metrics = LOSS(outputs, batch)
        return -value, metrics


def test_a_rejected_line_search_changes_no_bit(tmp_path: Path) -> None:
    model = policy(tmp_path)
    before = values(model)
    metrics = update(model, TrustRegion(tries=4), loss=Reversed())
    assert metrics["trpo/accepted"] == 0 and metrics["trpo/tries"] == 4 and metrics["grad/skipped"] == 0
    assert "trpo/kl" not in metrics and "trpo/gain" not in metrics
    assert all(torch.equal(value, before[name]) for name, value in values(model).items())
    assert all(p.grad is None for p in model.masters.params.values())
    assert update(model, TrustRegion())["trpo/accepted"] == 1


def test_a_gradient_that_is_not_finite_changes_no_bit(tmp_path: Path) -> None:
    model, batch = policy(tmp_path), data()
    before = values(model)
    model.forward_backward(batch, LOSS)
    next(iter(model.masters.params.values())).grad[0, 0] = torch.nan  # type: ignore[index]
    metrics = means(trust_region_step(model, batch, LOSS, TrustRegion()))
    assert metrics["grad/skipped"] == 1 and metrics["trpo/accepted"] == 0 and metrics["trpo/tries"] == 0
    assert all(torch.equal(value, before[name]) for name, value in values(model).items())
    assert all(p.grad is None for p in model.masters.params.values())


def test_without_a_gradient_there_is_no_step(tmp_path: Path) -> None:
    """As after a batch in which all rewards were equal."""
    model = policy(tmp_path)
    before = values(model)
    metrics = means(trust_region_step(model, data(), LOSS, TrustRegion()))
    assert metrics == {"trpo/accepted": 0, "trpo/tries": 0, "grad/norm": 0, "grad/skipped": 0}
    assert all(torch.equal(value, before[name]) for name, value in values(model).items())


def test_old_logprobs_are_the_present_ones_where_there_are_none(tmp_path: Path) -> None:
    model = policy(tmp_path)
    again = LocalModel(model.directory, EXACT)
    given = replace(data(), old_logprobs=again.forward(data()).logprobs)
    assert update(model, TrustRegion()) == update(again, TrustRegion(), given)
    assert all(torch.equal(value, values(again)[name]) for name, value in values(model).items())


def test_rows_left_out_of_the_gradient_still_bound_the_step(tmp_path: Path) -> None:
    """The loop need not differentiate rows without advantage; the policy moves on them too."""
    model, whole = policy(tmp_path), LocalModel(tmp_path, EXACT)
    batch = data()
    active = batch.select([0, 1, 4])
    model.forward_backward(active, LOSS)
    found = means(trust_region_step(model, batch, LOSS, SOLVED))
    assert found == pytest.approx(update(whole, SOLVED), rel=1e-9)
    alone = LocalModel(tmp_path, EXACT)
    assert update(alone, SOLVED, active)["trpo/kl"] != pytest.approx(found["trpo/kl"], rel=1e-3)


def test_repeated_steps_learn(tmp_path: Path) -> None:
    """In float32: the first token is to be "a". Its probability rises with every step, to near certainty."""
    model = policy(tmp_path, replace(EXACT, dtype="float32"))
    rows = [rollout(1, prompt=(0, 1), tokens=(token,), episode=token) for token in range(3)]
    batch = replace(collate(rows, max_tokens=1), old_logprobs=None)
    reached = []
    for _ in range(25):
        p = model.forward(batch).logprobs.exp()
        reached.append(float(p[0, 0]))
        reward = torch.tensor([[1.0], [0.0], [0.0]])
        weighed = replace(
            batch, advantages=(3 * p * (reward - p[0, 0])).double()
        )  # exact: each token by its probability
        metrics = update(model, TrustRegion(delta=0.05), LOSS.prepare(weighed))
        if not metrics["trpo/accepted"]:
            break
        assert metrics["trpo/kl"] <= 0.05 and metrics["trpo/gain"] > 0
    assert reached == sorted(reached) and reached[-1] > 0.95


def test_nano_takes_a_step_in_float32(nano: Path) -> None:
    model = LocalModel(nano, replace(EXACT, dtype="float32"))
    prompts = [(40, 41, 42), (50, 51)]
    rows = [
        rollout(n, tokens=[20 + (i * 7 + t) % 50 for t in range(n)], prompt=prompts[i % 2], group=i % 2, episode=i)
        for i, n in enumerate((5, 2, 3, 1))
    ]
    batch = collate(rows, max_tokens=5)
    signs = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]], dtype=torch.float64)
    batch = LOSS.prepare(replace(batch, advantages=signs * batch.mask))
    exact, before = literal(model, batch), {n: p.double() for n, p in values(model).items()}
    metrics = update(model, TrustRegion(), batch)
    after = {n: p.double() for n, p in values(model).items()}
    assert metrics["trpo/accepted"] == 1
    assert 0 < float(exact.kl(before, after)) <= 0.01 * (1 + 1e-4) and exact.gain(before, after) > 0
    assert metrics["trpo/kl"] == pytest.approx(float(exact.kl(before, after)), rel=1e-3)


def test_a_checkpoint_after_a_step_goes_on_as_it_would_have(tmp_path: Path) -> None:
    model = policy(tmp_path / "model")
    update(model, TrustRegion())
    (tmp_path / "saved").mkdir()
    model.checkpoint(tmp_path / "saved")
    again = LocalModel(model.directory, EXACT)
    again.restore(tmp_path / "saved")
    assert update(again, TrustRegion()) == update(model, TrustRegion())
    assert all(torch.equal(value, values(again)[name]) for name, value in values(model).items())


# ----------------------------------------------------------------------------------------------- what is refused

REFUSED: dict[str, tuple[Engine, dict[str, Any], dict[str, Head], str]] = {
    "adapter": (replace(EXACT, adapter=LoRA(rank=2)), {}, {}, "engine.adapter"),
    "bfloat16": (replace(EXACT, dtype="bfloat16"), {}, {}, "engine.dtype=float32"),
    "heads": (EXACT, {}, {"value": Head()}, "critic"),
    "checkpointing": (replace(EXACT, activation_checkpointing=True), {}, {}, "engine.activation_checkpointing=false"),
    "large": (replace(EXACT, dtype="float32"), {"hidden_size": 256, "intermediate_size": 8192}, {}, "6.6M.*optimizer"),
}


@pytest.mark.parametrize(("engine", "options", "heads", "fix"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_take_the_step_is_told_what_to_choose(
    tmp_path: Path, engine: Engine, options: dict[str, Any], heads: dict[str, Head], fix: str
) -> None:
    model = LocalModel(three_token_model(tmp_path, **{**SMALL, **options}), engine, heads=heads)
    with pytest.raises(InputError, match=fix):
        check(model)
    with pytest.raises(InputError, match=fix):
        trust_region_step(model, data(), LOSS, TrustRegion())
    check(policy(tmp_path / "small"))
