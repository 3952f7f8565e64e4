"""Run what is missing, cell by cell, and write the tables of the documents.

    python -m evidence [NAME ...] [--jobs 2]      # the cells that are missing or old, then the tables
    python -m evidence [NAME ...] --report        # only the tables
    python -m evidence [NAME ...] --smoke         # two steps of every variant into a temporary folder, tables to the screen
    python -m evidence --cell NAME VARIANT SEED   # one cell, here and now

Each cell is a process with one torch thread. Ctrl-C keeps what is finished; the same command continues.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import evidence
from evidence import base, pages
from evidence.base import RESULTS, ROOT, Experiment

MACHINERY = ("__main__", "base", "pages", "plot", "tables", "nano")


def names() -> list[str]:
    """The modules with an experiment."""
    return [m.name for m in pkgutil.iter_modules(evidence.__path__) if m.name not in MACHINERY]


def get(name: str) -> Experiment:
    if name not in names():
        raise SystemExit(f"there is no experiment '{name}': choose among {', '.join(names())}")
    found = importlib.import_module(f"evidence.{name}").EXPERIMENT
    assert isinstance(found, Experiment) and found.name == name
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m evidence", description=__doc__, formatter_class=_Raw)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"among {', '.join(names())}; none: all of them")
    parser.add_argument("--jobs", type=int, default=2, help="cells at a time (2)")
    parser.add_argument("--report", action="store_true", help="run nothing, write the tables")
    parser.add_argument("--smoke", action="store_true", help="a few steps of one seed, nothing is kept")
    parser.add_argument("--stale-ok", action="store_true", help="keep cells of other code, and say so in the tables")
    parser.add_argument("--seeds", type=int, nargs="+", help="instead of those of the experiment")
    parser.add_argument("--variants", nargs="+", help="only these")
    parser.add_argument("--cell", nargs=3, metavar=("NAME", "VARIANT", "SEED"), help="run one cell in this process")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the cells' files are")
    chosen = parser.parse_args(arguments)
    if chosen.cell:
        name, variant, seed = chosen.cell
        base.perform(get(name), variant, int(seed), chosen.results, smoke=chosen.smoke)
        return 0
    experiments = [get(name) for name in chosen.names or names()]
    if chosen.smoke:
        with tempfile.TemporaryDirectory(prefix="evidence-smoke-") as results:
            failed = [f for e in experiments for f in run(e, Path(results), chosen, seeds=e.seeds[:1])]
            for experiment in experiments:
                print(f"\n{pages.body(experiment, base.load(experiment, Path(results)), figure='')}")
        return bool(failed)
    failed = []
    for experiment in experiments:
        failed += [] if chosen.report else run(experiment, chosen.results, chosen, seeds=chosen.seeds)
        code = None if chosen.stale_ok or chosen.report else base.code_hash(base.module_of(experiment))
        pages.write(experiment, base.load(experiment, chosen.results, code=code))
    return bool(failed)


class _Raw(argparse.RawDescriptionHelpFormatter):
    pass


def missing(
    experiment: Experiment, results: Path, *, seeds: Sequence[int] | None = None, stale_ok: bool = False
) -> list[tuple[str, int]]:
    """The cells without a file, and without ``stale_ok`` those whose file is of other code."""
    code = base.code_hash(base.module_of(experiment))

    def done(variant: str, seed: int) -> bool:
        cell = base.read(base.path_of(experiment.name, variant, seed, results))
        return cell is not None and (stale_ok or cell.code == code)

    return [cell for cell in experiment.cells(seeds) if not done(*cell)]


def run(
    experiment: Experiment, results: Path, chosen: argparse.Namespace, *, seeds: Sequence[int] | None
) -> list[tuple[str, int]]:
    """Run the missing cells, ``jobs`` at a time; return those that failed."""
    todo = missing(experiment, results, seeds=seeds, stale_ok=chosen.stale_ok)
    todo = [cell for cell in todo if not chosen.variants or cell[0] in chosen.variants]
    total, failed = len(todo), list[tuple[str, int]]()
    running: dict[tuple[str, int], tuple[subprocess.Popen[bytes], IO[bytes], float]] = {}
    with tempfile.TemporaryDirectory(prefix="evidence-") as folder:
        try:
            while todo or running:
                while todo and len(running) < chosen.jobs:
                    cell = todo.pop(0)
                    log: IO[bytes] = (Path(folder) / f"{cell[0]}-{cell[1]}.log").open("w+b")
                    running[cell] = (
                        _start(experiment, cell, results, chosen.smoke, folder, log),
                        log,
                        time.monotonic(),
                    )
                time.sleep(0.1)
                for cell in [c for c, (process, *_) in running.items() if process.poll() is not None]:
                    process, log, began = running.pop(cell)
                    place = f"{total - len(todo) - len(running)} of {total}"
                    took = f"{time.monotonic() - began:.0f} s"
                    print(
                        f"{experiment.name} {cell[0]}-{cell[1]} ({place}): {took}{' FAILED' * bool(process.returncode)}",
                        flush=True,
                    )
                    if process.returncode:
                        failed.append(cell)
                        log.seek(0)
                        print(log.read().decode(errors="replace")[-3000:], file=sys.stderr)
                    log.close()
        finally:
            for process, log, _ in running.values():
                process.terminate()
                process.wait()
                log.close()
    return failed


def _start(
    experiment: Experiment, cell: tuple[str, int], results: Path, smoke: bool, folder: str, log: IO[bytes]
) -> subprocess.Popen[bytes]:
    # The temporary folders of cells lie in ours, and go with it however a cell ends.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": folder}
    command = [sys.executable, "-m", "evidence", "--cell", experiment.name, cell[0], str(cell[1])]
    command += ["--results", str(results.absolute()), *["--smoke"] * smoke]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)


if __name__ == "__main__":
    # A kill is like Ctrl-C: running cells are stopped and temporary folders removed.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    sys.exit(main())
