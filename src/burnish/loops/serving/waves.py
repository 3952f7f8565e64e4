"""The one thread that owns the model: requests that arrive while it works wait, and are decoded together in the next wave."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from threading import Condition
from typing import NamedTuple

import torch
from torch import Tensor

from burnish.core import keys
from burnish.core.logprobs import token_logprobs, top_logprobs
from burnish.engines.attention import Packed
from burnish.engines.decode import MAX_ROWS, LocalSampler, Row
from burnish.engines.local import LocalModel
from burnish.errors import InputError
from burnish.loops.serving.asked import Asked, RefusedError
from burnish.types import Request

WAVE_TOKENS = 2**16
"""Columns of the key-value cache in one wave, rows times the longest row. A single request may need more."""


class Scored(NamedTuple):
    """A token and its log-probability under the model itself: at temperature 1, before top-p and top-k.

    None where it was not asked for, and for the first token of a prompt. ``top`` are the likeliest (id, log-prob), best first.
    """

    id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Read:
    """A prompt that is echoed: its tokens, with log-probs where they were asked for."""

    prompt: int
    tokens: tuple[Scored, ...]


@dataclass(frozen=True)
class Drawn:
    row: int
    token: Scored


@dataclass(frozen=True)
class Ended:
    """The row is complete: "eos", "stop" or "length"."""

    row: int
    finish: str


@dataclass(frozen=True)
class Failed:
    """The last event of a request that will not be answered."""

    status: int
    message: str


Event = Read | Drawn | Ended | Failed


@dataclass
class Job:
    """A request on its way. ``tell`` is called in the model's thread. Set ``abandoned`` when nobody waits any more."""

    asked: Asked
    tell: Callable[[Event], None]
    key: int = 0
    abandoned: bool = False


class Waves:
    """Answers jobs wave by wave in the thread that calls :meth:`run`. Everything else may be called from any thread.

    A request with a seed is drawn from that seed alone; one without from ``seed`` and a count of the requests so far.
    """

    def __init__(self, sampler: LocalSampler, *, seed: int = 0, queue: int = 64) -> None:
        self.sampler = sampler
        self._seed, self._limit = seed, queue
        self._jobs: deque[Job] = deque()
        self._ready = Condition()
        self._counter = count()
        self._closing = False

    def submit(self, asked: Asked, tell: Callable[[Event], None]) -> Job:
        """Queue a request. Raises RefusedError where too many wait already, and where the server is stopping."""
        with self._ready:
            if self._closing:
                raise RefusedError(503, "the server is stopping")
            if len(self._jobs) >= self._limit:
                raise RefusedError(503, f"{self._limit} requests are waiting already: try again later")
            place = ("seed", asked.seed) if asked.seed is not None else ("server", self._seed, next(self._counter))
            job = Job(asked, tell, keys.derive("serve", *place))
            self._jobs.append(job)
            self._ready.notify()
        return job

    def close(self) -> None:
        """Make :meth:`run` end after the token it is at; requests without a full answer fail."""
        with self._ready:
            self._closing = True
            self._ready.notify()

    def run(self) -> None:
        """Answer until closed. What the model cannot do fails the wave; any other error ends the run."""
        working: list[Job] = []
        try:
            while working := self._take():
                self._answer(working)
                if self._closing:
                    break
        finally:
            self.close()
            for job in (*working, *self._jobs):
                job.tell(Failed(503, "the server is stopping"))

    def _take(self) -> list[Job]:
        """The jobs of the next wave, in the order of their arrival: as many as fit, at least one; none when closing."""
        with self._ready:
            self._ready.wait_for(lambda: self._jobs or self._closing)
            if self._closing:
                return []
            taken = [self._jobs.popleft()]
            while self._jobs and fits([job.asked for job in (*taken, self._jobs[0])]):
                taken.append(self._jobs.popleft())
            return taken

    def _answer(self, jobs: Sequence[Job]) -> None:
        try:
            self._wave([job for job in jobs if not job.abandoned])
        except (InputError, RuntimeError, MemoryError) as error:  # torch reports a full memory as a RuntimeError
            status = 400 if isinstance(error, InputError) else 500
            print(f"a wave of {len(jobs)} requests failed: {error}", file=sys.stderr)
            for job in jobs:
                job.tell(Failed(status, f"the model cannot answer this: {error}"))

    def _wave(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if job.asked.echo:
                for number, tokens in enumerate(read(self.sampler.model, job.asked)):
                    job.tell(Read(number, tokens))
        owners: list[tuple[Job, int]] = []
        for job in jobs:
            rows = [(job, row) for row in range(job.asked.rows)]
            if job.asked.reply:
                owners += rows
            else:
                for _, row in rows:
                    job.tell(Ended(row, "length"))
        requests = [
            Request(job.asked.prompts[row // job.asked.n], keys.derive(job.key, row), job.asked.sampling)
            for job, row in owners
        ]

        def observe(rows: Sequence[Row], logits: Tensor) -> list[int]:
            tops = [owners[row.index][0].asked.top for row in rows]
            for row, token in zip(rows, scored(rows, logits, tops), strict=True):
                job, number = owners[row.index]
                job.tell(Drawn(number, token))
            return [row.index for row in rows if self._closing or owners[row.index][0].abandoned]

        for completion in self.sampler.sample(requests, observe):
            job, number = owners[completion.index]
            job.tell(Ended(number, completion.finish))


def fits(together: Sequence[Asked]) -> bool:
    """Whether these requests can be decoded as one wave."""
    rows = sum(asked.rows for asked in together)
    return rows <= MAX_ROWS and rows * max(asked.width for asked in together) <= WAVE_TOKENS


def scored(rows: Sequence[Row], logits: Tensor, tops: Sequence[int | None]) -> list[Scored]:
    """The newest token of every row, with log-probs from ``logits`` [R, V] and ``tops`` [R] alternatives where not None."""
    found = [Scored(row.tokens[-1]) for row in rows]
    wanted = [i for i, top in enumerate(tops) if top is not None]
    if not wanted:
        return found
    logprobs = torch.log_softmax(logits if len(wanted) == len(rows) else logits[wanted], -1)
    own = logprobs.gather(1, torch.tensor([[found[i].id] for i in wanted], device=logits.device))[:, 0]
    best, ids = logprobs.topk(max(top for top in tops if top is not None))
    for place, (i, value) in enumerate(zip(wanted, own.tolist(), strict=True)):
        pairs = zip(ids[place].tolist(), best[place].tolist(), strict=True)
        found[i] = Scored(found[i].id, value, tuple(pairs)[: tops[i]])
    return found


@torch.no_grad()
def read(model: LocalModel, asked: Asked) -> Iterator[tuple[Scored, ...]]:
    """The tokens of each prompt, with log-probs if the request wants them, by the forward pass that training uses."""
    for prompt in asked.prompts:
        if asked.top is None or len(prompt) == 1:
            yield tuple(Scored(token) for token in prompt)
            continue
        packed = Packed.of([torch.tensor(prompt[:1])], [torch.tensor(prompt[1:])])
        hidden = model.hidden(packed.tokens[None], packed.positions[None], packed)[0]
        states = hidden.index_select(0, packed.predictors.to(model.device))
        targets = packed.tokens[packed.places].to(model.device)
        own, _ = token_logprobs(states, model.head_weight, targets)
        ids, best = top_logprobs(states, model.head_weight, asked.top)
        rows = zip(prompt[1:], own.tolist(), ids.tolist(), best.tolist(), strict=True)
        rest = (Scored(t, value, tuple(zip(i, b, strict=True))) for t, value, i, b in rows)
        yield (Scored(prompt[0]), *rest)
