"""One stage of a run: what its arguments hash to, what it hands on, and what the code that works in it sees: a
directory, a seed, metrics, rollouts, checkpoints.

The promise behind resume: what is on disk after a kill and a resume is, byte for byte and ``perf/`` aside, what an
undisturbed run leaves. So metrics and rollouts of step k are written before the checkpoint of step k, never after it,
and :meth:`Stage.restore` cuts away what is newer than the checkpoint it loads.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from burnish import config, files, signals
from burnish.errors import InputError
from burnish.sinks import Sink
from burnish.view import View

if TYPE_CHECKING:
    import pyarrow as pa

STATE = "state.json"
LATEST = "latest"


@dataclass(frozen=True)
class Artifact:
    """A file or directory that a stage left, known by its content. It is a path wherever a path is taken."""

    path: str
    sha256: str

    def __fspath__(self) -> str:
        return self.path

    @classmethod
    def of(cls, path: Path) -> Artifact:
        """What is at ``path`` now. Raises FileNotFoundError."""
        return cls(str(path), files.tree_sha256(path) if path.is_dir() else files.sha256(path))


def fingerprint(fn: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], seed: int) -> str:
    """The hash, in hexadecimal, of a stage's function, seed and arguments, with defaults filled in.

    Artifacts and paths count by their content, functions by their name and source, frozen dataclasses by class and
    fields. Raises InputError naming the argument for anything without such a hash, TypeError for wrong arguments.
    """
    bound = inspect.signature(fn).bind(None, *args, **kwargs)  # the first parameter is the stage itself
    bound.apply_defaults()
    arguments = {name: _canonical(value, name) for name, value in list(bound.arguments.items())[1:]}
    content = {"function": _canonical(fn, "fn"), "seed": str(seed), "arguments": arguments}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _canonical(value: Any, name: str) -> Any:
    """The value as JSON in which different values differ. ``name`` says where it is, for errors."""
    if isinstance(value, Enum):
        return ["enum", _qualified(type(value)), value.name]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return ["list", *(_canonical(item, f"{name}[{i}]") for i, item in enumerate(value))]
    if isinstance(value, Mapping):
        pairs = [[_canonical(k, f"{name} key"), _canonical(v, f"{name}[{k!r}]")] for k, v in value.items()]
        return ["mapping", *sorted(pairs, key=json.dumps)]
    return _canonical_object(value, name)


def _canonical_object(value: Any, name: str) -> Any:
    if isinstance(value, Artifact):
        return ["content", value.sha256]
    if isinstance(value, Path):
        if not value.exists():
            raise InputError(f"argument '{name}': there is no file or directory {value}.")
        return ["content", Artifact.of(value).sha256]
    if is_dataclass(value) and not isinstance(value, type) and value.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        entries = [[f.name, _canonical(getattr(value, f.name), f"{name}.{f.name}")] for f in fields(value)]
        return ["dataclass", _qualified(type(value)), *entries]
    if inspect.isfunction(value) and value.__name__ == value.__qualname__ != "<lambda>":
        return ["function", _qualified(value), hashlib.sha256(_source(value, name).encode()).hexdigest()]
    raise InputError(
        f"argument '{name}' is a {type(value).__name__} ({value!r}), which has no stable hash: pass plain values, "
        "frozen dataclasses, results of stages, paths or module-level functions."
    )


def _source(function: Any, name: str) -> str:
    try:
        return inspect.getsource(function)
    except OSError as error:
        raise InputError(f"argument '{name}': {function!r} has no source to hash; define it in a file.") from error


def _qualified(value: Any) -> str:
    return f"{value.__module__}:{value.__qualname__}"


class Checkpointable(Protocol):
    """Something whose state belongs to a checkpoint, such as a model with its optimizer."""

    def checkpoint(self, directory: Path) -> None:
        """Write the whole state into an empty directory, through :mod:`burnish.files`."""

    def restore(self, directory: Path) -> None:
        """Take over the state that :meth:`checkpoint` wrote."""


class Exportable(Protocol):
    """Something that can be handed on, such as a model as a Hugging Face directory."""

    def export(self, directory: Path) -> None:
        """Write it into an empty directory."""


class Stage:
    """What a stage's function receives. ``out`` is the run directory, ``seed`` the stage's own 128-bit key; ``dry_run``
    asks the function to show what it would do and stop before it trains.
    """

    def __init__(
        self,
        directory: Path,
        *,
        seed: int,
        view: View,
        sinks: Sequence[Sink] = (),
        keep_checkpoints: int = 2,
        dry_run: bool = False,
    ) -> None:
        self.directory = directory
        self.name = directory.name
        self.out = directory.parent
        self.seed = seed
        self.view = view
        self.keep_checkpoints = keep_checkpoints
        self.dry_run = dry_run
        self.checkpoints = directory / "checkpoints"
        self.rollouts = directory / "rollouts"
        self.metrics = directory / "metrics.jsonl"
        self._sinks = tuple(sinks)
        self._covered = -1  # the step of the last checkpoint: what it covers is closed

    def decide(self, name: str, choose: Callable[[], Any]) -> Any:
        """The configuration (a dataclass) that ``choose`` picks on this machine now, or picked when the stage began.

        For a choice that depends on the machine or on a clock: it is made once and recorded in ``decisions/``, so that
        a resume computes what the beginning did. ``choose`` is called either way; the record overrides every field.
        """
        chosen = choose()
        record = self.directory / "decisions" / f"{name}.json"
        if not record.exists():
            files.make_directory(record.parent)
            files.write_json(record, config.plain(chosen))
        # Read back also when it was written just now: a resume must not even see an int become a float.
        return config.from_yaml(chosen, record)

    def export(self, model: Exportable, name: str = "model") -> Path:
        """Write ``model`` as the stage's result, all or nothing, and return its directory. Raises DiskFullError."""
        final, temporary = self.directory / name, self.directory / f".{name}"
        files.remove_tree(temporary)
        model.export(files.make_directory(temporary))
        files.commit_directory(temporary, final)
        return final

    # --- resume ------------------------------------------------------------------------------

    def restore(self, models: Mapping[str, Checkpointable]) -> dict[str, Any] | None:
        """Load the newest intact checkpoint into ``models``; return its state (with "step"), or None without one.

        Call it first in a stage, also in a fresh one: it cuts metrics and rollouts back to the checkpoint's step. A
        damaged checkpoint is put aside and the one before it is used, with a line that says why. Raises InputError if
        there are checkpoints but none is intact.
        """
        with signals.protected():
            directory = self._newest_intact()
            state: dict[str, Any] | None = None
            if directory is not None:
                for name, model in models.items():
                    model.restore(directory / name)
                state = json.loads((directory / STATE).read_bytes())
                self._settle(directory)
            self._covered = -1 if state is None else state["step"]
            self._cut(self._covered)
        return state

    def _newest_intact(self) -> Path | None:
        damaged: dict[Path, str] = {}
        for directory in reversed(self._committed()):
            reason = files.verify(directory)
            if reason is None:
                for bad, why in damaged.items():
                    aside = bad.with_name(f"damaged-{bad.name}")
                    self.view.say(f"{self.name}: {bad.name} is damaged ({why}): resuming from {directory.name}")
                    files.remove_tree(aside)
                    files.move(bad, aside)
                return directory
            damaged[directory] = reason
        if damaged:
            reasons = "; ".join(f"{path.name}: {why}" for path, why in damaged.items())
            raise InputError(
                f"no checkpoint in {self.checkpoints} is intact ({reasons}). "
                f"Restore one from a backup, or move {self.directory} away to start this stage again."
            )
        return None

    def _cut(self, step: int) -> None:
        """Remove what is newer than ``step``, and what a killed write left."""
        files.truncate_lines(self.metrics, lambda line: line["step"] <= step)
        for path in self.rollouts.glob("step-*.parquet"):
            if _step_of(path) > step:
                files.remove(path)
        for path in self.checkpoints.glob(".step-*"):
            files.remove_tree(path)

    def _committed(self) -> list[Path]:
        """The checkpoints, oldest first."""
        found = (path for path in self.checkpoints.glob("step-*") if path.is_dir())
        return sorted(found, key=_step_of)

    # --- what a step leaves ------------------------------------------------------------------

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append one line to metrics.jsonl and show it. Values that cannot repeat have names that begin with "perf/".

        A value that is not finite is written as null. Raises ValueError for a step that a checkpoint has closed.
        """
        self._check_open(step)
        numbers = {name: float(value) for name, value in metrics.items()}
        written = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        with signals.protected():
            files.append_json_line(self.metrics, {"step": step, **written})
            for sink in self._sinks:
                sink.log(step, numbers)
        self.view.step(step, numbers)

    def write_rollouts(self, step: int, table: pa.Table) -> Path:
        """Write the rollouts of a step to ``rollouts/step-000010.parquet``. Raises ValueError for a closed step."""
        self._check_open(step)
        with signals.protected():
            path = files.make_directory(self.rollouts) / f"step-{step:06d}.parquet"
            files.write_parquet(path, table)
        return path

    def _check_open(self, step: int) -> None:
        if step <= self._covered:
            raise ValueError(f"step {step} is covered by checkpoint {self._covered}: write it before the checkpoint")

    # --- checkpoints -------------------------------------------------------------------------

    def checkpoint(
        self, step: int, models: Mapping[str, Checkpointable], state: Mapping[str, Any], best: float | None = None
    ) -> Path:
        """Save ``models`` and the JSON-able ``state`` as ``checkpoints/step-000020``; return that directory.

        ``best`` is the score of this step, higher is better: the checkpoint with the highest one is kept besides the
        last ``keep_checkpoints``. Both "step" and "best" are recorded in the state. A signal waits until it is done.
        A step that is already saved is not saved again. Raises DiskFullError, after removing what it had written;
        earlier checkpoints stay.
        """
        final = self.checkpoints / f"step-{step:06d}"
        if step == self._covered:
            return final
        score = best if best is not None and math.isfinite(best) else None
        with signals.protected():
            temporary = self.checkpoints / f".{final.name}"
            files.sync(self.metrics)  # a checkpoint never knows more than the metrics on disk
            try:
                files.remove_tree(temporary)
                for name, model in models.items():
                    model.checkpoint(files.make_directory(temporary / name))
                files.make_directory(temporary)
                files.write_json(temporary / STATE, {**state, "step": step, "best": score})
                files.commit_directory(temporary, final)
            except BaseException:
                files.remove_tree(temporary)
                raise
            self._covered = step
            self._settle(final)
        return final

    def _settle(self, newest: Path) -> None:
        """Name the newest checkpoint in ``latest``, and remove those that are neither recent nor the best."""
        files.write_text(self.checkpoints / LATEST, newest.name + "\n")
        committed = self._committed()
        scores = {path: score for path in committed if (score := _score(path)) is not None}
        kept = {*committed[-self.keep_checkpoints :], *sorted(scores, key=lambda path: -scores[path])[:1]}
        for path in committed:
            if path not in kept:
                files.remove_tree(path)

    def protected(self) -> AbstractContextManager[None]:
        """Defer Ctrl-C and SIGTERM to the end of the body: for an optimizer step and what must go with it."""
        return signals.protected()


def _score(checkpoint: Path) -> float | None:
    """The recorded score; none for a damaged checkpoint, which is then kept only while it is recent."""
    try:
        score = json.loads((checkpoint / STATE).read_bytes())["best"]
    except (OSError, ValueError, KeyError):
        return None
    return None if score is None else float(score)


def _step_of(path: Path) -> int:
    found = re.match(r"step-(\d+)", path.name)
    return int(found[1]) if found else -1
