"""What makes a conversation of a task that asks for one reply: verifier feedback, tools."""

from __future__ import annotations

from typing import Protocol

from burnish.tasks.checks import Generated
from burnish.types import Completion, EnvTask, Example


class Environment(Protocol):
    """A frozen value that is called with a task and gives the task of several turns."""

    def __call__(self, task: Generated, /) -> EnvTask: ...


class Explained(Generated, Protocol):
    """A task that can also say what is wrong with a reply, in words for the policy, without giving the answer away."""

    def explain(self, example: Example, completion: Completion) -> str: ...
