"""Rows to batches: collating rollouts, cutting minibatches, planning micro-batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from math import log

import numpy as np
import torch
from torch import Tensor

from burnish.core import keys
from burnish.errors import InputError
from burnish.types import Batch, Rollout


def padded(rows: Sequence[Sequence[float]] | Sequence[Sequence[int]], dtype: torch.dtype) -> Tensor:
    """[B, T] with zeros after each row's end."""
    out = torch.zeros(len(rows), max(map(len, rows), default=0), dtype=dtype)
    for line, row in zip(out, rows, strict=True):
        line[: len(row)] = torch.tensor(row, dtype=dtype)
    return out


def _behaviour_logprobs(rollout: Rollout) -> Sequence[float]:
    """Log-probs under the distribution that is trained: with kept ids ``log pi(y) - log(kept mass)``, else as sampled.

    Raises InputError where kept ids do not fit the tokens: under them a token could not have been sampled.
    """
    if not rollout.kept_ids:
        return rollout.sampler_logprobs
    count, masses, sets = len(rollout.tokens), len(rollout.kept), len(rollout.kept_ids)
    if not count == masses == sets:
        raise InputError(
            f"episode {rollout.episode} has {count} tokens, but kept mass for {masses} and kept ids for {sets}"
        )
    for place, (token, ids) in enumerate(zip(rollout.tokens, rollout.kept_ids, strict=True)):
        if ids and token not in ids:
            raise InputError(f"token {place} of episode {rollout.episode} is not among the ids it was sampled from")
    rows = zip(rollout.sampler_logprobs, rollout.kept, rollout.kept_ids, strict=True)
    return [logprob - log(mass) if ids else logprob for logprob, mass, ids in rows]


def _kept_ids(rollouts: Sequence[Rollout], longest: int) -> Tensor:
    """[B, T, K] the ids each token was sampled from, padded with -1; in 32 bits, as K may be large."""
    counts = np.zeros((len(rollouts), longest), dtype=np.int64)
    for line, rollout in zip(counts, rollouts, strict=True):
        line[: len(rollout.kept_ids)] = [len(ids) for ids in rollout.kept_ids]
    out = np.full((*counts.shape, int(counts.max())), -1, dtype=np.int32)
    out[np.arange(out.shape[2]) < counts[..., None]] = [i for r in rollouts for ids in r.kept_ids for i in ids]
    return torch.from_numpy(out)


def _check_suppressed(rollouts: Sequence[Rollout], suppressed: Sequence[int]) -> None:
    banned = frozenset(suppressed)
    for rollout in rollouts if banned else ():
        for place, (token, own) in enumerate(zip(rollout.tokens, rollout.mask, strict=True)):
            if own and token in banned:
                raise InputError(
                    f"token {place} of episode {rollout.episode} is suppressed, but the policy chose it: train with the "
                    "sampling.suppress that these rollouts were sampled with"
                )


