"""What a person sees while a stage runs: a calm live display in a terminal, one plain line a step elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

SHOWN = (
    ("reward/mean", "reward", ".2f"),
    ("eval/accuracy", "held-out", ".2f"),
    ("loss", "loss", ".3f"),
    ("reward/accuracy", "accuracy", ".2f"),
    ("reward/margin", "margin", ".2f"),
    ("length/mean", "length", ".1f"),
    ("perf/rollout_tokens_per_s", "tokens/s", ",.0f"),
    ("perf/train_tokens_per_s", "trained/s", ",.0f"),
)
"""(metric, how it is called here, its format), in the order of a line. What is not logged is not shown."""
RECENT = 4


def duration(seconds: float) -> str:
    """Seconds as a person writes them: "3.1 s", "2 m 05 s", "1 h 04 m"."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} m {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} m"


def _console() -> Console:
    """The terminal as wide as it is; a file or a pipe 120 columns wide, so that tables are not broken at 80."""
    found = Console(soft_wrap=False)
    return found if found.is_terminal else Console(soft_wrap=False, width=120)


class View:
    """Progress of one stage at a time. ``quiet`` prints nothing at all; the run directory still has everything."""

    def __init__(self, console: Console | None = None, quiet: bool = False) -> None:
        self._console = console or _console()
        self._quiet = quiet
        self._in_terminal = self._console.is_terminal and not self._console.is_dumb_terminal
        self._live: Live | None = None
        self._begin("", None)

    def _begin(self, name: str, total: int | None) -> None:
        self._name = name
        self._total = total
        self._step = 0
        self._first: tuple[int, float] | None = None  # the first step of this process, and when it ended
        self._latest: dict[str, float] = {}
        self._recent: deque[str] = deque(maxlen=RECENT)
        self._started = self._stepped = time.monotonic()

    def stage(self, name: str, total: int | None = None) -> None:
        """A stage begins; ``total`` is its number of steps where that is known."""
        self._finish()
        self._begin(name, total)
        if self._in_terminal and not self._quiet:
            self._live = Live(get_renderable=self._render, console=self._console, transient=True)
            self._live.start()
        else:
            self.say(f"{name}: {total} steps" if total else name)

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """A step is done; metrics that are not given keep their last value in the display."""
        now = time.monotonic()
        taken = metrics.get("perf/time_step", now - self._stepped)
        self._first = self._first or (step, now)
        self._step, self._stepped = step, now
        self._latest.update(metrics)
        line = "  ".join([f"step {self._count()}", *self._values(metrics), duration(taken)])
        self._recent.append(line)
        if self._live is None:
            self.say(line)

    def say(self, message: RenderableType) -> None:
        """Print above the live display. Text is printed as it is, without markup."""
        if self._quiet:
            return
        if isinstance(message, str):
            self._console.print(message, markup=False, highlight=False, emoji=False, soft_wrap=not self._in_terminal)
        else:
            self._console.print(message)

    def close(self) -> None:
        """End the live display, leaving one line about the stage. May be called more than once."""
        self._finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _finish(self) -> None:
        if self._live is None:
            return
        self._live.stop()
        self._live = None
        elapsed = duration(time.monotonic() - self._started)
        self.say("  ".join([self._name, self._count(), *self._values(self._latest), elapsed]))

    def _count(self) -> str:
        return f"{self._step}/{self._total}" if self._total else f"{self._step}"

    def _values(self, metrics: Mapping[str, float]) -> list[str]:
        return [f"{label} {metrics[name]:{form}}" for name, label, form in SHOWN if name in metrics]

    def _left(self) -> str:
        """The time left, by the speed since the first step: that one also pays for warming up, or for a resume."""
        if not self._total or self._first is None or self._step <= self._first[0]:
            return ""
        seconds_per_step = (self._stepped - self._first[1]) / (self._step - self._first[0])
        return f"{duration(max(0, self._total - self._step) * seconds_per_step)} left"

    def _render(self) -> RenderableType:
        """Every line is cut at the right edge, so that a narrow terminal shows less and never scrolls."""

        def line(text: str, style: str = "") -> Text:
            return Text(text, style=style, no_wrap=True, overflow="ellipsis")

        bar = Table.grid(expand=True, padding=(0, 1))
        bar.add_column(no_wrap=True, overflow="ellipsis")
        bar.add_column(ratio=1)
        bar.add_row(line(f"{self._name}  {self._count()}", "bold"), self._bar())
        elapsed = duration(time.monotonic() - self._started)
        times = line("  ".join(filter(None, (elapsed, self._left()))), "dim")
        recent = [line(text, "dim") for text in list(self._recent)]  # copied: steps arrive in another thread
        return Group(bar, line("  ".join(self._values(self._latest))), times, *recent)

    def _bar(self) -> ProgressBar:
        if self._total is None:
            return ProgressBar(total=None, pulse=True)
        return ProgressBar(total=self._total, completed=self._step)
