"""Short questions in several languages: right answers, and how much of the thinking is in the language of the question."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import NamedTuple

from burnish.core.keys import uniforms
from burnish.errors import InputError
from burnish.rewards.accuracy import final_part
from burnish.rewards.language import share
from burnish.rewards.reading import read
from burnish.tasks import checks
from burnish.tasks.phrasebook import LANGUAGES, Phrases
from burnish.tasks.problems import CLOSING, Problems, evasions, pick
from burnish.types import Completion, Example

KINDS = ("day", "month", "opposite", "sum")
_DIFFICULTY = {"day": 1, "month": 2, "opposite": 2, "sum": 3}
_PUNCTUATION = " .,;:!?\"'`*。，！？；：、«»„“”‘’「」()（）"


@dataclass(frozen=True)
class Languages(Problems):
    """Days, months, opposites and sums of number words in ``languages``, to be answered with one word of that language.

    The reward is the accuracy; ``measure`` also gives "language", the share of words in the language of the question
    (:func:`burnish.rewards.language.share`): of the thinking in style "think", of the reply in style "plain". To reward it as
    well, as R1 does (arXiv:2501.12948): ``reward="accuracy + 0.5*language"``.

    ``meta``: kind, difficulty (1 a day, 2 a month or an opposite, 3 a sum), canonical, language, thoughts. The split is decided
    by what is asked about, in no language: Monday and Tuesday are in one split, in whatever language and order.
    """

    languages: tuple[str, ...] = tuple(LANGUAGES)
    kinds: tuple[str, ...] = KINDS

    def __post_init__(self) -> None:
        super().__post_init__()
        for language in self.languages:
            checks.check_choice("language", language, tuple(LANGUAGES))
        for kind in self.kinds:
            checks.check_choice("kind of question", kind, KINDS)
        if not self.languages or not self.kinds:
            raise InputError(f"{self}: give at least one language and one kind")

    def draw(self, key: int) -> Example | None:
        draws = uniforms(key, 5)
        language, kind = pick(self.languages, draws[0]), pick(self.kinds, draws[1])
        phrases = LANGUAGES[language]
        asked = _question(phrases, kind, draws[2], draws[3], draws[4] < 0.5)
        closing = f"{phrases.think} {CLOSING}" if self.style == "think" else phrases.plain
        meta = {
            "kind": kind,
            "difficulty": _DIFFICULTY[kind],
            "canonical": f"{kind} {asked.about}",
            "language": language,
            "given": asked.words["a"],
            "thoughts": phrases.thinks[asked.sentence].format(**asked.words),
        }
        text = f"{phrases.asks[asked.sentence].format(**asked.words)} {closing}"
        return Example(({"role": "user", "content": text},), asked.words["z"], meta)

    def measure(self, example: Example, completion: Completion) -> dict[str, float]:
        """Strict: the reply is the word. Lenient: it ends with it. "language" is the share of words in the right language."""
        body = final_part(completion.text) or ""
        words = [] if completion.cut else [word for each in body.split() if (word := each.strip(_PUNCTUATION))]
        part = "thinking" if self.style == "think" else "all"
        return {
            "accuracy": float(bool(words) and _same(words[-1], example.answer)),
            "accuracy_strict": float(bool(words) and _same(body, example.answer)),
            "language": share(read(completion.text, part), example.meta["language"]),
        }

    def gold(self, example: Example) -> str:
        return self.reply(example.answer, thoughts=example.meta["thoughts"])

    def near_misses(self, example: Example) -> tuple[str, ...]:
        """The word that was given, the words of the other languages, what goes on behind the answer."""
        answer, given, thoughts = example.answer, example.meta["given"], example.meta["thoughts"]
        abroad = {_translated(example, language) for language in LANGUAGES}
        wrong = [given, f"{answer} {given}", answer + answer[-1], answer[:-1], *sorted(abroad)]
        replies = (self.reply(text, thoughts) for text in wrong if not _same(text, answer))
        return (*replies, *evasions(answer))


class Asked(NamedTuple):
    """Which sentence asks, with which words, and about what: two words of English, in the order of the list."""

    sentence: str
    words: dict[str, str]
    about: str


def _question(phrases: Phrases, kind: str, one: float, other: float, forward: bool) -> Asked:
    english = LANGUAGES["en"]
    if kind == "sum":
        a = 1 + int(one * 11)
        b = 1 + int(other * (12 - a))
        words = {name: phrases.numbers[x - 1] for name, x in (("a", a), ("b", b), ("z", a + b))}
        return Asked("sum", words, " ".join(english.numbers[x - 1] for x in sorted((a, b))))
    if kind == "opposite":
        place = int(one * len(english.opposites))
        given_word, z = phrases.opposites[place][:: 1 if forward else -1]
        return Asked("opposite", {"a": given_word, "z": z}, " ".join(english.opposites[place]))
    row, named = (phrases.days, english.days) if kind == "day" else (phrases.months, english.months)
    place = int(one * len(row))
    after = (place + 1) % len(row)
    given, wanted = (place, after) if forward else (after, place)
    sentence = f"{kind} {'after' if forward else 'before'}"
    return Asked(sentence, {"a": row[given], "z": row[wanted]}, f"{named[place]} {named[after]}")


def _translated(example: Example, language: str) -> str:
    """The answer in another language."""
    ours, theirs = (
        [*p.days, *p.months, *p.numbers, *(word for pair in p.opposites for word in pair)]
        for p in (LANGUAGES[example.meta["language"]], LANGUAGES[language])
    )
    return theirs[ours.index(example.answer)]


def _same(one: str, other: str) -> bool:
    return unicodedata.normalize("NFC", one).casefold() == unicodedata.normalize("NFC", other).casefold()
