"""What a preference judges an answer by: one number a row, the implicit reward, from log-probs or from a head.

A score is a product of parts: which tokens it reads, how their numbers become one, and, against a reference, which
divergence from it is paid for. Neither padding nor tokens outside the mask ever enter.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from burnish.errors import InputError
from burnish.types import Batch, Head, Outputs

Read = Callable[[Batch], Tensor]
"""``batch -> mask [B, T]``: the tokens a score reads."""

Reduce = Callable[[Tensor, Tensor, Batch], Tensor]
"""``(values [B, T], mask [B, T], batch) -> [B]``"""

Slope = Callable[[Tensor], Tensor]
"""``u -> f'(e^u)`` elementwise: the derivative of the divergence's f at the ratio pi/pi_ref, given its logarithm u."""


def trained(batch: Batch) -> Tensor:
    """Every token the policy has to emit."""
    return batch.mask


def content(batch: Batch) -> Tensor:
    """Those that are not formatting, by ``batch.extras["content"]`` (Llama 3, arXiv:2407.21783).

    The end of turn is in both answers of a pair: raised in one and lowered in the other, it is a contradiction.
    """
    if not isinstance(batch.extras.get("content"), tuple):
        raise InputError("this loss leaves formatting tokens out, but the batch does not mark them: fill 'content'")
    return batch.mask & batch.extra("content")


def total(values: Tensor, mask: Tensor, batch: Batch) -> Tensor:  # noqa: ARG001 - part of the interface
    """``sum_t v_t``: of the whole answer."""
    return torch.where(mask, values, 0.0).sum(1)


def average(values: Tensor, mask: Tensor, batch: Batch) -> Tensor:
    """``1/|y| sum_t v_t``: long and short answers weigh alike."""
    return total(values, mask, batch) / mask.sum(1).clamp(min=1)


@dataclass(frozen=True)
class Desensitised:
    """``sum_{t <= c} v_t + alpha sum_{t > c} v_t`` with c the length common to the answers (LD-DPO, arXiv:2409.06411).

    c is the shortest answer of the unit: that of the pair, and among K ranked answers one stretch for all pairs of them.
    ``alpha`` 1 is :func:`total`, 0 forgets what only the longer answer has.
    """

    alpha: float = 0.5

    def __call__(self, values: Tensor, mask: Tensor, batch: Batch) -> Tensor:
        _, unit = torch.unique(batch.units, return_inverse=True)
        lengths = torch.where(batch.train, mask.sum(1), mask.shape[1])
        common = lengths.new_full((len(lengths),), mask.shape[1]).scatter_reduce(0, unit, lengths, "amin")[unit]
        return total(torch.where(mask.cumsum(1) <= common[:, None], values, self.alpha * values), mask, batch)


def reverse_kl(u: Tensor) -> Tensor:
    """``u``: of KL(pi || pi_ref), up to a constant that no pair sees. DPO's."""
    return u


def forward_kl(u: Tensor) -> Tensor:
    """``-e^{-u}``: of KL(pi_ref || pi). Reward for more probability runs out, the price of less has no bound."""
    return -_exp(-u)


def jensen_shannon(u: Tensor) -> Tensor:
    """``log(2 e^u / (1 + e^u))``: of the Jensen-Shannon divergence. Reward for more probability ends at log 2."""
    return math.log(2) + logsigmoid(u)


@dataclass(frozen=True)
class Alpha:
    """``(1 - e^{-a u}) / a``, 0 < a < 1: of the alpha-divergence, between the two KLs (a to 0 reverse, a to 1 forward)."""

    a: float = 0.5

    def __call__(self, u: Tensor) -> Tensor:
        return (1 - _exp(-self.a * u)) / self.a


LARGEST = 40.0
"""Beyond this exponent an exponential goes on as its tangent: still a number, and a gradient, in single precision."""


def _exp(x: Tensor) -> Tensor:
    return torch.exp(x.clamp(max=LARGEST)) * (1 + (x - LARGEST).clamp(min=0))


