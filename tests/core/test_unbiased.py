"""The expectation of the production estimator over every trajectory is the exact gradient, in float64.

A language model of two or three tokens has a handful of completions up to length 3. Each estimator is driven the way
a training step drives it (collate, credit, prepare, ``forward_backward``) on every batch it could have sampled; the
weights are multiplied by the probability of that batch. The exact gradient comes from autograd through the enumerated
expectation, on the plain transformers network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from burnish.core.algorithms import DR_GRPO, GRPO, REINFORCE, RLOO, Algorithm
from burnish.core.kl import KL, k1, k3
from burnish.data.batching import collate
from burnish.engines.local import Engine, LocalModel
from burnish.types import Batch
from rows import rollout
from tiny import plain_logprobs, plain_network, three_token_model, trajectories, two_token_model

LONGEST = 3
PROMPT = (1, 0)  # two different tokens: after equal ones every place of "aa..." would have the same distribution
Gradient = Mapping[str, Tensor]


@dataclass(frozen=True)
class World:
    """Everything that can happen: completions, their rewards, the policy, a reference and the plain network."""

    model: LocalModel
    network: Any
    anchor: Any
    completions: list[tuple[int, ...]]
    rewards: list[float]

    def logprobs(self, network: Any) -> list[Tensor]:
        return [plain_logprobs(network, PROMPT, y) for y in self.completions]

    @property
    def probabilities(self) -> list[float]:
        with torch.no_grad():
            return [p.sum().exp().item() for p in self.logprobs(self.network)]

    def exact(self, objective: Callable[[Tensor], Tensor]) -> Gradient:
        """The gradient of ``objective(log-probabilities of all completions)`` by autograd."""
        self.network.zero_grad()
        objective(torch.stack([p.sum() for p in self.logprobs(self.network)])).backward()
        return {name: p.grad.clone() for name, p in self.network.named_parameters()}


@pytest.fixture(scope="module", params=["two", "three"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    build = two_token_model if request.param == "two" else three_token_model
    directory = build(tmp_path_factory.mktemp("policy"), seed=1)
    other = build(tmp_path_factory.mktemp("reference"), seed=2)
    model = LocalModel(directory, Engine(dtype="float64", device="cpu"))
    size = len(model.chat.tokenizer)
    completions = trajectories(size, size - 1, LONGEST)
    generator = torch.Generator().manual_seed(3)
    rewards = torch.randn(len(completions), generator=generator, dtype=torch.float64).tolist()
    return World(model, plain_network(directory), plain_network(other), completions, rewards)


def expected_estimate(world: World, size: int, credit: Callable[[Batch], Batch], algo: Algorithm) -> Gradient:
    """E over batches of ``size`` completions of one prompt of the gradient that one training step accumulates."""
    model = world.model
    model.discard_gradient()
    policy, anchor = world.logprobs(world.network), world.logprobs(world.anchor)
    for chosen in product(range(len(world.completions)), repeat=size):
        probability = 1.0
        for i in chosen:
            probability *= policy[i].sum().exp().item()
        rows = [
            rollout(len(world.completions[i]), world.rewards[i], episode=n, prompt=PROMPT, tokens=world.completions[i])
            for n, i in enumerate(chosen)
        ]
        batch = collate(rows, max_tokens=LONGEST)
        batch = replace(batch, old_logprobs=stacked(policy, chosen, batch), ref_logprobs=stacked(anchor, chosen, batch))
        batch = algo.loss.prepare(credit(batch))
        weights = {name: probability * w for name, w in batch.weights.items()}
        model.forward_backward(replace(batch, weights=weights), algo.loss)
    found = {name: -p.grad.clone() for name, p in model.masters.params.items() if p.grad is not None}
    model.discard_gradient()
    return found


def stacked(values: Sequence[Tensor], chosen: Sequence[int], batch: Batch) -> Tensor:
    out = torch.zeros(batch.tokens.shape, dtype=torch.float64)
    for row, i in enumerate(chosen):
        out[row, : len(values[i])] = values[i].detach()
    return out


def distance(found: Gradient, exact: Gradient, factor: float = 1.0) -> float:
    """The norm of the difference over the norm of the exact gradient; names must agree."""
    assert found.keys() == exact.keys()
    difference = sum((found[n] - factor * exact[n]).square().sum().item() for n in exact) ** 0.5
    return float(difference / (abs(factor) * sum(g.square().sum().item() for g in exact.values()) ** 0.5))


def expected_reward(world: World) -> Callable[[Tensor], Tensor]:
    return lambda logp: (logp.exp() * torch.tensor(world.rewards, dtype=torch.float64)).sum()


def test_the_completions_are_all_there_are(world: World) -> None:
    assert sum(world.probabilities) == pytest.approx(1, abs=1e-14)
    assert min(world.probabilities) > 1e-4 and len(set(world.completions)) == len(world.completions)


@pytest.mark.parametrize("baseline", [0.0, 0.7, -3.0])
def test_reinforce_with_any_constant_baseline_is_exact(world: World, baseline: float) -> None:
    state = {"sum": baseline, "weight": 1.0}
    found = expected_estimate(world, 1, lambda batch: REINFORCE.credit(batch, state), REINFORCE)
    assert distance(found, world.exact(expected_reward(world))) < 1e-10


def test_a_baseline_that_depends_on_the_answer_biases_reinforce(world: World) -> None:
    """The same estimator with b = the length of the answer: the test above can fail."""

    def credit(batch: Batch) -> Batch:
        return REINFORCE.credit(batch, {"sum": float(batch.lengths[0]), "weight": 1.0})

    found = expected_estimate(world, 1, credit, REINFORCE)
    assert distance(found, world.exact(expected_reward(world))) > 1e-3


def test_rloo_is_exact_over_all_pairs(world: World) -> None:
    algo = replace(RLOO, reward_kl=None)
    found = expected_estimate(world, 2, lambda batch: algo.credit(batch, {}), algo)
    assert distance(found, world.exact(expected_reward(world))) < 1e-10


def test_rloo_with_its_kl_in_the_reward_ascends_the_regularised_objective(world: World) -> None:
    """E[R] - beta KL(pi || reference): k1 in the reward has the exact gradient of the divergence of whole answers."""
    algo = replace(RLOO, reward_kl=KL(k1, 0.3))
    reference = torch.stack([p.sum() for p in world.logprobs(world.anchor)]).detach()
    reward = expected_reward(world)
    exact = world.exact(lambda logp: reward(logp) - 0.3 * (logp.exp() * (logp - reference)).sum())
    found = expected_estimate(world, 2, lambda batch: algo.credit(batch, {}), algo)
    assert distance(found, exact) < 1e-10


def test_dr_grpo_is_exact_up_to_its_stated_factor(world: World) -> None:
    """At the first update: (G - 1)/G for the mean that contains the sample itself, 1/L for the constant length."""
    found = expected_estimate(world, 2, lambda batch: DR_GRPO.credit(batch, {}), DR_GRPO)
    assert distance(found, world.exact(expected_reward(world)), 0.5 / LONGEST) < 1e-10


def test_grpo_is_biased_by_its_two_normalisations(world: World) -> None:
    """No factor makes it exact: the claim of arXiv:2503.20783, seen on a model of two tokens."""
    algo = replace(GRPO, kl=None)
    found = expected_estimate(world, 2, lambda batch: algo.credit(batch, {}), algo)
    exact = world.exact(expected_reward(world))
    inner = sum((found[n] * exact[n]).sum().item() for n in exact)
    best = inner / sum(g.square().sum().item() for g in exact.values())
    assert distance(found, exact, best) > 1e-2


def test_the_kl_term_of_grpo_has_the_gradient_of_the_divergence_from_the_reference(world: World) -> None:
    """Token-level k3, no reward: E over the policy's prefixes of the gradient of KL(ref || pi) per token."""
    coef, size = 0.5, len(world.model.chat.tokenizer)
    algo = replace(GRPO, aggregate=RLOO.aggregate, kl=KL(k3, coef))
    found = expected_estimate(
        replace(world, rewards=[0.0] * len(world.rewards)), 1, lambda batch: algo.credit(batch, {}), algo
    )

    def objective(_: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for depth in range(LONGEST):
            for prefix in product(range(size - 1), repeat=depth):
                reach = plain_logprobs(world.network, PROMPT, prefix).sum().exp().item() if prefix else 1.0
                now, ref = (
                    torch.cat([plain_logprobs(n, PROMPT, (*prefix, v))[-1:] for v in range(size)])
                    for n in (world.network, world.anchor)
                )
                total = total - coef * reach * (ref.detach().exp() * (ref.detach() - now)).sum()
        return total

    assert distance(found, world.exact(objective)) < 1e-10


def test_enumeration_by_hand() -> None:
    assert trajectories(2, 1, 3) == [(1,), (0, 1), (0, 0, 1), (0, 0, 0)]
    assert len(trajectories(3, 2, 3)) == 1 + 2 + 4 + 8
