"""NEFTune (arXiv:2310.05914): uniform noise on the input embeddings while a model is trained on fixed data.

    e + (alpha / sqrt(L d)) u,   u uniform in [-1, 1],   L the tokens of the row, prompt and completion, d the hidden size

L is the row's own length, as in the paper's training code; its patch for other trainers, and transformers, take that of the
padded batch. A row has noise of its own on its prompt too, so no two rows share the hidden states of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from burnish.core import keys
from burnish.errors import InputError
from burnish.types import Batch

SEEDS = "noise"
"""Key of ``Batch.extras``: [B] one seed a row. The noise of a row depends on it alone, and on no other row."""


def seeded(batch: Batch, key: int) -> Batch:
    """The batch with a seed for each row, from a ``key`` that is another one at every step."""
    seeds = torch.tensor([keys.derive(key, row) % 2**63 for row in range(len(batch))])
    return replace(batch, extras={**batch.extras, SEEDS: ("row", seeds)})


def noise(batch: Batch, order: Sequence[int], width: int, alpha: float, dtype: torch.dtype) -> Tensor:
    """[S, width] for the rows in this order, each with its prompt and its completion, end to end.

    Raises InputError where the batch has no seeds.
    """
    if SEEDS not in batch.extras:
        raise InputError(
            "engine.neftune is for training on fixed data, which seeds its noise; set engine.neftune=0 here"
        )
    seeds, lengths = batch.extra(SEEDS).tolist(), batch.lengths.tolist()
    parts = []
    for row in order:
        size = len(batch.prompts[row]) + lengths[row]
        drawn = torch.from_numpy(2 * keys.uniforms(seeds[row], size * width) - 1)
        parts.append((drawn.view(size, width) * alpha / (size * width) ** 0.5).to(dtype))
    return torch.cat(parts)


def embedding(network: nn.Module) -> nn.Module:
    """The layer whose output the noise is added to. Raises InputError for a model without one."""
    try:
        found: nn.Module = network.get_input_embeddings()  # type: ignore[operator]
    except NotImplementedError as error:
        raise InputError("this model has no input embeddings to add noise to: set engine.neftune=0") from error
    return found
