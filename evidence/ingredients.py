"""PPO with one ingredient off at a time: what each of them buys here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from burnish.core.algorithms import PPO, Algorithm
from burnish.core.kl import KL, k1
from burnish.core.returns import Return, Whiten
from burnish.core.surrogates import Plain, Ratio
from burnish.loops.rl import RLConfig
from evidence import nano, tables
from evidence.base import Experiment, Numbers, Results

# The KL of no weight keeps the reference, so that the distance from it is still measured.
UNHELD = KL(k1, 0.0)
SEVERAL, SINGLE = nano.config(epochs=2, minibatches=2), nano.config()


@dataclass(frozen=True)
class Without:
    """A change of PPO and what is expected of it: the sign of its effect on the final accuracy and on the largest KL."""

    change: str
    algo: Algorithm
    accuracy: int
    kl: int
    why: str
    cfg: RLConfig = SEVERAL


# Signs: -1 lower than full PPO, +1 higher, 0 no difference that five seeds would show. Written before the first run.
WITHOUT: Mapping[str, Without] = {
    "baseline": Without(
        "returns to go as they are, no baseline", replace(PPO, advantage=Return()), -1, +1,
        "rewards are never negative, so every sampled token is pushed up and the differences drown in noise",
    ),
    "critic": Without(
        "returns to go, whitened over the batch", replace(PPO, advantage=Whiten(Return())), +1, +1,
        "thirty steps are few for a critic that starts from nothing; the batch's mean is a baseline at once",
    ),
    "lambda": Without(
        "lambda 1: the return minus the value", replace(PPO, advantage=replace(PPO.advantage, lam=1.0)), 0, 0,  # type: ignore[type-var]
        "completions have some twenty tokens, .95^20 is .36: less bias from an untrained critic, more variance",
    ),
    "ratio": Without(
        "-A log pi in all four updates", replace(PPO, surrogate=Plain()), -1, +1,
        "the later updates of a batch are off-policy and nothing stops them",
    ),
    "clip": Without(
        "the ratio, unclipped", replace(PPO, surrogate=Ratio()), 0, +1,
        "at this learning rate few tokens leave the clip range in four updates; those that do go further",
    ),
    "kl": Without(
        "no KL in the reward", replace(PPO, reward_kl=UNHELD), +1, +1,
        "a rule cannot be gamed, so the reference only holds back",
    ),
    "epochs": Without(
        "one epoch: two updates a batch in place of four", PPO, -1, -1,
        "the same rollouts give half of the optimizer steps", cfg=SINGLE,
    ),
}  # fmt: skip


class Ingredients(Experiment):
    name = "ingredients"
    question = """What does each ingredient of PPO buy: baseline, critic, lambda, ratio, clip, KL, several epochs? Each is
    taken away alone, from PPO with two epochs of two minibatches."""
    expected = (
        "The signs in the table, for these reasons: " + "; ".join(f"{n}: {w.why}" for n, w in WITHOUT.items()) + "."
    )

    @property
    def variants(self) -> Sequence[str]:
        return ("full", *(f"no-{name}" for name in WITHOUT))

    def run(self, variant: str, seed: int, folder: Path, *, smoke: bool = False) -> Numbers:
        algo, cfg = PPO, SEVERAL
        if variant != "full":
            without = WITHOUT[variant.removeprefix("no-")]
            algo, cfg = without.algo, without.cfg
        numbers = nano.train(folder, seed, algo, cfg, smoke=smoke)
        middle = numbers["curve"][len(numbers["curve"]) // 2]
        return {**numbers, "half": middle[1], "half_step": middle[0]}

    def report(self, results: Results) -> str:
        header = ("PPO", "what changes", "accuracy after", "accuracy at half", "max KL", "seconds")
        changes = {"full": "nothing"} | {f"no-{name}": without.change for name, without in WITHOUT.items()}
        rows = [
            [
                variant.replace("-", " "),
                changes[variant],
                tables.interval(results.values(variant, "accuracy")),
                tables.interval(results.values(variant, "half")),
                tables.interval(results.values(variant, "kl_max")),
                f"{tables.mean(results.values(variant, 'seconds_training')):.0f}",
            ]
            for variant in results
        ]
        effects = [_effect(results, name, w) for name, w in WITHOUT.items() if {f"no-{name}", "full"} <= set(results)]
        columns = ("without", "accuracy: expected", "difference", "", "max KL: expected", "difference", "")
        half = next(iter(results[v][0].numbers["half_step"] for v in results))
        return "\n\n".join(
            [
                tables.table(header, rows),
                tables.paragraph(
                    "Accuracy after is on 200 problems of the test split, at half on 100 of the dev split, after "
                    f"{half:.0f} batches. Max KL is the largest `kl/ref` of a step, in nats per token. Means over seeds with "
                    "95% t-intervals over seeds."
                ),
                "The effect of taking an ingredient away, seed by seed against full PPO (paired differences, 95% t-interval):",
                tables.table(columns, effects),
                "A sign counts as seen where the interval excludes 0; an expected 0 holds where it does not. Each line is one "
                "test at 95%: of fourteen, one false alarm is no surprise.",
            ]
        )


def _effect(results: Results, name: str, without: Without) -> list[str]:
    cells = [name]
    for number, expected in (("accuracy", without.accuracy), ("kl_max", without.kl)):
        differences = results.pairs(f"no-{name}", "full", number)
        verdict = tables.verdict(differences, expected)
        cells += ["-0+"[expected + 1], tables.interval(differences, sign=True), verdict]
    return cells


EXPERIMENT = Ingredients()
