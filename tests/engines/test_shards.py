"""Tensors one at a time: in one file and in several, with headers read without their data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from burnish.engines.shards import INDEX, WEIGHTS, Shards, write_model
from burnish.errors import InputError
from tiny import two_token_model

TENSORS = {
    "a": torch.arange(6.0).view(2, 3),
    "b": torch.ones(4, dtype=torch.bfloat16),
    "c": torch.tensor(7),
    "d": torch.full((10,), 2.0),
}


def write(directory: Path, shard_bytes: int, tensors: dict[str, Tensor] = TENSORS) -> Shards:
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    write_model(directory, shapes, {n: t.dtype for n, t in tensors.items()}, tensors.__getitem__, shard_bytes)
    return Shards.directory(directory)


@pytest.mark.parametrize(("limit", "files"), [(10**9, 1), (40, 2), (33, 3), (1, 4)], ids=str)
def test_what_is_written_is_read_back(tmp_path: Path, limit: int, files: int) -> None:
    """A file holds at most the limit, or one tensor that is larger: 24 + 8 + 8 | 40 bytes, or 24 + 8 | 8 | 40."""
    shards = write(tmp_path, limit)
    assert len(list(tmp_path.glob("*.safetensors"))) == files
    assert (tmp_path / INDEX).exists() == (files > 1) and (tmp_path / WEIGHTS).exists() == (files == 1)
    assert set(shards) == set(TENSORS) and len(shards) == 4
    assert shards.shapes() == {"a": (2, 3), "b": (4,), "c": (), "d": (10,)}
    assert shards.dtypes() == {n: t.dtype for n, t in TENSORS.items()}
    for name, tensor in TENSORS.items():
        assert torch.equal(shards[name], tensor) and shards[name].dtype == tensor.dtype
    assert set(shards.without(["a", "z"])) == {"b", "c", "d"}


def test_one_file_at_a_time_is_computed(tmp_path: Path) -> None:
    """When a tensor is asked for, the files of the tensors before it are written."""
    seen: list[int] = []

    def compute(name: str) -> Tensor:
        seen.append(len(list(tmp_path.glob("model-*.safetensors"))))
        return TENSORS[name]

    write_model(tmp_path, {n: tuple(t.shape) for n, t in TENSORS.items()}, {n: t.dtype for n, t in TENSORS.items()},
                compute, 1)  # fmt: skip
    assert seen == [0, 1, 2, 3]


def test_transformers_reads_several_files(tmp_path: Path) -> None:
    source = two_token_model(tmp_path / "one")
    expected = Shards.directory(source)
    several = tmp_path / "several"
    several.mkdir()
    (several / "config.json").write_bytes((source / "config.json").read_bytes())
    write_model(several, expected.shapes(), expected.dtypes(), expected.__getitem__, 2000)
    assert json.loads((several / INDEX).read_text())["metadata"]["total_size"] > 2000
    network = AutoModelForCausalLM.from_pretrained(several, local_files_only=True)
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, expected[name]), name


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model\.safetensors cannot be read"):
        Shards.directory(tmp_path)
    shards = write(tmp_path, 1)
    index = json.loads((tmp_path / INDEX).read_text())
    index["weight_map"]["e"] = "model-00001-of-00004.safetensors"
    (tmp_path / INDEX).write_text(json.dumps(index))
    with pytest.raises(InputError, match="has no 'e', which its index says it has"):
        Shards.directory(tmp_path).shapes()
    (tmp_path / "model-00001-of-00004.safetensors").write_bytes(b"\0" * 20)
    with pytest.raises(InputError, match=r"model-00001-of-00004\.safetensors cannot be read"):
        _ = shards["a"]
    (tmp_path / INDEX).write_text("{}")
    with pytest.raises(InputError, match="is damaged"):
        Shards.directory(tmp_path)
