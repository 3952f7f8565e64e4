"""`burnish data`: what is in a data file, and with a model whether its prompts are worth training on."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from burnish.errors import InputError

if TYPE_CHECKING:
    from burnish.data.inspect import Report
    from burnish.loops.curate.prompt_set import PromptSet, Trying


def data(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSONL, JSON or Parquet.", show_default=False)],
    model: Annotated[str, typer.Option(help="Count tokens as this model reads them, and let it try prompts.")] = "",
    prompts: Annotated[int, typer.Option(min=0, help="How many prompts the model tries; 0 for none.")] = 32,
    samples: Annotated[int, typer.Option(min=1, help="How often it tries each.")] = 10,
    max_tokens: Annotated[int, typer.Option(min=1, help="The longest reply, in tokens.")] = 256,
    reward: Annotated[str, typer.Option(help="What judges replies; by default the column 'answer'.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Report on a data file and the recipes that fit it.

    With --model, prompts for reinforcement learning are also checked: what they cover, how often the model is right, and
    whose answers cannot be checked.
    """
    from rich.console import Console

    from burnish.data.chat import Chat
    from burnish.data.inspect import inspect, render
    from burnish.engines.pretrained import resolve
    from burnish.loops.curate import prompt_set
    from burnish.loops.curate.prompt_set import Trying
    from burnish.types import Sampling

    if reward and not model:
        raise InputError("--reward judges the replies of a model: add --model MODEL")
    report = inspect(file, Chat.load(resolve(model)) if model else None)
    cfg = Trying(prompts, samples, sampling=Sampling(max_tokens))
    found = _checked(report, model, reward, cfg) if model else None
    if as_json:
        print(json.dumps(asdict(report) | ({"prompt_set": asdict(found)} if found else {}), indent=2))
        return
    console = Console(soft_wrap=True)
    console.print(render(report))
    if found:
        console.print(prompt_set.render(found))


def _checked(report: Report, model: str, reward: str, cfg: Trying) -> PromptSet | None:
    """The prompts of the file, if they are for reinforcement learning: without replies, with answers, or with a reward."""
    from burnish.cli.models import load_sampler
    from burnish.core import keys
    from burnish.data.datasets import Dataset, prompt_of
    from burnish.data.kinds import DIALOGUES
    from burnish.loops.curate.prompt_set import PromptSet, coverage, difficulty, doubts
    from burnish.loops.judges import MAKERS
    from burnish.rewards.accuracy import Accuracy
    from burnish.rewards.expression import parse
    from burnish.rewards.pool import guarded

    if report.kind not in DIALOGUES or not (reward or report.kind == "prompt-only" or "answer" in report.columns):
        return None
    grader = guarded(parse(reward, MAKERS), 60.0) if reward else Accuracy()
    try:
        examples = [replace(item, messages=prompt_of(item)) for item in Dataset(report.path)]
    except InputError as error:  # the report has the row among its problems
        print(f"(the prompts were not checked: {error})", file=sys.stderr)
        return None
    hard = None
    if cfg.prompts:
        sampler = load_sampler(model)
        hard = difficulty(sampler, sampler.model.chat, examples, grader, cfg, key=keys.derive("prompt set"))
    return PromptSet(coverage(examples), doubts(examples, grader), hard)
