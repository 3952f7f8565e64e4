"""Does supervised training memorise the rule of a card game, and reinforcement not (arXiv:2501.17161)?

GeneralPoints with three cards and the target 12. ``nano`` is pretrained on solutions under two rules, J = Q = K = 10 and
J = 11, Q = 12, K = 13, half of them with signs at random and some behind a wrong reply and the verifier's words. So it knows
both rules, and neither well. Then only the first is trained on, with as much compute in all ways: right solutions
(SFT), or the paper's reward with one reply, or with up to three or five and the verifier's words between them (RL).

Compute is counted in token passes: a token that is read or sampled costs one, and two more where gradients go back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from burnish.core import keys
from burnish.core.algorithms import DR_GRPO
from burnish.core.intervals import wilson
from burnish.engines.decode import LocalSampler
from burnish.engines.local import Engine, LocalModel
from burnish.engines.optim import AdamW, Schedule
from burnish.engines.pretrained import resolve
from burnish.loops.evaluate import run_items
from burnish.loops.fit import FitConfig, fit
from burnish.loops.fixed import encode_all
from burnish.loops.rl import RLConfig, rl
from burnish.run import Run
from burnish.stage import Stage
from burnish.tasks.checks import check_index
from burnish.tasks.countdown import solves
from burnish.tasks.environments import Conversation
from burnish.tasks.feedback import AGAIN, Feedback
from burnish.tasks.points24 import Points24
from burnish.types import Completion, Example, Message, Sampling
from burnish.view import View
from evidence import plot, tables
from evidence.base import Experiment, Numbers, Results

SHOWN = {"ten": "J=Q=K=10", "rank": "J=11 Q=12 K=13"}


@dataclass(frozen=True)
class Cards(Points24):
    """Three cards, asked and solved in few characters."""

    cards: int = 3
    target: int = 12
    scoring: str = "paper"

    def asked(self, question: str, closing: str, answer: Any, meta: dict[str, Any]) -> Example:  # noqa: ARG002
        text = f"{' '.join(meta['cards'])} ({SHOWN[self.faces]})"
        return Example(({"role": "user", "content": text},), answer, meta)

    def reply(self, answer: str, thoughts: str = "") -> str:
        return super().reply(answer.replace(" ", ""), thoughts)


TRAINED = Cards()
MEASURED = {
    "in": replace(TRAINED, seed=1),
    "out": replace(TRAINED, seed=1).with_faces("rank"),
    "unseen": TRAINED.with_split("test"),
}
"""The rule that is trained, the other one (on hands with J, Q or K), and hands that nothing was trained on, under the first."""
BUDGET, SHARES = 1.2e6, (1 / 3, 2 / 3, 1.0)
"""Token passes of every variant, and where on the way it is measured."""
N, SAMPLES = 200, 4
WAYS = ("greedy", "sampled")

_ENGINE = Engine(dtype="float32", device="cpu", optimizer=AdamW(weight_decay=0.01))
_SAMPLING = Sampling(max_tokens=20)
_PRETRAIN = FitConfig(
    steps=500, batch=32, last_only=True, engine=_ENGINE,
    schedule=Schedule(2e-3, warmup=20, shape="cosine", final=0.1),
)  # fmt: skip
_FIT = FitConfig(steps=448, batch=32, schedule=Schedule(3e-4, warmup=3), engine=_ENGINE, checkpoint_every=8)
_RL = RLConfig(
    steps=96, prompts=8, group=16, sampling=_SAMPLING, schedule=Schedule(3e-4, warmup=3), engine=_ENGINE,
    checkpoint_every=1,
)  # fmt: skip
_ATTEMPTS = {"rl-1": 1, "rl-3": 3, "rl-5": 5}


@dataclass(frozen=True)
class Pretraining:
    """Conversations under both rules in turn: every other one begins with a wrong reply and what the verifier says to it.

    The last reply is a solution; of half of them the signs are drawn anew.
    """

    size: int = 16_000

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Example:
        check_index(index, self.size)
        task = TRAINED.with_faces("rank") if index % 2 else TRAINED
        example, key = task[index % len(task)], keys.derive("generalise", index)
        solution = task.gold(example)
        first: tuple[Message, ...] = ()
        if index // 2 % 2:
            wrong = resigned(solution, keys.derive("wrong", key))
            words = task.explain(example, Completion((), wrong, (), "eos"))
            if not solves(wrong, example.meta["numbers"], task.target):
                first = ({"role": "assistant", "content": wrong}, {"role": "user", "content": f"{words} {AGAIN}"})
        last = resigned(solution, key) if index // 4 % 2 else solution
        return replace(example, messages=(*example.messages, *first, {"role": "assistant", "content": last}))


def resigned(expression: str, key: int) -> str:
    """The expression with signs drawn anew."""
    draws = iter(keys.uniforms(key, len(expression)))
    return "".join("+-*/"[int(4 * next(draws))] if sign in "+-*/" else sign for sign in expression)


@dataclass(frozen=True)
class Solved:
    """The problems of the trained rule with a right reply each."""

    task: Cards = TRAINED

    def __len__(self) -> int:
        return len(self.task)

    def __getitem__(self, index: int) -> Example:
        example = self.task[index]
        reply: Message = {"role": "assistant", "content": self.task.gold(example)}
        return replace(example, messages=(*example.messages, reply))


class Generalise(Experiment):
    name = "generalise"
    question = (
        "GeneralPoints with three cards and the target 12 on `nano`, pretrained on both rules for J, Q and K. Training goes on "
        "under one of them, with equal compute, by SFT or by RL with 1, 3 or 5 attempts: what becomes of the other rule?"
    )
    expected = (
        "Under the rule that is trained, accuracy rises in all ways (+). Under the other one it falls with SFT (-) and rises "
        "with RL (+); with RL it ends above SFT, and with more attempts higher (+). Measured is the first reply, greedily. "
        "Added after a first run of half the length, in which RL changed little of what is said greedily: the same of the "
        "first reply sampled at temperature 1, as RL samples it."
    )
    seeds = (0, 1, 2)

    @property
    def variants(self) -> Sequence[str]:
        return ("sft", *_ATTEMPTS)

    def run(self, variant: str, seed: int, folder: Path, *, smoke: bool = False) -> Numbers:
        pretrain = replace(_PRETRAIN, steps=2) if smoke else _PRETRAIN
        with Run.open(folder / "run", recipe="evidence", scale=self.name, seed=seed, view=View(quiet=True)) as run:
            base = Path(run.stage(fit, "base", resolve("nano"), Pretraining(), cfg=pretrain, cache=True))
            if variant == "sft":
                cfg = replace(_FIT, steps=2, checkpoint_every=1) if smoke else _FIT
                run.stage(fitted, "train", base, cfg=cfg)
                costs = [fit_cost(LocalModel(base, _ENGINE))] * cfg.steps
            else:
                run.stage(reinforced, "train", base, _ATTEMPTS[variant], cfg=replace(_RL, steps=1) if smoke else _RL)
                costs = rl_costs(run.directory / "train")
            return {"path": points(run.directory / "train", base, costs, 10 if smoke else N)}

    def report(self, results: Results) -> str:
        said = f"""Accuracy of the first reply at the last step within {BUDGET / 1e6:g} million token passes: mean over seeds,
        and Wilson's 95% interval, {N} hands a seed (fewer where a rule and a split have no more of them; in the intervals
        hands count as independent of each other and of the seed). "Greedy" is the likeliest reply, "sampled" the mean
        of {SAMPLES} replies at temperature 1; they count as one in the interval."""
        parts = [tables.paragraph(said), shares(results)]
        if found := comparisons(results):
            note = "Paired by seed, mean and 95% t-interval over seeds:"
            head = ("difference", "rule", "reply", "mean", "expected", "seen")
            parts += [note, tables.table(head, found)]
        return "\n\n".join(parts)

    def plot(self, results: Results) -> str | None:
        curves = {}
        for variant in results:
            paths = [cell.numbers["path"] for cell in results[variant]]
            for key in ("in", "out"):
                curves[f"{variant}, {TITLES[key]}"] = [
                    (tables.mean([p["passes"] for p in same]) / 1e6, tables.mean([p[key]["sampled"] for p in same]))
                    for same in zip(*paths, strict=False)
                ]
        return plot.lines(
            curves, title="Accuracy under both rules, sampled", x="million token passes", y="accuracy", low=0, high=1
        )


TITLES = {"in": "trained rule", "out": "other rule", "unseen": "trained rule, unseen hands"}


def shares(results: Results) -> str:
    """The table of what every variant reaches, behind what the base does, which is the same for all seeds."""
    head = ("variant", "token passes", *(f"{TITLES[key]}, {way}" for key in MEASURED for way in WAYS))
    rows = []
    base = next(cell.numbers["path"][0] for variant in results for cell in results[variant])
    ends = {variant: [cell.numbers["path"][-1] for cell in results[variant]] for variant in results}
    for name, points in {"before": [base], **ends}.items():
        spent = f"{tables.mean([point['passes'] for point in points]) / 1e6:.2f}M"
        rows.append([name, spent, *(share(points, key, way) for key in MEASURED for way in WAYS)])
    return tables.table(head, rows)


def share(points: Sequence[Numbers], key: str, way: str) -> str:
    """The mean of the points, and Wilson's interval of all their hands."""
    low, high = wilson(sum(p[key][way] * p[key]["n"] for p in points), sum(p[key]["n"] for p in points))
    middle = tables.mean([p[key][way] for p in points])
    return f"{tables.number(middle)} [{tables.number(low)}, {tables.number(high)}]"


