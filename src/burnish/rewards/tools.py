"""Tool calls: does the reply make exactly the calls that are wanted?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from burnish.errors import InputError
from burnish.rewards import strict_json
from burnish.rewards.accuracy import final_part
from burnish.rewards.base import Composable, per_completion
from burnish.types import Completion, Example, Reward, outcome

_BLOCK = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
_KEYS = {"name", "arguments", "parameters", "function", "id", "type", "index"}
_MOST = 256  # calls of a reply; more are no answer


@dataclass(frozen=True)
class Call:
    """One call: the tool's name and its arguments by name."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class ToolCalls(Composable):
    """1 where the reply makes exactly the calls of the example's column "tool_calls", else 0; part "tools".

    An extra call, a missing one, another tool, another argument, another type ("5" for 5), a key twice: all are worth 0, and so
    are calls in the thoughts and a reply cut off at its limit. Calls may come in any order unless ``ordered``. An empty column
    wants no call at all. Formats (see :func:`calls`) are accepted as they come.

    With ``partial`` a reply is worth the sum of the scores of matched calls, divided by ``max(wanted, made)``: 0 for another
    tool, else a third each for the tool, for the share of the argument names that are in both, and for the share of them whose
    values agree too. The idea is that of ToolRL (arXiv:2504.13958), whose scale is another. Calls are matched in turn, the best
    pair first. Raises InputError where the column is missing or its calls cannot be read.
    """

    ordered: bool = False
    partial: bool = False

    @per_completion
    def __call__(self, example: Example, completion: Completion) -> Reward:
        wanted, made = _wanted(example), calls(completion.text)
        if made is None or completion.cut:
            return outcome(0, "tools")
        matched = _in_order(wanted, made) if self.ordered else _best_first(wanted, made)
        score = sum(matched) / max(len(wanted), len(made)) if wanted or made else 1.0
        exact = len(wanted) == len(made) and all(one == 1.0 for one in matched)
        return outcome(score if self.partial else exact, "tools")


def calls(text: str) -> list[Call] | None:
    """The calls of a reply's final part, in order; None where one cannot be read.

    Where ``<tool_call>`` occurs, every call is one JSON object in such tags (Hermes, Qwen), with any text between them. Else a
    final part that is JSON, bare or in one fenced block, is a call or a list of calls; any other text makes none. A call is
    ``{"name", "arguments"}``, also with "parameters" (Llama 3), or OpenAI's ``{"function": {"name", "arguments"}}``. Arguments
    are an object, or the JSON text of one.
    """
    body = final_part(text)
    if body is None:
        return None
    try:
        if "<tool_call>" in body or "</tool_call>" in body:
            return _tagged(body)
        bare = strict_json.unfenced(body).strip()
        if not bare.startswith(("{", "[")):
            return []
        return [_call(each) for each in _as_list(strict_json.loads(bare))]
    except ValueError:
        return None


def _tagged(body: str) -> list[Call]:
    opened, closed = body.count("<tool_call>"), body.count("</tool_call>")
    blocks = _BLOCK.findall(body) if opened == closed <= _MOST else []
    if len(blocks) != opened:
        raise ValueError("tags that do not match")
    return [_call(strict_json.loads(block)) for block in blocks]


def _as_list(value: Any) -> list[Any]:
    found = value if isinstance(value, list) else [value]
    if len(found) > _MOST:
        raise ValueError(f"more than {_MOST} calls")
    return found


def _call(value: Any) -> Call:
    """One call as JSON has it. Raises ValueError where it is none."""
    if not isinstance(value, dict) or not value.keys() <= _KEYS:
        raise ValueError("a call is an object with a name and arguments")
    inner = value.get("function", value)
    if (
        not isinstance(inner, dict)
        or not isinstance(inner.get("name"), str)
        or ("arguments" in inner and "parameters" in inner)
    ):
        raise ValueError("a call has one name and its arguments")
    arguments = inner.get("arguments", inner.get("parameters", {}))
    if isinstance(arguments, str):
        arguments = strict_json.loads(arguments)
    if not isinstance(arguments, dict):
        raise ValueError("arguments are an object")
    return Call(inner["name"], arguments)


def _wanted(example: Example) -> list[Call]:
    column = example.meta.get("tool_calls")
    try:
        column = strict_json.loads(column) if isinstance(column, str) else column
        if not isinstance(column, (list, tuple)):
            raise ValueError("it is no list")
        return [_call(each) for each in column]
    except ValueError as error:
        raise InputError(
            f"column 'tool_calls' holds {column!r} ({error}); "
            'give every row a list of {"name": ..., "arguments": {...}}, empty where no call is wanted'
        ) from error


def _score(wanted: Call, made: Call) -> float:
    if wanted.name != made.name:
        return 0.0
    every = wanted.arguments.keys() | made.arguments.keys()
    common = wanted.arguments.keys() & made.arguments.keys()
    right = sum(strict_json.same(wanted.arguments[name], made.arguments[name]) for name in common)
    return (1.0 + (len(common) + right) / len(every)) / 3.0 if every else 1.0


def _in_order(wanted: Sequence[Call], made: Sequence[Call]) -> list[float]:
    return [_score(one, other) for one, other in zip(wanted, made, strict=False)]


def _best_first(wanted: Sequence[Call], made: Sequence[Call]) -> list[float]:
    """The scores of the pairs, taking the best one of those that are left, each call once."""
    scores = [(_score(one, other), i, j) for i, one in enumerate(wanted) for j, other in enumerate(made)]
    taken: list[float] = []
    used: tuple[set[int], set[int]] = (set(), set())
    for score, i, j in sorted(scores, key=lambda pair: -pair[0]):
        if i not in used[0] and j not in used[1]:
            taken.append(score)
            used[0].add(i)
            used[1].add(j)
    return taken
