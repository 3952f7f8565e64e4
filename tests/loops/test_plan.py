"""The memory plan counts what it says it counts."""

from __future__ import annotations

from pathlib import Path

from burnish.engines.local import Engine, LocalModel
from burnish.engines.lora import LoRA
from burnish.loops.plan import PROCESS_BYTES, describe_model, memory_plan, peak_memory_gb

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


def test_peak_memory_is_that_of_a_process_with_torch() -> None:
    assert 0.1 < peak_memory_gb() < 100
