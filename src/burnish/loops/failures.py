"""Environments that fail: what is noted of them, and when there is no point in going on."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from burnish import files
from burnish.errors import InputError, TrainingHaltedError
from burnish.stage import Stage
from burnish.types import Message, Reward

LINES = 8
"""How much of a traceback is kept: its last lines."""
FEW, NEARLY = 8, 0.9
"""A step halts when at least so many of its groups are lost, if more than this share of all its episodes have failed."""
MOST = 20
"""It halts anyhow when so many times the groups of a step are lost: of large groups few survive even rare failures."""


@dataclass(frozen=True)
class Failure:
    """An exception of an environment.

    ``turn`` counts from 0 the turns that it had heard, and is -1 where it did not even begin. ``place`` is the line that
    raised it, as "file.py:12". ``traceback`` are its last lines.
    """

    turn: int
    kind: str
    message: str
    place: str
    traceback: tuple[str, ...]

    @classmethod
    def of(cls, error: Exception | SystemExit, turn: int) -> Failure:
        """What there is to say about an exception that was caught."""
        frames = traceback.extract_tb(error.__traceback__)
        place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "nowhere"
        lines = "".join(traceback.format_exception(error)).rstrip().splitlines()
        return cls(turn, type(error).__name__, str(error), place, tuple(lines[-LINES:]))

    def __str__(self) -> str:
        return f"{self.kind}: {' '.join(self.message.split())} ({self.place})"


def told(failures: Sequence[Failure | None]) -> list[str]:
    """What has failed in these episodes, None where nothing has: a line for each kind of failure, the most frequent first."""
    kinds: dict[tuple[str, str], list[Failure]] = {}
    for failure in failures:
        if failure is not None:
            kinds.setdefault((failure.kind, failure.place), []).append(failure)
    return [
        f"the environment failed in {len(same)} of {len(failures)} episodes with {same[0]}"
        for same in sorted(kinds.values(), key=len, reverse=True)
    ]


@dataclass(frozen=True)
class Lost:
    """A group that is not there, because the environment of its episode ``sample`` failed, the first of ``failed`` of them."""

    draw: int
    item: int
    sample: int
    failed: int
    failure: Failure

    @property
    def error(self) -> InputError:
        """The error for callers that ask for groups and cannot do without one."""
        return InputError(
            f"the environment of item {self.item} failed with {self.failure}; mend it, or leave out the item"
        )


@dataclass(frozen=True)
class Broken:
    """In the place of an environment that could not be made: it fails with the same error as soon as it is begun."""

    error: Exception | SystemExit

    def reset(self, seed: int) -> tuple[Message, ...]:  # noqa: ARG002 - the protocol's signature
        raise self.error

    def step(self, text: str) -> tuple[tuple[Message, ...], Reward, bool, dict[str, object]]:  # noqa: ARG002
        raise self.error


class FailureLog:
    """``failures.jsonl`` of a stage: a line for every group that an environment has cost.

    On a resume it is cut back to the step that is resumed, whose failures happen again.
    """

    def __init__(self, stage: Stage, step: int) -> None:
        self.path = stage.directory / "failures.jsonl"
        self._say = stage.view.say
        self._said: set[tuple[str, str]] = set()
        files.truncate_lines(self.path, lambda line: line["step"] <= step)

    def add(self, step: int, lost: Lost) -> None:
        """Write down a lost group of this step, and say so where it is the first failure of its kind."""
        failure = lost.failure
        record = {
            "step": step,
            "draw": lost.draw,
            "item": lost.item,
            "sample": lost.sample,
            "failed": lost.failed,
            "turn": failure.turn,
            "error": failure.kind,
            "message": failure.message,
            "place": failure.place,
            "traceback": list(failure.traceback),
        }
        files.append_json_line(self.path, record)
        if (failure.kind, failure.place) not in self._said:
            self._said.add((failure.kind, failure.place))
            self._say(f"step {step}: an environment failed with {failure}; its group is drawn anew (see {self.path})")


def check_hope(step: int, lost: Sequence[Lost], episodes: int, prompts: int, log: Path) -> None:
    """Raise TrainingHaltedError where there is no point in going on with a step of ``prompts`` groups: nearly all of the
    ``episodes`` it has asked for fail, or too many groups are lost.
    """
    failed = sum(each.failed for each in lost)
    if len(lost) < FEW or (failed <= NEARLY * episodes and len(lost) < MOST * prompts):
        return
    raise TrainingHaltedError(
        f"step {step}: environments have failed in {failed} of {episodes} episodes and cost {len(lost)} groups, the last one "
        f"with {lost[-1].failure}. Mend the environment and resume; {log} has every failure."
    )
