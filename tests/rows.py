"""Rollouts and batches for tests: written by hand, or ragged and random with everything a loss may look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from burnish.data.batching import collate
from burnish.types import Batch, RewardPart, Rollout


def rollout(
    length: int,
    reward: float = 0.0,
    *,
    group: int = 0,
    episode: int = 0,
    mask: Sequence[bool] | None = None,
    prompt: Sequence[int] = (1, 2),
    tokens: Sequence[int] | None = None,
    train: bool = True,
) -> Rollout:
    tokens = tuple(tokens) if tokens is not None else tuple(range(3, 3 + length))
    chosen = tuple(mask) if mask is not None else (True,) * length
    return Rollout(
        tuple(prompt), tokens, chosen, (0.0,) * length, (RewardPart(-1, reward, "reward"),), group, episode, train=train
    )


def groups(rewards: Sequence[Sequence[float]], lengths: Sequence[Sequence[int]] | None = None) -> list[Rollout]:
    """One rollout per entry: ``rewards[g][i]`` in group g, of length 1 unless ``lengths`` says otherwise."""
    rows: list[Rollout] = []
    for number, line in enumerate(rewards):
        for place, reward in enumerate(line):
            length = lengths[number][place] if lengths else 1
            rows.append(rollout(length, reward, group=number, episode=len(rows)))
    return rows


def cut(row: Rollout, at: Sequence[int]) -> list[Rollout]:
    """The same episode as several segments: the prompt of each is all that came before it."""
    edges = [0, *at, len(row.tokens)]
    segments = []
    for turn, (start, end) in enumerate(pairwise(edges)):
        last = end == len(row.tokens)
        parts = [p._replace(position=len(row.tokens) - 1 if p.position < 0 else p.position) for p in row.rewards]
        segments.append(
            replace(
                row,
                prompt=row.prompt + row.tokens[:start],
                tokens=row.tokens[start:end],
                mask=row.mask[start:end],
                sampler_logprobs=row.sampler_logprobs[start:end],
                rewards=tuple(p._replace(position=p.position - start) for p in parts if start <= p.position < end),
                turn=turn,
                finish=row.finish if last else "stop",
            )
        )
    return segments


def padded(rows: Sequence[Sequence[float]]) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([[*row, *[0.0] * (width - len(row))] for row in rows], dtype=torch.float64)


def batch_of(rows: Sequence[Rollout], max_tokens: int = 10, **annotations: Sequence[Sequence[float]]) -> Batch:
    """The collated rows with per-token annotations given as ragged lists."""
    batch = collate(rows, max_tokens=max_tokens)
    return replace(batch, **{name: padded(values) for name, values in annotations.items()})
