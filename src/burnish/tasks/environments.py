"""What makes a conversation of a task that asks for one reply: verifier feedback, tools."""

from __future__ import annotations

import math
import traceback
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

from burnish.errors import InputError
from burnish.rewards.base import RewardFunction
from burnish.tasks import checks, votes
from burnish.tasks.checks import Generated, Judged
from burnish.types import Completion, Env, EnvTask, Example, Game, Message, Reward

CUT = "Your reply was cut off."


class Dialogue(EnvTask, Judged, Protocol):
    """A task of several turns that can also measure whole episodes."""


@runtime_checkable
class Environment(Protocol):
    """A frozen value that is called with a task and gives the task of several turns."""

    def __call__(self, task: Judged, /) -> Dialogue: ...


@runtime_checkable
class Explained(Judged, Protocol):
    """A task that can also say what is wrong with a reply, in words for the policy, without giving the answer away."""

    def explain(self, example: Example, completion: Completion) -> str: ...


class Partner(ABC):
    """An :class:`Environment` to inherit from: a frozen dataclass that says who answers the policy, and how often.

    What is measured is the last reply, by the task; :meth:`trials` are for :meth:`Conversation.validate`.
    """

    @property
    @abstractmethod
    def max_turns(self) -> int: ...

    @abstractmethod
    def env(self, task: Judged, example: Example) -> Env: ...

    def __call__(self, task: Judged, /) -> Conversation:
        """The conversation. Raises InputError for a task that is one already."""
        if hasattr(task, "env"):
            raise InputError(f"{type(task).__name__} has turns of its own: leave the environment out")
        return Conversation(task, self)

    def measure(self, task: Judged, example: Example, episode: Completion) -> dict[str, float]:
        """What the task measures of the last reply."""
        return task.measure(example, self.last(episode))

    def last(self, episode: Completion) -> Completion:
        """The reply that an episode is judged by. After an answer nothing is said any more: what is answered was none."""
        text, answered = replies(episode)[-1]
        return reply(text, "length" if answered else "eos")

    def trials(self, task: Generated, example: Example) -> Iterable[tuple[Sequence[str], bool]]:
        """(what the policy says until the episode is over, whether that succeeds)."""
        yield (task.gold(example),), True
        yield (task.near_misses(example)[0],) * self.max_turns, False


@dataclass(frozen=True)
class Conversation:
    """``task`` with ``partner``: an :class:`~burnish.types.EnvTask` over the task's examples and splits."""

    task: Judged
    partner: Partner

    @property
    def max_turns(self) -> int:
        return self.partner.max_turns

    def __len__(self) -> int:
        return len(self.task)

    def __getitem__(self, index: int) -> Example:
        return self.task[index]

    def env(self, example: Example) -> Env:
        return self.partner.env(self.task, example)

    def with_split(self, split: str) -> Conversation:
        """The same with another split of the task. Raises InputError where the task has none."""
        return replace(self, task=split_of(self.task, split))

    def reward(self, example: Example, completions: Sequence[Completion]) -> list[Reward]:  # noqa: ARG002
        """Not for single completions: raises InputError. The environment rewards every turn."""
        raise InputError("a conversation is played turn by turn: it is rewarded by its env, not by one completion")

    def measure(self, example: Example, completion: Completion) -> dict[str, float]:
        """What the partner measures of a whole episode."""
        return self.partner.measure(self.task, example, completion)

    def said(self, example: Example, completion: Completion) -> Hashable | None:
        """What the task reads in the reply that a whole episode is judged by."""
        return votes.said(self.task, example, self.partner.last(completion))

    def validate(self, count: int = 25) -> str:
        """Check the task, and play :meth:`Partner.trials` on ``count`` examples of each split. One line on what was checked.

        Raises AssertionError where a trial does not end as it should, or not at all, or where an episode that fails is paid
        as much as one that succeeds.
        """
        task: Generated = self.task  # type: ignore[assignment]
        said = checks.validate(task, count)
        played = 0
        for split in checks.SPLITS:
            part = replace(self, task=task.with_split(split))
            for index in range(min(count, len(part))):
                played += part.try_out(part[index])
        return f"{said}; {played} episodes end as they should"

    def try_out(self, example: Example) -> int:
        """Play the trials of one example; how many there were. Raises AssertionError as :meth:`validate` does."""
        paid: dict[bool, list[float]] = {True: [], False: []}
        trials = list(self.partner.trials(self.task, example))  # type: ignore[arg-type]
        for texts, succeeds in trials:
            scores, total = self.play(example, texts)
            if next(iter(scores.values())) != float(succeeds):
                raise AssertionError(f"{texts} measured {scores}, but success is {succeeds} on {example.messages[-1]}")
            paid[succeeds].append(total)
        if min(paid[True]) <= max(paid[False]):
            raise AssertionError(
                f"success is paid {min(paid[True])}, failure {max(paid[False])} on {example.messages[-1]}"
            )
        return len(trials)

    def play(self, example: Example, texts: Sequence[str]) -> tuple[dict[str, float], float]:
        """(measures, sum of rewards) of the episode in which the policy says ``texts`` until it is over."""
        env, said, total = self.env(example), list[Message](), 0.0
        env.reset(0)
        for text in texts:
            answer, reward, done, _ = env.step(text)
            said += [{"role": "assistant", "content": text}, *answer]
            total += sum(part.value for part in reward)
            if done:
                return self.measure(example, Completion((), "", tuple(said), "eos")), total
        raise AssertionError(f"the episode is not over after {texts}")


