"""What a run is about to do, in numbers a person can check before an hour is spent."""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass

import torch

from burnish.core.logprobs import CHUNK_ELEMENTS
from burnish.engines.local import DTYPES, LocalModel


def peak_memory_gb() -> float:
    """The most memory this process has held so far, in 10^9 bytes: on the GPU if one is used, else resident."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


@dataclass(frozen=True)
class MemoryPlan:
    """Predicted bytes, part by part; ``total`` also counts the process itself."""

    process: int
    weights: int
    training: int
    cache: int
    activations: int
    logits: int

    @property
    def total(self) -> int:
        return self.process + self.weights + self.training + max(self.cache, self.activations + self.logits)


PROCESS_BYTES = 600_000_000
"""Python with torch and transformers loaded, before any model (measured on Linux, CPU build)."""


def memory_plan(model: LocalModel, *, tokens: int, rows: int, row_tokens: int, reference: bool) -> MemoryPlan:
    """Peak memory of a step that trains on micro-batches of ``tokens`` tokens and decodes ``rows`` rows at once.

    Activations are counted for the layers that a gradient passes through: per token and layer about 10 hidden and 4
    feed-forward vectors are kept for the backward pass.
    """
    config = model.network.config
    width = DTYPES[model.engine.dtype].itemsize
    trained, total = model.parameter_counts()
    layers = int(config.num_hidden_layers)  # type: ignore[union-attr, arg-type]
    hidden, feed = int(config.hidden_size), int(config.intermediate_size)  # type: ignore[union-attr, arg-type]
    vocabulary = len(model.head_weight)
    kv_heads = int(getattr(config, "num_key_value_heads", 0) or config.num_attention_heads)  # type: ignore[union-attr, arg-type]
    head_size = int(getattr(config, "head_dim", 0) or hidden // config.num_attention_heads)  # type: ignore[union-attr, operator]
    adapted = {name.split(".layers.")[1].split(".")[0] for name in model.adapted}
    passed = len(adapted) if adapted else layers
    copies = 2 if model.adapted else 1 + (reference and not model.adapted)
    own_master = 0 if model.adapted or width >= 4 else 4
    per_layer = width * (10 * hidden + 4 * feed)
    kept = layers * width * hidden + per_layer if model.engine.activation_checkpointing else passed * per_layer
    return MemoryPlan(
        process=PROCESS_BYTES,
        weights=copies * total * width,
        training=trained * (12 + own_master) if not model.adapted else trained * 16,
        cache=2 * layers * kv_heads * head_size * rows * row_tokens * width,
        activations=tokens * kept,
        logits=3 * 4 * min(CHUNK_ELEMENTS, tokens * vocabulary),
    )


def describe_model(model: LocalModel) -> str:
    trained, total = model.parameter_counts()
    how = "all weights"
    if model.engine.adapter:
        layers = model.engine.adapter.layers
        how = f"LoRA rank {model.engine.adapter.rank} on {f'the last {layers}' if layers else 'all'} layers"
    device, threads = model.engine.device, torch.get_num_threads()
    if device == "cpu":
        device += f", {threads} thread{'s' * (threads > 1)}"
    return f"{total / 1e6:.1f}M parameters, {trained / 1e6:.2f}M trained ({how}), {model.engine.dtype} on {device}"
