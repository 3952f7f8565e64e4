"""Distillation: a student learns from a larger teacher, on its own text or on the teacher's (GKD, arXiv:2306.13649).

    burnish run distill model=STUDENT teacher=TEACHER data=prompts.jsonl
    burnish run distill model=STUDENT teacher=TEACHER task=countdown algo.distil.beta=0.5
    burnish run distill model=STUDENT teacher=TEACHER data=prompts.jsonl mode=offline top_k=50

- ``mode=on-policy``: the student writes, and the teacher says at every token what it would have said (Gemma 2,
  arXiv:2408.00118). ``algo.distil.beta`` is 1 for KL(student || teacher), 0 for KL(teacher || student), and between them a
  Jensen-Shannon divergence. Both need one vocabulary, and both are in memory.
- ``mode=offline``: the teacher writes ``texts.samples`` texts to each prompt, once, and the student is trained on them. Any
  two models will do, as in the distilled models of DeepSeek-R1 (arXiv:2501.12948). With ``top_k`` the teacher's likeliest ids
  at each token are stored beside the texts and are what is learnt; that needs one vocabulary again.

``data`` is a file of prompts (whatever replies it has are not used), ``task`` a named task in its place. Before and after it is
measured on held-out prompts how far the student is from the teacher on its own text, how likely the teacher's texts are to it,
and, for a task and for prompts that all have a column ``answer``, how often student and teacher are right.

- ``tiny`` trains all of ``nano`` for a few steps; give it a teacher that was trained from ``nano``.
- ``laptop`` adapts SmolLM2-135M-Instruct with LoRA; its teacher of 360M parameters is fetched from the hub.
- ``paper`` trains all weights of a model of 1.5B on what one of 7B says. GKD distils T5, Gemma 2 gives no numbers: sizes, rates
  and steps are choices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

from burnish.core.distil import TOP_K
from burnish.core.intervals import paired
from burnish.core.losses import NLL
from burnish.core.online import GKD, OnPolicyDistillation
from burnish.data.chat import Chat
from burnish.data.datasets import Dataset
from burnish.data.stored import Stored
from burnish.engines.local import Engine
from burnish.engines.lora import LoRA
from burnish.engines.optim import Schedule
from burnish.engines.pretrained import resolve
from burnish.errors import InputError
from burnish.loops import report
from burnish.loops.evaluate import EvalConfig, Measured, evaluate
from burnish.loops.fit import FitConfig, fit
from burnish.loops.fixed import Data
from burnish.loops.rl import RLConfig, rl
from burnish.loops.teach import Lesson, apart, change, per_token, share_tokens, store, write
from burnish.recipes.generic import context_length, kind_for
from burnish.recipes.grpo import tasks
from burnish.rewards.base import Composable
from burnish.run import Artifact, Run
from burnish.tasks.checks import Generated
from burnish.tasks.userdata import UserTask
from burnish.types import Completion, Example, Reward, Sampling, outcome


@dataclass(frozen=True)
class Distill:
    """``rl`` is for ``mode=on-policy``, ``fit`` and ``texts`` for ``mode=offline``; ``eval_n`` held-out prompts measure."""

    model: str
    rl: RLConfig
    fit: FitConfig
    teacher: str = ""
    data: str = ""
    task: Generated | None = None
    mode: Literal["on-policy", "offline"] = "on-policy"
    algo: OnPolicyDistillation = GKD
    top_k: int = 0
    texts: Lesson = field(default_factory=Lesson)
    heldout: int | str | None = None
    eval_n: int = 100

    def __post_init__(self) -> None:
        if self.top_k < 0 or self.eval_n < 1:
            raise ValueError(
                f"top_k={self.top_k}, eval_n={self.eval_n}: give top_k of 0 or more and eval_n of 1 or more"
            )


@dataclass(frozen=True)
class Unjudged(Composable):
    """0 for every completion: what is learnt is the teacher's distribution, and nothing else is known."""

    def __call__(self, example: Example, completions: Sequence[Completion], /) -> list[Reward]:  # noqa: ARG002
        return [outcome(0.0, "none") for _ in completions]


@dataclass(frozen=True)
class Measures:
    """What is measured before and after: distances on ``prompts`` and ``texts``, and how often answers are right."""

    prompts: Measured
    texts: Dataset
    cfg: Lesson
    graded: bool
    teacher: Path

    def take(self, run: Run, name: str, model: Path | Artifact) -> dict[str, Any]:
        found: dict[str, Any] = run.stage(apart, name, model, self.teacher, self.prompts, self.texts, cfg=self.cfg)
        return found | ({"right": self.right(run, f"{name}-accuracy", model)} if self.graded and found else {})

    def right(self, run: Run, name: str, model: Path | Artifact) -> dict[str, Any]:
        cfg = EvalConfig(n=self.cfg.n, sampling=self.cfg.sampling, engine=self.cfg.engine)
        found: dict[str, Any] = run.stage(evaluate, name, model, self.prompts, cfg=cfg)
        return found


