"""A run: one directory, one seed, and stages that are done once.

``run.stage(fn, name, ...)`` runs ``fn`` in its own directory unless ``done.json`` there already answers for the same
arguments. So a recipe is a straight-line program that may be killed anywhere and started again, and an edit re-runs
only what it changed.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import torch

from burnish import config as configuration
from burnish import files, signals
from burnish.core.keys import derive
from burnish.errors import InputError
from burnish.sinks import open_sinks
from burnish.stage import Artifact, Stage, fingerprint
from burnish.view import View

__all__ = ["Artifact", "Run", "Stage"]

RUN, STAGE, DONE, SUMMARY, LOCK = "run.json", "stage.json", "done.json", "summary.json", ".lock"
METRICS = "metrics.jsonl"
TOTALS = ("tokens/sampled", "tokens/trained")
FIXED = ("recipe", "scale", "seed")


class Run:
    """A run directory that this process holds. Use :meth:`open`, in a ``with`` statement."""

    def __init__(
        self,
        directory: Path,
        record: dict[str, Any],
        lock: files.Lock,
        *,
        view: View,
        sinks: Sequence[str],
        dry_run: bool,
    ) -> None:
        self.directory = directory
        self.seed: int = record["seed"]
        self.view = view
        self._record = record
        self._lock = lock
        self._sinks = tuple(sinks)
        self._dry_run = dry_run
        self._used: set[str] = set()
        summary = directory / SUMMARY
        self._summary: dict[str, Any] = json.loads(summary.read_bytes()) if summary.exists() else {}

    @classmethod
    def open(
        cls,
        directory: str | Path,
        *,
        recipe: str = "python",
        scale: str = "custom",
        config: Any = None,
        seed: int = 0,
        resume: bool = False,
        view: View | None = None,
        sinks: Sequence[str] = (),
        dry_run: bool = False,
    ) -> Self:
        """Create the run directory, or with ``resume`` take up the one that is there, and record what this run is.

        ``config`` is a dataclass; it may change between a run and its resume, because each stage knows its own
        arguments. ``sinks`` names where metrics also go; ``dry_run`` is passed on to the stages. Raises InputError when
        another process holds the directory, when it exists and ``resume`` is False, when there is nothing to resume,
        and when recipe, scale, seed or the number of torch threads differ.
        """
        path = Path(directory).absolute()
        if resume and not path.is_dir():
            raise InputError(f"there is no run to resume in {directory}: leave out --resume to start one.")
        if path.exists() and not path.is_dir():
            raise InputError(f"{directory} is a file: choose another directory with --out.")
        view = view or View()
        record = _record(recipe, scale, configuration.plain(config), seed)
        lock = files.Lock(files.make_directory(path) / LOCK)
        if not lock.acquire():
            raise InputError(f"process {lock.holder()} is using {directory}: wait for it, or choose another --out.")
        try:
            _check_directory(path, resume)
            if (path / RUN).exists():
                _check_same(json.loads((path / RUN).read_bytes()), record, view)
            files.write_json(path / RUN, record)
            return cls(path, record, lock, view=view, sinks=sinks, dry_run=dry_run)
        except BaseException:
            lock.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.view.close()
        self._lock.release()

    def summary(self, entry: Mapping[str, Mapping[str, Any]]) -> None:
        """Add ``{stage name: {what was measured: JSON-able value}}`` to summary.json, name by name."""
        for name, measured in entry.items():
            self._summary[name] = {**self._summary.get(name, {}), **measured}
        files.write_json(self.directory / SUMMARY, self._summary)

    # --- stages ------------------------------------------------------------------------------

    def stage(self, fn: Callable[..., Any], name: str, /, *args: Any, cache: bool = False, **kwargs: Any) -> Any:
        """The result of ``fn(stage, *args, **kwargs)``, computed in ``<run>/<name>`` or found there.

        A path inside the stage's directory comes back as an :class:`Artifact`, JSON-able values as JSON gives them
        back. Whether a result is there already is decided by the arguments (see :func:`burnish.stage.fingerprint`);
        a directory with other arguments is moved aside, never overwritten, and an unfinished one is continued.

        With ``cache`` the result is shared between runs through the user's cache. Such a stage has a seed of its own
        name only, so that its result does not depend on which run came first. Raises InputError for an argument that
        has no stable hash and for a result that cannot be stored.
        """
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name) or ".old-" in name or name in self._used:
            raise ValueError(f"stage name {name!r} is used twice or is not a plain directory name")
        self._used.add(name)
        seed = derive("cached stage", name) if cache else derive(self.seed, name)
        digest = fingerprint(fn, args, kwargs, seed)
        directory = self.directory / name
        if (found := self._finished(directory, digest)) is not None:
            return _load(directory, found)

        def work() -> Any:
            # What is cached is an ingredient of the rehearsal, not its subject: a dry run computes it like any other run.
            rehearsal = self._dry_run and not cache
            return self._perform(directory, digest, seed, lambda stage: fn(stage, *args, **kwargs), rehearsal)

        return self._shared(directory, digest, work) if cache else work()

    def _finished(self, directory: Path, digest: str) -> dict[str, Any] | None:
        """What done.json says, if it answers for these arguments. What does not belong to them is moved aside."""
        if not directory.exists() or _is_bare(directory):
            return None
        reason = "its arguments changed"
        if _read(directory / STAGE).get("hash") == digest:
            done = _read(directory / DONE)
            if not done:
                return None
            if _intact(directory, done):
                return done
            reason = "its result was changed or removed"
        aside = next(p for n in range(1, 10**6) if not (p := directory.with_name(f"{directory.name}.old-{n}")).exists())
        files.move(directory, aside)
        self._summary.pop(directory.name, None)
        self.view.say(f"{directory.name} runs again, because {reason}; the old one is now {aside.name}")
        return None

    def _perform(self, directory: Path, digest: str, seed: int, work: Callable[[Stage], Any], rehearsal: bool) -> Any:
        """Run a stage, keeping stage.json true about it however it ends."""
        files.make_directory(directory)
        began, before = time.monotonic(), float(_read(directory / STAGE).get("perf/seconds", 0.0))

        def status(now: str) -> float:
            seconds = round(before + time.monotonic() - began, 3)
            stamp = datetime.now(UTC).isoformat(timespec="seconds")
            record = {"hash": digest, "status": now, "perf/seconds": seconds, "perf/updated": stamp}
            files.write_json(directory / STAGE, record)
            return seconds

        status("running")
        sinks = open_sinks(self._sinks, directory, self._record)
        try:
            result = work(Stage(directory, seed=seed, view=self.view, sinks=sinks, dry_run=rehearsal))
            done = {"hash": digest, "result": _store(directory, result)}
        except BaseException as error:
            # A full disk must not hide the error that is on its way.
            with contextlib.suppress(files.DiskFullError):
                status("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
            raise
        finally:
            self.view.close()  # what is said from here on stands below the stage
            for sink in sinks:
                sink.close()
        with signals.protected():
            self.summary({directory.name: {"perf/seconds": status("done"), **_totals(directory / METRICS)}})
            files.write_json(directory / DONE, done)
        return _load(directory, done)

    def _shared(self, directory: Path, digest: str, work: Callable[[], Any]) -> Any:
        """The result from the user's cache, or from ``work`` and then kept there. One process computes, others wait."""
        versions = self._record["versions"]
        key = f"{digest[:32]}-burnish{versions['burnish']}-torch{versions['torch']}"
        entry = files.make_directory(files.cache_dir() / "stages") / key
        with files.Lock(entry.with_name(f"{key}.lock")) as lock:
            if not lock.acquire():
                self.view.say(f"{directory.name}: waiting for process {lock.holder()}, which computes the same stage")
                lock.acquire(wait=True)
            if entry.exists() and (reason := files.verify(entry)):
                self.view.say(f"{directory.name}: the cached result is damaged ({reason}) and is computed again")
                files.remove_tree(entry)
            if entry.exists():
                return self._fetch(entry, directory)
            result = work()
            temporary = entry.with_name(f".{key}")
            files.remove_tree(temporary)
            files.hardlink_or_copy_tree(directory, temporary, skip=("checkpoints",))
            files.commit_directory(temporary, entry)
            return result

    def _fetch(self, entry: Path, directory: Path) -> Any:
        temporary = directory.with_name(f".{directory.name}")
        files.remove_tree(temporary)
        files.hardlink_or_copy_tree(entry, temporary)
        done = {**_read(entry / DONE), "cached": str(entry)}
        files.write_json(temporary / DONE, done)
        files.remove_tree(directory)  # at most the unfinished work on what is finished in the cache
        files.move(temporary, directory)
        self.summary({directory.name: {"cached": True}})
        return _load(directory, done)


