"""Answers that are lists of items: how they are read, and the overlap of two sets of them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from burnish.errors import InputError
from burnish.rewards import strict_json
from burnish.rewards.accuracy import final_part
from burnish.rewards.base import Composable, per_completion
from burnish.types import Completion, Example, Reward, outcome

MEASURES = ("f1", "precision", "recall")
_NUMBER = re.compile(
    r"[-+−]?(?=[0-9.])(?:[0-9]{1,3}(?:,[0-9]{3}){1,12}|[0-9]{1,40})?(?:\.[0-9]{1,40})?(?:/0{0,9}[1-9][0-9]{0,40})?"
)
_BULLET = re.compile(r"\s*(?:[-*•]|[0-9]{1,4}[.)])\s+")
_AROUND = ",;:!?\"'`* "
_MOST = 10_000  # items of a reply; more are no answer


def key(item: Any) -> Hashable:
    """What an item is compared by: numbers by their value ("0.50" is 1/2), all else by its letters.

    Case, white space and punctuation at the ends do not count. "x7", "7²" and "1e3" are no numbers.
    """
    if isinstance(item, (bool, int, float)):
        item = str(item)
    text = " ".join(unicodedata.normalize("NFC", str(item)).split()).strip(_AROUND).rstrip("." + _AROUND)
    if _NUMBER.fullmatch(text):
        top, _, bottom = text.replace(",", "").replace("−", "-").partition("/")
        return Fraction(top) / Fraction(bottom or 1)
    return text.lstrip("." + _AROUND).casefold()


def items(text: str) -> list[Hashable]:
    """The keys of the items of a list in plain text or JSON, in order, with what is repeated; empty items are left out.

    JSON is a list of texts and numbers; an object has no items. Plain text has an item a line, with or without a bullet or a
    number before it; a single line has its items between semicolons, or else commas ("1,234" is one number). Text beside the
    list is an item too, and a wrong one.
    """
    try:
        values = strict_json.loads(strict_json.unfenced(text))
    except ValueError:
        values = None
    if isinstance(values, dict):
        return []
    if isinstance(values, list):
        return [key(value) for value in values if not isinstance(value, (list, dict)) and value is not None]
    lines = [_BULLET.sub("", line, count=1) for line in text.splitlines() if line.strip()]
    if len(lines) == 1:
        lines = lines[0].split(";") if ";" in lines[0] else re.split(r",(?![0-9]{3}(?![0-9]))|,(?=\s)", lines[0])
    return [found for found in map(key, lines[: _MOST + 1]) if found != ""]


def listed(completion: Completion) -> list[Hashable]:
    """The items of a reply's answer; none where it was cut off at its limit, has no answer or too many items."""
    body = final_part(completion.text)
    if body is None or completion.cut:
        return []
    found = items(body)
    return found if len(found) <= _MOST else []


def gold(example: Example) -> list[Hashable]:
    """The keys of the example's answer, which is a list or its text. Raises InputError where it is empty."""
    answer = example.answer
    given = isinstance(answer, Sequence) and not isinstance(answer, str)
    keys = [key(item) for item in answer] if given else items(str(answer or ""))
    if not keys or "" in keys:
        raise InputError(f"the answer {answer!r} is no list of items; give every row a list in column 'answer'")
    return keys


@dataclass(frozen=True)
class SetF1(Composable):
    """How well the answer's items agree with the set of ``example.answer``; part "set", in [0, 1].

    Precision is the share of the listed items that are wanted, recall the share of the wanted items that are listed, "f1" their
    harmonic mean ``2 hits / (listed + wanted)``. An item that is repeated counts once: neither does it hit twice nor cost
    twice. To list everything costs precision; recall alone pays for it, as precision alone pays for listing one sure item.
    How items are read and compared: :func:`items`, :func:`key`. Raises InputError for another ``measure``, or an empty answer.
    """

    measure: str = "f1"

    def __post_init__(self) -> None:
        if self.measure not in MEASURES:
            raise InputError(f"measure='{self.measure}': give one of {', '.join(MEASURES)}")

    @per_completion
    def __call__(self, example: Example, completion: Completion) -> Reward:
        wanted, given = set(gold(example)), set(listed(completion))
        hits = len(wanted & given)
        of = {"f1": (len(wanted) + len(given)) / 2, "precision": len(given), "recall": len(wanted)}[self.measure]
        return outcome(hits / of if of else 0.0, "set")
