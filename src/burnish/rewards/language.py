"""One language: the language-consistency reward of DeepSeek-R1 (arXiv:2501.12948), without a language model.

Scripts are told apart exactly. Languages of one script are told apart sentence by sentence, by function words and letters:
a stretch of words counts for the target unless it shows more of another language. So a single foreign word in a sentence
is not seen, and neither is a language that :data:`~burnish.rewards.languages.LANGUAGES` does not have.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

import regex

from burnish.errors import InputError, unknown
from burnish.rewards.base import Composable, per_completion
from burnish.rewards.languages import LANGUAGES
from burnish.rewards.reading import check_part, read
from burnish.types import Completion, Example, Reward, outcome

# What is no prose. Only its ASCII letters are left out: formulas and code are written in them, other scripts are not.
_ASIDE = regex.compile(
    r"```.*?```|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]*\$|\\\((?:(?!\\[()]).)*\\\)|\\\[(?:(?!\\[\[\]]).)*\\\]|\\[A-Za-z]+|https?://\S+"
    r"|(?<!\w)[A-Za-z]\w*[_0-9]\w*",
    regex.DOTALL,
)
_WORD = regex.compile(r"[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]|[\p{L}\p{M}]{2,}|\p{Script=Cyrillic}")
_SENTENCE = regex.compile(r"[^.!?;:\n。！？；：।؟]+")
_STRETCH = 12  # at most so many words are judged together: enough to meet a function word


def share(text: str, language: str) -> float:
    """Num(words of the language) / Num(words), 0 where there are no words; see :func:`counted`."""
    own, total = counted(text, language)
    return own / total if total else 0.0


def counted(text: str, language: str) -> tuple[int, int]:
    """(Num(words of the language), Num(words)).

    Code, formulas, links, identifiers, numbers and single letters (but Cyrillic ones) are no words; each Chinese or Japanese
    character is one. Raises InputError for a language that is not known.
    """
    code = _code(language)
    own = total = 0
    for stretch in _stretches(_ASIDE.sub(_without_ascii, unicodedata.normalize("NFC", text))):
        total += len(stretch)
        own += _own(stretch, code)
    return own, total


@dataclass(frozen=True)
class OneLanguage(Composable):
    """Num(words of the target language) / Num(words) of the thinking part; part "language", in [0, 1].

    ``language`` is an ISO 639-1 code ("en", "zh", "pt-BR"), or empty: the example's column "language". ``where`` is what is
    read: "thinking", "answer" or "all". Where that has no words the reward is 0: thinking in no language is not thinking in
    the right one, and to think nothing is no way to be paid. R1 adds it to the accuracy; what is measured, and what is not,
    is said in :mod:`burnish.rewards.language`. Raises InputError for an unknown language, or where neither gives one.
    """

    language: str = ""
    where: str = "thinking"

    def __post_init__(self) -> None:
        check_part(self.where)
        if self.language:
            _code(self.language)

    @per_completion
    def __call__(self, example: Example, completion: Completion) -> Reward:
        language = self.language or example.meta.get("language")
        if not isinstance(language, str) or not language:
            raise InputError(
                "no language to check: give every row a column 'language', or the reward its own, language(language='en')"
            )
        return outcome(share(read(completion.text, self.where), language), "language")


def _code(language: str) -> str:
    code = regex.split("[-_]", language.lower())[0]
    if code not in LANGUAGES:
        raise unknown("language", language, LANGUAGES)
    return code


def _without_ascii(match: regex.Match[str]) -> str:
    return " " + regex.sub("[A-Za-z]+", " ", match[0]) + " "


def _stretches(text: str) -> Iterator[list[str]]:
    for sentence in _SENTENCE.findall(text):
        found = [word.lower() for word in _WORD.findall(sentence)]
        parts = math.ceil(len(found) / _STRETCH)
        yield from (found[len(found) * i // parts : len(found) * (i + 1) // parts] for i in range(parts))


def _own(words: list[str], code: str) -> int:
    """How many of the words are counted for the language: those of its scripts, unless another one shows more."""
    target = LANGUAGES[code]
    rivals = [other for name, other in LANGUAGES.items() if name != code and set(other.scripts) & set(target.scripts)]
    shown = sum(target.shows(word) for word in words)
    if any(sum(rival.shows(word) for word in words) > shown for rival in rivals):
        return 0
    return sum(target.writes(word) for word in words)
