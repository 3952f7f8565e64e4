"""Fixed data as a loop sees it: encoded and checked once, then any batch of it, with what a loss wants beside the rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import load_file
from torch import Tensor

from burnish import files
from burnish.data import units
from burnish.data.chat import Chat
from burnish.data.units import Unit
from burnish.engines.local import LocalModel
from burnish.engines.reference import Reference
from burnish.errors import InputError
from burnish.types import Batch, Comparison, Example, Loss, Needs, needs_of


class Data(Protocol):
    """Anything with a length whose items are conversations that end with the assistant, comparisons of answers, texts, or
    units that were encoded before."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Example | Comparison | str | Unit: ...


def encode_all(
    chat: Chat, data: Data, limit: int, *, drop_long: bool, last_only: bool = False, window: int = 0
) -> list[Unit]:
    """The units of all items; a plain text is cut into windows of ``window`` tokens (0: of ``limit``).

    Raises InputError for no items at all and for items that are too long.
    """
    found: list[Unit] = []
    long = []
    for number in range(len(data)):
        item = data[number]
        if isinstance(item, str):
            found += units.windows(chat, item, window or limit)
            continue
        unit = item if isinstance(item, tuple) else units.encode(chat, item, last_only=last_only)
        longest = max(map(len, unit))
        if longest > limit:
            long.append((number + 1, longest))
        else:
            found.append(unit)
    if long and not drop_long:
        shown = ", ".join(f"row {number}: {length} tokens" for number, length in long[:3])
        raise InputError(
            f"{len(long)} of {len(data)} rows are longer than {limit} tokens ({shown}); shorten them, or leave them out "
            "with drop_long=true"
        )
    if not found:
        raise InputError("there is no row to train on; check the data file")
    return found


@dataclass(frozen=True)
class Fixed:
    """Units, the mismatched ones beside them if the loss wants those, and the reference's log-probs of all of them."""

    units: Sequence[Unit]
    mismatched: Sequence[Unit] = ()
    reference: Sequence[Sequence[Tensor]] | None = None

    @staticmethod
    def of(found: Sequence[Unit], needs: Needs) -> Fixed:
        return Fixed(found, units.mismatch(found) if needs.mismatched else ())

    def __len__(self) -> int:
        return len(self.units)

    def batch(self, order: Sequence[int]) -> Batch:
        """The batch of these items, the mismatched rows behind all others."""
        places = [*order, *(len(self.units) + i for i in order if self.mismatched)]
        every = [*self.units, *self.mismatched]
        reference = None if self.reference is None else [self.reference[i] for i in places]
        return units.collate([every[i] for i in places], reference)

    def compared_with(self, policy: LocalModel, reference: Path | None, size: int, say: Callable[[str], None]) -> Fixed:
        """With the log-probs of a reference that never changes: computed once, and kept on disk by what they depend on."""
        every = [*self.units, *self.mismatched]
        home = files.cache_dir() / "reference" / f"{_key(policy, reference, every)}.safetensors"
        if not home.exists():
            say(f"log-probs of {sum(map(len, every))} rows under the reference: once, then they are kept")
            model = Reference(policy, directory=reference)
            flat = [row for start in range(0, len(every), size) for row in _rows(model, every[start : start + size])]
            files.make_directory(home.parent)
            files.write_safetensors(home, {"logprobs": torch.cat(flat)})
        return replace(self, reference=_cut(load_file(home)["logprobs"], every))


def _rows(model: Reference, part: Sequence[Unit]) -> list[Tensor]:
    batch = units.collate(part)
    logprobs = model.forward(batch).logprobs
    return [row[:length] for row, length in zip(logprobs, batch.lengths.tolist(), strict=True)]


def _cut(flat: Tensor, every: Sequence[Unit]) -> list[list[Tensor]]:
    rows = iter(flat.split([len(row.tokens) for unit in every for row in unit]))
    return [[next(rows) for _ in unit] for unit in every]


def _key(policy: LocalModel, reference: Path | None, every: Sequence[Unit]) -> str:
    """All that the log-probs depend on, to the last bit."""
    engine, weights = policy.engine, Path(reference or policy.directory)
    digest = hashlib.sha256(files.tree_sha256(weights).encode())
    digest.update(f"{engine.dtype} {engine.device} {engine.token_budget} {torch.get_num_threads()}".encode())
    digest.update(json.dumps([[(row.prompt, row.tokens) for row in unit] for unit in every]).encode())
    return digest.hexdigest()[:32]


def prepared(policy: LocalModel, loss: Loss, batch: Batch) -> Batch:
    """The batch with the loss's weights and statistics in it, and without the rows that were only there for those."""
    needs, prepare = needs_of(loss), getattr(loss, "prepare", None)
    if prepare is not None:
        batch = prepare(batch, policy.forward(batch, needs)) if needs.statistics else prepare(batch)
    if "mismatched" in batch.extras:
        batch = batch.select(torch.nonzero(~batch.extra("mismatched")).squeeze(1))
    return batch
