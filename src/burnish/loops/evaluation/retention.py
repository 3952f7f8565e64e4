"""What a model forgets while it learns something else: the same questions and tasks before and after every stage.

Nothing is sampled for a question: its right answer has a log-prob, and is right where it is likelier than each wrong one. So a
difference is that of the models. Tasks are answered greedily.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from rich.text import Text

from burnish.core import keys
from burnish.core.intervals import Series, change, estimate
from burnish.data.comparisons import Comparisons
from burnish.data.units import Unit, collate, encode
from burnish.engines.decode import LocalSampler
from burnish.engines.local import Engine, LocalModel
from burnish.errors import InputError
from burnish.loops.evaluate import Measured, run_items
from burnish.loops.evaluation.measures import scores
from burnish.loops.evaluation.questions import questions
from burnish.loops.evaluation.tables import difference, shown
from burnish.run import Artifact, Run
from burnish.stage import Stage
from burnish.tasks import catalog
from burnish.types import Comparison, Sampling

QUESTIONS = "questions"
AT_ONCE = 16
NLL, RIGHT = "nll", "right"


@dataclass(frozen=True)
class Retention:
    """What is kept an eye on: short general ``questions`` of the package, a file of one's own with the columns prompt, chosen
    and rejected (``data``; a column ``kind`` groups its rows), and the first ``n`` test items of each of ``tasks``.

    Raises InputError for the name of a task that does not exist, and where nothing is left to ask.
    """

    questions: bool = True
    data: str = ""
    tasks: tuple[str, ...] = ("largest", "sum", "compare")
    n: int = 20
    max_tokens: int = 32

    def __post_init__(self) -> None:
        for name in self.tasks:
            catalog.get(name)
        if not (self.questions or self.data or self.tasks):
            raise InputError("retention has nothing to ask: leave it out, or set retention.questions=true")
        if self.n < 1 or self.max_tokens < 1:
            raise InputError(f"retention.n={self.n}, retention.max_tokens={self.max_tokens}: give 1 or more")

    def asked(self) -> tuple[Comparison, ...]:
        """All questions, of the package and of the file. Raises InputError for a file that cannot be read."""
        own = list(Comparisons(self.data)) if self.data else []
        return (*(questions() if self.questions else ()), *own)


def by_name(text: str) -> Retention:
    """``questions,sum``: the questions, and tasks by name. Raises InputError for a name that does not exist."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    return Retention(questions=QUESTIONS in names, tasks=tuple(name for name in names if name != QUESTIONS))


