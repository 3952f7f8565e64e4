"""The implicit reward of a policy on held-out comparisons: what a preference loss taught it, and what that cost.

The score of the loss judges every answer; log-probs are those of whole answers, in nats. Both are reported together with what
the reward has to do with length: a loss may be satisfied by the longer answer, or by making everything less likely.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.table import Table

from burnish.core.intervals import interval, paired, ratio, wilson
from burnish.core.preference import Preference
from burnish.data.units import Unit, encode
from burnish.engines.local import LocalModel
from burnish.errors import InputError
from burnish.loops import calibrate
from burnish.loops.fit import FitConfig
from burnish.loops.fixed import Fixed
from burnish.run import Run
from burnish.stage import Stage


class Judged(NamedTuple):
    """A comparison as a policy sees it; by answer: ``scores``, ``logprobs`` in nats, ``tokens``, and what it counts as
    ``chosen`` and as ``rejected``, each 1 in sum or nothing."""

    scores: list[float]
    logprobs: list[float]
    tokens: list[int]
    chosen: list[float]
    rejected: list[float]


def measure(
    stage: Stage, model: Path, data: calibrate.Comparisons, *, loss: Preference, cfg: FitConfig, reference: Path | None
) -> dict[str, Any]:
    """A stage: "items", what ``model`` makes of every comparison, and "report" (see :mod:`burnish.loops.calibrate`).

    ``reference`` is the model that the loss compares with. A dry run measures nothing. Raises InputError where no comparison
    fits into the model's context.
    """
    if stage.dry_run:
        return {"items": [], "report": {}}
    policy = LocalModel(Path(model), replace(stage.decide("engine", cfg.engine.resolved), adapter=None))
    every = [(data[i], encode(policy.chat, data[i])) for i in range(len(data))]
    kept = [(item, unit) for item, unit in every if max(map(len, unit)) <= policy.context]
    if not kept:
        raise InputError(f"no held-out comparison fits into {policy.context} tokens: shorten them, or set heldout=0")
    stage.view.say(f"{stage.name}: the implicit reward on {len(kept)} held-out comparisons")
    fixed = Fixed([unit for _, unit in kept])
    if loss.needs.reference:
        fixed = fixed.compared_with(policy, reference, cfg.batch, stage.view.say)
    items = [one for start in range(0, len(fixed), cfg.batch) for one in _judge(policy, fixed, start, loss, cfg.batch)]
    scored = [
        calibrate.Scored(comparison, tuple(item.scores), tuple((s,) for s in item.scores), tuple(item.tokens))
        for (comparison, _), item in zip(kept, items, strict=True)
    ]
    right = [[v.right for v in calibrate.verdicts_of(one)] for one in scored]
    rows = [{**item._asdict(), "right": own} for item, own in zip(items, right, strict=True)]
    return {"items": rows, "report": calibrate.report(scored)}


def _judge(policy: LocalModel, data: Fixed, start: int, loss: Preference, size: int) -> list[Judged]:
    batch = data.batch(range(start, min(start + size, len(data))))
    outputs = policy.forward(batch)
    sides = loss.link.sides(batch)
    scores = loss.score(outputs, batch)
    logprobs = torch.where(batch.mask, outputs.logprobs.double(), 0.0).sum(1)
    found, first = [], 0
    for unit in data.units[start : start + size]:
        rows = slice(first, first := first + len(unit))
        chosen, rejected = (_share(side[rows].tolist()) for side in sides)
        found.append(Judged(scores[rows].tolist(), logprobs[rows].tolist(), _lengths(unit), chosen, rejected))
    return found


def _share(weights: Sequence[float]) -> list[float]:
    total = sum(weights)
    return [w / total for w in weights] if total else [0.0] * len(weights)


def _lengths(unit: Unit) -> list[int]:
    return [len(row.tokens) for row in unit]


# --- before and after --------------------------------------------------------------------------------


def separation(good: Sequence[float], bad: Sequence[float]) -> dict[str, float]:
    """{mean, low, high, n}: how often a good answer's reward exceeds a bad one's, ties half (the area under the ROC curve).

    The 95% interval is Wilson's for as many independent pairs as there are answers of the rarer kind, n: the mean over all
    pairs is no less exact than one over these.
    """
    n = min(len(good), len(bad))
    above = sum((g > b) + (g == b) / 2 for g in good for b in bad) / (len(good) * len(bad))
    low, high = wilson(above * n, n)
    return {"mean": above, "low": low, "high": high, "n": n}


def summary(before: dict[str, Any], after: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """``{name: {before, after, paired}}``, all with 95% intervals: "accuracy" of ranked answers or "separation" of labelled
    ones, "margin", and reward and log-probs of chosen and rejected answers. What the data have none of is left out."""
    found: dict[str, dict[str, Any]] = {}
    sides = [[_sides(item) for item in result["items"]] for result in (before, after)]
    pairs = [place for place, side in enumerate(sides[0]) if {"chosen", "rejected"} <= side.keys()]
    if pairs:
        right = [[sum(own) / len(own) for own in (r["items"][i]["right"] for i in pairs)] for r in (before, after)]
        found["accuracy"] = {"before": interval(right[0]), "after": interval(right[1]), "paired": paired(*right)}
        margins = [[s[i]["chosen"][0] - s[i]["rejected"][0] for i in pairs] for s in sides]
        found["margin"] = _change(*margins)
    else:
        good, bad = ([[item[kind][0] for item in s if kind in item] for s in sides] for kind in ("chosen", "rejected"))
        if good[0] and bad[0]:
            found["separation"] = {"before": separation(good[0], bad[0]), "after": separation(good[1], bad[1])}
    for place, what in enumerate(("reward", "logprobs")):
        for kind in ("chosen", "rejected"):
            series = [[item[kind][place] for item in s if kind in item] for s in sides]
            if series[0]:
                found[f"{what}/{kind}"] = _change(*series)
    return found


def _sides(item: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """By side that the comparison has: its mean reward and its mean log-prob."""
    return {
        kind: (_dot(item[kind], item["scores"]), _dot(item[kind], item["logprobs"]))
        for kind in ("chosen", "rejected")
        if any(item[kind])
    }


def _dot(weights: Sequence[float], values: Sequence[float]) -> float:
    return sum(w * v for w, v in zip(weights, values, strict=True))


def _change(before: Sequence[float], after: Sequence[float]) -> dict[str, dict[str, float]]:
    return {"before": _mean(before), "after": _mean(after), "paired": paired(before, after, shares=False)}


def _mean(values: Sequence[float]) -> dict[str, float]:
    """{mean, low, high, n} of numbers that are no proportions: the normal approximation's interval."""
    mean, low, high = ratio(values, [1.0] * len(values))
    return {"mean": mean, "low": low, "high": high, "n": len(values)}


