"""Progress: plain lines or a live display, never both, and nothing wider than the terminal."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from burnish.errors import InputError
from burnish.sinks import open_sinks
from burnish.view import View, duration

METRICS = {"reward/mean": 0.534, "length/mean": 14.23, "perf/time_step": 3.1, "loss": float("nan"), "kl/ref": 1.0}


def _view(width: int = 80, terminal: bool = False) -> tuple[View, io.StringIO]:
    output = io.StringIO()
    return View(Console(file=output, width=width, force_terminal=terminal, legacy_windows=False)), output


def test_plain_lines_outside_a_terminal():
    view, output = _view()
    with view:
        view.stage("1-grpo", 40)
        view.step(12, METRICS)
        view.say("[not markup] :smile:")
    assert output.getvalue() == (
        "1-grpo: 40 steps\nstep 12/40  reward 0.53  loss nan  length 14.2  3.1 s\n[not markup] :smile:\n"
    )


def test_a_long_line_is_not_broken_outside_a_terminal():
    view, output = _view(width=20)
    view.say("x" * 50)
    assert output.getvalue() == "x" * 50 + "\n"


@pytest.mark.parametrize("width", [12, 24, 80])
def test_the_live_display_fits_the_terminal(width):
    view, output = _view(width, terminal=True)
    with view:
        view.stage("1-grpo-with-a-long-name", 40)
        for step in (11, 12):
            view.step(step, METRICS)
        lines = view._console.render_lines(view._render())
        text = ["".join(segment.text for segment in line) for line in lines]
    assert all(len(line) <= width for line in text)
    assert len(text) == 3 + 2  # bar, values, times, and the two recent steps: no line was wrapped
    if width == 80:
        assert "1-grpo-with-a-long-name  12/40" in text[0]
        assert "reward 0.53" in text[1]
        assert "left" in text[2]
        final = re.sub(r"\x1b\[[0-9?;]*[A-Za-z]", "", output.getvalue()).splitlines()
        assert final[-1].strip().startswith("1-grpo-with-a-long-name  12/40  reward 0.53")


def test_a_terminal_gets_no_plain_lines():
    view, output = _view(terminal=True)
    view.stage("a", 2)
    view._live.stop()  # the display's own last frame is not what is looked at here
    output.truncate(0)
    view.step(1, METRICS)
    assert output.getvalue().strip("\0") == ""
    view.close()
    view.close()


def test_quiet_says_nothing():
    output = io.StringIO()
    with View(Console(file=output, force_terminal=True), quiet=True) as view:
        view.stage("a", 2)
        view.step(1, METRICS)
        view.say("x")
    assert output.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (3.14, "3.1 s"), (59.98, "1 m 00 s"), (125, "2 m 05 s"), (3840, "1 h 04 m")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_sinks_are_off_by_default_and_name_their_extra(tmp_path):
    assert open_sinks([], tmp_path, {}) == []
    with pytest.raises(InputError, match="Did you mean 'wandb'"):
        open_sinks(["wandbb"], tmp_path, {})
    for name in ("tensorboard", "trackio", "wandb"):
        try:
            __import__(name)
        except ImportError:
            with pytest.raises(InputError, match=rf"pip install 'burnish\[{name}\]'"):
                open_sinks([name], tmp_path, {})
