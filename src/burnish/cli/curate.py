"""`burnish curate`: a data set from a model and a task, or from another data set."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, make_dataclass
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_type_hints

import typer

from burnish.cli.models import Seed
from burnish.errors import InputError
from burnish.loops.curate import catalog

if TYPE_CHECKING:
    from burnish.rewards.base import Composable
    from burnish.types import Task

PROMPTS = 100
"""Prompts that are asked where nobody says how many."""
OPTIONS = ("model", "task", "data", "reward", "gold")
"""What a function is given by an option of the same name; its other parameters are settings."""


def functions() -> str:
    """The names and what comes of them, for the help."""
    width = max(map(len, catalog.titles()))
    return "\b\nFunctions:\n" + "\n".join(f"  {name:{width}}  {title}" for name, title in catalog.titles().items())


def curate(
    *,
    function: Annotated[str, typer.Argument(metavar="FUNCTION", help="One of those below.", show_default=False)],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL] [KEY=VALUE]...",
            help="The model to ask, and settings, such as per_prompt=2 task.style=think.",
        ),
    ] = None,
    task: Annotated[str, typer.Option(help="Prompts: the name of a task, see `burnish list`.")] = "",
    data: Annotated[str, typer.Option(help="Prompts, or what is curated: a data file.")] = "",
    reward: Annotated[str, typer.Option(help="What judges replies: file.py:function or an expression.")] = "",
    gold: Annotated[str, typer.Option(help="A trusted reward, only to be compared with.")] = "",
    n: Annotated[int | None, typer.Option("-n", help=f"How many prompts, 0 for all; {PROMPTS} if not given.")] = None,
    samples: Annotated[int | None, typer.Option(help="Replies to each prompt; 8 if not given.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="The longest reply, in tokens; 256 if not given.")] = None,
    temperature: Annotated[float | None, typer.Option(help="1 if not given.")] = None,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="The data file to write, FILE.jsonl.", show_default=False)],
) -> None:
    """Turn a model and a task into a data set that says where it came from.

    How the rows were made is kept in a run directory beside the file, FILE.run.
    """
    model = [word for word in words or [] if "=" not in word]
    if len(model) > 1:
        raise InputError(f"'{model[1]}' is neither the model nor a setting: write settings as KEY=VALUE")
    if out.suffix != ".jsonl" or out.exists():
        why = "exists" if out.exists() else "does not end in .jsonl"
        raise InputError(f"{out} {why}: choose another file with --out")
    typed: dict[str, str] = dict(zip(OPTIONS, ("".join(model), task, data, reward, gold), strict=True))
    order = _Order(function, catalog.get(function))
    own = order.place
    short = {"n": n, "samples": samples, f"{own}max_tokens": max_tokens, f"{own}temperature": temperature}
    given = [f"{key}={value}" for key, value in short.items() if value is not None]
    changes = [word for word in words or [] if "=" in word]
    about = [word for word in changes if "task" in order.takes and _first(word) == "task"]
    settings = order.settings([*given, *(word for word in changes if word not in about)])
    record: dict[str, Any] = {**typed, "about": about}
    _perform(order, order.inputs(typed, about), settings, record, out, seed)


def settings(name: str) -> dict[str, Any]:
    """``{setting: default}`` of the function of that name, ``Parameter.empty`` for one that has to be given."""
    return _Order(name, catalog.get(name)).defaults()


@dataclass(frozen=True)
class _Order:
    """A function with what its signature says that it takes."""

    name: str
    function: Callable[..., Path]

    @property
    def takes(self) -> dict[str, Parameter]:
        """Its parameters, without the stage."""
        return dict(list(signature(self.function).parameters.items())[1:])

    @property
    def place(self) -> str:
        """In front of the names of its settings of sampling."""
        hints = get_type_hints(self.function)
        return "sampling." if "cfg" in hints and "sampling" in {f.name for f in fields(_class(hints["cfg"]))} else ""

    def defaults(self) -> dict[str, Any]:
        """Its settings with their defaults, ``Parameter.empty`` for one that has to be given."""
        hints = get_type_hints(self.function)
        cfg: Any = _class(hints["cfg"])() if "cfg" in hints else None
        own = {f.name: getattr(cfg, f.name) for f in fields(cfg)} if cfg else {}
        return {name: p.default for name, p in self.takes.items() if name not in (*OPTIONS, "cfg")} | own

    def inputs(self, typed: Mapping[str, str], about: Sequence[str] = ()) -> dict[str, Any]:
        """What the options give; ``about`` are the settings of the task.

        Raises InputError for an option that is missing, or that the function has no use for.
        """
        prompts = "task" in self.takes
        for name, value in typed.items():
            if value and name not in self.takes and not (prompts and name == "data"):
                raise InputError(f"curate {self.name} takes no {_option(name)}: leave it out")
        found: dict[str, Any] = {name: _reward(typed[name]) for name in ("reward", "gold") if name in self.takes}
        if "model" in self.takes and (typed["model"] or self.takes["model"].default is Parameter.empty):
            from burnish.engines.pretrained import resolve

            found["model"] = resolve(self._needed(typed, "model"))
        if prompts:
            found["task"] = self._prompts(typed, about, found.get("reward"))
        if "data" in self.takes:
            found["data"] = Path(self._needed(typed, "data"))
        return found

    def settings(self, overrides: Sequence[str]) -> dict[str, Any]:
        """The other arguments: those by name, and ``cfg``, of which each field is a setting. Raises InputError."""
        from burnish import config

        hints = get_type_hints(self.function)
        named = [self._field(p, hints[p.name]) for p in self.takes.values() if p.name not in (*OPTIONS, "cfg")]
        own = {name for name, *_ in named}
        mine = [word for word in overrides if _first(word) in own]
        rest = [word for word in overrides if _first(word) not in own]
        found: dict[str, Any] = {}
        if named:
            chosen: Any = config.apply(make_dataclass("Settings", named, frozen=True)(), mine)
            found = {name: getattr(chosen, name) for name in own}
        for name, value in found.items():
            if value is None and self.takes[name].default is Parameter.empty:
                raise InputError(f"curate {self.name} needs {name}: add {name}=VALUE")
        if "cfg" in self.takes:
            base: Any = _class(hints["cfg"])()
            if "n" in {f.name for f in fields(base)} and base.n == 0:
                rest = [f"n={PROMPTS}", *rest]
            found["cfg"] = config.apply(base, rest)
        elif rest:
            raise InputError(f"'{rest[0]}': curate {self.name} has the settings {', '.join(sorted(own)) or '(none)'}")
        return found

    def _field(self, parameter: Parameter, hint: Any) -> tuple[str, Any, Any]:
        if parameter.default is Parameter.empty:
            return parameter.name, hint | None, field(default=None)
        return parameter.name, hint, field(default=parameter.default)

    def _prompts(self, typed: Mapping[str, str], about: Sequence[str], reward: Composable | None) -> Task:
        task, data = typed["task"], typed["data"]
        if bool(task) == bool(data):
            what = "both --task and --data" if task else "no prompts"
            raise InputError(f"curate {self.name} has {what}: add either --task NAME or --data FILE")
        if task or about:
            from burnish.recipes.generic import asked
            from burnish.tasks.rehearsal import rehearse_reply

            chosen = asked(task, "", about).task
            assert chosen is not None
            rehearse_reply(chosen, rewarded="reward" in self.takes and reward is None)
            return chosen
        from burnish.data.datasets import Dataset
        from burnish.tasks.userdata import UserTask

        found = UserTask(Dataset(data), grader=reward)
        if "reward" in self.takes:
            found.require_grading()
        if reward is not None:
            found.check(reward.check)
        return found

    def _needed(self, typed: Mapping[str, str], name: str) -> str:
        if not typed[name]:
            raise InputError(f"curate {self.name} needs a {name}: add {_option(name)}")
        return typed[name]


def _perform(
    order: _Order,
    inputs: Mapping[str, Any],
    settings: Mapping[str, Any],
    typed: Mapping[str, Any],
    out: Path,
    seed: int,
) -> None:
    from burnish import files
    from burnish.run import Run
    from burnish.signals import Interrupted, handle_signals

    directory, stage = out.with_suffix(".run"), f"1-{order.name}"
    begun, record = directory.exists(), {"function": order.name, **typed, "settings": settings}
    try:
        with handle_signals(), Run.open(directory, recipe="curate", config=record, seed=seed, resume=begun) as run:
            found = Path(run.stage(order.function, stage, **inputs, **settings))
    except Interrupted as stop:
        print("stopped; the same command begins again", file=sys.stderr)
        raise typer.Exit(128 + stop.signum) from stop
    except InputError:
        if not begun:
            files.remove_tree(directory)  # so that the mended command may take the same name
        raise
    files.write_bytes(out, found.read_bytes())
    count = len(found.read_text(encoding="utf-8").splitlines())
    print(f"{out}: {count} rows; where they came from is in {directory / stage / 'data.provenance.json'}")
    print(f"Which recipes train on them: burnish data {out}")


def _reward(text: str) -> Composable | None:
    from burnish.recipes.generic import given_reward

    return given_reward(text, "", seconds=10.0)


def _class(hint: Any) -> Any:
    """The dataclass of an annotation, which may also allow None."""
    return next(kind for kind in (hint, *get_args(hint)) if is_dataclass(kind))


def _first(word: str) -> str:
    """The setting that ``key.path=value`` changes."""
    return word.partition("=")[0].partition(".")[0]


def _option(name: str) -> str:
    return "MODEL" if name == "model" else f"--{name}"
