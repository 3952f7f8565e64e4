"""`burnish list`, `burnish explain` and `burnish data`: what there is, and what it means."""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from burnish.cli import names
from burnish.errors import unknown

if TYPE_CHECKING:
    from burnish.core.algorithms import Algorithm

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
WIDTH = 30  # of a setting's value in a table of scales
LINE = 112  # of running text


def list_all(*, as_json: Json = False) -> None:
    """List recipes, algorithms, tasks and models."""
    found = {"recipes": names.recipes(), "algorithms": names.algorithms()}
    plain = {"tasks": names.tasks(), "models": names.models()}
    if as_json:
        print(json.dumps({**found, **plain}, indent=2))
        return
    uses = {"recipes": "burnish run NAME", "algorithms": "burnish run grpo algo=NAME, burnish run ppo algo=NAME"}
    for kind, titles in found.items():
        print(f"{kind}  ({uses[kind]})")
        width = max(map(len, titles))
        for name, title in titles.items():
            print(textwrap.fill(title, LINE, initial_indent=f"  {name:{width}}  ", subsequent_indent=" " * (width + 4)))
        print()
    print(f"tasks  (burnish run grpo task=NAME)\n  {', '.join(plain['tasks'])}\n")
    print(f"models  (model=NAME, or a directory, or a hub name)\n  {', '.join(plain['models'])}\n")
    print("burnish explain NAME says more about a recipe, an algorithm or a task.")


def explain(
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A recipe, an algorithm or a task.", show_default=False)],
) -> None:
    """Explain a recipe, an algorithm or a task."""
    known = {"algorithm": names.algorithms(), "recipe": names.recipes(), "task": names.tasks()}
    show = {"algorithm": _algorithm, "recipe": _recipe, "task": _task}
    spellings = {"algorithm": name.lower().replace("-", "_")}
    kinds = [kind for kind in known if spellings.get(kind, name) in known[kind]]
    if not kinds:
        raise unknown("name", name, {each for some in known.values() for each in some})
    for place, kind in enumerate(kinds):
        if len(kinds) > 1:
            print("\n" * (place > 0) + f"--- the {kind} {name} ---\n")
        show[kind](spellings.get(kind, name))


def data(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSONL, JSON or Parquet.", show_default=False)],
    model: Annotated[str, typer.Option(help="Also count tokens, as this model reads them.")] = "",
    as_json: Json = False,
) -> None:
    """Report on a data file and the recipes that fit it."""
    from rich.console import Console

    from burnish.data.chat import Chat
    from burnish.data.inspect import inspect as inspect_file
    from burnish.data.inspect import render
    from burnish.engines.pretrained import resolve

    report = inspect_file(file, Chat.load(resolve(model)) if model else None)
    if as_json:
        print(json.dumps(asdict(report), indent=2))
    else:
        Console(soft_wrap=True).print(render(report))


# --- one kind of name each -----------------------------------------------------------------------


def _algorithm(name: str) -> None:
    from burnish.cli import example
    from burnish.core import algorithms

    algo = algorithms.get(name)
    print(f"{_prose(algorithms.notes()[name])}\n")
    print("made of:")
    used = [f.name for f in fields(algo) if getattr(algo, f.name) != f.default]
    _print_rows([(each, _shown(getattr(algo, each))) for each in used])
    rest = f"at their defaults: {', '.join(f.name for f in fields(algo) if f.name not in used)}"
    print(textwrap.fill(rest, LINE, initial_indent="  ", subsequent_indent="    "))
    print("\nneeds:")
    _print_rows(_needs(algo))
    print()
    for line in example.lines(algo):
        print(line)
    recipe = "ppo" if algo.needs_critic else "grpo"
    print(f"\nUse it: burnish run {recipe} algo={name} ...    or in Python: burnish.core.algorithms.{name.upper()}")


def _needs(algo: Algorithm) -> list[tuple[str, ...]]:
    """What has to be there, beside a prompt and the policy, and how many networks that makes."""
    from burnish.cli.example import compares_within_a_group, takes_steps

    several = "several" if compares_within_a_group(algo) else "one or more"
    greedy = ", and one decoded greedily, only scored" if algo.needs_greedy else ""
    graded = "for each step of a completion" if takes_steps(algo) else "for each completion"
    networks = ["the policy"]
    if algo.needs_critic:
        networks.append("a critic that learns beside it")
    if algo.needs_reference:
        networks.append("a frozen reference (with LoRA the policy's own base)")
    rows: list[tuple[str, ...]] = [
        ("completions", f"{several} of each prompt, by the policy{greedy}"),
        ("reward", f"one number {graded}, from a rule or a reward model (one more network)"),
        ("networks", f"{len(networks)}: {' + '.join(networks)}"),
    ]
    if algo.pretraining:
        rows.append(("text", "of the kind the policy was pretrained on"))
    return rows


def _recipe(name: str) -> None:
    from burnish import config
    from burnish.recipes import catalog

    recipe = catalog.get(name)
    print(f"{_prose(recipe.__doc__ or '')}\n")
    columns = {scale: dict(config.describe(settings)) for scale, settings in recipe.SCALES.items()}
    fullest_first = sorted(columns.values(), key=len, reverse=True)  # the order of the keys is best kept by this one
    keys = dict.fromkeys(key for settings in fullest_first for key in settings)
    print("settings that differ between scales:")
    rows = [("", *columns)]
    for key in keys:
        values = [_cut(settings[key]) if key in settings else "" for settings in columns.values()]
        if len(set(values)) > 1:
            rows.append((key, *values))
    _print_rows(rows)
    print(f"\nall settings: burnish schema {name}")


def _task(name: str) -> None:
    from burnish.tasks import catalog

    task = catalog.get(name)
    print(f"{_prose(inspect.getdoc(type(task)) or '')}\n")
    _print_rows([(f.name, _shown(getattr(task, f.name))) for f in fields(task)])  # type: ignore[arg-type]
    print("\nthree problems of its test split, with a right reply:")
    problems = task.with_split("test")
    for index in range(3):
        print(f"  {problems[index].messages[-1]['content']}\n    {problems.gold(problems[index])}")


# --- text ----------------------------------------------------------------------------------------


def _shown(value: Any) -> str:
    """A setting as a person writes it: functions by their names, nested choices with their fields."""
    if is_dataclass(value) and not isinstance(value, type):
        inner = ", ".join(f"{f.name}={_shown(getattr(value, f.name))}" for f in fields(value))
        return f"{type(value).__name__}({inner})"
    if inspect.isfunction(value):
        return value.__name__
    return "none" if value is None else str(value)


def _prose(docstring: str) -> str:
    """A docstring without the marks that are for documentation tools."""
    return re.sub(r":\w+:`~?([^`]+)`", r"\1", docstring).replace("``", "").strip()


def _cut(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 3]}..."


def _print_rows(rows: list[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  " + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
