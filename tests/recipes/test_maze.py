"""The maze recipe, as printed: from the numbers of a uniform policy to certain success, and done when done."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from burnish.loops.report import DryRunFinished
from burnish.recipes.maze import SCALES, Maze, above, frame, main
from burnish.run import Run
from burnish.tabular import exact
from burnish.tabular.worlds import SIX_STEPS
from burnish.view import View


def play(directory: Path, settings: Maze, screen: Console, *, resume: bool = False, dry_run: bool = False) -> str:
    opened = Run.open(
        directory, recipe="maze", scale="tiny", config=settings, view=View(screen), resume=resume, dry_run=dry_run
    )
    with opened as run:
        main(run, settings)
    return screen.export_text()


def recorder(terminal: bool = False) -> Console:
    return Console(record=True, width=100, file=io.StringIO(), force_terminal=terminal)


def test_from_uniform_to_certain(tmp_path: Path) -> None:
    settings = SCALES["tiny"]
    text = play(tmp_path / "r", settings, recorder())
    assert text.count("success 0.") == settings.improvements + 1
    first, last = text.split("step 1 ")[0], text.split(f"step {settings.improvements} ")[1]
    assert "3.333" in first and "1.667" in first and "success 0.0174" in first
    assert "success 0.99" in last and "↓" in last and "G" in last
    page = (Path(__file__).parents[2] / "docs" / "tabular.md").read_text(encoding="utf-8")
    for step in (0, settings.improvements):
        printed = text.split(f"step {step} ")[1].split("\n\n")[0].split("\n", 1)[1]
        assert printed in page, "the frames of docs/tabular.md are those that are printed"
    result = json.loads((tmp_path / "r" / "1-exact-gradient" / "done.json").read_text())["result"]["value"]
    assert result["success"] == sorted(result["success"]) and result["success"][-1] > 0.99
    policy = np.array(result["policy"])
    assert exact.success(settings.world, policy, settings.steps) == result["success"][-1]
    metrics = (tmp_path / "r" / "1-exact-gradient" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in metrics] == list(range(settings.improvements + 1))
    again = play(tmp_path / "r", settings, recorder(), resume=True)
    assert "step" not in again and "0.0174 -> 0.99" in again


def test_a_stage_that_was_cut_short_begins_again(tmp_path: Path) -> None:
    settings = replace(SCALES["tiny"], improvements=2)
    metrics = tmp_path / "r" / "1-exact-gradient" / "metrics.jsonl"
    play(tmp_path / "r", settings, recorder())
    before = metrics.read_bytes()
    (metrics.parent / "done.json").unlink()
    play(tmp_path / "r", settings, recorder(), resume=True)
    assert metrics.read_bytes() == before


def test_a_terminal_is_redrawn_and_a_log_is_not(tmp_path: Path) -> None:
    settings = replace(SCALES["tiny"], improvements=1)
    for terminal in (True, False):
        file = io.StringIO()
        console = Console(width=100, file=file, force_terminal=terminal, _environ={"TERM": "xterm"})
        with Run.open(tmp_path / f"{terminal}", config=settings, view=View(console)) as run:
            main(run, settings)
        shown = frame(settings.world, exact.uniform(settings.world), settings.steps)
        printed = 1 + len(shown.splitlines()) + 1  # the line of the log, the frame, and the empty line below it
        assert file.getvalue().count("\x1b[1A") == (printed if terminal else 0)


def test_going_up_clears_as_many_lines() -> None:
    assert str(above(3)) == "\x1b[1A\x1b[2K" * 3 and str(above(0)) == ""


def test_a_dry_run_shows_the_start(tmp_path: Path) -> None:
    screen = recorder()
    with pytest.raises(DryRunFinished):
        play(tmp_path / "r", SCALES["tiny"], screen, dry_run=True)
    assert screen.export_text().count("success") == 1


def test_a_frame_shows_what_is_left_to_expect() -> None:
    lines = frame(SIX_STEPS, exact.uniform(SIX_STEPS), 6).splitlines()
    assert lines[1].split() == ["0.174", "·", "0.139", "·", "0.278", "·", "0.000", "←"]
    assert lines[4].split() == ["0.833", "·", "1.667", "·", "3.333", "·", "G"]


def test_every_scale_reaches_the_goal() -> None:
    for s in SCALES.values():
        logits = np.zeros(s.world.permitted.shape)
        for _ in range(s.improvements):
            logits += s.rate * exact.policy_gradient(s.world, logits, s.steps)
        assert exact.success(s.world, exact.softmax(s.world, logits), s.steps) > 0.99
