"""Episodes of several turns: the policy speaks, its environment answers, until the episode is over.

All live episodes advance together, one call of the sampler a turn. What an environment says becomes part of the row, masked,
as long as the chat template only appends; where it rewrites what was there, the rest of the episode is a new row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeGuard

import numpy as np

from burnish.core import keys
from burnish.data.chat import Chat
from burnish.errors import InputError
from burnish.loops.failures import Broken, Failure
from burnish.types import (
    Completion,
    Env,
    EnvTask,
    Example,
    Game,
    Hearing,
    Message,
    Request,
    Reward,
    RewardPart,
    Rollout,
    Sampler,
    Sampling,
    Task,
)


def has_turns(task: Task) -> TypeGuard[EnvTask]:
    """Whether the task is a conversation: it has an ``env``. Raises InputError where it does not say for how long."""
    if not hasattr(task, "env"):
        return False
    if not hasattr(task, "max_turns"):
        raise InputError(
            f"{type(task).__name__} has an env but no max_turns: say after how many turns an episode is cut"
        )
    if not isinstance(task.max_turns, int) or task.max_turns < 1:
        raise InputError(f"max_turns is {task.max_turns!r}: an episode has at least one turn")
    return True


def environments(task: EnvTask, example: Example, count: int, *, meet: bool = True) -> Sequence[Env]:
    """One env for each of ``count`` episodes. Where the players of a game ``meet``, their envs are linked, to train on.

    Envs that cannot be made fail when their episode begins, as they may fail later. But an InputError, of a setting that
    cannot work or of a package that is missing, is raised at once: there would be nothing else.
    """
    try:
        if meet and isinstance(task, Game):
            return task.seats(example, count)
        return [task.env(example) for _ in range(count)]
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - what else a task's code raises costs its episodes, not the run
        return [Broken(error)] * count


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


FAILED = "failed"
"""The finish of an episode whose environment has failed."""


@dataclass(frozen=True)
class Opening:
    """An episode to be played. Its randomness follows from ``names``: turn k is drawn with the key of (*names, k).

    ``sampling`` is for one turn. ``train`` False marks an episode that only serves as a baseline.
    """

    env: Env
    names: tuple[str | int, ...]
    sampling: Sampling
    group: int = 0
    episode: int = 0
    train: bool = True


@dataclass(frozen=True)
class Episode:
    """A played episode: its rows, and everything that was said after the opening messages.

    Where its environment has failed it has no rows, and ``failure`` says why.
    """

    rollouts: tuple[Rollout, ...]
    messages: tuple[Message, ...]
    failure: Failure | None = None

    @property
    def completion(self) -> Completion:
        """The episode as one completion: all sampled tokens, all messages, and why it ended.

        Where the environment has failed it is the one of a policy that says nothing, with finish "failed".
        """
        if self.failure:
            return Completion((), "", ({"role": "assistant", "content": ""},), FAILED)
        tokens = tuple(t for r in self.rollouts for t, own in zip(r.tokens, r.mask, strict=True) if own)
        text = " ".join(message["content"] for message in self.messages)
        return Completion(tokens, text, self.messages, self.rollouts[-1].finish)


def play(
    sampler: Sampler, chat: Chat, openings: Sequence[Opening], *, max_turns: int, version: int = 0, spare: bool = False
) -> list[Episode]:
    """Play every episode to its end: the environment says so, ``max_turns`` are over, or the context is full.

    An episode does not depend on what is played beside it, unless its env is linked to another's. The last row of an episode
    finishes with "eos" where the environment ended it and with "length" where it was cut; rows before it with "stop".

    An exception of an environment, or an answer of it that cannot be used, goes out to the caller. With ``spare`` it ends
    its own episode only, which then has a ``failure`` and no rows.
    """
    if max_turns < 1:
        raise InputError(f"max_turns is {max_turns}: an episode has at least one turn")
    played = [_Playing.begin(chat, opening, version, spare) for opening in openings]
    live = [playing for playing in played if not playing.over]
    for turn in range(max_turns):
        requests = [Request(p.known, keys.derive(*p.opening.names, turn), p.opening.sampling) for p in live]
        completions = sorted(sampler.sample(requests), key=lambda c: c.index)
        for playing, completion in zip(live, completions, strict=True):
            playing.listen(completion, turn)
        for playing, completion in zip(live, completions, strict=True):
            if not playing.over:
                playing.hear(chat, completion, sampler.context, turn, last=turn + 1 == max_turns)
        live = [playing for playing in live if not playing.over]
        if not live:
            break
    return [Episode(() if p.failure else tuple(p.rows), p.messages[p.opened :], p.failure) for p in played]


@dataclass
class _Playing:
    """An episode under way: the conversation, the rows that are closed, and the row that is being written."""

    opening: Opening
    version: int
    messages: tuple[Message, ...]
    opened: int
    prompt: tuple[int, ...]
    rows: list[Rollout] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    mask: list[bool] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    kept: list[float] = field(default_factory=list)
    kept_ids: list[tuple[int, ...]] = field(default_factory=list)
    rewards: list[RewardPart] = field(default_factory=list)
    over: bool = False
    spare: bool = False
    failure: Failure | None = None

    @staticmethod
    def begin(chat: Chat, opening: Opening, version: int, spare: bool) -> _Playing:
        playing = _Playing(opening, version, (), 0, (), spare=spare)
        with playing._spared(-1):
            messages = tuple(opening.env.reset(keys.derive(*opening.names, "env")))
            playing.messages, playing.opened = messages, len(messages)
        if not playing.failure:
            playing.prompt = chat.encode_prompt(playing.messages)
        return playing

    @contextmanager
    def _spared(self, turn: int) -> Iterator[None]:
        """Whatever the environment raises in the body ends the episode, and no other, where episodes are spared.

        So does an exit: it is the environment's, and would otherwise look like a run that is done.
        """
        try:
            yield
        except (Exception, SystemExit) as error:
            if not self.spare:
                raise
            self.failure, self.over = Failure.of(error, turn), True

    @property
    def known(self) -> tuple[int, ...]:
        """The tokens of the row so far: what the next turn is sampled after."""
        return (*self.prompt, *self.tokens)

    def listen(self, reply: Completion, turn: int) -> None:
        """Let an env that hears whole replies have this one."""
        if isinstance(self.opening.env, Hearing):
            with self._spared(turn):
                self.opening.env.hear(reply)

    def hear(self, chat: Chat, reply: Completion, context: int, turn: int, *, last: bool) -> None:
        """Take the policy's turn and the environment's answer to it."""
        asked, prompt = self.messages, self.known
        with self._spared(turn):
            answer, reward, done, _ = self.opening.env.step(reply.text)
            reward = checked(reward, reply)
            if not (answer or done or last):
                raise InputError(
                    f"the environment says nothing after {reply.text[:200]!r}, but the episode is not over"
                )
        if self.failure:
            return
        start = len(self.tokens)
        self.rewards += [part._replace(position=start + part.position) for part in reward]
        self._append(reply.tokens, reply.chosen, reply.logprobs, reply.kept, reply.kept_ids)
        self.messages = (*asked, *reply.messages, *answer)
        if done or last:
            self._end("eos" if done else "length")
            return
        self._go_on(chat.encode_next(asked, prompt, reply.tokens, self.messages), context)

    def _go_on(self, longer: tuple[int, ...], context: int) -> None:
        """Continue the row with the environment's tokens, or where ``longer`` does not begin with the row, start another."""
        known = self.known
        if len(longer) >= context:
            self._end("length")
        elif longer[: len(known)] == known:
            new = longer[len(known) :]
            self._append(new, (False,) * len(new), (0.0,) * len(new), (1.0,) * len(new), ())
        else:
            self.rows.append(self._row("stop"))
            self.prompt = longer
            self.tokens, self.mask, self.logprobs, self.rewards = [], [], [], []
            self.kept, self.kept_ids = [], []

    def _append(
        self, tokens: Sequence[int], mask: Sequence[bool], logprobs: Sequence[float], kept: Sequence[float],
        kept_ids: Sequence[tuple[int, ...]],
    ) -> None:  # fmt: skip
        self.tokens += tokens
        self.mask += mask
        self.logprobs += logprobs
        self.kept += kept
        self.kept_ids += kept_ids or [()] * len(tokens)

    def _row(self, finish: str) -> Rollout:
        return Rollout(
            self.prompt, tuple(self.tokens), tuple(self.mask), tuple(self.logprobs), tuple(self.rewards),
            self.opening.group, self.opening.episode, len(self.rows), self.version, finish, self.opening.train,
            tuple(self.kept), tuple(self.kept_ids) if any(self.kept_ids) else (),
        )  # fmt: skip

    def _end(self, finish: str) -> None:
        self.rows.append(self._row(finish))
        self.over = True
