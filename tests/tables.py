"""A world to enumerate: a lookup table for a policy, rewards on choices, and every trajectory with its probability.

A trajectory is a list of choices; it ends with the last token of the vocabulary or at ``longest`` choices. After a choice
that goes on, the environment may answer with a token of its own, which is outside the mask; rewards of that choice are
then given at the environment's token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

import torch
from torch import Tensor

from burnish.core.algorithms import Algorithm
from burnish.types import Batch, Outputs, RewardPart, Rollout
from rows import batch_of, rollout

Choices = tuple[int, ...]
Numbers = Callable[[Choices], float]


def seeded(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@dataclass
class World:
    """``reward[prefix, token]`` is what follows that choice. Without ``ends`` every trajectory has ``longest`` choices."""

    vocabulary: int = 3
    longest: int = 3
    seed: int = 0
    answers: bool = False
    ends: bool = True
    logits: Tensor = field(init=False)
    reference: Tensor = field(init=False)
    reward: Tensor = field(init=False)
    trajectories: list[Choices] = field(init=False)

    def __post_init__(self) -> None:
        going = range(self.vocabulary - 1 if self.ends else self.vocabulary)
        self.prefixes = {p: i for i, p in enumerate(q for n in range(self.longest) for q in product(going, repeat=n))}
        shape = (len(self.prefixes), self.vocabulary)
        self.logits = seeded(self.seed, *shape).requires_grad_()
        self.reference, self.reward = seeded(self.seed + 1, *shape), seeded(self.seed + 2, *shape) + 0.5
        ended = [(*p, self.vocabulary - 1) for p in self.prefixes] if self.ends else []
        self.trajectories = ended + list(product(going, repeat=self.longest))

    def by_choice(self, table: Tensor, y: Choices) -> Tensor:
        """[T] the entries of a table [prefix, token] at the choices of a trajectory."""
        return torch.stack([table[self.prefixes[y[:t]], token] for t, token in enumerate(y)])

    def logprobs(self, y: Choices, logits: Tensor | None = None) -> Tensor:
        return self.by_choice(torch.log_softmax(self.logits if logits is None else logits, -1), y)

    def probability(self, y: Choices, logits: Tensor | None = None) -> float:
        return self.logprobs(y, logits).sum().exp().item()

    @property
    def greedy(self) -> Choices:
        """The trajectory of the likeliest choices."""
        y: Choices = ()
        while y not in self.trajectories:
            y = (*y, int(self.logits[self.prefixes[y]].argmax()))
        return y

    def score(self, y: Choices) -> float:
        return self.by_choice(self.reward, y).sum().item()

    def exact(self, objective: Callable[[Choices, Tensor], Tensor | float] | None = None) -> Tensor:
        """The gradient of E[objective(y, log p(y))], the total reward unless given, by autograd through the sum."""
        score = objective or (lambda y, _: self.score(y))
        logp = [self.logprobs(y).sum() for y in self.trajectories]
        total = torch.stack([p.exp() * score(y, p) for y, p in zip(self.trajectories, logp, strict=True)]).sum()
        return torch.autograd.grad(total, self.logits)[0]

    def value(self, prefix: Choices) -> float:
        """The expected reward to go at a prefix, under the policy."""
        found = 0.0
        for y in self.trajectories:
            if y[: len(prefix)] == prefix and len(y) > len(prefix):
                left = self.logprobs(y)[len(prefix) :].sum().exp()
                found += (left * self.by_choice(self.reward, y)[len(prefix) :].sum()).item()
        return found

    def row(self, y: Choices, episode: int = 0, train: bool = True) -> Rollout:
        """The trajectory as a rollout; with ``answers`` every choice but the last is followed by the environment's."""
        rewards = self.by_choice(self.reward, y).tolist()
        tokens, mask, parts = [], [], []
        for t, token in enumerate(y):
            tokens.append(token)
            mask.append(True)
            if self.answers and t + 1 < len(y):
                tokens.append(0)
                mask.append(False)
            parts.append(RewardPart(len(tokens) - 1, rewards[t], "step"))
        row = rollout(len(tokens), episode=episode, mask=mask, tokens=tokens, train=train)
        return replace(row, rewards=tuple(parts))

    def batch(
        self, many: Sequence[Choices], trained: int, values: Numbers | None = None, sampler: Tensor | None = None
    ) -> Batch:
        """One group of these trajectories, the first ``trained`` to learn from, annotated for any algorithm."""
        rows = [self.row(y, episode, train=episode < trained) for episode, y in enumerate(many)]
        batch = batch_of(rows, max_tokens=self.longest)
        with torch.no_grad():
            batch = replace(batch, old_logprobs=self.place(batch, [self.logprobs(y) for y in many]))
            batch = replace(batch, ref_logprobs=self.place(batch, [self.logprobs(y, self.reference) for y in many]))
            if sampler is not None:
                batch = replace(batch, sampler_logprobs=self.place(batch, [self.logprobs(y, sampler) for y in many]))
        if values is not None:
            states = [torch.tensor([values(y[:t]) for t in range(len(y))], dtype=torch.float64) for y in many]
            batch = replace(batch, values=self.place(batch, states))
        return batch

    def place(self, batch: Batch, by_choice: Sequence[Tensor]) -> Tensor:
        """[B, T] numbers by choice at the tokens that were chosen."""
        flat = torch.cat(list(by_choice))
        return torch.zeros(batch.tokens.shape, dtype=torch.float64).masked_scatter(batch.mask, flat)

    def gradient(self, batch: Batch, algo: Algorithm, many: Sequence[Choices]) -> Tensor:
        """What one training step ascends: minus the gradient of the loss, through the production path."""
        batch = algo.loss.prepare(batch)
        logprobs = self.place(batch, [self.logprobs(y) for y in many])
        loss, _ = algo.loss(Outputs(logprobs, torch.zeros_like(logprobs)), batch)
        return -torch.autograd.grad(loss, self.logits)[0]

    def draws(self, size: int, sampler: Tensor | None = None) -> Iterator[tuple[float, list[Choices]]]:
        """Every group of this size with its probability."""
        chances = {y: self.probability(y, sampler) for y in self.trajectories}
        for many in product(self.trajectories, repeat=size):
            probability = 1.0
            for y in many:
                probability *= chances[y]
            yield probability, list(many)

    def expected(
        self,
        algo: Algorithm,
        size: int = 1,
        *,
        credit: Callable[[Batch], Batch] | None = None,
        values: Numbers | None = None,
        sampler: Tensor | None = None,
    ) -> tuple[Tensor, float]:
        """The mean of the estimated gradient over everything that can be sampled, and its variance (summed over entries)."""
        mean, square = torch.zeros_like(self.logits), 0.0
        beside = [self.greedy] if algo.needs_greedy else []
        for probability, drawn in self.draws(size, sampler):
            many = [*drawn, *beside]
            batch = self.batch(many, size, values, sampler)
            batch = credit(batch) if credit else algo.credit(batch, algo.init())
            found = self.gradient(batch, algo, many)
            mean = mean + probability * found
            square += probability * float(found.square().sum())
        return mean, square - float(mean.square().sum())


def distance(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).norm() / exact.norm())


def best_factor(found: Tensor, exact: Tensor) -> float:
    """The multiple of the exact gradient that is nearest to what was found."""
    return float((found * exact).sum() / exact.square().sum())


def angle_off(found: Tensor, exact: Tensor) -> float:
    """How far from every multiple of the exact gradient: 0 for the right direction."""
    return distance(found, best_factor(found, exact) * exact)