def main(run: Run, s: Distill) -> Artifact:
    student, teacher = refuse(s)
    if s.data:
        kind_for("distill", s.data)
    train, during, heldout = tasks(s, None)
    for part in (train, heldout):
        if isinstance(part, UserTask):
            check(part, student, teacher)
    measures = measured(run, s, teacher, heldout) if heldout else None
    before = measures.take(run, "1-before", student) if measures else {}
    if s.mode == "on-policy":
        tuned = on_policy(run, s, student, teacher, train, during)
    else:
        tuned = offline(run, s, student, teacher, train)
    if measures and before:
        after = measures.take(run, "4-after", tuned)
        best = measures.right(run, "4-teacher-accuracy", teacher) if measures.graded else {}
        learned(run, before, after, best)
    report.say_next(run, tuned, train[0].messages[-1]["content"])
    return tuned


def on_policy(run: Run, s: Distill, student: Path, teacher: Path, train: Measured, during: Measured | None) -> Artifact:
    """The student writes, the teacher comments."""
    known = graded(train)
    shown = during if during and graded(during) else None
    cfg = replace(s.rl, eval_items=min(s.rl.eval_items, len(shown))) if shown else s.rl
    tuned: Artifact = run.stage(
        rl, "3-distill", student, train, algo=s.algo, cfg=cfg, reward=None if known else Unjudged(), heldout=shown,
        teacher=teacher,
    )  # fmt: skip
    return tuned


def offline(run: Run, s: Distill, student: Path, teacher: Path, train: Measured) -> Artifact:
    """The teacher writes, once; the student learns its words, or what it held likely at each."""
    texts = Dataset(run.stage(write, "2-texts", teacher, train, cfg=s.texts))
    if not s.top_k:
        return fitted(run, s, student, texts, NLL())
    limit = s.fit.max_length
    kept = run.stage(store, "2-top-k", teacher, student, texts, k=s.top_k, engine=s.texts.engine, limit=limit)
    return fitted(run, s, student, Stored(kept), TOP_K)


def fitted(run: Run, s: Distill, student: Path, data: Data, loss: Any) -> Artifact:
    cfg = replace(s.fit, drop_long=True)  # what the student cannot hold was counted when it was written
    tuned: Artifact = run.stage(fit, "3-distill", student, data, cfg=cfg, loss=loss)
    return tuned


def measured(run: Run, s: Distill, teacher: Path, heldout: Measured) -> Measures:
    """What to measure, with the teacher's texts to the held-out prompts: a stage."""
    sampling, engine = (s.rl.sampling, s.rl.engine) if s.mode == "on-policy" else (s.texts.sampling, s.texts.engine)
    cfg = Lesson(n=min(s.eval_n, len(heldout)), sampling=sampling, engine=engine)
    texts = run.stage(write, "0-heldout-texts", teacher, heldout, cfg=cfg)
    return Measures(heldout, Dataset(texts), cfg, graded(heldout), teacher)


# --- where prompts come from, and what is refused -------------------------------------------------


def graded(task: Measured) -> bool:
    """Whether replies can be graded: a task's can, a file's where every row has an answer."""
    return not isinstance(task, UserTask) or all(task[i].answer not in (None, "") for i in range(len(task)))


def refuse(s: Distill) -> tuple[Path, Path]:
    """(student, teacher). Raises InputError, before anything is sampled, where the two cannot work together."""
    if not s.teacher:
        raise InputError("distill has no teacher to learn from: add teacher=MODEL, a directory or a name.")
    if not s.algo.needs_teacher:
        raise InputError("this algorithm has no teacher: choose algo=gkd, or take the recipe online-dpo")
    if s.top_k and s.mode == "on-policy":
        raise InputError(f"top_k={s.top_k} is for stored texts: add mode=offline, or leave it out")
    student, teacher = resolve(s.model), resolve(s.teacher)
    needs_one = s.mode == "on-policy" or s.top_k > 0
    if needs_one and not share_tokens(student, teacher):
        raise InputError(
            f"{s.model} and {s.teacher} have different vocabularies, so their distributions cannot be compared: choose a "
            "teacher of the same family, or train on its texts alone with mode=offline"
        )
    return student, teacher


