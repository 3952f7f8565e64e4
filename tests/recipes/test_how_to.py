"""The pages that show how to train a model: their data as they make them, their commands as they are printed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from burnish.cli import main

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {
    "reward-models.md": {"rm", "hybrid", "two", "ppo", "steps", "guesser", "rollouts"},
    "distillation.md": {"teacher", "own", "jsd", "texts", "top"},
}
"""The runs that a page makes."""


@pytest.mark.parametrize("page", list(PAGES))
def test_a_page_does_what_it_prints(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    data = re.search(r"<!-- example -->\n```python\n(.*?)```", text, re.DOTALL)
    assert data is not None
    exec(data[1], {})
    for block in re.findall(r"<!-- commands -->\n```\n(.*?)```", text, re.DOTALL):
        for line in block.splitlines():
            program, *words = shlex.split(line)
            quiet = ["--quiet"] if words[0] == "run" else []
            assert program == "burnish" and main([*words, *quiet]) == 0, line
    assert {path.name for path in (tmp_path / "runs").iterdir()} == PAGES[page]
