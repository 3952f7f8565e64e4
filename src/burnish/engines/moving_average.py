"""The exponential moving average of a model's weights while it is trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from burnish import files
from burnish.engines.local import LocalModel
from burnish.errors import InputError


class MovingAverage:
    """``average <- decay average + (1 - decay) theta`` after every step (InstructGPT, arXiv:2203.02155, with .992).

    It begins as what the model is when it is made. theta are the float32 masters where there are any, adapters merged, heads
    included; the average is float32 or wider and lives beside the model. A loop calls :meth:`update` after ``optim_step``,
    has it in its checkpoints beside the model, and exports it in the model's place.
    """

    def __init__(self, model: LocalModel, decay: float = 0.992) -> None:
        if not 0 <= decay <= 1:
            raise InputError(f"decay={decay}: the share of the average that stays is between 0 and 1")
        self._model, self.decay = model, decay
        self.average = {
            name: weight.to(torch.promote_types(weight.dtype, torch.float32), copy=True)
            for name, weight in self._theta().items()
        }

    def _live(self) -> dict[str, Tensor]:
        """What forward passes read. Not copies."""
        heads = self._model.heads.items()
        return {
            **self._model.weights(),
            **{f"heads.{name}.{key}": p.detach() for name, head in heads for key, p in head.named_parameters()},
        }

    def _theta(self) -> dict[str, Tensor]:
        masters = self._model.masters.params
        return {name: masters[name].detach() if name in masters else live for name, live in self._live().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move to the weights by ``1 - decay`` of the way."""
        for name, weight in self._theta().items():
            self.average[name].lerp_(weight.to(self.average[name].dtype), 1 - self.decay)

    @contextmanager
    def applied(self) -> Iterator[LocalModel]:
        """Within: the model is the average, to be evaluated or exported. Afterwards it is what it was, bit for bit."""
        live = self._live()
        held = {name: weight.clone() for name, weight in live.items()}
        try:
            _copy(self.average, live)
            yield self._model
        finally:
            _copy(held, live)

    def checkpoint(self, directory: Path) -> None:
        tensors = {name: value.cpu() for name, value in self.average.items()}
        files.write_safetensors(directory / "average.safetensors", tensors)

    def restore(self, directory: Path) -> None:
        """Take over what :meth:`checkpoint` wrote. Raises InputError where it is of another model."""
        saved = load_file(directory / "average.safetensors")
        if {n: t.shape for n, t in saved.items()} != {n: t.shape for n, t in self.average.items()}:
            raise InputError(f"{directory} holds the average of another model; start the stage again without it")
        _copy(saved, self.average)

    def export(self, directory: Path) -> None:
        """The averaged model as a Hugging Face directory. An average of adapters is no adapter: none is written."""
        with self.applied() as model:
            model.export(directory)
        files.remove_tree(directory / "adapter")


@torch.no_grad()
def _copy(source: dict[str, Tensor], target: dict[str, Tensor]) -> None:
    for name, value in source.items():
        target[name].copy_(value)
