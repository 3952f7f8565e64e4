"""A teacher for distillation: another local model that reads the student's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from burnish.core.logprobs import divergence, top_logprobs
from burnish.data.batching import micro_batches
from burnish.engines.attention import Packed
from burnish.errors import InputError
from burnish.types import Batch

if TYPE_CHECKING:
    from burnish.engines.local import LocalModel


def check_teacher(student: LocalModel, teacher: LocalModel) -> None:
    """Raises InputError unless a token means the same to both and the teacher knows every one of the student's.

    The teacher's head may have more rows: sizes are padded to round numbers, and nobody's tokens are the ones beyond.
    """
    names = student.directory, teacher.directory
    if student.chat.tokenizer.get_vocab() != teacher.chat.tokenizer.get_vocab():
        raise InputError(
            f"{names[0]} and {names[1]} have different vocabularies, so their distributions cannot be compared: choose a "
            "teacher of the same family, or train on its text with sft"
        )
    sizes = len(student.head_weight), len(teacher.head_weight)
    if sizes[1] < sizes[0]:
        raise InputError(
            f"the head of the teacher {names[1]} has {sizes[1]} rows, that of the student {sizes[0]}: train on its text "
            "with sft"
        )
    if student.device != teacher.device:
        raise InputError(
            f"the teacher is on {teacher.device}, the student on {student.device}: load both on one device"
        )


def compare(
    student: LocalModel, teacher: LocalModel | None, states: Tensor, packed: Packed, beta: float, temperature: float,
    suppressed: Sequence[int] = (),
) -> Tensor:  # fmt: skip
    """[N] the divergence at each of the student's hidden ``states`` [N, D]; the teacher reads the same tokens.

    Both distributions are without the ``suppressed`` ids.

    Raises InputError without a teacher, and for rows that are longer than its context.
    """
    if teacher is None:
        raise InputError("this loss compares the policy with a teacher, and there is none: call learn_from(teacher)")
    if packed.longest > teacher.context:
        raise InputError(f"a row of {packed.longest} tokens is longer than the teacher's context of {teacher.context}")
    with torch.no_grad():
        hidden = teacher.hidden(packed.tokens[None], packed.positions[None], packed)[0]
        known = hidden.index_select(0, packed.predictors.to(teacher.device))
        head = teacher.head_weight[: len(student.head_weight)]
    return divergence(states, student.head_weight, known, head, beta, temperature, suppressed)


@torch.no_grad()
def top_k(teacher: LocalModel, batch: Batch, k: int) -> tuple[Tensor, Tensor]:
    """([B, T, k] the ids the teacher finds most likely at each token, [B, T, k] their log-probs), on the CPU.

    They are over the tokenizer's whole vocabulary and at the temperature of the batch. Past the end of a row ids are -1 and
    log-probs 0: as ``extras["ids"]`` and ``extras["teacher_logprobs"]``, both "token", they are what ``TopK`` learns from.
    Raises InputError where there are no k tokens.
    """
    head = teacher.head_weight[: max(teacher.chat.tokenizer.get_vocab().values()) + 1]  # without rows that pad it
    if not 1 <= k <= len(head):
        raise InputError(f"k is a number of tokens from 1 to the vocabulary's {len(head)}, not {k}")
    ids = torch.full((*batch.tokens.shape, k), -1)
    logprobs = torch.zeros(ids.shape, dtype=torch.promote_types(head.dtype, torch.float32))
    longest = batch.tokens.shape[1]
    for rows in micro_batches(batch, teacher.engine.token_budget):
        packed = Packed.rows_of(batch.select(rows))
        hidden = teacher.hidden(packed.tokens[None], packed.positions[None], packed)[0]
        states = hidden.index_select(0, packed.predictors.to(teacher.device))
        found, values = top_logprobs(states, head, k, batch.temperature)
        ids[rows] = packed.unflat(found.cpu() + 1, longest) - 1
        logprobs[rows] = packed.unflat(values.cpu(), longest)
    return ids, logprobs
