"""One attention function for training, scoring and decoding, plugged into any transformers decoder.

A *plan* says who attends to whom; the network passes it through to every attention layer. :class:`Packed` lays rows end to
end without padding and runs each distinct prompt once for all of its completions. :class:`Decode` keeps keys and values and
advances every live row by one token. Both give each token the same keys it would see alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention as sdpa
from transformers import AttentionInterface

from burnish.core.logprobs import predictor_index
from burnish.errors import InputError
from burnish.types import Batch

NAME = "burnish"


class Plan(Protocol):
    longest: int

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """[1 or R, H, S, D] queries, [.., Hkv, S, D] keys and values of the new tokens -> [.., S, H, D]."""
        ...


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001 - part of the interface; the plan takes its place
    scaling: float,
    plan: Plan,
    **options: Any,
) -> tuple[Tensor, None]:
    window = options.get("sliding_window")
    if options.get("softcap") or options.get("s_aux") is not None or (window is not None and plan.longest > window):
        raise InputError(
            "this model's attention uses a sliding window, soft-capping or sinks, which the local engine does not "
            f"implement; keep prompt plus completion within the window ({window} tokens) or choose another model"
        )
    return plan.attend(int(module.layer_idx), query, key, value, scaling), None  # type: ignore[arg-type]


AttentionInterface.register(NAME, _attention)


def _expand(x: Tensor, heads: int) -> Tensor:
    """[N, Hkv, S, D] -> [N, H, S, D]: grouped-query keys and values repeated for their query heads."""
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], dim=1)


@dataclass(frozen=True)
class Segment:
    """One prompt and the completions that share it, by position in the packed row."""

    start: int
    prompt: int
    lengths: tuple[int, ...]

    @property
    def end(self) -> int:
        return self.start + self.prompt + sum(self.lengths)


@dataclass
class Packed:
    """Distinct prompts, each followed by its completions, end to end in one row: [P1 c11 c12 .. P2 c21 ..]."""

    segments: tuple[Segment, ...]
    tokens: Tensor
    positions: Tensor
    predictors: Tensor
    places: Tensor
    ends: Tensor
    rows: tuple[int, ...]
    longest: int
    keep: dict[int, tuple[Tensor, Tensor]] | None = None
    _spread: dict[int, tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict)

    @staticmethod
    def of(prompts: Sequence[Tensor], completions: Sequence[Tensor], keep: bool = False, apart: bool = False) -> Packed:
        """Lay out rows given as prompt and completion tokens; rows with equal prompts share one copy of it, unless ``apart``.

        ``rows`` is the order in which completions lie in the packed row; ``predictors`` the positions of the hidden states
        that predict their tokens, ``places`` those of the tokens themselves, ``ends`` of the last of each, in that order.
        ``keep`` retains keys and values by layer for decoding.
        """
        shared: dict[tuple[int, ...], list[int]] = {}
        for row, prompt in enumerate(prompts):
            shared.setdefault((row if apart else 0, *prompt.tolist()), []).append(row)
        segments, tokens, positions, predictors, places, ends, order = [], [], [], [], [], [], []
        start = longest = 0
        for rows in shared.values():
            prompt = prompts[rows[0]]
            size = len(prompt)
            lengths = tuple(len(completions[row]) for row in rows)
            segments.append(Segment(start, size, lengths))
            tokens += [prompt, *(completions[row] for row in rows)]
            positions += [torch.arange(size), *(torch.arange(size, size + length) for length in lengths)]
            at = start + size
            for length in lengths:
                if length:
                    predictors.append(predictor_index(start + size - 1, at, length))
                    places.append(torch.arange(at, at + length))
                at += length
                ends.append(at - 1)
            order += rows
            longest = max(longest, size + max(lengths))
            start = at
        nowhere = torch.zeros(0, dtype=torch.long)
        index, own = torch.cat([nowhere, *predictors]), torch.cat([nowhere, *places])
        return Packed(
            tuple(segments), torch.cat(tokens), torch.cat(positions), index, own, torch.tensor(ends), tuple(order), longest,
            {} if keep else None,
        )  # fmt: skip

    @staticmethod
    def rows_of(batch: Batch, apart: bool = False) -> Packed:
        lengths = batch.lengths.tolist()
        completions = [batch.tokens[i, :length] for i, length in enumerate(lengths)]
        return Packed.of(batch.prompts, completions, apart=apart)

    def flat(self, values: Tensor) -> Tensor:
        """[B, T, ...] -> [N, ...]: the entries of completion tokens, in the order of ``predictors``."""
        return values[torch.tensor(self.rows)][self._valid(values.shape[1])]

    def unflat(self, values: Tensor, longest: int) -> Tensor:
        """[N, ...] -> [B, T, ...], the way back, with zeros past a row's end. ``longest`` is T."""
        valid = self._valid(longest).to(values.device)
        laid = values.new_zeros(*valid.shape, *values.shape[1:]).index_put((valid,), values)
        return laid.index_select(0, torch.argsort(torch.tensor(self.rows)).to(values.device))

    def _valid(self, longest: int) -> Tensor:
        lengths = torch.tensor([length for segment in self.segments for length in segment.lengths])
        return torch.arange(longest) < lengths[:, None]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        if self.keep is not None:
            self.keep[layer] = (key, value)
        heads = query.shape[1]
        key, value = _expand(key, heads), _expand(value, heads)
        parts = []
        for number, segment in enumerate(self.segments):
            if len(segment.lengths) == 1:
                span = slice(segment.start, segment.end)
                parts.append(sdpa(query[:, :, span], key[:, :, span], value[:, :, span], is_causal=True, scale=scaling))
            else:
                parts += self._shared(number, segment, query, key, value, scaling)
        return torch.cat(parts, dim=2).transpose(1, 2)

    def _shared(
        self, number: int, segment: Segment, query: Tensor, key: Tensor, value: Tensor, scaling: float
    ) -> list[Tensor]:
        """The prompt attends to itself; each completion to the prompt and itself, as rows of one padded batch."""
        prefix = slice(segment.start, segment.start + segment.prompt)
        k, v = key[:, :, prefix], value[:, :, prefix]
        head = sdpa(query[:, :, prefix], k, v, is_causal=True, scale=scaling)
        spread, gather, allowed = self._index(number, segment, query.device)
        count, longest = spread.shape

        def rows(x: Tensor) -> Tensor:
            taken = x[0].index_select(1, spread.flatten())
            return taken.view(len(taken), count, longest, taken.shape[-1]).transpose(0, 1)

        def behind(prompt: Tensor, x: Tensor) -> Tensor:
            return torch.cat([prompt.expand(count, -1, -1, -1), rows(x)], dim=2)

        tail = sdpa(rows(query), behind(k, key), behind(v, value), attn_mask=allowed, scale=scaling)
        return [head, tail.transpose(0, 1).flatten(1, 2).index_select(1, gather).unsqueeze(0)]

    def _index(self, number: int, segment: Segment, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """``spread`` [G, S] packed positions of each completion, padded with the prompt's first position;
        ``gather`` the real entries of the flattened [G, S]; ``allowed`` [S, P + S] the mask. Computed once per plan.
        """
        if number not in self._spread:
            lengths = torch.tensor(segment.lengths)
            starts = segment.start + segment.prompt + lengths.cumsum(0) - lengths
            step = torch.arange(int(lengths.max()))
            real = step < lengths[:, None]
            spread = torch.where(real, starts[:, None] + step, segment.start)
            allowed = torch.ones(len(step), segment.prompt + len(step), dtype=torch.bool).tril(segment.prompt)
            gather = real.flatten().nonzero().squeeze(1)
            self._spread[number] = (spread.to(device), gather.to(device), allowed.to(device))
        return self._spread[number]


@dataclass
class Decode:
    """Keys and values of R live rows, [layers, 2, R, Hkv, columns, D]. Prompts are right-aligned, so that every row writes
    its next token to the same column; ``visible`` [R, columns] hides the columns before a shorter prompt.
    """

    cache: Tensor
    visible: Tensor
    live: int
    column: int
    longest: int
    ragged: bool

    @staticmethod
    def after(prefill: Packed, row_segment: Sequence[int], new_tokens: int) -> Decode:
        """The state after ``prefill`` (one segment per distinct prompt): row r continues segment ``row_segment[r]``.

        A model without attention layers keeps nothing, and its cache is empty.
        """
        assert prefill.keep is not None
        key = prefill.keep[0][0] if prefill.keep else prefill.tokens.new_zeros(1, 0, 0, 0)
        lengths = [s.prompt for s in prefill.segments]
        width = max(lengths)
        rows, heads, size = len(row_segment), key.shape[1], key.shape[3]
        cache = key.new_zeros(len(prefill.keep), 2, rows, heads, width + new_tokens, size)
        visible = torch.zeros(rows, width + new_tokens, dtype=torch.bool, device=key.device)
        visible[:, width:] = True
        for row, number in enumerate(row_segment):
            segment = prefill.segments[number]
            span = slice(segment.start, segment.start + segment.prompt)
            visible[row, width - segment.prompt :] = True
            for layer, (k, v) in prefill.keep.items():
                cache[layer, 0, row, :, width - segment.prompt : width] = k[0, :, span]
                cache[layer, 1, row, :, width - segment.prompt : width] = v[0, :, span]
        return Decode(cache, visible, rows, width, width + new_tokens, len(set(lengths)) > 1)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """[R, H, 1, D] queries -> [R, 1, H, D]. Query heads that share a key head ride as its extra query positions."""
        keys, values = self.cache[layer, 0, : self.live], self.cache[layer, 1, : self.live]
        keys[:, :, self.column] = key[:, :, 0]
        values[:, :, self.column] = value[:, :, 0]
        end = self.column + 1
        grouped = query.view(len(query), key.shape[1], -1, query.shape[3])
        mask = self.visible[: self.live, None, None, :end] if self.ragged else None
        out = sdpa(grouped, keys[:, :, :end], values[:, :, :end], attn_mask=mask, scale=scaling)
        return out.reshape(len(query), 1, query.shape[1], query.shape[3])

    def retain(self, rows: Tensor) -> None:
        """Keep the live rows at ``rows`` (ascending), moving only rows that fill a gap left by a finished one.

        Afterwards row i continues what was row ``order[i]``, with ``order = self.compact_order(rows)``.
        """
        order = compact_order(rows.tolist())
        moves = [(to, source) for to, source in enumerate(order) if to != source]
        if moves:
            to, source = (torch.tensor(x, device=self.cache.device) for x in zip(*moves, strict=True))
            self.cache[:, :, to] = self.cache[:, :, source]
            self.visible[to] = self.visible[source]
        self.live = len(order)


def compact_order(rows: Sequence[int]) -> list[int]:
    """A permutation of ``rows`` (ascending) in which every row below ``len(rows)`` keeps its place."""
    count = len(rows)
    order = [-1] * count
    movers = []
    for row in rows:
        if row < count:
            order[row] = row
        else:
            movers.append(row)
    gaps = iter(movers)
    return [row if row >= 0 else next(gaps) for row in order]
