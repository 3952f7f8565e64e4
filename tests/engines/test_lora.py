"""A low-rank adapter is ``W + s B A``: in its gradients, in what is sampled, in what is written for others to load."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModelForCausalLM

from burnish.core.losses import NLL
from burnish.data.batching import collate
from burnish.engines.local import Engine, LocalModel
from burnish.engines.lora import LoRA, LoRALinear, adapt
from burnish.errors import InputError
from burnish.types import Batch
from rows import rollout
from tiny import perturbed, plain_logprobs, plain_network, three_token_model

EXACT = Engine(dtype="float64", device="cpu", adapter=LoRA(rank=3, alpha=5.0))
TWO_LAYERS = {"num_hidden_layers": 2, "attention_bias": True}


def layer(dtype: torch.dtype, bias: bool = True) -> LoRALinear:
    """A layer of 7 -> 5 with B away from its starting point."""
    generator = torch.Generator().manual_seed(0)
    linear = nn.Linear(7, 5, bias=bias, dtype=dtype)
    with torch.no_grad():
        for parameter in linear.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    found = LoRALinear(linear, LoRA(rank=3, alpha=5.0), generator)
    with torch.no_grad():
        found.lora_b.normal_(generator=generator)
    found.merge()
    return found


def batch() -> Batch:
    rows = [rollout(4, tokens=(0, 1, 1, 2), prompt=(1, 0)), rollout(2, tokens=(1, 0), prompt=(1, 0), episode=1)]
    return NLL().prepare(collate([*rows, rollout(3, tokens=(0, 0, 1), prompt=(2,), group=1, episode=2)]))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers with attention biases, as Qwen has them."""
    return three_token_model(tmp_path_factory.mktemp("lora"), **TWO_LAYERS)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(4, 7), (2, 3, 7)])
def test_gradients_equal_autograd_through_the_merged_matrix(shape: tuple[int, ...], bias: bool) -> None:
    adapted = layer(torch.float64, bias)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(*shape[:-1], 5, generator=generator, dtype=torch.float64)
    leaves = (x, adapted.lora_a, adapted.lora_b)
    matrix = adapted.base + adapted.scale * adapted.lora_b @ adapted.lora_a
    expected = F.linear(x, matrix, adapted.bias)
    found = adapted(x)
    assert torch.allclose(found, expected, rtol=1e-13, atol=1e-13)
    for got, wanted in zip(
        torch.autograd.grad((found * upstream).sum(), leaves),
        torch.autograd.grad((expected * upstream).sum(), leaves),
        strict=True,
    ):
        assert torch.allclose(got, wanted, rtol=1e-12, atol=1e-13)


def test_the_whole_models_gradient_equals_autograd_through_the_plain_network(directory: Path) -> None:
    model, plain = perturbed(LocalModel(directory, EXACT)), plain_network(directory)
    data = batch()
    model.forward_backward(data, NLL())
    parameters: dict[str, Tensor] = dict(plain.named_parameters())
    for name, adapted in model.adapted.items():
        leaves = [p.detach().requires_grad_() for p in (adapted.lora_a, adapted.lora_b)]
        parameters[f"{name}.weight"] = adapted.base + adapted.scale * leaves[1] @ leaves[0]
        parameters |= {f"{name}/a": leaves[0], f"{name}/b": leaves[1]}
    merged = {name: value for name, value in parameters.items() if "/" not in name}
    rows = zip(data.prompts, data.tokens.tolist(), data.lengths.tolist(), strict=True)
    terms = [plain_logprobs(plain, p.tolist(), tokens[:n], merged).sum() for p, tokens, n in rows]
    (-torch.stack(terms).sum() / 9).backward()
    assert len(model.adapted) == 14
    for name, adapted in model.adapted.items():
        for got, leaf in ((adapted.lora_a, "a"), (adapted.lora_b, "b")):
            expected = parameters[f"{name}/{leaf}"].grad
            assert got.grad is not None and expected is not None
            assert (got.grad - expected).norm().item() < 1e-10 * expected.norm().item()


def test_nothing_but_the_adapter_is_trained(directory: Path) -> None:
    model = LocalModel(directory, EXACT)
    assert {name.rpartition(".")[2] for name in model.masters.params} == {"lora_a", "lora_b"}
    kept = {n: w.clone() for n, w in model.weights().items() if n.removesuffix(".weight") not in model.adapted}
    bases = [adapted.base.clone() for adapted in model.adapted.values()]
    for _ in range(2):
        model.forward_backward(batch(), NLL())
        model.optim_step(0.01)
    assert all(torch.equal(model.weights()[name], value) for name, value in kept.items())
    for base, adapted in zip(bases, model.adapted.values(), strict=True):
        assert torch.equal(base, adapted.base) and not torch.equal(adapted.weight, base)
    adapter = 3 * sum(sum(adapted.base.shape) for adapted in model.adapted.values())
    total = sum(p.numel() for p in plain_network(directory).parameters())
    assert model.parameter_counts() == (adapter, total)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_a_fresh_adapter_changes_nothing(directory: Path, dtype: str) -> None:
    plain = LocalModel(directory, replace(EXACT, dtype=dtype, adapter=None))
    adapted = LocalModel(directory, replace(EXACT, dtype=dtype))
    for layer_ in adapted.adapted.values():
        layer_.merge()
    assert torch.equal(plain.forward(batch()).logprobs, adapted.forward(batch()).logprobs)


