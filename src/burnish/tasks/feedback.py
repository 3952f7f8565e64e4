"""Verifier feedback: a wrong reply is answered in words and tried again (arXiv:2501.17161)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from burnish.errors import InputError
from burnish.tasks import checks
from burnish.tasks.checks import Generated, Judged
from burnish.tasks.environments import CUT, Judging, Partner, explanation, replies, reply
from burnish.types import Completion, Env, Example, Message, Reward

PAYS = ("last", "each")
RIGHT, WRONG, AGAIN = "That is right.", "That is not right.", "Try again."


@dataclass(frozen=True)
class Feedback(Partner):
    """Up to ``attempts`` replies to the same task, until one is right.

    A reply is right where the first score that the task measures is at least ``enough``. A wrong one is answered with what the
    task explains about it (without ``words``, or where it explains nothing, with "That is not right."), and "Try again.".

    With ``pay`` "last" the episode is paid once: what the task gives for its last reply. With "each" every reply is paid, as it
    comes: the rule of GeneralPoints. ``discount`` multiplies what is paid for attempt k by ``discount ** (k - 1)``. Measured is
    what the task measures of the last reply, and "first_try".
    """

    attempts: int = 5
    words: bool = True
    pay: str = "last"
    discount: float = 1.0
    enough: float = 1.0

    def __post_init__(self) -> None:
        checks.check_choice("pay", self.pay, PAYS)
        if self.attempts < 1 or not 0 < self.discount <= 1:
            raise InputError(
                f"attempts={self.attempts}, discount={self.discount}: give attempts >= 1, 0 < discount <= 1"
            )

    @property
    def max_turns(self) -> int:
        return self.attempts

    def env(self, task: Judged, example: Example) -> Env:
        return FeedbackEnv(task, example, self)

    def measure(self, task: Judged, example: Example, episode: Completion) -> dict[str, float]:
        """The task's measures of the last reply, and whether one reply was enough."""
        scores = super().measure(task, example, episode)
        return {**scores, "first_try": float(len(replies(episode)) == 1 and self.suffices(scores))}

    def last(self, episode: Completion) -> Completion:
        """The last reply, whatever it was answered."""
        text, answer = replies(episode)[-1]
        return reply(text, "length" if answer.startswith(CUT) else "eos")

    def suffices(self, scores: Mapping[str, float]) -> bool:
        return next(iter(scores.values())) >= self.enough

    def trials(self, task: Generated, example: Example) -> Iterable[tuple[Sequence[str], bool]]:
        """Right at once, right in the end, never right."""
        right, wrong = task.gold(example), task.near_misses(example)[0]
        yield (right,), True
        yield (*(wrong,) * (self.attempts - 1), right), True
        yield (wrong,) * self.attempts, False


@dataclass
class FeedbackEnv(Judging):
    """One episode of :class:`Feedback`."""

    partner: Feedback
    tried: int = 0

    def reset(self, seed: int) -> tuple[Message, ...]:  # noqa: ARG002
        self.tried = 0
        return self.example.messages

    def step(self, text: str) -> tuple[tuple[Message, ...], Reward, bool, Mapping[str, Any]]:
        completion = self.taken(text)
        self.tried += 1
        right = self.partner.suffices(self.task.measure(self.example, completion))
        over = right or self.tried == self.partner.attempts
        verdict = RIGHT if right else self._words(completion)
        said: Message = {"role": "user", "content": verdict if over else f"{verdict} {AGAIN}"}
        return (said,), self._paid(completion, over), over, {"right": right, "attempt": self.tried}

    def _words(self, completion: Completion) -> str:
        if completion.cut:
            return CUT
        return explanation(self.task, self.example, completion) * self.partner.words or WRONG

    def _paid(self, completion: Completion, over: bool) -> Reward:
        if self.partner.pay == "last" and not over:
            return ()
        factor = self.partner.discount ** (self.tried - 1)
        return tuple(part._replace(value=factor * part.value) for part in self.judged(completion))
