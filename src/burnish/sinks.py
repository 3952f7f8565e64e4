"""Metrics sent elsewhere while they are written to metrics.jsonl: tensorboard, trackio, wandb. Each is an extra, off by
default. A sink writes through its own library, so what it keeps is a copy: nothing in Burnish ever reads it back.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from burnish.errors import InputError, unknown


class Sink(Protocol):
    """Where metrics go besides the run directory."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None: ...
    def close(self) -> None: ...


def open_sinks(names: Sequence[str], directory: Path, config: Mapping[str, Any]) -> list[Sink]:
    """Open the named sinks for a stage. ``config`` is the plain configuration that goes along.

    Raises InputError for an unknown name and for a library that is not installed (naming the extra).
    """
    for name in names:
        if name not in _SINKS:
            raise unknown("metrics sink", name, _SINKS)
    return [_SINKS[name](directory, config) for name in names]


def _library(name: str, module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(f"the metrics sink '{name}' is not installed: pip install 'burnish[{name}]'.") from error


def _title(directory: Path) -> str:
    """Run and stage, as the outside world lists them."""
    return f"{directory.parent.name}/{directory.name}"


class Tensorboard:
    """Event files in ``<stage>/tensorboard``."""

    def __init__(self, directory: Path, config: Mapping[str, Any]) -> None:
        _library("tensorboard", "tensorboard")
        self._writer = _library("tensorboard", "torch.utils.tensorboard").SummaryWriter(str(directory / "tensorboard"))
        self._writer.add_text("config", str(dict(config)))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class Trackio:
    """A local trackio project called burnish."""

    def __init__(self, directory: Path, config: Mapping[str, Any]) -> None:
        self._run = _library("trackio", "trackio").init(project="burnish", name=_title(directory), config=dict(config))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        self._run.finish()


class Wandb:
    """A wandb run, kept offline unless WANDB_MODE says otherwise: nothing leaves the machine unasked."""

    def __init__(self, directory: Path, config: Mapping[str, Any]) -> None:
        self._run = _library("wandb", "wandb").init(
            project="burnish",
            name=_title(directory),
            dir=str(directory),
            config=dict(config),
            mode=os.environ.get("WANDB_MODE", "offline"),
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        self._run.finish()


_SINKS: dict[str, Callable[[Path, Mapping[str, Any]], Sink]] = {
    "tensorboard": Tensorboard,
    "trackio": Trackio,
    "wandb": Wandb,
}
