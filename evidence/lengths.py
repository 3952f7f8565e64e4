"""GRPO and Dr. GRPO where length is planted: it says nothing about being right, and no reward depends on it.

``nano`` is pretrained on answers with a tail of marks whose number is geometric whatever the answer is. Two placements:

- *known*: ``<answer>7</answer>-----``. The tail follows the answer and its mark says whether the answer was right, so the
  model writes on knowing how the completion will be judged.
- *blind*: ``<think>......</think><answer>7</answer>``. The tail comes before anything is decided.

Given the prefix, the score of a tail has mean 0, so an estimator that weighs all tokens alike (Dr. GRPO) does not move its
length. GRPO divides by the length: a short wrong tail is pushed down harder than a long one, a short right tail pushed up
harder, so known wrong tails grow and right ones shrink. Blind tails share the mean advantage of their group, which is 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from burnish.core.aggregate import seq_mean_token_mean
from burnish.core.algorithms import DR_GRPO, GRPO
from burnish.core.keys import derive, uniforms
from burnish.engines.local import Engine
from burnish.engines.optim import AdamW, Schedule
from burnish.engines.pretrained import resolve
from burnish.loops.evaluate import EvalConfig, evaluate
from burnish.loops.fit import FitConfig, fit
from burnish.loops.rl import RLConfig, rl
from burnish.rewards.accuracy import answer_text, lenient
from burnish.rewards.base import Composable, per_completion
from burnish.run import Run
from burnish.tasks.arithmetic import Arithmetic
from burnish.types import Completion, Example, Reward, Sampling, outcome
from burnish.view import View
from evidence import plot, tables
from evidence.base import Experiment, Numbers, Results

TASK = Arithmetic(kinds=("largest",), numbers=3, low=0, high=9, style="think")
LATE = 10
"""The last steps, over which the reported lengths are means."""
WINDOW = 5
"""Steps to a point of the curve."""
PLANTED = "planted"
"""In a comparison: the same run's mean length at its first step."""

_ENGINE = Engine(dtype="float32", device="cpu", optimizer=AdamW(weight_decay=0.01))
_SAMPLING = Sampling(max_tokens=64)
_PRETRAIN = FitConfig(
    steps=200, batch=32, schedule=Schedule(2e-3, warmup=20, shape="cosine", final=0.1), engine=_ENGINE
)
_RL = RLConfig(
    steps=50, prompts=8, group=16, sampling=_SAMPLING, schedule=Schedule(1e-4, warmup=2), engine=_ENGINE,
    checkpoint_every=50,
)  # fmt: skip
_EVAL = EvalConfig(n=100, sampling=_SAMPLING, engine=_ENGINE)

_GRPO = replace(GRPO, kl=None)
_ALGORITHMS = {
    "grpo": _GRPO,
    "grpo-without-std": replace(DR_GRPO, aggregate=seq_mean_token_mean),
    "dr-grpo": DR_GRPO,
    "grpo-blind": _GRPO,
    "dr-grpo-blind": DR_GRPO,
}


@dataclass(frozen=True)
class Tails:
    """Demonstrations of ``task`` with a tail of 1 to ``longest`` marks, geometric with mean ``length`` before that cut.

    With probability ``guessed`` the answer is a random operand. ``known`` puts the tail behind the answer, "+" where that
    is right and "-" where it is wrong; otherwise dots stand before it.
    """

    task: Arithmetic
    known: bool
    guessed: float = 0.7
    length: float = 10.0
    longest: int = 40
    size: int = 4800

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Example:
        which, guess, operand, long = (float(u) for u in uniforms(derive("tails", index), 4))
        example = self.task[int(which * len(self.task))]
        operands = example.meta["operands"]
        answer = str(operands[int(operand * len(operands))]) if guess < self.guessed else example.answer
        marks = min(self.longest, 1 + int(math.log1p(-long) / math.log1p(-1 / self.length)))
        if self.known:
            text = f"<answer>{answer}</answer>{('+' if answer == example.answer else '-') * marks}"
        else:
            text = f"<think>{'.' * marks}</think><answer>{answer}</answer>"
        return Example((*example.messages, {"role": "assistant", "content": text}), example.answer, example.meta)


@dataclass(frozen=True)
class Answered(Composable):
    """1 where the answer is right, whether or not the completion came to its end: length never enters."""

    @per_completion
    def __call__(self, example: Example, completion: Completion) -> Reward:
        return outcome(lenient(completion.text, answer_text(example)), "accuracy")


