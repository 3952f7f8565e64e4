"""Python: a block that is marked as such runs in the sandbox, and what it prints comes back."""

from __future__ import annotations

from dataclasses import dataclass

from burnish.rewards.code import PYTHON, blocks
from burnish.rewards.sandbox import Limits, Program, Result, Sandbox, choose
from burnish.tasks.checks import Judged
from burnish.tasks.tool import Tool
from burnish.types import Env, Example

QUIET = "(it printed nothing)"
_LATE = {"cpu": "it took too long", "wall": "it took too long", "memory": "it needed too much memory"}


@dataclass(frozen=True)
class PythonTool(Tool):
    """A :class:`~burnish.tasks.tool.Tool` that runs programs. For tasks whose answer is no program itself.

    Every block is a program of its own: nothing is kept between calls, and when the answer is there its process is gone.
    At most ``shown`` characters of what it prints come back, and of an error the last line. Programs run within
    ``limits`` in the sandbox that :func:`~burnish.rewards.sandbox.choose` finds for ``backend``, ``url`` and ``unsafe``;
    an episode begins with InputError where there is none.
    """

    shown: int = 500
    limits: Limits = Limits(cpu=5, wall=30.0)  # noqa: RUF009 - a frozen value
    backend: str = "auto"
    url: str = ""
    unsafe: bool = False

    @property
    def sandbox(self) -> Sandbox:
        """Where programs run. Raises InputError where that is nowhere."""
        return choose(self.backend, self.url, self.unsafe)

    @property
    def manual(self) -> str:
        return (
            "To run Python, write a block that begins with ```python and prints, and wait for the output. Then answer."
        )

    @property
    def sample(self) -> str:
        return "```python\nprint(6 * 7)\n```"

    def env(self, task: Judged, example: Example) -> Env:
        _ = self.sandbox
        return super().env(task, example)

    def call(self, text: str) -> str | None:
        found = [code for language, code in blocks(text) or () if language.lower() in PYTHON]
        return found[-1] if found else None

    def answer(self, call: str) -> str:
        """What the program printed and what ended it, if not its own end."""
        result = self.sandbox.run(Program(call), self.limits)
        printed = result.stdout.decode(errors="replace").strip()
        if len(printed) > self.shown:
            printed = f"{printed[: self.shown]} ..."
        problem = _problem(result)
        return "\n".join(text for text in (printed, problem and f"error: {problem}") if text) or QUIET


def _problem(result: Result) -> str:
    """What went wrong: the last line of the traceback, or the limit that was reached; empty after a good end."""
    if result.status == "ok":
        return ""
    if result.status in _LATE:
        return _LATE[result.status]
    last = result.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    return "it printed too much" if result.status == "output" else last or f"exit code {result.exit_code}"
