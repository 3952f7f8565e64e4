"""Two models side by side, against their full distributions computed without packing, in float64."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from burnish.data.batching import collate
from burnish.engines.local import Engine, LocalModel
from burnish.engines.shifts import shifts
from burnish.errors import InputError
from burnish.types import Batch
from rows import rollout
from tiny import model, plain_distributions, plain_network

LETTERS = "abcdefgh."
EXACT = Engine(dtype="float64", device="cpu")
ROWS = {(0, 1): (3, 4, 5, 6, 8), (2,): (7, 7), (0, 1, 2): (1, 2, 3)}


def batch() -> Batch:
    return collate(
        [
            rollout(len(tokens), tokens=tokens, prompt=prompt, group=i, episode=i)
            for i, (prompt, tokens) in enumerate(ROWS.items())
        ]
    )


def dense(directory: Path, size: int = len(LETTERS)) -> list[Tensor]:
    """Row by row [T, V] log-probs over the first ``size`` ids."""
    network = plain_network(directory)
    with torch.no_grad():
        found = [plain_distributions(network, prompt, tokens)[:, :size] for prompt, tokens in ROWS.items()]
    return [row.log_softmax(-1) for row in found]


@pytest.mark.parametrize("budget", [1, 12, 8192])
@pytest.mark.parametrize("padding", [0, 3], ids=["same heads", "padded head"])
def test_ranks_and_divergences_are_those_of_the_full_distributions(tmp_path: Path, budget: int, padding: int) -> None:
    homes = (
        model(tmp_path / "a", LETTERS, ".", seed=1),
        model(tmp_path / "b", LETTERS, ".", seed=2, vocab_size=len(LETTERS) + padding),
    )
    engine = Engine(dtype="float64", device="cpu", token_budget=budget)
    found = shifts(LocalModel(homes[0], engine), LocalModel(homes[1], engine), batch())
    for i, (p, q, tokens) in enumerate(zip(dense(homes[0]), dense(homes[1]), ROWS.values(), strict=True)):
        size = len(tokens)
        row = found.row(i, size)
        for got, full in ((row.ranks, p), (row.own_ranks, q)):
            places = full.argsort(-1, descending=True).tolist()
            assert got.tolist() == [order.index(token) + 1 for order, token in zip(places, tokens, strict=True)]
        assert row.favourites.tolist() == p.argmax(-1).tolist()
        torch.testing.assert_close(row.kl, (q.exp() * (q - p)).sum(-1), rtol=0, atol=1e-10)
        torch.testing.assert_close(row.kl_back, (p.exp() * (p - q)).sum(-1), rtol=0, atol=1e-10)
        assert not any(bool(values[i, size:].any()) for values in vars(found).values()), "nothing past the end of a row"


def test_a_model_is_no_distance_from_itself(tmp_path: Path) -> None:
    home = model(tmp_path / "a", LETTERS, ".", seed=1)
    found = shifts(LocalModel(home, EXACT), LocalModel(home, EXACT), batch())
    assert torch.equal(found.ranks, found.own_ranks)
    assert float(found.kl.abs().max()) < 1e-9 and float(found.kl_back.abs().max()) < 1e-9


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    base = LocalModel(model(tmp_path / "a", LETTERS, "."), EXACT)
    other = LocalModel(model(tmp_path / "b", LETTERS.upper(), "."), EXACT)
    with pytest.raises(InputError, match=r"different tokenizers.* choose models of one family"):
        shifts(base, other, batch())
    short = LocalModel(model(tmp_path / "c", LETTERS, ".", max_position_embeddings=6), EXACT)
    with pytest.raises(InputError, match=r"a row of 7 tokens is longer than the context of .*/c: 6"):
        shifts(short, base, batch())
    broken = LocalModel(tmp_path / "a", EXACT)
    with torch.no_grad():
        broken.head_weight[2] = torch.nan
    with pytest.raises(InputError, match="not finite"):
        shifts(base, broken, batch())
