"""Every preference loss on the same pretrained ``nano`` and the same planted preferences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.core import keys, preference
from burnish.data import units
from burnish.engines.decode import LocalSampler
from burnish.engines.local import Engine, LocalModel
from burnish.engines.optim import Schedule
from burnish.loops.fit import FitConfig, fit
from burnish.loops.rollouts import draw_groups
from burnish.run import Run
from burnish.stage import Stage
from burnish.tasks.arithmetic import Arithmetic
from burnish.types import Answer, Comparison, Message, Sampling
from burnish.view import View
from evidence import nano, tables
from evidence.base import Experiment, Numbers, Results

PROMPTS, HELDOUT = 600, 200
SAMPLING = Sampling(max_tokens=40)
ENGINE = Engine(dtype="float32", device="cpu")
CONFIG = FitConfig(steps=60, batch=16, schedule=Schedule(3e-4, warmup=5), engine=ENGINE, checkpoint_every=10_000)
TRUTH = nano.TINY.reward
"""The planted truth: 1 for a right answer and .5 for an answer in tags."""


@dataclass(frozen=True)
class Judged:
    """Pairs of different worth. A row is (question, better, its worth, worse, its worth)."""

    rows: tuple[tuple[str, str, float, str, float], ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Comparison:
        question, better, high, worse, low = self.rows[index]
        prompt: Message = {"role": "user", "content": question}
        answers = [
            Answer(({"role": "assistant", "content": text},), rank, scores={"score": worth})
            for rank, (text, worth) in enumerate([(better, high), (worse, low)])
        ]
        return Comparison((prompt,), tuple(answers))


def sampled(stage: Stage, model: Path, task: Arithmetic, *, count: int, size: int) -> dict[str, Any]:
    """A stage: ``size`` completions of ``count`` prompts, with their worth and length."""
    policy = LocalModel(Path(model), ENGINE)
    groups = draw_groups(
        LocalSampler(policy), policy.chat, task, TRUTH, draws=range(count), size=size, sampling=SAMPLING,
        seed=keys.derive(stage.seed, "sampled"), version=0,
    )  # fmt: skip
    rows = [
        [group.example.messages[-1]["content"], text, rollout.reward, len(rollout.tokens)]
        for group in groups
        for text, rollout in zip(group.texts, group.rollouts, strict=True)
    ]
    return {"rows": rows}


def pairs(rows: Sequence[Sequence[Any]]) -> Judged:
    """Two completions of a prompt side by side, the one of higher worth first; equal ones are left out, and empty ones."""
    found = []
    for one, two in zip(rows[::2], rows[1::2], strict=True):
        better, worse = (one, two) if one[2] > two[2] else (two, one)
        if better[2] > worse[2] and better[1].strip() and worse[1].strip():
            found.append((better[0], better[1], better[2], worse[1], worse[2]))
    return Judged(tuple(found))


def whole(model: Path, data: Judged) -> list[list[float]]:
    """[pairs][2] the log-probability of each better and each worse answer, in nats."""
    policy = LocalModel(Path(model), ENGINE)
    found: list[list[float]] = []
    for start in range(0, len(data), 50):
        part = [units.encode(policy.chat, data[i]) for i in range(start, min(start + 50, len(data)))]
        batch = units.collate(part)
        sums = (policy.forward(batch).logprobs * batch.mask).sum(1).tolist()
        found += [list(pair) for pair in zip(sums[::2], sums[1::2], strict=True)]
    return found


class Losses(Experiment):
    name = "preference"
    question = """How do the preference losses differ on the same pairs? `nano`, pretrained on the largest of four numbers,
    answers each question twice; the better answer is the one that a planted truth says is better: 1 for right, .5 for
    tags. Every loss has its published constants and the same 60 steps of 16 pairs at 3e-4; nothing is tuned for any."""
    expected = (
        "Every loss but `sft` wins more than half against the model it began as, by that truth, on questions it has not "
        "seen; `sft`, which never sees a worse answer, wins less than `dpo`. The log-probability of better answers falls "
        "under `dpo` (-) and rises where the likelihood is part of the loss: `sft`, `orpo`, `cpo`, `slic`, `llama3` (+)."
    )

    @property
    def variants(self) -> Sequence[str]:
        return tuple(preference.table())

    def run(self, variant: str, seed: int, folder: Path, *, smoke: bool = False) -> Numbers:
        loss = preference.get(variant)
        task, prompts, heldout = nano.task(), PROMPTS, HELDOUT
        cfg = CONFIG
        if smoke:
            prompts, heldout, cfg = 40, 10, FitConfig(steps=2, batch=4, engine=ENGINE)
        with Run.open(
            folder / "run", recipe="evidence", scale="tiny", config=cfg, seed=seed, view=View(quiet=True)
        ) as run:
            base = nano.base(run).model
            test = task.with_split("test")
            # What the base says is the same for all losses of a seed: sampled once, by names that hold the seed.
            drawn = run.stage(sampled, f"pairs-{seed}", base, task, count=prompts, size=2, cache=True)
            unseen = run.stage(sampled, f"unseen-{seed}", base, test, count=heldout, size=2, cache=True)
            before = run.stage(sampled, f"before-{seed}", base, test, count=heldout, size=1, cache=True)["rows"]
            train, unseen = pairs(drawn["rows"]), pairs(unseen["rows"])
            model = run.stage(fit, "train", base, train, cfg=cfg, loss=loss)
            after = run.stage(sampled, "after", model, test, count=heldout, size=1)["rows"]
            change = [
                [now - was for now, was in zip(late, early, strict=True)]
                for late, early in zip(whole(Path(model), unseen), whole(Path(base), unseen), strict=True)
            ]
        wins = [1.0 if b[2] > a[2] else 0.5 if b[2] == a[2] else 0.0 for a, b in zip(before, after, strict=True)]
        return {
            "pairs": len(train),
            "win": sum(wins) / len(wins),
            "worth_before": _mean(before, 2), "worth": _mean(after, 2),
            "length_before": _mean(before, 3), "length": _mean(after, 3),
            "chosen": sum(c for c, _ in change) / len(change), "rejected": sum(r for _, r in change) / len(change),
        }  # fmt: skip

    def report(self, results: Results) -> str:
        header = ("loss", "win rate", "chosen, nats", "rejected, nats", "length", "needs", "GB", "seeds")
        order = sorted(results, key=lambda variant: -tables.mean(results.values(variant, "win")))
        rows = [
            [
                f"`{variant}`",
                tables.interval(results.values(variant, "win")),
                tables.interval(results.values(variant, "chosen"), 1, sign=True),
                tables.interval(results.values(variant, "rejected"), 1, sign=True),
                tables.interval(
                    [c.numbers["length"] - c.numbers["length_before"] for c in results[variant]], 1, sign=True
                ),
                _needs(variant),
                f"{max(cell.memory_gb for cell in results[variant]):.2f}",
                str(len(results[variant])),
            ]
            for variant in order
        ]
        count = round(tables.mean([c.numbers["pairs"] for v in results for c in results[v]]))
        return "\n\n".join(
            [
                tables.table(header, rows),
                tables.paragraph(
                    f"Win rate: one completion of each of {HELDOUT} unseen questions against one of the model before "
                    "training, by the planted truth, ties half. Chosen and rejected: the change of the log-probability of the "
                    "better and the worse answer of unseen pairs, in nats an answer. Length: the change in tokens. About "
                    f"{count} pairs to train on. Means over seeds with 95% t-intervals. Needs: r the log-probs of a reference "
                    "(asked once, then on disk), l labels of single answers, m answers to other prompts, s scores, b "
                    "statistics of the batch (one more forward pass). GB: peak of the process."
                ),
                *_checks(results),
            ]
        )


def _mean(rows: Sequence[Sequence[Any]], column: int) -> float:
    return sum(float(row[column]) for row in rows) / len(rows)


def _needs(variant: str) -> str:
    needs = preference.get(variant).needs
    scored = variant in ("rpo", "rpo_forward", "rpo_squared", "odpo")
    marks = {
        "r": needs.reference, "l": variant in ("kto", "bco"), "m": needs.mismatched, "s": scored, "b": needs.statistics,
    }  # fmt: skip
    return "".join(mark for mark, there in marks.items() if there)


def _checks(results: Results) -> list[str]:
    """The expectations, one line each."""
    lines = []
    for variant in results:
        wins = [w - 0.5 for w in results.values(variant, "win")]
        if variant != "sft" and tables.verdict(wins, 1) != "as expected":
            lines.append(
                [f"`{variant}` wins more than half", tables.interval(wins, sign=True), tables.verdict(wins, 1)]
            )
    if {"sft", "dpo"} <= set(results):
        gap = results.pairs("sft", "dpo", "win")
        lines.append(["`sft` wins less than `dpo`", tables.interval(gap, sign=True), tables.verdict(gap, -1)])
    for variant, sign in {"dpo": -1, "sft": 1, "orpo": 1, "cpo": 1, "slic": 1, "llama3": 1}.items():
        if variant in results:
            change = results.values(variant, "chosen")
            said = f"chosen log-probs {'rise' if sign > 0 else 'fall'} under `{variant}`"
            lines.append([said, tables.interval(change, 1, sign=True), tables.verdict(change, sign)])
    note = (
        "What was expected, and what is seen (95% t-intervals over seeds; losses that win more than half are left out):"
    )
    return [note, tables.table(("expected", "seen", ""), lines)]


EXPERIMENT = Losses()
