"""Training under top-k and top-p: what is exact, and what is biased by how much. Float64, every trajectory enumerated.

A language model of four tokens answers in at most three. Under truncation it can give only some of the answers: those,
with the sets of tokens they were chosen from, are what a sampler would return. Each estimator is driven as a training
step drives it, weighted by the probability of its batch under the truncated policy, and compared with autograd through
the enumerated expectation of that policy, on the plain transformers network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from burnish.core import keys
from burnish.core.algorithms import DR_GRPO, REINFORCE, RLOO, Algorithm
from burnish.core.kl import KL, k1
from burnish.data.batching import collate
from burnish.engines.decode import LocalSampler
from burnish.engines.local import Engine, LocalModel
from burnish.types import Batch, Request, RewardPart, Rollout, Sampling
from tiny import model as tiny_model
from tiny import plain_distributions, plain_network

LETTERS, LONGEST, END, PROMPT = "abc.", 3, 3, (1, 0)
EXACT = Engine(dtype="float64", device="cpu")
Gradient = Mapping[str, Tensor]
Sets = tuple[tuple[int, ...], ...]

CUTS = {
    "top-k": Sampling(LONGEST, top_k=2),
    "top-k-cold": Sampling(LONGEST, temperature=0.6, top_k=2),
    "top-p": Sampling(LONGEST, top_p=0.75),
    "top-p-hot": Sampling(LONGEST, temperature=1.5, top_p=0.8),
    "both": Sampling(LONGEST, temperature=1.3, top_k=3, top_p=0.8),
}
BIAS = {
    "top-k": (0.287, 1.472),
    "top-k-cold": (0.176, 0.877),
    "top-p": (0.168, 0.759),
    "top-p-hot": (0.143, 0.668),
    "both": (0.255, 0.495),
}
"""In mode "full": the norm of expected minus exact gradient over that of the exact one, with baselines 0 and 0.7."""
every_cut = pytest.mark.parametrize("cut", CUTS)


@dataclass(frozen=True)
class Answer:
    """A completion that truncated sampling can give: its tokens, the set each was chosen from, its probability."""

    tokens: tuple[int, ...]
    sets: Sets
    logprobs: tuple[float, ...]
    masses: tuple[float, ...]

    @property
    def probability(self) -> float:
        return float(
            torch.tensor(self.logprobs, dtype=torch.float64)
            .exp()
            .div(torch.tensor(self.masses, dtype=torch.float64))
            .prod()
        )


@dataclass(frozen=True)
class Policy:
    model: LocalModel
    network: Any

    def at(self, tokens: Sequence[int], temperature: float) -> Tensor:
        """[T, V] log-probabilities at every place of a completion, before truncation."""
        return torch.log_softmax(plain_distributions(self.network, PROMPT, tokens) / temperature, -1)

    def answers(self, sampling: Sampling, before: Answer = Answer((), (), (), ())) -> list[Answer]:
        if len(before.tokens) == LONGEST or before.tokens[-1:] == (END,):
            return [before]
        with torch.no_grad():
            logprobs = self.at((*before.tokens, END), sampling.temperature)[-1]
        chosen = kept(logprobs.exp().tolist(), sampling)
        mass = sum(logprobs[i].exp().item() for i in chosen)
        return [
            answer
            for i in chosen
            for answer in self.answers(
                sampling,
                Answer(
                    (*before.tokens, i), (*before.sets, chosen), (*before.logprobs, logprobs[i].item()),
                    (*before.masses, mass),
                ),
            )
        ]  # fmt: skip

    def logprob(self, answer: Answer, temperature: float) -> Tensor:
        """The log-probability of a whole answer under the policy truncated to the answer's sets, differentiable."""
        rows = self.at(answer.tokens, temperature)
        places = zip(rows, answer.tokens, answer.sets, strict=True)
        return torch.stack([row[token] - row[list(ids)].logsumexp(0) for row, token, ids in places]).sum()

    def exact(self, answers: Sequence[Answer], temperature: float, value: Callable[[Tensor], Tensor]) -> Gradient:
        """The gradient of ``value(log-probabilities of the answers)`` by autograd."""
        self.network.zero_grad()
        value(torch.stack([self.logprob(a, temperature) for a in answers])).backward()
        return {name: p.grad.clone() for name, p in self.network.named_parameters()}


