"""The local sampler: every distinct prompt is read once, all rows advance together, finished rows leave the batch.

It decodes with the trainer's own weights and reports log-probs as it goes. A token is drawn by inverse CDF from a uniform
that depends on the request's key and the position only, so a completion does not depend on what else is in the batch
(up to rounding of the logits).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from burnish.core import keys
from burnish.core.logprobs import OUTSIDE
from burnish.engines.attention import Decode, Packed, compact_order
from burnish.engines.controls import Controls, forced, repeats, think
from burnish.engines.local import LocalModel
from burnish.errors import InputError
from burnish.types import Completion, Message, Request, Sampling

MAX_ROWS = 256
"""Rows decoded together. A call with more requests is served in waves, in order."""
GIVEN_UP = "given up"


def inverse_cdf(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """[R] the smallest index whose cumulative probability exceeds ``uniform`` [R] of the total of each row of [R, V].

    Never returns an entry of probability zero: the first index past u is one where the sum has just grown.
    """
    cdf = probabilities.cumsum(-1)
    total = cdf[:, -1:]
    point = torch.minimum(uniform[:, None].to(cdf.dtype) * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cdf, point, right=True).squeeze(1)


def truncate(logprobs: Tensor, top_k: int, top_p: float) -> tuple[Tensor, Tensor]:
    """([R, V] probabilities with everything outside top-k and top-p set to 0, [R] the mass that was kept).

    top-p keeps the smallest set of most likely tokens whose mass reaches ``top_p``; top-k is applied first. Ties at the
    edge are resolved by the order of the sort, so exactly k tokens remain.
    """
    ordered, index = torch.sort(logprobs.exp(), dim=-1, descending=True, stable=True)
    if top_k:
        ordered[:, top_k:] = 0
    if top_p < 1:
        before = ordered.cumsum(-1) - ordered
        ordered = ordered.masked_fill(before >= top_p * ordered.sum(-1, keepdim=True), 0)
    return torch.zeros_like(ordered).scatter_(1, index, ordered), ordered.sum(-1)


@dataclass
class Row:
    """One request on its way: what there is of its completion, of which ``start`` tokens were there before a draw."""

    index: int
    request: Request
    uniforms: np.ndarray
    suppressed: tuple[int, ...] = ()
    start: int = 0
    tokens: list[int] = field(default_factory=list)
    mask: list[bool] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    kept: list[float] = field(default_factory=list)
    kept_ids: list[tuple[int, ...]] = field(default_factory=list)

    @staticmethod
    def of(index: int, request: Request, suppressed: tuple[int, ...], begun: Completion) -> Row:
        count = len(begun.tokens)
        return Row(
            index, request, keys.uniforms(request.key, max(0, request.sampling.max_tokens - count), count), suppressed,
            count, list(begun.tokens), list(begun.chosen), list(begun.logprobs),
            list(begun.kept) or [1.0] * count, list(begun.kept_ids) or [()] * count,
        )  # fmt: skip

    @property
    def known(self) -> tuple[int, ...]:
        """The tokens of prompt and completion."""
        return (*self.request.prompt, *self.tokens)

    def take(self, token: int, logprob: float, kept: float, kept_ids: tuple[int, ...]) -> None:
        self.tokens.append(token)
        self.mask.append(True)
        self.logprobs.append(logprob)
        self.kept.append(kept)
        self.kept_ids.append(kept_ids)


class Observer(Protocol):
    """Sees every token of a call as it is drawn."""

    def __call__(self, rows: Sequence[Row], logits: Tensor, /) -> Collection[int]:
        """``rows[i].tokens[-1]`` was drawn from ``logits[i]`` of [R, V], which is not to be changed.

        Returns the ``index`` of each row that is to be given up: it leaves the batch, and no completion comes of it.
        """


class Cache(Protocol):
    """What has been read so far, of the rows that go on."""

    def retain(self, rows: Tensor) -> None:
        """Keep the rows at ``rows`` (ascending), in the order of ``compact_order``."""


class LocalSampler:
    """Samples from a :class:`LocalModel` in this process, without a copy of its weights."""

    reproducible = True

    def __init__(self, model: LocalModel) -> None:
        self.model = model
        self.version = 0

    @property
    def context(self) -> int:
        """The most tokens a prompt and its completion may have together."""
        return self.model.context

    def load(self, weights: Mapping[str, Tensor], version: int) -> None:
        """The sampler reads the model's own weights, so other storage is copied in and the version noted."""
        for name, live in self.model.weights().items():
            if live.data_ptr() != weights[name].data_ptr():
                live.copy_(weights[name])
        self.version = version

    def sample(self, requests: Iterable[Request], observe: Observer | None = None) -> Iterator[Completion]:
        """Yield one completion per request, in order of finishing; ``index`` says which request it answers.

        ``observe`` is called after each step, before its completions are yielded. It changes nothing about them, and forced
        tokens are none that it sees. Raises InputError for an empty prompt, for one that leaves no room for a completion in
        the model's context, for a completion that has finished and is to go on, for controls that the vocabulary cannot
        express, and where thinking is to be observed: some of what is drawn is taken back.
        """
        wanted = list(requests)
        for request in wanted:
            self._check(request)
        if not any(request.sampling.thinking for request in wanted):
            yield from self._drawn(wanted, observe)
        elif observe is None:
            yield from think(self._drawn, self.model.chat, self.context, wanted)
        else:
            raise InputError("thinking within a budget takes tokens back, so it cannot be observed: leave thinking out")

    def _drawn(self, requests: Sequence[Request], observe: Observer | None = None) -> Iterator[Completion]:
        """The completions without regard to thinking."""
        chat = self.model.chat
        controls = {s: Controls.of(chat, s) for s in dict.fromkeys(request.sampling for request in requests)}
        for start in range(0, len(requests), MAX_ROWS):
            rows = []
            for index, request in enumerate(requests[start : start + MAX_ROWS], start):
                own = controls[request.sampling]
                begun = request.begun or self._begin(request, own.begin)
                rows.append(Row.of(index, request, own.suppressed, begun))
            yield from self._wave(rows, observe)

    def _begin(self, request: Request, tokens: tuple[int, ...]) -> Completion:
        if len(request.prompt) + len(tokens) >= self.context:
            raise InputError(
                f"a prompt of {len(request.prompt)} tokens and begin={request.sampling.begin!r} fill the model's context of "
                f"{self.context}: shorten the prompt or choose a model with a longer context"
            )
        return forced(self.model.chat, tokens)

    def _check(self, request: Request) -> None:
        begun = request.begun
        if begun and begun.finish != "paused":
            raise InputError(
                f"a completion that finished with '{begun.finish}' does not go on: give one whose finish is 'paused'"
            )
        if begun and len(begun.tokens) != len(begun.logprobs):
            raise InputError(
                f"what has begun has {len(begun.tokens)} tokens, but {len(begun.logprobs)} log-probs: tokens that were not "
                "drawn here come from engines.controls.forced"
            )
        if not request.prompt:
            raise InputError("a prompt is empty: it has no token to condition on; remove the row or write a prompt")
        if len(request.prompt) >= self.context:
            raise InputError(
                f"a prompt has {len(request.prompt)} tokens, but the model's context holds {self.model.context}; "
                "shorten the prompt or choose a model with a longer context"
            )

    @torch.no_grad()
    def _wave(self, pending: Sequence[Row], observe: Observer | None) -> Iterator[Completion]:
        rows = [row for row in pending if len(row.tokens) < self._limit(row)]
        yield from (self._completion(row, "length") for row in pending if len(row.tokens) >= self._limit(row))
        if not rows:
            return
        logits, plan = self._prefill(rows)
        while rows:
            _suppress(rows, logits)
            self._draw(rows, logits)
            given_up = observe(rows, logits) if observe else ()
            finishes = [GIVEN_UP if row.index in given_up else self._finish(row) for row in rows]
            ended = [(row, end) for row, end in zip(rows, finishes, strict=True) if end not in ("", GIVEN_UP)]
            yield from (self._completion(row, end) for row, end in ended)
            live = [i for i, end in enumerate(finishes) if not end]
            order = compact_order(live)
            rows = [rows[i] for i in order]
            if rows:
                plan.retain(torch.tensor(live))
                logits = self._advance(rows, plan)

    def _prefill(self, rows: Sequence[Row]) -> tuple[Tensor, Cache]:
        """Read each distinct beginning once. Returns the logits [R, V] of each row's next token, and the KV cache."""
        number: dict[tuple[int, ...], int] = {}
        of_row = [number.setdefault(row.known, len(number)) for row in rows]
        empty = torch.zeros(0, dtype=torch.long)
        packed = Packed.of([torch.tensor(p) for p in number], [empty] * len(number), keep=True)
        hidden = self.model.hidden(packed.tokens[None], packed.positions[None], packed)[0]
        last = torch.tensor([s.end - 1 for s in packed.segments])[of_row]
        longest = max(self._room(row) for row in rows)
        return self._logits(hidden[last.to(hidden.device)]), Decode.after(packed, of_row, longest)

    def _advance(self, rows: Sequence[Row], plan: Cache) -> Tensor:
        assert isinstance(plan, Decode)
        tokens = torch.tensor([[row.tokens[-1]] for row in rows])
        positions = torch.tensor([[len(row.request.prompt) + len(row.tokens) - 1] for row in rows])
        hidden = self.model.hidden(tokens, positions, plan)[:, 0]
        plan.column += 1
        return self._logits(hidden)

    def _logits(self, hidden: Tensor) -> Tensor:
        logits = hidden @ self.model.head_weight.T
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def _draw(self, rows: Sequence[Row], logits: Tensor) -> None:
        """Draw one token for every row from its own uniform, at its own temperature and truncation."""
        by_setting: dict[tuple[float, int, float, str], list[int]] = {}
        for i, row in enumerate(rows):
            s = row.request.sampling
            by_setting.setdefault((s.temperature, s.top_k, s.top_p, s.truncation), []).append(i)
        for (temperature, top_k, top_p, truncation), members in by_setting.items():
            chosen = logits if len(members) == len(rows) else logits[members]
            own = [rows[i] for i in members]
            uniform = torch.tensor([row.uniforms[len(row.tokens) - row.start] for row in own], device=logits.device)
            tokens, logprobs, kept, inside = draw(chosen, uniform, temperature, top_k, top_p)
            sets: list[tuple[int, ...]] = [()] * len(own)
            if inside is not None and truncation == "kept":
                sets = [tuple(np.flatnonzero(ids).tolist()) for ids in inside.cpu().numpy()]
            drawn = zip(tokens.tolist(), logprobs.tolist(), kept.tolist(), sets, strict=True)
            for row, (token, logprob, mass, ids) in zip(own, drawn, strict=True):
                row.take(token, logprob, mass, ids)

    def _limit(self, row: Row) -> int:
        return min(row.request.sampling.max_tokens, self.model.context - len(row.request.prompt))

    def _room(self, row: Row) -> int:
        """How many tokens may still be drawn in this call."""
        left = self._limit(row) - len(row.tokens)
        return min(left, row.request.pause) if row.request.pause else left

    def _finish(self, row: Row) -> str:
        """Why the row ends after its newest token, as :class:`Completion` says it, or "" if it goes on."""
        if row.tokens[-1] in self.model.chat.eos_ids:
            return "eos"
        stop, repetition = row.request.sampling.stop, row.request.sampling.repetition
        if stop and any(s in self.model.chat.decode(row.tokens) for s in stop):
            return "stop"
        if repetition and repeats(row.tokens, repetition):
            return "repetition"
        if len(row.tokens) >= self._limit(row):
            return "length"
        return "paused" if row.request.pause and len(row.tokens) - row.start >= row.request.pause else ""

    def _completion(self, row: Row, finish: str) -> Completion:
        text = self.model.chat.decode(row.tokens)
        message: Message = {"role": "assistant", "content": text}
        kept_ids = tuple(row.kept_ids) if any(row.kept_ids) else ()
        mask = () if all(row.mask) else tuple(row.mask)
        logprobs, kept = tuple(row.logprobs), tuple(row.kept)
        return Completion(tuple(row.tokens), text, (message,), finish, logprobs, kept, row.index, kept_ids, mask)


