"""Preference losses as products: score x link x optional NLL, each a small choice.

Minimised per optimizer step: ``coef * mean over units of link(scores) + nll * NLL of the best answers``. Scores (implicit
rewards) are in ``scores``, links in ``links``; what a loss needs (a reference, a head, statistics of the batch) follows from
its parts. The string under each constant is its documentation: ``burnish explain NAME`` prints it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from burnish.core import named
from burnish.core.aggregate import Aggregate, seq_mean_token_mean, seq_mean_token_sum, token_mean
from burnish.core.links import (
    AnchoredDown,
    AnchoredZero,
    Contrast,
    GapKL,
    GapSquare,
    Hinge,
    Link,
    Logistic,
    LogRatioModulated,
    ReverseKL,
    Robust,
    SelfPlay,
    Square,
)
from burnish.core.pointwise import Classify, Prospect
from burnish.core.scores import (
    Alpha,
    Desensitised,
    LogOdds,
    LogProb,
    LogRatio,
    Score,
    average,
    content,
    forward_kl,
    jensen_shannon,
)
from burnish.core.transport import PairTransport, SideTransport
from burnish.core.units import Pairs
from burnish.errors import InputError
from burnish.types import Batch, Metrics, Needs, Outputs

Trust = Callable[[Outputs, Batch], Tensor]
"""``(outputs, batch) -> [B]``: how much a row counts, a constant."""


def likelihood(outputs: Outputs, batch: Batch) -> Tensor:
    """``pi(y)^(1/|y|)``: how much like its own an answer is to the policy (WPO, arXiv:2406.11827)."""
    return torch.exp(average(outputs.logprobs.detach(), batch.mask, batch))


@dataclass(frozen=True)
class Preference:
    """``coef * link(score) + nll * mean of -log pi(best answers)``, a loss of comparisons.

    The score reads the tokens of its own mask; the NLL reads all of ``batch.mask``, of the best answer of every unit,
    averaged by ``aggregate``. ``trust`` weighs every row by a number in which no gradient flows.
    """

    score: Score
    link: Link
    coef: float = 1.0
    nll: float = 0.0
    aggregate: Aggregate = token_mean
    trust: Trust | None = None

    def __post_init__(self) -> None:
        if self.trust is not None and not self.link.takes_trust:
            raise InputError(
                "this link compares whole distributions, which leaves no row to weigh: leave out the trust"
            )

    @property
    def needs(self) -> Needs:
        return Needs(
            logprobs=self.score.needs_logprobs or bool(self.nll) or self.trust is not None,
            reference=self.score.needs_reference,
            statistics=self.link.needs_statistics,
            mismatched=self.link.needs_mismatched,
            heads=self.score.heads,
        )

    def prepare(self, batch: Batch, outputs: Outputs | None = None) -> Batch:
        """Weights of the global mini-batch, and its statistics where ``needs.statistics`` (``outputs`` are then read)."""
        weights = {**batch.weights, "preference": self.link.weigh(batch)}
        if self.nll:
            imitated = replace(batch, train=batch.train & self.link.best(batch))
            weights["nll"] = self.aggregate(imitated, batch.mask)
        batch = replace(batch, weights=weights)
        if self.needs.statistics:
            assert outputs is not None
            with torch.no_grad():
                batch = self.link.measure(self.score, outputs, batch)
        return batch

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Metrics]:
        scores = self.score(outputs, batch)
        trust = None if self.trust is None else self.trust(outputs, batch).detach()
        linked, metrics = self.link(scores, trust, batch)
        loss = self.coef * linked
        if self.nll:
            nll = -torch.where(batch.mask, outputs.logprobs, 0.0)
            loss = loss + self.nll * (batch.weights["nll"].to(nll.dtype) * nll).sum()
            metrics = {**metrics, "nll": _sums(nll, batch.mask & self.link.best(batch)[:, None])}
        metrics = {**metrics, **self._watch(scores.detach(), outputs, batch)}
        return loss, {**metrics, "loss": (float(loss.detach()), float(batch.weights["preference"].sum()))}

    def _watch(self, scores: Tensor, outputs: Outputs, batch: Batch) -> Metrics:
        """Scores and log-probs (of whole answers, in nats) of both sides; margin and accuracy over all pairs."""
        pairs, (chosen, rejected) = Pairs.of(batch), self.link.sides(batch)
        margin = scores[pairs.better] - scores[pairs.worse]
        right = (margin > 0).to(scores.dtype) + (margin == 0).to(scores.dtype) / 2
        metrics: Metrics = {
            "reward/chosen": _sums(scores, chosen),
            "reward/rejected": _sums(scores, rejected),
            "reward/margin": _sums(margin, pairs.share),
            "reward/accuracy": _sums(right, pairs.share),
        }
        if self.needs.logprobs:
            logprobs = torch.where(batch.mask, outputs.logprobs.detach(), 0.0).sum(1)
            metrics["logprobs/chosen"] = _sums(logprobs, chosen)
            metrics["logprobs/rejected"] = _sums(logprobs, rejected)
        return metrics


def _sums(values: Tensor, weight: Tensor) -> tuple[float, float]:
    return float((values.detach() * weight).sum()), float(weight.sum())


DPO = Preference(LogRatio(0.1), Logistic())
"""DPO, direct preference optimization (arXiv:2305.18290).

    s = beta log pi(y)/pi_ref(y),   loss = -log sigma(s_w - s_l),   beta = .1

