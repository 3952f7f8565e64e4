"""Ctrl-C and SIGTERM: the first asks the program to save and leave, the second ends it at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """The user or the system asked the program to stop. The exit code is 128 + ``signum``: 130 or 143."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


@dataclass
class _Reception:
    """Handlers of signals are global to a process, and so is what they have received."""

    received: int = 0
    depth: int = 0
    pending: int | None = None


_reception = _Reception()


def _receive(signum: int, _frame: FrameType | None) -> None:
    _reception.received += 1
    if _reception.received > 1:
        if sys.stdout.isatty():
            os.write(1, b"\x1b[?25h\n")  # the live view hides the cursor
        os._exit(128 + signum)
    # Not print(): a handler may interrupt a print in progress, which cannot be entered twice.
    os.write(2, b"\nstopping: saving a checkpoint; press Ctrl-C again to quit at once\n")
    if _reception.depth:
        _reception.pending = signum
    else:
        raise Interrupted(signum)


@contextmanager
def handle_signals() -> Iterator[None]:
    """Inside, the first SIGINT or SIGTERM raises :class:`Interrupted` (at the end of :func:`protected` where that is
    open) and a second one ends the process at once with 128 + its number.

    Main thread only: raises RuntimeError in another one.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("signals can only be handled in the main thread")
    before = {number: signal.signal(number, _receive) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _reception.received, _reception.pending = 0, None


@contextmanager
def protected() -> Iterator[None]:
    """Defer the first signal to the end of the body, so that what belongs together happens together. May be nested.

    If the body raises, its error goes out first and the signal is raised at the end of the next protected body.
    """
    _reception.depth += 1
    try:
        yield
    finally:
        _reception.depth -= 1
    if _reception.pending is not None and not _reception.depth:
        signum, _reception.pending = _reception.pending, None
        raise Interrupted(signum)