def measure(
    stage: Stage, model: Path, asked: Sequence[Comparison], tasks: Mapping[str, Measured], *, n: int, max_tokens: int,
    engine: Engine,
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """A stage: {kind of question, or "task NAME": {"right": series, "nll": series}}; tasks have no "nll".

    A dry run measures nothing.
    """
    if stage.dry_run:
        return {}
    policy = LocalModel(Path(model), replace(stage.decide("engine", engine.resolved), adapter=None))
    stage.view.say(f"{stage.name}: {len(asked)} questions and {len(tasks)} tasks, to see what is kept")
    found = answers(policy, asked)
    sampler, sampling = LocalSampler(policy), Sampling(max_tokens=max_tokens, temperature=0.0)
    for name, task in tasks.items():
        size, key = min(n, len(task)), keys.derive("retention", name)
        items = run_items(sampler, policy.chat, task, n=size, samples=1, sampling=sampling, key=key)
        found[f"task {name}"] = {RIGHT: next(iter(scores(items).values()))}
    return found


def answers(policy: LocalModel, asked: Sequence[Comparison]) -> dict[str, dict[str, Any]]:
    """Of each kind of question, two series in the order of the items: whether the right answer, end of turn included, is
    likelier than every wrong one, and its negative log-likelihood in nats over its tokens.

    Raises InputError for a question that the model's context cannot hold.
    """
    units = [encode(policy.chat, item) for item in asked]
    for item, unit in zip(asked, units, strict=True):
        if max(map(len, unit)) > policy.context:
            said = item.prompt[-1]["content"][:60]
            raise InputError(f"the question {said!r} does not fit into the model's {policy.context} tokens: shorten it")
    found: dict[str, dict[str, Any]] = {}
    for item, unit, logprobs in zip(asked, units, _logprobs(policy, units), strict=True):
        kind = found.setdefault(str(item.meta.get("kind", "your questions")), {RIGHT: [], NLL: []})
        first = next(place for place, row in enumerate(unit) if row.rank == 0)
        others = [value for row, value in zip(unit, logprobs, strict=True) if row.rank > 0]
        kind[NLL].append((-logprobs[first], float(sum(unit[first].mask))))
        kind[RIGHT].append((float(all(logprobs[first] > other for other in others)), 1.0))
    return found


def _logprobs(policy: LocalModel, units: Sequence[Unit]) -> list[list[float]]:
    """For each answer of each question the log-prob of all its tokens."""
    found: list[list[float]] = []
    for start in range(0, len(units), AT_ONCE):
        part = units[start : start + AT_ONCE]
        batch = collate(part)
        sums = iter(torch.where(batch.mask, policy.forward(batch).logprobs.double(), 0.0).sum(1).tolist())
        found += [[next(sums) for _ in unit] for unit in part]
    return found


# --- stage by stage ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Watch:
    """What the models of a run know, stage by stage. Where nothing is to be watched, it does nothing.

    ``first`` is what was found before the first stage, ``last`` what was found most recently.
    """

    run: Run
    cfg: Retention | None
    engine: Engine
    first: dict[str, Any] = field(default_factory=dict)
    last: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def begin(run: Run, model: Path | Artifact, retention: Retention | bool | None, engine: Engine) -> Watch:
        """Measure the model that the run begins with, in the stage "retention". True is the usual set."""
        cfg = Retention() if retention is True else retention or None
        watch = Watch(run, cfg, engine)
        found = watch._measured("retention", model)
        return replace(watch, first=found, last=found)

    def after(self, stage: str, model: Path | Artifact) -> Watch:
        """Measure the model that ``stage`` left, in "<stage>-retention": say and record what was forgotten."""
        found = self._measured(f"{stage}-retention", model)
        if found:
            for name, before in {"retention": self.last, "retention from the first": self.first}.items():
                if name == "retention" or before is not self.last:
                    moved = forgotten(before, found)
                    self.run.summary({stage: {name: moved}})
                    self.run.view.say(table(moved, f"\nwhat was forgotten: {name.replace('retention', stage)}"))
                    self.run.view.say(Text(verdict(moved)))
        return replace(self, last=found)

    def _measured(self, name: str, model: Path | Artifact) -> dict[str, Any]:
        if self.cfg is None:
            return {}
        tasks = {task: catalog.get(task).with_split("test") for task in self.cfg.tasks}
        found: dict[str, Any] = self.run.stage(
            measure, name, model, self.cfg.asked(), tasks, n=self.cfg.n, max_tokens=self.cfg.max_tokens,
            engine=self.engine,
        )  # fmt: skip
        return found


def forgotten(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """{kind or task: {"right", "nll"}}, each {"before", "after", "paired"}; "all questions" stands for all kinds together."""
    sides = [dict(side) for side in (before, after)]
    for side in sides:
        asked = [one for one in side.values() if NLL in one]
        if len(asked) > 1:
            side["all questions"] = {name: [pair for one in asked for pair in one[name]] for name in (RIGHT, NLL)}
    return {
        name: {what: _moved(what, old[what], sides[1][name][what]) for what in old} for name, old in sides[0].items()
    }


def _moved(what: str, before: Series, after: Series) -> dict[str, Any]:
    return {"before": estimate(before), "after": estimate(after), "paired": change(before, after, shares=what == RIGHT)}


def table(moved: Mapping[str, Any], title: str) -> Table:
    """The table for people."""
    out = Table(box=None, padding=(0, 1), title=title, title_justify="left")  # all of it in 120 columns
    for column in ("", "n", "right before", "right after", "change", "nats per token"):
        out.add_column(column)
    for name, one in moved.items():
        right, nll = one[RIGHT], one.get(NLL)
        out.add_row(
            name, str(right["after"]["n"]), shown(right["before"], 2), shown(right["after"], 2),
            difference(right["paired"], 2), difference(nll["paired"], 2) if nll else "",
        )  # fmt: skip
    return out


def answers_table(found: Mapping[str, Any], title: str) -> Table:
    """What one model makes of the questions, as estimates by kind."""
    out = Table(box=None, padding=(0, 2), title=title, title_justify="left")
    for column in ("", "n", "right", "nats per token"):
        out.add_column(column)
    for kind, one in found.items():
        out.add_row(kind, str(one[RIGHT]["n"]), shown(one[RIGHT], 2), shown(one[NLL], 2))
    return out


def verdict(moved: Mapping[str, Any]) -> str:
    """What has become worse by more than chance explains, one interval at a time."""
    wrong = [name for name, one in moved.items() if one[RIGHT]["paired"]["high"] < 0]
    rare = [name for name, one in moved.items() if NLL in one and one[NLL]["paired"]["low"] > 0]
    parts = ["less often right: " + ", ".join(wrong)] * bool(wrong) + ["less likely: " + ", ".join(rare)] * bool(rare)
    return "forgotten: " + ("; ".join(parts) or "nothing that these questions and tasks would show")
