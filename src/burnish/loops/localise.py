"""A process reward model on held-out solutions: does it find the first wrong step, and tell right solutions from wrong ones?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich.table import Table
from rich.text import Text

from burnish.core.intervals import Z95, interval
from burnish.core.process import Reduce, first_wrong, lowest, mean, product
from burnish.data.steps import ANSWER
from burnish.errors import InputError
from burnish.loops.calibrate import Comparisons
from burnish.loops.reward_model import ProcessReward, RewardModel
from burnish.rewards.accuracy import strict
from burnish.stage import Stage
from burnish.types import Comparison

REDUCES: dict[str, Reduce] = {"product": product, "lowest": lowest, "mean": mean}
"""What makes one score of the steps of a solution."""


@dataclass(frozen=True)
class Checked:
    """A solution of ``prompt`` with what people said of its steps (None: nothing) and the model's P(right) of each.

    ``answer`` is whether its final answer is right, None where that is not known; ``outcome`` an outcome model's score.
    """

    prompt: Hashable
    ratings: tuple[float | None, ...]
    right: tuple[float, ...]
    answer: bool | None = None
    outcome: float | None = None

    @property
    def wrong(self) -> int | None:
        """The first step that was rated wrong."""
        return next((place for place, rating in enumerate(self.ratings) if rating is not None and rating < 0), None)

    @property
    def whole(self) -> bool:
        """Whether every step was rated, up to the first wrong one or the end: then it is known where it first goes wrong."""
        end = len(self.ratings) if self.wrong is None else self.wrong
        return None not in self.ratings[:end]

    @property
    def judged(self) -> list[int]:
        """The rated steps, up to and with the first wrong one."""
        end = len(self.ratings) if self.wrong is None else self.wrong + 1
        return [place for place in range(end) if self.ratings[place] is not None]

    def found(self, threshold: float) -> int | None:
        """Where the model sees the first wrong step."""
        return first_wrong(1 - torch.tensor(self.right, dtype=torch.float64), threshold)

    @property
    def scores(self) -> dict[str, float]:
        """The scores of the solution, by what makes them."""
        right = torch.tensor(self.right, dtype=torch.float64)
        steps = {name: float(reduce(right)) for name, reduce in REDUCES.items()}
        return steps if self.outcome is None else {**steps, "outcome": self.outcome}


def localise(
    stage: Stage, judge: ProcessReward, data: Comparisons, *, threshold: float = 0.5, outcome: RewardModel | None = None
) -> dict[str, Any]:
    """A stage: the report on ``data``, printed and returned, beside an ``outcome`` model where one is given.

    A dry run measures nothing. Raises InputError where no step is rated.
    """
    if stage.dry_run:
        return {}
    found = report(check(judge, [data[i] for i in range(len(data))], outcome), threshold)
    stage.view.say(table(found))
    return found


def check(judge: ProcessReward, items: Sequence[Comparison], outcome: RewardModel | None = None) -> list[Checked]:
    """Every solution with what the models say of it."""
    solutions = [(item.prompt, answer) for item in items for answer in item.answers]
    known = [is_right(item) for item in items for _ in item.answers]
    verdicts = judge.verdicts([(prompt, [step.text for step in answer.steps]) for prompt, answer in solutions])
    scores: Sequence[float | None] = [None] * len(solutions)
    if outcome is not None:
        scores = outcome.scores([(prompt, answer.messages[-1]["content"]) for prompt, answer in solutions])
    return [
        Checked(repr(prompt), tuple(s.rating for s in answer.steps), tuple(right.tolist()), answered, score)
        for (prompt, answer), right, answered, score in zip(solutions, verdicts, known, scores, strict=True)
    ]


def is_right(item: Comparison) -> bool | None:
    """Whether the final answer of a solution is right: by its label, or by the answer that PRM800K gives; None if not known."""
    answer = item.answers[0]
    if answer.label is not None:
        return answer.label > 0.5
    truth, (_, marker, given) = item.meta.get("ground_truth_answer"), answer.messages[-1]["content"].rpartition(ANSWER)
    return strict(given, str(truth)) if truth and marker else None


# --- the report ----------------------------------------------------------------------------------


def report(found: Sequence[Checked], threshold: float) -> dict[str, Any]:
    """Steps, first wrong steps and solution scores, with n and 95% intervals; prompts are the independent units.

    ``f1`` is the harmonic mean of how often the first wrong step is found where there is one, and of how often none is seen
    where there is none (ProcessBench, arXiv:2412.06559). ``constant`` is the best that one answer to all could do. A step is
    called wrong where P(wrong) is above the threshold.
    """
    if not any(item.judged for item in found):
        raise InputError("no step of the held-out solutions is rated: there is nothing to compare with")
    steps = by_prompt(found, lambda c: [float((1 - c.right[i] > threshold) == (c.wrong == i)) for i in c.judged])
    whole = [c for c in found if c.whole]
    result: dict[str, Any] = {"solutions": len(found), "threshold": threshold, "steps": interval(steps)}
    if whole:
        result |= _located(whole, threshold)
    return result | _separated(found)


def _located(whole: Sequence[Checked], threshold: float) -> dict[str, Any]:
    def exact(item: Checked) -> list[float]:
        return [float(item.found(threshold) == item.wrong)]

    kinds = {"with_error": [c for c in whole if c.wrong is not None], "without": [c for c in whole if c.wrong is None]}
    found = {name: interval(by_prompt(items, exact)) for name, items in kinds.items() if items}
    both = [value["mean"] for value in found.values()]
    return {
        "first_wrong": interval(by_prompt(whole, exact)),
        "constant": max(Counter(c.wrong for c in whole).values()) / len(whole),
        **found,
        **({"f1": 2 * both[0] * both[1] / (sum(both) or 1)} if len(both) == 2 else {}),
    }


def _separated(found: Sequence[Checked]) -> dict[str, Any]:
    """How well scores tell right solutions from wrong ones: by the final answer where it is known, else by the steps."""
    known = [c for c in found if c.answer is not None]
    if len({c.answer for c in known}) < 2:
        known = [c for c in found if c.whole]
    by_answer = all(c.answer is not None for c in known)
    groups: dict[bool, list[Checked]] = {True: [], False: []}
    for c in known:
        groups[bool(c.answer) if by_answer else c.wrong is None].append(c)
    result: dict[str, Any] = {}
    if groups[True] and groups[False]:
        result["told_apart"] = {"by": "answers" if by_answer else "steps", **_areas(groups[True], groups[False])}
    clean = [c for c in found if c.answer and c.whole and c.wrong is None]
    lucky = [c for c in found if c.answer and c.wrong is not None]
    if clean and lucky:
        result["right_by_luck"] = _areas(clean, lucky)
    return result


def _areas(better: Sequence[Checked], worse: Sequence[Checked]) -> dict[str, dict[str, float]]:
    one, other = [c.scores for c in better], [c.scores for c in worse]
    return {name: area([scores[name] for scores in one], [scores[name] for scores in other]) for name in one[0]}


def area(better: Sequence[float], worse: Sequence[float]) -> dict[str, float]:
    """P(a better one scores higher than a worse one), ties half, with the 95% interval of DeLong, DeLong and
    Clarke-Pearson (1988): the variance of each side's mean placement among the other side's scores."""
    a, b = torch.tensor(better, dtype=torch.float64), torch.tensor(worse, dtype=torch.float64)
    wins = (a[:, None] > b).double() + (a[:, None] == b).double() / 2
    variance = sum(float(side.var()) / len(side) for side in (wins.mean(1), wins.mean(0)) if len(side) > 1)
    value, half = float(wins.mean()), Z95 * math.sqrt(variance)
    return {"area": value, "low": max(0.0, value - half), "high": min(1.0, value + half), "n": float(len(a) + len(b))}


def by_prompt(items: Sequence[Checked], of: Callable[[Checked], list[float]]) -> list[float]:
    """The mean over all that belongs to a prompt, prompt by prompt."""
    groups: dict[Hashable, list[float]] = {}
    for item in items:
        groups.setdefault(item.prompt, []).extend(of(item))
    return [sum(values) / len(values) for values in groups.values() if values]


def table(found: dict[str, Any]) -> Table:
    """The report for people."""
    out = Table.grid(padding=(0, 2))
    lines = {f"steps, of {found['steps']['n']} prompts": f"right about {_shown(found['steps'])}"}
    if "first_wrong" in found:
        lines["first wrong step"] = (
            f"found exactly in {_shown(found['first_wrong'])} of solutions; one answer to all: {found['constant']:.3f}"
        )
    for name, what in (("with_error", "  where there is one"), ("without", "  where there is none")):
        if name in found:
            lines[what] = _shown(found[name])
    if "f1" in found:
        lines["  F1 of both"] = f"{found['f1']:.3f}"
    for name, what in (("told_apart", "right above wrong"), ("right_by_luck", "sound above lucky")):
        for way, value in found.get(name, {}).items():
            if way != "by":
                lines[f"{what}, {way}"] = f"{value['area']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
    for name, text in lines.items():
        out.add_row(Text(name, style="dim"), Text(text))
    return out


def _shown(value: dict[str, float]) -> str:
    return f"{value['mean']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