The reward model of RLHF and its policy in one: s is the reward, up to beta log Z(x), for which pi is the best policy at the
price beta KL(pi || pi_ref). Only the difference is trained, so both log-probs may fall. Neighbour: a Bradley-Terry reward
model has the same loss of a scalar head."""

CDPO = Preference(LogRatio(0.1), Logistic(smoothing=0.1))
"""Conservative DPO (Mitchell 2023, "A note on DPO with noisy preferences").

    loss = -(1 - e) log sigma(s_w - s_l) - e log sigma(s_l - s_w),   e = .1

Labels are wrong with probability e, so the margin rests at log((1 - e)/e) and does not grow for ever. e is a choice.
Neighbour: ROBUST has the other sign of e."""

ROBUST = Preference(LogRatio(0.1), Robust(0.1))
"""Robust DPO (arXiv:2403.00409).

    loss = [-(1 - e) log sigma(s_w - s_l) + e log sigma(s_l - s_w)] / (1 - 2e),   e = .1

Its mean over flipped labels is DPO's loss of the true ones; in exchange it is not bounded below. Neighbour: CDPO smooths."""

IPO = Preference(LogRatio(1.0), Square(0.1))
"""IPO, identity preference optimization (arXiv:2310.12036).

    loss = (h - 1/(2 tau))^2,   h = log pi(y_w)/pi_ref(y_w) - log pi(y_l)/pi_ref(y_l),   tau = .1

A regression to a finite margin: a pair that is always ordered the same way does not drive the policy to certainty. h is the
paper's, of whole answers. TRL takes means over tokens, ``LogRatio(1.0, average)`` here, which it says the authors ran: the
closed form is then of per-token ratios. Neighbour: DPO's margin never ends."""

SLIC = Preference(LogProb(), Hinge(1.0), nll=0.5, aggregate=seq_mean_token_sum)
"""SLiC-HF, sequence likelihood calibration (arXiv:2305.10425).

    loss = max(0, delta - log pi(y_w) + log pi(y_l)) - lambda log pi(y_w),   delta = 1, lambda = .5

No reference: the likelihood term holds the policy. lambda is a choice; the paper's target there is the best-ranked answer or
that of the demonstrations. TRL's "hinge" is another loss: ``Hinge`` of DPO's score. Neighbour: CPO is its smooth form."""

SIMPO = Preference(LogProb(2.0, average), Logistic(margin=0.5))
"""SimPO (arXiv:2405.14734).

    s = beta/|y| log pi(y),   loss = -log sigma(s_w - s_l - gamma),   beta = 2, gamma = .5 (the authors' code)

Trains what decoding ranks by: the mean log-prob, with a margin, without a reference. The paper tunes beta from 2 to 2.5 and
gamma from .3 to 1.6. Neighbour: CPO sums, has no margin, and adds the likelihood."""

CPO = Preference(LogProb(0.1), Logistic(), nll=1.0)
"""CPO, contrastive preference optimization (arXiv:2401.08417).

    s = beta log pi(y),   loss = -log sigma(s_w - s_l) - log pi(y_w),   beta = .1

DPO with a uniform reference, so none is held; the second term keeps the policy near the better answers. It is a mean over
tokens, as in the authors' code. Neighbour: ORPO compares odds per token."""

ORPO = Preference(LogOdds(), Logistic(), coef=0.1, nll=1.0)
"""ORPO, odds ratio preference optimization (arXiv:2403.07691).

    log P = 1/|y| log pi(y),   loss = -log pi(y_w) - lambda log sigma(log P_w/(1 - P_w) - log P_l/(1 - P_l)),   lambda = .1

One stage from a base model: imitation, with a small push against the rejected answer. The first term is a mean over tokens,
as in the authors' code, and only of the answer: their loss of the prompt, kept by TRL, is left out. Zephyr 141B has lambda
.05. Neighbour: lambda 0 is SFT."""

SFT = replace(ORPO, coef=0.0)
"""Supervised fine-tuning on the chosen answers.

    loss = -mean_t log pi(y_w,t)

The baseline of every table: what the preferred answers teach without the others. Neighbour: ORPO with lambda 0."""

