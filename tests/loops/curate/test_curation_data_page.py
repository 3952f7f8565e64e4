"""The example of docs/curation-data.md runs, and so do its commands."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from pathlib import Path

import pytest

from burnish.cli import main
from burnish.engines.table import END
from curating import provenance, rows, speaker, write

PAGE = Path(__file__).parents[3] / "docs" / "curation-data.md"


def block(mark: str) -> str:
    found = re.search(rf"{mark}\n```(?:python)?\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(block("<!-- example -->"), names)
    kept = [len(rows(Path(str(names[name].path)))) for name in ("once", "even", "few")]  # type: ignore[attr-defined]
    assert kept == [108, 58, 10]
    few = Path(names["few"].path)  # type: ignore[attr-defined]
    assert set(Counter(row["domain"] for row in rows(few))) == {"sums", "words"}
    assert provenance(few)["counts"]["kept"] == 10


def files(here: Path) -> None:
    """What the commands ask for: rows of two domains, pairs, a code problem, prompts with answers, a model."""
    digits = {"4": {"4": 0.3, "5": 0.3, END: 0.4}, "5": {"4": 0.3, "5": 0.3, END: 0.4}}
    table = {word: {"4": 0.5, "5": 0.5} for word in ("how?", "nothing else.", "yet.")} | digits
    speaker(here / "table", table)
    lines = [{"prompt": f"q{i}", "completion": "x" * i, "domain": f"d{i % 2}", "pass_rate": 0.5} for i in range(1, 99)]
    write(here / "all.jsonl", lines)
    write(
        here / "pairs.jsonl", [{"prompt": "q", "chosen": a, "rejected": b} for a, b in (("x", "xx"), ("xx", "x")) * 10]
    )
    write(here / "asked.jsonl", [{"prompt": f"{'so ' * i}how?", "answer": "4"} for i in range(8)])
    double = "print(2 * int(input()))"
    write(here / "problems.jsonl", [{"prompt": "double", "submissions": [double] * 10, "inputs": ["1", "2"]}])


@pytest.mark.needs_sandbox
def test_the_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they are printed, but for the model."""
    monkeypatch.chdir(tmp_path)
    files(tmp_path)
    for line in block("From the command line:\n").splitlines():
        words = shlex.split(line.replace("smollm2-135m", "table"))[1:]
        assert main(words) == 0, line
        assert rows(tmp_path / words[words.index("--out") + 1]), line
