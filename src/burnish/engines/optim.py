"""Optimizers as values, learning-rate schedules, and fp32 masters for weights that live in lower precision."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from burnish.types import Metrics


class Optimizer(ABC):
    """What turns the gradient into a step: a value that builds torch's optimizer over the masters.

    ``clip`` bounds the global gradient norm (0: no clipping).
    """

    clip: float

    @abstractmethod
    def build(self, masters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer of ``masters``, by name. Its ``lr`` is set before every step."""

    @property
    @abstractmethod
    def slots(self) -> int:
        """How many tensors it remembers beside each weight."""

    def check(self, *, adapter: bool) -> None:  # noqa: B027 - most optimizers train whatever there is
        """Raise InputError where it cannot train an adapter, or all weights, or where a setting is missing."""


@dataclass(frozen=True)
class AdamW(Optimizer):
    """AdamW (arXiv:1711.05101). Matrices decay, vectors (norms, biases) do not. ``clip`` bounds the global gradient norm
    (0: no clipping)."""

    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip: float = 1.0

    def build(self, masters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.groups(masters), lr=0.0, betas=self.betas, eps=self.eps, foreach=True)

    def groups(self, masters: Mapping[str, nn.Parameter]) -> list[dict[str, Any]]:
        """What decays, and what does not."""
        decayed = [p for p in masters.values() if p.ndim >= 2]
        others = [p for p in masters.values() if p.ndim < 2]
        groups = [{"params": decayed, "weight_decay": self.weight_decay}, {"params": others, "weight_decay": 0.0}]
        return [g for g in groups if g["params"]]

    @property
    def slots(self) -> int:
        return 2


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """``v <- d v + (1 - d) g^2``, ``theta <- theta - lr g / (sqrt v + eps)``: the optimizer of DPO (arXiv:2305.18290).

    Neighbour: :class:`AdamW` averages the gradient too, and corrects both averages for their start at zero.
    """

    decay: float = 0.99
    eps: float = 1e-8
    clip: float = 1.0

    def build(self, masters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.RMSprop(list(masters.values()), lr=0.0, alpha=self.decay, eps=self.eps, foreach=True)

    @property
    def slots(self) -> int:
        return 1


@dataclass(frozen=True)
class SGD(Optimizer):
    """``b <- momentum b + g``, ``theta <- theta - lr b``. Without momentum it remembers nothing: the least memory there is."""

    momentum: float = 0.0
    clip: float = 1.0

    def build(self, masters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(list(masters.values()), lr=0.0, momentum=self.momentum, foreach=True)

    @property
    def slots(self) -> int:
        return 1 if self.momentum else 0


@dataclass(frozen=True)
class Schedule:
    """Learning rate by step: linear ``warmup`` steps up to ``lr``, then "constant", or "linear" or "cosine" down towards
    ``final * lr``, which is reached after the last step: no step is spent at a rate of zero."""

    lr: float
    warmup: int = 0
    shape: str = "constant"
    final: float = 0.0

    def __post_init__(self) -> None:
        if self.shape not in _SHAPES:
            raise ValueError(f"shape must be one of {', '.join(sorted(_SHAPES))}, not '{self.shape}'")

    def at(self, step: int, total: int) -> float:
        """The rate of step ``step`` (counted from 0) of ``total``."""
        if step < self.warmup:
            return self.lr * (step + 1) / (self.warmup + 1)
        progress = (step - self.warmup) / max(1, total - self.warmup)
        return self.lr * (self.final + (1 - self.final) * _SHAPES[self.shape](progress))


_SHAPES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,  # noqa: ARG005
    "linear": lambda progress: 1 - progress,
    "cosine": lambda progress: (1 + math.cos(math.pi * progress)) / 2,
}


class Masters:
    """The parameters the optimizer updates, and the live weights that follow them.

    A live weight in float32 or wider is its own master. A narrower one gets a float32 master: micro-batch gradients are
    added to the master's gradient in float32, and after a step the master is rounded into the live weight.
    """

    def __init__(self, live: Mapping[str, nn.Parameter]) -> None:
        self.live = dict(live)
        self.params = {name: self._master(p) for name, p in live.items()}

    def _master(self, live: nn.Parameter) -> nn.Parameter:
        if live.dtype in (torch.float32, torch.float64):
            return live
        master = nn.Parameter(live.detach().float())

        def accumulate(param: Tensor) -> None:
            assert param.grad is not None
            if master.grad is None:
                master.grad = param.grad.float()
            else:
                master.grad.add_(param.grad)
            param.grad = None

        live.register_post_accumulate_grad_hook(accumulate)
        return master

    @torch.no_grad()
    def publish(self) -> None:
        """Round every master into its live weight."""
        for name, master in self.params.items():
            if master is not self.live[name]:
                self.live[name].copy_(master)

    def zero(self) -> None:
        for p in (*self.params.values(), *self.live.values()):
            p.grad = None


def step(optimizer: torch.optim.Optimizer, masters: Masters, lr: float, clip: float) -> Metrics:
    """Clip, check, update. A non-finite gradient changes nothing and is reported as ``grad/skipped`` = 1.

    A parameter that received no gradient counts as one with gradient zero, as in the sum it is part of.
    """
    for p in masters.params.values():
        if p.grad is None:
            p.grad = torch.zeros_like(p)
    norm = nn.utils.get_total_norm([p.grad for p in masters.params.values() if p.grad is not None])
    finite = bool(torch.isfinite(norm))
    if finite:
        if clip:
            nn.utils.clip_grads_with_norm_(list(masters.params.values()), clip, norm)
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        masters.publish()
    masters.zero()
    return {"grad/norm": (float(norm), 1.0), "grad/skipped": (float(not finite), 1.0)}


def state_tensors(optimizer: torch.optim.Optimizer, masters: Masters) -> dict[str, Tensor]:
    """The optimizer's state as named tensors: ``<parameter>:<entry>``."""
    out = {}
    for name, param in masters.params.items():
        for entry, value in optimizer.state[param].items():
            out[f"{name}:{entry}"] = torch.as_tensor(value)
    return out


def load_state_tensors(optimizer: torch.optim.Optimizer, masters: Masters, tensors: Mapping[str, Tensor]) -> None:
    for key, value in tensors.items():
        name, _, entry = key.rpartition(":")
        param = masters.params[name]
        optimizer.state[param][entry] = value.clone() if entry == "step" else value.to(param.device, copy=True)
