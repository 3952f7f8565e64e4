"""Packed rows with shared prompts see what each row sees alone in the plain transformers network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoModelForCausalLM, MistralConfig

from burnish.data.batching import collate
from burnish.engines.attention import Decode, Packed, compact_order
from burnish.engines.local import Engine, LocalModel, load_network
from burnish.errors import InputError
from rows import rollout
from tiny import plain_network, three_token_model

EXACT = Engine(dtype="float64", device="cpu")
SHAPES = [
    ([3, 3, 5, 3], [4, 1, 2, 6]),  # three rows share a prompt, one stands alone
    ([1, 1], [1, 1]),
    ([7], [3]),
    ([2, 4, 2, 4, 2], [3, 5, 1, 2, 8]),  # interleaved
]


def rows(prompts: list[int], lengths: list[int], vocabulary: int) -> tuple[list[Tensor], list[Tensor]]:
    """Prompts of equal size are equal; completions are not."""
    generator = torch.Generator().manual_seed(0)
    by_size = {size: torch.randint(vocabulary, (size,), generator=generator) for size in sorted(set(prompts))}
    return [by_size[size] for size in prompts], [torch.randint(vocabulary, (n,), generator=generator) for n in lengths]


@pytest.fixture(scope="module", params=["nano", "grouped-query"])
def directory(request: pytest.FixtureRequest, nano: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``nano``, and a model of two layers whose four query heads share two key heads."""
    if request.param == "nano":
        return nano
    shape = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    return three_token_model(tmp_path_factory.mktemp("grouped"), **shape)


@pytest.mark.parametrize(("attention", "tolerance"), [("eager", 1e-6), ("sdpa", 1e-12)])
@pytest.mark.parametrize(("prompts", "lengths"), SHAPES)
def test_packed_states_are_those_of_each_row_alone(
    directory: Path, attention: str, tolerance: float, prompts: list[int], lengths: list[int]
) -> None:
    """The eager attention of transformers takes its softmax in float32, hence its wider tolerance."""
    model, plain = LocalModel(directory, EXACT), plain_network(directory, attention)
    heads, tails = rows(prompts, lengths, model.head_weight.shape[0])
    packed = Packed.of(heads, tails)
    assert len(packed.tokens) == sum(set(prompts)) + sum(lengths), "a prompt was read twice"
    with torch.no_grad():
        states = model.hidden(packed.tokens[None], packed.positions[None], packed)[0][packed.predictors]
    at = 0
    for row in packed.rows:
        ids = torch.cat([heads[row], tails[row]])[None]
        with torch.no_grad():
            alone = plain.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state[0]
        expected = alone[len(heads[row]) - 1 : -1]
        found = states[at : at + len(expected)]
        assert (found - expected).abs().max().item() < tolerance * expected.abs().max().item()
        at += len(expected)
    assert at == len(states)


def test_a_layout_written_out() -> None:
    """[P P a a a | Q b] for rows (P, a..), (Q, b), (P, c): the shared prompt first, its completions behind it."""
    p, q = torch.tensor([1, 2]), torch.tensor([3])
    packed = Packed.of([p, q, p], [torch.tensor([4, 5, 6]), torch.tensor([7]), torch.tensor([8])])
    assert packed.tokens.tolist() == [1, 2, 4, 5, 6, 8, 3, 7]
    assert packed.positions.tolist() == [0, 1, 2, 3, 4, 2, 0, 1]
    assert packed.predictors.tolist() == [1, 2, 3, 1, 6]
    assert packed.rows == (0, 2, 1) and packed.longest == 5


def test_a_layout_of_rows_that_are_apart() -> None:
    """[P a a | Q b | P c]: every row has a copy of its prompt."""
    p, q = torch.tensor([1, 2]), torch.tensor([3])
    packed = Packed.of([p, q, p], [torch.tensor([4, 5]), torch.tensor([7]), torch.tensor([8])], apart=True)
    assert packed.tokens.tolist() == [1, 2, 4, 5, 3, 7, 1, 2, 8]
    assert packed.positions.tolist() == [0, 1, 2, 3, 0, 1, 0, 1, 2]
    assert packed.rows == (0, 1, 2) and packed.predictors.tolist() == [1, 2, 4, 7]


