"""From hidden states to the log-probability of every completion token, without a ``[tokens, vocabulary]`` tensor.

This is the only module that shifts by one: the hidden state at position ``i`` predicts the token at ``i + 1``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK_ELEMENTS = 2**24
"""Logits held at once, in elements: 64 MiB in float32."""

OUTSIDE = -1e30
"""The log-probability of a token outside the kept set. Finite, so that 0 log 0 comes out as 0 and a NaN stays a NaN."""


def predictor_index(prompt_last: int, start: int, length: int) -> Tensor:
    """[length] positions of the hidden states that predict a completion of ``length`` tokens laid out from ``start``.

    The first token is predicted by the last token of the prompt (at ``prompt_last``, which may lie elsewhere when several
    completions share one prompt), every other one by the token before it.
    """
    index = torch.arange(start - 1, start + length - 1)
    index[0] = prompt_last
    return index


def read(values: Tensor) -> Tensor:
    """[B, T, ...] what a head says before each token -> the same after it; zeros after the last one, where nothing is said."""
    return torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], 1)


def token_logprobs(
    hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float = 1.0, kept: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """``log softmax(h W^T / temperature)`` at the targets, and the entropy of that distribution, both [N].

    ``hidden`` [N, D], ``weight`` [V, D], ``targets`` [N]. Softmax and sums are in float32 (float64 for float64 inputs).
    Both results carry exact gradients; logits are recomputed chunk by chunk in the backward pass.

    ``kept`` [N, K], padded with -1, restricts each distribution to a set S of ids that holds its target:
    ``log pi(y) - log sum_{k in S} pi(k)``. S is a constant: no gradient flows through what belongs to it. A row of nothing
    but -1 keeps the whole vocabulary.
    """
    logprobs, entropy = _ChunkedHead.apply(hidden, weight, targets, temperature, kept)  # type: ignore[no-untyped-call]
    return logprobs, entropy


def log_softmax_chunks(hidden: Tensor, weight: Tensor, temperature: float) -> list[tuple[slice, Tensor]]:
    """[(rows, log-probabilities [rows, V])] over the whole vocabulary, for small inputs and for tests."""
    return [(rows, _log_softmax(hidden[rows], weight, temperature)) for rows in _chunks(len(hidden), len(weight))]


def _chunks(count: int, vocabulary: int) -> list[slice]:
    step = max(1, CHUNK_ELEMENTS // vocabulary)
    return [slice(i, min(i + step, count)) for i in range(0, count, step)]


def _log_softmax(hidden: Tensor, weight: Tensor, temperature: float, kept: Tensor | None = None) -> Tensor:
    logits = hidden @ weight.T
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if temperature != 1.0:
        logits = logits / temperature
    if kept is not None:
        logits.masked_fill_(_outside(kept, len(weight)), OUTSIDE)
    return logits.sub_(torch.logsumexp(logits, dim=-1, keepdim=True))


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
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float, kept: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        precise = torch.promote_types(hidden.dtype, torch.float32)
        logprobs = hidden.new_empty(len(hidden), dtype=precise)
        entropy = torch.empty_like(logprobs)
        for rows in _chunks(len(hidden), len(weight)):
            logp = _log_softmax(hidden[rows], weight, temperature, None if kept is None else kept[rows])
            logprobs[rows] = logp.gather(1, targets[rows, None]).squeeze(1)
            entropy[rows] = -(logp.exp().mul_(logp)).sum(-1)
        ctx.save_for_backward(hidden, weight, targets, entropy, kept)
        ctx.temperature = temperature
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        hidden, weight, targets, entropy, kept = ctx.saved_tensors
        grad_logprobs, grad_entropy = grads
        need_hidden, need_weight = ctx.needs_input_grad[:2]
        grad_hidden = torch.empty_like(hidden) if need_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=entropy.dtype) if need_weight else None
        bonus = bool((grad_entropy != 0).any())
        for rows in _chunks(len(hidden), len(weight)):
            logp = _log_softmax(hidden[rows], weight, ctx.temperature, None if kept is None else kept[rows])
            upstream = grad_logprobs[rows, None]
            slope = -upstream
            if bonus:
                slope = slope - grad_entropy[rows, None] * (logp + entropy[rows, None])
            grad_logits = logp.exp_().mul_(slope)
            grad_logits.scatter_add_(1, targets[rows, None], upstream)
            grad_logits = grad_logits.div_(ctx.temperature).to(hidden.dtype)
            if grad_hidden is not None:
                grad_hidden[rows] = grad_logits @ weight
            if grad_weight is not None:
                grad_weight += grad_logits.T @ hidden[rows]
        return grad_hidden, None if grad_weight is None else grad_weight.to(weight.dtype), None, None, None
