"""Fixed data to batches: a conversation is a unit of one row, a comparison a unit of one row an answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from burnish.data.batching import padded
from burnish.data.chat import Chat
from burnish.errors import InputError
from burnish.types import Answer, Batch, Comparison, Example, Step


class TopTokens(NamedTuple):
    """What a teacher held likeliest at each token of a completion: ``ids`` and their ``logprobs``, both [tokens, k]."""

    ids: Tensor
    logprobs: Tensor


@dataclass(frozen=True)
class Row:
    """One prompt with one completion, in tokens.

    ``mask`` is True on the tokens that the policy has to emit, ``content`` on those of them that are not formatting (the
    end-of-turn token is). ``ratings`` are of the steps that end at these completion tokens. ``teacher`` is what was stored of
    one.
    """

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    mask: tuple[bool, ...]
    content: tuple[bool, ...] = ()
    rank: int = -1
    targets: Mapping[str, float] = field(default_factory=dict)
    ratings: Mapping[int, float] = field(default_factory=dict)
    mismatched: bool = False
    teacher: TopTokens | None = None

    def __len__(self) -> int:
        return len(self.prompt) + len(self.tokens)


Unit = tuple[Row, ...]
"""Rows that a loss has to see together. No mini-batch and no micro-batch separates them."""


def supervised(tokens: Sequence[int], mask: Sequence[bool]) -> Unit:
    """The unit of a text whose masked tokens are trained: what ``Chat.encode_dialogue`` returns.

    Tokens before the first masked one become the prompt. A text that starts with a masked token keeps its first token as
    the prompt: nothing precedes it that could predict it.
    """
    start = max(1, list(mask).index(True))
    return (Row(tuple(tokens[:start]), tuple(tokens[start:]), tuple(mask[start:])),)


def windows(chat: Chat, text: str, length: int) -> list[Unit]:
    """The units of a plain text: every token but the first is trained, and so is the end of text, which is added.

    Windows of at most ``length`` tokens overlap by one, the last token of one being what the next begins with: no token is
    predicted twice, and none is left out where two windows meet. Raises InputError for windows that predict nothing.
    """
    if length < 2:
        raise InputError(f"windows of {length} tokens predict nothing: make them 2 tokens long at least")
    tokens, end = [int(token) for token in chat.tokenizer(text)["input_ids"]], chat.tokenizer.eos_token_id
    if end is not None and tokens[-1:] != [end]:
        tokens.append(end)
    cut = [tokens[start : start + length] for start in range(0, len(tokens) - 1, length - 1)]
    return [supervised(part, [True] * len(part)) for part in cut]


def encode(chat: Chat, item: Example | Comparison, *, last_only: bool = False) -> Unit:
    """The unit of a conversation or of a comparison. Raises InputError as ``Chat.encode_dialogue`` does.

    Every assistant message of a conversation is trained, or only the last one.
    """
    if isinstance(item, Example):
        tokens, mask = chat.encode_dialogue(item.messages)
        return supervised(tokens, _last_run(mask) if last_only else mask)
    if not item.answers:
        raise InputError("a comparison without an answer: give it one at least")
    prompt = chat.encode_prompt(item.prompt)
    ranks = _dense([answer.rank for answer in item.answers])
    return tuple(_answer(chat, item, prompt, answer, rank) for answer, rank in zip(item.answers, ranks, strict=True))


def _answer(chat: Chat, item: Comparison, prompt: tuple[int, ...], answer: Answer, rank: int) -> Row:
    whole, mask = chat.encode_dialogue((*item.prompt, *answer.messages))
    if whole[: len(prompt)] != prompt:
        raise InputError("the chat template encodes the prompt in another way once an answer follows")
    tokens, mask = whole[len(prompt) :], mask[len(prompt) :]
    end = max(place for place, chosen in enumerate(mask) if chosen) + 1
    tokens, mask = tokens[:end], mask[:end]
    content = tuple(chosen and token not in chat.eos_ids for token, chosen in zip(tokens, mask, strict=True))
    targets = {**answer.scores, **({} if answer.label is None else {"label": float(answer.label)})}
    return Row(prompt, tokens, mask, content, rank, targets, step_ends(chat, tokens, answer.steps))


def _last_run(mask: Sequence[bool]) -> list[bool]:
    """The mask of the last stretch of chosen tokens: two assistant messages never touch."""
    end = max(place for place, chosen in enumerate(mask) if chosen) + 1
    start = max((place for place, chosen in enumerate(mask[:end]) if not chosen), default=-1) + 1
    return [start <= place < end for place in range(len(mask))]


def _dense(ranks: Sequence[int | None]) -> list[int]:
    """0, 1, 2, ... from the best on, ties alike; -1 where there is none."""
    distinct = sorted({rank for rank in ranks if rank is not None})
    return [-1 if rank is None else distinct.index(rank) for rank in ranks]


def step_ends(chat: Chat, tokens: Sequence[int], steps: Sequence[Step]) -> dict[int, float]:
    """The rating of each rated step by its last token: the one with which the text so far contains the whole step.

    Raises InputError where two steps end with the same token.
    """
    ends: dict[int, float] = {}
    text, place = "", 0
    for step in steps:
        text += step.text
        while place < len(tokens) and len(chat.decode(tokens[: place + 1]).rstrip()) < len(text.rstrip()):
            place += 1
        if step.rating is not None:
            if min(place, len(tokens) - 1) in ends:
                raise InputError(f"the step {step.text!r} has no token of its own: join it to the one before")
            ends[min(place, len(tokens) - 1)] = step.rating
    return ends


def mismatch(units: Sequence[Unit]) -> list[Unit]:
    """For every unit one more: its own prompt with the first answer of the next unit that has another prompt.

    What a policy says about answers that do not belong estimates its KL from the reference (KTO, arXiv:2402.01306). Raises
    InputError where all prompts are the same.
    """
    if len({unit[0].prompt for unit in units}) < 2:
        raise InputError("this loss estimates a KL on answers to other prompts, but all prompts are the same: add data")
    out: list[Unit] = []
    for place, unit in enumerate(units):
        others = (units[(place + step) % len(units)] for step in range(1, len(units)))
        other = next(each for each in others if each[0].prompt != unit[0].prompt)[0]
        out.append((Row(unit[0].prompt, other.tokens, other.mask, other.content, mismatched=True),))
    return out


def collate(units: Sequence[Unit], ref_logprobs: Sequence[Sequence[Tensor]] | None = None) -> Batch:
    """The batch of these units, rows in order. ``ref_logprobs``: for every unit, for every row, [tokens].

    ``groups`` are the distinct prompts. ``extras`` has ``content`` [B, T], ``ratings`` [B, T] (the class of a step at its
    last token: 0 wrong, 1 neutral, 2 good; -1 elsewhere), ``mismatched`` [B], where any row has them; and where all have a
    teacher, ``ids`` [B, T, k], -1 past the end of a row, and ``teacher_logprobs`` [B, T, k].
    """
    rows = [row for unit in units for row in unit]
    tokens = padded([row.tokens for row in rows], torch.long)
    prompts: dict[tuple[int, ...], int] = {}
    groups = [prompts.setdefault(row.prompt, len(prompts)) for row in rows]
    mismatched = torch.tensor([row.mismatched for row in rows])
    extras: dict[str, tuple[str, Tensor]] = {}
    if any(row.content for row in rows):
        extras["content"] = ("token", padded([row.content or row.mask for row in rows], torch.bool))
    if any(row.ratings for row in rows):
        extras["ratings"] = ("token", _ratings(rows, tokens.shape[1]))
    if teachers := [row.teacher for row in rows if row.teacher is not None]:
        ids = pad_sequence([teacher.ids for teacher in teachers], batch_first=True, padding_value=-1)
        logprobs = pad_sequence([teacher.logprobs for teacher in teachers], batch_first=True)
        extras |= {"ids": ("token", ids.long()), "teacher_logprobs": ("token", logprobs)}
    if bool(mismatched.any()):
        extras["mismatched"] = ("row", mismatched)
    names = sorted({name for row in rows for name in row.targets})
    reference = None
    if ref_logprobs is not None:
        reference = pad_sequence([row for unit in ref_logprobs for row in unit], batch_first=True)
    return Batch(
        prompts=tuple(torch.tensor(row.prompt) for row in rows),
        tokens=tokens,
        mask=padded([row.mask for row in rows], torch.bool),
        lengths=torch.tensor([len(row.tokens) for row in rows]),
        groups=torch.tensor(groups),
        episodes=torch.arange(len(rows)),
        units=torch.tensor([place for place, unit in enumerate(units) for _ in unit]),
        train=~mismatched,
        ranks=torch.tensor([row.rank for row in rows]),
        ref_logprobs=reference,
        targets={
            name: torch.tensor([row.targets.get(name, math.nan) for row in rows], dtype=torch.float64) for name in names
        },
        extras=extras,
    )


def _ratings(rows: Sequence[Row], longest: int) -> Tensor:
    out = torch.full((len(rows), longest), -1.0, dtype=torch.float64)
    for line, row in zip(out, rows, strict=True):
        for place, rating in row.ratings.items():
            line[place] = rating + 1
    return out