# --- shown -------------------------------------------------------------------------------------------

NAMES = {
    "accuracy": "better answer preferred",
    "separation": "good answer above a bad one",
    "margin": "margin of the reward",
    "reward/chosen": "reward, chosen",
    "reward/rejected": "reward, rejected",
    "logprobs/chosen": "log-prob, chosen (nats)",
    "logprobs/rejected": "log-prob, rejected (nats)",
}
LABELLED = {
    "reward/chosen": "reward, good answers",
    "reward/rejected": "reward, bad answers",
    "logprobs/chosen": "log-prob, good (nats)",
    "logprobs/rejected": "log-prob, bad (nats)",
}


def learned(run: Run, before: dict[str, Any], after: dict[str, Any], *, stage: str) -> None:
    """Print and record what the policy prefers before and after, what became of the log-probs, and the part of length."""
    found = summary(before, after)
    run.summary({stage: {**found, "length": after["report"]["length"]}})
    n = len(after["items"])
    names = {**NAMES, **LABELLED} if "separation" in found else NAMES
    table = Table(box=None, padding=(0, 2), title=f"\nheld out, n = {n}", title_justify="left")
    for column in ("", "before", "after", "change on the same items"):
        table.add_column(column, no_wrap=True)
    for name, value in found.items():
        digits = 1 if name.startswith("logprobs") else 3
        change = _shown(value["paired"], digits, "difference", "+") if "paired" in value else ""
        was = _shown(value["before"], digits)
        if name in ("accuracy", "separation") and _undecided(before):
            was, change = "no preference", ""
        table.add_row(names[name], was, _shown(value["after"], digits), change)
    run.view.say(table)
    for line in _length(after["report"]["length"]):
        run.view.say(line)


def _undecided(result: dict[str, Any]) -> bool:
    """Whether every answer has the reward 0: a policy that is its own reference."""
    return not any(score for item in result["items"] for score in item["scores"])


def _shown(value: dict[str, float], digits: int, name: str = "mean", sign: str = "") -> str:
    mean, low, high = (f"{value[key]:{sign}.{digits}f}" for key in (name, "low", "high"))
    return f"{mean} [{low}, {high}]"


def _length(found: dict[str, Any]) -> list[str]:
    """What reward and length of answers have to do with each other after training, where there are enough to say."""
    r, lines = found["within"] if found["longer"] else found["characters"], []
    if r is not None:
        where = " to the same prompt" if found["longer"] else ""
        lines.append(f"reward and length of answers{where}: r = {r['r']:+.2f} [{r['low']:+.2f}, {r['high']:+.2f}]")
    if found["longer"]:
        model, labels = (found["longer"][who]["mean"] for who in ("model", "labels"))
        lines.append(
            f"the longer of two answers is preferred in {model:.0%} of pairs, and the better one in {labels:.0%}"
        )
    return lines
