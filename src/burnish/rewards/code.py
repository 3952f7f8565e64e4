"""Programs that pass tests: the reward of code tasks (arXiv:2501.12948, arXiv:2501.12599)."""

from __future__ import annotations

import os
import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import ClassVar

from burnish.errors import InputError
from burnish.rewards.accuracy import final_part
from burnish.rewards.base import Composable
from burnish.rewards.record import record
from burnish.rewards.sandbox import Limits, Sandbox, choose
from burnish.rewards.sandbox.rlimits import Rlimits
from burnish.rewards.sandbox.verdicts import Verdict, read_tests
from burnish.types import Completion, Example, Reward, outcome

_FENCE = re.compile(r"^[ \t]*(```+|~~~+)[ \t]*([^\s`~]*)[^\n`~]*$", re.MULTILINE)
PYTHON = ("python", "py", "python3")


@dataclass(frozen=True)
class Code(Composable):
    """1 where the program of a reply passes all tests of ``example.meta``, else 0; part "code".

    The forms of tests are those of :func:`~burnish.rewards.sandbox.verdicts.read_tests`. ``partial`` gives the share of the
    tests that pass. ``compile_error``, 0 or less, is the value of a program that does not compile. ``tolerance`` is for
    floats, relative above 1. A reply cut off at its limit is wrong. Programs run in the sandbox that
    :func:`~burnish.rewards.sandbox.choose` finds for ``backend``, ``url`` and ``unsafe``, as many at once as there are
    processors; those that sleep hold up no other (:func:`verdicts`).

    Programs that reach the net of real time (``limits.wall``) run once more, one at a time; those that do so again are wrong,
    and count in the metric "code/wall". The metric "code/compiled" is the share of replies whose program compiles.

    Raises InputError for tests that cannot be used, naming the row, and where there is no sandbox.
    """

    in_process: ClassVar[bool] = True  # its programs run in a sandbox

    partial: bool = False
    compile_error: float = 0.0
    tolerance: float = 0.0
    limits: Limits = Limits()  # noqa: RUF009 - a frozen value
    backend: str = "auto"
    url: str = ""
    unsafe: bool = False
    domains: ClassVar[frozenset[str] | None] = frozenset({"code"})

    def __post_init__(self) -> None:
        if self.compile_error > 0:
            raise InputError(
                f"compile_error is {self.compile_error}: a program that does not compile deserves 0 or less"
            )

    @property
    def sandbox(self) -> Sandbox:
        """Where programs run. Raises InputError where that is nowhere."""
        return choose(self.backend, self.url, self.unsafe)

    @property
    def plan(self) -> dict[str, str]:
        """The sandbox that is live. Raises InputError where there is none."""
        name = self.sandbox.name
        confined = "" if name != Rlimits.name else ": limits on time and memory, and no sandbox"
        return {"programs": f"run in {name}{confined}"}

    def check(self, example: Example) -> None:
        """Raise InputError for tests that cannot be used."""
        read_tests(example)

    def __call__(self, example: Example, completions: Sequence[Completion], /) -> list[Reward]:
        tests, sandbox = read_tests(example), self.sandbox
        codes = [None if done.cut else program_of(done.text) for done in completions]

        def judge(code: str) -> Verdict:
            return tests.judge(sandbox, code, self.limits, self.tolerance, not self.partial)

        different = list(dict.fromkeys(code for code in codes if code is not None))
        found = verdicts(judge, different, os.cpu_count() or 1, self.limits.cpu)
        found |= verdicts(judge, [code for code in different if found[code].late], 1, self.limits.cpu)
        for code in codes:
            record("code/wall", code is not None and found[code].late)
            record("code/compiled", code is not None and found[code].compiled)
        return [outcome(0.0 if code is None else self._value(found[code]), "code") for code in codes]

    def _value(self, verdict: Verdict) -> float:
        if not verdict.compiled:
            return self.compile_error
        return verdict.passed / verdict.tests if self.partial else float(verdict.passed == verdict.tests)


def verdicts(
    judge: Callable[[str], Verdict], codes: Sequence[str], processors: int, patience: float
) -> dict[str, Verdict]:
    """The verdict on each program, ``processors`` of them at a time.

    One that has taken ``patience`` seconds of real time is not counted any more: it sleeps, or waits for a machine that is
    busy. It goes on, and another one starts beside it.
    """
    waiting, running = deque(codes), dict[Future[Verdict], tuple[str, float]]()
    found: dict[str, Verdict] = {}
    with ThreadPoolExecutor(max_workers=len(codes) or 1) as pool:
        while waiting or running:
            now = time.monotonic()
            counted = [until - now for _, until in running.values() if until > now]
            if waiting and len(counted) < processors:
                code = waiting.popleft()
                running[pool.submit(judge, code)] = (code, now + patience)
                continue
            for done in wait(running, min(counted) if waiting else None, FIRST_COMPLETED).done:
                found[running.pop(done)[0]] = done.result()
    return found


def program_of(text: str) -> str | None:
    """The program in a reply: its last block marked as Python, after the last ``</think>``; None where there is none.

    Blocks in other languages are passed over. Without a block marked as Python, the one block without a mark counts, and
    without any block the whole reply. A block that is not closed leaves nothing.
    """
    body = final_part(text)
    if body is None:
        return None
    found = blocks(body)
    if found is None:
        return None
    marked = [code for language, code in found if language.lower() in PYTHON]
    plain = [code for language, code in found if not language]
    if marked:
        return marked[-1]
    if not found:
        return body
    return plain[0] if len(plain) == 1 else None


def blocks(text: str) -> list[tuple[str, str]] | None:
    """(language, content) of every fenced block; None where one is not closed."""
    found = []
    position = 0
    while opening := _FENCE.search(text, position):
        closing = re.compile(rf"^[ \t]*{opening[1]}[ \t]*$", re.MULTILINE).search(text, opening.end())
        if closing is None:
            return None
        found.append((opening[2], text[opening.end() + 1 : closing.start()]))
        position = closing.end()
    return found
