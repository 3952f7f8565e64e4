"""KTO: single answers with a thumb up or down (arXiv:2402.01306).

    burnish run kto model=smollm2-135m data=thumbs.jsonl
    burnish run kto model=smollm2-135m data=thumbs.jsonl loss.link.undesirable=1.5
    burnish run kto model=smollm2-135m data=thumbs.jsonl loss=bco

``data`` is a JSONL, JSON or Parquet file with ``prompt``, ``completion`` and ``label`` (true or false), or with pairs, whose
chosen answers count as good and rejected ones as bad. The loss is ``kto`` or another one of labelled answers (``bco``,
``aot_unpaired``); all else is as in the recipe ``dpo``. Before and after, the held-out answers say how often a good one has
the higher implicit reward than a bad one.

KTO estimates how far the policy has moved on answers to other prompts, so the file needs two prompts at least. Where good and
bad answers are not about as many, weigh them: the run says so, with the number.

- ``tiny`` trains all of ``nano`` for a few steps: it shows that a file works, not that a model learns.
- ``laptop`` adapts SmolLM2-135M-Instruct with LoRA, in one pass over the data.
- ``paper`` trains all weights with the settings of the authors' code: beta .1, batches of 32, learning rate 5e-6 after 150
  steps of linear warm-up, AdamW, gradient norm at most 10, one epoch. What differs: an open model of 7B, no dropout.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from burnish.core.links import OfPairs
from burnish.core.pointwise import Prospect
from burnish.core.preference import KTO, Preference
from burnish.data.comparisons import Comparisons
from burnish.engines.local import Engine
from burnish.engines.optim import AdamW, Schedule
from burnish.errors import InputError
from burnish.loops.fit import FitConfig
from burnish.recipes import dpo
from burnish.recipes.generic import kind_for
from burnish.run import Artifact, Run
from burnish.types import Comparison

BALANCED = (0.75, 4 / 3)
"""The paper keeps the weights of good and bad answers between 1:1 and 4:3; either side may be the heavier one here."""


@dataclass(frozen=True)
class Kto(dpo.Dpo):
    """The settings of ``dpo``, with another loss."""

    loss: Preference = KTO


def main(run: Run, s: Kto) -> Artifact:
    if isinstance(s.loss.link, OfPairs):
        raise InputError(
            "this loss compares answers to one prompt: take the recipe dpo, or choose loss=kto or loss=bco"
        )
    if s.data and isinstance(s.loss.link, Prospect):
        kind_for("kto", s.data)
        run.view.say(balance(Comparisons(s.data), s.loss.link))
    return dpo.train(run, s, "kto")


def balance(data: Comparisons, link: Prospect) -> str:
    """How many answers are good and bad, and what to set where one side outweighs the other."""
    good = sum(counts(item)[0] for item in data)
    bad = sum(counts(item)[1] for item in data)
    if not good or not bad:
        raise InputError(
            f"{data.path}: all {good + bad} answers are {'good' if good else 'bad'}: add some of the other kind, or take the "
            "recipe sft for good ones alone"
        )
    found = f"{good} good answers and {bad} bad ones"
    ratio = link.desirable * good / (link.undesirable * bad)
    if BALANCED[0] <= ratio <= BALANCED[1]:
        return found
    side, factor = (
        ("desirable", link.undesirable * bad / good) if ratio < 1 else ("undesirable", link.desirable * good / bad)
    )
    heavier = "good" if ratio > 1 else "bad"
    return (
        f"{found}: together the {heavier} ones weigh {max(ratio, 1 / ratio):.1f} times as much. "
        f"For an even weight set loss.link.{side}={factor:.2g}"
    )


def counts(item: Comparison) -> tuple[int, int]:
    """Good and bad answers: by their label, or the best rank against the others."""
    ranks = [answer.rank for answer in item.answers if answer.rank is not None]
    best = min(ranks, default=0)
    labels = [
        answer.label if answer.label is not None else float(answer.rank == best)
        for answer in item.answers
        if answer.label is not None or answer.rank is not None
    ]
    return sum(label > 0.5 for label in labels), sum(label < 0.5 for label in labels)


SCALES = {
    "tiny": Kto(
        model="nano",
        fit=FitConfig(steps=20, batch=8, schedule=Schedule(5e-4, warmup=3), engine=Engine(dtype="float32")),
    ),
    "laptop": Kto(model="smollm2-135m", fit=dpo.SCALES["laptop"].fit),
    "paper": Kto(
        model="Qwen/Qwen2.5-7B",
        fit=replace(
            dpo.SCALES["paper"].fit,
            batch=32,
            schedule=Schedule(5e-6, warmup=150),
            engine=replace(dpo.SCALES["paper"].fit.engine, optimizer=AdamW(betas=(0.9, 0.999), clip=10.0)),
        ),
    ),
}
