"""Ten papers, ten lines: an algorithm is a frozen product of small choices.

Minimised per optimizer step: ``sum over tokens of w (S(A) + beta KL - alpha H)``. The parts are in ``advantages``,
``surrogates``, ``kl`` and ``aggregate``; what an algorithm needs (a reference policy, say) follows from them. A new paper is
one line here, or one new dataclass plus one line. The string under each constant is its documentation:
``burnish explain NAME`` prints it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from burnish.core import named
from burnish.core.advantages import EMA, Advantage, Greedy, GroupMean, LeaveOneOut, State
from burnish.core.aggregate import Aggregate, constant, seq_mean_token_mean, seq_mean_token_sum, token_mean
from burnish.core.corrections import Correction
from burnish.core.episodes import Episodes
from burnish.core.kl import KL, k1, k2, k3, old
from burnish.core.levels import sequence, sequence_mean
from burnish.core.losses import PolicyLoss, ValueLoss
from burnish.core.method import Method
from burnish.core.returns import GAE, ProcessGroup, Return, Whiten
from burnish.core.selection import MixedGroups, Selection
from burnish.core.surrogates import Clip, ClipWeight, Plain, Ratio, Soft, Squared, Surrogate
from burnish.core.trust_region import TrustRegion
from burnish.types import Batch


@dataclass(frozen=True)
class Algorithm(Method):
    """advantage x surrogate x aggregation x KL (in the loss or in the reward) x correction x selection, and some extras.

    ``entropy`` is the weight of an entropy bonus. ``mask_truncated`` keeps completions that hit the limit in the group's
    statistics and out of the loss. ``value_clip`` and ``value_coef`` are the critic's. ``pretraining`` is the weight of the
    language-model loss on pretraining text beside each update (PPO-ptx); ``imitation`` that of the completions with a
    positive reward. With ``trust_region`` the policy takes natural-gradient steps in the place of the optimizer's.
    """

    advantage: Advantage
    surrogate: Surrogate
    aggregate: Aggregate
    kl: KL | None = None
    reward_kl: KL | None = None
    entropy: float = 0.0
    correction: Correction | None = None
    select: Selection | None = None
    mask_truncated: bool = False
    value_clip: float = 0.0
    value_coef: float = 1.0
    pretraining: float = 0.0
    imitation: float = 0.0
    trust_region: TrustRegion | None = None

    @property
    def loss(self) -> PolicyLoss:
        return PolicyLoss(self.surrogate, self.aggregate, self.kl, self.entropy, self.correction, self.imitation)

    @property
    def value_loss(self) -> ValueLoss:
        return ValueLoss(self.value_clip, self.value_coef)

    @property
    def needs_reference(self) -> bool:
        kls = [kl for kl in (self.kl, self.reward_kl) if kl is not None]
        if self.rival:
            return True
        return self.surrogate.needs_reference or any(kl.needs_reference or kl.adapt is not None for kl in kls)

    @property
    def needs_critic(self) -> bool:
        return self.advantage.needs_critic

    @property
    def needs_greedy(self) -> bool:
        return self.advantage.needs_greedy

    @property
    def rival(self) -> float | None:
        return self.advantage.rival

    @property
    def needs_old_logprobs(self) -> bool:
        return self.reward_kl is not None or self._adaptive is not None

    @property
    def _adaptive(self) -> KL | None:
        """The KL whose coefficient follows a target."""
        return next((kl for kl in (self.kl, self.reward_kl) if kl is not None and kl.adapt), None)

    def init(self) -> State:
        kl = self._adaptive
        return {**self.advantage.init(), **({} if kl is None else {"kl_coef": kl.coef})}

    def update(self, state: State, batch: Batch) -> State:
        state = {**state, **self.advantage.update(state, batch)}
        if self._adaptive is not None and self._adaptive.adapt is not None:
            assert batch.old_logprobs is not None and batch.ref_logprobs is not None
            episodes = Episodes.of(batch)
            u = torch.where(batch.mask, batch.old_logprobs - batch.ref_logprobs, 0.0)
            trained = episodes.sums(u)[episodes.train]
            if len(trained):
                state = {**state, "kl_coef": self._adaptive.adapt(state["kl_coef"], float(trained.mean()))}
        return state

    def credit(self, batch: Batch, state: State) -> Batch:
        """Rewards to advantages, and returns where there is a critic, on the whole rollout batch.

        A KL in the reward is subtracted here, ``r_t - beta * k(log pi_old, log pi_ref)``; ``token_rewards`` stay as given.
        """
        assert batch.token_rewards is not None
        rewards = batch.token_rewards
        if self.reward_kl is not None:
            assert batch.old_logprobs is not None
            coef = state["kl_coef"] if self.reward_kl.adapt else self.reward_kl.coef
            penalty = self.reward_kl.per_token(batch.old_logprobs, batch, batch.mask)
            rewards = rewards - coef * torch.where(batch.mask, penalty, 0.0)
        advantages, returns = self.advantage(batch, rewards, state), self.advantage.returns(batch, rewards)
        if self.kl is not None and self.kl.adapt:
            coefs = torch.full((len(batch),), state["kl_coef"], dtype=torch.float64)
            batch = replace(batch, extras={**batch.extras, "kl_coef": ("row", coefs)})
        if self.mask_truncated:
            batch = replace(batch, train=batch.train & ~batch.extra("truncated"))
        return replace(batch, advantages=advantages, returns=returns)


REINFORCE = Algorithm(EMA(0.9), Plain(), seq_mean_token_sum)
"""REINFORCE with a running-mean baseline (Williams 1992).

    grad J = E[ (R(x, y) - b) grad log pi(y | x) ],   b = running mean of earlier rewards

