"""Tasksets of verifiers (github.com/PrimeIntellect-ai/verifiers, version 1 of its API): their prompts, and their rewards."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from burnish.errors import InputError
from burnish.rewards.answers import after_thoughts
from burnish.rewards.reading import thoughts
from burnish.tasks import checks
from burnish.tasks.adapters.options import Options, freeze, package, thaw
from burnish.types import Completion, Example, Message, Reward, RewardPart

MOST = 10_000
"""How many tasks of a taskset are read; one may have no end."""


@dataclass(frozen=True)
class Verifiers:
    """The taskset of an installed package ``name``, with ``options`` for its configuration: single turns, and its rewards.

    Every reward of the taskset is a part with its name and weight. Success is a sum of at least ``success``. Replies that were
    cut off are judged too: the taskset is told. What a reply thinks is told apart from what it says.

    Not everything is a single turn judged by code: raises InputError, saying why, for tasksets with tools, several agents or
    turns, hooks that prepare a machine, rewards that need one, or judges that ask a model; also where the extra or the taskset
    is missing, for options it refuses, and where its rewards fail.

    A task's split follows from its prompt alone. ``meta``: kind (the name), canonical (the prompt), place (in the taskset).
    """

    name: str
    options: Options = ()
    success: float = 1.0
    split: str = "train"

    def __post_init__(self) -> None:
        checks.check_choice("split", self.split, checks.SPLITS)
        object.__setattr__(self, "options", freeze(self.options))

    def __len__(self) -> int:
        return len(_places(self.name, self.options, self.split))

    def __getitem__(self, index: int) -> Example:
        places = _places(self.name, self.options, self.split)
        checks.check_index(index, len(places))
        messages = _messages(self._task(places[index]))
        meta = {"kind": self.name, "canonical": _canonical(messages), "place": places[index]}
        return Example(messages, None, meta)

    def with_split(self, split: str) -> Verifiers:
        return replace(self, split=split)

    def reward(self, example: Example, completions: Sequence[Completion]) -> list[Reward]:
        """The taskset's rewards, each times its weight."""
        task = self._task(example.meta["place"])
        traces = [_trace(task, example, completion) for completion in completions]
        try:
            asyncio.run(_score(task, traces))
        except _package().RolloutError as error:
            raise InputError(f"the rewards of verifiers/{self.name} failed; mend the taskset ({error})") from error
        return [
            tuple(RewardPart(-1, float(part.value), name) for name, part in trace.rewards.items()) for trace in traces
        ]

    def measure(self, example: Example, completion: Completion) -> dict[str, float]:
        """{"success": whether the rewards add up to :attr:`success`}."""
        [reward] = self.reward(example, [completion])
        return {"success": float(sum(part.value for part in reward) >= self.success)}

    def checked(self) -> Verifiers:
        """The task itself, where it is one of single turns judged by code. Raises InputError."""
        if not len(self):
            raise checks.no_problem(self, self.split)
        if problem := _obstacle(self.name, _taskset(self.name, self.options), self._task(0)):
            raise InputError(f"verifiers/{self.name} {problem}: choose a taskset of single turns, judged by code")
        return self

    def _task(self, place: int) -> Any:
        return _tasks(self.name, self.options)[place]


def load(name: str) -> Verifiers:
    """``task=verifiers/NAME``: the taskset of an installed package, with its own settings. Raises InputError."""
    return Verifiers(name).checked()


def _package() -> ModuleType:
    return package("verifiers.v1", extra="verifiers")


