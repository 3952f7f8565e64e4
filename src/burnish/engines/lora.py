"""Low-rank adaptation (LoRA, arXiv:2106.09685) that trains and samples with one and the same weight matrix.

The merged matrix ``W + (alpha / r) B A`` is computed from an untouched base once per optimizer step. Forward passes use it
as it is, so trainer and sampler share every bit; gradients of A and B come from the two thin products, never from dW.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from burnish.errors import InputError


@dataclass(frozen=True)
class LoRA:
    """``rank`` and ``alpha`` as in the paper; ``layers`` adapts only the last so many decoder layers (0: all of them)."""

    rank: int = 16
    alpha: float = 32.0
    layers: int = 0


class _MergedLinear(torch.autograd.Function):
    """``y = x W'`` with ``W' = W + s B A``: dA = s (dy B)^T x, dB = s dy^T (x A^T), dx = dy W'."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, merged: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(x, merged, a, b)
        ctx.scale = scale
        return F.linear(x, merged, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, None, Tensor, Tensor, None]:
        x, merged, a, b = ctx.saved_tensors
        upstream = grads[0]
        dy, rows = upstream.flatten(0, -2), x.flatten(0, -2)
        down = (dy @ b.to(dy.dtype)).mul_(ctx.scale)
        up = (rows @ a.to(dy.dtype).T).mul_(ctx.scale)
        grad_a = (down.T @ rows).to(a.dtype)
        grad_b = (dy.T @ up).to(b.dtype)
        grad_x = upstream @ merged if ctx.needs_input_grad[0] else None
        return grad_x, None, None, grad_a, grad_b, None


class LoRALinear(nn.Module):
    """A linear layer whose weight is the merged one. ``plain`` switches it back to the base (the reference policy)."""

    def __init__(self, linear: nn.Linear, lora: LoRA, generator: torch.Generator) -> None:
        super().__init__()
        self.base = linear.weight.detach()
        self.bias = linear.bias  # frozen, but a parameter: it belongs to the weights that are exported and counted
        self.weight = self.base.clone()
        self.scale = lora.alpha / lora.rank
        self.plain = False
        precise = torch.promote_types(self.base.dtype, torch.float32)
        outputs, inputs = self.base.shape
        bound = inputs**-0.5
        start = torch.empty(lora.rank, inputs, dtype=precise).uniform_(-bound, bound, generator=generator)
        self.lora_a = nn.Parameter(start.to(self.base.device))
        self.lora_b = nn.Parameter(torch.zeros(outputs, lora.rank, dtype=precise, device=self.base.device))

    def forward(self, x: Tensor) -> Tensor:
        if self.plain:
            return F.linear(x, self.base, self.bias)
        if not torch.is_grad_enabled():
            return F.linear(x, self.weight, self.bias)
        merged: Tensor = _MergedLinear.apply(x, self.weight, self.bias, self.lora_a, self.lora_b, self.scale)  # type: ignore[no-untyped-call]
        return merged

    @torch.no_grad()
    def merge(self) -> None:
        """Write ``W + s B A``, computed in the adapters' precision, into the weight that forward passes use."""
        self.weight.copy_(self.base.to(self.lora_b.dtype).addmm(self.lora_b, self.lora_a, alpha=self.scale))


_LAYER = re.compile(r"\.layers\.(\d+)\.")


def adapt(network: nn.Module, lora: LoRA, generator: torch.Generator) -> dict[str, LoRALinear]:
    """Replace the linear layers of the decoder's last ``lora.layers`` layers, freeze everything else; by module name."""
    network.requires_grad_(False)
    found = [(n, m) for n, m in network.named_modules() if isinstance(m, nn.Linear) and _LAYER.search(n)]
    if not found:
        raise InputError(
            "this model has no linear layers under '.layers.N.', so LoRA finds nothing to adapt; train it in full"
        )
    count = 1 + max(_layer_of(name) for name, _ in found)
    first = count - lora.layers if lora.layers else 0
    adapted = {}
    for name, linear in found:
        if _layer_of(name) >= first:
            adapted[name] = LoRALinear(linear, lora, generator)
            parent, _, leaf = name.rpartition(".")
            setattr(network.get_submodule(parent), leaf, adapted[name])
    return adapted


def _layer_of(name: str) -> int:
    match = _LAYER.search(name)
    assert match is not None
    return int(match.group(1))


def peft_adapter(adapted: dict[str, LoRALinear], lora: LoRA, base: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors, config) of the adapter in the format of the ``peft`` library."""
    tensors = {}
    for name, layer in adapted.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = layer.lora_a.detach().float().cpu()
        tensors[f"base_model.model.{name}.lora_B.weight"] = layer.lora_b.detach().float().cpu()
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
        "target_modules": sorted({name.rpartition(".")[2] for name in adapted}),
        "layers_to_transform": sorted({_layer_of(name) for name in adapted}),
    }
    return tensors, config
