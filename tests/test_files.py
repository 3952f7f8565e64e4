"""Writing: the old content or the new, never half of it."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from burnish import files
from burnish.errors import InputError


@pytest.fixture
def fail(monkeypatch):
    """Let the next step of the named operation fail with an errno."""

    def arm(operation: str, code: int = errno.ENOSPC) -> None:
        def inject(step: str, path: Path) -> None:
            if step == operation:
                raise OSError(code, os.strerror(code), str(path))

        monkeypatch.setattr(files, "inject", inject)

    return arm


@pytest.mark.parametrize("operation", ["write", "rename"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, fail, operation, code):
    path = tmp_path / "state.json"
    files.write_json(path, {"step": 1})
    fail(operation, code)
    with pytest.raises(files.DiskFullError, match=r"last checkpoint is intact.*--resume") as caught:
        files.write_json(path, {"step": 2})
    assert isinstance(caught.value, InputError)
    assert str(path) in str(caught.value)
    assert json.loads(path.read_text()) == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["state.json"]


def test_other_errors_are_not_called_a_full_disk(tmp_path, fail):
    fail("write", errno.EACCES)
    with pytest.raises(PermissionError):
        files.write_text(tmp_path / "x", "x")


def test_json_has_sorted_keys_and_no_nan(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"b": 1, "a": "ü"})
    assert path.read_text(encoding="utf-8") == '{\n  "a": "ü",\n  "b": 1\n}\n'
    with pytest.raises(ValueError, match="nan"):
        files.write_json(path, {"a": float("nan")})
    assert "ü" in path.read_text(encoding="utf-8")


def test_append_restores_the_length_after_an_error(tmp_path, fail):
    path = tmp_path / "metrics.jsonl"
    files.append_json_line(path, {"step": 1, "b": 2})
    fail("append")
    with pytest.raises(files.DiskFullError):
        files.append_json_line(path, {"step": 2})
    assert path.read_text() == '{"b": 2, "step": 1}\n'


@pytest.mark.parametrize(
    ("tail", "kept"),
    [
        ("", 3),
        ('{"step": 4}', 3),  # complete JSON, but the newline was never written
        ('{"st', 3),
        ("\0\0\0\0\n", 3),
        ('{"step": 9}\n{"step": 1}\n', 3),  # only leading lines: what follows a cut line goes too
    ],
)
def test_truncate_keeps_leading_complete_lines(tmp_path, tail, kept):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(f'{{"step": {i}}}\n' for i in (1, 2, 3)) + tail)
    files.truncate_lines(path, lambda line: line["step"] <= 4)
    assert path.read_text() == "".join(f'{{"step": {i}}}\n' for i in range(1, kept + 1))


def test_truncate_leaves_a_missing_file_missing(tmp_path):
    files.truncate_lines(tmp_path / "none.jsonl", lambda _: True)
    assert not list(tmp_path.iterdir())


def test_safetensors_are_contiguous_and_repeat_to_the_byte(tmp_path):
    tensors = {"b": torch.arange(6.0).view(2, 3).T, "a": torch.ones(3, dtype=torch.bfloat16)}
    files.write_safetensors(tmp_path / "1", tensors, {"format": "pt"})
    files.write_safetensors(tmp_path / "2", dict(reversed(tensors.items())), {"format": "pt"})
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    loaded = load_file(tmp_path / "1")
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)
    with safe_open(tmp_path / "1", "pt") as file:
        assert file.metadata() == {"format": "pt"}
    with pytest.raises(ValueError, match="one metadata key"):
        files.write_safetensors(tmp_path / "3", tensors, {"a": "1", "b": "2"})


def test_parquet_round_trip_is_zstd(tmp_path):
    table = pa.table({"step": [1, 2], "tokens": [[1, 2], [3]]})
    files.write_parquet(tmp_path / "r.parquet", table)
    assert pq.read_table(tmp_path / "r.parquet").equals(table)
    assert pq.ParquetFile(tmp_path / "r.parquet").metadata.row_group(0).column(0).compression == "ZSTD"


def _tree(directory: Path, content: dict[str, str]) -> Path:
    for name, text in content.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    return directory


def test_tree_hash_sees_names_and_bytes_but_no_leftovers(tmp_path):
    base = files.tree_sha256(_tree(tmp_path / "a", {"x": "1", "d/y": "2"}))
    assert files.tree_sha256(_tree(tmp_path / "b", {"d/y": "2", "x": "1", ".x.tmp": "torn"})) == base
    assert files.tree_sha256(_tree(tmp_path / "c", {"x": "1", "d/y": "3"})) != base
    assert files.tree_sha256(_tree(tmp_path / "d", {"x": "1", "e/y": "2"})) != base


def test_commit_replaces_and_verify_finds_every_damage(tmp_path):
    final = tmp_path / "step"
    files.commit_directory(_tree(tmp_path / "t1", {"w": "old"}), final)
    files.commit_directory(_tree(tmp_path / "t2", {"w": "new", "sub/s": "state"}), final)
    assert [p.name for p in tmp_path.iterdir()] == ["step"]
    assert (final / "w").read_text() == "new"
    assert files.verify(final) is None
    files.hardlink_or_copy_tree(final, tmp_path / "again")
    files.commit_directory(tmp_path / "again", final)  # a manifest that came along is not listed in the new one
    assert files.verify(final) is None
    (final / "note.txt").write_text("a note beside it is no damage")
    assert files.verify(final) is None
    (final / "w").write_text("neu")
    assert "w does not match" in (files.verify(final) or "")
    (final / "w").write_text("longer")
    assert "6 bytes instead of 3" in (files.verify(final) or "")
    (final / "w").unlink()
    assert files.verify(final) == "w is missing"
    (final / files.MANIFEST).write_text("{")
    assert "not readable" in (files.verify(final) or "")
    (final / files.MANIFEST).unlink()
    assert "missing" in (files.verify(final) or "")


def test_links_share_bytes_until_one_is_rewritten(tmp_path):
    source = _tree(tmp_path / "s", {"d/x": "1", "checkpoints/c": "big"})
    files.hardlink_or_copy_tree(source, tmp_path / "t", skip=("checkpoints",))
    assert (tmp_path / "t/d/x").samefile(source / "d/x")
    assert not (tmp_path / "t/checkpoints").exists()
    files.write_text(tmp_path / "t/d/x", "2")
    assert (source / "d/x").read_text() == "1"


def test_files_are_copied_where_links_are_impossible(tmp_path):
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second file system")
    target = other / f"burnish-{os.getpid()}"
    try:
        files.hardlink_or_copy_tree(_tree(tmp_path / "s", {"x": "1"}), target)
        assert (target / "x").read_text() == "1"
    finally:
        files.remove_tree(target)


def test_move_never_overwrites(tmp_path):
    _tree(tmp_path, {"a/x": "1", "b/x": "2"})
    with pytest.raises(FileExistsError):
        files.move(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b/x").read_text() == "2"


def test_lock_excludes_and_names_its_holder(tmp_path):
    first, second = files.Lock(tmp_path / "lock"), files.Lock(tmp_path / "lock")
    assert first.acquire()
    assert not second.acquire()
    assert second.holder() == str(os.getpid())
    first.release()
    assert second.acquire(wait=True)
    second.release()


def test_cache_directory(monkeypatch, tmp_path):
    monkeypatch.delenv("BURNISH_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.cache_dir() == tmp_path / ".cache/burnish"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert files.cache_dir() == Path("/x/burnish")
    monkeypatch.setenv("BURNISH_CACHE", "/own")
    assert files.cache_dir() == Path("/own")