KTO = Preference(LogRatio(0.1), Prospect())
"""KTO, Kahneman-Tversky optimization (arXiv:2402.01306).

    good: lambda_D (1 - sigma(s - z)),   bad: lambda_U (1 - sigma(z - s)),   z = max(0, beta KL(pi || pi_ref)),   beta = .1

Single answers with a thumb up or down; pairs count as two. z is the mean score of answers to other prompts, over the whole
mini-batch (TRL: over what lies on one device), without a gradient. Keep lambda_D n_good / (lambda_U n_bad) near 1.
Neighbour: BCO classifies, with a log loss."""

BCO = Preference(LogRatio(0.01), Classify())
"""BCO, binary classifier optimization (arXiv:2404.04656).

    good: -log sigma(s - d),   bad: -log sigma(d - s),   d = (mean of s_good + mean of s_bad)/2,   beta = .01

An upper bound of DPO's loss that needs no pairs. d is that of the mini-batch, where the paper has a moving average: a
stateless form, exact for large batches. TRL's "bco_pair" is without d. The weights against a shift of the prompts between
good and bad data are left out. Neighbour: KTO."""

NCA = Preference(LogRatio(0.01), Contrast())
"""NCA, noise contrastive alignment, of pairs (arXiv:2402.05369).

    loss = -log sigma(s_w) - 1/2 log sigma(-s_w) - 1/2 log sigma(-s_l),   beta = .01

Absolute likelihoods: the better answer's score settles above 0, where DPO lets it sink as long as the other sinks faster."""

EXO = Preference(LogRatio(0.5), ReverseKL(1e-3))
"""EXO, efficient exact optimization, of pairs (arXiv:2402.00856).

    loss = KL(sigma(h) || 1 - e) = sigma(h) log(sigma(h)/(1 - e)) + sigma(-h) log(sigma(-h)/e),   h = s_w - s_l

beta = .5 (the authors' scripts), e = 1e-3. The direction of RL's own KL: it seeks a mode. Neighbour: DPO is the other
direction, at e = 0."""

APO_ZERO = Preference(LogRatio(0.1), AnchoredZero())
"""APO-zero, anchored preference optimization (arXiv:2408.06266).

    loss = 1 - sigma(s_w) + sigma(s_l),   beta = .1

For chosen answers better than the policy's own: up they go, and the rejected ones down. Neighbour: APO-down."""

APO_DOWN = Preference(LogRatio(0.1), AnchoredDown())
"""APO-down (arXiv:2408.06266).

    loss = sigma(s_w) + 1 - sigma(s_w - s_l),   beta = .1

For chosen answers worse than the policy's own: both go down, the rejected ones further. Neighbour: APO-zero."""

AOT = Preference(LogRatio(0.1), PairTransport())
"""AOT, alignment via optimal transport, for pairs (arXiv:2406.05882).

    u_i = beta (log pi(y_w) - log pi(y_l)),   v_i = beta (log pi_ref(y_w) - log pi_ref(y_l))
    loss = -mean_i log sigma(u_(i) - v_(i))

Both sorted over the whole mini-batch (TRL: over one device's): the distribution of margins is moved, not each pair's own.
beta = .1 is a choice. Neighbour: DPO is the same without sorting."""

AOT_UNPAIRED = Preference(LogRatio(0.1), SideTransport())
"""AOT for single labelled answers (arXiv:2406.05882).

    loss = -mean_i log sigma(s+_(i) - s-_(i))

The sorted scores of all good answers against those of all bad ones: first-order dominance. Unequal counts split mass, where
TRL needs equal ones. Neighbour: KTO compares every score with one number."""

SPPO = Preference(LogRatio(1.0), SelfPlay(1e3))
"""SPPO, self-play preference optimization (arXiv:2405.00675).

    loss = (log pi(y_w)/pi_ref(y_w) - eta (P - 1/2))^2 + (log pi(y_l)/pi_ref(y_l) - eta (1/2 - P))^2,   eta = 1000

P is the probability that y_w wins, the label if there is one, else 1 (the hard form). Played in rounds, each with the last
policy as reference. Neighbour: IPO regresses the difference."""

DISCOPOP = Preference(LogRatio(0.05), LogRatioModulated(0.05))
"""DiscoPOP, log-ratio modulated loss (arXiv:2406.08414), found by a language model.

    loss = (1 - q) (-log sigma(h)) + q e^{-h},   q = sigma(h/tau),   h = s_w - s_l,   beta = tau = .05

Not convex: a pair in the wrong order has DPO's slope, one slightly right is pushed harder. Neighbour: DPO."""

