"""PPO's ingredients again, where they are needed: sixteen updates a batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from burnish.core.algorithms import PPO
from evidence import nano, tables
from evidence.base import Experiment, Numbers, Results
from evidence.ingredients import WITHOUT

MANY = nano.config(epochs=4, minibatches=4)


@dataclass(frozen=True)
class Effect:
    """The sign expected of taking an ingredient away, on the mean accuracy of the run and on the largest KL."""

    accuracy: int
    kl: int
    why: str


# Signs: -1 lower than full PPO, +1 higher, 0 no difference that five seeds would show. Written before the first run.
EXPECTED: Mapping[str, Effect] = {
    "baseline": Effect(-1, 0, "every token sampled is pushed up, sixteen times; the clip bounds how far"),
    "critic": Effect(0, 0, "the batch's mean is a baseline at once, and the clip holds both alike"),
    "lambda": Effect(0, 0, "as with four updates"),
    "ratio": Effect(-1, +1, "the last of sixteen updates is far from the policy that sampled, and nothing says so"),
    "clip": Effect(-1, +1, "the ratio alone corrects in expectation, with a variance that grows with the distance"),
    "kl": Effect(0, 0, "the clip already bounds each batch; .02 nats of penalty a token add little"),
    "epochs": Effect(0, -1, "four updates a batch go less far, and on this task that is far enough"),
}


class Pressure(Experiment):
    name = "pressure"
    question = """What does each ingredient of PPO buy when a batch is used hard: four epochs of four minibatches? With four
    updates a batch five seeds could not tell most of them apart, as the accuracy at the end is near 1 with or without."""
    expected = (
        "Two statistics that do not saturate, chosen for this run: the mean of the held-out accuracies of steps 5 to 30, and "
        "the decimal logarithm of the largest KL. Signs as in the table: "
        + "; ".join(f"{name}: {effect.why}" for name, effect in EXPECTED.items())
        + "."
    )

    @property
    def variants(self) -> Sequence[str]:
        return ("full", *(f"no-{name}" for name in EXPECTED))

    def run(self, variant: str, seed: int, folder: Path, *, smoke: bool = False) -> Numbers:
        algo, cfg = PPO, MANY
        if variant == "no-epochs":
            cfg = nano.config(epochs=1, minibatches=4)
        elif variant != "full":
            algo = WITHOUT[variant.removeprefix("no-")].algo
        numbers = nano.train(folder, seed, algo, cfg, smoke=smoke)
        scores = [score for step, score in numbers["curve"] if step > 0]
        return {**numbers, "run_mean": sum(scores) / len(scores), "kl_log": math.log10(max(numbers["kl_max"], 1e-9))}

    def report(self, results: Results) -> str:
        header = ("PPO", "mean accuracy of the run", "accuracy after", "log10 max KL", "largest clip fraction")
        rows = [
            [
                variant.replace("-", " "),
                *(tables.interval(results.values(variant, name)) for name in ("run_mean", "accuracy", "kl_log")),
                tables.interval(results.values(variant, "clip_frac")),
            ]
            for variant in results
        ]
        effects = [_effect(results, name) for name in EXPECTED if {f"no-{name}", "full"} <= set(results)]
        columns = ("without", "accuracy: expected", "difference", "", "log10 max KL: expected", "difference", "")
        return "\n\n".join(
            [
                tables.table(header, rows),
                "The effect of taking an ingredient away, seed by seed against full PPO (paired differences, 95% t-interval):",
                tables.table(columns, effects),
            ]
        )


def _effect(results: Results, name: str) -> list[str]:
    cells, effect = [name], EXPECTED[name]
    for number, expected in (("run_mean", effect.accuracy), ("kl_log", effect.kl)):
        differences = results.pairs(f"no-{name}", "full", number)
        cells += ["-0+"[expected + 1], tables.interval(differences, sign=True), tables.verdict(differences, expected)]
    return cells


EXPERIMENT = Pressure()
