"""Methods on fresh rollouts beside the table of algorithms: completions compared the moment they are sampled, and a teacher
who reads what the student has written."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from burnish.core import named
from burnish.core.advantages import Advantage, State
from burnish.core.aggregate import seq_mean_token_sum
from burnish.core.algorithms import Algorithm
from burnish.core.distil import REVERSE_KL, Distil
from burnish.core.episodes import Episodes
from burnish.core.kl import KL, k2
from burnish.core.levels import sequence
from burnish.core.method import Method
from burnish.core.preference import DPO, Preference
from burnish.core.surrogates import Plain
from burnish.errors import InputError
from burnish.types import Batch, Loss, Metrics, Needs, Outputs, needs_of


@dataclass(frozen=True)
class Versus(Advantage):
    """``A_i = mean_j P(y_i beats y'_j) - 1/2`` over the completions y' of a rival to the same prompt (arXiv:2312.00886).

    P is ``sigma(r_i - r'_j)``, what the Bradley-Terry model makes of two rewards; with ``judged`` the reward of y_i is that
    mean already, given by a judge that has seen both sides (general preferences need not come from any reward).
    """

    rival: float | None = 0.5
    judged: bool = False

    def __call__(self, batch: Batch, rewards: Tensor, state: State) -> Tensor:  # noqa: ARG002
        episodes = Episodes.of(batch)
        score = episodes.sums(rewards)
        if self.judged:
            return episodes.spread(score - 0.5, batch)
        against = (episodes.group[:, None] == episodes.group[None, :]) & ~episodes.train[None, :]
        if not bool(against.any(1).all()):
            raise ValueError("every group needs completions of the rival")
        wins = torch.sigmoid(score[:, None] - score[None, :]) * against
        return episodes.spread(wins.sum(1) / against.sum(1) - 0.5, batch)


@dataclass(frozen=True)
class OnlinePreference(Method):
    """A preference loss on pairs of the policy's own completions, ranked by their rewards at once.

    Without a rival the best and the worst completion of each prompt are a pair; with one the i-th completion of the policy
    and the i-th of the rival are. Equal rewards make no pair. ``optimism`` adds that many times ``log pi`` of the rival's
    completions to the loss. Episodes have one row: tasks of one turn.
    """

    preference: Preference = DPO
    rival: float | None = None
    optimism: float = 0.0

    def __post_init__(self) -> None:
        if self.preference.needs.mismatched:
            raise ValueError("this loss looks at answers to other prompts: it is for fixed data only")
        if self.optimism and self.rival is None:
            raise ValueError("optimism is about the completions of a rival: give one")

    @property
    def loss(self) -> Loss:
        return Optimistic(self.preference, self.optimism) if self.optimism else self.preference

    @property
    def needs_reference(self) -> bool:
        return self.preference.needs.reference or bool(self.rival)

    def credit(self, batch: Batch, state: State) -> Batch:  # noqa: ARG002
        """Ranks, and pairs as units; what is in no pair is not trained on."""
        assert batch.token_rewards is not None
        if len(torch.unique(batch.episodes)) < len(batch):
            raise InputError("episodes of several rows cannot be compared row by row: choose a task of one turn")
        score, own = batch.token_rewards.sum(1), batch.train
        units, ranks = torch.arange(len(batch)), torch.full((len(batch),), -1)
        for better, worse in self._pairs(batch, score):
            units[worse] = units[better]
            ranks[better], ranks[worse] = 0, 1
        extras = {**batch.extras, "rival": ("row", ~own)}
        return replace(batch, units=units, ranks=ranks, train=ranks >= 0, extras=extras)

    def _pairs(self, batch: Batch, score: Tensor) -> list[tuple[int, int]]:
        pairs = []
        for group in torch.unique(batch.groups):
            rows = torch.nonzero(batch.groups == group).squeeze(1)
            own, rivals = rows[batch.train[rows]], rows[~batch.train[rows]]
            if self.rival is None:
                pairs.append((int(own[score[own].argmax()]), int(own[score[own].argmin()])))
            else:
                pairs += [
                    (a, b) if score[a] > score[b] else (b, a)
                    for a, b in zip(own.tolist(), rivals.tolist(), strict=True)
                ]
        return [(better, worse) for better, worse in pairs if score[better] > score[worse]]

    def idle(self, batch: Batch) -> Tensor:
        assert batch.ranks is not None
        return batch.ranks < 0


@dataclass(frozen=True)
class Optimistic:
    """``preference + alpha mean log pi(y')`` over the rival's completions in pairs: what is known already is pushed down, so
    that the policy looks elsewhere (XPO, arXiv:2405.21046)."""

    preference: Preference
    alpha: float

    @property
    def needs(self) -> Needs:
        return needs_of(self.preference)

    def prepare(self, batch: Batch, outputs: Outputs | None = None) -> Batch:
        batch = self.preference.prepare(batch, outputs) if outputs is not None else self.preference.prepare(batch)
        rows = batch.extra("rival") & batch.train
        mask = batch.mask & rows[:, None]
        return replace(batch, weights={**batch.weights, "optimism": mask / max(1, int(rows.sum()))})

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Metrics]:
        loss, metrics = self.preference(outputs, batch)
        weights = batch.weights["optimism"].to(outputs.logprobs.dtype)
        rows = (batch.extra("rival") & batch.train).to(outputs.logprobs.dtype)
        known = float((outputs.logprobs.detach() * batch.mask).sum(1) @ rows)
        return loss + self.alpha * (weights * outputs.logprobs).sum(), {
            **metrics, "logprobs/rival": (known, float(rows.sum())),
        }  # fmt: skip


@dataclass(frozen=True)
class OnPolicyDistillation(Method):
    """The policy learns a teacher's distribution on its own completions (GKD, arXiv:2306.13649; Gemma 2, arXiv:2408.00118).

    Rewards are reported and teach nothing. What is sampled is not differentiated through.
    """

    distil: Distil = REVERSE_KL

    @property
    def loss(self) -> Loss:
        return self.distil

    @property
    def needs_teacher(self) -> bool:
        return True

    def credit(self, batch: Batch, state: State) -> Batch:  # noqa: ARG002
        return batch


ONLINE_DPO = OnlinePreference(DPO)
"""Online DPO (arXiv:2402.04792): DPO on two samples of the policy, compared by a reward model or a judge.

    y1, y2 ~ pi,   y_w, y_l = the better and the worse,   loss = -log sigma(beta (log pi/ref (y_w) - log pi/ref (y_l)))

With more than two samples the best and the worst are the pair (Qwen2, arXiv:2407.10671). Neighbour: DPO on fixed pairs, whose
answers the policy would no longer give."""

XPO = OnlinePreference(DPO, rival=1.0, optimism=1e-5)
"""XPO, exploratory preference optimization (arXiv:2405.21046).

    y ~ pi, y' ~ ref, ranked;   loss = DPO(y_w, y_l) + alpha log pi(y')

The second term pushes down what the reference would have said anyway. alpha is a choice. Neighbour: online DPO takes both
samples from the policy and has no bonus."""

NASH_MD = Algorithm(Versus(rival=0.5), Plain(), seq_mean_token_sum, kl=KL(k2, 0.1, level=sequence))
"""Nash-MD (arXiv:2312.00886): the policy that no other beats, by playing against itself mixed with the reference.

    y ~ pi,  y' ~ pi^(1 - share) ref^share,   loss = -(P(y beats y') - 1/2) log pi(y) + tau KL(pi || ref)

The KL enters by its gradient ``log(pi/ref)(y) grad log pi(y)``. share and tau are choices. Neighbour: REINFORCE with the win
rate against the mixture as the reward."""


GKD = OnPolicyDistillation(REVERSE_KL)
"""On-policy distillation (GKD, arXiv:2306.13649): the student writes, the teacher says at every token what it would have said.

    y ~ pi,   loss = mean_t KL(pi(. | y_<t) || teacher(. | y_<t))

The student learns where its own text leads it, which a teacher's text does not show. Neighbours: with the forward KL or a
Jensen-Shannon divergence (``distil.beta``) it covers more of the teacher; on the teacher's text it is sft."""


def table() -> dict[str, Method]:
    """Every named method of this module, by its lower-case name."""
    return named.constants(globals(), Method)


def get(name: str) -> Method:
    """The method of that name, in any case, with ``-`` or ``_``. Raises InputError naming the nearest one."""
    return named.find("online method", name, table())


def notes() -> dict[str, str]:
    """The documentation string under each constant of this file, by lower-case name."""
    return named.notes(__file__, table())