def comparisons(results: Results) -> list[list[str]]:
    """Rows of the table of differences, for what there is."""
    ends = {v: {cell.seed: cell.numbers["path"][-1] for cell in results[v]} for v in results}
    begins = {v: {cell.seed: cell.numbers["path"][0] for cell in results[v]} for v in results}
    found = []

    def rows(name: str, one: dict[int, Numbers], other: dict[int, Numbers], key: str, sign: int) -> None:
        seeds = sorted(one.keys() & other.keys())
        for way in WAYS if seeds else ():
            differences = [one[seed][key][way] - other[seed][key][way] for seed in seeds]
            shown, mean = {1: "+", -1: "-"}[sign], tables.interval(differences, sign=True)
            found.append([name, TITLES[key], way, mean, shown, tables.verdict(differences, sign)])

    for variant, own in ends.items():
        rows(f"{variant} - before", own, begins[variant], "in", 1)
        rows(f"{variant} - before", own, begins[variant], "out", -1 if variant == "sft" else 1)
    for one, other in (("rl-1", "sft"), ("rl-3", "sft"), ("rl-5", "sft"), ("rl-3", "rl-1"), ("rl-5", "rl-3")):
        if one in ends and other in ends:
            rows(f"{one} - {other}", ends[one], ends[other], "out", 1)
    return found


