"""Puts an experiment's report between its markers in the documents.

<!-- evidence:NAME -->
...
<!-- /evidence:NAME -->
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from burnish import files
from evidence.base import ROOT, Experiment, Results
from evidence.tables import paragraph

FIGURES = ROOT / "docs" / "figures"


def body(experiment: Experiment, results: Results, figure: str) -> str:
    """The question, the expectation, the tables, the figure, and what the numbers are of."""
    parts = [
        paragraph(f"**Question.** {experiment.question}"),
        paragraph(f"**Expected, before the first run.** {experiment.expected}"),
    ]
    if not results:
        return "\n\n".join([*parts, f"No results yet: `make evidence ONLY={experiment.name}`."])
    parts.append(experiment.report(results))
    if figure:
        parts.append(f"![{experiment.name}]({figure})")
    return "\n\n".join([*parts, provenance(results)])


def provenance(results: Results) -> str:
    """Command, seeds, code, versions, machine: of all cells together."""
    cells = [cell for variant in results for cell in results[variant]]
    first = cells[0]
    seeds = ", ".join(str(seed) for seed in sorted({cell.seed for cell in cells}))
    machines = "; ".join(sorted({f"{c.hardware['cpu']}, {c.hardware['threads']} thread a cell" for c in cells}))
    torches = ", ".join(sorted({cell.versions["torch"] for cell in cells}))
    codes = ", ".join(f"`{code}`" for code in results.codes)
    mixed = " (cells of different code stand side by side)" if len(results.codes) > 1 else ""
    return paragraph(
        f"{len(cells)} cells, seeds {seeds}, code {codes}{mixed}, torch {torches}, {machines}, "
        f"{sum(c.seconds for c in cells) / 60:.0f} minutes of one core. `make evidence ONLY={first.experiment}`"
    )


def write(experiment: Experiment, results: Results) -> list[Path]:
    """Rewrite every document that has the markers; return them."""
    markers = re.compile(
        rf"(<!-- evidence:{experiment.name} -->\n).*?(<!-- /evidence:{experiment.name} -->)", re.DOTALL
    )
    drawn = experiment.plot(results) if results else None
    drawing = FIGURES / f"{experiment.name}.svg"
    if drawn is not None:
        files.make_directory(FIGURES)
        files.write_text(drawing, drawn)
    changed = []
    for page in sorted((ROOT / "docs").rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        figure = os.path.relpath(drawing, page.parent) if drawn is not None else ""
        filled, count = markers.subn(lambda m, f=figure: f"{m[1]}{body(experiment, results, f)}\n{m[2]}", text)  # type: ignore[misc]
        if count:
            files.write_text(page, filled)
            changed.append(page)
    print(
        f"{experiment.name}: {', '.join(p.relative_to(ROOT).as_posix() for p in changed) or 'no page has its markers'}"
    )
    return changed