def kept(probabilities: Sequence[float], sampling: Sampling) -> tuple[int, ...]:
    """Without the suppressed ones top-k, then the smallest set of most likely tokens that holds the share top-p of what is
    left; ascending ids.
    """
    allowed = [i for i in range(len(probabilities)) if LETTERS[i] not in sampling.suppress]
    ordered = sorted(allowed, key=lambda i: -probabilities[i])[: sampling.top_k or None]
    total, size, found = sum(probabilities[i] for i in ordered), 0, 0.0
    while size == 0 or (size < len(ordered) and found < sampling.top_p * total):
        found += probabilities[ordered[size]]
        size += 1
    return tuple(sorted(ordered[:size]))


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> tuple[Policy, Policy]:
    """The one that is trained, and another."""

    def build(seed: int) -> Policy:
        directory: Path = tiny_model(tmp_path_factory.mktemp("policy"), LETTERS, ".", seed=seed)
        return Policy(LocalModel(directory, EXACT), plain_network(directory))

    return build(5), build(3)


def rewards_of(answers: Sequence[Answer]) -> Tensor:
    return torch.randn(len(answers), generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def rows(answers: Sequence[Answer], rewards: Sequence[float], sampling: Sampling) -> Batch:
    """The batch that sampling these answers, with these rewards, would have led to."""
    rollouts = [
        Rollout(
            PROMPT, a.tokens, (True,) * len(a.tokens), a.logprobs, (RewardPart(-1, reward, "reward"),), 0, n,
            kept=a.masses, kept_ids=a.sets if sampling.truncation == "kept" else (),
        )
        for n, (a, reward) in enumerate(zip(answers, rewards, strict=True))
    ]  # fmt: skip
    banned = tuple(LETTERS.index(text) for text in sampling.suppress)
    return collate(rollouts, temperature=sampling.temperature, max_tokens=LONGEST, suppressed=banned)


def expected_estimate(
    policy: Policy, answers: Sequence[Answer], sampling: Sampling, size: int, credit: Callable[[Batch], Batch],
    algo: Algorithm, factor: Callable[[Batch], float] = lambda _: 1.0,
) -> Gradient:  # fmt: skip
    """E over batches of ``size`` answers to one prompt of what one training step accumulates, times ``factor``."""
    model, rewards = policy.model, rewards_of(answers).tolist()
    model.discard_gradient()
    for chosen in product(range(len(answers)), repeat=size):
        batch = rows([answers[i] for i in chosen], [rewards[i] for i in chosen], sampling)
        probability = factor(batch)
        for i in chosen:
            probability *= answers[i].probability
        batch = algo.loss.prepare(credit(batch))
        weights = {name: probability * w for name, w in batch.weights.items()}
        model.forward_backward(replace(batch, weights=weights), algo.loss)
    found = {name: -p.grad.clone() for name, p in model.masters.params.items() if p.grad is not None}
    model.discard_gradient()
    return found


def distance(found: Gradient, exact: Gradient, factor: float = 1.0) -> float:
    """The norm of the difference over the norm of the exact gradient; names must agree."""
    assert found.keys() == exact.keys()
    difference = sum((found[n] - factor * exact[n]).square().sum().item() for n in exact) ** 0.5
    return float(difference / (factor * sum(g.square().sum().item() for g in exact.values()) ** 0.5))


def expected_reward(answers: Sequence[Answer]) -> Callable[[Tensor], Tensor]:
    return lambda logp: (logp.exp() * rewards_of(answers)).sum()


def reinforce(baseline: float) -> Callable[[Batch], Batch]:
    return lambda batch: REINFORCE.credit(batch, {"sum": baseline, "weight": 1.0})


@every_cut
def test_the_answers_are_all_that_truncated_sampling_can_give(policies: tuple[Policy, Policy], cut: str) -> None:
    answers = policies[0].answers(CUTS[cut])
    assert sum(a.probability for a in answers) == pytest.approx(1, abs=1e-14)
    sizes = {len(ids) for a in answers for ids in a.sets}
    assert min(sizes) < 4 and len(answers) > 4, "nothing was cut, or nothing is left to choose"


@pytest.mark.parametrize("baseline", [0.0, 0.7])
@every_cut
def test_kept_is_the_exact_gradient_of_the_truncated_policy(
    policies: tuple[Policy, Policy], cut: str, baseline: float
) -> None:
    sampling = replace(CUTS[cut], truncation="kept")
    answers = policies[0].answers(sampling)
    found = expected_estimate(policies[0], answers, sampling, 1, reinforce(baseline), REINFORCE)
    exact = policies[0].exact(answers, sampling.temperature, expected_reward(answers))
    assert distance(found, exact) < 1e-10


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(LONGEST, suppress=("c",)),
        Sampling(LONGEST, suppress=("a", "c"), temperature=0.6),
        Sampling(LONGEST, suppress=("b",), temperature=1.3, top_k=2, truncation="kept"),
    ],
    ids=["one", "two-cold", "top-k"],
)
def test_the_policy_without_suppressed_tokens_has_its_exact_gradient(
    policies: tuple[Policy, Policy], sampling: Sampling
) -> None:
    answers = policies[0].answers(sampling)
    exact = policies[0].exact(answers, sampling.temperature, expected_reward(answers))
    for baseline in (0.0, 0.7):
        found = expected_estimate(policies[0], answers, sampling, 1, reinforce(baseline), REINFORCE)
        assert distance(found, exact) < 1e-10
    unaware = replace(sampling, suppress=(), truncation="full")
    assert distance(expected_estimate(policies[0], answers, unaware, 1, reinforce(0.7), REINFORCE), exact) > 0.1