Any b that does not depend on y keeps the gradient unbiased; one near the mean lowers its variance. Neighbour: RLOO takes b
from the other samples of the same prompt, so it knows how hard the prompt is."""

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

REMAX = Algorithm(Greedy(), Plain(), seq_mean_token_sum, reward_kl=KL(k1, 0.05))
"""ReMax (arXiv:2310.10505).

    A = r(x, y) - r(x, greedy y),   loss = -1/N sum_i A_i log pi(y_i | x)

The baseline costs one greedy completion a prompt and no training. The KL coefficient is a choice. Neighbour: RLOO's
baseline comes from samples that are trained on as well."""

REINFORCE_PP = Algorithm(Whiten(Return()), Clip(0.2, 0.2), token_mean, reward_kl=KL(k1, 0.01))
"""REINFORCE++ (arXiv:2501.03262).

    r_t = [t = T] R - beta (log pi_old - log pi_ref),   G_t = sum_{l >= t} r_l,   A_t = (G_t - mean G) / std G over the batch

PPO without a critic: the statistics of the whole batch take its place, so one completion a prompt is enough. The KL
coefficient is a choice. Neighbour: GRPO normalises within the group."""

REINFORCE_PP_BASELINE = Algorithm(Whiten(GroupMean(std=False)), Clip(0.2, 0.2), token_mean, kl=KL(k2, 0.01))
"""REINFORCE++-baseline (arXiv:2501.03262).

    A_i = r_i - mean of the group, then (A - mean A) / std A over the batch;   beta k2 in the loss

Neighbour: GRPO divides by each group's own deviation, which makes nearly solved prompts as loud as balanced ones; here one
deviation serves the batch. The KL coefficient is a choice."""

LITE_PPO = Algorithm(Whiten(GroupMean(std=False), centre=False), Clip(0.2, 0.2), token_mean)
"""Lite PPO (arXiv:2508.08221).

    A_i = (r_i - mean of the group) / std over the batch,   loss = mean over all tokens of the clipped surrogate

Two techniques and nothing else: centring by the group, scale by the batch, tokens weighed alike. The deviation here is that
of the centred rewards over all tokens; the authors' code takes that of the rewards as given. Neighbour:
REINFORCE++-baseline, which adds a KL."""

A2C = Algorithm(GAE(1.0, 1.0), Plain(), token_mean, entropy=0.01)
"""Advantage actor-critic (arXiv:1602.01783), synchronous.

    A_t = G_t - V(s_t),   loss = -mean_t A_t log pi(y_t) - alpha H,   V regressed to G_t

Neighbour: PPO adds the ratio, the clip and GAE; REINFORCE has a number in place of V."""

TRPO = Algorithm(GAE(1.0, 0.95), Ratio(), token_mean, trust_region=TrustRegion(delta=0.01))
"""TRPO, trust region policy optimization (arXiv:1502.05477).

    max mean_t rho_t A_t   subject to   mean_t KL(pi_old(. | t) || pi(. | t)) <= delta,   delta = .01

The step is ``sqrt(2 delta / x F x) x`` with ``F x = g`` solved by conjugate gradient, cut back until the KL holds and the
surrogate gains. There is no learning rate. Small models only, all weights trained. Neighbour: PPO's clip keeps near the old
policy without F."""

PPO = Algorithm(GAE(1.0, 0.95), Clip(0.2, 0.2), token_mean, reward_kl=KL(k1, 0.02), value_clip=0.2)
"""PPO, proximal policy optimization, with a critic (arXiv:1707.06347; for language models arXiv:2203.02155).

    r_t = [t = T] R - beta (log pi_old - log pi_ref),   delta_t = r_t + V(s_{t+1}) - V(s_t),   A_t = sum_l (.95)^l delta_{t+l}
    loss = -mean_t min(rho_t A_t, clip(rho_t, .8, 1.2) A_t);   critic: 1/2 mean_t max((V - R_t)^2, (clip V - R_t)^2)

Clip, no discount and beta = .02 are InstructGPT's; lambda .95 is the common choice. Neighbour: GRPO has the group's mean in
place of the critic."""

PPO_PTX = replace(PPO, pretraining=27.8)
"""PPO-ptx (InstructGPT, arXiv:2203.02155).

    PPO's loss + gamma E[-log pi(x)] on pretraining text x,   gamma = 27.8

