"""Fresh groups for every step: draw examples, sample completions, ask for rewards. Or read them back from disk."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from burnish.core import keys
from burnish.data.batching import epoch_order
from burnish.data.chat import Chat
from burnish.errors import InputError
from burnish.loops.episodes import Opening, checked, environments, has_turns, play
from burnish.rewards.base import RewardFunction
from burnish.rewards.pool import score_groups
from burnish.types import (
    Batch,
    Completion,
    EnvTask,
    Example,
    Request,
    RewardPart,
    Rollout,
    Sampler,
    Sampling,
    Task,
)


@dataclass(frozen=True)
class Group:
    """The rollouts of one prompt, with what is needed to show them. ``draw`` counts the groups ever requested.

    An episode that needed several rows has them side by side. ``texts`` has one text a row.
    """

    draw: int
    example: Example
    rollouts: tuple[Rollout, ...]
    texts: tuple[str, ...]

    @property
    def scores(self) -> tuple[float, ...]:
        """The reward of each trained episode, in order: the sum over its rows."""
        total: dict[int, float] = {}
        for rollout in self.rollouts:
            if rollout.train:
                total[rollout.episode] = total.get(rollout.episode, 0.0) + rollout.reward
        return tuple(total.values())


def draw_groups(
    sampler: Sampler, chat: Chat, task: Task, reward: RewardFunction, *, draws: range, size: int, sampling: Sampling,
    seed: int, version: int, greedy: bool = False, rival: Sampler | None = None,
) -> list[Group]:  # fmt: skip
    """``size`` completions for each of the draws, rewarded. The result does not depend on the order rows finish in.

    With ``greedy`` each group has one more, decoded at temperature 0, with a ``rival`` it has ``size`` more of the rival's;
    neither is trained on (``train=False``).
    Draw d takes item d of an endless shuffled pass over the task. All randomness follows from (seed, draw, sample, turn).
    A task with an ``env`` is played for several turns (:mod:`burnish.loops.episodes`) and rewarded by it, not by ``reward``.
    Raises InputError when a reward is missing, not finite, or given for a token that does not exist.
    """
    order = epoch_order(keys.derive(seed, "order"), len(task), draws.start, len(draws))
    examples = [task[i] for i in order]
    members = [sampling] * size + [replace(sampling, temperature=0.0)] * greedy
    if greedy and rival is not None:
        raise ValueError("a group is compared with a greedy completion or with a rival's, not with both")
    if has_turns(task):
        if rival is not None:
            raise InputError("completions are compared with a rival's in one turn: choose a task of one turn")
        return _play_groups(sampler, chat, task, examples, draws, members, seed, version)
    prompts = [chat.encode_prompt(example.messages) for example in examples]
    requests = [
        Request(prompt, keys.derive(seed, "sample", draw, i, 0), how)
        for draw, prompt in zip(draws, prompts, strict=True)
        for i, how in enumerate(members)
    ]
    completions = sorted(sampler.sample(requests), key=lambda c: c.index)
    if rival is not None:
        completions = _interleaved(completions, _rivals(rival, requests), size)
        members = members * 2
    said = [completions[start : start + len(members)] for start in range(0, len(completions), len(members))]
    scored = score_groups(reward, list(zip(examples, said, strict=True)))
    groups = []
    for draw, prompt, example, own, rewards in zip(draws, prompts, examples, said, scored, strict=True):
        if len(rewards) != len(own):
            raise InputError(
                f"the reward returned {len(rewards)} values for {len(own)} completions; it must return one each"
            )
        rollouts = tuple(
            Rollout(
                prompt, c.tokens, (True,) * len(c.tokens), c.logprobs, checked(r, c), draw, draw * len(members) + i,
                version=version, finish=c.finish, train=i < size, kept=c.kept,
                kept_ids=c.kept_ids,
            )
            for i, (c, r) in enumerate(zip(own, rewards, strict=True))
        )  # fmt: skip
        groups.append(Group(draw, example, rollouts, tuple(c.text for c in own)))
    return groups


def _rivals(rival: Sampler, requests: Sequence[Request]) -> list[Completion]:
    """The rival's answer to every request, from randomness of its own."""
    own = [replace(request, key=keys.derive(request.key, "rival")) for request in requests]
    return sorted(rival.sample(own), key=lambda c: c.index)


def _interleaved(own: Sequence[Completion], other: Sequence[Completion], size: int) -> list[Completion]:
    """Group by group: ``size`` completions of the policy, then ``size`` of the rival."""
    starts = range(0, len(own), size)
    return [c for start in starts for side in (own, other) for c in side[start : start + size]]


def _play_groups(
    sampler: Sampler, chat: Chat, task: EnvTask, examples: Sequence[Example], draws: range, members: Sequence[Sampling],
    seed: int, version: int,
) -> list[Group]:  # fmt: skip
    size = len(members)
    openings = [
        Opening(env, (seed, "sample", draw, i), how, draw, draw * size + i, train=how.temperature > 0)
        for draw, example in zip(draws, examples, strict=True)
        for i, (how, env) in enumerate(zip(members, environments(task, example, size), strict=True))
    ]
    episodes = play(sampler, chat, openings, max_turns=task.max_turns, version=version)
    groups = []
    for number, (draw, example) in enumerate(zip(draws, examples, strict=True)):
        rollouts = tuple(r for episode in episodes[number * size : (number + 1) * size] for r in episode.rollouts)
        groups.append(Group(draw, example, rollouts, tuple(chat.decode(r.tokens, special=True) for r in rollouts)))
    return groups


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
        "returns": _lists(batch.returns, batch),
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
    "reward": pa.float64(),
    "kept_ids": pa.list_(pa.list_(pa.int32())),
    "rewards": pa.list_(_PART),
    **dict.fromkeys(
        (
            "advantages",
            "returns",
            "sampler_logprobs",
            "kept",
            "old_logprobs",
            "logprobs",
            "ref_logprobs",
            "entropy",
            "values",
        ),
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