def test_what_belongs_to_tokens_goes_into_the_layout_and_comes_back() -> None:
    """Rows 0 to 4 lie in the order 0 3 1 4 2, which is not its own inverse."""
    prompts = [(1,), (2,), (3,), (1,), (2,)]
    batch = collate([rollout(n, prompt=prompts[i], episode=i) for i, n in enumerate((2, 1, 1, 1, 2))])
    packed = Packed.rows_of(batch)
    values = 1 + torch.arange(20).view(5, 2, 2)
    flat = packed.flat(values)
    assert flat[:, 0].tolist() == [1, 3, 13, 5, 17, 19, 9]
    valid = torch.arange(2) < batch.lengths[:, None]
    assert torch.equal(packed.unflat(flat, 2), values * valid[..., None])


def test_an_empty_completion_beside_others_is_no_token(nano: Path) -> None:
    """A dialogue whose only trained token is its first has nothing left to predict; its neighbours are unharmed."""
    model = LocalModel(nano, EXACT)
    for order in ((0, 3), (3, 0), (2, 0, 3)):
        batch = collate([rollout(n, episode=i) for i, n in enumerate(order)])
        outputs = model.forward(batch)
        for row, n in enumerate(order):
            alone = model.forward(collate([rollout(n)])).logprobs[0] if n else torch.zeros(0)
            assert torch.allclose(outputs.logprobs[row, :n], alone.to(torch.float64), rtol=1e-10)
            assert (outputs.logprobs[row, n:] == 0).all()


def test_the_decoding_cache_continues_what_prefill_read(directory: Path) -> None:
    """Token by token through the cache, rows of different prompts side by side = one plain pass over each row."""
    model, plain = LocalModel(directory, EXACT), plain_network(directory)
    heads, tails = rows([4, 2, 4, 3], [5, 5, 5, 5], model.head_weight.shape[0])
    distinct = [heads[0], heads[1], heads[3]]
    packed = Packed.of(distinct, [torch.zeros(0, dtype=torch.long)] * 3, keep=True)
    with torch.no_grad():
        model.hidden(packed.tokens[None], packed.positions[None], packed)
        cache = Decode.after(packed, [0, 1, 0, 2], 5)
        live = [0, 1, 2, 3]
        for step in range(5):
            tokens = torch.stack([tails[row][step] for row in live])[:, None]
            positions = torch.tensor([[len(heads[row]) + step] for row in live])
            states = model.hidden(tokens, positions, cache)[:, 0]
            cache.column += 1
            for place, row in enumerate(live):
                ids = torch.cat([heads[row], tails[row][: step + 1]])[None]
                alone = plain.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state[0, -1]
                assert (states[place] - alone).abs().max().item() < 1e-12 * alone.abs().max().item()
            if step in (1, 2):  # two rows finish, one after the other: the first, then the last
                kept = list(range(1, len(live))) if step == 1 else list(range(len(live) - 1))
                cache.retain(torch.tensor(kept))
                live = [live[i] for i in compact_order(kept)]


@given(st.sets(st.integers(0, 20)))
@settings(deadline=None, max_examples=100, derandomize=True)
def test_compaction_moves_only_what_fills_a_gap(kept: set[int]) -> None:
    order = compact_order(sorted(kept))
    assert sorted(order) == sorted(kept)
    assert all(order[row] == row for row in kept if row < len(kept))


def test_attention_that_is_not_implemented_is_an_error_that_names_the_way_out(tmp_path: Path) -> None:
    """A sliding window of four tokens: fine while everything fits, refused beyond."""
    three_token_model(tmp_path)
    config = MistralConfig(
        vocab_size=3, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, sliding_window=4, bos_token_id=None, eos_token_id=2,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    model = LocalModel(tmp_path, EXACT)
    model.forward(collate([rollout(2, tokens=(0, 1), prompt=(0, 1))]))
    with pytest.raises(InputError, match=r"window \(4 tokens\)"):
        model.forward(collate([rollout(3, tokens=(0, 1, 0), prompt=(0, 1))]))


def test_soft_capped_logits_are_refused(tmp_path: Path) -> None:
    three_token_model(tmp_path)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace("{", '{\n  "final_logit_softcapping": 30.0,', 1))
    with pytest.raises(InputError, match="soft-capped"):
        load_network(tmp_path, "float32", "cpu")
