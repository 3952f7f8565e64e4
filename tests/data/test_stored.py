"""What a teacher left of its distribution, to a file and back into a batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from burnish.data.stored import Stored, tensors
from burnish.data.units import Row, TopTokens, Unit, collate
from burnish.errors import InputError


def unit(prompt: int, tokens: int, k: int = 3) -> Unit:
    ids = torch.arange(tokens * k).reshape(tokens, k)
    teacher = TopTokens(ids, -(ids.float() + 1) / 7)
    mask = (*(True,) * (tokens - 1), False)
    return (Row(tuple(range(prompt)), tuple(range(5, 5 + tokens)), mask, teacher=teacher),)


def test_units_come_back_as_they_were(tmp_path: Path) -> None:
    units = [unit(2, 4), unit(3, 1), unit(1, 2)]
    save_file(tensors(units), tmp_path / "t.safetensors")
    found = Stored(tmp_path / "t.safetensors")
    assert len(found) == 3
    for (row,), (old,) in zip(found, units, strict=True):
        assert (row.prompt, row.tokens, row.mask) == (old.prompt, old.tokens, old.mask)
        assert row.teacher is not None and old.teacher is not None
        assert torch.equal(row.teacher.ids, old.teacher.ids) and torch.equal(row.teacher.logprobs, old.teacher.logprobs)


def test_a_batch_has_them_at_their_tokens_and_nothing_after_the_end() -> None:
    batch = collate([unit(2, 4), unit(3, 1)])
    ids, logprobs = batch.extra("ids"), batch.extra("teacher_logprobs")
    assert ids.shape == logprobs.shape == (2, 4, 3) and ids.dtype == torch.long
    assert ids[0].tolist() == torch.arange(12).reshape(4, 3).tolist()
    assert ids[1].tolist() == [[0, 1, 2], [-1] * 3, [-1] * 3, [-1] * 3]
    assert not logprobs[1, 1:].any() and logprobs[0, 2, 1] == pytest.approx(-8 / 7)
    assert "ids" not in collate([(Row((1,), (2,), (True,)),)]).extras


@pytest.mark.parametrize("content", [{"tokens": torch.zeros(1)}, None], ids=["other-tensors", "no-tensors"])
def test_another_file_is_refused(content: dict[str, torch.Tensor] | None, tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    if content is None:
        path.write_text("{}")
    else:
        save_file(content, path)
    with pytest.raises(InputError, match="holds no stored teacher"):
        len(Stored(path))