@every_cut
def test_full_is_biased_under_truncation(policies: tuple[Policy, Policy], cut: str) -> None:
    """By a part that depends on the baseline: the mean of grad log pi is not zero where the samples are not pi's."""
    answers, sampling = policies[0].answers(CUTS[cut]), CUTS[cut]
    exact = policies[0].exact(answers, sampling.temperature, expected_reward(answers))
    found = [expected_estimate(policies[0], answers, sampling, 1, reinforce(b), REINFORCE) for b in (0.0, 0.7)]
    assert [distance(gradient, exact) for gradient in found] == pytest.approx(BIAS[cut], abs=2e-3)


@pytest.mark.parametrize("mode", ["full", "kept"])
@pytest.mark.parametrize("temperature", [0.5, 1.7])
def test_temperature_alone_is_exact_in_either_mode(
    policies: tuple[Policy, Policy], temperature: float, mode: str
) -> None:
    sampling = Sampling(LONGEST, temperature=temperature, truncation=mode)
    answers = policies[0].answers(sampling)
    assert {len(ids) for a in answers for ids in a.sets} == {4}
    bare = [replace(a, sets=((),) * len(a.tokens)) for a in answers]  # as no set was cut, a sampler stores none
    found = expected_estimate(policies[0], bare, sampling, 1, reinforce(0.7), REINFORCE)
    assert distance(found, policies[0].exact(answers, temperature, expected_reward(answers))) < 1e-10


@every_cut
def test_groups_are_exact_under_kept(policies: tuple[Policy, Policy], cut: str) -> None:
    """RLOO, and Dr. GRPO up to (G - 1)/G for the mean that contains the sample itself and 1/L for its length."""
    sampling = replace(CUTS[cut], truncation="kept")
    answers = policies[0].answers(sampling)
    exact = policies[0].exact(answers, sampling.temperature, expected_reward(answers))
    for algo, factor in ((replace(RLOO, reward_kl=None), 1.0), (DR_GRPO, 0.5 / LONGEST)):
        found = expected_estimate(policies[0], answers, sampling, 2, lambda b, a=algo: a.credit(b, {}), algo)  # type: ignore[misc]
        assert distance(found, exact, factor) < 1e-10


