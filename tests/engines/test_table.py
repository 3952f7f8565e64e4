"""The lookup table as a language model: what it says is the tabular policy, whoever asks and however it was stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from burnish.core import keys
from burnish.data.batching import collate
from burnish.engines.decode import LocalSampler
from burnish.engines.local import Engine, LocalModel
from burnish.engines.table import END, build_table, policy_of, save_table, vocabulary
from burnish.errors import InputError
from burnish.tabular import exact
from burnish.tabular.worlds import ARROWS, SIX_STEPS, Grid
from burnish.types import Completion, Head, Outputs, Request, Rollout, Sampling
from rows import rollout
from tiny import plain_network

CELLS, MOVES = SIX_STEPS.permitted.shape
THETA = np.random.Generator(np.random.Philox(3)).normal(size=(CELLS, MOVES)) * 2
"""Logits far from uniform; those of moves that are not permitted are never written."""


def load(directory: Path, dtype: str = "float64", heads: dict[str, Head] | None = None) -> LocalModel:
    return LocalModel(directory, Engine(dtype=dtype, device="cpu"), heads=heads)


def set_policy(model: LocalModel, theta: np.ndarray, world: Grid = SIX_STEPS) -> None:
    with torch.no_grad():
        view = policy_of(model.head_weight, world)
        allowed = torch.from_numpy(world.permitted)
        view[allowed] = torch.from_numpy(theta)[allowed].to(view.dtype)


def every_step() -> list[Rollout]:
    """One row for each cell and move, permitted or not."""
    return [
        rollout(1, prompt=(MOVES + s,), tokens=(a,), episode=s * MOVES + a, group=s)
        for s in range(CELLS)
        for a in range(MOVES)
    ]


def outputs(model: LocalModel) -> Outputs:
    return model.forward(collate(every_step()))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    build_table(tmp_path / "m", SIX_STEPS)
    return tmp_path / "m"


def test_it_starts_uniform_over_permitted_moves_and_never_does_anything_else(directory: Path) -> None:
    model = load(directory)
    found = outputs(model)
    policy = found.logprobs.exp().view(CELLS, MOVES)
    torch.testing.assert_close(policy, torch.from_numpy(exact.uniform(SIX_STEPS)), rtol=0, atol=1e-15)
    assert bool((policy[~torch.from_numpy(SIX_STEPS.permitted)] == 0).all()), "exactly 0"
    entropy = torch.from_numpy(np.log(SIX_STEPS.permitted.sum(1))).repeat_interleave(MOVES)
    torch.testing.assert_close(found.entropy[:, 0], entropy, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_its_distribution_is_a_distribution_in_every_precision(directory: Path, dtype: str) -> None:
    found = outputs(load(directory, dtype))
    assert bool(torch.isfinite(found.logprobs).all() & torch.isfinite(found.entropy).all())
    sums = found.logprobs.exp().view(CELLS, MOVES).sum(1)
    torch.testing.assert_close(sums, torch.ones_like(sums), rtol=0, atol=1e-6)


def test_its_logprobs_are_the_tabular_softmax(directory: Path) -> None:
    model = load(directory)
    set_policy(model, THETA)
    policy = exact.softmax(SIX_STEPS, THETA)
    found = outputs(model)
    allowed = torch.from_numpy(SIX_STEPS.permitted).flatten()
    wanted = torch.from_numpy(policy).flatten()
    torch.testing.assert_close(found.logprobs[:, 0][allowed], wanted[allowed].log(), rtol=0, atol=1e-12)
    assert bool((found.logprobs[:, 0][~allowed].exp() == 0).all())
    entropy = -np.where(policy > 0, policy * np.log(np.where(policy > 0, policy, 1)), 0).sum(1)
    torch.testing.assert_close(found.entropy[::MOVES, 0], torch.from_numpy(entropy), rtol=0, atol=1e-12)


def test_transformers_computes_the_same(directory: Path) -> None:
    model = load(directory)
    set_policy(model, THETA)
    out = directory.parent / "out"
    out.mkdir()
    model.export(out)
    tokens = torch.arange(MOVES, MOVES + CELLS)[None]
    logits = plain_network(out)(tokens).logits[0, :, :MOVES]
    allowed = torch.from_numpy(SIX_STEPS.permitted)
    assert torch.equal(logits[allowed], policy_of(model.head_weight, SIX_STEPS)[allowed])
    assert (out / "config.json").read_text().count("burnish-table") == 1


def test_what_comes_before_the_last_token_does_not_matter(directory: Path) -> None:
    model = load(directory, heads={"value": Head()})
    set_policy(model, THETA)
    cell, move = MOVES + 2, 1
    histories = [(cell,), (MOVES, 1, MOVES + 1, 1, cell), (MOVES + 5, 0, cell)]
    rows = [rollout(2, prompt=h, tokens=(move, MOVES + 3), episode=i, group=i) for i, h in enumerate(histories)]
    found = model.forward(collate(rows))
    assert len({tuple(line.tolist()) for line in found.logprobs}) == 1
    assert len({tuple(line.tolist()) for line in found.heads["value"]}) == 1


def test_a_head_beside_it_is_a_table_of_values(directory: Path) -> None:
    model = load(directory, heads={"value": Head()})
    head = model.heads["value"]
    assert not bool(head.bias.any())
    with torch.no_grad():
        head.weight.copy_(torch.arange(len(vocabulary(SIX_STEPS)))[None])
    assert outputs(model).heads["value"][::MOVES, 0].tolist() == [MOVES + s for s in range(CELLS)]


def test_the_table_is_all_that_is_trained_and_impossible_moves_stay_impossible(directory: Path) -> None:
    model = load(directory)
    size = len(vocabulary(SIX_STEPS))
    assert model.parameter_counts() == (size * size, size * size) and list(model.masters.params) == ["lm_head.weight"]
    before = model.head_weight.detach().clone()

    def likelier(outputs: Outputs, batch: object) -> tuple[Tensor, dict[str, tuple[float, float]]]:  # noqa: ARG001
        return -outputs.logprobs[1].sum() - outputs.entropy.sum(), {}

    model.forward_backward(collate(every_step()), likelier)
    model.optim_step(0.5)
    change = policy_of(model.head_weight.detach() - before, SIX_STEPS)
    assert bool(torch.isfinite(model.head_weight).all())
    assert bool((change[~torch.from_numpy(SIX_STEPS.permitted)] == 0).all()) and bool((change[0] != 0).any())


def test_it_comes_back_from_disk_to_the_bit(directory: Path, tmp_path: Path) -> None:
    model = load(directory, "float32")
    set_policy(model, THETA)
    out = tmp_path / "out"
    out.mkdir()
    model.export(out)
    again = load(out, "float32")
    assert torch.equal(again.head_weight, model.head_weight)
    assert again.chat.encode_prompt([{"role": "user", "content": "(0,0)"}]) == (MOVES,)
    assert again.chat.eos_ids == model.chat.eos_ids == {len(vocabulary(SIX_STEPS)) - 1}


def test_every_token_is_one_id_and_reads_as_itself(directory: Path) -> None:
    chat, tokens = load(directory).chat, vocabulary(SIX_STEPS)
    assert tokens[:MOVES] == tuple(ARROWS) and tokens[MOVES] == "(0,0)" and tokens[-1] == END
    path = "(0,0)→(0,1)↓"
    assert chat.encode_prompt([{"role": "user", "content": path}]) == tuple(
        map(tokens.index, ("(0,0)", "→", "(0,1)", "↓"))
    )
    assert chat.decode(range(len(tokens)), special=True) == "".join(tokens)


def drawn(sampler: LocalSampler, prompts: list[tuple[int, ...]], limit: int) -> list[Completion]:
    requests = [Request(p, keys.derive("table", i), Sampling(max_tokens=limit)) for i, p in enumerate(prompts)]
    return sorted(sampler.sample(requests), key=lambda c: c.index)


def test_the_sampler_draws_moves_from_it_without_a_cache(directory: Path) -> None:
    model = load(directory)
    set_policy(model, THETA)
    prompts = [(MOVES + s,) for s in range(CELLS) for _ in range(200)]
    found = drawn(LocalSampler(model), prompts, limit=5)
    assert all(c.tokens[1:] == (len(vocabulary(SIX_STEPS)) - 1,) and c.finish == "eos" for c in found)
    counts = np.zeros((CELLS, MOVES))
    for prompt, completion in zip(prompts, found, strict=True):
        counts[prompt[0] - MOVES, completion.tokens[0]] += 1
    policy = exact.softmax(SIX_STEPS, THETA)
    assert not counts[~SIX_STEPS.permitted].any()
    assert np.abs(counts / 200 - policy).max() < 5 * 0.5 / 200**0.5


def test_rows_that_end_at_different_times_agree_with_the_trainer(tmp_path: Path) -> None:
    """A table whose text goes on: rows leave the batch one by one, and prompts have different lengths."""
    tokens = ("a", "b", "c", END)
    save_table(tmp_path / "m", tokens, torch.randn(4, 4, generator=torch.Generator().manual_seed(1)))
    model = load(tmp_path / "m")
    prompts = [(0,), (1, 2), (2, 0, 1)] * 20
    found = drawn(LocalSampler(model), prompts, limit=8)
    assert len({len(c.tokens) for c in found}) > 3
    rows = [
        Rollout(p, c.tokens, (True,) * len(c.tokens), c.logprobs, (), group=i, episode=i)
        for i, (p, c) in enumerate(zip(prompts, found, strict=True))
    ]
    batch = collate(rows)
    torch.testing.assert_close(model.forward(batch).logprobs, batch.sampler_logprobs, rtol=0, atol=1e-12)


def test_a_table_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 tokens need a table of 2 x 2 finite logits"):
        save_table(tmp_path, ("a", END), torch.zeros(2, 3))
    with pytest.raises(InputError, match="finite"):
        save_table(tmp_path, ("a", END), torch.full((2, 2), -torch.inf))
