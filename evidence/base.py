"""What an experiment is, what a finished cell leaves, and when a cell has to run again.

An experiment is a question, the answer expected before any run, and cells: variants x seeds. A finished cell is one JSON
file with its numbers and how they came about; the tables of the documents are made from these files and nothing else.

A cell is done while its code is the code of today. Its hash is over the experiment's module and all that it imports of
this repository, without what cannot change a number: comments, documentation strings, ``report`` and ``plot``.
"""

from __future__ import annotations

import ast
import hashlib
import json
import platform
import resource
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from burnish import files
from burnish.run import hardware

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "evidence" / "results"
PRESENTATION = {"evidence/base.py", "evidence/tables.py", "evidence/plot.py"}
FUNCTIONS_OF_PRESENTATION = ("report", "plot")

Numbers = dict[str, Any]


class Experiment(ABC):
    """A question, and cells that answer it. A module of this package gives its experiment as ``EXPERIMENT``."""

    name: str
    """That of the module, of the results' folder and of the markers in the documents."""
    question: str
    expected: str
    """What is expected and why, written before the first run."""
    seeds: Sequence[int] = (0, 1, 2, 3, 4)

    @property
    @abstractmethod
    def variants(self) -> Sequence[str]: ...

    @abstractmethod
    def run(self, variant: str, seed: int, folder: Path, *, smoke: bool = False) -> Numbers:
        """Train and measure in the empty ``folder``, which is deleted afterwards. JSON comes back.

        ``smoke`` asks for a few steps only: does it run at all?
        """

    @abstractmethod
    def report(self, results: Results) -> str:
        """Markdown between the markers of the experiment: tables and what they say."""

    def plot(self, results: Results) -> str | None:  # noqa: ARG002 - an experiment may have none
        """An SVG to stand below the report."""
        return None

    def cells(self, seeds: Sequence[int] | None = None) -> list[tuple[str, int]]:
        """Seed by seed, so that an evidence run that is stopped has all variants with fewer seeds."""
        return [(variant, seed) for seed in (self.seeds if seeds is None else seeds) for variant in self.variants]


@dataclass(frozen=True)
class Cell:
    """What one run left: the numbers, and all there is to know about how they came about."""

    experiment: str
    variant: str
    seed: int
    numbers: Numbers
    command: str
    code: str
    seconds: float
    memory_gb: float
    versions: Mapping[str, str]
    hardware: Mapping[str, Any]
    finished: str


class Results:
    """The finished cells by variant, in the order of the experiment, seeds ascending. Variants without a cell are missing."""

    def __init__(self, cells: Mapping[str, Sequence[Cell]]) -> None:
        self._cells = {variant: sorted(found, key=lambda c: c.seed) for variant, found in cells.items() if found}

    def __contains__(self, variant: str) -> bool:
        return variant in self._cells

    def __getitem__(self, variant: str) -> Sequence[Cell]:
        return self._cells[variant]

    def __iter__(self) -> Iterator[str]:
        return iter(self._cells)

    def __len__(self) -> int:
        return len(self._cells)

    def values(self, variant: str, number: str) -> list[float]:
        """One number, seed by seed."""
        return [cell.numbers[number] for cell in self[variant]]

    def pairs(self, variant: str, other: str, number: str) -> list[float]:
        """``number`` of ``variant`` minus that of ``other``, for the seeds that both have."""
        theirs = {cell.seed: cell.numbers[number] for cell in self[other]}
        return [cell.numbers[number] - theirs[cell.seed] for cell in self[variant] if cell.seed in theirs]

    @property
    def codes(self) -> list[str]:
        return sorted({cell.code for cells in self._cells.values() for cell in cells})


# --- code ----------------------------------------------------------------------------------------


def code_hash(module: Path) -> str:
    """16 hex digits for a module of ``evidence`` and everything it imports of its repository, directly or not."""
    root = module.parents[1]
    reached: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        path = waiting.pop()
        name = path.relative_to(root).as_posix()
        if name not in reached and name not in PRESENTATION:
            reached[name] = path
            waiting += _imports(path, root)
    digest = hashlib.sha256()
    for name in sorted(reached):
        digest.update(f"{name}\n{substance(reached[name])}\n".encode())
    return digest.hexdigest()[:16]


@cache
def substance(path: Path) -> str:
    """The source without what cannot change a number: strings that stand alone, comment lines, ``report`` and ``plot``."""
    text = path.read_text(encoding="utf-8")
    dropped: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        alone = (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        )
        if alone or (isinstance(node, ast.FunctionDef) and node.name in FUNCTIONS_OF_PRESENTATION):
            assert isinstance(node, ast.stmt)
            dropped |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    kept = [line.rstrip() for number, line in enumerate(text.splitlines(), 1) if number not in dropped]
    return "\n".join(line for line in kept if line and not line.lstrip().startswith("#"))


@cache
def _imports(path: Path, root: Path) -> tuple[Path, ...]:
    """The files of this repository that a module imports by name, without the packages' ``__init__``, which only list."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    places = [base / f"{name.replace('.', '/')}.py" for name in names for base in (root / "src", root)]
    return tuple(place for place in places if place.is_file())


# --- cells ---------------------------------------------------------------------------------------


def module_of(experiment: Experiment) -> Path:
    return Path(sys.modules[type(experiment).__module__].__file__ or "").resolve()


def path_of(experiment: str, variant: str, seed: int, results: Path) -> Path:
    return results / experiment / f"{variant}-{seed}.json"


def read(path: Path) -> Cell | None:
    """The cell of a file, or None where there is none yet."""
    return Cell(**json.loads(path.read_bytes())) if path.exists() else None


def load(experiment: Experiment, results: Path, *, code: str | None = None) -> Results:
    """The finished cells of an experiment; with ``code`` only those of that hash."""
    found: dict[str, list[Cell]] = {}
    for variant in experiment.variants:
        cells = [read(path) for path in sorted((results / experiment.name).glob(f"{variant}-*.json"))]
        found[variant] = [
            c for c in cells if c is not None and c.variant == variant and (code is None or c.code == code)
        ]
    return Results(found)


def perform(experiment: Experiment, variant: str, seed: int, results: Path, *, smoke: bool = False) -> Cell:
    """Run one cell in this process and write its file."""
    if variant not in experiment.variants:
        raise SystemExit(f"{experiment.name} has no variant '{variant}': {', '.join(experiment.variants)}")
    code = code_hash(module_of(experiment))
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="evidence-") as folder:
        numbers = experiment.run(variant, seed, Path(folder), smoke=smoke)
    cell = Cell(
        experiment.name, variant, seed, numbers,
        command=f"python -m evidence --cell {experiment.name} {variant} {seed}" + " --smoke" * smoke,
        code=code,
        seconds=round(time.perf_counter() - began, 1),
        memory_gb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 3),
        versions={name: version(name) for name in ("burnish", "torch", "transformers", "numpy")}
        | {"python": platform.python_version()},
        hardware=hardware(),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )  # fmt: skip
    path = path_of(experiment.name, variant, seed, results)
    files.make_directory(path.parent)
    files.write_json(path, asdict(cell))
    return cell
