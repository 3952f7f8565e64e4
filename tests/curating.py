"""A run with one stage for functions that write data, what it wrote, and a table that takes part in dialogues."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from burnish.engines.table import END
from burnish.run import Run
from burnish.view import View
from words import Chances
from words import write as write_table

DIALOGUE = (
    "{% for m in messages %}{{ m['content'] }}{% if m['role'] == 'assistant' %}" + END + "{% endif %}{% endfor %}"
)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(path: Path, lines: Iterable[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def curate(out: Path, fn: Callable[..., Path], *args: Any, seed: int = 0, **kwargs: Any) -> Path:
    """The data file that ``fn`` writes as a stage of a run."""
    with Run.open(out, recipe="t", scale="tiny", seed=seed, view=View(quiet=True)) as run:
        return Path(run.stage(fn, "s", *args, **kwargs))


def provenance(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.with_suffix(".provenance.json").read_text())
    return found


def speaker(directory: Path, chances: Chances) -> Path:
    """The model directory of a table (:func:`words.write`) whose template closes the turns of the assistant."""
    write_table(directory, chances)
    (directory / "chat_template.jinja").write_text(DIALOGUE)
    return directory
