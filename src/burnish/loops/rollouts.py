"""Fresh groups for every step: draw examples, sample completions, ask for rewards. Or read them back from disk."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from burnish.core import keys
from burnish.core.orders import Graded, Items, Order, Outcome, Pick, Shuffled
from burnish.data.chat import Chat
from burnish.errors import InputError
from burnish.loops.episodes import Opening, checked, environments, has_turns, play
from burnish.loops.failures import Lost
from burnish.rewards.base import RewardFunction
from burnish.rewards.compose import DOMAIN
from burnish.rewards.pool import score_groups
from burnish.types import (
    Batch,
    Completion,
    EnvTask,
    Example,
    Request,
    Reward,
    RewardPart,
    Rollout,
    Sampler,
    Sampling,
    Task,
)

UNKNOWN = Pick(-1, "")
"""The pick of a group that was read from a file without this column."""


class Asked(NamedTuple):
    """A prompt that is asked: the ``draw``-th group ever requested, of the item that was picked for it."""

    draw: int
    pick: Pick
    example: Example


@dataclass(frozen=True)
class Group:
    """The rollouts of one prompt, with what is needed to show them. ``draw`` counts the groups ever requested.

    An episode that needed several rows has them side by side. ``texts`` has one text a row. ``pick`` says which item
    of the task the example is, and why it was drawn; rollouts of older runs do not say it.
    """

    draw: int
    example: Example
    rollouts: tuple[Rollout, ...]
    texts: tuple[str, ...]
    pick: Pick = UNKNOWN

    @property
    def scores(self) -> tuple[float, ...]:
        """The reward of each trained episode, in order: the sum over its rows."""
        total: dict[int, float] = {}
        for rollout in self.rollouts:
            if rollout.train:
                total[rollout.episode] = total.get(rollout.episode, 0.0) + rollout.reward
        return tuple(total.values())

    @property
    def outcome(self) -> Outcome:
        """What an order learns from: the reward of each trained episode, part by part."""
        episodes: dict[int, dict[str, float]] = {}
        for rollout in self.rollouts:
            if rollout.train:
                parts = episodes.setdefault(rollout.episode, {})
                for part in rollout.rewards:
                    parts[part.part] = parts.get(part.part, 0.0) + part.value
        return Outcome(self.pick.item, tuple(episodes.values()))


@dataclass(frozen=True)
class Grouping:
    """How draws become groups: who samples, what for, and who rewards. ``size`` completions of each prompt.

    With ``greedy`` each group has one more, decoded at temperature 0, with a ``rival`` it has ``size`` more of the rival's;
    neither is trained on (``train=False``). All randomness follows from (seed, draw, sample, turn).
    """

    sampler: Sampler
    chat: Chat
    task: Task
    reward: RewardFunction
    size: int
    sampling: Sampling
    seed: int
    greedy: bool = False
    rival: Sampler | None = None

    def __post_init__(self) -> None:
        if self.greedy and self.rival is not None:
            raise ValueError("a group is compared with a greedy completion or with a rival's, not with both")
        if self.rival is not None and has_turns(self.task):
            raise InputError("completions are compared with a rival's in one turn: choose a task of one turn")

    @property
    def members(self) -> list[Sampling]:
        """How the policy's own completions of a group are sampled."""
        return [self.sampling] * self.size + [replace(self.sampling, temperature=0.0)] * self.greedy

    @property
    def items(self) -> Items:
        """The items of the task, for an order to choose from."""
        return Items(len(self.task), keys.derive(self.seed, "order"), lambda: grades(self.task))

    def ask(self, draws: range, picks: Sequence[Pick]) -> list[Asked]:
        return [Asked(draw, pick, self.task[pick.item]) for draw, pick in zip(draws, picks, strict=True)]

    def requests(self, asked: Asked) -> list[Request]:
        """A request for each of the policy's own completions."""
        prompt = self.chat.encode_prompt(asked.example.messages)
        return [
            Request(prompt, keys.derive(self.seed, "sample", asked.draw, i, 0), how)
            for i, how in enumerate(self.members)
        ]

    def groups(self, asked: Sequence[Asked], version: int) -> tuple[list[Group], list[Lost]]:
        """Sample and reward: the groups, and what failing environments have cost, in the order of the draws.

        A task with an ``env`` is played for several turns (:mod:`burnish.loops.episodes`) and rewarded by it, not by
        ``reward``. Raises InputError when a reward is missing, not finite, or given for a token that does not exist.
        """
        if has_turns(self.task):
            return self._played(self.task, asked, version)
        requests = [request for each in asked for request in self.requests(each)]
        completions = sorted(self.sampler.sample(requests), key=lambda c: c.index)
        size = len(self.members)
        if self.rival is not None:
            completions = _interleaved(completions, _rivals(self.rival, requests), self.size)
            size *= 2
        said = [completions[start : start + size] for start in range(0, len(completions), size)]
        return self.graded(asked, said, [version] * len(asked)), []

    def graded(
        self, asked: Sequence[Asked], said: Sequence[Sequence[Completion]], versions: Sequence[int]
    ) -> list[Group]:
        """Groups of completions that are there, rewarded all together."""
        scored = score_groups(self.reward, [(each.example, own) for each, own in zip(asked, said, strict=True)])
        return [
            self._group(each, own, rewards, version)
            for each, own, rewards, version in zip(asked, said, scored, versions, strict=True)
        ]

    def _group(self, asked: Asked, own: Sequence[Completion], rewards: Sequence[Reward], version: int) -> Group:
        if len(rewards) != len(own):
            raise InputError(
                f"the reward returned {len(rewards)} values for {len(own)} completions; it must return one each"
            )
        draw, prompt = asked.draw, self.chat.encode_prompt(asked.example.messages)
        rollouts = tuple(
            Rollout(
                prompt, c.tokens, c.chosen, c.logprobs, checked(r, c), draw, draw * len(own) + i, version=version,
                finish=c.finish, train=i < self.size, kept=c.kept, kept_ids=c.kept_ids,
            )
            for i, (c, r) in enumerate(zip(own, rewards, strict=True))
        )  # fmt: skip
        return Group(draw, asked.example, rollouts, tuple(c.text for c in own), asked.pick)

    def _played(self, task: EnvTask, asked: Sequence[Asked], version: int) -> tuple[list[Group], list[Lost]]:
        members = self.members
        openings = [
            Opening(
                env, (self.seed, "sample", each.draw, i), how, each.draw,
                each.draw * len(members) + i, train=i < self.size,
            )
            for each in asked
            for i, (how, env) in enumerate(zip(members, environments(task, each.example, len(members)), strict=True))
        ]  # fmt: skip
        episodes = play(self.sampler, self.chat, openings, max_turns=task.max_turns, version=version, spare=True)
        groups, lost = list[Group](), list[Lost]()
        for number, (draw, pick, example) in enumerate(asked):
            own = episodes[number * len(members) : (number + 1) * len(members)]
            failed = [(i, episode.failure) for i, episode in enumerate(own) if episode.failure]
            if failed:
                lost.append(Lost(draw, pick.item, failed[0][0], len(failed), failed[0][1]))
                continue
            rollouts = tuple(r for episode in own for r in episode.rollouts)
            texts = tuple(self.chat.decode(r.tokens, special=True) for r in rollouts)
            groups.append(Group(draw, example, rollouts, texts, pick))
        return groups, lost


