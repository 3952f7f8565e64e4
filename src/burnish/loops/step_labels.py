"""Steps rated without people: from the end of each step the policy finishes the answer many times (arXiv:2312.08935)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from burnish.core.process import Label, hard
from burnish.data.chat import Chat
from burnish.data.units import Row, encode
from burnish.errors import InputError
from burnish.loops.commentate import Estimate, Grading
from burnish.loops.continuations import Prefix, completed, continuations
from burnish.types import Answer, Comparison, Example, Sampler, Step


class Solution(NamedTuple):
    """A problem with what its grader needs, and one answer to it, in steps whose texts join to the whole."""

    example: Example
    steps: tuple[str, ...]

    def rated(self, ratings: Sequence[float], label: float | None = None) -> Comparison:
        """The solution with a rating for each step and the label of the whole."""
        steps = tuple(Step(text, rating) for text, rating in zip(self.steps, ratings, strict=True))
        reply = {"role": "assistant", "content": "".join(self.steps)}
        return Comparison(self.example.messages, (Answer((reply,), label=label, steps=steps),))  # type: ignore[arg-type]


def label_steps(
    sampler: Sampler, chat: Chat, grading: Grading, solutions: Sequence[Solution], *, samples: int = 8, key: int = 0,
    label: Label = hard,
) -> list[Comparison]:  # fmt: skip
    """Each solution with its steps rated by ``label`` of the share of ``samples`` continuations that came out right.

    The last step is followed by nothing: its rate is the outcome, 0 or 1, which is also the label of the whole answer. So
    one data set trains a process and an outcome model. 8 samples and hard labels are Math-Shepherd's. All randomness
    follows from ``key``, solution, step and sample. Raises InputError where a solution has no step, or no room is left
    within ``grading.sampling.max_tokens``.
    """
    rows = [_row(chat, solution) for solution in solutions]
    prefixes = [
        Prefix(row.prompt, row.tokens[: end + 1], (key, number, step))
        for number, row in enumerate(rows)
        for step, end in enumerate(list(row.ratings)[:-1])
    ]
    drawn = iter(continuations(sampler, chat, prefixes, grading.sampling, samples))
    found = []
    for solution, row in zip(solutions, rows, strict=True):
        judge = grading.judge(solution.example)
        rates = [Estimate(tuple(judge(next(drawn)))).rate for _ in solution.steps[:-1]]
        right = float(judge([completed(chat, row.tokens, "eos")])[0].success)
        found.append(solution.rated([label(rate) for rate in (*rates, right)], right))
    return found


def _row(chat: Chat, solution: Solution) -> Row:
    """The tokens of the solution, and in ``ratings`` the last token of each step."""
    if not solution.steps:
        raise InputError("a solution without steps: split its text, for example with burnish.core.process.split_steps")
    return encode(chat, solution.rated([0.0] * len(solution.steps)))[0]
