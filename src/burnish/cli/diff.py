"""`burnish diff A B`: what model B says that model A would not, on the same prompts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from burnish.cli.models import MaxTokens, Seed
from burnish.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from burnish.data.chat import Chat
    from burnish.loops.differ import Compared
    from burnish.types import Message, Sampling

SHOWN = 3  # pairs of answers
EXCHANGES = 12  # lines of the table of shifted tokens
MANY = 50  # prompts of a file or a task, if -n does not say
TITLES = {
    "unshifted": "unshifted: A's first choice",
    "marginal": "marginal: second or third",
    "shifted": "shifted: below",
    "stylistic/shifted": "stylistic, of the shifted tokens",
    "stylistic": "stylistic, of all tokens",
    "kl": "KL(B || A), nats per token",
    "kl_back": "KL(A || B), nats per token",
}


def diff(
    *,
    a: Annotated[
        str,
        typer.Argument(metavar="A", help="A model: an alias, a directory, or a hub name.", show_default=False),
    ],
    b: Annotated[str, typer.Argument(metavar="B", help="The other one, with the same tokenizer.", show_default=False)],
    data: Annotated[
        str, typer.Option(metavar="FILE", help="A data file with prompts; a dozen everyday ones if not given.")
    ] = "",
    task: Annotated[str, typer.Option(help="Take the prompts of a task, see `burnish list`.")] = "",
    n: Annotated[int | None, typer.Option("-n", min=1, help="How many different prompts.", show_default=False)] = None,
    max_tokens: MaxTokens = 128,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 always takes the likeliest token.")] = 0.0,
    seed: Seed = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write all of it, token by token, as JSON.", show_default=False),
    ] = None,
) -> None:
    """Compare two models: the tokens of B's answers that A would not say, how many are style, and how far the two are apart.

    B answers each prompt, both models read the answer. Prompts and randomness are fixed: a repeated command gives the same
    numbers.
    """
    if out is not None and (out.is_dir() or not out.absolute().parent.is_dir()):
        raise InputError(f"--out {out}: give a file in a directory that exists")
    prompts = _prompts(data, task, n)
    from burnish.core import keys
    from burnish.engines.local import Engine, LocalModel
    from burnish.engines.pretrained import resolve
    from burnish.loops import differ
    from burnish.types import Sampling

    engine, homes = Engine().resolved(), [resolve(a), resolve(b)]
    first = LocalModel(homes[0], engine)
    second = first if homes[0] == homes[1] else LocalModel(homes[1], engine)
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature)
    items = differ.compare(first, second, prompts, sampling, keys.derive("diff", seed))
    other_template = first.chat.tokenizer.chat_template != second.chat.tokenizer.chat_template
    report = _report({"a": a, "b": b, "dtype": engine.dtype}, items, second.chat, sampling, other_template)
    if out is not None:
        _write(out, report, items)
    if as_json:
        print(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        _print(report, items)


# --- prompts ---------------------------------------------------------------------------------------


def _prompts(data: str, task: str, n: int | None) -> list[tuple[Message, ...]]:
    """The first ``n`` different prompts of what was asked for. Raises InputError where there are fewer."""
    from burnish.loops.differ import PROMPTS

    if data and task:
        raise InputError("give either --data or --task")
    source = data or (f"task {task}" if task else "the list of everyday prompts")
    found: list[tuple[Message, ...]] = [({"role": "user", "content": text},) for text in PROMPTS]
    if data:
        found = _of_file(data)
    elif task:
        from burnish.tasks import catalog

        problems = catalog.get_split(task, "test")
        found = [problems[i].messages for i in range(min(len(problems), 4 * (n or MANY)))]
    distinct = list({json.dumps(prompt): prompt for prompt in found}.values())
    if n and n > len(distinct):
        more = "" if data or task else ", or take others with --data or --task"
        raise InputError(f"{source} has {len(distinct)} different prompts: lower -n {n}{more}")
    return distinct[: n or (MANY if data or task else len(distinct))]


def _of_file(data: str) -> list[tuple[Message, ...]]:
    """The prompts of conversations and of comparisons alike."""
    from burnish.data.comparisons import Comparisons
    from burnish.data.datasets import Dataset, prompt_of
    from burnish.data.kinds import COMPARED, kind
    from burnish.data.rows import load_rows

    rows: Any = Comparisons(data) if kind(load_rows(data)) in COMPARED else Dataset(data)
    return [prompt_of(item) for item in rows]


# --- the report ------------------------------------------------------------------------------------


def _report(
    head: dict[str, Any], items: Sequence[Compared], chat: Chat, sampling: Sampling, other_template: bool
) -> dict[str, Any]:
    from burnish.loops import differ

    return {
        **head,
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "other_template": other_template,
        **differ.summarise(items),
        "by_place": differ.by_place(items),
        "exchanges": [
            {
                "would": chat.decode([pair.would], special=True),
                "says": chat.decode([pair.says], special=True),
                "times": pair.times,
                "stylistic": pair.style,
            }
            for pair in differ.exchanges(items)
        ],
        "examples": [
            {"prompt": item.prompt, "a": item.other, "b": item.text, "marked": _marked(item).plain}
            for item in items[:SHOWN]
        ],
    }


def _write(path: Path, report: dict[str, Any], items: Sequence[Compared]) -> None:
    from burnish import files

    files.write_json(path, {**report, "prompts": [asdict(item) for item in items]})


def _marked(item: Compared) -> Text:
    """B's answer with its shifted tokens in ⟨ ⟩ where they are stylistic, else in ⟦ ⟧, and in colour."""
    from rich.text import Text

    kinds: dict[tuple[int, int], str] = {}
    for place, shifted, style in zip(item.places, item.shifted, item.style, strict=True):
        if shifted:
            kinds[place] = "⟨⟩" if style else "⟦⟧"
        else:
            kinds.setdefault(place, "")
    shown = Text()
    for kind, run in groupby(kinds.items(), key=lambda pair: pair[1]):
        piece = "".join(item.text[start:end] for (start, end), _ in run)
        if kind:
            shown.append(f"{kind[0]}{piece}{kind[1]}", style="yellow" if kind == "⟨⟩" else "bold red")
        else:
            shown.append(piece)
    return shown


