"""The moving average against its recurrence; what it leaves of the model; resume; export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from burnish.core.losses import NLL
from burnish.core.merging import EMA
from burnish.data.batching import collate
from burnish.engines.local import HEADS, Engine, LocalModel
from burnish.engines.lora import LoRA
from burnish.engines.moving_average import MovingAverage
from burnish.errors import InputError
from burnish.types import Head
from rows import rollout

CPU = Engine(dtype="float32", device="cpu")
KINDS = {
    "full": CPU,
    "full-bf16": replace(CPU, dtype="bfloat16"),
    "lora": replace(CPU, adapter=LoRA(rank=4)),
}
every_kind = pytest.mark.parametrize("engine", KINDS.values(), ids=KINDS.keys())
HEAD = {"value": Head(spread=1.0)}


def train(model: LocalModel, average: MovingAverage, steps: range) -> None:
    for step in steps:
        batch = NLL().prepare(collate([rollout(4, tokens=[10 + step, 20, 30, 40], prompt=[11, 12 + step])]))
        model.forward_backward(batch, NLL())
        model.optim_step(0.01)
        average.update()


def theta(model: LocalModel) -> dict[str, Tensor]:
    """The weights in float64, of the float32 masters where they are narrow."""
    masters = model.masters.params
    found = {n: masters.get(n, w) for n, w in model.weights().items()}
    found |= {f"heads.value.{n}": p for n, p in model.heads["value"].named_parameters()}
    return {n: w.detach().double().clone() for n, w in found.items()}


def same(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[n], right[n]) for n in left)


@every_kind
def test_it_follows_the_recurrence(nano: Path, engine: Engine) -> None:
    """From the start, step by step; so it is the merge of the same name over the weights of all steps."""
    model = LocalModel(nano, engine, heads=HEAD)
    average = MovingAverage(model, decay=0.8)
    expected, seen = theta(model), [theta(model)]
    for step in range(3):
        train(model, average, range(step, step + 1))
        seen.append(theta(model))
        expected = {n: 0.8 * expected[n] + 0.2 * w for n, w in seen[-1].items()}
    merged = EMA(0.8)(seen)
    for name, tensor in average.average.items():
        assert tensor.dtype == torch.float32
        assert torch.allclose(tensor.double(), expected[name], rtol=1e-6, atol=1e-7), name
        assert torch.allclose(merged[name], expected[name], rtol=0, atol=1e-10), name
    assert average.average.keys() == expected.keys()
    assert not torch.allclose(expected["heads.value.bias"], seen[0]["heads.value.bias"]) or not torch.equal(
        expected["model.layers.1.mlp.up_proj.weight"], seen[0]["model.layers.1.mlp.up_proj.weight"]
    )


@every_kind
def test_the_model_is_the_average_within_and_itself_again_after(nano: Path, engine: Engine) -> None:
    model = LocalModel(nano, engine, heads=HEAD)
    average = MovingAverage(model, decay=0.5)
    train(model, average, range(3))
    before, masters = theta(model), {n: p.detach().clone() for n, p in model.masters.params.items()}
    live = {n: w.clone() for n, w in model.weights().items()}
    with pytest.raises(KeyError), average.applied() as applied:
        assert applied is model
        for name, weight in model.weights().items():
            assert torch.equal(weight, average.average[name].to(weight.dtype))
        assert torch.equal(model.heads["value"].weight, average.average["heads.value.weight"])
        raise KeyError
    assert same(theta(model), before) and same(model.weights(), live) and same(model.masters.params, masters)


@every_kind
def test_resume_is_bitwise(nano: Path, tmp_path: Path, engine: Engine) -> None:
    straight = LocalModel(nano, engine, heads=HEAD)
    whole = MovingAverage(straight, 0.9)
    train(straight, whole, range(4))
    model = LocalModel(nano, engine, heads=HEAD)
    average = MovingAverage(model, 0.9)
    train(model, average, range(2))
    for part, folder in ((model, "policy"), (average, "average")):
        (tmp_path / folder).mkdir()
        part.checkpoint(tmp_path / folder)
    resumed = LocalModel(nano, engine, heads=HEAD)
    resumed_average = MovingAverage(resumed, 0.9)
    resumed.restore(tmp_path / "policy")
    resumed_average.restore(tmp_path / "average")
    train(resumed, resumed_average, range(2, 4))
    assert same(resumed_average.average, whole.average)


@every_kind
def test_what_is_exported_is_the_average(nano: Path, tmp_path: Path, engine: Engine) -> None:
    model = LocalModel(nano, engine, heads=HEAD)
    average = MovingAverage(model, 0.5)
    train(model, average, range(2))
    average.export(tmp_path)
    for name, tensor in load_file(tmp_path / "model.safetensors").items():
        assert torch.equal(tensor, average.average[name].to(tensor.dtype)), name
    assert torch.equal(load_file(tmp_path / HEADS)["value.weight"], average.average["heads.value.weight"])
    assert not (tmp_path / "adapter").exists()
    assert LocalModel(tmp_path, CPU).parameter_counts() == LocalModel(nano, CPU).parameter_counts()


def test_what_does_not_fit_is_refused(nano: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"decay=1\.1"):
        MovingAverage(LocalModel(nano, CPU), 1.1)
    MovingAverage(LocalModel(nano, CPU)).checkpoint(tmp_path)
    with pytest.raises(InputError, match="average of another model"):
        MovingAverage(LocalModel(nano, CPU, heads=HEAD)).restore(tmp_path)
