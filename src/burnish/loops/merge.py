"""Model directories into one: read, merged and written tensor by tensor, after a check that they can be merged at all."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer

from burnish import files
from burnish.core.merging import Merge
from burnish.engines.local import HEADS, Engine, outline
from burnish.engines.shards import INDEX, SHARD_BYTES, WEIGHTS, Shards, write_model
from burnish.errors import InputError
from burnish.loops.report import DryRunFinished
from burnish.stage import Stage

SETTLED = (
    "architectures", "model_type", "hidden_act", "hidden_activation", "hidden_size", "num_attention_heads",
    "num_key_value_heads", "num_hidden_layers", "head_dim", "rms_norm_eps", "layer_norm_eps", "rope_theta",
    "rope_parameters", "tie_word_embeddings", "vocab_size",
)  # fmt: skip
"""What of ``config.json`` says what the weights mean: it has to be the same. Other entries are the first model's."""
NOTES = ("transformers_version", "torch_dtype", "dtype", "_name_or_path", "use_cache")
"""Entries whose differences are not worth a word."""
LEFT_OUT = (INDEX, files.MANIFEST, "burnish.json", "adapter_config.json")
"""JSON files of a model directory that are not true of a merge of it."""
FAR = 0.5
"""A distance, in lengths of the first model, that fine-tunes of one base do not have: models trained apart are near 1.4."""


