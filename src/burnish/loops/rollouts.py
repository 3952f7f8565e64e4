"""Fresh groups for every step: draw examples, sample completions, ask for rewards. Or read them back from disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from burnish.core import keys
from burnish.data.batching import epoch_order
from burnish.data.chat import Chat
from burnish.errors import InputError
from burnish.types import Batch, Completion, Example, Request, Reward, RewardPart, Rollout, Sampler, Sampling, Task

RewardFunction = Callable[[Example, Sequence[Completion]], list[Reward]]


@dataclass(frozen=True)
class Group:
    """The rollouts of one prompt, with what is needed to show them. ``draw`` counts the groups ever requested."""

    draw: int
    example: Example
    rollouts: tuple[Rollout, ...]
    texts: tuple[str, ...]


def draw_groups(
    sampler: Sampler, chat: Chat, task: Task, reward: RewardFunction, *, draws: range, size: int, sampling: Sampling,
    seed: int, version: int,
) -> list[Group]:  # fmt: skip
    """``size`` completions for each of the draws, rewarded. The result does not depend on the order rows finish in.

    Draw d takes item d of an endless shuffled pass over the task. All randomness follows from (seed, draw, sample).
    Raises InputError when a reward is missing, not finite, or given for a token that does not exist.
    """
    order = epoch_order(keys.derive(seed, "order"), len(task), draws.start, len(draws))
    examples = [task[i] for i in order]
    prompts = [chat.encode_prompt(example.messages) for example in examples]
    requests = [
        Request(prompt, keys.derive(seed, "sample", draw, i, 0), sampling)
        for draw, prompt in zip(draws, prompts, strict=True)
        for i in range(size)
    ]
    completions = sorted(sampler.sample(requests), key=lambda c: c.index)
    groups = []
    for number, (draw, example, prompt) in enumerate(zip(draws, examples, prompts, strict=True)):
        members = completions[number * size : (number + 1) * size]
        rewards = reward(example, members)
        if len(rewards) != size:
            raise InputError(
                f"the reward returned {len(rewards)} values for {size} completions; it must return one each"
            )
        rollouts = tuple(
            _rollout(prompt, c, checked(r, c), group=draw, episode=draw * size + i, version=version)
            for i, (c, r) in enumerate(zip(members, rewards, strict=True))
        )
        groups.append(Group(draw, example, rollouts, tuple(c.text for c in members)))
    return groups


def checked(reward: Reward, completion: Completion) -> Reward:
    """The reward with position -1 resolved to the last token. Raises InputError where a value or position is unusable."""
    last = len(completion.tokens) - 1
    for position, value, part in reward:
        if not np.isfinite(value):
            raise InputError(
                f"reward part '{part}' is {value} for the completion {completion.text[:200]!r}; return a finite number"
            )
        if not -1 <= position <= last:
            raise InputError(f"reward part '{part}' is at token {position}, but the completion has {last + 1} tokens")
    return tuple(RewardPart(last if p == -1 else p, float(v), part) for p, v, part in reward)


def _rollout(
    prompt: tuple[int, ...], c: Completion, reward: Reward, *, group: int, episode: int, version: int
) -> Rollout:
    return Rollout(
        prompt,
        c.tokens,
        (True,) * len(c.tokens),
        c.logprobs,
        reward,
        group,
        episode,
        version=version,
        finish=c.finish,
        kept=c.kept,
        kept_ids=c.kept_ids,
    )


def _lists(tensor: Tensor | None, batch: Batch) -> list[list[float] | None]:
    """Rows of a [B, T] tensor cut to their lengths; None where the tensor is missing or the row was not computed."""
    if tensor is None:
        return [None] * len(batch)
    rows = [row[:length].tolist() for row, length in zip(tensor, batch.lengths.tolist(), strict=True)]
    return [None if row and row[0] != row[0] else row for row in rows]


def rollout_table(
    step: int, groups: Sequence[Group], batch: Batch, trainer: Mapping[str, Tensor], chat: Chat
) -> pa.Table:
    """One row a rollout: what was asked, what was said, and every number the algorithm saw, token by token.

    ``trainer`` holds [B, T] tensors ``logprobs`` and ``entropy``, NaN on rows that were not trained on.
    """
    rollouts = [r for g in groups for r in g.rollouts]
    columns: dict[str, list[Any]] = {
        "step": [step] * len(rollouts),
        "group": [r.group for r in rollouts],
        "episode": [r.episode for r in rollouts],
        "turn": [r.turn for r in rollouts],
        "version": [r.version for r in rollouts],
        "train": [r.train for r in rollouts],
        "finish": [r.finish for r in rollouts],
        "prompt": [chat.decode(r.prompt, special=True) for r in rollouts],
        "completion": [text for g in groups for text in g.texts],
        "example": [_example_json(g.example) for g in groups for _ in g.rollouts],
        "prompt_ids": [list(r.prompt) for r in rollouts],
        "token_ids": [list(r.tokens) for r in rollouts],
        "mask": [list(r.mask) for r in rollouts],
        "reward": [r.reward for r in rollouts],
        "rewards": [[part._asdict() for part in r.rewards] for r in rollouts],
        "advantages": _lists(batch.advantages, batch),
        "sampler_logprobs": [list(r.sampler_logprobs) for r in rollouts],
        "kept": [list(r.kept) for r in rollouts],
        "kept_ids": [[list(ids) for ids in r.kept_ids] for r in rollouts],
        "old_logprobs": _lists(batch.old_logprobs, batch),
        "logprobs": _lists(trainer.get("logprobs"), batch),
        "ref_logprobs": _lists(batch.ref_logprobs, batch),
        "entropy": _lists(trainer.get("entropy"), batch),
        "values": _lists(batch.values, batch),
    }
    return pa.table({name: pa.array(values, type=_TYPES.get(name)) for name, values in columns.items()})


_PART = pa.struct([("position", pa.int32()), ("value", pa.float64()), ("part", pa.string())])
_TYPES: dict[str, pa.DataType] = {
    "prompt_ids": pa.list_(pa.int32()),
    "token_ids": pa.list_(pa.int32()),
    "kept_ids": pa.list_(pa.list_(pa.int32())),
    "rewards": pa.list_(_PART),
    **dict.fromkeys(
        ("advantages", "sampler_logprobs", "kept", "old_logprobs", "logprobs", "ref_logprobs", "entropy", "values"),
        pa.list_(pa.float64()),
    ),
}


def _example_json(example: Example) -> str:
    record = {"messages": example.messages, "answer": example.answer, "meta": example.meta}
    return json.dumps(record, sort_keys=True, default=str)


def read_groups(directory: Path, step: int) -> list[Group]:
    """The groups that an earlier run saved at ``step``. Raises InputError when there is no such file."""
    path = directory / f"step-{step:06d}.parquet"
    if not path.exists():
        raise InputError(f"no rollouts of step {step} in {directory}; --replay takes the rollouts/ folder of a stage")
    by_group: dict[int, list[dict[str, Any]]] = {}
    for row in pq.read_table(path).to_pylist():
        by_group.setdefault(row["group"], []).append(row)
    return [_group(rows) for rows in by_group.values()]


def _group(rows: list[dict[str, Any]]) -> Group:
    record = json.loads(rows[0]["example"])
    example = Example(tuple(record["messages"]), record["answer"], record["meta"])
    rollouts = tuple(
        Rollout(
            tuple(row["prompt_ids"]), tuple(row["token_ids"]), tuple(row["mask"]), tuple(row["sampler_logprobs"]),
            tuple(RewardPart(**part) for part in row["rewards"]), row["group"], row["episode"], row["turn"],
            row["version"], row["finish"], row["train"], tuple(row["kept"]),
            kept_ids=tuple(tuple(ids) for ids in row["kept_ids"]),
        )
        for row in rows
    )  # fmt: skip
    return Group(rows[0]["group"], example, rollouts, tuple(row["completion"] for row in rows))


def stamped(groups: Sequence[Group], version: int) -> list[Group]:
    """The same groups, as if sampled by weights of this version (replayed rollouts have the version of their own run)."""
    return [replace(g, rollouts=tuple(replace(r, version=version) for r in g.rollouts)) for g in groups]
