"""The example of docs/curation-data.md runs."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from curating import provenance, rows

PAGE = Path(__file__).parents[3] / "docs" / "curation-data.md"


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    block = re.search(r"<!-- example -->\n```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    names: dict[str, object] = {}
    exec(block[1], names)
    kept = [len(rows(Path(str(names[name].path)))) for name in ("once", "even", "few")]  # type: ignore[attr-defined]
    assert kept == [108, 58, 10]
    few = Path(names["few"].path)  # type: ignore[attr-defined]
    assert set(Counter(row["domain"] for row in rows(few))) == {"sums", "words"}
    assert provenance(few)["counts"]["kept"] == 10