@every_cut
def test_a_kl_in_the_reward_is_that_between_the_truncated_policies(policies: tuple[Policy, Policy], cut: str) -> None:
    """E[R] - beta KL(policy || reference), both over the policy's sets: the reference sees the same batch."""
    policy, reference = policies
    sampling = replace(CUTS[cut], truncation="kept")
    answers = policy.answers(sampling)
    algo = replace(REINFORCE, reward_kl=KL(k1, 0.3))

    def credit(batch: Batch) -> Batch:
        old, ref = (p.model.forward(batch).logprobs for p in (policy, reference))
        return algo.credit(replace(batch, old_logprobs=old, ref_logprobs=ref), {"sum": 0.4, "weight": 1.0})

    anchor = torch.stack([reference.logprob(a, sampling.temperature) for a in answers]).detach()
    reward = expected_reward(answers)
    exact = policy.exact(
        answers, sampling.temperature, lambda logp: reward(logp) - 0.3 * (logp.exp() * (logp - anchor)).sum()
    )
    assert distance(expected_estimate(policy, answers, sampling, 1, credit, algo), exact) < 1e-10


@every_cut
def test_answers_of_another_sampler_are_corrected_exactly(policies: tuple[Policy, Policy], cut: str) -> None:
    """The sampler's sets and probabilities, the ratio from ``batch.sampler_logprobs``: both sides are truncated."""
    policy, sampler = policies
    sampling = replace(CUTS[cut], truncation="kept")
    answers = sampler.answers(sampling)

    def ratio(batch: Batch) -> float:
        assert batch.sampler_logprobs is not None
        return float((policy.model.forward(batch).logprobs - batch.sampler_logprobs).sum().exp())

    exact = policy.exact(answers, sampling.temperature, expected_reward(answers))
    found = expected_estimate(policy, answers, sampling, 1, reinforce(0.7), REINFORCE, ratio)
    assert distance(found, exact) < 1e-10
    uncorrected = expected_estimate(policy, answers, sampling, 1, reinforce(0.7), REINFORCE)
    assert distance(uncorrected, exact) > 1e-2


@pytest.mark.parametrize("mode", ["full", "kept"])
@every_cut
def test_sampler_and_trainer_are_compared_on_one_distribution(
    policies: tuple[Policy, Policy], cut: str, mode: str
) -> None:
    """What the sampler returned, through the loss: no mismatch in either mode, and the entropy of what was trained."""
    policy, sampling = policies[0], replace(CUTS[cut], truncation=mode)
    requests = [Request(PROMPT, keys.derive("mismatch", i), sampling) for i in range(30)]
    found = list(LocalSampler(policy.model).sample(requests))
    assert {bool(c.kept_ids) for c in found} == {mode == "kept"} and min(min(c.kept) for c in found) < 0.99
    rollouts = [
        Rollout(PROMPT, c.tokens, (True,) * len(c.tokens), c.logprobs, (), 0, n, kept=c.kept, kept_ids=c.kept_ids)
        for n, c in enumerate(found)
    ]
    batch = collate(rollouts, temperature=sampling.temperature, max_tokens=LONGEST)
    batch = DR_GRPO.loss.prepare(DR_GRPO.credit(batch, {}))
    metrics, _ = policy.model.forward_backward(batch, DR_GRPO.loss)
    policy.model.discard_gradient()
    total, count = metrics["mismatch/abs"]
    assert total < 1e-10 * count and abs(metrics["mismatch/kl"][0]) < 1e-10 * count
    entropy = 0.0
    for c in found:
        for place, row in enumerate(policy.at(c.tokens, sampling.temperature).detach()):
            ids = kept(row.exp().tolist(), sampling) if mode == "kept" else tuple(range(4))
            assert not c.kept_ids or c.kept_ids[place] == ids
            p = row[list(ids)].exp() / row[list(ids)].exp().sum()
            entropy -= float((p * p.log()).sum())
    assert metrics["entropy"][0] == pytest.approx(entropy, rel=1e-10)
