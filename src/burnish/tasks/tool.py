"""A tool that the policy may call in its replies, in text, before it answers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from burnish.errors import InputError
from burnish.tasks import checks
from burnish.tasks.checks import Generated, Judged
from burnish.tasks.environments import CUT, Judging, Partner, reply
from burnish.types import Env, Example, Message, Reward, outcome

SPENT = "No calls are left."
ROLES = ("user", "tool")


@dataclass(frozen=True)
class Tool(Partner):
    """At most ``calls`` replies that call the tool, each answered by it. A reply without a call is what the task judges.

    ``tell`` adds to the task's last message how the tool is called. The tool answers in the ``role`` "user", which every chat
    template knows; "tool" is for those that print such messages as they are. A reply that was cut off ends the episode, and so
    does a call that is not answered any more: both are judged as cut-off replies, which no task takes for right.
    Every call that is answered is paid ``per_call``: a cost where it is negative, nothing by default.
    """

    calls: int = 3
    tell: bool = True
    role: str = "user"
    per_call: float = 0.0

    def __post_init__(self) -> None:
        checks.check_choice("role", self.role, ROLES)
        if self.calls < 1:
            raise InputError(f"calls={self.calls}: a tool is called at least once")

    @property
    def max_turns(self) -> int:
        return self.calls + 1

    def env(self, task: Judged, example: Example) -> Env:
        return ToolEnv(task, example, self)

    @property
    @abstractmethod
    def manual(self) -> str:
        """How the tool is called, in words for the policy."""

    @property
    @abstractmethod
    def sample(self) -> str:
        """A reply that calls the tool, for trials."""

    @abstractmethod
    def call(self, text: str) -> str | None:
        """What a reply asks the tool: its last call; None where it has none."""

    @abstractmethod
    def answer(self, call: str) -> str:
        """What the tool has to say to a call."""

    def trials(self, task: Generated, example: Example) -> Iterable[tuple[Sequence[str], bool]]:
        """Right at once, right after calls, wrong, nothing but calls."""
        right, wrong, call = task.gold(example), task.near_misses(example)[0], self.sample
        yield (right,), True
        yield (*(call,) * self.calls, right), True
        yield (call, wrong), False
        yield (call,) * self.max_turns, False


@dataclass
class ToolEnv(Judging):
    """One episode with a :class:`Tool`."""

    tool: Tool
    called: int = 0

    def reset(self, seed: int) -> tuple[Message, ...]:  # noqa: ARG002
        self.called = 0
        *before, last = self.example.messages
        told: Message = {"role": last["role"], "content": f"{last['content']} {self.tool.manual}"}
        return (*before, told if self.tool.tell else last)

    def step(self, text: str) -> tuple[tuple[Message, ...], Reward, bool, Mapping[str, Any]]:
        completion = self.taken(text)
        if completion.cut:
            return (_user(CUT),), self.judged(completion), True, {"called": self.called}
        call = self.tool.call(text)
        if call is None:
            return (), self.judged(completion), True, {"called": self.called}
        if self.called == self.tool.calls:
            return (_user(SPENT),), self.judged(reply(text, "length")), True, {"called": self.called}
        self.called += 1
        said: Message = {"role": self.tool.role, "content": self.tool.answer(call)}
        paid = outcome(self.tool.per_call, "call") if self.tool.per_call else ()
        return (said,), paid, False, {"called": self.called}


def _user(text: str) -> Message:
    return {"role": "user", "content": text}