def test_seeds_and_starting_points(directory: Path) -> None:
    """A starts random, from the seed alone; B starts at zero; no two layers start alike."""
    one, same, other = (LocalModel(directory, EXACT, seed=seed) for seed in (0, 0, 1))
    for name in one.adapted:
        a = one.adapted[name].lora_a
        assert torch.equal(a, same.adapted[name].lora_a) and not torch.equal(a, other.adapted[name].lora_a)
        assert (one.adapted[name].lora_b == 0).all() and a.std() > 0
    starts = [adapted.lora_a for adapted in one.adapted.values() if adapted.lora_a.shape == (3, 16)]
    assert len({tuple(a.flatten().tolist()) for a in starts}) == len(starts) > 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_merged_matrix_and_merging_again(dtype: torch.dtype) -> None:
    adapted = layer(dtype)
    exact = adapted.base.double() + 5 / 3 * adapted.lora_b.double() @ adapted.lora_a.double()
    rounding = 4 * torch.finfo(dtype).eps * exact.abs().max().item()
    assert (adapted.weight.double() - exact).abs().max().item() <= rounding
    first = adapted.weight.clone()
    for _ in range(3):
        adapted.merge()
    assert torch.equal(adapted.weight, first), "merging must start from the untouched base"


def test_bf16_merges_in_float32_and_rounds_once() -> None:
    """Each merged entry is the bf16 number nearest to the exact sum (up to the rounding of the float32 sum)."""
    adapted = layer(torch.bfloat16)
    assert adapted.lora_a.dtype == adapted.lora_b.dtype == torch.float32 and adapted.weight.dtype == torch.bfloat16
    exact = adapted.base.double() + 5 / 3 * adapted.lora_b.double() @ adapted.lora_a.double()
    half_a_unit = exact.abs() * 2**-8
    assert ((adapted.weight.double() - exact).abs() <= half_a_unit + 1e-6).all()


def test_training_and_sampling_use_one_matrix(directory: Path) -> None:
    """With and without gradient, the forward pass is the same to the bit."""
    model = perturbed(LocalModel(directory, replace(EXACT, dtype="float32")))
    data = batch()
    with_gradient = model.outputs(data).logprobs
    assert with_gradient.requires_grad
    assert torch.equal(with_gradient.detach(), model.forward(data).logprobs)


def test_only_the_last_layers(directory: Path) -> None:
    model = LocalModel(directory, replace(EXACT, adapter=LoRA(rank=2, layers=1)))
    assert len(model.adapted) == 7 and all(".layers.1." in name for name in model.adapted)
    assert len(LocalModel(directory, replace(EXACT, adapter=LoRA(rank=2, layers=2))).adapted) == 14
    model.forward_backward(batch(), NLL())
    assert all(p.grad is not None for p in model.masters.params.values())


def test_a_network_without_numbered_layers_is_an_error() -> None:
    with pytest.raises(InputError, match=r"\.layers\.N\."):
        adapt(nn.Sequential(nn.Linear(2, 2)), LoRA(), torch.Generator())


@pytest.mark.parametrize("layers", [0, 1])
def test_the_exported_model_keeps_everything_the_adapter_did_not_touch(
    directory: Path, tmp_path: Path, layers: int
) -> None:
    """Merged weights, and also the biases of adapted layers."""
    adapter = LoRA(rank=3, alpha=5.0, layers=layers)
    model = perturbed(LocalModel(directory, replace(EXACT, dtype="float32", adapter=adapter)))
    model.export(tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    original = dict(plain_network(directory).named_parameters())
    written = dict(plain.named_parameters())
    assert written.keys() == original.keys() == model.weights().keys()
    for name, value in original.items():
        if name.removesuffix(".weight") not in model.adapted:
            assert torch.equal(written[name].double(), value), name


@pytest.mark.parametrize("layers", [0, 1])
def test_the_exported_adapter_loads_in_peft(directory: Path, tmp_path: Path, layers: int) -> None:
    peft = pytest.importorskip("peft", reason="needs `pip install peft`")
    adapter = LoRA(rank=3, alpha=5.0, layers=layers)
    model = perturbed(LocalModel(directory, replace(EXACT, dtype="float32", adapter=adapter)))
    model.export(tmp_path)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(directory) and config["r"] == 3 and config["lora_alpha"] == 5.0
    base = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    loaded = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    data = batch()
    live = model.forward(data).logprobs
    before = LocalModel(directory, replace(EXACT, dtype="float32", adapter=None)).forward(data).logprobs
    for row, (prompt, n) in enumerate(zip(data.prompts, data.lengths.tolist(), strict=True)):
        with torch.no_grad():
            found = plain_logprobs(loaded, prompt.tolist(), data.tokens[row, :n].tolist())
        assert torch.allclose(found, live[row, :n], atol=1e-5)
    assert (live - before).abs().max().item() > 0.05, "the adapter does nothing, so nothing was compared"
