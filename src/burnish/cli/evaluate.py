"""`burnish eval`: how well a model does, how it replies, and what has changed against another one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from burnish.cli.models import MaxTokens, Model, Temperature, load_sampler
from burnish.errors import InputError

if TYPE_CHECKING:
    from burnish.engines.decode import LocalSampler
    from burnish.loops.evaluate import Measured
    from burnish.loops.evaluation.measures import Item
    from burnish.rewards.base import Composable
    from burnish.types import Sampling

COLUMNS = ("A", "B", "B - A on the same problems")
WIDTH = 120
"""Columns of text that a table needs."""


def evaluate(
    *,
    model: Model,
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Settings of task and env: task.style=think env.attempts=3."),
    ] = None,
    task: Annotated[str, typer.Option(help="The name of a task, see `burnish list`.")] = "",
    env: Annotated[str, typer.Option(help="An environment of `burnish list` to play the task in.")] = "",
    n: Annotated[int, typer.Option("-n", min=1, help="How many problems.")] = 200,
    samples: Annotated[int, typer.Option(min=1, help="Replies to each problem.")] = 1,
    k: Annotated[str, typer.Option(help="Report pass@k for these, with commas.")] = "1",
    cons: Annotated[str, typer.Option(help="Report the majority of k for these, with commas.")] = "",
    against: Annotated[str, typer.Option(metavar="MODEL", help="Another model, on the same problems.")] = "",
    judge: Annotated[str, typer.Option(help="A reward or judge: best-of-k by it and, with --against, who wins.")] = "",
    by: Annotated[str, typer.Option(help="Accuracy by what a problem says of itself, such as difficulty.")] = "",
    retention: Annotated[bool, typer.Option("--retention", help="Ask general questions, too.")] = False,
    temperature: Temperature = 1.0,
    max_tokens: MaxTokens = 256,
    split: Annotated[str, typer.Option(help="train, dev or test.")] = "test",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.jsonl", help="Write every reply and its scores.", show_default=False)
    ] = None,
) -> None:
    """Measure a model on a task, with 95% intervals.

    Problems and randomness are fixed: two models get the same problems, and a repeated command gives the same numbers.
    """
    if not task and (settings or env or by or judge or out or not retention):
        raise InputError("there is no task to measure: add --task NAME (see `burnish list`)")
    if out is not None and (out.is_dir() or not out.absolute().parent.is_dir()):
        raise InputError(f"--out {out}: give a file in a directory that exists")
    wanted = _Wanted(_numbers("--k", k, samples), _numbers("--cons", cons, samples), by, _reward(judge))
    if judge and not against and max(wanted.ks) == 1:
        raise InputError("--judge has nothing to judge: add --samples 4 --k 1,4 for best-of-4, or --against MODEL")
    from burnish.loops.evaluation import groups
    from burnish.types import Sampling

    problems = _problems(task, env, settings or [], split)
    if problems is not None and by:
        groups.groups([problems[i].meta for i in range(min(n, len(problems)))], by)  # an error comes before the work
    samplers = [load_sampler(name) for name in (model, against) if name]
    report: dict[str, Any] = {"model": model, **({"against": against} if against else {})}
    if problems is not None:
        sampling = Sampling(max_tokens=max_tokens, temperature=temperature)
        sides = [_items(sampler, problems, n, samples, sampling) for sampler in samplers]
        report |= {"task": task, **({"env": env} if env else {}), "split": split}
        report |= {
            "n": len(sides[0]),
            "samples": samples,
            **_measured(sides, wanted),
            **_failed([model, against], sides),
        }
        if out is not None:
            _write(out, [model, against], sides)
    if retention:
        report["retention"] = _kept(samplers)
    if as_json:
        print(json.dumps(report, indent=2))
    else:
        _print(report)


@dataclass(frozen=True)
class _Wanted:
    """What is to be reported beside the scores."""

    ks: tuple[int, ...]
    cons: tuple[int, ...]
    by: str
    judge: Composable | None


def _problems(task: str, env: str, settings: Sequence[str], split: str) -> Measured | None:
    from burnish.loops.episodes import has_turns
    from burnish.recipes.generic import asked
    from burnish.tasks.environments import rehearse, split_of
    from burnish.tasks.rehearsal import rehearse_reply

    if not task:
        return None
    if any(word.startswith("task.split=") for word in settings):
        raise InputError("task.split is not set here: give --split train, dev or test")
    found = asked(task, env, settings)
    assert found.task is not None
    problems: Measured = split_of(found.task, split)
    if found.env:
        problems = found.env(problems)
    if has_turns(problems):
        rehearse(problems)
    else:
        rehearse_reply(problems, rewarded=False)
    return problems


def _reward(text: str) -> Composable | None:
    from burnish.recipes.generic import given_reward

    return given_reward(text, "", 10.0)


def _items(sampler: LocalSampler, problems: Measured, n: int, samples: int, sampling: Sampling) -> list[Item]:
    from burnish.core import keys
    from burnish.loops.evaluate import run_items

    key = keys.derive("evaluate")
    return run_items(sampler, sampler.model.chat, problems, n=n, samples=samples, sampling=sampling, key=key)


def _failed(names: Sequence[str], sides: Sequence[list[Item]]) -> dict[str, Any]:
    """{"failures": {model: why its environments failed}} where any did. Raises InputError where all of a model's did."""
    from burnish.loops.evaluate import reasons

    found = {name: reasons(items) for name, items in zip(names, sides, strict=False)}
    for name, items in zip(names, sides, strict=False):
        if all(item.failures and all(item.failures) for item in items):
            raise InputError(f"nothing is measured: {found[name][0]}; mend it and run again")
    return {"failures": found} if any(found.values()) else {}


