"""What a completion has to look like, whatever its reward: the filters of DeepSeek-R1 (arXiv:2501.12948, section 2.3.3).

R1 drops thoughts in mixed languages, with long paragraphs and with code blocks from its rejection samples, to keep them
readable. It says no thresholds: the defaults here are choices. Thoughts and answer are looked at alike.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass

from burnish.errors import InputError
from burnish.rewards import language
from burnish.rewards.reading import words
from burnish.types import Completion

_FENCE = re.compile(r"^\s*(?:```|~~~)", re.MULTILINE)
_BLANK_LINE = re.compile(r"\n\s*\n")


class Filter(ABC):
    """Whether a completion is kept. A subclass is a frozen dataclass, so that a stage knows it by its values."""

    @abstractmethod
    def __call__(self, completion: Completion) -> bool: ...


@dataclass(frozen=True)
class SameLanguage(Filter):
    """At least this share of the words is in one language, an ISO 639-1 code (:mod:`burnish.rewards.language`).

    Where there are no words, as in "42", no language is mixed. Raises InputError for a language that is not known.
    """

    language: str = "en"
    least: float = 0.95

    def __post_init__(self) -> None:
        language.counted("", self.language)
        if not 0 <= self.least <= 1:
            raise InputError(f"least={self.least} is no share of the words: give a number from 0 to 1")

    def __call__(self, completion: Completion) -> bool:
        own, every = language.counted(completion.text, self.language)
        return own >= self.least * every


@dataclass(frozen=True)
class ShortParagraphs(Filter):
    """No paragraph has more than this many words. Paragraphs are what blank lines separate."""

    words: int = 200

    def __call__(self, completion: Completion) -> bool:
        return all(len(words(paragraph)) <= self.words for paragraph in _BLANK_LINE.split(completion.text))


@dataclass(frozen=True)
class NoCode(Filter):
    """There is no fenced block of code."""

    def __call__(self, completion: Completion) -> bool:
        return _FENCE.search(completion.text) is None


@dataclass(frozen=True)
class AtMost(Filter):
    """There are at most this many tokens, with the one that ends the completion."""

    tokens: int

    def __call__(self, completion: Completion) -> bool:
        return len(completion.tokens) <= self.tokens


@dataclass(frozen=True)
class Either(Filter):
    """One of the filters at least keeps it."""

    filters: tuple[Filter, ...]

    def __call__(self, completion: Completion) -> bool:
        return any(keeps(completion) for keeps in self.filters)


@dataclass(frozen=True)
class Not(Filter):
    """The filter does not keep it."""

    filter: Filter

    def __call__(self, completion: Completion) -> bool:
        return not self.filter(completion)


READABLE: tuple[Filter, ...] = (SameLanguage(), ShortParagraphs(), NoCode())
"""The three of R1, for English."""
