"""DPO, or any other loss on pairs and rankings of answers, by name (arXiv:2305.18290).

    burnish run dpo model=smollm2-135m data=pairs.jsonl
    burnish run dpo model=smollm2-135m data=pairs.jsonl loss=orpo loss.coef=0.05
    burnish run dpo model=smollm2-135m data=pairs.jsonl loss=llama3 loss.score.beta=0.05 loss.nll=0.1
    burnish run dpo model=MINE data=pairs.jsonl reference=smollm2-135m fit.refresh_reference=100

``data`` is a JSONL, JSON or Parquet file with ``chosen`` and ``rejected`` (and ``prompt``), or with ``prompt`` and ranked
``answers``, of which all pairs are compared. ``loss`` is any loss of docs/preference.md; its parts are settings. A loss that
compares with a reference takes the model ``reference``, by default the one the policy begins as; its log-probs are computed
once and kept on disk. ``fit.refresh_reference`` moves it after the policy every so many steps (TR-DPO, arXiv:2404.09656).

``heldout`` is a file of the same form, or the number of rows to keep apart; by default that is a tenth, at most 200 rows. No
held-out prompt is trained on. Before and after, the held-out comparisons say how often the better answer is preferred by the
implicit reward, by what margin, what became of the log-probs of chosen and rejected answers, and what length has to do with it.

``retention=true`` measures general questions and tasks before and after, to see what was forgotten (docs/evaluation.md).

- ``tiny`` trains all of ``nano`` for a few steps: it shows that a file works, not that a model learns.
- ``laptop`` adapts SmolLM2-135M-Instruct with LoRA, in one pass over the data.
- ``paper`` trains all weights with the published settings: beta .1, batches of 64, learning rate 1e-6 after 150 steps of linear
  warm-up, RMSprop, gradient norm at most 10 (the authors' code), one epoch. What differs: an open model of 7B in place of
  Pythia 2.8B, no dropout.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from burnish.core.links import OfPairs
from burnish.core.preference import DPO, Preference
from burnish.data.chat import Chat
from burnish.data.comparisons import Comparisons
from burnish.data.datasets import prompt_of
from burnish.data.feedback import doubts
from burnish.data.overlap import prompt_key
from burnish.data.units import collate, encode
from burnish.engines.local import Engine
from burnish.engines.lora import LoRA
from burnish.engines.optim import RMSprop, Schedule
from burnish.engines.pretrained import resolve
from burnish.errors import InputError
from burnish.loops import implicit, report
from burnish.loops.evaluation.retention import Retention, Watch
from burnish.loops.fit import FitConfig, fit
from burnish.recipes.generic import context_length, kind_for
from burnish.run import Artifact, Run
from burnish.tasks.userdata import Part, parts
from burnish.types import Comparison


@dataclass(frozen=True)
class Dpo:
    """``data`` is a file; ``reference`` a model (empty: ``model``); ``heldout`` a file, a number of rows, or None for a tenth
    (at most 200)."""

    model: str
    fit: FitConfig
    data: str = ""
    loss: Preference = DPO
    reference: str = ""
    heldout: int | str | None = None
    retention: Retention | bool | None = None


def main(run: Run, s: Dpo) -> Artifact:
    return train(run, s, "dpo")


def train(run: Run, s: Dpo, recipe: str) -> Artifact:
    """The program of every recipe on judged answers: check, measure, train, measure again."""
    if not s.data:
        raise InputError(
            f"{recipe} has no data to train on: add data=FILE (JSONL, JSON or Parquet with judged answers)."
        )
    kind_for(recipe, s.data)
    base = resolve(s.model)
    reference = reference_of(s, base)
    training, heldout = parts(Part, s.data, s.heldout, Comparisons)
    for part in (training, heldout):
        if part is not None:
            check(part, base, s)
    watch = Watch.begin(run, base, s.retention, s.fit.engine)
    if heldout is not None:
        against = (reference or base) if s.loss.needs.reference else None
        before = run.stage(implicit.measure, "0-before", base, heldout, loss=s.loss, cfg=s.fit, reference=against)
    tuned: Artifact = run.stage(
        fit, f"1-{recipe}", base, training, cfg=s.fit, loss=s.loss, reference=reference,
        heldout=heldout if s.fit.eval_every else None,
    )  # fmt: skip
    if heldout is not None:
        after = run.stage(implicit.measure, "2-after", tuned, heldout, loss=s.loss, cfg=s.fit, reference=against)
        implicit.learned(run, before, after, stage=f"1-{recipe}")
    watch.after(f"1-{recipe}", tuned)
    report.say_next(run, tuned, prompt_of(training[0])[-1]["content"])
    return tuned


def reference_of(s: Dpo, base: Path) -> Path | None:
    """The model to compare with, None where it is the one the policy begins as. Raises InputError where there is no use for
    it, and where it reads other tokens."""
    if s.loss.needs.heads:
        raise InputError("this loss trains a head, which makes a reward model: take the recipe reward-model")
    if not s.loss.needs.reference:
        unused = f"reference={s.reference}" if s.reference else "fit.refresh_reference" * bool(s.fit.refresh_reference)
        if unused:
            raise InputError(f"{unused}: this loss compares with no reference; leave it out, or choose loss=dpo")
        return None
    if not s.reference:
        return None
    reference = resolve(s.reference)
    if Chat.load(reference).tokenizer.get_vocab() != Chat.load(base).tokenizer.get_vocab():
        raise InputError(
            f"reference={s.reference} has another tokenizer than {s.model}: they have to read the same tokens"
        )
    return reference


def check(data: Part[Comparison], model: Path, s: Dpo) -> None:
    """Raise InputError, with the rows of the file, for comparisons that this loss or this model cannot be trained on."""
    chat, limit = Chat.load(model), s.fit.limit(context_length(model))

    def verify(item: Comparison) -> None:
        unit = encode(chat, item)
        longest = max(map(len, unit))
        if longest > limit and not s.fit.drop_long:
            raise InputError(
                f"the prompt with its longest answer has {longest} tokens, more than {limit}: shorten it, or leave such rows "
                "out with fit.drop_long=true"
            )
        if isinstance(s.loss.link, OfPairs):  # the others need more than one row to say whether they can be used
            s.loss.link.weigh(collate([unit]))

    data.check(verify)
    items = [data[place] for place in range(len(data))]
    alike = [row for row, item in zip(data.rows, items, strict=True) if "identical answers" in dict(doubts(item))]
    if alike:
        raise InputError(
            f"{data.data.path}: the better and the worse answer are the same text in {len(alike)} of {len(data)} rows "
            f"(row {', '.join(map(str, alike[:5]))}{', ...' * (len(alike) > 5)}): remove them, they teach nothing"
        )
    if s.loss.needs.mismatched and len({prompt_key(item) for item in items}) < 2:
        raise InputError(
            f"{data.data.path}: all {len(data)} rows have one prompt, and this loss compares with answers to other prompts: "
            "add rows with other prompts, or choose loss=bco"
        )


SCALES = {
    "tiny": Dpo(
        model="nano",
        fit=FitConfig(steps=20, batch=8, schedule=Schedule(5e-4, warmup=3), engine=Engine(dtype="float32")),
    ),
    "laptop": Dpo(
        model="smollm2-135m",
        fit=FitConfig(
            schedule=Schedule(1e-4, warmup=10, shape="cosine", final=0.1),
            engine=Engine(adapter=LoRA(rank=16, alpha=32)),
        ),
    ),
    "paper": Dpo(
        model="Qwen/Qwen2.5-7B",
        fit=FitConfig(
            batch=64,
            schedule=Schedule(1e-6, warmup=150),
            engine=Engine(
                dtype="bfloat16", token_budget=32_768, activation_checkpointing=True, optimizer=RMSprop(clip=10.0)
            ),
            checkpoint_every=500,
        ),
    ),
}
"""A pair is two rows: a step of 64 is 128 answers."""
