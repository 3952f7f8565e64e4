"""Data that models write: prompts from topics, dialogues in which a model plays the user, pairs of better and worse replies.

Nemotron-4 340B (arXiv:2406.11704) was aligned with more than 98% of such data: a prompt is written for a topic and a form, two
models speak in turns, a reward model keeps what is good, and replies of several models are ranked into pairs. From weak to
strong: the model that came of it writes the next data. The templates here are our own words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from burnish import config
from burnish.data.datasets import Dataset, prompt_of
from burnish.errors import InputError
from burnish.loops.curate.base import store
from burnish.loops.curate.duplicates import repeats
from burnish.loops.curate.writer import Author, Writer, filled, says
from burnish.rewards.accuracy import Accuracy
from burnish.rewards.base import RewardFunction, total
from burnish.rewards.material import spoken
from burnish.stage import Stage
from burnish.types import Completion, Example

QUESTION = (
    "Write one question about {topic} that somebody who wants to know the answer could ask. It has to be clear by itself. "
    "Write the question and nothing else."
)
INSTRUCTION = (
    "Write one task about {topic} that somebody could give to an assistant who answers in text: something to write, to change, "
    "to compare or to plan, with all that is needed to do it. Write the task and nothing else."
)
FOLLOW_UP = (
    "Here is a conversation between a user and an assistant.\n\n{conversation}\n\nPut yourself in the place of the user and "
    "write what the user says next: a further question, a doubt, or a wish to change something. Write it and nothing else."
)


@dataclass(frozen=True)
class Synthesis:
    """``per_topic`` prompts for each topic, by the ``forms`` in turn; dialogues of ``turns`` replies of the assistant.

    A form has ``{topic}`` in it, ``follow_up`` has ``{conversation}``. A dialogue whose last reply has a reward below
    ``least`` is left out. ``temperature`` and ``max_tokens`` are those of every text; one that reaches the latter is not used.
    """

    per_topic: int = 4
    turns: int = 3
    forms: tuple[str, ...] = (QUESTION, INSTRUCTION)
    follow_up: str = FOLLOW_UP
    least: float = 0.0
    temperature: float = 1.0
    max_tokens: int = 512

    def __post_init__(self) -> None:
        if min(self.per_topic, self.turns, len(self.forms)) < 1:
            raise InputError(f"{self}: per_topic and turns are at least 1, and there is at least one form")


@dataclass(frozen=True)
class Contest:
    """``samples`` replies of each model; a pair is the best and the worst, if they are more than ``margin`` apart."""

    samples: int = 4
    margin: float = 0.0
    temperature: float = 1.0
    max_tokens: int = 512

    def __post_init__(self) -> None:
        if self.samples < 1 or self.margin < 0:
            raise InputError(f"samples={self.samples}, margin={self.margin}: give samples >= 1 and margin >= 0")


DIALOGUES, PAIRS = Synthesis(), Contest()


def write_prompts(writer: Writer, topics: Sequence[str], cfg: Synthesis, *, seed: int = 0) -> list[Example]:
    """Prompts with their topic in ``meta``; those that are empty or repeat another one are left out.

    Raises InputError without a topic.
    """
    if not topics:
        raise InputError("there is nothing to write about: give topics, such as topics='[tides, fractions]'")
    wanted = [(topic, cfg.forms[place % len(cfg.forms)]) for topic in topics for place in range(cfg.per_topic)]
    written = writer.write([(says("user", filled(form, topic=topic)),) for topic, form in wanted], seed, "prompts")
    again = repeats([" ".join(text.casefold().split()) for text in written])
    return [
        Example((says("user", text),), meta={"topic": topic})
        for text, repeat, (topic, _) in zip(written, again, wanted, strict=True)
        if text and repeat is None
    ]


def converse(
    user: Writer, assistant: Writer, prompts: Sequence[Example], cfg: Synthesis, *, seed: int = 0
) -> list[Example]:
    """The prompts continued to dialogues that end with the assistant.

    One in which somebody had nothing to say, or said what had just been said, is left out.
    """
    going = list(prompts)
    for turn in range(cfg.turns):
        if turn:
            asked = [(says("user", filled(cfg.follow_up, conversation=spoken(e.messages))),) for e in going]
            going = _continued(going, "user", user.write(asked, seed, "user", turn))
        replies = assistant.write([dialogue.messages for dialogue in going], seed, "assistant", turn)
        going = _continued(going, "assistant", replies)
    return going


def _continued(dialogues: Sequence[Example], role: str, texts: Sequence[str]) -> list[Example]:
    return [
        replace(dialogue, messages=(*dialogue.messages, says(role, text)))
        for dialogue, text in zip(dialogues, texts, strict=True)
        if text not in ("", dialogue.messages[-1]["content"])
    ]


def scores(reward: RewardFunction, prompt: Example, replies: Sequence[str]) -> list[float]:
    """What a reward that reads texts gives to replies to one prompt. They were written elsewhere and have no tokens here."""
    completions = [Completion((), reply, (says("assistant", reply),), "eos") for reply in replies]
    return [total(each) for each in reward(prompt, completions)]


def synthesise(
    stage: Stage, model: Author, *, topics: tuple[str, ...], user: Author | None = None,
    reward: RewardFunction | None = None, human: Path | None = None, cfg: Synthesis = DIALOGUES,
) -> Path:  # fmt: skip
    """A stage: dialogues about the topics with ``model``, after those in the file ``human``, if there is one.

    ``user``, by default the same model, writes the prompts and plays the user. With a ``reward`` each dialogue has the
    ``score`` of its last reply, and those below ``cfg.least`` are left out. Column ``synthetic`` tells where a row is from, and
    the provenance what share of the rows is synthetic. Raises InputError where nothing is left.
    """
    assistant, asker = (Writer.of(author, cfg.temperature, cfg.max_tokens) for author in (model, user or model))
    prompts = write_prompts(asker, topics, cfg, seed=stage.seed)
    dialogues = converse(asker, assistant, prompts, cfg, seed=stage.seed)
    rows = [_row(dialogue, reward) for dialogue in dialogues]
    good = [row for row in rows if row.get("score", cfg.least) >= cfg.least]
    written = [{"messages": list(e.messages), "synthetic": False} for e in (Dataset(human) if human else ())]
    if not rows:
        raise InputError(
            "no dialogue came about, because all that was written was cut off, empty or the same again: raise max_tokens, or "
            "look at what the models write with 'burnish sample'"
        )
    if not good:
        raise InputError(
            f"of {len(prompts)} prompts came {len(rows)} dialogues and none with a score of {cfg.least}: lower least, or look "
            "at what the models write with 'burnish sample'"
        )
    share = len(good) / (len(good) + len(written))
    counts = {
        "topics": len(topics),
        "prompts": len(prompts),
        "dialogues": len(rows),
        "good enough": len(good),
        "by people": len(written),
        "kept": len(good) + len(written),
    }
    source = {
        "model": model,
        "user": user or model,
        "reward": reward,
        "human": str(human or ""),
        "settings": config.plain(cfg),
    }
    stage.view.say(f"{stage.name}: {share:.1%} of the rows are synthetic")
    return store(stage, [*written, *good], counts=counts, source={**source, "synthetic_share": share})


def _row(dialogue: Example, reward: RewardFunction | None) -> dict[str, Any]:
    row: dict[str, Any] = {**dialogue.meta, "messages": list(dialogue.messages), "synthetic": True}
    if reward is not None:
        *before, last = dialogue.messages
        (row["score"],) = scores(reward, replace(dialogue, messages=tuple(before)), [last["content"]])
    return row


def synthesise_pairs(
    stage: Stage, model: Author, data: Path, *, reward: RewardFunction | None = None, others: tuple[Author, ...] = (),
    cfg: Contest = PAIRS,
) -> Path:  # fmt: skip
    """A stage: the best and the worst of the replies that the models give to each prompt of a file, as preference pairs.

    The reward judges them: by the ground truth in column ``answer``, which is what judges by default, as a judge, or as a
    reward model. Raises InputError where no prompt gives a pair.
    """
    reward = reward or Accuracy()
    writers = [Writer.of(author, cfg.temperature, cfg.max_tokens) for author in (model, *others)]
    asked = [replace(item, messages=prompt_of(item)) for item in Dataset(data)]
    written = _replies(asked, writers, cfg.samples, stage.seed)
    pairs = [
        _pair(item, list(dict.fromkeys(filter(None, replies))), reward, cfg.margin)
        for item, replies in zip(asked, written, strict=True)
    ]
    rows = [row for row in pairs if row is not None]
    if not rows:
        raise InputError(
            f"{len(asked)} prompts gave no two replies with rewards more than {cfg.margin} apart: lower margin, or raise "
            "samples or temperature"
        )
    counts = {"prompts": len(asked), "replies each": cfg.samples * len(writers), "pairs": len(rows)}
    source = {"data": str(data), "model": model, "others": others, "reward": reward, "settings": config.plain(cfg)}
    return store(stage, rows, counts=counts, source={**source, "synthetic_share": 1.0})


def _replies(asked: Sequence[Example], writers: Sequence[Writer], samples: int, seed: int) -> list[list[str]]:
    """For each prompt the replies of all writers."""
    every = [item.messages for item in asked for _ in range(samples)]
    written = [writer.write(every, seed, "replies", number) for number, writer in enumerate(writers)]
    return [[text for each in written for text in each[i * samples : (i + 1) * samples]] for i in range(len(asked))]


def _pair(item: Example, replies: Sequence[str], reward: RewardFunction, margin: float) -> dict[str, Any] | None:
    if len(replies) < 2:
        return None
    ranked = sorted(zip(scores(reward, item, replies), replies, strict=True), key=lambda each: -each[0])
    (best, chosen), (worst, rejected) = ranked[0], ranked[-1]
    if best - worst <= margin:
        return None
    row = {"prompt": list(item.messages), "chosen": chosen, "rejected": rejected, "synthetic": True}
    return {**row, "score_chosen": best, "score_rejected": worst}