Both gradients are added up before each update. Neighbour: PPO forgets more of what it was pretrained on."""

VAPO = Algorithm(
    GAE(1.0, lam_value=1.0, alpha=0.05), Clip(0.2, 0.28), token_mean, value_clip=0.2, imitation=0.1
)  # fmt: skip
"""VAPO (arXiv:2504.05118).

    lam_policy = 1 - 1/(.05 T) for a completion of T tokens, lam_value = 1;   clip to [.8, 1.28];   mean over all tokens
    + .1 x the negative log-likelihood of correct completions

PPO for long reasoning: the critic's target is the unbiased return, and the policy looks further ahead the longer the
completion is. The critic is pretrained first. Neighbour: PPO has one lambda for both and every length. The range of value
clipping is a choice."""

GRPO_PROCESS = replace(GRPO, advantage=ProcessGroup())
"""GRPO with process rewards (DeepSeekMath, arXiv:2402.03300).

    step rewards of all completions of a prompt, normalised together;   A_{i,t} = sum of those of steps ending at or after t

Neighbour: GRPO has one reward a completion, so all of its tokens share one advantage."""

DAPO = Algorithm(GroupMean(std=True), Clip(0.2, 0.28), token_mean, select=MixedGroups())
"""DAPO (arXiv:2503.14476).

    loss = -mean over all tokens of min(rho_t A_i, clip(rho_t, 1 - .2, 1 + .28) A_i),   A_i = (r_i - mean r) / std r
    groups with equal rewards are drawn anew;   no KL

Clip-higher leaves unlikely tokens room to grow. The soft punishment of overlong completions is a reward
(``burnish.rewards.length``), to be added to the task's. Neighbour: GRPO clips on both sides alike and weighs completions."""

GSPO = Algorithm(GroupMean(std=True), Clip(3e-4, 4e-4, level=sequence_mean), seq_mean_token_mean)
"""GSPO, group sequence policy optimization (arXiv:2507.18071).

    s_i = (pi(y_i) / pi_old(y_i))^(1/|y_i|),   loss = -1/N sum_i min(s_i A_i, clip(s_i, 1 - 3e-4, 1 + 4e-4) A_i)

The reward judges the sequence, so the ratio is the sequence's. Neighbour: GRPO's ratio is each token's."""

CISPO = Algorithm(GroupMean(std=True), ClipWeight(low=1.0, high=4.0), token_mean)
"""CISPO (MiniMax-M1, arXiv:2506.13585).

    loss = -mean_t stop(min(rho_t, 1 + high)) A_t log pi(y_t)

The weight is clipped and the token stays: rare tokens that begin a reflection keep their gradient. There is no lower
bound; the upper one is a choice (the paper prints none). Neighbour: DAPO drops the gradient of a clipped token."""

SAPO = Algorithm(GroupMean(std=True), Soft(1.0, 1.05), seq_mean_token_mean)
"""SAPO, soft adaptive policy optimization (arXiv:2511.20347).

    loss = -f(rho_t) A_i,   f(rho) = (4 / tau) sigmoid(tau (rho - 1)),   tau = 1 where A > 0, 1.05 where A < 0

A gate that closes smoothly in place of the clip. Neighbour: GRPO's gate is open or shut."""

KIMI = Algorithm(
    GroupMean(std=False), Plain(), seq_mean_token_sum, kl=KL(k2, 0.1, anchor=old, level=sequence)
)  # fmt: skip
"""The policy update of Kimi k1.5 (arXiv:2501.12599): online mirror descent.

    grad = mean_j [ (r_j - mean r) grad log pi(y_j) - tau/2 grad (log pi(y_j) / pi_old(y_j))^2 ]

The regression ``(r - tau log Z - tau log pi/pi_old)^2``, whose minimum is ``pi_old e^{r/tau} / Z``, with the mean reward for
``tau log Z``, which moves the minimum by order 1/tau^3. Samples stay those of pi_old through all updates, without a ratio.
tau is a choice (unpublished).
Neighbour: at the first update it is REINFORCE with the group's mean."""

APA = Algorithm(GAE(1.0, 0.95), Squared(1.0), token_mean)
"""APA, advantage-induced policy alignment (arXiv:2306.02231).

    loss = mean_t (log pi(y_t) - log pi_ref(y_t) - A_t / lambda)^2,   rewards without a KL;   critic: 1/2 mean_t (V - R_t)^2

The minimum is ``pi_ref e^{A/lambda}`` up to normalisation: the squared distance takes the place of ratio, clip and KL. lambda =
1 is a choice. Neighbour: PPO."""


def table() -> dict[str, Algorithm]:
    """Every named algorithm of this module, by its lower-case name."""
    return named.constants(globals(), Algorithm)


def get(name: str) -> Algorithm:
    """The algorithm of that name, in any case, with ``-`` or ``_``. Raises InputError naming the nearest one."""
    return named.find("algorithm", name, table())


def notes() -> dict[str, str]:
    """The documentation string under each constant of this file, by lower-case name."""
    return named.notes(__file__, table())
