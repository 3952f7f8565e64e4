"""How the critic of PPO begins: at zero, at random, after steps of its own, or as a reward model.

- ``zero``: the critic begins as the policy with a head that says 0 (Burnish's default).
- ``random``: the same with a random head of standard deviation 1, as a linear layer that nobody initialised.
- ``pretrained``: as ``zero``, then the critic alone learns for eight steps of rollouts before the policy's first.
- ``reward-model``: the critic begins as an outcome reward model: trunk and head regressed, at every token, to the outcome of
  rollouts of the base model (arXiv:2305.20050 reads such a model at the last token). Those rollouts are an earlier stage's.

What a policy step has seen is the same for all four: thirty of them, at one learning rate. The critic's own steps come on top.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import torch

from burnish.core import keys
from burnish.core.algorithms import A2C, PPO
from burnish.engines.local import LocalModel
from burnish.engines.optim import Schedule
from burnish.engines.pretrained import resolve
from burnish.loops.evaluate import evaluate
from burnish.loops.fit import fit
from burnish.loops.rl import RLConfig, rl
from burnish.loops.update import CriticConfig
from burnish.recipes.r1_zero import SCALES
from burnish.rewards.base import RewardFunction
from burnish.run import Artifact, Run
from burnish.stage import Stage
from burnish.tasks.arithmetic import Arithmetic
from burnish.tasks.tiny import Demonstrations
from burnish.types import Head
from burnish.view import View
from evidence import plot, tables
from evidence.base import Experiment, Numbers, Results
from evidence.nano import Paid

NANO = SCALES["tiny"]
TASK = Arithmetic(kinds=("largest",), numbers=4, low=0, high=9, style="think")
HIGHEST = 1.0 + NANO.format_weight
EARLY = 10
"""The policy steps in which a dip is looked for."""

_ENGINE = replace(NANO.rl.engine, device="cpu")
_CRITIC = CriticConfig(schedule=Schedule(1e-3, warmup=2))
_RL = RLConfig(
    steps=30, prompts=32, group=4, minibatches=4, sampling=NANO.rl.sampling, schedule=Schedule(2e-4, warmup=0),
    engine=_ENGINE, critic=_CRITIC, eval_every=1, eval_items=150, checkpoint_every=100,
)  # fmt: skip
_PRETRAINING = {"zero": 0, "random": 0, "pretrained": 8, "reward-model": 0}
_REWARD_MODEL_STEPS = 16
_OUTCOME = replace(A2C, entropy=0.0)
"""The critic's target is then the outcome itself."""