def collate(
    rollouts: Sequence[Rollout], *, temperature: float = 1.0, max_tokens: int = 0, suppressed: tuple[int, ...] = ()
) -> Batch:
    """The batch of these segments, one row each, in this order. ``max_tokens`` is the sampling limit of an episode's turn.

    Rewards are placed at their tokens; position -1 is the last token of the row. The unit is the episode: its segments
    stay together. ``extras`` has ``steps`` [B, T] (True where a reward was given, be it 0), ``turn``, ``truncated`` and
    ``max_tokens`` [B]. Rows with kept ids are trained under the truncated policy: the ids become ``extras["kept_ids"]``,
    and ``sampler_logprobs`` those of the truncated policy too. ``suppressed`` ids are left out of every distribution; raises
    InputError where the policy chose one of them.
    """
    _check_suppressed(rollouts, suppressed)
    tokens = padded([r.tokens for r in rollouts], torch.long)
    token_rewards, steps = torch.zeros(tokens.shape, dtype=torch.float64), torch.zeros(tokens.shape, dtype=torch.bool)
    for row, rollout in enumerate(rollouts):
        for position, value, _ in rollout.rewards:
            place = position if position >= 0 else len(rollout.tokens) - 1
            token_rewards[row, place] += value
            steps[row, place] = True
    episodes = torch.tensor([r.episode for r in rollouts])
    truncated = torch.isin(episodes, torch.tensor([r.episode for r in rollouts if r.cut]))
    extras = {
        "steps": ("token", steps),
        "turn": ("row", torch.tensor([r.turn for r in rollouts])),
        "truncated": ("row", truncated),
        "max_tokens": ("row", torch.full((len(rollouts),), max_tokens)),
    }
    if any(r.kept_ids for r in rollouts):
        extras["kept_ids"] = ("token", _kept_ids(rollouts, tokens.shape[1]))
    return Batch(
        prompts=tuple(torch.tensor(r.prompt) for r in rollouts),
        tokens=tokens,
        mask=padded([r.mask for r in rollouts], torch.bool),
        lengths=torch.tensor([len(r.tokens) for r in rollouts]),
        groups=torch.tensor([r.group for r in rollouts]),
        episodes=episodes,
        units=torch.unique(episodes, return_inverse=True)[1],
        train=torch.tensor([r.train for r in rollouts]),
        sampler_logprobs=padded([_behaviour_logprobs(r) for r in rollouts], torch.float64),
        token_rewards=token_rewards,
        extras=extras,
        temperature=temperature,
        suppressed=suppressed,
    )


def minibatches(batch: Batch, count: int, key: int) -> Iterator[Batch]:
    """``count`` minibatches of whole groups, in an order drawn from ``key``. One minibatch is the batch itself."""
    if count == 1:
        yield batch
        return
    groups = torch.unique(batch.groups)
    count = min(count, len(groups))
    order = groups[torch.from_numpy(keys.permutation(key, len(groups)))]
    for part in torch.tensor_split(order, count):
        yield batch.select(torch.nonzero(torch.isin(batch.groups, part)).squeeze(1))


def micro_batches(batch: Batch, token_budget: int, *, apart: bool = False) -> list[list[int]]:
    """Row numbers of each micro-batch: whole units, rows of one prompt side by side, at most ``token_budget`` tokens.

    A prompt shared by rows of the same micro-batch is counted once, or once a row if they are ``apart``. A unit larger than
    the budget stands alone. The plan depends on the batch and the budget only, so it is the same when a run is resumed.
    """
    plan: list[list[int]] = []
    used, prompts = 0, set[tuple[int, tuple[int, ...]]]()
    for rows in _units_by_prompt(batch):
        keyed = {(i if apart else 0, tuple(batch.prompts[i].tolist())) for i in rows}
        completion = int(batch.lengths[rows].sum())
        cost = completion + sum(len(prompt) for _, prompt in keyed - prompts)
        if not plan or used + cost > token_budget:
            plan.append([])
            used, prompts = 0, set()
            cost = completion + sum(len(prompt) for _, prompt in keyed)
        plan[-1].extend(rows)
        used += cost
        prompts |= keyed
    return plan


def _units_by_prompt(batch: Batch) -> list[list[int]]:
    """Units (lists of rows) ordered by the first appearance of their first row's prompt, then by first row."""
    units: dict[int, list[int]] = {}
    for row, unit in enumerate(batch.units.tolist()):
        units.setdefault(unit, []).append(row)
    first: dict[tuple[int, ...], int] = {}
    for row, prompt in enumerate(batch.prompts):
        first.setdefault(tuple(prompt.tolist()), row)
    return sorted(units.values(), key=lambda rows: (first[tuple(batch.prompts[rows[0]].tolist())], rows[0]))


def epoch_order(key: int, count: int, start: int, take: int) -> list[int]:
    """Indices ``start .. start + take`` of an endless stream of shuffled passes over ``count`` items."""
    return list(islice(keys.passes(key, count, start), take))


def flatten(groups: Iterable[Sequence[Rollout]]) -> list[Rollout]:
    return [rollout for group in groups for rollout in group]
