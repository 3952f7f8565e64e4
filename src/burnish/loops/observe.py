"""What a step of the reinforcement-learning loop reports about its rollouts, its speed, and what broke."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch

from burnish.core.episodes import chosen
from burnish.core.method import Method
from burnish.engines.local import LocalModel
from burnish.loops.plan import peak_memory_gb
from burnish.rewards.compose import DOMAIN
from burnish.types import Batch, Example, Metrics, Sampling

if TYPE_CHECKING:
    from burnish.loops.rollouts import Group
    from burnish.loops.update import Seen

Item = TypeVar("Item")


def describe(groups: Sequence[Group], batch: Batch, algo: Method, sampling: Sampling) -> Metrics:
    """Rewards by episode (total, by part, by domain), lengths, and how many groups and tokens had something to teach.

    Tokens that the policy did not choose are no part of a length.
    """
    rollouts = [r for g in groups for r in g.rollouts if r.train]
    scores = [score for g in groups for score in g.scores]
    metrics: Metrics = {"reward/mean": (sum(scores), len(scores))}
    for name in {part.part for r in rollouts for part in r.rewards}:
        total = sum(p.value for r in rollouts for p in r.rewards if p.part == name)
        metrics[f"reward/{name}"] = (total, len(scores))
    for name, own in by_domain([(g.example, g) for g in groups]).items():
        paid = [score for g in own for score in g.scores]
        metrics[f"reward/domain/{name}"] = (sum(paid), len(paid))
    equal = sum(len({round(score, 12) for score in g.scores}) == 1 for g in groups)
    useful = int(batch.lengths[~algo.idle(batch)].sum())
    if sampling.repetition:
        metrics["length/repeated_frac"] = (sum(r.finish == "repetition" for r in rollouts), len(scores))
    return metrics | _values(batch) | {
        "length/mean": (sum(sum(r.mask) for r in rollouts), len(scores)),
        "length/truncated_frac": (sum(r.cut for r in rollouts), len(scores)),
        "groups/zero_variance": (equal, len(groups)),
        "tokens/useful_frac": (useful, int(batch.lengths.sum())),
    }  # fmt: skip


def by_domain(found: Iterable[tuple[Example, Item]]) -> dict[str, list[Item]]:
    """What belongs to examples, by their ``meta["domain"]``; what has none is left out."""
    domains: dict[str, list[Item]] = {}
    for example, item in found:
        if DOMAIN in example.meta:
            domains.setdefault(str(example.meta[DOMAIN]), []).append(item)
    return domains


def _values(batch: Batch) -> Metrics:
    """``value/explained_variance``: 1 - Var(R - V)/Var(R) over chosen tokens, before the update; 1 is perfect."""
    if batch.values is None or batch.returns is None:
        return {}
    where = chosen(batch)
    returns, values = batch.returns[where], batch.values[where].to(batch.returns.dtype)
    if len(returns) < 2 or float(returns.var()) == 0:
        return {}
    return {"value/explained_variance": (float(1 - (returns - values).var() / returns.var()), 1.0)}


def speed(batch: Batch, trained: int, times: dict[str, float]) -> dict[str, float]:
    """Token counts of the step and what cannot repeat: seconds, tokens per second, memory in 10^9 bytes."""
    tokens = int(batch.lengths.sum())
    return {
        "tokens/sampled": tokens,
        "tokens/trained": trained,
        **{f"perf/time_{phase}": seconds for phase, seconds in times.items()},
        "perf/time_step": times["rollout"] + times["train"],
        "perf/rollout_tokens_per_s": tokens / times["rollout"],
        "perf/train_tokens_per_s": tokens / times["train"],
        "perf/memory_peak_gb": peak_memory_gb(),
    }


def broken(policy: LocalModel, groups: Sequence[Group], seen: Seen) -> str:
    """Which samples have a log-prob that is not finite: what a skipped update is blamed on."""
    rollouts = [r for g in groups for r in g.rollouts]
    bad = [
        f"group {r.group}, episode {r.episode}: {policy.chat.decode(r.tokens)[:80]!r}"
        for r, row, known in zip(rollouts, seen.logprobs, seen.rows.tolist(), strict=True)
        if known and not torch.isfinite(row[: len(r.tokens)]).all()
    ]
    return "; ".join(bad[:5]) or "every log-prob was finite, so the overflow happened in the backward pass"
