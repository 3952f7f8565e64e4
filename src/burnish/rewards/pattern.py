"""Regular expressions of the user's, matched with a deadline: a careless one may otherwise run for ever on a reply."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import regex

from burnish.errors import InputError
from burnish.rewards.base import Composable, per_completion
from burnish.rewards.reading import check_part, read
from burnish.rewards.record import record
from burnish.types import Completion, Example, Reward, outcome


@lru_cache(maxsize=256)
def compiled(pattern: str) -> regex.Pattern[str]:
    """The expression, in the syntax of Python's ``re`` and the package ``regex``. Raises InputError where it is none."""
    try:
        return regex.compile(pattern)
    except regex.error as error:
        raise InputError(f"{pattern!r} is no regular expression: {error}; mend the pattern") from error


@dataclass(frozen=True)
class Pattern(Composable):
    """1 where the answer matches, else 0; part "pattern". A reply cut off at its limit does not.

    ``pattern`` is a regular expression, or empty: the example's column "pattern". The whole part named by ``where`` ("answer",
    "thinking" or "all") has to match, without white space at its ends; with ``search`` it is enough that some place does:
    anchor such a pattern, or a policy will list every text it knows. Options are written in the expression: ``(?i)yes|no``.
    A match that takes longer than ``timeout`` seconds is none; the metric "pattern/timeouts" has their share. Raises
    InputError for a pattern that is none.
    """

    pattern: str = ""
    search: bool = False
    where: str = "answer"
    timeout: float = 1.0

    def __post_init__(self) -> None:
        check_part(self.where)
        compiled(self.pattern)

    @per_completion
    def __call__(self, example: Example, completion: Completion) -> Reward:
        text = read(completion.text, self.where).strip()
        return outcome(not completion.cut and self._matches(example, text), "pattern")

    def _matches(self, example: Example, text: str) -> bool:
        pattern = self.pattern or example.meta.get("pattern")
        if not isinstance(pattern, str) or not pattern:
            raise InputError(
                "no pattern to match: give every row a column 'pattern', or the reward its own, pattern(pattern='...')"
            )
        match = compiled(pattern).search if self.search else compiled(pattern).fullmatch
        try:
            found, late = match(text, timeout=self.timeout) is not None, False
        except TimeoutError:
            found, late = False, True
        record("pattern/timeouts", late)
        return found
