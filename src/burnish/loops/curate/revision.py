"""Replies that their author criticises and writes again: the supervised half of Constitutional AI (arXiv:2212.08073).

A model replies, says by a principle what is wrong with the reply, and revises it; then again, by another principle. What is
trained on is the last revision, and the pair of draft and revision is a preference that nobody had to label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from burnish import config
from burnish.core import keys
from burnish.data.datasets import Dataset, prompt_of
from burnish.errors import InputError
from burnish.loops.curate.base import store
from burnish.loops.curate.items import write_rows
from burnish.loops.curate.writer import Author, Conversation, Writer, filled, says
from burnish.rewards.material import spoken
from burnish.rewards.principles import PRINCIPLES
from burnish.stage import Stage

CRITIQUE = (
    "Of two replies to me a judge takes one by this principle:\n\n{principle}\n\nSay in a few sentences where your last reply "
    "falls short of it. Do not write another reply yet."
)
REVISION = (
    "Now write your reply again so that nothing of this criticism holds any more. Write the reply and nothing else."
)


@dataclass(frozen=True)
class Revising:
    """``rounds`` of critique and revision, the paper's four. ``critique`` has ``{principle}`` in it.

    ``temperature`` and ``max_tokens`` are those of every text, a text that reaches the latter is not used.
    """

    rounds: int = 4
    temperature: float = 1.0
    max_tokens: int = 512
    principles: tuple[str, ...] = PRINCIPLES
    critique: str = CRITIQUE
    revision: str = REVISION

    def __post_init__(self) -> None:
        if self.rounds < 1 or not self.principles:
            raise InputError(f"rounds={self.rounds} and {len(self.principles)} principles: give at least one of each")

    def principle(self, prompt: Conversation, number: int, seed: int = 0) -> str:
        """The principle of this round for this prompt."""
        return self.principles[keys.derive("revision", seed, spoken(prompt), number) % len(self.principles)]


CONSTITUTIONAL = Revising()


class Round(NamedTuple):
    """``reply`` is what stands after the round: the revision, or the reply before it where there is none."""

    principle: str
    critique: str
    reply: str


class Revised(NamedTuple):
    """A prompt, the first reply to it, and what became of that."""

    prompt: Conversation
    draft: str
    rounds: tuple[Round, ...] = ()

    @property
    def reply(self) -> str:
        """The last revision."""
        return self.rounds[-1].reply if self.rounds else self.draft


def revisions(
    writer: Writer, prompts: Sequence[Conversation], cfg: Revising, drafter: Writer | None = None, *, seed: int = 0
) -> list[Revised]:
    """Every prompt with its draft, by ``drafter`` or the writer itself, and its revisions.

    A prompt without a draft is left out. A round without a critique or a revision, or whose revision is the critique again,
    changes nothing. All randomness follows from ``seed``.
    """
    drafts = (drafter or writer).write(prompts, seed, "draft")
    found = [Revised(tuple(prompt), draft) for prompt, draft in zip(prompts, drafts, strict=True) if draft]
    for number in range(cfg.rounds):
        found = _round(writer, found, cfg, number, seed)
    return found


def _round(writer: Writer, items: Sequence[Revised], cfg: Revising, number: int, seed: int) -> list[Revised]:
    """One more round for every item: all critiques in one call, then all revisions."""
    principles = [cfg.principle(item.prompt, number, seed) for item in items]
    asked: list[Conversation] = [
        (*item.prompt, says("assistant", item.reply), says("user", filled(cfg.critique, principle=principle)))
        for item, principle in zip(items, principles, strict=True)
    ]
    critiques = writer.write(asked, seed, "critique", number)
    again = [
        (*before, says("assistant", critique), says("user", cfg.revision)) if critique else None
        for before, critique in zip(asked, critiques, strict=True)
    ]
    replies = writer.write(again, seed, "revision", number)
    return [
        item._replace(
            rounds=(*item.rounds, Round(principle, critique, item.reply if reply in ("", critique) else reply))
        )
        for item, principle, critique, reply in zip(items, principles, critiques, replies, strict=True)
    ]


def revise(
    stage: Stage, model: Author, data: Path, *, drafter: Author | None = None, cfg: Revising = CONSTITUTIONAL
) -> Path:
    """A stage: the prompts of a file with replies that were criticised and revised, to fine-tune on.

    Each row has its ``draft`` and, in ``rounds``, every principle, critique and revision. Beside it ``pairs.jsonl`` has the
    last revision as chosen and the draft as rejected, where they differ. Replies at the end of a dialogue in the file are
    left out. ``drafter`` is another model that writes the drafts. Raises InputError where no draft was written.
    """
    writer = Writer.of(model, cfg.temperature, cfg.max_tokens)
    other = Writer.of(drafter, cfg.temperature, cfg.max_tokens) if drafter else None
    prompts = [prompt_of(item) for item in Dataset(data)]
    found = revisions(writer, prompts, cfg, other, seed=stage.seed)
    if not found:
        raise InputError(f"none of {len(prompts)} drafts was finished: raise max_tokens")
    changed = [item for item in found if item.reply != item.draft]
    pairs = [{"prompt": list(item.prompt), "chosen": item.reply, "rejected": item.draft} for item in changed]
    write_rows(stage.directory / "pairs.jsonl", pairs)
    counts = {
        "prompts": len(prompts),
        "drafts": len(found),
        "revised": len(changed),
        "principles used": len({each.principle for item in found for each in item.rounds}),
        "kept": len(found),
    }
    source = {"data": str(data), "model": model, "drafter": drafter, "settings": config.plain(cfg)}
    return store(stage, map(_row, found), counts=counts, source=source)


def _row(item: Revised) -> dict[str, Any]:
    rounds = [each._asdict() for each in item.rounds]
    return {"prompt": list(item.prompt), "completion": item.reply, "draft": item.draft, "rounds": rounds}