RPO = Preference(LogRatio(0.2), GapKL(1.0))
"""RPO, reward-aware preference optimization, backward KL (Nemotron-4, arXiv:2406.11704).

    a = s_w - s_l,   g = eta (r_w - r_l),   loss = KL(sigma(g) || sigma(a)),   beta = .2, eta = 1 (NeMo's defaults)

r are known rewards (target "score"): near ties get a small margin, so good answers that lost are not unlearnt. Nemotron adds
an NLL of 1e-5. Neighbour: DPO is g to infinity."""

RPO_FORWARD = Preference(LogRatio(0.2), GapKL(1.0, backward=False))
"""RPO with the forward KL of NeMo (arXiv:2406.11704).

    loss = KL(sigma(a) || sigma(g))

Neighbour: RPO, the other direction; EXO, where a smoothed label takes the place of sigma(g)."""

RPO_SQUARED = Preference(LogRatio(0.2), GapSquare(1.0))
"""RPO with a squared distance (arXiv:2406.11704).

    loss = (a - g)^2

Neighbour: IPO is the same at one fixed gap for all pairs."""

ODPO = Preference(LogRatio(0.1), Logistic(odds=1.0))
"""ODPO, DPO with an offset (arXiv:2402.10571).

    loss = -log sigma(s_w - s_l - alpha log(r_w - r_l)),   alpha = 1

A margin that grows with how much better the answer is (target "score"). alpha and beta are choices. Neighbour: RPO matches
the gap; this asks for more than it."""

LLAMA3 = Preference(LogRatio(0.1, read=content), Logistic(), nll=0.2, aggregate=seq_mean_token_mean)
"""Llama 3's DPO (arXiv:2407.21783).

    loss = DPO of the content tokens + .2 (-1/|y_w| log pi(y_w)),   beta = .1

Formatting tokens, which end both answers, are out of the first term and in the second. Sum or mean is not printed there; the
mean is that of the work it cites (arXiv:2404.19733). Neighbour: DPO reads every token."""

DPO_NORM = Preference(LogRatio(5.0, average), Logistic())
"""DPO, length-normalised (Tulu 3, arXiv:2411.15124).

    s = beta/|y| log pi(y)/pi_ref(y),   beta = 5

A long answer has no larger say. Neighbour: SIMPO, without the reference."""

LD_DPO = Preference(LogRatio(0.1, Desensitised(0.5)), Logistic())
"""LD-DPO, length-desensitised (arXiv:2409.06411).

    s = beta (sum_{t <= c} u_t + alpha sum_{t > c} u_t),   c = min(|y_w|, |y_l|),   alpha = .5

u_t is the log-ratio of a token. What the longer answer has beyond the shorter one counts less; alpha is a choice (the paper
tunes it for each model). Neighbour: DPO at alpha 1."""

FDPO_JS = Preference(LogRatio(0.1, slope=jensen_shannon), Logistic())
"""f-DPO with the Jensen-Shannon divergence (arXiv:2309.16240).

    s = beta log(2 t/(1 + t)),   t = pi(y)/pi_ref(y),   beta = .1

Reward for more probability ends at beta log 2: diversity is kept. Neighbour: DPO, s = beta log t."""

FDPO_FORWARD = Preference(LogRatio(0.1, slope=forward_kl), Logistic())
"""f-DPO with the forward KL (arXiv:2309.16240).

    s = -beta/t,   t = pi(y)/pi_ref(y),   beta = .1

The strictest of the family about losing what the reference does. Beyond t = e^-40 the score goes on as a line in log t."""

FDPO_ALPHA = Preference(LogRatio(0.1, slope=Alpha(0.5)), Logistic())
"""f-DPO with an alpha-divergence (arXiv:2309.16240).

    s = beta (1 - t^-alpha)/alpha,   t = pi(y)/pi_ref(y),   alpha = .5, beta = .1

Between DPO (alpha to 0) and the forward KL (alpha to 1). TRL's coefficient is 1 - alpha."""

WPO = Preference(LogRatio(0.01), Logistic(), trust=likelihood)
"""WPO, weighted preference optimization (arXiv:2406.11827).

    loss = -w_w w_l log sigma(s_w - s_l),   w = pi(y)^(1/|y|) without a gradient,   beta = .01

Old data count as much as the policy could have written them itself. The paper's main form also divides each token's
probability by sum_v pi(v)^2, which needs the whole distribution; this is its plain one. Neighbour: DPO at w = 1."""


def table() -> dict[str, Preference]:
    """Every named loss of this module, by its lower-case name."""
    return named.constants(globals(), Preference)


def get(name: str) -> Preference:
    """The loss of that name, in any case, with ``-`` or ``_``. Raises InputError naming the nearest one."""
    return named.find("preference loss", name, table())


def notes() -> dict[str, str]:
    """The documentation string under each constant of this file, by lower-case name."""
    return named.notes(__file__, table())
