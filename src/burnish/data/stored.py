"""What a teacher left of its distribution: at every token of a text the ids it held likeliest, in one file for a student."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from burnish.data.rows import DataFile
from burnish.data.units import Row, TopTokens, Unit
from burnish.errors import InputError


class Stored(DataFile[Unit]):
    """Texts in tokens with the teacher's likeliest ids at each, from the tensors of :func:`tensors`.

    The tokens are the student's own: nothing is encoded again. Raises InputError for a file that is no such one.
    """

    @staticmethod
    def read(path: Path) -> tuple[Unit, ...]:
        """The units of the file as it is now: one row each."""
        try:
            found = load_file(path)
            prompts = found["prompts"].split(found["prompt_lengths"].tolist())
            own = [found[name].split(found["lengths"].tolist()) for name in ("tokens", "mask", "ids", "logprobs")]
        except (SafetensorError, KeyError) as error:
            raise InputError(f"{path} holds no stored teacher ({error}): make it with the recipe distill") from error
        return tuple(
            (
                Row(
                    tuple(prompt.tolist()),
                    tuple(tokens.tolist()),
                    tuple(mask.tolist()),
                    teacher=TopTokens(ids, logprobs),
                ),
            )
            for prompt, tokens, mask, ids, logprobs in zip(prompts, *own, strict=True)
        )


def tensors(units: Sequence[Unit]) -> dict[str, Tensor]:
    """The tensors that say everything about these units of one row, whose rows have a teacher.

    ``prompts``, ``tokens`` and ``mask`` are those of all rows in a line, ``prompt_lengths`` and ``lengths`` where to cut it;
    ``ids`` and ``logprobs`` [tokens, k].
    """
    rows = [row for unit in units for row in unit]
    teachers = [row.teacher for row in rows if row.teacher is not None]
    return {
        "prompts": torch.tensor([token for row in rows for token in row.prompt], dtype=torch.int32),
        "prompt_lengths": torch.tensor([len(row.prompt) for row in rows], dtype=torch.int32),
        "tokens": torch.tensor([token for row in rows for token in row.tokens], dtype=torch.int32),
        "lengths": torch.tensor([len(row.tokens) for row in rows], dtype=torch.int32),
        "mask": torch.tensor([chosen for row in rows for chosen in row.mask]),
        "ids": torch.cat([teacher.ids for teacher in teachers]).to(torch.int32),
        "logprobs": torch.cat([teacher.logprobs for teacher in teachers]),
    }