def _suppress(rows: Sequence[Row], logits: Tensor) -> None:
    """Leave each row's suppressed ids no chance, in place."""
    for ids in {row.suppressed for row in rows if row.suppressed}:
        members = [i for i, row in enumerate(rows) if row.suppressed == ids]
        logits[torch.tensor(members)[:, None], torch.tensor(ids)] = OUTSIDE


def draw(
    logits: Tensor, uniform: Tensor, temperature: float, top_k: int, top_p: float
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """([R] tokens, [R] their log-probs before truncation, [R] kept mass, [R, V] True where top-k and top-p kept the token,
    None where they keep all) from logits [R, V]. Temperature 0 is the argmax, with its log-prob at temperature 1.
    """
    if temperature == 0:
        logprobs = torch.log_softmax(logits, -1)
        tokens = logits.argmax(-1)
        return tokens, logprobs.gather(1, tokens[:, None])[:, 0], torch.ones_like(uniform), None
    logprobs = torch.log_softmax(logits if temperature == 1 else logits / temperature, -1)
    kept, inside = torch.ones_like(uniform), None
    if top_k or top_p < 1:
        probabilities, kept = truncate(logprobs, top_k, top_p)
        inside = probabilities > 0
    else:
        probabilities = logprobs.exp()
    tokens = inverse_cdf(probabilities, uniform)
    return tokens, logprobs.gather(1, tokens[:, None])[:, 0], kept, inside


def generate(
    sampler: LocalSampler, prompts: Sequence[tuple[int, ...]], sampling: Sampling, key: int
) -> list[Completion]:
    """One completion per prompt, in order: a convenience over :meth:`LocalSampler.sample`."""
    requests = [Request(p, keys.derive(key, i), sampling) for i, p in enumerate(prompts)]
    return sorted(sampler.sample(requests), key=lambda c: c.index)