def check(data: UserTask, student: Path, teacher: Path) -> None:
    """Raise InputError, with the row of the file, for a prompt that one of the two cannot read."""
    chats = [(Chat.load(model), context_length(model), model) for model in (student, teacher)]

    def verify(example: Example) -> None:
        for chat, context, model in chats:
            length = len(chat.encode_prompt(example.messages))
            if length >= context:
                raise InputError(
                    f"the prompt has {length} tokens, but the context of {model} holds {context}: shorten it, or choose "
                    "models with a longer context"
                )

    data.check(verify)


# --- what is said --------------------------------------------------------------------------------


def learned(run: Run, before: dict[str, Any], after: dict[str, Any], teacher: dict[str, Any]) -> None:
    """Print and record the distances per token and the accuracies before and after, and three of the student's texts."""
    found: dict[str, Any] = {name: _moved(name, before, after) for name in SAID if name in before}
    if "right" in before:
        found |= _accuracy(before["right"], after["right"], teacher)
    run.summary({"3-distill": found})
    table = Table(box=None, padding=(0, 2), title="\nheld out", title_justify="left")
    for column in ("", "before", "after", "change on the same prompts", "the teacher's"):
        table.add_column(column)
    for name, value in found.items():
        best = shown(value["teacher"]) if "teacher" in value else ""
        table.add_row(
            SAID.get(name, name), shown(value["before"]), shown(value["after"]), shown(value["paired"], "+"), best
        )
    run.view.say(table)
    for (prompt, old), (_, new) in zip(before.get("shown", ()), after.get("shown", ()), strict=True):
        run.view.say(Text(f"\n{prompt}", style="bold"))
        run.view.say(Text(f"  before  {old!r}\n  after   {new!r}"))


SAID = {
    "kl": "KL per token, own text",
    "nll": "NLL per token, teacher's text",
}


def _moved(name: str, before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    old, new = ((side[name], side[f"{name}_tokens"]) for side in (before, after))
    return {"before": per_token(*old), "after": per_token(*new), "paired": change(old, new)}


def _accuracy(before: dict[str, Any], after: dict[str, Any], teacher: dict[str, Any]) -> dict[str, Any]:
    name = next(iter(before["items"][0]["scores"][0]))
    old, new = ([item["scores"][0][name] for item in side["items"]] for side in (before, after))
    moved = paired(old, new)
    was, now, best = (side["summary"][name] for side in (before, after, teacher))
    return {name: {"before": was, "after": now, "paired": {**moved, "mean": moved["difference"]}, "teacher": best}}


def shown(value: dict[str, float], sign: str = "") -> str:
    return f"{value['mean']:{sign}.3f} [{value['low']:{sign}.3f}, {value['high']:{sign}.3f}]"


_LAPTOP = Engine(adapter=LoRA(rank=16, alpha=32, layers=12))
_WHOLE = Engine(dtype="bfloat16", token_budget=65_536, activation_checkpointing=True)

SCALES = {
    "tiny": Distill(
        model="nano",
        rl=RLConfig(
            steps=10, prompts=8, group=1, sampling=Sampling(max_tokens=32), schedule=Schedule(1e-3, warmup=3),
            engine=Engine(dtype="float32"),
        ),
        fit=FitConfig(steps=20, batch=8, schedule=Schedule(2e-3, warmup=3), engine=Engine(dtype="float32")),
        texts=Lesson(n=64, sampling=Sampling(max_tokens=32), engine=Engine(dtype="float32")),
        eval_n=20,
    ),
    "laptop": Distill(
        model="smollm2-135m",
        teacher="HuggingFaceTB/SmolLM2-360M-Instruct",
        rl=RLConfig(
            steps=50, prompts=32, group=1, sampling=Sampling(max_tokens=128), schedule=Schedule(3e-4, warmup=2),
            engine=_LAPTOP,
        ),
        fit=FitConfig(schedule=Schedule(5e-4, warmup=10, shape="cosine", final=0.1), engine=_LAPTOP),
        texts=Lesson(n=1000, sampling=Sampling(max_tokens=128)),
    ),
    "paper": Distill(
        model="Qwen/Qwen2.5-1.5B-Instruct",
        teacher="Qwen/Qwen2.5-7B-Instruct",
        rl=RLConfig(
            steps=1000, prompts=256, group=1, sampling=Sampling(max_tokens=1024), schedule=Schedule(1e-6, warmup=10),
            engine=_WHOLE,
        ),
        fit=FitConfig(
            epochs=2, batch=128, schedule=Schedule(1e-5, warmup=100, shape="cosine", final=0.1), engine=_WHOLE,
            checkpoint_every=500,
        ),
        texts=Lesson(sampling=Sampling(max_tokens=1024), engine=_WHOLE),
    ),
}  # fmt: skip
