"""From hidden states to the log-probability of every completion token, without a ``[tokens, vocabulary]`` tensor.

This is the only module that shifts by one: the hidden state at position ``i`` predicts the token at ``i + 1``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

CHUNK_ELEMENTS = 2**24
"""Logits held at once, in elements: 64 MiB in float32."""

OUTSIDE = -1e30
"""The log-probability of a token outside the kept set. Finite, so that 0 log 0 comes out as 0 and a NaN stays a NaN."""

Outside = Callable[[slice], Tensor | None]
"""``rows -> [n, V] or [1, V]``, True for the ids these rows' distributions are not over; None where they are over all."""


def predictor_index(prompt_last: int, start: int, length: int) -> Tensor:
    """[length] positions of the hidden states that predict a completion of ``length`` tokens laid out from ``start``.

    The first token is predicted by the last token of the prompt (at ``prompt_last``, which may lie elsewhere when several
    completions beta one prompt), every other one by the token before it.
    """
    index = torch.arange(start - 1, start + length - 1)
    index[0] = prompt_last
    return index


def read(values: Tensor) -> Tensor:
    """[B, T, ...] what a head says before each token -> the same after it; zeros after the last one, where nothing is said."""
    return torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], 1)


def token_logprobs(
    hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float = 1.0, kept: Tensor | None = None,
    suppressed: Sequence[int] = (),
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """``log softmax(h W^T / temperature)`` at the targets, and the entropy of that distribution, both [N].

    ``hidden`` [N, D], ``weight`` [V, D], ``targets`` [N]. Softmax and sums are in float32 (float64 for float64 inputs).
    Both results carry exact gradients; logits are recomputed chunk by chunk in the backward pass.

    ``kept`` [N, K], padded with -1, restricts each distribution to a set S of ids that holds its target:
    ``log pi(y) - log sum_{k in S} pi(k)``. S is a constant: no gradient flows through what belongs to it. A row of nothing
    but -1 keeps the whole vocabulary. ``suppressed`` are ids that belong to no such set and to no vocabulary; where a
    target is one of them, it was not drawn, and its distribution is the one over all ids.
    """
    outside = _restricted(len(weight), targets, kept, suppressed)
    logprobs, entropy = _ChunkedHead.apply(hidden, weight, targets, temperature, outside)  # type: ignore[no-untyped-call]
    return logprobs, entropy


def logprobs_at(hidden: Tensor, weight: Tensor, ids: Tensor, temperature: float = 1.0) -> Tensor:
    """``log softmax(h W^T / temperature)`` [N, K] at ``ids`` [N, K]; 0 without a gradient where an id is -1.

    Shapes, precision and chunks are those of :func:`token_logprobs`, which has one id a line.
    """
    found: Tensor = _ChunkedIds.apply(hidden, weight, ids, temperature)  # type: ignore[no-untyped-call]
    return found


def divergence(
    hidden: Tensor,
    weight: Tensor,
    teacher_hidden: Tensor,
    teacher_weight: Tensor,
    beta: float,
    temperature: float = 1.0,
    suppressed: Sequence[int] = (),
) -> Tensor:
    """[N] the generalised Jensen-Shannon divergence of student p_s and teacher p_t (GKD, arXiv:2306.13649, eq. 1), in nats:

    ``beta KL(p_t || m) + (1 - beta) KL(p_s || m)``,  ``m = beta p_t + (1 - beta) p_s``;

    at ``beta`` 0 the forward ``KL(p_t || p_s)``, at 1 the reverse ``KL(p_s || p_t)``, as in GKD's reference and in TRL.
    These two are no limits of the value, which goes to 0, but of its directions: JSD / beta goes to the forward KL, and
    JSD / (1 - beta) to the reverse one. ``teacher_hidden`` [N, D'], ``teacher_weight`` [V, D']; no gradient reaches them.
    Both are over the vocabulary without the ``suppressed`` ids.
    """
    without = _without(suppressed, len(weight), hidden.device)
    found: Tensor = _ChunkedDivergence.apply(  # type: ignore[no-untyped-call]
        hidden, weight, teacher_hidden, teacher_weight, beta, temperature, without
    )
    return found


@torch.no_grad()
def top_logprobs(hidden: Tensor, weight: Tensor, k: int, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """([N, k] the most likely ids, the first one first; [N, k] their log-probs over the whole vocabulary), as constants."""
    ids = torch.empty(len(hidden), k, dtype=torch.long, device=hidden.device)
    logprobs = hidden.new_empty(len(hidden), k, dtype=torch.promote_types(hidden.dtype, torch.float32))
    for rows in _chunks(len(hidden), len(weight)):
        logprobs[rows], ids[rows] = _log_softmax(hidden[rows], weight, temperature).topk(k)
    return ids, logprobs


@torch.no_grad()
def ranks(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """[N] the place of each target among all tokens: 1 is the likeliest. Tokens that are equally likely share the best place.

    Shapes and chunks are those of :func:`token_logprobs`. A state that is not finite has no order: its rank says nothing.
    """
    found = torch.empty(len(hidden), dtype=torch.long, device=hidden.device)
    for rows in _chunks(len(hidden), len(weight)):
        logits = hidden[rows] @ weight.T
        found[rows] = (logits > logits.gather(1, targets[rows, None])).sum(1) + 1
    return found


def log_softmax_chunks(hidden: Tensor, weight: Tensor, temperature: float) -> list[tuple[slice, Tensor]]:
    """[(rows, log-probabilities [rows, V])] over the whole vocabulary, for small inputs and for tests."""
    return [(rows, _log_softmax(hidden[rows], weight, temperature)) for rows in _chunks(len(hidden), len(weight))]


def _chunks(count: int, vocabulary: int) -> list[slice]:
    step = max(1, CHUNK_ELEMENTS // vocabulary)
    return [slice(i, min(i + step, count)) for i in range(0, count, step)]


def _log_softmax(hidden: Tensor, weight: Tensor, temperature: float, outside: Tensor | None = None) -> Tensor:
    logits = hidden @ weight.T
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if temperature != 1.0:
        logits = logits / temperature
    if outside is not None:
        logits.masked_fill_(outside, OUTSIDE)
    return logits.sub_(torch.logsumexp(logits, dim=-1, keepdim=True))


def _everything(_rows: slice) -> Tensor | None:
    return None


def _without(suppressed: Sequence[int], vocabulary: int, device: torch.device) -> Tensor | None:
    """[1, V] True for the suppressed ids; None where there are none."""
    if not suppressed:
        return None
    outside = torch.zeros(1, vocabulary, dtype=torch.bool, device=device)
    outside[0, list(suppressed)] = True
    return outside


def _restricted(vocabulary: int, targets: Tensor, kept: Tensor | None, suppressed: Sequence[int]) -> Outside:
    """What the distributions that ``targets`` [N] were drawn from leave out."""
    without = _without(suppressed, vocabulary, targets.device)

    def outside(rows: slice) -> Tensor | None:
        cut = None if kept is None else _outside(kept[rows], vocabulary)
        if without is None:
            return cut
        drawn = ~without[0, targets[rows], None]
        return without & drawn if cut is None else (without & drawn) | cut

    return _everything if kept is None and without is None else outside


def _outside(kept: Tensor, vocabulary: int) -> Tensor:
    """[N, V] True for ids that are not among ``kept`` [N, K]; nowhere in a row of nothing but -1."""
    padding = kept < 0
    outside = torch.ones(len(kept), vocabulary + 1, dtype=torch.bool, device=kept.device)
    outside.scatter_(1, kept.long().masked_fill(padding, vocabulary), False)  # padding falls into a column of its own
    return outside[:, :vocabulary] & ~padding.all(1, keepdim=True)


class _ChunkedHead(torch.autograd.Function):
    """With z the scaled logits, p their softmax (over the kept ids, 0 elsewhere) and H its entropy:
    d log p_y / dz = onehot(y) - p  and  dH / dz = -p (log p + H).
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float, outside: Outside
    ) -> tuple[Tensor, Tensor]:
        precise = torch.promote_types(hidden.dtype, torch.float32)
        logprobs = hidden.new_empty(len(hidden), dtype=precise)
        entropy = torch.empty_like(logprobs)
        for rows in _chunks(len(hidden), len(weight)):
            logp = _log_softmax(hidden[rows], weight, temperature, outside(rows))
            logprobs[rows] = logp.gather(1, targets[rows, None]).squeeze(1)
            entropy[rows] = -(logp.exp().mul_(logp)).sum(-1)
        ctx.save_for_backward(hidden, weight, targets, entropy)
        ctx.temperature, ctx.outside = temperature, outside
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        hidden, weight, targets, entropy = ctx.saved_tensors
        grad_logprobs, grad_entropy = grads
        bonus = bool((grad_entropy != 0).any())

        def slope(rows: slice, logp: Tensor) -> Tensor:
            upstream = grad_logprobs[rows, None]
            each = -upstream
            if bonus:
                each = each - grad_entropy[rows, None] * (logp + entropy[rows, None])
            return logp.exp_().mul_(each).scatter_add_(1, targets[rows, None], upstream)

        return *_pull_back(hidden, weight, ctx.temperature, ctx.needs_input_grad, slope, ctx.outside), None, None, None


class _ChunkedIds(torch.autograd.Function):
    """Many ids a line, no entropy: d sum_k u_k log p_k / dz = sum_k u_k onehot(k) - p sum_k u_k."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, ids: Tensor, temperature: float) -> Tensor:
        ids = ids.long()
        found = hidden.new_empty(ids.shape, dtype=torch.promote_types(hidden.dtype, torch.float32))
        for rows in _chunks(len(hidden), len(weight)):
            found[rows] = _log_softmax(hidden[rows], weight, temperature).gather(1, ids[rows].clamp(min=0))
        ctx.save_for_backward(hidden, weight, ids)
        ctx.temperature = temperature
        return found.masked_fill_(ids < 0, 0.0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        hidden, weight, ids = ctx.saved_tensors
        upstream = grads[0].masked_fill(ids < 0, 0.0)

        def slope(rows: slice, logp: Tensor) -> Tensor:
            spread = logp.exp_().mul_(-upstream[rows].sum(1, keepdim=True))
            return spread.scatter_add_(1, ids[rows].clamp(min=0), upstream[rows])

        return *_pull_back(hidden, weight, ctx.temperature, ctx.needs_input_grad, slope), None, None


class _ChunkedDivergence(torch.autograd.Function):
    """The teacher's chunk is recomputed beside the student's, so a chunk has half as many lines."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        teacher_hidden: Tensor,
        teacher_weight: Tensor,
        beta: float,
        temperature: float,
        without: Tensor | None,
    ) -> Tensor:
        found = hidden.new_empty(len(hidden), dtype=torch.promote_types(hidden.dtype, torch.float32))
        for rows in _chunks(len(hidden), 2 * len(weight)):
            student = _log_softmax(hidden[rows], weight, temperature, without)
            teacher = _log_softmax(teacher_hidden[rows], teacher_weight, temperature, without).to(student.dtype)
            found[rows] = _jensen_shannon(student, teacher, beta)
        ctx.save_for_backward(hidden, weight, teacher_hidden, teacher_weight, without)
        ctx.beta, ctx.temperature = beta, temperature
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None, None, None]:
        hidden, weight, teacher_hidden, teacher_weight, without = ctx.saved_tensors

        def slope(rows: slice, student: Tensor) -> Tensor:
            teacher = _log_softmax(teacher_hidden[rows], teacher_weight, ctx.temperature, without).to(student.dtype)
            return _jensen_shannon_slope(student, teacher, ctx.beta).mul_(grads[0][rows, None])

        found = _pull_back(hidden, weight, ctx.temperature, ctx.needs_input_grad, slope, lambda _: without, held=2)
        return *found, None, None, None, None, None


def _mixture(student: Tensor, teacher: Tensor, beta: float) -> Tensor:
    """log m for a beta strictly between 0 and 1."""
    return torch.logaddexp(teacher + math.log(beta), student + math.log1p(-beta))


def _jensen_shannon(student: Tensor, teacher: Tensor, beta: float) -> Tensor:
    def kl(p: Tensor, q: Tensor) -> Tensor:
        return (p.exp() * (p - q)).sum(-1)

    if beta == 0:
        return kl(teacher, student)
    if beta == 1:
        return kl(student, teacher)
    mixture = _mixture(student, teacher, beta)
    return beta * kl(teacher, mixture) + (1 - beta) * kl(student, mixture)


def _jensen_shannon_slope(student: Tensor, teacher: Tensor, beta: float) -> Tensor:
    """d divergence / dz = p_s (g - sum p_s g) with g the slope by p_s: (1 - beta) log(p_s / m), at beta 1 log(p_s / p_t).

    At beta 0 that is p_s - p_t.
    """
    chances = student.exp()
    if beta == 0:
        return chances - teacher.exp()
    gain = student - teacher if beta == 1 else (1 - beta) * (student - _mixture(student, teacher, beta))
    return chances * (gain - (chances * gain).sum(-1, keepdim=True))


def _pull_back(
    hidden: Tensor,
    weight: Tensor,
    temperature: float,
    needed: Sequence[bool],
    slope: Callable[[slice, Tensor], Tensor],
    outside: Outside = _everything,
    held: int = 1,
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of hidden states and head, chunk by chunk, from ``slope(rows, log-probs) -> d loss / dz`` [rows, V].

    ``needed`` says which of the two. ``held`` is the number of distributions that lie in memory at once.
    """
    precise = torch.promote_types(hidden.dtype, torch.float32)
    grad_hidden = torch.empty_like(hidden) if needed[0] else None
    grad_weight = torch.zeros_like(weight, dtype=precise) if needed[1] else None
    for rows in _chunks(len(hidden), held * len(weight)):
        logp = _log_softmax(hidden[rows], weight, temperature, outside(rows))
        grad_logits = slope(rows, logp).div_(temperature).to(hidden.dtype)
        if grad_hidden is not None:
            grad_hidden[rows] = grad_logits @ weight
        if grad_weight is not None:
            grad_weight += grad_logits.T @ hidden[rows]
    return grad_hidden, None if grad_weight is None else grad_weight.to(weight.dtype)
