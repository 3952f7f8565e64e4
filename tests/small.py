"""A model with nano's tokenizer that learns small things in seconds, and the shortest training loop there is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from burnish.core import keys
from burnish.data.batching import epoch_order
from burnish.data.units import collate, encode
from burnish.engines.local import Engine, LocalModel
from burnish.engines.nano import nano_tokenizer
from burnish.types import Comparison, Loss, Metrics, means, needs_of

ENGINE = Engine(dtype="float32", device="cpu")


def build(directory: Path, hidden: int = 64, layers: int = 2, seed: int = 0, context: int = 128) -> Path:
    tokenizer = nano_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=hidden, num_hidden_layers=layers, intermediate_size=2 * hidden,
        num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=context, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    network.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def train(
    base: Path, out: Path, loss: Loss, data: Sequence[Comparison], *, steps: int, batch: int = 32, lr: float = 3e-3
) -> tuple[Path, list[dict[str, float]]]:
    """The trained model with its head in ``out``, and the metrics of every step."""
    model = LocalModel(base, ENGINE, heads=needs_of(loss).heads)
    units = [encode(model.chat, item) for item in data]
    seen: list[dict[str, float]] = []
    for step in range(steps):
        order = epoch_order(keys.derive(0, "order"), len(units), step * batch, batch)
        prepared = loss.prepare(collate([units[i] for i in order]))  # type: ignore[attr-defined]
        metrics: Metrics = model.forward_backward(prepared, loss)[0]
        model.optim_step(lr * min(1.0, (step + 1) / 10) * (1 - step / steps))
        seen.append(means(metrics))
    out.mkdir(parents=True, exist_ok=True)
    model.export(out)
    return out, seen
