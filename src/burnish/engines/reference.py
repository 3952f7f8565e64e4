"""The reference policy: what the policy was, before training or at the last refresh."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from burnish import files
from burnish.engines.local import LocalModel
from burnish.types import Batch, Outputs


class Reference:
    """A frozen policy. With adapters it is the policy's own network with the adapters off, at no memory.

    ``moving`` is for a reference that :meth:`refresh` brings up to date: it always has weights of its own, and they are
    part of every checkpoint. ``directory`` is another model than the one the policy began as.
    """

    def __init__(self, policy: LocalModel, *, moving: bool = False, directory: Path | None = None) -> None:
        self._policy = policy if policy.adapted and not moving and directory is None else None
        frozen = replace(policy.engine, adapter=None)
        self._model = policy if self._policy else LocalModel(directory or policy.directory, frozen)

    @contextmanager
    def network(self) -> Iterator[LocalModel]:
        """Within: the reference as a model to read with."""
        if self._policy is None:
            yield self._model
        else:
            with self._policy.base_weights():
                yield self._policy

    def forward(self, batch: Batch) -> Outputs:
        with self.network() as model:
            return model.forward(batch)

    @torch.no_grad()
    def refresh(self, policy: LocalModel, share: float = 1.0) -> None:
        """Become what the policy is now (R1-Zero, arXiv:2501.12948, does so every 400 steps), or move ``share`` of the way
        there (TR-DPO, arXiv:2404.09656)."""
        own = self._model.weights()
        for name, weight in policy.weights().items():
            own[name].copy_(weight) if share == 1 else own[name].lerp_(weight.to(own[name].dtype), share)

    def checkpoint(self, directory: Path) -> None:
        weights = {name: weight.detach().cpu().contiguous() for name, weight in self._model.weights().items()}
        files.write_safetensors(directory / "weights.safetensors", weights)

    @torch.no_grad()
    def restore(self, directory: Path) -> None:
        own = self._model.weights()
        for name, weight in load_file(directory / "weights.safetensors").items():
            own[name].copy_(weight)
