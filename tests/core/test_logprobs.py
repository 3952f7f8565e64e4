"""The chunked head against the two lines it stands for, in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from burnish.core import logprobs
from burnish.core.logprobs import log_softmax_chunks, predictor_index, token_logprobs

N, D, V = 7, 5, 11


def naive(hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    full = torch.log_softmax(hidden @ weight.T / temperature, -1)
    return full[torch.arange(len(targets)), targets], -(full.exp() * full).sum(-1)


def inputs(seed: int = 0, scale: float = 1.0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hidden = (torch.randn(N, D, generator=generator, dtype=torch.float64) * scale).to(dtype).requires_grad_()
    weight = torch.randn(V, D, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    return hidden, weight, torch.randint(V, (N,), generator=generator)


def close(got: Tensor, expected: Tensor, tolerance: float = 1e-12) -> bool:
    return (got - expected).norm().item() <= tolerance * max(1.0, expected.norm().item())


@pytest.mark.parametrize("chunk", [1, V, 2 * V + 3, 3 * V, N * V, 2**24])
@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.7])
def test_values_and_gradients_are_those_of_log_softmax(
    monkeypatch: pytest.MonkeyPatch, chunk: int, temperature: float
) -> None:
    monkeypatch.setattr(logprobs, "CHUNK_ELEMENTS", chunk)
    hidden, weight, targets = inputs()
    up = torch.Generator().manual_seed(1)
    upstream = torch.randn(2, N, generator=up, dtype=torch.float64)
    pairs = [f(hidden, weight, targets, temperature) for f in (token_logprobs, naive)]
    for got, expected in zip(*pairs, strict=True):
        assert close(got, expected)
    grads = [torch.autograd.grad((torch.stack(p) * upstream).sum(), (hidden, weight)) for p in pairs]
    for got, expected in zip(*grads, strict=True):
        assert close(got, expected)


def test_gradcheck_of_log_probability_and_entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logprobs, "CHUNK_ELEMENTS", 2 * V)
    hidden, weight, targets = inputs(3)
    for place in (0, 1):
        assert torch.autograd.gradcheck(lambda h, w, p=place: token_logprobs(h, w, targets, 0.8)[p], (hidden, weight))


@pytest.mark.parametrize("wanted", ["hidden", "weight"])
def test_a_gradient_that_is_not_wanted_is_not_needed(wanted: str) -> None:
    hidden, weight, targets = inputs(4)
    frozen = (weight if wanted == "hidden" else hidden).requires_grad_(False)
    leaf = hidden if wanted == "hidden" else weight
    got = torch.autograd.grad(token_logprobs(hidden, weight, targets)[0].sum(), leaf)[0]
    assert close(got, torch.autograd.grad(naive(hidden, weight, targets, 1.0)[0].sum(), leaf)[0])
    assert not frozen.requires_grad


@given(st.integers(0, 10**6), st.floats(0.01, 200.0), st.floats(0.2, 5.0))
@settings(deadline=None, max_examples=40, derandomize=True)
def test_probabilities_are_a_distribution_at_any_scale(seed: int, scale: float, temperature: float) -> None:
    """Logits of many hundreds neither overflow nor lose the sum; the entropy lies between 0 and log V."""
    hidden, weight, _ = inputs(seed, scale)
    with torch.no_grad():
        every = [token_logprobs(hidden, weight, torch.full((N,), v), temperature) for v in range(V)]
    total = torch.stack([p for p, _ in every]).exp().sum(0)
    assert close(total, torch.ones(N, dtype=torch.float64))
    entropy = every[0][1]
    assert bool(((entropy > -1e-9) & (entropy < torch.tensor(V).log() + 1e-9)).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision_sums_in_float32(dtype: torch.dtype) -> None:
    hidden, weight, targets = inputs(5, dtype=dtype)
    got, entropy = token_logprobs(hidden, weight, targets)
    assert got.dtype == entropy.dtype == torch.float32
    rounded = (hidden @ weight.T).double()  # logits as the hardware returns them
    assert close(got.double(), torch.log_softmax(rounded, -1)[torch.arange(N), targets], 1e-6)
    got.sum().backward()
    assert hidden.grad is not None and hidden.grad.dtype == dtype
    assert weight.grad is not None and weight.grad.dtype == dtype


def test_the_full_distribution_is_the_one_tokens_are_scored_by(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logprobs, "CHUNK_ELEMENTS", 2 * V)
    hidden, weight, targets = inputs(6)
    with torch.no_grad():
        pieces = log_softmax_chunks(hidden, weight, 0.7)
        assert [rows.stop - rows.start for rows, _ in pieces] == [2, 2, 2, 1]
        full = torch.cat([piece for _, piece in pieces])
        assert torch.equal(full[torch.arange(N), targets], token_logprobs(hidden, weight, targets, 0.7)[0])


def test_no_tokens_give_nothing() -> None:
    hidden, weight, _ = inputs()
    got, entropy = token_logprobs(hidden[:0], weight, torch.zeros(0, dtype=torch.long))
    assert got.shape == entropy.shape == (0,)


def test_the_first_token_is_predicted_by_the_prompt_and_each_other_by_the_one_before() -> None:
    assert predictor_index(4, 9, 3).tolist() == [4, 9, 10]
    assert predictor_index(0, 1, 1).tolist() == [0]
