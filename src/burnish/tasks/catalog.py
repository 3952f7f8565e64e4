"""Task names for the command line."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from burnish.errors import unknown
from burnish.tasks.arithmetic import KINDS, Arithmetic
from burnish.tasks.checks import Generated
from burnish.tasks.countdown import Countdown
from burnish.tasks.mixture import Mixture

TASKS: dict[str, Callable[..., Generated]] = {
    "arithmetic": partial(Arithmetic, kinds=KINDS, numbers=2),
    "largest": partial(Arithmetic, kinds=("largest",)),
    "sum": partial(Arithmetic, kinds=("sum",), numbers=2),
    "product": partial(Arithmetic, kinds=("product",), numbers=2, low=2, high=12),
    "sort": partial(Arithmetic, kinds=("sort",)),
    "compare": partial(Arithmetic, kinds=("compare",), numbers=2),
    "countdown": Countdown,
}
CLASSES = (Arithmetic, Countdown, Mixture)
"""What a task in a configuration may be."""


def get(name: str) -> Generated:
    """The task of that name with its usual settings, training split. Raises InputError with the nearest name."""
    if name not in TASKS:
        raise unknown("task", name, TASKS)
    return TASKS[name]()
