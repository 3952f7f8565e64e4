"""Distillation: a student learns the distribution of a teacher at every token, not one sample of it.

On text of the teacher, ``NLL`` is its plainest form. The losses here see more: the whole distribution of a teacher that is
there (:class:`Distil`), or what was stored of it (:class:`TopK`). Both take any rows. On the student's own samples this is
on-policy distillation (GKD, arXiv:2306.13649; Gemma 2, arXiv:2408.00118): the sampling is not differentiated through.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from burnish.core import named
from burnish.core.aggregate import Aggregate, token_mean
from burnish.core.episodes import chosen
from burnish.errors import InputError
from burnish.types import Batch, Metrics, Needs, Outputs


@dataclass(frozen=True)
class Distil:
    """``coef sum_t w_t JSD_beta(p_t, p_s)``: the divergence of student from teacher over the whole vocabulary.

    ``beta`` is the share of the teacher in the mixture, as in GKD and in TRL: 0 is the forward KL(teacher || student), which
    covers all that the teacher does, 1 the reverse KL(student || teacher), which keeps the student to what the teacher would
    do. Both distributions are at the temperature of the batch. Neighbour: :class:`TopK` needs no teacher in memory.

    Metrics: ``loss`` and the same number as ``kl/teacher``, or ``jsd/teacher`` strictly between 0 and 1.
    """

    beta: float = 1.0
    aggregate: Aggregate = token_mean
    coef: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.beta <= 1:
            raise InputError(f"beta is the share of the teacher in a mixture, from 0 to 1, not {self.beta}")

    @property
    def needs(self) -> Needs:
        return Needs(logprobs=False, divergence=self.beta)

    def prepare(self, batch: Batch) -> Batch:
        return replace(batch, weights={**batch.weights, "distil": self.aggregate(batch, batch.mask)})

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Metrics]:
        assert outputs.divergence is not None
        found = _sums(outputs.divergence, chosen(batch))
        name = "kl/teacher" if self.beta in (0, 1) else "jsd/teacher"
        return self.coef * _weighted(outputs.divergence, batch), {"loss": found, name: found}


@dataclass(frozen=True)
class TopK:
    """``coef sum_t w_t KL(teacher || student)`` over k + 1 events: the ids that were stored, and all others as one.

    ``sum_k q_k (log q_k - log p_k) + q_rest (log q_rest - log p_rest)``, q the teacher, in ``extras["ids"]`` [B, T, K], padded
    with -1, and ``extras["teacher_logprobs"]`` [B, T, K], over the whole vocabulary and at the temperature of the batch. By the
    data processing inequality this is at most the KL over the vocabulary, and equals it for k = V. Nothing is renormalised
    over the k: that would let the student move mass to the tail, or away from it, for nothing. A token without ids adds 0.

    Neighbour: ``Distil(beta=0)``, with all of the teacher. Metrics: ``loss``, ``kl/teacher`` (the same number), and
    ``teacher/rest``, the mass that the teacher has outside the stored ids.
    """

    aggregate: Aggregate = token_mean
    coef: float = 1.0

    needs = Needs(logprobs=False, at_ids=True)

    def prepare(self, batch: Batch) -> Batch:
        """Raises InputError where the batch has no stored teacher."""
        if missing := {"ids", "teacher_logprobs"} - batch.extras.keys():
            raise InputError(
                f"the batch has no {' and no '.join(sorted(missing))} of a teacher: store them with engines.teacher.top_k"
            )
        return replace(batch, weights={**batch.weights, "distil": self.aggregate(batch, batch.mask)})

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Metrics]:
        assert outputs.at_ids is not None
        student, mask = outputs.at_ids, chosen(batch)
        teacher = batch.extra("teacher_logprobs").to(student.dtype)
        possible = (batch.extra("ids") >= 0) & (teacher > -torch.inf)
        teacher = torch.where(possible, teacher, 0.0)
        mass = torch.where(possible, teacher.exp(), 0.0)
        stored = (mass * (teacher - student)).sum(-1)
        least = 8 * student.shape[-1] * torch.finfo(student.dtype).eps  # below, a rest is the rounding of 1 - sum
        rest = 1 - mass.sum(-1)
        rest_log = torch.log(rest.clamp(min=least)) - _log_rest(
            torch.where(possible, student.exp(), 0.0).sum(-1), least
        )
        per_token = stored + torch.where(rest > least, rest * rest_log, 0.0)
        found = _sums(per_token, mask)
        metrics: Metrics = {"loss": found, "kl/teacher": found, "teacher/rest": _sums(rest, mask)}
        return self.coef * _weighted(per_token, batch), metrics


def _log_rest(mass: Tensor, least: float) -> Tensor:
    """log(1 - mass), held at ``least`` in value and in slope: where nothing is left the gradient still says "more"."""
    held = (1 - mass.detach()).clamp(min=least)
    return torch.log(held) - (mass - mass.detach()) / held


def _weighted(per_token: Tensor, batch: Batch) -> Tensor:
    return (batch.weights["distil"].to(per_token.dtype) * torch.where(chosen(batch), per_token, 0.0)).sum()


def _sums(values: Tensor, mask: Tensor) -> tuple[float, float]:
    return float(torch.where(mask, values.detach(), 0.0).sum()), float(mask.sum())


FORWARD_KL = Distil(0.0)
"""KL(teacher || student), supervised distillation with soft targets (Hinton et al., arXiv:1503.02531; GKD, arXiv:2306.13649).

    loss = mean_t sum_v p_t(v) (log p_t(v) - log p_s(v)),   d loss / d logits = p_s - p_t

Its gradient is that of the cross-entropy to the teacher. Mass-covering. Neighbour: NLL is this on one sample of the teacher."""

REVERSE_KL = Distil(1.0)
"""KL(student || teacher) (MiniLLM, arXiv:2306.08543; GKD, arXiv:2306.13649).

    loss = mean_t sum_v p_s(v) (log p_s(v) - log p_t(v)),   d loss / d logits = p_s (log p_s - log p_t - KL)

Mode-seeking: with the student's own samples it is the choice of on-policy distillation. Exact over the vocabulary at every
token, where MiniLLM's policy gradient estimates it over the sequence."""

JSD = Distil(0.5)
"""The Jensen-Shannon divergence (GKD, arXiv:2306.13649, beta = 1/2).

    loss = mean_t 1/2 KL(p_t || m) + 1/2 KL(p_s || m),   m = (p_t + p_s) / 2

Bounded by log 2 at every token, so that no token that one of them rules out dominates. Neighbours: the two KLs."""

TOP_K = TopK()
"""Offline distillation on stored log-probs of the teacher: forward KL over its k most likely tokens and one event for the rest.

    loss = mean_t sum_k q_k log(q_k / p_k) + q_rest log(q_rest / p_rest)

A lower bound of FORWARD_KL, equal to it for k = V. No teacher is in memory while the student learns."""


def table() -> dict[str, Distil | TopK]:
    """Every named loss of this module, by its lower-case name."""
    return {**named.constants(globals(), Distil), **named.constants(globals(), TopK)}


def get(name: str) -> Distil | TopK:
    """The loss of that name, in any case, with ``-`` or ``_``. Raises InputError naming the nearest one."""
    return named.find("distillation loss", name, table())


def notes() -> Mapping[str, str]:
    """The documentation string under each constant of this file, by lower-case name."""
    return named.notes(__file__, table())
