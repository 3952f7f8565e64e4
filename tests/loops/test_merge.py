"""Model directories into one: what comes out loads and is the formula; what does not fit is refused before it is read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoTokenizer

from burnish.core.merging import DARE, TIES, Average, Merge, Share, TaskVectors
from burnish.engines.local import HEADS, Engine, LocalModel
from burnish.engines.shards import Shards, write_model
from burnish.errors import InputError
from burnish.loops.merge import merge
from burnish.loops.report import DryRunFinished
from burnish.stage import Stage
from burnish.types import Head
from burnish.view import View

CPU = Engine(dtype="float32", device="cpu")


def variant(source: Path, directory: Path, seed: int, by: float = 0.05) -> Path:
    """A copy with every weight moved a little: what fine-tuning leaves."""
    shutil.copytree(source, directory)
    generator = torch.Generator().manual_seed(seed)
    tensors = load_file(source / "model.safetensors")
    moved = {n: t + by * t.std() * torch.randn(t.shape, generator=generator) for n, t in tensors.items()}
    save_file(moved, directory / "model.safetensors", {"format": "pt"})
    return directory


@pytest.fixture
def models(nano: Path, tmp_path: Path) -> list[Path]:
    return [variant(nano, tmp_path / name, seed) for seed, name in enumerate("ab")]


class Heard(View):
    """A view that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.lines: list[str] = []

    def say(self, message: Any) -> None:
        self.lines.append(str(message))


def stage_in(directory: Path, *, dry_run: bool = False) -> tuple[Stage, Heard]:
    directory.mkdir()
    view = Heard()
    return Stage(directory, seed=1, view=view, dry_run=dry_run), view


def tensors(directory: Path) -> dict[str, Tensor]:
    return dict(Shards.directory(directory))


METHODS: dict[str, Merge] = {
    "average": Average(),
    "shares": Average(shares=(Share((1.0, 3.0), layers=(1, 1)), Share((0.0, 1.0), match="norm"))),
    "ties": TIES(keep=0.3),
    "dare": DARE(drop=0.5, into=TaskVectors(0.7)),
}


@pytest.mark.parametrize("shard_bytes", [10**9, 700_000], ids=["one", "several"])
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
def test_the_directory_holds_the_formula(
    method: Merge, shard_bytes: int, models: list[Path], nano: Path, tmp_path: Path
) -> None:
    """From files read in one piece, and the result loads as a model with the first one's tokenizer."""
    stage, view = stage_in(tmp_path / "stage")
    base = nano if method.needs_base else None
    made = merge(stage, models, method=method, base=base, shard_bytes=shard_bytes)
    expected = method([load_file(m / "model.safetensors") for m in models],
                      load_file(nano / "model.safetensors") if base else None)  # fmt: skip
    found = tensors(made)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[n], expected[n]) for n in expected)
    assert (len(list(made.glob("*.safetensors"))) > 1) == (shard_bytes < 10**9)
    loaded = LocalModel(made, CPU)
    assert all(torch.equal(w, expected[n]) for n, w in loaded.weights().items())
    tokenizer = AutoTokenizer.from_pretrained(made, local_files_only=True)
    assert tokenizer.get_vocab() == loaded.chat.tokenizer.get_vocab()
    assert "2 models of 0.9M parameters" in view.lines[0] and "warning" not in view.lines[-1]


def test_equal_models_are_given_back_bit_for_bit(nano: Path, tmp_path: Path) -> None:
    stage, view = stage_in(tmp_path / "stage")
    made = merge(stage, [nano, nano, nano], method=Average())
    expected = load_file(nano / "model.safetensors")
    assert all(torch.equal(t, expected[n]) for n, t in tensors(made).items())
    assert "the merged model 0.00%" in view.lines[-1]


def test_shards_are_read_and_one_copy_of_tied_weights_is_written(models: list[Path], tmp_path: Path) -> None:
    """One model in several files, with the head that is tied to the embeddings saved once more."""
    first = tensors(models[0])
    plain, _ = stage_in(tmp_path / "plain")
    expected = tensors(merge(plain, models, method=Average()))
    doubled = {**first, "lm_head.weight": first["model.embed_tokens.weight"]}
    (models[0] / "model.safetensors").unlink()
    shapes = {n: tuple(t.shape) for n, t in doubled.items()}
    write_model(models[0], shapes, dict.fromkeys(shapes, torch.float32), doubled.__getitem__, 700_000)
    stage, _ = stage_in(tmp_path / "stage")
    made = merge(stage, models, method=Average())
    found = tensors(made)
    assert found.keys() == expected.keys() and "lm_head.weight" not in found
    assert all(torch.equal(found[n], expected[n]) for n in expected)
    assert not (made / "model.safetensors.index.json").exists(), "the index of the first model is not the result's"


def test_types_are_those_of_the_first_model(models: list[Path], tmp_path: Path) -> None:
    narrow = {n: t.bfloat16() for n, t in load_file(models[0] / "model.safetensors").items()}
    save_file(narrow, models[0] / "model.safetensors", {"format": "pt"})
    stage, _ = stage_in(tmp_path / "stage")
    found = tensors(merge(stage, models, method=Average()))
    assert all(t.dtype == torch.bfloat16 for t in found.values())