def fitted(stage: Stage, model: Path, *, cfg: FitConfig) -> Path:
    """A stage: SFT on right solutions, with all of its checkpoints left on disk."""
    stage.keep_checkpoints = cfg.steps
    return fit(stage, model, Solved(), cfg=cfg)


def reinforced(stage: Stage, model: Path, attempts: int, *, cfg: RLConfig) -> Path:
    """A stage: RL with so many attempts, with all of its checkpoints left on disk."""
    stage.keep_checkpoints = cfg.steps
    return rl(stage, model, Conversation(TRAINED, Feedback(attempts)), algo=DR_GRPO, cfg=cfg)


def fit_cost(model: LocalModel) -> float:
    """Token passes of a step of SFT, by the mean length of its rows."""
    rows = [len(row) for unit in encode_all(model.chat, Solved(), model.context, drop_long=False) for row in unit]
    return 3 * _FIT.batch * tables.mean(rows)


def rl_costs(stage: Path) -> list[float]:
    """Token passes of each step of RL: all tokens of its episodes are sampled or read once, and then trained on."""
    columns = ["prompt_ids", "token_ids"]
    steps = [pq.read_table(file, columns=columns).to_pydict() for file in sorted((stage / "rollouts").iterdir())]
    return [4.0 * sum(len(ids) for column in columns for ids in step[column]) for step in steps]


def points(stage: Path, base: Path, costs: Sequence[float], n: int) -> list[Numbers]:
    """What the base reaches, and the last checkpoint within each share of the budget. ``costs`` are those of the steps."""
    model = LocalModel(base, _ENGINE)
    found = [{"passes": 0.0, **measured(model, n)}]
    spent = {
        path: sum(costs[: int(path.name.removeprefix("step-"))]) for path in (stage / "checkpoints").glob("step-*")
    }
    within = [[path for path in sorted(spent) if spent[path] <= share * BUDGET] for share in SHARES]
    for checkpoint in dict.fromkeys(paths[-1] for paths in within if paths):
        model.restore(checkpoint / "policy")
        found.append({"passes": spent[checkpoint], **measured(model, n)})
    return found


def measured(model: LocalModel, n: int) -> dict[str, Any]:
    """The accuracy of first replies in both ways, and the hands, by what is measured."""
    ways = {"greedy": (1, replace(_SAMPLING, temperature=0.0)), "sampled": (SAMPLES, _SAMPLING)}
    found: dict[str, Any] = {}
    for key, task in MEASURED.items():
        for way, (samples, sampling) in ways.items():
            items = run_items(
                LocalSampler(model), model.chat, task, n=n, samples=samples, sampling=sampling,
                key=keys.derive("evaluate"),
            )  # fmt: skip
            rates = [sum(item.right) / samples for item in items]
            found[key] = {**found.get(key, {}), "n": len(rates), way: tables.mean(rates)}
    return found


EXPERIMENT = Generalise()
