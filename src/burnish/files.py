"""The only module that writes to disk.

A file is written beside its final place, flushed to the disk, and renamed: a reader sees the old content or the new,
never half of it, even when the process is killed or the machine loses power. Paths are not shared between processes
without a :class:`Lock`: the temporary name is fixed, so that what a killed write leaves is reused by the next one.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from burnish.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

MANIFEST = "manifest.json"
FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
NO_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES)

inject: Callable[[str, Path], None] | None = None
"""Fault injection for tests: called with the operation and its path before every step that changes the disk."""


class DiskFullError(InputError):
    """The disk, the quota or the file-size limit is exhausted. Nothing that was committed before is damaged."""


def _step(operation: str, path: Path) -> None:
    if inject is not None:
        inject(operation, path)


@contextmanager
def _full_disk(path: Path) -> Iterator[None]:
    """Turn "no space left" into the error that says what is safe."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        # safetensors writes in Rust and reports the errno only as text.
        told = re.search(r"os error (\d+)", str(error))
        code = error.errno if isinstance(error, OSError) else int(told[1]) if told else None
        if code not in FULL:
            raise
        raise DiskFullError(
            f"cannot write {path}: {os.strerror(code)}. "
            "The last checkpoint is intact; free space and resume with --resume."
        ) from error


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path; when the body has written it, make it durable and put it in the place of ``path``."""
    temporary = path.with_name(f".{path.name}.tmp")
    with _full_disk(path):
        try:
            _step("write", path)
            yield temporary
            _fsync(temporary)
            _step("rename", path)
            temporary.replace(path)
            _fsync(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


# --- files ----------------------------------------------------------------------------------------


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` atomically and durably. The directory must exist. Raises DiskFullError."""
    with _replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically and durably. Raises DiskFullError."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write JSON with sorted keys, atomically. Raises ValueError for a non-finite number, DiskFullError."""
    write_text(path, json.dumps(value, sort_keys=True, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def append_json_line(path: Path, record: Mapping[str, Any]) -> None:
    """Append one JSON object as one line; after an error the file is as long as before. Durable after :func:`sync`.

    Raises ValueError for a non-finite number, DiskFullError.
    """
    line = json.dumps(record, sort_keys=True, allow_nan=False, ensure_ascii=False).encode() + b"\n"
    with _full_disk(path), path.open("ab", buffering=0) as file:
        start = file.seek(0, os.SEEK_END)
        try:
            _step("append", path)
            if file.write(line) != len(line):  # a file-size limit or a full disk cuts the write short
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except BaseException:
            file.truncate(start)
            raise


def truncate_lines(path: Path, keep: Callable[[dict[str, Any]], bool]) -> None:
    """Cut a JSONL file, atomically, to its leading lines that are complete and satisfy ``keep``.

    A file that does not exist is left so. Raises DiskFullError.
    """
    if not path.exists():
        return

    def good(line: bytes) -> bool:
        try:
            return line.endswith(b"\n") and keep(json.loads(line))
        except ValueError:  # what a power cut left where the line should be
            return False

    lines = path.read_bytes().splitlines(keepends=True)
    kept = next((i for i, line in enumerate(lines) if not good(line)), len(lines))
    if kept < len(lines):
        write_bytes(path, b"".join(lines[:kept]))


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors atomically; the same tensors give the same bytes. Raises DiskFullError.

    Raises ValueError for more than one metadata key: their order in the file is not stable.
    """
    if metadata is not None and len(metadata) > 1:
        raise ValueError(f"at most one metadata key, got {sorted(metadata)}")
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with _replacing(path) as temporary:
        save_file(contiguous, temporary, metadata=None if metadata is None else dict(metadata))


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write an Arrow table as zstd-compressed Parquet, atomically. Raises DiskFullError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd")
    write_bytes(path, buffer.getvalue().to_pybytes())


def sync(path: Path) -> None:
    """Flush a file to the disk; one that does not exist is left so."""
    if path.exists():
        with _full_disk(path):
            _step("sync", path)
            _fsync(path)


def remove(path: Path) -> None:
    """Remove a file that may not exist."""
    path.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- directories ----------------------------------------------------------------------------------


def make_directory(path: Path) -> Path:
    """Create a directory and its parents where they are missing; return it. Raises DiskFullError."""
    with _full_disk(path):
        _step("mkdir", path)
        path.mkdir(parents=True, exist_ok=True)
    return path


def _contents(directory: Path) -> list[tuple[str, Path]]:
    """(relative name, path) of every file in name order, without temporary files of killed writes."""
    found = (path for path in directory.rglob("*") if path.is_file() and not re.fullmatch(r"\..*\.tmp", path.name))
    return sorted((path.relative_to(directory).as_posix(), path) for path in found)


def tree_sha256(directory: Path) -> str:
    """A hash of the names and contents of all files below ``directory``, in hexadecimal."""
    digest = hashlib.sha256()
    for name, path in _contents(directory):
        digest.update(f"{len(name)}:{name}{sha256(path)}".encode())
    return digest.hexdigest()


def manifest(directory: Path) -> dict[str, dict[str, Any]]:
    """``{relative name: {"sha256": hexadecimal, "size": bytes}}`` of every file except the manifest itself."""
    listed = ((name, path) for name, path in _contents(directory) if name != MANIFEST)
    return {name: {"sha256": sha256(path), "size": path.stat().st_size} for name, path in listed}


def commit_directory(temporary: Path, final: Path) -> None:
    """Give a finished directory its manifest, make it durable, and rename it to ``final``, replacing what is there.

    Both must be on one file system. Raises DiskFullError.
    """
    write_json(temporary / MANIFEST, manifest(temporary))
    replaced = final.with_name(f".{final.name}.replaced")
    with _full_disk(final):
        for path in (*temporary.rglob("*"), temporary):
            _fsync(path)
        _step("rename", final)
        if final.exists():
            remove_tree(replaced)
            final.rename(replaced)
        temporary.rename(final)
        _fsync(final.parent)
    remove_tree(replaced)


def verify(directory: Path) -> str | None:
    """Why a committed directory is not intact, or None. Files that the manifest does not list are not looked at."""
    try:
        listed = json.loads((directory / MANIFEST).read_bytes())
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except ValueError:
        return f"{MANIFEST} is not readable JSON"
    for name, expected in listed.items():
        path = directory / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != expected["size"]:
            return f"{name} has {path.stat().st_size} bytes instead of {expected['size']}"
        if sha256(path) != expected["sha256"]:
            return f"{name} does not match its sha256"
    return None


def move(source: Path, target: Path) -> None:
    """Rename a file or directory; ``target`` must not exist. Raises FileExistsError, DiskFullError."""
    if target.exists():
        raise FileExistsError(target)
    with _full_disk(target):
        _step("rename", target)
        source.rename(target)
        _fsync(target.parent)


def remove_tree(path: Path) -> None:
    """Remove a directory that may not exist. It disappears at once: a kill never leaves half of it under its name."""
    if not path.exists():
        return
    doomed = path.with_name(f".{path.name.lstrip('.')}.removing")
    if doomed.exists():
        shutil.rmtree(doomed)
    _step("remove", path)
    path.rename(doomed)
    shutil.rmtree(doomed)


def hardlink_or_copy_tree(source: Path, target: Path, skip: Collection[str] = ()) -> None:
    """Repeat a directory's files under ``target`` as hard links, or as copies where the file system has none.

    Names in ``skip`` at the top level are left out. Linked files share their bytes: replace them, never edit in place
    (every function of this module but :func:`append_json_line` does so). Raises DiskFullError.
    """
    for name, path in _contents(source):
        if name.split("/")[0] in skip:
            continue
        copy = target / name
        make_directory(copy.parent)
        with _full_disk(copy):
            _step("link", copy)
            try:
                os.link(path, copy)
            except OSError as error:
                if error.errno not in NO_LINK:
                    raise
                shutil.copyfile(path, copy)


# --- places shared between processes --------------------------------------------------------------


def cache_dir() -> Path:
    """Where results are shared between runs: $BURNISH_CACHE, $XDG_CACHE_HOME/burnish or ~/.cache/burnish."""
    if own := os.environ.get("BURNISH_CACHE"):
        return Path(own)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "burnish"
    return Path.home() / ".cache" / "burnish"


class Lock:
    """An exclusive lock on a file, between processes; the kernel releases it when its process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self, wait: bool = False) -> bool:
        """Take the lock. Returns False, at once, if another holds it and ``wait`` is False."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return True

    def holder(self) -> str:
        """The process id that took the lock last."""
        return self.path.read_text() or "unknown"

    def release(self) -> None:
        """Give the lock back. Releasing a lock that is not held does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
