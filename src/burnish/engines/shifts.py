"""What two models say about the same tokens, place by place: how far apart they are, and where the one's choice stands
with the other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from burnish.core.logprobs import divergence, ranks, top_logprobs
from burnish.data.batching import micro_batches
from burnish.engines.attention import Packed
from burnish.engines.local import LocalModel
from burnish.errors import InputError
from burnish.types import Batch


@dataclass(frozen=True)
class Shifts:
    """For every token of a batch, on the CPU; 0 past the end of a row. ``a`` and ``b`` are the two models.

    ============  ======  ==========================================================================
    ranks         [B, T]  the place of the token in a's distribution: 1 is what a finds likeliest
    own_ranks     [B, T]  the same in b's
    favourites    [B, T]  the id that a finds likeliest
    kl            [B, T]  KL(b || a) over the vocabulary, in nats: a token of b costs so much more under a
    kl_back       [B, T]  KL(a || b)
    ============  ======  ==========================================================================
    """

    ranks: Tensor
    own_ranks: Tensor
    favourites: Tensor
    kl: Tensor
    kl_back: Tensor

    def row(self, number: int, length: int) -> Shifts:
        """[length] of each, of one row."""
        return Shifts(*(values[number, :length] for values in vars(self).values()))


def check(a: LocalModel, b: LocalModel) -> None:
    """Raises InputError unless a token means the same to both models."""
    if a.chat.tokenizer.get_vocab() != b.chat.tokenizer.get_vocab():
        raise InputError(
            f"{a.directory} and {b.directory} have different tokenizers, so there is no token by token comparison: choose "
            "models of one family, or compare what they get right with burnish eval"
        )


@torch.no_grad()
def shifts(a: LocalModel, b: LocalModel, batch: Batch) -> Shifts:
    """Read the batch with both models, micro-batch by micro-batch; both distributions are at temperature 1.

    No tensor of tokens by vocabulary is larger than a chunk of :mod:`burnish.core.logprobs`. Heads may be padded to different
    sizes: what counts are the rows both have. Raises InputError where the vocabularies differ, where a row is longer than
    a's context, and where a model gives numbers that are not finite.
    """
    check(a, b)
    found = Shifts(*(torch.zeros(batch.tokens.shape, dtype=d) for d in (*[torch.long] * 3, *[torch.float64] * 2)))
    size = min(len(a.head_weight), len(b.head_weight))
    heads = a.head_weight[:size], b.head_weight[:size]
    for rows in micro_batches(batch, min(a.engine.token_budget, b.engine.token_budget)):
        micro = batch.select(rows)
        packed = Packed.rows_of(micro)
        if packed.longest > a.context:
            raise InputError(
                f"a row of {packed.longest} tokens is longer than the context of {a.directory}: {a.context}"
            )
        states, own = _states(a, packed), _states(b, packed)
        targets = packed.flat(micro.tokens).to(a.device)
        values = Shifts(
            ranks(states, heads[0], targets),
            ranks(own, heads[1], targets),
            top_logprobs(states, heads[0], 1)[0][:, 0],
            divergence(own, heads[1], states, heads[0], 1.0),
            divergence(own, heads[1], states, heads[0], 0.0),
        )
        for name, whole in vars(found).items():
            whole[rows] = packed.unflat(getattr(values, name).cpu().to(whole.dtype), batch.tokens.shape[1])
    if not bool((found.kl + found.kl_back).isfinite().all()):
        raise InputError(f"{a.directory} or {b.directory} gives numbers that are not finite: its weights are broken")
    return found


def _states(model: LocalModel, packed: Packed) -> Tensor:
    """[N, D] the hidden states that predict the tokens of the completions."""
    hidden = model.hidden(packed.tokens[None], packed.positions[None], packed)[0]
    return hidden.index_select(0, packed.predictors.to(model.device))