@lru_cache(maxsize=8)
def _taskset(name: str, options: Options) -> Any:
    """The taskset. Raises InputError where there is none, or where it refuses the options."""
    vf = _package()
    try:
        config = vf.taskset_config_type(name).model_validate({**thaw(options), "id": name})
        return vf.load_taskset(config)
    except (ImportError, AttributeError, TypeError) as error:
        raise InputError(f"verifiers/{name} cannot be loaded: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"verifiers/{name} refuses the options {thaw(options)}: {where}: {first['msg']}") from error


@lru_cache(maxsize=8)
def _tasks(name: str, options: Options) -> tuple[Any, ...]:
    return tuple(islice(_taskset(name, options), MOST))


@lru_cache(maxsize=24)
def _places(name: str, options: Options, split: str) -> tuple[int, ...]:
    """Where in the taskset the tasks of a split are."""
    tasks = enumerate(_tasks(name, options))
    return tuple(i for i, task in tasks if checks.split_of(_canonical(_messages(task))) == split)


def _obstacle(name: str, taskset: Any, task: Any) -> str:
    """What makes a taskset more than single turns that are judged by code; empty where nothing does."""
    vf, rewards = _package(), task.hooks("reward")
    prepared = any(_overrides(task, hook, vf.Task) for hook in ("setup", "finalize"))
    needs = {
        "has an environment of its own": vf.environment_class(name) is not vf.SingleAgentEnv,
        "gives tools": _overrides(task, "toolsets", vf.Task) or _overrides(taskset, "toolsets", vf.Taskset),
        "prepares a machine for its tasks": task.NEEDS_CONTAINER or prepared,
        "lets a model judge": bool(task.plugged_judges()),
        "has rewards that need a machine": any(map(_needs_machine, rewards)),
        "has no rewards": not rewards,
    }
    return next((problem for problem, found in needs.items() if found), "")


def _messages(task: Any) -> tuple[Message, ...]:
    """What the model is asked. Raises InputError for a task whose prompt is not text."""
    data = task.data
    prompt = (
        [("user", data.prompt)] if isinstance(data.prompt, str) else [(m.role, m.content) for m in data.prompt or ()]
    )
    said = [("system", data.system_prompt)] if data.system_prompt else []
    said += prompt
    if not prompt or not all(isinstance(content, str) for _, content in said):
        raise InputError(f"task {data.idx} of a taskset of verifiers has no prompt of text: choose another taskset")
    return tuple({"role": role, "content": content} for role, content in said)


def _canonical(messages: Sequence[Message]) -> str:
    return "\n".join(message["content"] for message in messages)


def _trace(task: Any, example: Example, completion: Completion) -> Any:
    """The record of a rollout that verifiers judges: the conversation, and why its last reply ended."""
    vf = _package()
    kinds = {"system": vf.SystemMessage, "user": vf.UserMessage, "assistant": vf.AssistantMessage}
    asked = [kinds[message["role"]](content=message["content"]) for message in example.messages]
    said = vf.AssistantMessage(
        content=(after_thoughts(completion.text) or "").strip(), reasoning_content=thoughts(completion.text) or None
    )
    nodes = [vf.MessageNode(parent=i - 1 if i else None, message=message) for i, message in enumerate(asked)]
    nodes.append(vf.MessageNode(parent=len(asked) - 1, message=said, sampled=True))
    reason = "length" if completion.cut else "stop"
    return vf.Trace(
        task=vf.TraceTask(type=type(task).__name__, data=task.data, key=task.key, hash=task.hash),
        agent=vf.AgentInfo(config=vf.AgentConfig()),
        state=package("verifiers.v1.state", extra="verifiers").state_cls(type(task))(),
        nodes=nodes,
        calls=[vf.ModelCall(node=len(asked), finish_reason=reason)],
        is_completed=True,
    )


async def _score(task: Any, traces: Sequence[Any]) -> None:
    await asyncio.gather(*(task.score(trace) for trace in traces))


def _overrides(value: Any, method: str, base: type) -> bool:
    """Whether the class of a value has a method of its own in place of the base's."""
    own, theirs = getattr(type(value), method), getattr(base, method)
    return getattr(own, "__func__", own) is not getattr(theirs, "__func__", theirs)


def _needs_machine(hook: Any) -> bool:
    runtime = inspect.signature(hook).parameters.get("runtime")
    return runtime is not None and runtime.default is inspect.Parameter.empty
