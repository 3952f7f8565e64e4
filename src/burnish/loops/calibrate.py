"""A reward model on held-out comparisons: how often it is right, how sure, and what length has to do with it.

All of it is reported together: a model may be right because the better answers of a data set are the longer ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple, Protocol

from rich.table import Table
from rich.text import Text

from burnish.core.intervals import correlation, interval
from burnish.core.ranking import SCORE
from burnish.data.transforms import characters
from burnish.data.units import encode
from burnish.errors import InputError
from burnish.loops.reward_model import RewardModel, loaded
from burnish.stage import Stage
from burnish.types import Comparison

BINS = 10
AT_ONCE = 64
"""Comparisons that are scored in one call."""


class Comparisons(Protocol):
    """Anything with a length whose items are comparisons."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Comparison: ...


@dataclass(frozen=True)
class Scored:
    """A comparison with what a reward model said. All by answer: ``scores``, ``outputs`` [out] and ``tokens``."""

    comparison: Comparison
    scores: tuple[float, ...]
    outputs: tuple[tuple[float, ...], ...]
    tokens: tuple[int, ...]

    @property
    def characters(self) -> list[int]:
        return [characters(answer) for answer in self.comparison.answers]


class Verdict(NamedTuple):
    """The model's probability that something is so, and the label's."""

    said: float
    label: float

    @property
    def right(self) -> float:
        """1 where both are on the same side of one half; a model that does not decide is half right."""
        return 0.5 if self.said == 0.5 else float((self.said > 0.5) == (self.label > 0.5))


def calibrate(
    stage: Stage, reward: RewardModel, data: Comparisons, *, attributes: tuple[str, ...] = (), bins: int = BINS
) -> dict[str, Any]:
    """A stage: the report on ``data``, printed and returned. ``attributes`` names the outputs of the head, in order.

    A dry run measures nothing. Raises InputError where there is nothing to compare.
    """
    if stage.dry_run:
        return {}
    found = report(score(reward, [data[i] for i in range(len(data))]), attributes=attributes, bins=bins)
    stage.view.say(table(found))
    return found


def score(reward: RewardModel, comparisons: Sequence[Comparison]) -> list[Scored]:
    """Every comparison with the scores of its answers."""
    chat = loaded(reward.model, reward.engine, SCORE, "last").chat
    found = []
    for start in range(0, len(comparisons), AT_ONCE):
        some = comparisons[start : start + AT_ONCE]
        said = iter(reward.outputs(some))
        for item in some:
            outputs = tuple(tuple(next(said)) for _ in item.answers)
            scores = tuple(sum(w * o for w, o in zip(reward.weights, row, strict=True)) for row in outputs)
            found.append(Scored(item, scores, outputs, tuple(len(row.tokens) for row in encode(chat, item))))
    return found


def report(scored: Sequence[Scored], *, attributes: Sequence[str] = (), bins: int = BINS) -> dict[str, Any]:
    """Accuracy, calibration, correlation with length, scores and attributes, with n and 95% intervals.

    Prompts are the independent units: with several pairs of a prompt its mean counts once. Accuracy and calibration are
    there where an answer is ranked above another or has a label. Raises InputError where none is and there are no attributes.
    """
    verdicts = [verdicts_of(item) for item in scored]
    judged = [v for v in verdicts if v]
    if not judged and not attributes:
        raise InputError("no answer is better than another and none has a label: there is nothing to compare with")
    right = {
        "accuracy": interval([sum(v.right for v in own) / len(own) for own in judged]),
        "calibration": calibration([v for own in judged for v in own], bins),
    } if judged else {}  # fmt: skip
    return {
        "prompts": len(scored),
        "verdicts": sum(map(len, judged)),
        **right,
        "length": length(scored),
        "scores": _moments([s for item in scored for s in item.scores]),
        "attributes": {name: _attribute(scored, place, name) for place, name in enumerate(attributes)},
    }


def verdicts_of(item: Scored) -> list[Verdict]:
    """Of ranked answers one for each pair of different ranks, ``P = sigma(r_w - r_l)``; else one for each label."""
    answers, found = item.comparison.answers, []
    for i, j in combinations(range(len(answers)), 2):
        ranks = answers[i].rank, answers[j].rank
        if ranks[0] is None or ranks[1] is None or ranks[0] == ranks[1]:
            continue
        better, worse = (i, j) if ranks[0] < ranks[1] else (j, i)
        label = answers[better].label
        found.append(Verdict(_sigmoid(item.scores[better] - item.scores[worse]), 1.0 if label is None else label))
    if found:
        return found
    return [Verdict(_sigmoid(s), a.label) for a, s in zip(answers, item.scores, strict=True) if a.label is not None]


def calibration(verdicts: Sequence[Verdict], bins: int = BINS) -> dict[str, Any]:
    """The expected calibration error: ``sum n_b / n |mean confidence - mean agreement|`` over bins of confidence.

    The confidence is ``max(P, 1 - P)``, so that the order in which a pair is written says nothing; the agreement is the
    label's probability of what the model holds likelier. Bins of equal width from one half to 1.
    """
    places: list[list[Verdict]] = [[] for _ in range(bins)]
    for verdict in verdicts:
        confidence = max(verdict.said, 1 - verdict.said)
        places[min(bins - 1, int((confidence - 0.5) * 2 * bins))].append(verdict)
    rows, error = [], 0.0
    for number, own in enumerate(places):
        if not own:
            continue
        confidence = sum(max(v.said, 1 - v.said) for v in own) / len(own)
        agreement = sum(_agreement(v) for v in own) / len(own)
        error += len(own) / len(verdicts) * abs(confidence - agreement)
        low, high = (0.5 + edge / (2 * bins) for edge in (number, number + 1))
        rows.append({"low": low, "high": high, "n": len(own), "confidence": confidence, "agreement": agreement})
    return {"error": error, "n": len(verdicts), "bins": rows}