def test_heads_are_merged_with_the_rest(nano: Path, tmp_path: Path) -> None:
    """Reward models: exported with their heads, averaged with them."""
    for seed in (0, 1):
        directory = tmp_path / f"rm{seed}"
        directory.mkdir()
        LocalModel(nano, CPU, seed=seed, heads={"score": Head(spread=1.0, at="last")}).export(directory)
    models = [tmp_path / "rm0", tmp_path / "rm1"]
    stage, _ = stage_in(tmp_path / "stage")
    made = merge(stage, models, method=Average((1.0, 3.0)))
    heads = [load_file(m / HEADS) for m in models]
    found = load_file(made / HEADS)
    assert torch.allclose(found["score.weight"], heads[0]["score.weight"] / 4 + 3 * heads[1]["score.weight"] / 4)
    again, _ = stage_in(tmp_path / "again")
    with pytest.raises(InputError, match=r"have heads .* that their base does not"):
        merge(again, models, method=TIES(), base=nano)
    with pytest.raises(InputError, match=r"'score\.\w+' is .* and absent"):
        merge(again, [models[0], nano], method=Average())


def test_a_dry_run_says_what_would_be_merged_and_writes_nothing(models: list[Path], tmp_path: Path) -> None:
    stage, view = stage_in(tmp_path / "stage", dry_run=True)
    with pytest.raises(DryRunFinished):
        merge(stage, models, method=Average())
    assert "Average(" in view.lines[0] and not list(stage.directory.iterdir())


def test_models_that_have_nothing_in_common_are_warned_about(nano: Path, tmp_path: Path) -> None:
    stage, view = stage_in(tmp_path / "stage")
    merge(stage, [nano, variant(nano, tmp_path / "far", 3, by=1.0)], method=Average())
    assert "were not made from one base" in view.lines[-1]


def changed(file: str, change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def mend(directory: Path) -> None:
        content = json.loads((directory / file).read_text())
        change(content)
        (directory / file).write_text(json.dumps(content))

    return mend


def shorter(directory: Path) -> None:
    kept = load_file(directory / "model.safetensors")
    kept["model.norm.weight"] = kept["model.norm.weight"][:5].clone()
    save_file(kept, directory / "model.safetensors")


def fewer(directory: Path) -> None:
    kept = load_file(directory / "model.safetensors")
    del kept["model.norm.weight"]
    save_file(kept, directory / "model.safetensors")


def renamed(directory: Path) -> None:
    path = directory / "tokenizer.json"
    path.write_text(path.read_text().replace("<|user|>", "<|human|>"))
    (directory / "tokenizer_config.json").write_text(
        (directory / "tokenizer_config.json").read_text().replace("<|user|>", "<|human|>")
    )


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "rope": (changed("config.json", lambda c: c["rope_parameters"].update(rope_theta=1e6)), "rope_parameters is"),
    "type": (changed("config.json", lambda c: c.update(model_type="qwen2")), "model_type is 'llama' and 'qwen2'"),
    "shape": (shorter, r"'model\.norm\.weight' is \[192\] and \[5\]"),
    "missing": (fewer, r"'model\.norm\.weight' is \[192\] and absent"),
    "tokens": (renamed, r"different tokenizers \(2 tokens, for example '<\|human\|>'"),
    "quantised": (changed("config.json", lambda c: c.update(quantization_config={})), "is quantised"),
    "no-config": (lambda d: (d / "config.json").unlink(), r"config\.json cannot be read"),
    "no-weights": (lambda d: (d / "model.safetensors").unlink(), r"model\.safetensors cannot be read"),
    "no-tokenizer": (lambda d: (d / "tokenizer.json").unlink(), "has no usable tokenizer"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_models_that_do_not_fit_are_refused(name: str, models: list[Path], tmp_path: Path) -> None:
    change, message = BROKEN[name]
    change(models[1])
    stage, _ = stage_in(tmp_path / "stage")
    with pytest.raises(InputError, match=message):
        merge(stage, models, method=Average())
    assert not list(stage.directory.iterdir())


def test_a_base_may_have_other_tokens_and_settings_but_that_is_said(
    models: list[Path], nano: Path, tmp_path: Path
) -> None:
    base = variant(nano, tmp_path / "base", 9)
    renamed(base)
    changed("config.json", lambda c: c.update(max_position_embeddings=512))(base)
    changed("config.json", lambda c: c.update(bos_token_id=1))(models[1])
    stage, view = stage_in(tmp_path / "stage")
    made = merge(stage, models, method=TIES(), base=base)
    said = "\n".join(view.lines)
    assert "bos_token_id in config.json of b differ" in said
    assert "max_position_embeddings in config.json of base differ" in said
    assert "2 tokens, for example '<|human|>', have other numbers in the base" in said
    assert json.loads((made / "config.json").read_text())["max_position_embeddings"] == 2048


def test_the_method_is_checked_before_anything_is_read(models: list[Path], tmp_path: Path) -> None:
    stage, _ = stage_in(tmp_path / "stage")
    with pytest.raises(InputError, match="needs the base"):
        merge(stage, models, method=TIES())
    with pytest.raises(InputError, match="nothing to merge"):
        merge(stage, [], method=Average())
