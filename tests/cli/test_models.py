"""`burnish sample` on a model that says nothing sensible."""

from __future__ import annotations

from pathlib import Path

import pytest

from burnish.cli import main

Captured = pytest.CaptureFixture[str]


def test_sample_repeats_itself_unless_the_seed_changes(nano: Path, capsys: Captured) -> None:
    def replies(*options: str) -> str:
        assert main(["sample", str(nano), "Hello", "-n", "2", "--max-tokens", "8", *options]) == 0
        return str(capsys.readouterr().out)

    first = replies()
    assert first.startswith("[1] ") and "\n[2] " in first
    assert replies() == first != replies("--seed", "1")
    greedy = replies("--temperature", "0")
    assert greedy.split("\n[2] ")[0][4:] == greedy.split("\n[2] ")[1].rstrip("\n")
    assert replies("--top-k", "1") == greedy


def test_sample_says_when_a_reply_was_cut(nano: Path, capsys: Captured) -> None:
    assert main(["sample", str(nano), "Hello", "--max-tokens", "1"]) == 0
    assert "the reply was cut off; --max-tokens allows longer ones" in capsys.readouterr().err