def _agreement(verdict: Verdict) -> float:
    if verdict.said == 0.5:
        return 0.5
    return verdict.label if verdict.said > 0.5 else 1 - verdict.label


def length(scored: Sequence[Scored]) -> dict[str, Any]:
    """Pearson's correlation of score with length: over all answers, and within prompts, each less its prompt's mean.

    None where it is not defined: with fewer than 4 prompts, or where nothing varies.

    ``longer`` compares pairs: in what share of them the longer answer has the higher score, and in what share it is the
    better one by the labels. Pairs of one length are left out of both.
    """
    scores = [s for item in scored for s in item.scores]
    chars = [float(c) for item in scored for c in item.characters]
    tokens = [float(t) for item in scored for t in item.tokens]
    inside = [(s - c, n - m) for item in scored for s, c, n, m in _centred(item)]
    prompts = len(scored)
    return {
        "characters": _correlation(scores, chars, prompts),
        "tokens": _correlation(scores, tokens, prompts),
        "within": _correlation([a for a, _ in inside], [b for _, b in inside], prompts),
        "longer": _longer(scored),
    }


def _centred(item: Scored) -> list[tuple[float, float, float, float]]:
    """Of each answer: its score, the mean score of its prompt, its length in characters, and their mean."""
    n = len(item.scores)
    means = sum(item.scores) / n, sum(item.characters) / n
    return [(s, means[0], float(c), means[1]) for s, c in zip(item.scores, item.characters, strict=True)]


def _longer(scored: Sequence[Scored]) -> dict[str, Any]:
    said, true = [], []
    for item in scored:
        for i, j in combinations(range(len(item.scores)), 2):
            a, b = item.comparison.answers[i].rank, item.comparison.answers[j].rank
            gap = item.characters[i] - item.characters[j]
            if a is None or b is None or a == b or not gap:
                continue
            difference = item.scores[i] - item.scores[j]
            said.append(0.5 if not difference else float((difference > 0) == (gap > 0)))
            true.append(float((a < b) == (gap > 0)))
    return {"model": interval(said), "labels": interval(true)} if said else {}


def _correlation(x: Sequence[float], y: Sequence[float], prompts: int) -> dict[str, float] | None:
    """{r, low, high}, None where it is not defined. Prompts are the independent units."""
    found = correlation(x, y, independent=prompts)
    return None if found is None else dict(zip(("r", "low", "high"), found, strict=True))


def _moments(values: Sequence[float]) -> dict[str, float]:
    n = len(values)
    mean = sum(values) / n
    return {"mean": mean, "std": math.sqrt(sum((v - mean) ** 2 for v in values) / n), "n": n}


def _attribute(scored: Sequence[Scored], place: int, name: str) -> dict[str, Any]:
    """The mean output for an attribute; where targets are given, their mean, the error and the correlation as well."""
    said = [row[place] for item in scored for row in item.outputs]
    known = [
        (row[place], float(answer.scores[name]))
        for item in scored
        for row, answer in zip(item.outputs, item.comparison.answers, strict=True)
        if name in answer.scores
    ]
    found: dict[str, Any] = {"mean": sum(said) / len(said), "n": len(known)}
    if not known:
        return found
    left, right = [a for a, _ in known], [b for _, b in known]
    error = math.sqrt(sum((a - b) ** 2 for a, b in known) / len(known))
    target = sum(right) / len(right)
    return {**found, "target": target, "rmse": error, "correlation": _correlation(left, right, len(scored))}


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def table(found: dict[str, Any]) -> Table:
    """The report for people."""
    out = Table.grid(padding=(0, 2))
    accuracy, bias = found.get("accuracy"), found["length"]
    right = {
        "accuracy": f"{accuracy['mean']:.3f} [{accuracy['low']:.3f}, {accuracy['high']:.3f}], "
        f"{found['verdicts']} verdicts on {found['prompts']} prompts",
        "calibration": f"error {found['calibration']['error']:.3f}",
    } if accuracy else {}  # fmt: skip
    lines = {
        **right,
        **{
            f"score and {what}": _r(bias[key])
            for key, what in (("characters", "characters"), ("tokens", "tokens"), ("within", "length within a prompt"))
        },
        "scores": f"{found['scores']['mean']:+.3f}, standard deviation {found['scores']['std']:.3f}",
    }
    if bias["longer"]:
        model, labels = bias["longer"]["model"], bias["longer"]["labels"]
        lines["the longer one"] = f"preferred in {model['mean']:.0%} of pairs, better in {labels['mean']:.0%} of them"
    for name, value in found["attributes"].items():
        target = f", target {value['target']:.2f}, rmse {value['rmse']:.2f}" if "target" in value else ""
        lines[name] = f"{value['mean']:.2f}{target}"
    for name, value in lines.items():
        out.add_row(Text(name, style="dim"), Text(value))
    return out


def _r(found: dict[str, float] | None) -> str:
    return "not defined" if found is None else f"r = {found['r']:+.2f} [{found['low']:+.2f}, {found['high']:+.2f}]"