@dataclass(frozen=True)
class Rewarded:
    """``task`` with another reward; what it measures stays."""

    task: Judged
    grader: RewardFunction

    def __len__(self) -> int:
        return len(self.task)

    def __getitem__(self, index: int) -> Example:
        return self.task[index]

    def with_split(self, split: str) -> Rewarded:
        return replace(self, task=split_of(self.task, split))

    def reward(self, example: Example, completions: Sequence[Completion]) -> list[Reward]:
        """The grader's."""
        return self.grader(example, completions)

    def measure(self, example: Example, completion: Completion) -> dict[str, float]:
        """The task's."""
        return self.task.measure(example, completion)

    def said(self, example: Example, completion: Completion) -> Hashable | None:
        """What the task reads in a reply."""
        return votes.said(self.task, example, completion)

    def explain(self, example: Example, completion: Completion) -> str:
        """The task's; empty where it has no words."""
        return explanation(self.task, example, completion)


def rehearse(task: EnvTask, group: int | None = None, text: str = "1") -> None:
    """Play the first turn of the first example, so that an env that cannot work says so before anything is sampled.

    ``group`` is how many episodes of an example will be trained on: the players of a game may be too many or too few. None is
    for an evaluation, in which they do not meet.

    Raises InputError, in one line, where the env raises, or gives anything but messages, reward parts, done and info.
    """
    kind = type(task.partner if isinstance(task, Conversation) else task).__name__
    mend = "mend it and run again"
    try:
        if group is not None and isinstance(task, Game):
            task.seats(task[0], group)
        env = task.env(task[0])
        opening = env.reset(0)
        answer, reward, done, info = env.step(text)
        sound = all(_is_finite(value) and isinstance(name, str) for _, value, name in reward)
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(
            f"the environment of {kind} does not work: its first turn raised {told(error)}; {mend}"
        ) from error
    if not opening or not all(_is_message(message) for message in (*opening, *answer)):
        wanted = '{"role": "user", "content": "..."}'
        raise InputError(f"the environment of {kind} has to begin and to answer with messages such as {wanted}; {mend}")
    if not sound or not isinstance(info, Mapping):
        wanted = "messages, RewardPart(position, finite number, name) for each part of the reward, done, a dict"
        raise InputError(f"a step of the environment of {kind} has to return {wanted}; {mend}")
    if not answer and not done:
        raise InputError(f"the environment of {kind} says nothing though the episode is not over; {mend}")


def told(error: BaseException) -> str:
    """What was raised, and where, in one line."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {' '.join(str(error).split())} ({frame.filename}, line {frame.lineno})"


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _is_message(message: object) -> bool:
    return isinstance(message, Mapping) and all(isinstance(message.get(key), str) for key in ("role", "content"))


@dataclass
class Judging:
    """What the envs of partners share: the task judges replies, each as a whole. A subclass has ``reset`` and ``step``."""

    task: Judged
    example: Example
    heard: Completion | None = field(default=None, kw_only=True)

    def hear(self, reply: Completion) -> None:
        self.heard = reply

    def taken(self, text: str) -> Completion:
        """The reply that was heard; where nobody was told how it ended, it is complete."""
        heard, self.heard = self.heard, None
        return heard or reply(text)

    def judged(self, completion: Completion) -> Reward:
        """The task's reward for one reply."""
        return self.task.reward(self.example, [completion])[0]


def reply(text: str, finish: str = "eos") -> Completion:
    """A reply without its tokens, for a judge of text."""
    return Completion((), text, ({"role": "assistant", "content": text},), finish)


def replies(episode: Completion) -> list[tuple[str, str]]:
    """(what the policy said, what it was answered: empty at the end of an episode that ends with it), turn by turn."""
    messages = episode.messages
    following = [message["content"] if message["role"] != "assistant" else "" for message in messages[1:]]
    pairs = zip(messages, [*following, ""], strict=True)
    return [(message["content"], answer) for message, answer in pairs if message["role"] == "assistant"]


def explanation(task: Judged, example: Example, completion: Completion) -> str:
    """What is wrong with a reply in the words of the task, empty where it has none."""
    return task.explain(example, completion) if isinstance(task, Explained) else ""


def split_of(task: Judged, split: str) -> Judged:
    """Another split of a task. Raises InputError where it has none."""
    if not hasattr(task, "with_split"):
        raise InputError(f"{type(task).__name__} has no splits to measure on: add with_split(self, split) to it")
    found: Judged = task.with_split(split)
    return found