def _print(report: dict[str, Any], items: Sequence[Compared]) -> None:
    from burnish.view import View

    view = View()
    how = "greedy" if not report["temperature"] else f"sampled at temperature {report['temperature']:g}"
    answers = f"{how}, at most {report['max_tokens']} tokens, {report['dtype']}"
    view.say(f"A = {report['a']}\nB = {report['b']}")
    plural = "s" * (report["n"] > 1)
    view.say(f"{report['n']} prompt{plural}, {report['tokens']} tokens of B's answers ({answers})\n")
    view.say("rank of B's token in A's distribution")
    view.say(_shares(report))
    view.say(f"\nthe same answer word for word: {report['same']} of {report['n']}")
    for note in _notes(report):
        view.say(note)
    view.say("\nby place in the answer")
    view.say(_places(report["by_place"]))
    if report["exchanges"]:
        view.say("\nthe tokens that shift most often" + _more(report["exchanges"], EXCHANGES))
        view.say(_exchanges(report["exchanges"][:EXCHANGES]))
    view.say("\nanswers; shifted tokens of B in ⟦ ⟧, the stylistic ones among them in ⟨ ⟩" + _more(items, SHOWN))
    for item in items[:SHOWN]:
        view.say(f"\nprompt: {item.prompt}")
        view.say(_answers(item))


def _notes(report: dict[str, Any]) -> list[str]:
    found = []
    if report["temperature"]:
        own = report["shifted/own"]["mean"]
        found.append(f"sampling alone shifts: of B's tokens {own:.3f} are below third place in B's own distribution")
    if report["other_template"]:
        found.append("the chat templates of A and B differ: both models were given B's")
    if report["n"] == 1:
        found.append("one prompt says nothing about others: no intervals")
    return found


def _more(rows: Sequence[Any], shown: int) -> str:
    return f" (the first {shown} of {len(rows)})" if len(rows) > shown else ""


def _shares(report: dict[str, Any]) -> Table:
    table = _grid("", "", "95% interval", "tokens")
    for name, title in TITLES.items():
        table.add_row(title, *_cells(report[name]), str(report[name]["n"]))
    return table


def _places(stretches: Sequence[dict[str, Any]]) -> Table:
    table = _grid("place", "shifted", "95% interval", "KL(B || A)", "95% interval", "tokens")
    for each in stretches:
        first, last = each["first"], each["last"]
        name = f"{first}" if first == last else f"{first} to {last}"
        table.add_row(name, *_cells(each["shifted"]), *_cells(each["kl"]), str(each["kl"]["n"]))
    return table


def _exchanges(rows: Sequence[dict[str, Any]]) -> Table:
    from rich.text import Text

    table = _grid("A would say", "B says", "times", "")
    for row in rows:
        words = (Text(repr(row["would"])), Text(repr(row["says"])))
        table.add_row(*words, str(row["times"]), "stylistic" if row["stylistic"] else "")
    return table


def _answers(item: Compared) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, expand=True, pad_edge=False)
    for name in ("A", "B"):
        table.add_column(name, ratio=1, overflow="fold")
    table.add_row(Text(item.other), _marked(item))
    return table


def _grid(*columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2), header_style="dim")
    for column in columns:
        table.add_column(column, no_wrap=True, justify="right" if column in ("times", "tokens") else "left")
    return table


def _cells(found: dict[str, Any]) -> tuple[str, str]:
    if found["mean"] is None:
        return "none", ""
    return _number(found["mean"]), "" if found[
        "low"
    ] is None else f"[{_number(found['low'])}, {_number(found['high'])}]"


def _number(value: float) -> str:
    """Three decimals, or two digits of what they would round to zero unless that is the rounding of a zero."""
    return f"{value:.1e}" if 1e-12 < value < 0.0005 else f"{max(0.0, value):.3f}"