class Lengths(Experiment):
    name = "lengths"
    question = (
        "Does GRPO make wrong completions longer where length has nothing to do with the reward, and does Dr. GRPO not? "
        "`nano` is pretrained on answers with a tail of geometric length, independent of whether they are right; the "
        "reward looks at the answer alone."
    )
    expected = (
        "Tail after the answer (the model knows whether it was right): wrong completions end longer under GRPO than under "
        "Dr. GRPO (+), right ones shorter (-), with or without the division by the standard deviation; under Dr. GRPO both "
        "stay near what was planted. Accuracy does not differ (0). Control, tail before the answer: the advantages of a "
        "group have mean 0 whatever the lengths, so GRPO and Dr. GRPO do not differ (0)."
    )

    @property
    def variants(self) -> Sequence[str]:
        return tuple(_ALGORITHMS)

    def run(self, variant: str, seed: int, folder: Path, *, smoke: bool = False) -> Numbers:
        blind = variant.endswith("-blind")
        cfg = replace(_RL, steps=2) if smoke else _RL
        with Run.open(folder / "run", recipe="evidence", scale=self.name, seed=seed, view=View(quiet=True)) as run:
            base = run.stage(fit, "base", resolve("nano"), Tails(TASK, known=not blind), cfg=_PRETRAIN, cache=True)
            trained = run.stage(rl, "rl", base, TASK, reward=Answered(), algo=_ALGORITHMS[variant], cfg=cfg)
            test = run.stage(evaluate, "test", trained, TASK.with_split("test"), cfg=_EVAL)["summary"]
            rows = [read(run.directory / "rl" / "rollouts", step) for step in range(1, cfg.steps + 1)]
        late = [row for step in rows[-LATE:] for row in step]
        return {
            "planted": mean_length(rows[0]),
            "right": mean_length([row for row in late if row["right"]]),
            "wrong": mean_length([row for row in late if not row["right"]]),
            "wrong_share": sum(not row["right"] for row in late) / len(late),
            "truncated": sum(row["truncated"] for row in late) / len(late),
            "accuracy": test["accuracy"]["mean"],
            "tokens": test["length/mean"],
            "curve": curve(rows),
        }

    def report(self, results: Results) -> str:
        columns = ("planted", "right", "wrong", "wrong_share", "truncated", "accuracy", "tokens")
        digits = {"planted": 1, "right": 1, "wrong": 1, "tokens": 1}
        head = (
            "variant",
            "planted",
            "right, late",
            "wrong, late",
            "wrong share",
            "cut off",
            "accuracy",
            "tokens, test",
        )
        rows = [[v, *(tables.interval(results.values(v, c), digits.get(c, 3)) for c in columns)] for v in results]
        parts = [
            "Mean tokens of a completion: at the first step, and over the last ten. Mean and 95% t-interval over seeds.",
            tables.table(head, rows),
        ]
        found = [
            [f"{one} - {other}", _NAMES[number], tables.interval(seen, digits.get(number, 3), sign=True),
             {1: "+", -1: "-", 0: "0"}[sign], tables.verdict(seen, sign)]
            for one, other, number, sign in _COMPARISONS
            if (seen := differences(results, one, other, number))
        ]  # fmt: skip
        if found:
            parts += ["Paired by seed:", tables.table(("difference", "of", "mean", "expected", "seen"), found)]
        return "\n\n".join(parts)

    def plot(self, results: Results) -> str | None:
        curves = {}
        for variant in ("grpo", "dr-grpo"):
            if variant in results:
                series = [cell.numbers["curve"] for cell in results[variant]]
                for kind in ("right", "wrong"):
                    curves[f"{variant}, {kind}"] = averaged(series, kind)
        curves = {name: points for name, points in curves.items() if points}
        if not curves:
            return None
        return plot.lines(curves, title="Length of right and wrong completions", x="step", y="tokens", low=0)


_COMPARISONS = (
    ("grpo", "dr-grpo", "wrong", 1),
    ("grpo", "dr-grpo", "right", -1),
    ("grpo-without-std", "dr-grpo", "wrong", 1),
    ("grpo-without-std", "dr-grpo", "right", -1),
    ("dr-grpo", PLANTED, "wrong", 0),
    ("dr-grpo", PLANTED, "right", 0),
    ("grpo", "dr-grpo", "accuracy", 0),
    ("grpo-blind", "dr-grpo-blind", "wrong", 0),
    ("grpo-blind", "dr-grpo-blind", "right", 0),
)
_NAMES = {"wrong": "wrong, late", "right": "right, late", "accuracy": "accuracy"}


def differences(results: Results, one: str, other: str, number: str) -> list[float]:
    """Seed by seed; empty where one of the two has no cell."""
    if one not in results:
        return []
    if other == PLANTED:
        return [cell.numbers[number] - cell.numbers["planted"] for cell in results[one]]
    return results.pairs(one, other, number) if other in results else []


def read(rollouts: Path, step: int) -> list[dict[str, Any]]:
    """The completions of a step: how long, right or not, cut off or not."""
    table = pq.read_table(rollouts / f"step-{step:06d}.parquet", columns=["token_ids", "reward", "finish"])
    return [
        {"tokens": len(row["token_ids"]), "right": row["reward"] > 0, "truncated": row["finish"] == "length"}
        for row in table.to_pylist()
    ]


def mean_length(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """None where there is no such completion."""
    return sum(row["tokens"] for row in rows) / len(rows) if rows else None


def curve(rows: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, float | None]]:
    """Mean lengths of right and of wrong completions, ``WINDOW`` steps at a time."""
    points = []
    for start in range(0, len(rows), WINDOW):
        window = [row for step in rows[start : start + WINDOW] for row in step]
        points.append({
            "step": start + 1.0,
            "right": mean_length([row for row in window if row["right"]]),
            "wrong": mean_length([row for row in window if not row["right"]]),
        })  # fmt: skip
    return points


def averaged(series: Sequence[Sequence[Mapping[str, float | None]]], kind: str) -> list[tuple[float, float]]:
    """The mean over seeds, point by point, of those that have one."""
    points = []
    for same in zip(*series, strict=False):
        values = [value for point in same if (value := point[kind]) is not None]
        if values and (step := same[0]["step"]) is not None:
            points.append((step, tables.mean(values)))
    return points


EXPERIMENT = Lengths()