# --- results -----------------------------------------------------------------------------------


def _read(path: Path) -> dict[str, Any]:
    """A JSON object, or {} where there is no such file (a kill may come before the first write)."""
    return json.loads(path.read_bytes()) if path.exists() else {}


def _store(directory: Path, result: Any) -> dict[str, Any]:
    if isinstance(result, Path):
        path = result.absolute()
        if not path.is_relative_to(directory) or path == directory or not path.exists():
            raise InputError(f"stage '{directory.name}' returned {result}: return a path inside {directory}.")
        return {"artifact": path.relative_to(directory).as_posix(), "sha256": Artifact.of(path).sha256}
    try:
        return {"value": json.loads(json.dumps(result, allow_nan=False))}
    except (TypeError, ValueError) as error:
        raise InputError(
            f"stage '{directory.name}' returned a {type(result).__name__} that is neither a path inside its directory "
            f"nor plain JSON: {error}."
        ) from error


def _load(directory: Path, done: Mapping[str, Any]) -> Any:
    result = done["result"]
    if "artifact" in result:
        return Artifact(str(directory / result["artifact"]), result["sha256"])
    return result["value"]


def _intact(directory: Path, done: Mapping[str, Any]) -> bool:
    """Whether the files of a finished stage are still the ones it left."""
    result = _load(directory, done)
    if not isinstance(result, Artifact):
        return True
    return Path(result).exists() and Artifact.of(Path(result)).sha256 == result.sha256


