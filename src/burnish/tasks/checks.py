"""What generated tasks share: splits that cannot leak, and the check that a grader is right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Protocol, Self, TypeVar

from burnish.core.keys import derive
from burnish.errors import InputError, unknown
from burnish.types import Completion, Example, Task

STYLES = ("plain", "think")
SPLITS = ("train", "dev", "test")
_BY_TENTH = ("train",) * 8 + ("dev", "test")


class Judged(Task, Protocol):
    """A task that can also measure: named scores in [0, 1], whatever it rewards. The first says what counts as success."""

    def measure(self, example: Example, completion: Completion) -> dict[str, float]: ...


class Split(Judged, Protocol):
    """A task that can be asked for another split. It may be one of several turns."""

    def with_split(self, split: str) -> Self: ...


S = TypeVar("S", bound=Split)


class Generated(Split, Protocol):
    """A task that makes its examples from keys, and knows a right reply to each."""

    def gold(self, example: Example) -> str: ...
    def near_misses(self, example: Example) -> tuple[str, ...]: ...


def split_of(canonical: str) -> str:
    """The split a problem belongs to, from its canonical form alone: 80% train, 10% dev, 10% test.

    Neither seed nor index has a say, so no rearrangement of a training problem is ever held out.
    """
    return _BY_TENTH[derive("split", canonical) % 10]


def check_choice(kind: str, value: str, known: tuple[str, ...]) -> None:
    """Raises InputError with the nearest name where ``value`` is none of ``known``."""
    if value not in known:
        raise unknown(kind, value, known)


def check_index(index: int, size: int) -> None:
    """Raises IndexError outside ``0 .. size - 1``; a loop over a task ends there."""
    if not 0 <= index < size:
        raise IndexError(f"example {index} of {size}")


def no_problem(task: object, split: str) -> InputError:
    """The error for settings under which a split holds no problem at all."""
    return InputError(f"found no problem of split '{split}' for {task}; widen its range or allow more numbers")


def validate(task: Generated, count: int, splits: Sequence[str] = SPLITS) -> str:
    """Check grader and splits on ``count`` examples of each split; one line on what was checked.

    Raises AssertionError where a right reply is refused, a near miss or a truncated reply is accepted, or two splits
    share a problem. Of what the task measures, "accuracy" and names that begin with it have to agree with the reward;
    other measures may say what they like.
    """
    return f"grader accepts gold and rejects near misses; {each(task, count, _check_grader, splits)}"


def each(task: S, count: int, check: Callable[[S, Example], None], splits: Sequence[str] = SPLITS) -> str:
    """Call ``check`` on ``count`` examples of each split, with the task of that split; says how many different ones there were.

    Raises AssertionError where two splits share a problem, by its canonical form.
    """
    seen: dict[str, set[str]] = {}
    for split in splits:
        part = task.with_split(split)
        examples = [part[index] for index in range(min(count, len(part)))]
        seen[split] = {example.meta["canonical"] for example in examples}
        for example in examples:
            check(part, example)
    for one, other in combinations(splits, 2):
        if seen[one] & seen[other]:
            raise AssertionError(f"{one} and {other} share problems, such as {min(seen[one] & seen[other])}")
    distinct = ", ".join(f"{len(forms)} {split}" for split, forms in seen.items())
    return f"splits are disjoint ({distinct} distinct problems looked at)"


def _check_grader(task: Generated, example: Example) -> None:
    gold = task.gold(example)
    cases = [(gold, "eos", 1.0), (gold, "length", 0.0), *((text, "eos", 0.0) for text in task.near_misses(example))]
    for text, finish, wanted in cases:
        completion = Completion((), text, ({"role": "assistant", "content": text},), finish)
        measured = {n: value for n, value in task.measure(example, completion).items() if n.startswith("accuracy")}
        reward = sum(part.value for part in task.reward(example, [completion])[0])
        if {reward, *measured.values()} != {wanted}:
            got = f"reward {reward}, measures {measured}"
            raise AssertionError(f"{text!r} ({finish}) got {got} instead of {wanted} on {example.messages[-1]}")
