"""The memory plan counts what it says it counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from burnish.core.algorithms import PPO, REMAX
from burnish.data import units
from burnish.data.batching import collate
from burnish.engines.attention import Packed
from burnish.engines.decode import MAX_ROWS
from burnish.engines.local import Engine, LocalModel
from burnish.engines.lora import LoRA
from burnish.loops.plan import (
    KERNEL_BYTES,
    PROCESS_BYTES,
    describe_model,
    memory_plan,
    peak_memory_gb,
    rl_memory,
    rl_work,
)
from burnish.loops.rl import RLConfig
from burnish.loops.update import CriticConfig
from burnish.types import Batch, Rollout, outcome

TOTAL = 906_048  # parameters of nano


def test_full_training_in_float32(nano: Path) -> None:
    model = LocalModel(nano, Engine(dtype="float32", device="cpu"))
    plan = memory_plan(model, tokens=1000, rows=8, row_tokens=100, reference=False)
    assert plan.weights == 4 * TOTAL
    assert plan.training == 12 * TOTAL, "gradient and two moments"
    assert plan.cache == 2 * 2 * 192 * 8 * 100 * 4, "keys and values of two layers"
    assert plan.total >= PROCESS_BYTES + plan.weights + plan.training
    assert memory_plan(model, tokens=1000, rows=8, row_tokens=100, reference=True).weights == 8 * TOTAL
    assert describe_model(model).startswith("0.9M parameters, 0.91M trained (all weights), float32 on cpu")


def test_an_adapter_trains_little_and_needs_no_second_model_for_its_reference(nano: Path) -> None:
    model = LocalModel(nano, Engine(dtype="bfloat16", device="cpu", adapter=LoRA(rank=4, alpha=8, layers=1)))
    trained = 4 * (4 * (192 + 192) + 2 * (192 + 512) + (512 + 192))
    assert model.parameter_counts() == (trained, TOTAL)
    with_reference = memory_plan(model, tokens=10, rows=1, row_tokens=1, reference=True)
    without = memory_plan(model, tokens=10, rows=1, row_tokens=1, reference=False)
    assert with_reference == without
    assert without.training == 16 * trained
    assert without.weights == 2 * (TOTAL + 4 * 192 * 192 + 3 * 192 * 512), "only what is adapted is held twice"
    assert "LoRA rank 4 on the last 1 layers" in describe_model(model)


def test_checkpointing_keeps_less(nano: Path) -> None:
    kept = [
        memory_plan(
            LocalModel(nano, Engine(dtype="float32", device="cpu", activation_checkpointing=on)),
            tokens=1000, rows=1, row_tokens=1, reference=False,
        ).activations
        for on in (False, True)
    ]  # fmt: skip
    assert kept[1] < kept[0]


def test_what_is_kept_for_the_backward_pass(nano: Path) -> None:
    """Planned is within a third of the bytes that autograd really keeps, for prompts of their own and for shared ones."""
    own = units.collate([units.supervised(tuple(range(i, i + 70)), (False,) * 20 + (True,) * 50) for i in range(8)])
    row = Rollout(tuple(range(60)), tuple(range(20)), (True,) * 20, (0.0,) * 20, outcome(1.0), 0, 0)
    shared = collate([replace(row, episode=i) for i in range(8)])
    for dtype, adapter in (("float32", None), ("bfloat16", LoRA(rank=4)), ("float32", LoRA(rank=4, layers=1))):
        model = LocalModel(nano, Engine(dtype=dtype, device="cpu", adapter=adapter))
        for batch in (own, shared):
            tokens = len(Packed.rows_of(batch).tokens)
            plan = memory_plan(model, tokens=tokens, rows=0, row_tokens=0, reference=False)
            assert 0.67 < plan.activations / kept(model, batch) < 1.33


def kept(model: LocalModel, batch: Batch) -> int:
    """Bytes of everything but weights that a backward pass through ``batch`` would need."""
    weights = {w.untyped_storage().data_ptr() for w in model.weights().values()}
    found: dict[int, torch.UntypedStorage] = {}  # held, so that no address is used twice

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if not isinstance(tensor, nn.Parameter) and storage.data_ptr() not in weights:
            found[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model.outputs(batch)
    return sum(storage.nbytes() for storage in found.values())


def test_kernels_of_bfloat16_products_are_counted_on_a_cpu(nano: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kernels(dtype: str) -> int:
        model = LocalModel(nano, Engine(dtype=dtype, device="cpu"))
        return memory_plan(model, tokens=1, rows=1, row_tokens=1, reference=False).kernels

    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "10")
    assert kernels("bfloat16") == 10 * KERNEL_BYTES and kernels("float32") == 0
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY")
    assert kernels("bfloat16") == 1024 * KERNEL_BYTES


def test_only_the_rows_of_one_wave_are_cached(nano: Path) -> None:
    model = LocalModel(nano, Engine(dtype="float32", device="cpu"))
    plans = [memory_plan(model, tokens=1, rows=rows, row_tokens=9, reference=False) for rows in (MAX_ROWS, 8192)]
    assert plans[0] == plans[1]


def test_peak_memory_is_that_of_a_process_with_torch() -> None:
    assert 0.1 < peak_memory_gb() < 100


def test_a_critic_and_a_greedy_row_are_part_of_the_plan(nano: Path) -> None:
    engine = Engine(dtype="float32", device="cpu")
    cfg = RLConfig(steps=5, prompts=3, group=4, engine=engine, critic=CriticConfig(pretrain=2))
    model = LocalModel(nano, engine)
    alone, beside = rl_memory(model, cfg, PPO), rl_memory(model, cfg, PPO, critic=model)
    trained, total = model.parameter_counts()
    assert beside.weights - alone.weights == 4 * total and beside.training - alone.training == 12 * trained
    assert "= 15 rollouts" in rl_work(cfg, REMAX)["a step"] and "critic" not in rl_work(cfg, REMAX)
    assert "= 12 rollouts" in rl_work(cfg, PPO)["a step"] and "2 steps" in rl_work(cfg, PPO)["critic"]