class Score(ABC):
    """One number a row, larger for what the model prefers. What it needs follows from its class."""

    needs_logprobs = True
    needs_reference = False

    @property
    def heads(self) -> Mapping[str, Head]:
        """The heads that have to be there."""
        return MappingProxyType({})

    @abstractmethod
    def __call__(self, outputs: Outputs, batch: Batch) -> Tensor: ...

    def anchor(self, outputs: Outputs, batch: Batch) -> Tensor:  # noqa: ARG002 - what has no reference has none
        """[B] what the reference contributes: the score is a number of the policy's less this one."""
        return torch.zeros_like(outputs.logprobs[:, 0])


@dataclass(frozen=True)
class LogRatio(Score):
    """``beta f'(pi/pi_ref)``: DPO's implicit reward ``beta log pi(y)/pi_ref(y)`` unless told otherwise (arXiv:2305.18290).

    The reward whose best policy, at the price ``beta D_f(pi, pi_ref)``, is this policy, up to a number of the prompt's;
    ``slope`` is f' (f-DPO, arXiv:2309.16240). ``reduce`` :func:`average` reads the ratio per token. Neighbour:
    :class:`LogProb` has no reference.
    """

    beta: float = 0.1
    reduce: Reduce = total
    read: Read = trained
    slope: Slope = reverse_kl

    needs_reference = True

    def __call__(self, outputs: Outputs, batch: Batch) -> Tensor:
        ratio = outputs.logprobs - _reference(outputs, batch)
        return self.beta * self.slope(self.reduce(ratio, self.read(batch), batch))

    def anchor(self, outputs: Outputs, batch: Batch) -> Tensor:
        if self.slope is not reverse_kl:
            raise InputError("only the reverse KL has a part that is the reference's alone: leave out the slope")
        return self.beta * self.reduce(_reference(outputs, batch), self.read(batch), batch)


@dataclass(frozen=True)
class LogProb(Score):
    """``beta log pi(y)``: the likelihood itself (SLiC, CPO), or per token with ``reduce`` :func:`average` (SimPO)."""

    beta: float = 1.0
    reduce: Reduce = total
    read: Read = trained

    def __call__(self, outputs: Outputs, batch: Batch) -> Tensor:
        return self.beta * self.reduce(outputs.logprobs, self.read(batch), batch)


@dataclass(frozen=True)
class LogOdds(Score):
    """``log P/(1 - P)`` with ``log P = 1/|y| log pi(y)`` (ORPO, arXiv:2403.07691).

    A mean log-prob nearer to 0 than the precision of its numbers counts as that near: the odds stay finite.
    """

    read: Read = trained

    def __call__(self, outputs: Outputs, batch: Batch) -> Tensor:
        mean = average(outputs.logprobs, self.read(batch), batch)
        mean = mean.clamp(max=-torch.finfo(mean.dtype).eps)
        return mean - log1mexp(mean)


def log1mexp(x: Tensor) -> Tensor:
    """``log(1 - e^x)`` for x < 0, exact on both ends. Each branch sees only what it can digest: so does its gradient."""
    near, far = x.clamp(min=-math.log(2)), x.clamp(max=-math.log(2))
    return torch.where(x > -math.log(2), torch.log(-torch.expm1(near)), torch.log1p(-torch.exp(far)))


@dataclass(frozen=True)
class HeadScore(Score):
    """``head(x, y)``, one number at the last token: a reward model's score. No log-probs are computed for it."""

    name: str = "score"
    head: Head = field(default_factory=lambda: Head(at="last"))

    needs_logprobs = False

    @property
    def heads(self) -> Mapping[str, Head]:
        return {self.name: self.head}

    def __call__(self, outputs: Outputs, batch: Batch) -> Tensor:  # noqa: ARG002 - part of the interface
        return outputs.heads[self.name]


def _reference(outputs: Outputs, batch: Batch) -> Tensor:
    assert batch.ref_logprobs is not None
    return batch.ref_logprobs.detach().to(outputs.logprobs.dtype)
