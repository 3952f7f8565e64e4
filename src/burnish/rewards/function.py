"""The user's own reward: a function in a Python file, named ``my_reward.py:score``.

Two signatures are understood, told apart by their parameter names::

    def score(completion, answer, **columns) -> float | dict[str, float]          # one completion
    def score(prompts, completions, **columns) -> list[float]                     # a batch, as TRL calls it
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import math
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from burnish.errors import InputError, unknown
from burnish.rewards.base import Composable
from burnish.types import PROMPT_IS_TEXT, Completion, Example, Reward, RewardPart

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_TRACEBACK_LINES = 8
_SHOWN = 300


@dataclass(frozen=True)
class UserReward(Composable):
    """A function of the user's as a reward. ``sha256`` is that of the file: an edited file is another value.

    Raises InputError, naming function and sample, when the function raises or returns anything but finite numbers.
    """

    unbounded: ClassVar[bool] = True  # by itself

    path: str
    name: str
    sha256: str

    def __call__(self, example: Example, completions: Sequence[Completion], /) -> list[Reward]:
        values = self._batch(example, completions) if self._takes_batch else self._one_by_one(example, completions)
        return [self._parts(value, example, done) for value, done in zip(values, completions, strict=True)]

    def check(self, example: Example) -> None:
        """Raise InputError for a column that the function asks for and the row lacks."""
        own = ("prompts", "completions", "completion_ids") if self._takes_batch else ("prompt", "completion")
        self._asked_for({**_columns(example), **dict.fromkeys(("answer", *own))})

    def __reduce__(self) -> tuple[type[UserReward], tuple[str, str, str]]:
        return UserReward, (self.path, self.name, self.sha256)  # the function itself is loaded again where it is used

    def __str__(self) -> str:
        return f"reward function {self.path}:{self.name}"

    @cached_property
    def function(self) -> Callable[..., Any]:
        """The function, from a fresh import of the file."""
        module = import_file(Path(self.path), self.sha256)
        functions = {name: value for name, value in vars(module).items() if callable(value)}
        if self.name not in functions:
            known = [name for name in functions if not name.startswith("_")]
            raise InputError(f"{self.path} has no such function: {unknown('function', self.name, known)}")
        function: Callable[..., Any] = functions[self.name]
        return function

    @property
    def by_completion(self) -> bool:
        """Whether the function takes one completion, so that its value depends on no other of the group."""
        return not self._takes_batch

    @cached_property
    def _parameters(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(self.function).parameters

    @cached_property
    def _takes_batch(self) -> bool:
        return "completions" in self._parameters or "prompts" in self._parameters

    def _one_by_one(self, example: Example, completions: Sequence[Completion]) -> list[Any]:
        common = {**_columns(example), "answer": example.answer, "prompt": _prompt(example)}
        return [self._call({**common, "completion": done.text}, example, done) for done in completions]

    def _batch(self, example: Example, completions: Sequence[Completion]) -> Sequence[Any]:
        if not completions:
            return []
        per_row = {**_columns(example), "answer": example.answer, "prompts": _prompt(example)}
        arguments: dict[str, Any] = {name: [value] * len(completions) for name, value in per_row.items()}
        texts = [done.text for done in completions]
        plain = example.meta.get(PROMPT_IS_TEXT, False)
        arguments["completions"] = texts if plain else [[{"role": "assistant", "content": text}] for text in texts]
        arguments["completion_ids"] = [list(done.tokens) for done in completions]
        values = _builtin(self._call(arguments, example, completions[0]))
        if not isinstance(values, (list, tuple)):
            problem = f"returned {_short(repr(values))}, but takes a batch and must return a list of numbers"
            raise self._error(problem, example, completions[0])
        if len(values) != len(completions):
            problem = f"returned {len(values)} numbers for {len(completions)} completions"
            raise self._error(problem, example, completions[0])
        return values

    def _call(self, available: Mapping[str, Any], example: Example, completion: Completion) -> Any:
        given = self._asked_for(available)
        try:
            return self.function(**given)
        except (Exception, SystemExit) as error:
            trace = last_lines(error, skip=1)
            raise self._error(f"raised {type(error).__name__}: {error}", example, completion, trace) from error

    def _asked_for(self, available: Mapping[str, Any]) -> dict[str, Any]:
        """What the function asks for by name; ``**columns`` takes everything. Raises InputError for what there is not."""
        kinds = [parameter.kind for parameter in self._parameters.values()]
        if inspect.Parameter.VAR_KEYWORD in kinds:
            given = dict(available)
        else:
            given = {name: value for name, value in available.items() if name in self._parameters}
        for name, parameter in self._parameters.items():
            needed = parameter.default is inspect.Parameter.empty and parameter.kind in _NAMED
            if needed and name not in given:
                hint = unknown("column", name, available)
                raise InputError(f"{self} asks for '{name}', which the data do not have: {hint}")
        return given

    def _parts(self, value: Any, example: Example, completion: Completion) -> Reward:
        value = _builtin(value)
        named = value if isinstance(value, Mapping) else {self.name: value}
        for name, number in named.items():
            of = f" for '{name}'" if isinstance(value, Mapping) else ""
            if not isinstance(name, str) or not isinstance(number, Real):
                raise self._error(f"returned {_short(repr(number))}{of}, which is no number", example, completion)
            if not math.isfinite(number):
                raise self._error(f"returned {number}{of}, which is not finite", example, completion)
        if not named:
            raise self._error("returned an empty dict; name at least one part", example, completion)
        return tuple(RewardPart(-1, float(number), name) for name, number in named.items())

    def _error(self, problem: str, example: Example, completion: Completion, trace: str = "") -> InputError:
        prompt = example.messages[-1]["content"] if example.messages else ""
        sample = f"  prompt: {_short(repr(prompt))}\n  completion: {_short(repr(completion.text))}"
        lines = (f"{self} {problem}", sample, trace, "Mend the function and run again.")
        return InputError("\n".join(line for line in lines if line))


def load_function(spec: str) -> UserReward:
    """The reward for ``path/to/file.py:function``. The file is imported at once, so that mistakes in it show here.

    Raises InputError: no file, no function of that name (the nearest one is named), an error while importing.
    """
    file, colon, name = spec.rpartition(":")
    if not colon or not file or not name:
        raise InputError(f"reward '{spec}' does not name a function; write it as my_reward.py:score")
    if not Path(file).is_file():
        raise InputError(f"reward file '{file}' does not exist (looked in {Path.cwd()}); check the path before ':'")
    reward = UserReward(file, name, hashlib.sha256(Path(file).read_bytes()).hexdigest())
    _ = reward.function
    return reward


def module_name(path: Path, sha256: str) -> str:
    """The name of the module of a file with this content: what an edited file defines is something else."""
    return f"burnish_user_{path.stem}_{sha256[:12]}"


def import_file(path: Path, sha256: str) -> ModuleType:
    """Execute the file as a new module. Its own folder can be imported from meanwhile, as with ``python file.py``.

    Raises InputError where the file is no longer the one of that hash, is no Python file, or raises.
    """
    source = path.read_bytes()
    if hashlib.sha256(source).hexdigest() != sha256:
        raise InputError(f"{path} changed while it was in use; start the run again to use the new version")
    name = module_name(path, sha256)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is not a Python file; the name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look modules up by name
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)  # not the loader: it may serve a cached older version
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise InputError(f"{path} cannot be imported; mend it and run again\n{last_lines(error, skip=1)}") from error
    finally:
        sys.path.remove(folder)
    return module


def _prompt(example: Example) -> str | list[dict[str, str]]:
    """What the user's data had: the text, or the list of messages."""
    if example.meta.get(PROMPT_IS_TEXT, False):
        return example.messages[-1]["content"]
    return [dict(message) for message in example.messages]  # type: ignore[arg-type]


def _columns(example: Example) -> dict[str, Any]:
    return {name: value for name, value in example.meta.items() if name != PROMPT_IS_TEXT}


def _builtin(value: Any) -> Any:
    """Numpy and torch numbers and arrays as Python's own."""
    return value.tolist() if hasattr(value, "tolist") else value


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]} ... {text[-_SHOWN // 2 :]}"


def last_lines(error: BaseException, skip: int) -> str:
    """The end of the traceback, indented, without the first ``skip`` frames, which are ours."""
    frames = error.__traceback__
    for _ in range(skip):
        frames = frames.tb_next if frames else None
    lines = "".join(traceback.format_exception(type(error), error, frames, chain=False)).rstrip().splitlines()
    return "\n".join(f"  {line}" for line in lines[-_TRACEBACK_LINES:])
