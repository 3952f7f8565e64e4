"""A reward model on your own comparisons (step 2 of InstructGPT, arXiv:2203.02155).

    burnish run reward-model model=SFT data=pairs.jsonl
    burnish run reward-model model=SFT data=nectar.jsonl loss=plackett_luce
    burnish run reward-model model=SFT data=human.jsonl ai_data=judged.jsonl demonstrations=chat.jsonl

``data`` is a file of pairs, rankings, labelled answers or answers with scores (``burnish data FILE`` says which); ``loss`` is
any outcome loss by name: bradley_terry, llama2, centred, chatglm, internlm2, plackett_luce, helpsteer2, outcome,
outcome_tokens. Comparisons in which the loss finds nothing to learn are left out and counted. Accuracy, calibration and the
correlation of scores with length are measured on held-out comparisons, which share no prompt with the others.

- ``balance=10`` leaves out pairs until length says nothing about preference, in ten buckets of length differences.
- ``ai_data`` adds comparisons that a model judged; their soft labels are moved into ``clamp`` (Constitutional AI). What is
  held out is of ``data`` alone.
- ``demonstrations`` is a file of conversations whose replies get the mean score 0: the zero that comparisons leave open.
- ``members=3`` trains as many models, which differ in the order of the data and in the seed of their adapters.
- ``weights`` are those of several attributes in one reward; without them all count alike.

The result is a model directory with the head ``score``: a reward (``reward_model=`` of other recipes) and what a critic begins
as (``critic_model=`` of ppo).

- ``tiny`` trains all of ``nano`` for a few steps: it shows that a file works, not that a model learns.
- ``laptop`` adapts SmolLM2-135M-Instruct with LoRA, in one pass over the data.
- ``paper`` trains all weights with the published settings: one pass, 64 prompts a step, learning rate 9e-6. What differs: an
  open model of 7B in place of one of 6B; the decay to a tenth and the warm-up are choices.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from burnish import files
from burnish.core.preference import Preference
from burnish.core.ranking import SCORE, Attributes, Penalised, PlackettLuce
from burnish.core.reward_models import BRADLEY_TERRY, JudgeLoss
from burnish.data.chat import Chat
from burnish.data.comparisons import Comparisons
from burnish.data.datasets import Dataset
from burnish.data.overlap import overlap
from burnish.data.transforms import balance_lengths, clamp_labels
from burnish.data.units import encode
from burnish.engines.local import HEADS, Engine
from burnish.engines.lora import LoRA
from burnish.engines.optim import Schedule
from burnish.engines.pretrained import resolve
from burnish.errors import InputError
from burnish.loops.calibrate import calibrate
from burnish.loops.fit import FitConfig, fit
from burnish.loops.reward_model import RewardModel
from burnish.recipes.generic import context_length, kind_for
from burnish.run import Artifact, Run
from burnish.stage import Stage
from burnish.tasks.userdata import Part, parts
from burnish.types import Comparison, Example


@dataclass(frozen=True)
class Judging:
    """See the recipe. ``balance`` is a number of buckets, 0 for none."""

    model: str
    fit: FitConfig
    data: str = ""
    loss: JudgeLoss = BRADLEY_TERRY
    heldout: int | str | None = None
    ai_data: str = ""
    clamp: tuple[float, float] = (0.4, 0.6)
    balance: int = 0
    demonstrations: str = ""
    members: int = 1
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.members < 1:
            raise ValueError(f"members={self.members}: an ensemble has one model at least")
        low, high = self.clamp
        if not 0 <= low <= 0.5 <= high <= 1:
            raise ValueError(f"labels cannot be clamped to [{low}, {high}]: give 0 <= low <= 0.5 <= high <= 1")


@dataclass(frozen=True)
class Judged:
    """The comparisons of ``data`` that ``loss`` can learn from, without those at the places ``skip``, and those of ``ai``.

    Soft labels of ``ai`` are clamped, and its comparisons on prompts of ``apart`` are left out. With ``balance`` buckets, as
    many pairs are left out as it takes for length to say nothing. What was left out is in ``counts``.
    """

    data: Part[Comparison]
    loss: JudgeLoss
    skip: tuple[int, ...] = ()
    ai: Comparisons | None = None
    clamp: tuple[float, float] = (0.4, 0.6)
    apart: Part[Comparison] | None = None
    balance: int = 0

    def __len__(self) -> int:
        return len(self._found[0])

    def __getitem__(self, index: int) -> Comparison:
        return self._found[0][index]

    @property
    def counts(self) -> dict[str, int]:
        """Comparisons: of ``data``, of ``ai``, without anything to learn, left out for balance, and in all."""
        return self._found[1]

    @cached_property
    def _found(self) -> tuple[list[Comparison], dict[str, int]]:
        own = [self.data[i] for i in range(len(self.data)) if i not in self.skip]
        others = list(self.ai or ())
        shared = set(overlap(self.apart, others)) if self.apart else set()
        clamped = [clamp_labels(item, *self.clamp) for i, item in enumerate(others) if i not in shared]
        useful = [item for item in (*own, *clamped) if teaches(self.loss, item)]
        kept = balance_lengths(useful, buckets=self.balance) if self.balance else useful
        return kept, {
            "data": len(own), "ai": len(clamped), "useless": len(own) + len(clamped) - len(useful),
            "unbalanced": len(useful) - len(kept), "all": len(kept),
        }  # fmt: skip


def main(run: Run, s: Judging) -> Artifact:
    train, heldout = judged(s)
    base = resolve(s.model)
    check(train.data, base, s.fit)
    names = s.loss.names if isinstance(s.loss, Attributes) else ()
    demonstrations = zero(s, base)
    if heldout:
        heldout = replace(heldout, skip=check(heldout.data, base, s.fit))
        require(heldout, s)
    announce(run, s, train, heldout)
    before = None
    if heldout and begun(base):
        before = run.stage(calibrate, "0-before", reward(s, base), heldout, attributes=names)
    during = heldout if s.fit.eval_every else None
    found: list[Artifact] = []
    for member in range(1, s.members + 1):
        end = f"-{member}" if s.members > 1 else ""
        tuned = run.stage(fit, f"1-reward-model{end}", base, train, cfg=s.fit, loss=s.loss, heldout=during)
        if demonstrations is not None:
            tuned = run.stage(centre, f"2-centred{end}", reward(s, tuned), demonstrations)
        found.append(tuned)
        if heldout:
            after = run.stage(calibrate, f"3-after{end}", reward(s, tuned), heldout, attributes=names)
            learned(run, before, after, stage=f"1-reward-model{end}")
    say_next(run, found)
    return found[0]


# --- what is refused, and what is left out -------------------------------------------------------


def judged(s: Judging) -> tuple[Judged, Judged | None]:
    """(what is trained on, what is held out). Raises InputError where there is nothing, or the loss does not fit."""
    if not s.data:
        raise InputError(
            "reward-model has no data to train on: add data=FILE (JSONL, JSON or Parquet of judged answers)."
        )
    if SCORE not in s.loss.needs.heads:
        raise InputError("this loss judges steps, not answers: choose loss=outcome, or run process-reward-model")
    outputs = s.loss.needs.heads[SCORE].out
    if s.weights and len(s.weights) != outputs:
        raise InputError(f"there are {len(s.weights)} weights and {outputs} attributes: give one number for each")
    kind_for("reward-model", s.data)
    part, apart = parts(Part[Comparison], s.data, s.heldout, read=Comparisons)
    ai = Comparisons(s.ai_data) if s.ai_data else None
    train = Judged(part, s.loss, ai=ai, clamp=s.clamp, apart=apart, balance=s.balance)
    require(train, s)
    return train, Judged(apart, s.loss) if apart else None


def require(items: Judged, s: Judging) -> None:
    """Raise InputError unless the loss can learn from some of them."""
    if len(items):
        return
    if items.counts["unbalanced"]:
        raise InputError(
            f"balance={s.balance} leaves nothing: in every bucket of {s.data} the better answers are all longer, or all "
            "shorter. Take fewer buckets, or data in which length does not decide"
        )
    first = items.data[0] if len(items.data) else Comparison((), ())
    fits = [fit for known, fit in WHAT_FITS.items() if known(first)]
    raise InputError(
        f"{s.data} has nothing that this loss learns from ({wants(s.loss)}): "
        + (fits[0] if fits else "choose another loss or another file; `burnish data FILE` says what is in it")
    )


def check(data: Part[Comparison], model: Path, cfg: FitConfig) -> tuple[int, ...]:
    """The places of comparisons that are too long for the model. Raises InputError for the first, unless they are dropped."""
    chat, limit, long = Chat.load(model), cfg.max_length or context_length(model), []

    def verify(item: Comparison) -> None:
        length = max(map(len, encode(chat, item)))
        if length > limit and not cfg.drop_long:
            raise InputError(
                f"an answer with its prompt has {length} tokens, more than {limit}: shorten it, or leave such "
                "comparisons out with fit.drop_long=true"
            )
        long.append(length > limit)

    data.check(verify)
    return tuple(place for place, is_long in enumerate(long) if is_long)


def teaches(loss: JudgeLoss, item: Comparison) -> bool:
    """Whether the loss finds anything to learn from in this comparison."""
    if isinstance(loss, Attributes):
        return any(name in answer.scores for answer in item.answers for name in loss.names)
    return has_pair(item) if compares(loss) else has_label(item)


def compares(loss: JudgeLoss) -> bool:
    """Whether the loss is about which answer is better, not about how good each is."""
    return isinstance(loss, Preference | Penalised | PlackettLuce)


def has_pair(item: Comparison) -> bool:
    return len({answer.rank for answer in item.answers if answer.rank is not None}) > 1


def has_label(item: Comparison) -> bool:
    return any(answer.label is not None or answer.rank is not None for answer in item.answers)


def has_scores(item: Comparison) -> bool:
    return any(answer.scores for answer in item.answers)


WHAT_FITS = {
    has_pair: "its answers are compared; choose loss=bradley_terry or loss=plackett_luce",
    has_label: "its answers are labelled one by one; choose loss=outcome",
    has_scores: "its answers have scores; choose loss=helpsteer2, or loss='{kind: Attributes, names: [score]}'",
}


def wants(loss: JudgeLoss) -> str:
    if isinstance(loss, Attributes):
        return f"scores of {', '.join(loss.names)}"
    return "answers ranked above one another" if compares(loss) else "answers with a label"


def zero(s: Judging, model: Path) -> Dataset | None:
    """The demonstrations, read and encoded once. Raises InputError where the loss has a zero of its own."""
    if not s.demonstrations:
        return None
    if not compares(s.loss):
        raise InputError(
            "demonstrations set the zero that comparisons leave open; this loss fits labels or scores, which have one: "
            "leave demonstrations out"
        )
    found, chat = Dataset(s.demonstrations), Chat.load(model)
    for row, example in enumerate(found, start=1):
        try:
            replied(example)
            chat.encode_dialogue(example.messages)
        except InputError as error:
            raise InputError(f"{s.demonstrations}, row {row}: {error}") from error
    return found


def replied(example: Example) -> None:
    if example.messages[-1]["role"] != "assistant":
        raise InputError("the conversation does not end with a reply of the assistant: add it")


# --- stages --------------------------------------------------------------------------------------


def reward(s: Judging, model: Path | Artifact) -> RewardModel:
    """The model as a reward."""
    outputs = s.loss.needs.heads[SCORE].out
    dtype = "float32" if s.fit.engine.dtype == "auto" else s.fit.engine.dtype  # "auto" would read a clock
    engine = replace(s.fit.engine, adapter=None, dtype=dtype, neftune=0.0)
    return RewardModel(model, weights=s.weights or (1 / outputs,) * outputs, engine=engine)


def begun(model: Path) -> bool:
    """Whether the model has the head of a reward model already."""
    return (model / HEADS).exists() and f"{SCORE}.weight" in load_file(model / HEADS)


@dataclass(frozen=True)
class Shifted:
    """A reward model with a constant taken from its scores."""

    model: Path
    offset: float

    def export(self, directory: Path) -> None:
        files.hardlink_or_copy_tree(self.model, directory, skip=(HEADS,))
        heads = load_file(self.model / HEADS)
        heads[f"{SCORE}.bias"] = heads[f"{SCORE}.bias"] - self.offset
        files.write_safetensors(directory / HEADS, heads)


def centre(stage: Stage, model: RewardModel, demonstrations: Dataset) -> Path:
    """A stage: the model whose scores of the demonstrations have the mean 0 (InstructGPT, arXiv:2203.02155)."""
    found = model.centred(list(demonstrations))
    stage.view.say(
        f"{len(demonstrations)} demonstrations scored {found.offset:+.3f} on average, which is 0 from now on"
    )
    return stage.export(Shifted(Path(model.model), found.offset))


# --- what is said --------------------------------------------------------------------------------


def announce(run: Run, s: Judging, train: Judged, heldout: Judged | None) -> None:
    counts = train.counts
    said = f"{counts['all']} comparisons to train on"
    if s.ai_data:
        said += f": {counts['data']} of {s.data} and {counts['ai']} of {s.ai_data}, with labels within {list(s.clamp)}"
    if counts["useless"]:
        said += f"; {counts['useless']} left out, in which this loss finds nothing to learn"
    if s.balance:
        said += f"; {counts['unbalanced']} left out to balance lengths"
    run.view.say(f"{said}; {len(heldout) if heldout else 0} held out")


def learned(run: Run, before: dict[str, Any] | None, after: dict[str, Any], *, stage: str) -> None:
    """Print and record the held-out numbers before and after, and say where length decides more than it should."""
    if not after:
        return
    run.summary({stage: {"heldout": {"before": before, "after": after}}})
    if "accuracy" in after:
        was = shown(before["accuracy"]) if before else "0.500 (a new head says the same of every answer)"
        run.view.say(f"held out, {after['prompts']} prompts: accuracy {was} before, {shown(after['accuracy'])} after")
        if after["accuracy"]["low"] <= 0.5:
            run.view.say(
                "That is no more than chance: train longer, raise fit.schedule.lr, or hold out more comparisons."
            )
    longer = after["length"]["longer"]
    if longer and longer["model"]["low"] > longer["labels"]["high"]:
        run.view.say("It prefers the longer answer more often than the labels do: balance the lengths with balance=10.")


def shown(value: dict[str, float]) -> str:
    return f"{value['mean']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def say_next(run: Run, models: list[Artifact]) -> None:
    """Where the models are, and what they are good for."""
    short = [os.path.relpath(model) for model in models]
    these = "; the reward model in " if len(short) == 1 else "; the reward models in "
    run.view.say(
        f"\nThe run is in {os.path.relpath(run.directory)}{these}{', '.join(short)}.\n"
        f"As a reward:        burnish run grpo model=MODEL data=prompts.jsonl reward_model={short[0]}\n"
        f"With a critic:      burnish run ppo model=MODEL data=prompts.jsonl reward_model={short[0]} critic_model={short[0]}"
    )


SCALES = {
    "tiny": Judging(
        model="nano",
        fit=FitConfig(steps=20, batch=8, schedule=Schedule(2e-3, warmup=3), engine=Engine(dtype="float32")),
    ),
    "laptop": Judging(
        model="smollm2-135m",
        fit=FitConfig(
            schedule=Schedule(3e-4, warmup=10, shape="cosine", final=0.1),
            engine=Engine(adapter=LoRA(rank=16, alpha=32)),
        ),
    ),
    "paper": Judging(
        model="Qwen/Qwen2.5-7B",
        fit=FitConfig(
            batch=64,
            schedule=Schedule(9e-6, warmup=10, shape="cosine", final=0.1),
            engine=Engine(dtype="bfloat16", token_budget=32_768, activation_checkpointing=True),
            checkpoint_every=500,
        ),
    ),
}