def merge(
    stage: Stage,
    models: Sequence[Path],
    *,
    method: Merge,
    base: Path | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Path:
    """Merge model directories of one architecture and one tokenizer, and return the directory of the result.

    Configuration, tokenizer, types of the tensors, and what is not a weight are the first model's. Heads beside the language
    model's are merged like the rest. One tensor of each model, and one file of the result, are in memory at a time. Raises
    InputError where models do not fit together, or the method does not fit them.
    """
    sources = [_Source.read(Path(model)) for model in models]
    parent = None if base is None else _Source.read(Path(base))
    if not sources:
        raise InputError("there is nothing to merge: name at least one model")
    for line in _compare(sources, parent):
        stage.view.say(line)
    method.check(list(sources[0].shapes), len(sources), based=parent is not None)
    work = _Work(method, sources, parent, shard_bytes)
    stage.view.say(f"{stage.name}: {_described(method, sources, parent)}")
    if stage.dry_run:
        raise DryRunFinished
    directory = stage.export(work)
    for line in work.distances():
        stage.view.say(line)
    return directory


@dataclass(frozen=True)
class _Source:
    """A model directory: its configuration, its tensors, those of its heads."""

    directory: Path
    config: Mapping[str, Any]
    tensors: Shards
    shapes: Mapping[str, tuple[int, ...]]
    heads: Shards
    head_shapes: Mapping[str, tuple[int, ...]]

    @classmethod
    def read(cls, directory: Path) -> _Source:
        try:
            config = json.loads((directory / "config.json").read_bytes())
        except (OSError, ValueError) as error:
            raise InputError(f"{directory / 'config.json'} cannot be read ({error}): name a model directory") from error
        if "quantization_config" in config:
            raise InputError(f"{directory} is quantised: its weights cannot be added. Merge first, quantise then")
        tensors = Shards.directory(directory)
        if config.get("tie_word_embeddings"):
            # A second copy of the embeddings may be there or not, and is read by no one.
            network: Any = outline(directory, Engine(dtype="float32", device="cpu")).network
            tensors = tensors.without(tuple(getattr(network, "_tied_weights_keys", None) or ()))
        heads = Shards.file(directory / HEADS) if (directory / HEADS).is_file() else Shards({})
        return cls(directory, config, tensors, tensors.shapes(), heads, heads.shapes())


def _compare(sources: Sequence[_Source], base: _Source | None) -> list[str]:
    """Raise InputError where something must be the same and is not; what differs and need not be the same, in words."""
    first, lines = sources[0], []
    tokens, template = _tokenizer(first.directory)
    for other in [*sources[1:], *([base] if base else [])]:
        _check_same(first, other, heads=other is not base)
        differing = sorted(key for key in {*first.config, *other.config} if _differs(first, other, key))
        differing = [key for key in differing if key not in NOTES]
        if differing:
            lines.append(
                f"{', '.join(differing)} in config.json of {other.directory.name} differ: the first model's count"
            )
        vocabulary, chat = _tokenizer(other.directory)
        lines += _compare_tokens(first, other, tokens, vocabulary, strict=other is not base)
        if chat != template and other is not base:
            lines.append(f"the chat template of {other.directory.name} is another one: the first model's counts")
    if base is not None and first.heads and base.head_shapes != first.head_shapes:
        raise InputError(f"the models have heads ({HEADS}) that their base does not: merge them without a base")
    return lines


def _differs(one: _Source, other: _Source, key: str) -> bool:
    return bool(one.config.get(key) != other.config.get(key))


def _check_same(one: _Source, other: _Source, *, heads: bool) -> None:
    names = f"{one.directory} and {other.directory}"
    for key in SETTLED:
        if _differs(one, other, key):
            raise InputError(
                f"{names} are different architectures: {key} is {one.config.get(key)!r} and {other.config.get(key)!r}. "
                "Merge models that were made from one base"
            )
    tables = [(one.shapes, other.shapes), *([(one.head_shapes, other.head_shapes)] if heads else [])]
    for mine, theirs in tables:
        for name in {**mine, **theirs}:
            if mine.get(name) != theirs.get(name):
                shapes = " and ".join(str(list(t[name])) if name in t else "absent" for t in (mine, theirs))
                raise InputError(
                    f"{names} do not fit together: '{name}' is {shapes}. Merge models that were made from one base"
                )


def _tokenizer(directory: Path) -> tuple[dict[str, int], Any]:
    """The vocabulary with added tokens, and the chat template."""
    try:
        found = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{directory} has no usable tokenizer ({reason}): copy its tokenizer files there") from error
    return found.get_vocab(), found.chat_template


def _compare_tokens(
    one: _Source, other: _Source, mine: Mapping[str, int], theirs: Mapping[str, int], *, strict: bool
) -> list[str]:
    """Rows of the embeddings are merged by number, so a number has to be the same token everywhere.

    A base is often without the tokens that were added for the chat, so there it is only said.
    """
    different = sorted(token for token in {*mine, *theirs} if mine.get(token) != theirs.get(token))
    if not different:
        return []
    told = f"{len(different)} tokens, for example {different[0]!r},"
    if strict:
        raise InputError(
            f"{one.directory} and {other.directory} have different tokenizers ({told} have other numbers or are missing): "
            "merge models with one tokenizer"
        )
    return [f"{told} have other numbers in the base: their task vectors mean little"]


def _described(method: Merge, sources: Sequence[_Source], base: _Source | None) -> str:
    names = ", ".join(source.directory.as_posix() for source in sources)
    parameters = sum(math.prod(shape) for shape in sources[0].shapes.values())
    return (
        f"{len(sources)} models of {parameters / 1e6:.1f}M parameters in {len(sources[0].shapes)} tensors, by {method}: "
        f"{names}{f'; base {base.directory.as_posix()}' if base else ''}"
    )


@dataclass
class _Work:
    """The merge as something a stage can export."""

    method: Merge
    sources: Sequence[_Source]
    base: _Source | None
    shard_bytes: int
    squares: list[float] = field(default_factory=list)

    def export(self, directory: Path) -> None:
        first = self.sources[0]
        self.squares = [0.0] * (len(self.sources) + 1)
        dtypes = first.tensors.dtypes()
        write_model(directory, first.shapes, dtypes, self._tensor, self.shard_bytes)
        if first.heads:
            base = self.base.heads if self.base else None
            heads = {n: self._merged(n, [s.heads for s in self.sources], base) for n in first.heads}
            files.write_safetensors(directory / HEADS, heads)
        for path in sorted(first.directory.iterdir()):
            if _belongs(path):
                files.write_bytes(directory / path.name, path.read_bytes())

    def _tensor(self, name: str) -> Tensor:
        return self._merged(name, [s.tensors for s in self.sources], self.base.tensors if self.base else None)

    def _merged(self, name: str, models: Sequence[Shards], base: Shards | None) -> Tensor:
        tensors = [model[name] for model in models]
        first = tensors[0].float()
        self.squares[0] += float(first.square().sum(dtype=torch.float64))
        for place, tensor in enumerate(tensors[1:], start=1):
            self.squares[place] += float((tensor.float() - first).square().sum(dtype=torch.float64))
        merged = self.method.tensor(name, tensors, None if base is None else base[name])
        self.squares[-1] += float((merged.float() - first).square().sum(dtype=torch.float64))
        return merged

    def distances(self) -> list[str]:
        """How far the other models and the result are from the first one, and what that means where it is far."""
        length = math.sqrt(self.squares[0]) or 1.0
        far = {
            source.directory.as_posix(): math.sqrt(square) / length
            for source, square in zip(self.sources[1:], self.squares[1:-1], strict=True)
        }
        told = [f"{name} {distance:.2%}" for name, distance in far.items()]
        told.append(f"the merged model {math.sqrt(self.squares[-1]) / length:.2%}")
        lines = [f"distance from the first model, in its length: {', '.join(told)}"]
        if any(distance > FAR for distance in far.values()):
            lines.append(
                "warning: models this far apart were not made from one base, and what is merged of them is noise: "
                "evaluate it before you use it, and merge fine-tunes of one base"
            )
        return lines


def _belongs(path: Path) -> bool:
    """Whether a file beside the weights is part of the result: configuration, tokenizer, template."""
    kinds = (".json", ".jinja", ".model", ".txt")
    return path.is_file() and path.suffix in kinds and path.name not in LEFT_OUT and path.name != WEIGHTS