# --- the report ------------------------------------------------------------------------------------


def _measured(sides: Sequence[list[Item]], wanted: _Wanted) -> dict[str, Any]:
    """Every measure of the model; of two models both, and the change on the same problems."""
    from burnish.loops.evaluation import contest, groups, tables
    from burnish.loops.evaluation.calibration import calibration
    from burnish.loops.evaluation.measures import best_of, estimates, measures

    judge = wanted.judge
    found = [
        measures(items, wanted.ks, wanted.cons)
        | (best_of(items, contest.judged(judge, items), wanted.ks) if judge and max(wanted.ks) > 1 else {})
        for items in sides
    ]
    ours, theirs = found[0], found[-1]
    report: dict[str, Any] = {**estimates(ours), "calibration": calibration(sides[0])}
    if wanted.by:
        name = next(iter(sides[0][0].scores[0]))
        report["by"] = {
            label: [estimates({name: groups.of(each[name], places)})[name] for each in found]
            for label, places in groups.groups([item.example.meta for item in sides[0]], wanted.by).items()
        }
    if len(sides) > 1:
        report["compared"] = tables.compared(theirs, ours)
        if judge is not None:
            report["wins"] = contest.outcome(contest.contest(judge, *sides))
    return report


def _kept(samplers: Sequence[LocalSampler]) -> dict[str, Any]:
    """What each model makes of the general questions: estimates of one, before and after of two."""
    from burnish.core.intervals import estimate
    from burnish.loops.evaluation.questions import questions
    from burnish.loops.evaluation.retention import answers, forgotten

    found = [answers(sampler.model, questions()) for sampler in samplers]
    if len(found) > 1:
        return forgotten(found[1], found[0])
    return {kind: {what: estimate(series) for what, series in one.items()} for kind, one in found[0].items()}


def _write(out: Path, names: Sequence[str], sides: Sequence[list[Item]]) -> None:
    from burnish import files

    rows = [
        {
            "model": name, "item": place, "prompt": item.prompt, "answer": item.example.answer,
            "meta": dict(item.example.meta), "text": reply.text, "scores": scores, "tokens": len(reply.tokens),
            "thinking": item.thinking[j] if item.thinking else None, "finish": reply.finish,
            **({"failure": str(item.failures[j])} if any(item.failures[j : j + 1]) else {}),
        }
        for name, items in zip(names, sides, strict=False)
        for place, item in enumerate(items)
        for j, (reply, scores) in enumerate(zip(item.replies, item.scores, strict=True))
    ]  # fmt: skip
    files.write_text(out, "".join(json.dumps(row, default=str) + "\n" for row in rows))


# --- for people ------------------------------------------------------------------------------------


def _print(report: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    console.width = max(console.width, WIDTH)
    for each in (*_about_task(report), *_about_failures(report), *_about_retention(report)):
        console.print(each)


def _about_task(report: dict[str, Any]) -> list[Any]:
    """What was measured on the task: the numbers of the model, or of both and their difference."""
    from burnish.loops.evaluation import tables

    if "task" not in report:
        return []
    replies = "" if report["samples"] == 1 else f", {report['samples']} replies each"
    played = f" with {report['env']}" if "env" in report else ""
    where = f"on {report['task']}{played}, split {report['split']}: {report['n']} problems{replies}"
    if "against" not in report:
        return [
            f"{report['model']} {where}",
            tables.estimates_table(report),
            *tables.by_table(report.get("by", {}), ("", "n", "mean, 95% interval")),
            *tables.calibration_table(report["calibration"]),
        ]
    compared = report["compared"]
    return [
        f"B = {report['model']} against A = {report['against']} {where}",
        tables.scores_table(compared, "", COLUMNS),
        tables.behaviour_table(compared, "\nhow they reply", COLUMNS),
        *tables.by_table(report.get("by", {}), ("", "n", "B", "A")),
        *([_wins(report["wins"])] if "wins" in report else []),
        *tables.calibration_table(report["calibration"], "B: "),
    ]


def _about_failures(report: dict[str, Any]) -> list[Any]:
    """Why environments have failed; messages of errors are printed as they are."""
    from rich.text import Text

    return [Text(f"{name}: {line}") for name, lines in report.get("failures", {}).items() for line in lines]


def _wins(found: dict[str, Any]) -> str:
    rate = found["win_rate"]
    return (
        f"\nB wins {rate['mean']:.3f} of the comparisons, ties half, 95% interval [{rate['low']:.3f}, {rate['high']:.3f}]: "
        f"{found['win']:.0%} won, {found['tie']:.0%} tied, {found['loss']:.0%} lost; sign test over {rate['n']} problems "
        f"p {found['p']:.2g}; the order decided {found['swapped']:.0%}"
    )


def _about_retention(report: dict[str, Any]) -> list[Any]:
    from burnish.loops.evaluation import retention

    if "retention" not in report:
        return []
    found = report["retention"]
    if "against" not in report:
        return [retention.answers_table(found, "\ngeneral questions")]
    return [retention.table(found, "\ngeneral questions: before is A, after is B"), retention.verdict(found)]


def _numbers(option: str, text: str, samples: int) -> tuple[int, ...]:
    """The k of an option. Raises InputError for what is no list of them, and where there are too few replies."""
    if not text:
        return (1,)
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"{option} {text} is no list of whole numbers: write it as {option} 1,4.") from error
    what = "pass" if option == "--k" else "cons"
    if min(found) < 1:
        raise InputError(f"{option} {text}: there is no {what}@{min(found)}; give numbers from 1.")
    if max(found) > samples:
        raise InputError(f"{what}@{max(found)} needs as many replies to each problem: add --samples {max(found)}.")
    return found
