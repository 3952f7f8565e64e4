"""Ten papers, ten lines: an algorithm is a frozen product of small choices.

Minimised per optimizer step: ``sum over tokens of w (S(A) + beta KL - alpha H)``. The parts are in ``advantages``,
``surrogates``, ``kl`` and ``aggregate``; what an algorithm needs (a reference policy, say) follows from them. A new paper is
one line here, or one new dataclass plus one line. The string under each constant is its documentation:
``burnish explain NAME`` prints it.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from burnish.core.advantages import EMA, Advantage, GroupMean, LeaveOneOut, State
from burnish.core.aggregate import Aggregate, constant, seq_mean_token_mean, seq_mean_token_sum
from burnish.core.kl import KL, k1, k3
from burnish.core.losses import PolicyLoss
from burnish.core.surrogates import Clip, Plain, Surrogate
from burnish.errors import unknown
from burnish.types import Batch


@dataclass(frozen=True)
class Algorithm:
    """advantage x surrogate x aggregation x KL (in the loss or in the reward) x entropy bonus."""

    advantage: Advantage
    surrogate: Surrogate
    aggregate: Aggregate
    kl: KL | None = None
    reward_kl: KL | None = None
    entropy: float = 0.0

    @property
    def loss(self) -> PolicyLoss:
        return PolicyLoss(self.surrogate, self.aggregate, self.kl, self.entropy)

    @property
    def needs_reference(self) -> bool:
        return self.kl is not None or self.reward_kl is not None

    @property
    def needs_old_logprobs(self) -> bool:
        """Whether the log-probs before the update are wanted even when the batch is used for a single update."""
        return self.reward_kl is not None

    def init(self) -> State:
        return self.advantage.init()

    def update(self, state: State, batch: Batch) -> State:
        """The state after a rollout batch has been used. Pure."""
        return self.advantage.update(state, batch)

    def credit(self, batch: Batch, state: State) -> Batch:
        """Rewards to advantages, on the whole rollout batch.

        A KL in the reward is subtracted here, ``r_t - beta * k(log pi_old, log pi_ref)``; ``token_rewards`` stay as given.
        """
        assert batch.token_rewards is not None
        rewards = batch.token_rewards
        if self.reward_kl is not None:
            assert batch.old_logprobs is not None and batch.ref_logprobs is not None
            penalty = self.reward_kl.estimator(batch.old_logprobs, batch.ref_logprobs)
            rewards = rewards - self.reward_kl.coef * penalty * batch.mask
        return replace(batch, advantages=self.advantage(batch, rewards, state))

    def idle(self, batch: Batch) -> Tensor:
        """[B] True for rows that add nothing to any gradient, which the loop may leave out of the forward pass.

        With a KL or an entropy term every row counts. Weights are computed before rows are left out, so the gradient is
        the same to the last bit of the sum.
        """
        assert batch.advantages is not None
        silent = (batch.advantages == 0).all(1) | ~batch.train
        return silent if self.kl is None and not self.entropy else torch.zeros_like(silent)


REINFORCE = Algorithm(EMA(0.9), Plain(), seq_mean_token_sum)
"""REINFORCE with a running-mean baseline (Williams 1992).

    grad J = E[ (R(x, y) - b) grad log pi(y | x) ],   b = running mean of earlier rewards

Any b that does not depend on y keeps the gradient unbiased and lowers its variance. Neighbour: RLOO takes b from the other
samples of the same prompt, so it knows how hard the prompt is."""

RLOO = Algorithm(LeaveOneOut(), Plain(), seq_mean_token_sum, reward_kl=KL(k1, 0.05))
"""RLOO, REINFORCE leave-one-out (arXiv:2402.14740).

    A_i = r_i - 1/(G-1) sum_{j != i} r_j,   r = R - beta (log pi_old - log pi_ref),   loss = -1/N sum_i A_i log pi(y_i | x)

Unbiased: the baseline of a sample does not contain its own reward. Neighbour: GRPO centres with the mean of all samples,
divides by their standard deviation, clips a ratio and puts the KL in the loss."""

GRPO = Algorithm(GroupMean(std=True), Clip(0.2, 0.2), seq_mean_token_mean, kl=KL(k3, 0.04))
"""GRPO, group relative policy optimization (DeepSeekMath, arXiv:2402.03300).

    A_i = (r_i - mean r) / std r,   rho_t = pi(y_t) / pi_old(y_t)
    loss = 1/N sum_i 1/|y_i| sum_t [ -min(rho_t A_i, clip(rho_t, 1 - .2, 1 + .2) A_i) + beta k3_t ],   beta = .04

No critic: the group is the baseline. The clip range is a choice: the paper does not print it. Neighbour: Dr. GRPO drops
the two normalisations (1/|y_i| and 1/std) that bias the gradient."""

DR_GRPO = Algorithm(GroupMean(std=False), Clip(0.2, 0.2), constant())
"""Dr. GRPO, GRPO done right (arXiv:2503.20783).

    A_i = r_i - mean r,   loss = 1/(N L) sum_i sum_t -min(rho_t A_i, clip(rho_t) A_i),   L = the sampling limit, beta = 0

Without 1/|y_i| a long wrong answer is no longer punished less per token than a short one; without 1/std an easy prompt no
longer weighs more than a balanced one. Neighbour: RLOO, up to the factor G/(G-1), the clip and the constant L."""


def table() -> dict[str, Algorithm]:
    """Every named algorithm of this module, by its lower-case name."""
    return {name.lower(): value for name, value in globals().items() if isinstance(value, Algorithm)}


def get(name: str) -> Algorithm:
    """The algorithm of that name, in any case, with ``-`` or ``_``. Raises InputError naming the nearest one."""
    known = table()
    key = name.lower().replace("-", "_")
    if key not in known:
        raise unknown("algorithm", name, known)
    return known[key]


def notes() -> Mapping[str, str]:
    """The documentation string under each constant of this file, by lower-case name."""
    body = ast.parse(Path(__file__).read_text(encoding="utf-8")).body
    found: dict[str, str] = {}
    for here, below in pairwise(body):
        if (
            isinstance(here, ast.Assign)
            and isinstance(here.targets[0], ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
            and isinstance(below.value.value, str)
        ):
            found[here.targets[0].id.lower()] = below.value.value
    return found
