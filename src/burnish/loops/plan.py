"""What a run is about to do, in numbers a person can check before an hour is spent."""

from __future__ import annotations

import os
import resource
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from burnish.core.logprobs import CHUNK_ELEMENTS
from burnish.engines.decode import MAX_ROWS
from burnish.engines.local import DTYPES, Outline

if TYPE_CHECKING:
    from burnish.core.method import Method
    from burnish.loops.fit import FitConfig
    from burnish.loops.rl import RLConfig


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
    kernels: int
    weights: int
    training: int
    cache: int
    activations: int
    logits: int

    @property
    def total(self) -> int:
        held = self.process + self.kernels + self.weights + self.training
        return held + max(self.cache, self.activations + self.logits)


PROCESS_BYTES = 600_000_000
"""Python with torch and transformers loaded, before any model, and what its allocator leaves unused (Linux, CPU build)."""

KERNEL_BYTES = 750_000
"""On a CPU, oneDNN compiles a kernel for every shape of a bfloat16 product and keeps those it used last. Shapes change with
every batch, so that many are kept as it may: ``ONEDNN_PRIMITIVE_CACHE_CAPACITY``, by its own default 1024."""

HIDDEN_KEPT, FEED_KEPT = 16, 4
"""Hidden and feed-forward vectors kept per token and layer for the backward pass: counted on Llama-like layers, they are
12 to 16 of the first where each row has its own prompt, and 17 to 21 where prompts are shared by eight rows."""


PROMPT_TOKENS = 128
"""The longest prompt that a plan for rollouts counts with: it is made before any prompt is read."""


def memory_plan(model: Outline, *, tokens: int, rows: int, row_tokens: int, reference: bool) -> MemoryPlan:
    """Peak memory of a step that trains on micro-batches of ``tokens`` tokens and samples ``rows`` rows of ``row_tokens``.

    Activations are counted for the layers that a gradient passes through. With adapters, only the matrices they adapt are
    held twice (base and merged), and the reference is the base.
    """
    config: Any = model.network.config
    width = DTYPES[model.engine.dtype].itemsize
    trained, total = model.parameter_counts()
    layers, hidden, feed = config.num_hidden_layers, config.hidden_size, config.intermediate_size
    kv_heads = getattr(config, "num_key_value_heads", 0) or config.num_attention_heads
    head_size = getattr(config, "head_dim", 0) or hidden // config.num_attention_heads
    passed = len({name.split(".layers.")[1].split(".")[0] for name in model.adapted}) or layers
    again = sum(layer.weight.numel() for layer in model.adapted.values()) if model.adapted else reference * total
    own_master = 4 if model.adapted or width < 4 else 0
    per_layer = width * (HIDDEN_KEPT * hidden + FEED_KEPT * feed)
    kept = layers * width * hidden + per_layer if model.engine.activation_checkpointing else passed * per_layer
    return MemoryPlan(
        process=PROCESS_BYTES,
        kernels=_kernels_kept() * KERNEL_BYTES if (model.engine.device, width) == ("cpu", 2) else 0,
        weights=(total + again) * width,
        training=trained * (4 * (1 + model.engine.optimizer.slots) + own_master),
        cache=2 * layers * kv_heads * head_size * min(rows, MAX_ROWS) * row_tokens * width,
        activations=tokens * kept,
        logits=3 * 4 * min(CHUNK_ELEMENTS, tokens * len(model.head_weight)),
    )


def rl_memory(model: Outline, cfg: RLConfig, algo: Method, critic: Outline | None = None) -> MemoryPlan:
    """Of a step of ``cfg``, for prompts of up to :data:`PROMPT_TOKENS`. ``critic`` is one with weights of its own."""
    rollouts, longest = _rollouts(cfg, algo), cfg.sampling.max_tokens
    tokens = min(cfg.engine.token_budget, cfg.prompts * PROMPT_TOKENS + rollouts * longest)
    row = PROMPT_TOKENS + longest
    plan = memory_plan(model, tokens=tokens, rows=rollouts, row_tokens=row, reference=algo.needs_reference)
    if critic is None:
        return plan
    # Its activations come when the policy's are gone.
    beside = memory_plan(critic, tokens=tokens, rows=0, row_tokens=0, reference=False)
    return replace(plan, weights=plan.weights + beside.weights, training=plan.training + beside.training)


def _rollouts(cfg: RLConfig, algo: Method) -> int:
    return cfg.prompts * (cfg.group * (1 + bool(algo.rival)) + algo.needs_greedy)


def fit_memory(model: Outline, cfg: FitConfig, *, longest: int, rows: int = 0) -> MemoryPlan:
    """Of a step of ``cfg`` on ``rows`` rows (0: one an item) of up to ``longest`` tokens.

    A reference that stays as it is has been asked before the first step and is not in memory any more.
    """
    tokens = min(cfg.engine.token_budget, (rows or cfg.batch) * longest)
    return memory_plan(model, tokens=tokens, rows=0, row_tokens=0, reference=cfg.refresh_reference > 0)


def rl_work(cfg: RLConfig, algo: Method) -> dict[str, str]:
    """A step from prompts to updates, and all of them, in words."""
    rollouts, updates = _rollouts(cfg, algo), cfg.epochs * cfg.minibatches
    greedy = " and a greedy one" * algo.needs_greedy + " and as many of a rival" * bool(algo.rival)
    lines = {
        "a step": f"{cfg.prompts} prompts x {cfg.group} completions{greedy} = {rollouts} rollouts of at most "
        f"{cfg.sampling.max_tokens} tokens -> {updates} update{'s' * (updates > 1)}, micro-batches of at most "
        f"{cfg.engine.token_budget} tokens",
        "in all": f"{cfg.steps} steps, {cfg.steps * rollouts} rollouts, {cfg.steps * updates} updates",
    }
    if first := cfg.pretraining_steps(algo):
        lines["critic"] = f"learns alone for {first} steps before them"
    return lines


def fit_work(cfg: FitConfig) -> dict[str, str]:
    """A step from rows to an update, and all of them, in words."""
    return {
        "a step": f"{cfg.batch} items -> 1 update, micro-batches of at most {cfg.engine.token_budget} tokens",
        "in all": f"{cfg.steps} steps" if cfg.steps else f"passes over the data: {cfg.epochs:g}",
    }


def _kernels_kept() -> int:
    return int(os.environ.get("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "1024"))


def describe_model(model: Outline) -> str:
    trained, total = model.parameter_counts()
    how = "all weights"
    if model.engine.adapter:
        layers = model.engine.adapter.layers
        how = f"LoRA rank {model.engine.adapter.rank} on {f'the last {layers}' if layers else 'all'} layers"
    device, threads = model.engine.device, torch.get_num_threads()
    if device == "cpu":
        device += f", {threads} thread{'s' * (threads > 1)}"
    return f"{total / 1e6:.1f}M parameters, {trained / 1e6:.2f}M trained ({how}), {model.engine.dtype} on {device}"
