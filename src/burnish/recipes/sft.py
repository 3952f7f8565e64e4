"""Supervised fine-tuning on your own conversations (step 1 of InstructGPT, arXiv:2203.02155).

    burnish run sft model=smollm2-135m data=chat.jsonl
    burnish run sft model=smollm2-135m data=chat.jsonl fit.last_only=true fit.engine.neftune=5
    burnish run sft model=smollm2-135m data=text.jsonl fit.max_length=512

``data`` is a JSONL, JSON or Parquet file with ``messages`` (or ``conversations``), or with ``prompt`` and
``completion``. Every assistant message is trained, with the end-of-turn token that closes it; ``fit.last_only=true`` trains
the last one only. ``heldout`` is a file of the same form, or the number of rows to keep apart; by default that is a tenth, at
most 200 rows. No held-out prompt is trained on. The held-out negative log-likelihood is measured before and after.

A file with a column ``text`` is pretraining text: no template, every token trained, each text with the end of text behind it
and cut into windows of ``fit.max_length`` tokens (by default the model's context).

``retention=true`` measures general questions and tasks before and after, to see what was forgotten (docs/evaluation.md).

``fit.engine.neftune=5`` adds noise to the embeddings while training (NEFTune, arXiv:2310.05914). Rows are packed into
micro-batches of at most ``fit.engine.token_budget`` tokens, in which none attends to another: packing changes no gradient.

- ``tiny`` trains all of ``nano`` for a few steps: it shows that a file works, not that a model learns.
- ``laptop`` adapts SmolLM2-135M-Instruct with LoRA, in one pass over the data.
- ``paper`` trains all weights with the published settings: 16 epochs in batches of 32, learning rate 9.65e-6 with a
  cosine down to a tenth. What differs: no dropout, and an open model of 7B in place of GPT-3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from burnish.core.intervals import ratio
from burnish.core.losses import NLL
from burnish.data import units
from burnish.data.chat import Chat
from burnish.data.datasets import Dataset, Texts, prompt_of
from burnish.engines.local import Engine, LocalModel
from burnish.engines.lora import LoRA
from burnish.engines.optim import Schedule
from burnish.engines.pretrained import resolve
from burnish.errors import InputError
from burnish.loops import report
from burnish.loops.evaluation.retention import Retention, Watch
from burnish.loops.fit import FitConfig, encode_heldout, fit
from burnish.recipes.generic import context_length, kind_for
from burnish.run import Artifact, Run
from burnish.stage import Stage
from burnish.tasks.userdata import Part, parts
from burnish.types import Example


@dataclass(frozen=True)
class Sft:
    """``data`` is a file; ``heldout`` a file, a number of rows, or None for a tenth (at most 200)."""

    model: str
    fit: FitConfig
    data: str = ""
    heldout: int | str | None = None
    retention: Retention | bool | None = None


def main(run: Run, s: Sft) -> Artifact:
    if not s.data:
        raise InputError("sft has no data to train on: add data=FILE (JSONL, JSON or Parquet with conversations).")
    plain = kind_for("sft", s.data) == "language-modelling"
    base = resolve(s.model)
    train, heldout = parts(Part, s.data, s.heldout, Texts if plain else Dataset)
    check(train, base, s.fit)
    watch = Watch.begin(run, base, s.retention, s.fit.engine)
    before = run.stage(nll, "0-before", base, heldout, cfg=s.fit) if heldout else None
    tuned: Artifact = run.stage(
        fit, "1-sft", base, train, cfg=s.fit, heldout=heldout if heldout and s.fit.eval_every else None
    )
    if before and heldout:
        learned(run, before, run.stage(nll, "2-after", tuned, heldout, cfg=s.fit))
    watch.after("1-sft", tuned)
    report.say_next(run, tuned, prompt_of(train[0])[-1]["content"])
    return tuned


def check(data: Part[Any], model: Path, cfg: FitConfig) -> None:
    """Raise InputError, with the row of the file, for a conversation that this model cannot be trained on."""
    chat, limit = Chat.load(model), cfg.limit(context_length(model))

    def verify(example: Example | str) -> None:
        if isinstance(example, str):
            units.windows(chat, example, limit)
            return
        length = len(chat.encode_dialogue(example.messages)[0])
        if length > limit and not cfg.drop_long:
            raise InputError(
                f"the conversation has {length} tokens, more than {limit}: shorten it, or leave such rows out with "
                "fit.drop_long=true"
            )

    data.check(verify)


def nll(stage: Stage, model: Path, data: Part[Any], *, cfg: FitConfig) -> dict[str, list[float]]:
    """A stage: the negative log-likelihood of every held-out row (of a text: window) in nats, and its trained tokens."""
    policy = LocalModel(Path(model), replace(stage.decide("engine", cfg.engine.resolved), adapter=None))
    rows = encode_heldout(policy, data, cfg)
    stage.view.say(f"{stage.name}: negative log-likelihood of {len(rows)} held-out rows")
    sums: list[float] = []
    for start in range(0, len(rows), cfg.batch):
        batch = NLL().prepare(units.collate(rows[start : start + cfg.batch]))
        sums += (-policy.forward(batch).logprobs.double() * batch.mask).sum(1).tolist()
    return {"nll": sums, "tokens": [float(sum(unit[0].mask)) for unit in rows]}


def learned(run: Run, before: dict[str, Any], after: dict[str, Any]) -> None:
    """Print and record the held-out loss per token before and after, and the 95% interval of the change."""
    tokens = sum(before["tokens"])
    was, now = sum(before["nll"]) / tokens, sum(after["nll"]) / tokens
    low, high = change_interval(before["nll"], after["nll"], before["tokens"])
    run.view.say(
        f"\nheld out, {len(before['nll'])} rows, {tokens:.0f} tokens: negative log-likelihood per token "
        f"{was:.3f} before, {now:.3f} after, change {now - was:+.3f} [{low:+.3f}, {high:+.3f}]"
    )
    change = {"difference": now - was, "low": low, "high": high}
    run.summary({"1-sft": {"nll": {"before": was, "after": now, "n": len(before["nll"]), "paired": change}}})


def change_interval(before: list[float], after: list[float], tokens: list[float]) -> tuple[float, float]:
    """The 95% interval of the change per token. Rows, not tokens, are independent: a ratio estimator over rows."""
    _, low, high = ratio([b - a for a, b in zip(before, after, strict=True)], tokens)
    return low, high


SCALES = {
    "tiny": Sft(
        model="nano",
        fit=FitConfig(steps=20, batch=8, schedule=Schedule(2e-3, warmup=3), engine=Engine(dtype="float32")),
    ),
    "laptop": Sft(
        model="smollm2-135m",
        fit=FitConfig(
            schedule=Schedule(5e-4, warmup=10, shape="cosine", final=0.1),
            engine=Engine(adapter=LoRA(rank=16, alpha=32)),
        ),
    ),
    "paper": Sft(
        model="Qwen/Qwen2.5-7B",
        fit=FitConfig(
            epochs=16,
            batch=32,
            schedule=Schedule(9.65e-6, shape="cosine", final=0.1),
            engine=Engine(dtype="bfloat16", token_budget=32_768, activation_checkpointing=True),
            checkpoint_every=500,
        ),
    ),
}