def grades(task: Task) -> list[Graded]:
    """How difficult each item of a task is: ``meta["difficulty"]``, to be compared within ``meta["domain"]``.

    Raises InputError where an item does not say it.
    """
    found = []
    for index in range(len(task)):
        meta = task[index].meta
        difficulty = meta.get("difficulty")
        if isinstance(difficulty, bool) or not isinstance(difficulty, int | float) or not math.isfinite(difficulty):
            raise InputError(
                f'item {index} has the difficulty {difficulty!r}: this order needs a number in meta["difficulty"] of every '
                "item (a column of that name); add it, or choose an order by success rate, order=Prioritised"
            )
        found.append(Graded(str(meta.get(DOMAIN, "")), float(difficulty)))
    return found


def draw_groups(
    sampler: Sampler, chat: Chat, task: Task, reward: RewardFunction, *, draws: range, size: int, sampling: Sampling,
    seed: int, version: int, greedy: bool = False, rival: Sampler | None = None, order: Order | None = None,
) -> list[Group]:  # fmt: skip
    """The groups of these draws, as a run with this ``order`` begins with them (see :class:`Grouping`); None shuffles.

    The result does not depend on the order rows finish in. Raises InputError where an environment fails.
    """
    grouping = Grouping(sampler, chat, task, reward, size, sampling, seed, greedy, rival)
    picks, _ = (order or Shuffled()).choose(draws, 0, grouping.items, {})
    groups, lost = grouping.groups(grouping.ask(draws, picks), version)
    if lost:
        raise lost[0].error
    return groups


def _rivals(rival: Sampler, requests: Sequence[Request]) -> list[Completion]:
    """The rival's answer to every request, from randomness of its own."""
    own = [replace(request, key=keys.derive(request.key, "rival")) for request in requests]
    return sorted(rival.sample(own), key=lambda c: c.index)


def _interleaved(own: Sequence[Completion], other: Sequence[Completion], size: int) -> list[Completion]:
    """Group by group: ``size`` completions of the policy, then ``size`` of the rival."""
    starts = range(0, len(own), size)
    return [c for start in starts for side in (own, other) for c in side[start : start + size]]


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
        "item": [g.pick.item for g in groups for _ in g.rollouts],
        "why": [g.pick.why for g in groups for _ in g.rollouts],
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
    texts = tuple(row["completion"] for row in rows)
    return Group(
        rows[0]["group"],
        example,
        rollouts,
        texts,
        Pick(rows[0]["item"], rows[0]["why"]) if "item" in rows[0] else UNKNOWN,
    )


def stamped(groups: Sequence[Group], version: int) -> list[Group]:
    """The same groups, as if sampled by weights of this version (replayed rollouts have the version of their own run)."""
    return [replace(g, rollouts=tuple(replace(r, version=version) for r in g.rollouts)) for g in groups]
