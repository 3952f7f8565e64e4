"""Short functions to write in Python, judged by running them in the sandbox on tests that near misses fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from burnish.core.keys import derive, uniforms
from burnish.errors import InputError
from burnish.rewards.base import total
from burnish.rewards.code import Code
from burnish.tasks import checks
from burnish.tasks.problems import Problems, evasions, pick
from burnish.tasks.snippets import SNIPPETS, Snippet
from burnish.types import Completion, Example, Reward, outcome

KINDS = tuple(SNIPPETS)
_CANDIDATES = 24  # inputs among which tests are looked for
_TESTS = 6
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Coding(Problems):
    """Functions ``f`` of ``kinds``, see :data:`~burnish.tasks.snippets.SNIPPETS`, with parameters that are drawn.

    Replies run where ``code`` says (:class:`~burnish.rewards.code.Code`). The tests of a problem are chosen such that it is
    failed by the function with another parameter, by a likely mistake, and by one that returns what it is given. ``meta``:
    kind, difficulty (1 to 3), canonical (the program: it decides the split), entry_point and tests (as the grader reads them),
    solution, wrong (these programs), domain.
    """

    kinds: tuple[str, ...] = KINDS
    code: Code = Code()  # noqa: RUF009 - a frozen value

    def __post_init__(self) -> None:
        super().__post_init__()
        for kind in self.kinds:
            checks.check_choice("kind of function", kind, KINDS)
        if not self.kinds or self.code.partial or self.code.compile_error:
            raise InputError(f"{self}: give at least one kind, and a code reward of 1 or 0")

    def draw(self, key: int) -> Example | None:
        which, *drawn = uniforms(key, 4)
        kind = pick(self.kinds, which)
        snippet, parameters = SNIPPETS[kind], _parameters(drawn)
        solution = snippet.program(snippet.body, parameters)
        idle = snippet.program(snippet.signature[2:-1].split(",")[0], parameters)
        changed = [snippet.program(snippet.body, other) for other in _changed(parameters)]
        wrong = [snippet.program(snippet.mistake, parameters), *(text for text in changed if text != solution), idle]
        tests = _tests(snippet, solution, wrong, derive("inputs", key))
        if tests is None:
            return None
        meta = {
            "kind": kind,
            "difficulty": snippet.difficulty,
            "canonical": solution,
            "entry_point": "f",
            "tests": tests,
            "solution": solution,
            "wrong": wrong,
            "domain": "code",
        }
        question = f"Write a Python function {snippet.signature} that returns {snippet.asks.format(**parameters)}."
        return self.asked(question, "Reply with the code only.", None, meta)

    def reward(self, example: Example, completions: Sequence[Completion]) -> list[Reward]:
        """1 where all tests pass, the programs of the group side by side. Raises InputError where there is no sandbox."""
        return [outcome(total(each), "accuracy") for each in self.code(example, completions)]

    def measure(self, example: Example, completion: Completion) -> dict[str, float]:
        """{"accuracy": whether all tests pass}."""
        return {"accuracy": total(self.code(example, [completion])[0])}

    def gold(self, example: Example) -> str:
        return self.reply(fenced(example.meta["solution"]), thoughts=example.meta["kind"])

    def near_misses(self, example: Example) -> tuple[str, ...]:
        """A likely mistake, another parameter or name, printing, one test known by heart, no block of Python."""
        solution, want = example.meta["solution"], example.meta["tests"][0]["want"]
        wrong = [
            *map(fenced, example.meta["wrong"][:2]),
            fenced(solution.replace("def f(", "def g(")),
            fenced(solution.replace("return ", "print(") + ")"),
            fenced(f"def f(*anything):\n    return {want!r}"),
            f"```python\n{solution}",
            f"The function is {solution.splitlines()[-1].strip()}",
            f"```java\n{solution}\n```",
        ]
        return (*(self.reply(text) for text in wrong), *evasions(fenced(solution)))


def fenced(program: str) -> str:
    """A block that is marked as Python."""
    return f"```python\n{program}\n```"


def _parameters(drawn: Sequence[float]) -> dict[str, Any]:
    """a from 2 to 9, b from 1 to 12, c a letter."""
    return {"a": 2 + int(drawn[0] * 8), "b": 1 + int(drawn[1] * 12), "c": pick(_LETTERS, drawn[2])}


def _changed(parameters: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The parameters with one of them off by one, for each of them."""
    a, b, c = parameters["a"], parameters["b"], parameters["c"]
    yield from ({**parameters, "a": a + 1}, {**parameters, "b": b + 1})
    yield {**parameters, "c": _LETTERS[(_LETTERS.index(c) + 1) % len(_LETTERS)]}


def _tests(snippet: Snippet, solution: str, wrong: Sequence[str], key: int) -> list[dict[str, Any]] | None:
    """Calls with their results: at least one that each wrong program gets wrong; None where the inputs tell none apart."""
    inputs = [snippet.inputs(derive("input", key, i)) for i in range(_CANDIDATES)]
    wants = [_function(solution)(*args) for args in inputs]
    chosen = []
    for program in wrong:
        telling = [i for i, args in enumerate(inputs) if _function(program)(*args) != wants[i]]
        if not telling:
            return None
        chosen.append(telling[0])
    order = list(dict.fromkeys([*chosen, *range(_CANDIDATES)]))[: max(_TESTS, len(chosen))]
    tests = [{"args": list(inputs[i]), "want": wants[i]} for i in order]
    return tests if any(test["want"] != tests[0]["want"] for test in tests) else None


@lru_cache(maxsize=256)
def _function(program: str) -> Callable[..., Any]:
    """The function ``f`` of one of our own programs; what a policy writes never comes here."""
    names: dict[str, Any] = {}
    exec(program, names)
    function: Callable[..., Any] = names["f"]
    return function
