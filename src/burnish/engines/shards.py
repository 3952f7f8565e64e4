"""The tensors of a model directory one at a time: what is not asked for is not read, and no model has to fit in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from burnish import files
from burnish.errors import InputError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD_BYTES = 5_000_000_000


class Shards(Mapping[str, Tensor]):
    """Named tensors of safetensors files, each read when it is asked for."""

    def __init__(self, places: Mapping[str, Path]) -> None:
        self._places = dict(places)

    @classmethod
    def file(cls, path: Path) -> Shards:
        """Those of one file. Raises InputError where it cannot be read."""
        with _opened(path) as opened:
            return cls(dict.fromkeys(opened.keys(), path))

    @classmethod
    def directory(cls, directory: Path) -> Shards:
        """Those of a model in Hugging Face format, in one file or in several with an index. Raises InputError."""
        if not (directory / INDEX).is_file():
            return cls.file(directory / WEIGHTS)
        try:
            places = json.loads((directory / INDEX).read_bytes())["weight_map"]
        except (ValueError, KeyError) as error:
            raise InputError(f"{directory / INDEX} is damaged ({error}): copy it from the model again") from error
        return cls({name: directory / file for name, file in places.items()})

    def __getitem__(self, name: str) -> Tensor:
        path = self._places[name]
        with _opened(path) as opened:
            try:
                tensor: Tensor = opened.get_tensor(name)
            except SafetensorError as error:
                raise InputError(f"{path} has no readable '{name}' ({error}): copy the file again") from error
            return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor, from the headers of the files."""
        return {name: tuple(part.get_shape()) for name, part in self._slices()}

    def dtypes(self) -> dict[str, torch.dtype]:
        """The type of every tensor, from the headers of the files."""
        return {name: part[:0].dtype if part.get_shape() else self[name].dtype for name, part in self._slices()}

    def _slices(self) -> Iterator[tuple[str, Any]]:
        """(name, slice) of every tensor, file by file. Nothing is read of a slice but what is asked of it."""
        for path in dict.fromkeys(self._places.values()):
            with _opened(path) as opened:
                held = set(opened.keys())
                for name in (n for n, place in self._places.items() if place == path):
                    if name not in held:
                        raise InputError(f"{path} has no '{name}', which its index says it has: copy the files again")
                    yield name, opened.get_slice(name)

    def without(self, names: Sequence[str]) -> Shards:
        return Shards({name: path for name, path in self._places.items() if name not in names})


def _opened(path: Path) -> safe_open:
    try:
        return safe_open(path, framework="pt")
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read ({error}): a model directory holds its weights there") from error


def write_model(
    directory: Path,
    shapes: Mapping[str, tuple[int, ...]],
    dtypes: Mapping[str, torch.dtype],
    compute: Callable[[str], Tensor],
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write the tensors that ``compute`` gives, in files of at most ``shard_bytes`` (or one tensor), with an index for
    several. No more than one file is held in memory. Raises DiskFullError.
    """
    parts: list[list[str]] = [[]]
    sizes = {name: torch.Size(shapes[name]).numel() * dtypes[name].itemsize for name in shapes}
    filled = 0
    for name, size in sizes.items():
        if parts[-1] and filled + size > shard_bytes:
            parts.append([])
            filled = 0
        parts[-1].append(name)
        filled += size
    one = len(parts) == 1
    places: dict[str, str] = {}
    for number, part in enumerate(parts, start=1):
        file = WEIGHTS if one else f"model-{number:05d}-of-{len(parts):05d}.safetensors"
        files.write_safetensors(directory / file, {name: compute(name) for name in part}, {"format": "pt"})
        places |= dict.fromkeys(part, file)
    if not one:
        files.write_json(directory / INDEX, {"metadata": {"total_size": sum(sizes.values())}, "weight_map": places})
