"""The trust-region step beside the weights (TRPO, arXiv:1502.05477): for small policies whose parameters are all trained.

The mean of every quantity here is over the trained tokens of the whole batch, those in the mask of rows with ``train``,
weighed by the policy's aggregation weights and normalised to sum to 1:

    mean KL = sum_t w_t KL(pi_old(. | t) || pi(. | t)),     F = sum_t w_t J_t^T (diag p_t - p_t p_t^T) J_t

with J_t the Jacobian of the scaled logits at token t. KL and F are exact over the vocabulary; they do not depend on the
tokens drawn, nor on the advantages. F is the Hessian of the mean KL at the present parameters. A product ``F v`` is one
forward-mode pass (J v) and one reverse pass, micro-batch by micro-batch. Fused attention kernels have no forward mode,
so these passes take the plain one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from burnish.core import trust_region
from burnish.core.logprobs import OUTSIDE
from burnish.core.trust_region import TrustRegion
from burnish.data.batching import micro_batches
from burnish.engines import attention
from burnish.engines.local import LocalModel
from burnish.errors import InputError
from burnish.types import Batch, Loss, Metrics

LARGEST = 5_000_000
"""Trained parameters at most. A step is as much work as some 25 gradients (measured on nano, 10 iterations, CPU)."""


def check(model: LocalModel) -> None:
    """Raise InputError where a trust-region step cannot be taken on this model. Cheap: to be asked before step 1."""
    instead = "; or choose an algorithm that steps with the optimizer, such as GRPO"
    if model.adapted:
        raise InputError(
            f"a trust region moves all weights of a small model, not an adapter: engine.adapter=null{instead}"
        )
    if model.heads:
        raise InputError("a trust region needs a policy without heads: give the critic a model of its own")
    if model.engine.activation_checkpointing:
        raise InputError("a trust region needs forward-mode derivatives: engine.activation_checkpointing=false")
    if any(p.dtype not in (torch.float32, torch.float64) for p in model.network.parameters()):
        raise InputError(
            f"a trust region measures small KLs, which {model.engine.dtype} rounds away: engine.dtype=float32"
        )
    if (count := model.parameter_counts()[0]) > LARGEST:
        raise InputError(
            f"a trust region is for models of at most {LARGEST / 1e6:g}M parameters, such as nano; this one trains "
            f"{count / 1e6:.1f}M{instead}"
        )


def trust_region_step(model: LocalModel, batch: Batch, loss: Loss, settings: TrustRegion) -> Metrics:
    """Move the weights by one trust-region step, or not at all; zero the gradient. In the place of ``optim_step``.

    The gradient is what ``model.forward_backward(.., loss)`` has accumulated. ``batch`` is the whole prepared minibatch:
    rows that add nothing to the gradient count in the mean KL as well. The gain is the decrease of ``loss`` on it; where it
    has no ``old_logprobs``, they are the present ones. The KL is measured from the present weights. A rejected line search
    or a non-finite gradient leaves every weight as it was, bit for bit.
    """
    check(model)
    params = model.masters.params
    ascent = -torch.cat([_flat(torch.zeros_like(p) if p.grad is None else p.grad) for p in params.values()])
    norm = float(ascent.norm())
    if batch.old_logprobs is None:
        batch = replace(batch, old_logprobs=model.forward(batch).logprobs)
    region = Region(model, batch)
    start = region.loss(region.here, loss)

    def evaluate(step: Tensor) -> tuple[float, float]:
        candidate = region.moved(step)
        return start - region.loss(candidate, loss), region.kl(candidate)

    found, metrics = trust_region.step(ascent, region.fisher, evaluate, settings)
    if found is not None:
        with torch.no_grad():
            for name, value in region.moved(found).items():
                params[name].copy_(value)
        model.masters.publish()
    model.masters.zero()
    return {**metrics, "grad/norm": (norm, 1.0), "grad/skipped": (float(not norm < float("inf")), 1.0)}


@dataclass(frozen=True)
class _Piece:
    """A micro-batch laid out: ``places`` [N] of the hidden states that predict its trained tokens, ``weights`` [N]."""

    batch: Batch
    packed: attention.Packed
    places: Tensor
    weights: Tensor


class Region:
    """The policy as a function of its parameters, on the trained tokens of one batch, around where they are now.

    Parameters are mappings of the names of ``model.masters``; vectors [N] are all of them end to end, in float64.
    """

    def __init__(self, model: LocalModel, batch: Batch) -> None:
        self.model = model
        self.here = {name: p.detach() for name, p in model.masters.params.items()}
        self._network = _Borrowed(model.network)
        weights = torch.where(batch.mask & batch.train[:, None], batch.weights["policy"].to(torch.float64), 0.0)
        weights = weights / weights.sum()
        batch = replace(batch, weights={**batch.weights, "region": weights})
        self._pieces = [
            _laid_out(batch.select(rows), model.device) for rows in micro_batches(batch, model.engine.token_budget)
        ]

    def moved(self, step: Tensor) -> dict[str, Tensor]:
        """The present parameters plus ``step``, in their own precision."""
        return {name: self.here[name] + part for name, part in self._parts(step).items()}

    @torch.no_grad()
    def loss(self, params: Mapping[str, Tensor], loss: Loss) -> float:
        """What ``forward_backward`` would differentiate, at these parameters."""

        def value(piece: _Piece) -> Tensor:
            return loss(self.model.outputs(piece.batch), piece.batch.to(self.model.device))[0]

        return sum(float(self._at(params, value, piece)) for piece in self._pieces)

    @torch.no_grad()
    def kl(self, params: Mapping[str, Tensor]) -> float:
        """The mean KL from the present policy to the one with these parameters."""
        total = 0.0
        for piece in self._pieces:
            old, new = (torch.log_softmax(self._at(p, self._logits, piece), -1) for p in (self.here, params))
            total += float((piece.weights * (old.exp() * (old - new)).sum(-1)).sum())
        return total

    def fisher(self, vector: Tensor) -> Tensor:
        """``F v`` [N], by J v in forward mode and J^T in reverse mode."""
        tangent = self._parts(vector)
        total = torch.zeros_like(vector)
        with sdpa_kernel(SDPBackend.MATH):
            for piece in self._pieces:

                def logits(params: Mapping[str, Tensor], piece: _Piece = piece) -> Tensor:
                    return self._at(params, self._logits, piece)

                with torch.no_grad():
                    here, change = torch.func.jvp(logits, (self.here,), (tangent,))[:2]
                p = torch.softmax(here, -1)
                change = p * (change - (p * change).sum(-1, keepdim=True))
                pull = torch.func.vjp(logits, self.here)[1]
                (back,) = pull(piece.weights[:, None] * change)
                total += torch.cat([_flat(back[name]) for name in self.here])
        return total

    def _logits(self, piece: _Piece) -> Tensor:
        """[N, V] in float64, divided by the temperature; of suppressed ids so low that they have no chance."""
        hidden = self.model.hidden(piece.packed.tokens[None], piece.packed.positions[None], piece.packed)[0]
        logits = hidden.index_select(0, piece.places) @ self.model.head_weight.T
        scaled = logits.to(torch.float64) / piece.batch.temperature
        return scaled.index_fill(
            1, torch.tensor(piece.batch.suppressed, device=scaled.device, dtype=torch.long), OUTSIDE
        )

    def _at(self, params: Mapping[str, Tensor], call: Callable[[_Piece], Tensor], piece: _Piece) -> Tensor:
        """``call(piece)`` as if the network had these parameters; tied weights follow each other."""
        named = {f"network.{name}": value for name, value in params.items()}
        out: Tensor = torch.func.functional_call(self._network, named, (call, piece))
        return out

    def _parts(self, vector: Tensor) -> dict[str, Tensor]:
        sizes = [p.numel() for p in self.here.values()]
        parts = zip(self.here.items(), vector.split(sizes), strict=True)
        return {name: part.view(p.shape).to(p.dtype) for (name, p), part in parts}


class _Borrowed(nn.Module):
    """A module that calls what it is given: parameters are exchanged in modules, and for the length of a call."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, call: Callable[..., Any], *args: Any) -> Any:
        return call(*args)


def _laid_out(batch: Batch, device: torch.device) -> _Piece:
    packed = attention.Packed.rows_of(batch)
    rows = torch.tensor(packed.rows)
    valid = torch.arange(batch.tokens.shape[1]) < batch.lengths[rows][:, None]
    weights = batch.weights["region"][rows][valid]
    chosen = weights > 0
    return _Piece(batch, packed, packed.predictors[chosen].to(device), weights[chosen].to(device))


def _flat(value: Tensor) -> Tensor:
    return value.detach().reshape(-1).to(torch.float64)
