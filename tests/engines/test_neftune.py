"""NEFTune: the noise that training sees, row by row, and that nobody else does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from burnish.core import keys
from burnish.core.losses import NLL
from burnish.data.batching import collate, micro_batches
from burnish.engines.local import Engine, LocalModel
from burnish.engines.lora import LoRA
from burnish.engines.neftune import SEEDS, noise, seeded
from burnish.engines.table import save_table
from burnish.errors import InputError
from burnish.types import Batch, Outputs
from rows import rollout
from tiny import perturbed, plain_network

EXACT = Engine(dtype="float64", device="cpu")
ALPHA = 5.0
NOISY = replace(EXACT, neftune=ALPHA)
LENGTHS = (4, 2, 5, 1)
PROMPTS = ((40, 41, 42), (50, 51), (40, 41, 42), (40, 41, 42))


def data(key: int = 7) -> Batch:
    """Four rows, three of them with one prompt."""
    rows = [
        rollout(n, tokens=[20 + (i * 7 + t) % 50 for t in range(n)], prompt=PROMPTS[i], group=i % 2, episode=i)
        for i, n in enumerate(LENGTHS)
    ]
    return seeded(NLL().prepare(collate(rows)), key)


def step(model: LocalModel, batch: Batch) -> tuple[Outputs, dict[str, Tensor]]:
    _, outputs = model.forward_backward(batch, NLL())
    found = {name: p.grad.clone() for name, p in model.masters.params.items() if p.grad is not None}
    model.discard_gradient()
    return outputs, found


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return all((left[name] - value).norm() <= 1e-10 * value.norm() for name, value in right.items())


def noisy_row(network: Any, batch: Batch, row: int) -> Tensor:
    """[n] the log-probs of one row on its own, the noise added by the formula."""
    ids = torch.tensor([*PROMPTS[row], *batch.tokens[row, : LENGTHS[row]].tolist()])
    clean = network.get_input_embeddings()(ids)
    uniform = torch.from_numpy(keys.uniforms(int(batch.extra(SEEDS)[row]), clean.numel())).view(clean.shape)
    embeds = clean + ALPHA / (len(ids) * clean.shape[1]) ** 0.5 * (2 * uniform - 1)
    logits = network(inputs_embeds=embeds[None], use_cache=False).logits[0]
    start = len(PROMPTS[row])
    return torch.log_softmax(logits[start - 1 : -1], -1).gather(1, ids[start:, None])[:, 0]


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "recomputed"])
def test_training_is_that_of_the_plain_network_on_noisy_embeddings(nano: Path, checkpointing: bool) -> None:
    batch, plain = data(), plain_network(nano)
    outputs, found = step(LocalModel(nano, replace(NOISY, activation_checkpointing=checkpointing)), batch)
    rows = [noisy_row(plain, batch, row) for row in range(len(LENGTHS))]
    for row, expected in enumerate(rows):
        assert torch.allclose(outputs.logprobs[row, : LENGTHS[row]], expected, rtol=1e-10)
    (-torch.cat(rows).mean()).backward()
    expected_gradient = {name: p.grad for name, p in plain.named_parameters() if p.grad is not None}
    assert same(found, expected_gradient)


@pytest.mark.parametrize("engine", [NOISY, replace(NOISY, adapter=LoRA(rank=4))], ids=["full", "lora"])
def test_no_split_and_no_order_changes_the_gradient(nano: Path, engine: Engine) -> None:
    batch = data()
    outputs, whole = step(perturbed(LocalModel(nano, engine)), batch)
    for budget in (1, 14):
        assert len(micro_batches(batch, budget, apart=True)) > 1
        split, found = step(perturbed(LocalModel(nano, replace(engine, token_budget=budget))), batch)
        assert same(found, whole) and torch.allclose(split.logprobs, outputs.logprobs, rtol=1e-10)
    order = [2, 0, 3, 1]
    shuffled, found = step(perturbed(LocalModel(nano, engine)), batch.select(order))
    assert same(found, whole) and torch.allclose(shuffled.logprobs, outputs.logprobs[order], rtol=1e-10)


def test_a_step_repeats_to_the_bit_and_another_step_is_another_one(nano: Path) -> None:
    model = LocalModel(nano, NOISY)
    first, again, other = (step(model, data(key)) for key in (7, 7, 8))
    assert torch.equal(first[0].logprobs, again[0].logprobs)
    assert all(torch.equal(value, again[1][name]) for name, value in first[1].items())
    assert (first[0].logprobs - other[0].logprobs).abs().max() > 1e-3


def test_scoring_has_no_noise(nano: Path) -> None:
    batch, plain, noisy = data(), LocalModel(nano, EXACT), LocalModel(nano, NOISY)
    assert torch.equal(noisy.forward(batch).logprobs, plain.forward(batch).logprobs)
    assert (step(noisy, batch)[0].logprobs - plain.forward(batch).logprobs).abs().max() > 1e-3


def test_without_noise_training_is_the_plain_one_to_the_bit(nano: Path) -> None:
    model, batch = LocalModel(nano, replace(NOISY, neftune=0.0)), data()
    bare = replace(batch, extras={name: x for name, x in batch.extras.items() if name != SEEDS})
    left, right = step(model, batch), step(LocalModel(nano, EXACT), bare)
    assert torch.equal(left[0].logprobs, right[0].logprobs)
    assert all(torch.equal(value, right[1][name]) for name, value in left[1].items())


def test_the_noise_is_uniform_and_as_large_as_the_rows_length_says() -> None:
    width, batch = 64, data()
    sizes = [len(prompt) + n for prompt, n in zip(PROMPTS, LENGTHS, strict=True)]
    parts = noise(batch, range(4), width, ALPHA, torch.float32).split(sizes)
    for part, size in zip(parts, sizes, strict=True):
        bound = ALPHA / (size * width) ** 0.5
        assert part.shape == (size, width) and part.dtype == torch.float32
        assert 0.95 * bound < part.abs().max() <= bound and abs(part.mean().item()) < 0.1 * bound
        assert part.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
    assert not torch.equal(parts[0][:3] * sizes[0] ** 0.5, parts[2][:3] * sizes[2] ** 0.5), (
        "a prompt has no noise of its own"
    )
    assert torch.equal(noise(batch, [2, 0], width, ALPHA, torch.float32), torch.cat([parts[2], parts[0]]))


def test_seeds_are_those_of_the_row_and_the_key() -> None:
    seeds = [data(key).extra(SEEDS) for key in (7, 7, 8, keys.derive("any size"))]
    assert torch.equal(seeds[0], seeds[1]) and len(torch.unique(torch.cat(seeds[1:]))) == 12
    assert torch.equal(data(7).select([3, 1]).extra(SEEDS), seeds[0][[3, 1]])


def test_rows_without_seeds_are_refused(nano: Path) -> None:
    batch = replace(data(), extras={})
    with pytest.raises(InputError, match=r"engine\.neftune=0"):
        step(LocalModel(nano, NOISY), batch)


def test_a_model_without_embeddings_is_refused(tmp_path: Path) -> None:
    save_table(tmp_path, ("a", "b", "."), torch.zeros(3, 3))
    batch = seeded(NLL().prepare(collate([rollout(2, tokens=(1, 2), prompt=(0,))])), 0)
    with pytest.raises(InputError, match="no input embeddings"):
        step(LocalModel(tmp_path, NOISY), batch)


@pytest.mark.parametrize("alpha", [-1.0, float("inf"), float("nan")], ids=str)
def test_a_size_that_is_none_is_refused_where_it_is_written(alpha: float) -> None:
    with pytest.raises(ValueError, match="neftune"):
        Engine(neftune=alpha)