class Critics(Experiment):
    name = "critics"
    question = (
        "Does a critic that has learnt something before the policy's first step explain returns at once, and is PPO's "
        "reward in the first ten policy steps then higher? `nano` on the largest of four numbers, accuracy + .5 format."
    )
    expected = (
        "Explained variance of V before the first policy step: above 0 for pretrained and reward-model, about 0 for zero, "
        "below 0 for random. Held-out reward over the first ten policy steps, relative to that before the first: higher for "
        "pretrained and reward-model than for random (which may dip below its start) and than for zero, whose advantages "
        "begin as the rewards themselves. Accuracy at the end: no difference (0)."
    )

    @property
    def variants(self) -> Sequence[str]:
        return tuple(_PRETRAINING)

    def run(self, variant: str, seed: int, folder: Path, *, smoke: bool = False) -> Numbers:
        first = min(_PRETRAINING[variant], 2) if smoke else _PRETRAINING[variant]
        cfg = replace(_RL, steps=2 if smoke else _RL.steps, critic=replace(_CRITIC, pretrain=first))
        with Run.open(folder / "run", recipe="evidence", scale=self.name, seed=seed, view=View(quiet=True)) as run:
            base = run.stage(fit, "0-pretrain", resolve("nano"), Demonstrations(TASK), cfg=NANO.pretrain, cache=True)
            critic = self._critic(run, base, variant, 2 if smoke else _REWARD_MODEL_STEPS)
            dev = Paid(TASK.with_split("dev"), NANO.reward, HIGHEST)
            after = run.stage(rl, "ppo", base, TASK, reward=NANO.reward, algo=PPO, cfg=cfg, heldout=dev, critic=critic)
            test = run.stage(evaluate, "test", after, TASK.with_split("test"), cfg=replace(NANO.eval, engine=_ENGINE))
            stage = run.directory / "ppo"
            explained = explained_variance(stage / "rollouts" / f"step-{first + 1:06d}.parquet")
            lines = [json.loads(line) for line in (stage / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        held = [line["eval/reward"] for line in lines[first:]]
        early = [reward - held[0] for reward in held[1 : EARLY + 1]]
        return {
            "explained": explained,
            "before": held[0],
            "early": tables.mean(early),
            "lowest": min(early),
            "accuracy": test["summary"]["accuracy"]["mean"],
            "held": held,
        }

    def _critic(self, run: Run, base: Artifact, variant: str, steps: int) -> Path | None:
        if variant == "random":
            return Path(run.stage(random_head, "critic", base))
        if variant == "reward-model":
            return Path(run.stage(reward_model, "critic", base, reward=NANO.reward, steps=steps))
        return None

    def report(self, results: Results) -> str:
        columns = ("explained", "before", "early", "lowest", "accuracy")
        head = (
            "critic",
            "explained variance before",
            "reward before",
            "early change",
            "lowest early",
            "accuracy, test",
        )
        signed = ("explained", "early", "lowest")
        rows = [[v, *(tables.interval(results.values(v, c), sign=c in signed) for c in columns)] for v in results]
        parts = [
            "Explained variance is 1 - Var(R - V)/Var(R) over the tokens of the first policy step's rollouts, R the outcome. "
            "Rewards are held out, as a share of the highest, on the same items and the same randomness for every cell: the "
            "early change is the mean over policy steps 1 to 10 minus that before the first, the lowest their minimum. Mean "
            "and 95% t-interval over seeds.",
            tables.table(head, rows),
        ]
        found = [
            [f"{one} - {other}", _NAMES[number], tables.interval(difference, sign=True), {1: "+", -1: "-", 0: "0"}[sign],
             tables.verdict(difference, sign)]
            for one, other, number, sign in _COMPARISONS
            if one in results and other in results
            for difference in [results.pairs(one, other, number)]
            if difference
        ]  # fmt: skip
        if found:
            parts += ["Paired by seed:", tables.table(("difference", "of", "mean", "expected", "seen"), found)]
        return "\n\n".join(parts)

    def plot(self, results: Results) -> str | None:
        curves = {
            variant: [(float(k), tables.mean(same)) for k, same in enumerate(zip(*held, strict=False))]
            for variant in results
            for held in [[cell.numbers["held"] for cell in results[variant]]]
        }
        return plot.lines(curves, title="PPO by how its critic begins", x="policy steps", y="held-out reward, share")


_COMPARISONS = (
    ("pretrained", "zero", "explained", 1),
    ("reward-model", "zero", "explained", 1),
    ("pretrained", "random", "explained", 1),
    ("pretrained", "random", "early", 1),
    ("reward-model", "random", "early", 1),
    ("pretrained", "zero", "early", 1),
    ("reward-model", "zero", "early", 1),
    ("pretrained", "random", "accuracy", 0),
    ("pretrained", "zero", "accuracy", 0),
)
_NAMES = {"explained": "explained variance", "early": "early change", "accuracy": "accuracy"}


def random_head(stage: Stage, model: Path) -> Path:
    """A stage: the model with a random value head."""
    critic = LocalModel(Path(model), _ENGINE, seed=keys.derive(stage.seed, "critic"), heads={"value": Head(spread=1.0)})
    return stage.export(critic)


def reward_model(stage: Stage, model: Path, *, reward: RewardFunction, steps: int) -> Path:
    """A stage: the model with a value head, both regressed to the outcomes of its own rollouts. The policy never moves."""
    cfg = replace(_RL, steps=1, schedule=Schedule(0.0), critic=replace(_CRITIC, pretrain=steps), eval_every=0)
    rl(stage, model, TASK, reward=reward, algo=_OUTCOME, cfg=cfg)
    return stage.directory / "critic"


def explained_variance(rollouts: Path) -> float:
    """1 - Var(R - V)/Var(R) over the tokens of a step, R the outcome of the token's completion."""
    values: list[float] = []
    returns: list[float] = []
    for row in pq.read_table(rollouts, columns=["reward", "values"]).to_pylist():
        values += row["values"]
        returns += [row["reward"]] * len(row["values"])
    v, r = torch.tensor(values, dtype=torch.float64), torch.tensor(returns, dtype=torch.float64)
    return float(1 - (r - v).var() / r.var())


EXPERIMENT = Critics()