def _totals(metrics: Path) -> dict[str, float]:
    """Sums over all steps of the metrics that count something."""
    if not metrics.exists():
        return {}
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    return {name: sum(line[name] for line in lines if name in line) for name in TOTALS if any(name in x for x in lines)}


# --- what is recorded --------------------------------------------------------------------------


def _record(recipe: str, scale: str, config: Any, seed: int) -> dict[str, Any]:
    return {
        "recipe": recipe,
        "scale": scale,
        "config": config,
        "seed": seed,
        "versions": {
            "burnish": version("burnish"),
            "torch": torch.__version__,
            "transformers": version("transformers"),
            "python": platform.python_version(),
        },
        "git": _git_sha(),
        "hardware": hardware(),
        "perf/opened": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _git_sha() -> str | None:
    """The commit of the repository in the working directory, or None outside of one and where git is not installed."""
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return found.stdout.strip() if found.returncode == 0 else None


def hardware() -> dict[str, Any]:
    """The machine: processor, cores, torch's threads, memory in GiB, and the name of the GPU if there is one."""
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"^model name\s*: (.*)$", cpuinfo.read_text(), re.M) if cpuinfo.exists() else None
    return {
        "cpu": model[1] if model else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _is_bare(directory: Path) -> bool:
    """Whether a directory holds nothing, or only hidden files: a kill may come before its first visible one."""
    return all(child.name.startswith(".") for child in directory.iterdir())


def _check_directory(path: Path, resume: bool) -> None:
    """Raise InputError unless the directory is new or is resumed."""
    if _is_bare(path):
        return
    if not resume:
        raise InputError(f"{path} exists: continue it with --resume, or choose another directory with --out.")
    if not (path / RUN).exists():
        raise InputError(f"{path} is not a run directory (it has no {RUN}): choose another with --out.")


def _check_same(old: Mapping[str, Any], new: Mapping[str, Any], view: View) -> None:
    """Raise InputError where resuming would not give the run that was begun; say what is only likely to matter."""
    for name in FIXED:
        if old[name] != new[name]:
            raise InputError(
                f"the run was begun with {name} {old[name]} and cannot go on with {new[name]}: "
                f"resume it with {name} {old[name]}, or start another with --out."
            )
    threads, now = old["hardware"]["threads"], new["hardware"]["threads"]
    if threads != now:
        raise InputError(
            f"the run used {threads} torch threads and this process has {now}, which changes the last bits of sums: "
            f"set OMP_NUM_THREADS={threads} to resume it."
        )
    for name, before in old["versions"].items():
        if before != new["versions"][name]:
            view.say(f"{name} was {before} and is now {new['versions'][name]}: results may differ in the last bits")
    if old["config"] != new["config"]:
        view.say("the configuration changed: stages whose arguments changed run again")
