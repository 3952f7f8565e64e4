"""Python in the sandbox: what comes back, what ends it, and that nothing is left behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from burnish.errors import InputError
from burnish.rewards.sandbox import Limits
from burnish.tasks.arithmetic import Arithmetic
from burnish.tasks.environments import rehearse
from burnish.tasks.python_tool import QUIET, PythonTool

QUICK = PythonTool(limits=Limits(cpu=1, wall=20.0))


@pytest.mark.needs_sandbox
@pytest.mark.parametrize(
    ("program", "answer"),
    [
        ("print(6 * 7)", "42"),
        ("print('a'); 1/0", "a\nerror: ZeroDivisionError: division by zero"),
        ("if", "error: SyntaxError: invalid syntax (<program>, line 1)"),
        ("x = 1", QUIET),
        ("while True: pass", "error: it took too long"),
        ("x = [0] * 10**10", "error: it needed too much memory"),
        ("raise SystemExit(3)", "error: exit code 3"),
        ("print('b' * 600)", "b" * 500 + " ..."),
        ("while True: print('c' * 1000)", "c" * 500 + " ...\nerror: it printed too much"),
        ("print(input())", "error: EOFError: EOF when reading a line"),
    ],
)
def test_what_comes_back(program: str, answer: str) -> None:
    assert QUICK.answer(program) == answer


@pytest.mark.needs_sandbox
def test_programs_share_nothing_and_leave_nothing_behind() -> None:
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    before = children.read_text()
    assert QUICK.answer("x = 5; print(x)") == "5"
    assert QUICK.answer("print(x)") == "error: NameError: name 'x' is not defined"
    assert QUICK.answer("import os\npid = os.fork() if hasattr(os, 'fork') else 0\nwhile True: pass").startswith(
        "error"
    )
    assert children.read_text() == before


def test_a_reply_asks_its_last_block_of_python() -> None:
    call = PythonTool().call
    assert call("first\n```python\na = 1\n```\nthen\n```py\nb = 2\n```\nso") == "b = 2\n"
    assert call("```\na\n```") is None and call("```bash\nls\n```") is None and call("print(1)") is None
    assert call("```python\nprint(1)") is None, "it is not closed"


@pytest.mark.needs_sandbox
def test_it_is_a_tool_for_tasks_of_numbers() -> None:
    task = PythonTool(1)(Arithmetic(kinds=("product",)))
    assert task.try_out(task[0]) == 4
    rehearse(task)


def test_without_a_sandbox_an_episode_does_not_begin() -> None:
    task = PythonTool(backend="remote")(Arithmetic())
    with pytest.raises(InputError, match="no sandbox for programs works here"):
        rehearse(task)
