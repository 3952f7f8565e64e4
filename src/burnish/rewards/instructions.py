"""Verifiable instructions: the 25 kinds of IFEval (arXiv:2311.07911), under the names that its rows use.

Each check is a plain function of the reply and its arguments. Where IFEval takes a substring, the checks take a word; where it
takes an empty item, they ask for text: what IFEval measures once, a policy is paid for a million times. Sentences and words
are counted by rules of this module, without nltk.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from burnish.errors import InputError, near, unknown
from burnish.rewards import strict_json
from burnish.rewards.accuracy import final_part
from burnish.rewards.base import Composable, per_completion
from burnish.rewards.language import share
from burnish.rewards.reading import words
from burnish.types import Completion, Example, Reward, outcome

_SENTENCE_END = re.compile(
    r"(?<!\bMr)(?<!\bMs)(?<!\bDr)(?<!\bMrs)(?<!\be\.g)(?<!\bi\.e)(?<![.!?])[.!?]++[\"')\]*_]*+(?=\s|$)|[。！？]|\n\s*\n"
)
_COMMAS = ",，،、﹐"
_SPOKEN = 0.8  # share of words from which a text is in a language
_OPTIONS = ("my answer is yes.", "my answer is no.", "my answer is maybe.")


@dataclass(frozen=True)
class Instructions(Composable):
    """The share of the instructions that the reply follows; part "instructions". With ``every``: 1 for all, else 0.

    Instructions are the example's columns ``instruction_id_list`` and ``kwargs`` (one object an instruction; values that are
    None are left out), as in IFEval's data. What is read is the final part of the reply, as it stands: IFEval's strict form.
    An empty reply, or one cut off at its limit, follows none. Raises InputError for an unknown instruction or argument (the
    nearest one is named), for a missing argument, and for a row without instructions.
    """

    every: bool = False

    @per_completion
    def __call__(self, example: Example, completion: Completion) -> Reward:
        checks = _checks(example)
        text = final_part(completion.text)
        if not text or completion.cut:
            return outcome(0, "instructions")
        followed = [check(text, **arguments) for check, arguments in checks]
        return outcome(all(followed) if self.every else sum(followed) / len(followed), "instructions")


def _checks(example: Example) -> list[tuple[Callable[..., bool], dict[str, Any]]]:
    names, rows = example.meta.get("instruction_id_list"), example.meta.get("kwargs")
    if (
        not isinstance(names, (list, tuple))
        or not names
        or not isinstance(rows, (list, tuple))
        or len(names) != len(rows)
    ):
        raise InputError(
            "give every row columns 'instruction_id_list' and 'kwargs': two lists of one length, not empty"
        )
    return [_check(name, row or {}) for name, row in zip(names, rows, strict=True)]


def _check(name: str, row: Mapping[str, Any]) -> tuple[Callable[..., bool], dict[str, Any]]:
    if name not in CHECKS:
        raise unknown("instruction", name, CHECKS)
    arguments = {key: value for key, value in row.items() if value is not None}
    wanted = list(inspect.signature(CHECKS[name]).parameters)[1:]
    for key in sorted(arguments.keys() - set(wanted)):
        raise InputError(
            f"instruction '{name}' takes no '{key}'.{near(key, wanted)} It takes: {', '.join(wanted) or 'nothing'}."
        )
    if missing := [key for key in wanted if key not in arguments]:
        raise InputError(f"instruction '{name}' lacks {', '.join(missing)}; give it in column 'kwargs'")
    return CHECKS[name], arguments


# --- counting ------------------------------------------------------------------------------------


def _holds(count: int, relation: str, number: float) -> bool:
    if relation not in ("less than", "at least"):
        raise InputError(f"relation '{relation}' is unknown; give 'less than' or 'at least'")
    return count < number if relation == "less than" else count >= number


def _occurrences(text: str, phrase: str) -> int:
    """How often a word or phrase occurs, whatever its case, not as a part of a longer word."""
    spaced = r"\s+".join(re.escape(word) for word in phrase.split())
    return len(re.findall(rf"(?<!\w){spaced}(?!\w)", text, re.IGNORECASE)) if spaced else 0


def _spoken(text: str) -> bool:
    return bool(words(text))


def _blocks(text: str, divider: str) -> list[str] | None:
    """The parts between dividers; None where one in the middle has no word."""
    parts = [part.strip() for part in text.split(divider)]
    parts = parts[not parts[0] : len(parts) - (not parts[-1])]
    return parts if all(map(_spoken, parts)) else None


# --- the checks, in the order of IFEval's table ---------------------------------------------------


def existence(text: str, keywords: Sequence[str]) -> bool:
    return all(_occurrences(text, keyword) for keyword in keywords)


def frequency(text: str, keyword: str, frequency: float, relation: str) -> bool:
    return _holds(_occurrences(text, keyword), relation, frequency)


def forbidden_words(text: str, forbidden_words: Sequence[str]) -> bool:
    return not any(_occurrences(text, word) for word in forbidden_words)


def letter_frequency(text: str, letter: str, let_frequency: float, let_relation: str) -> bool:
    return _holds(text.lower().count(letter.strip().lower()), let_relation, let_frequency)


def response_language(text: str, language: str) -> bool:
    return share(text, language) >= _SPOKEN


def number_sentences(text: str, num_sentences: float, relation: str) -> bool:
    return _holds(sum(map(_spoken, _SENTENCE_END.split(text))), relation, num_sentences)


def number_paragraphs(text: str, num_paragraphs: float) -> bool:
    parts = _blocks(text, "***")
    return parts is not None and len(parts) == num_paragraphs


def number_words(text: str, num_words: float, relation: str) -> bool:
    return _holds(len(words(text)), relation, num_words)


def nth_paragraph_first_word(text: str, num_paragraphs: float, nth_paragraph: float, first_word: str) -> bool:
    parts = [part for part in re.split(r"\n\s*\n", text) if part.strip()]
    if len(parts) != num_paragraphs or not 1 <= nth_paragraph <= len(parts):
        return False
    found = words(parts[int(nth_paragraph) - 1])
    return bool(found) and found[0].casefold() == first_word.strip().casefold()


def number_placeholders(text: str, num_placeholders: float) -> bool:
    return sum(map(_spoken, re.findall(r"\[([^\[\]\n]+)\]", text))) >= num_placeholders


def postscript(text: str, postscript_marker: str) -> bool:
    """The marker begins a line, with text before it and after it; "P.P.S" and "P. P. S." are one."""
    letters = re.findall(r"\w+", postscript_marker)
    marker = r"\.?\s?".join(map(re.escape, letters)) + r"\b\.?"
    found = (
        re.search(rf"^[^\w\n]*{marker}:?(.*)\Z", text, re.IGNORECASE | re.MULTILINE | re.DOTALL) if letters else None
    )
    return found is not None and _spoken(text[: found.start()]) and _spoken(found[1])


def number_bullet_lists(text: str, num_bullets: float) -> bool:
    return len(re.findall(r"^[ \t]*[*-][ \t]+(?=.*\w)", text, re.MULTILINE)) == num_bullets


def constrained_response(text: str) -> bool:
    """One of the three sentences and nothing else."""
    return text.strip("\"'* \n").lower() in _OPTIONS


def number_highlighted_sections(text: str, num_highlights: float) -> bool:
    return len(re.findall(r"(?<!\*)(\*{1,3})(?=[^\s*])[^*\n]*(?<=[^\s*])\1(?!\*)", text)) >= num_highlights


def multiple_sections(text: str, section_spliter: str, num_sections: float) -> bool:
    """At least so many lines begin with the marker and a number that is new, and have text below or beside them."""
    pieces = re.split(rf"^[^\w\n]*{re.escape(section_spliter.strip())}\s*(\w+)", text, flags=re.MULTILINE)
    return (
        len({number for number, body in zip(pieces[1::2], pieces[2::2], strict=True) if _spoken(body)}) >= num_sections
    )


def json_format(text: str) -> bool:
    try:
        return isinstance(strict_json.loads(strict_json.unfenced(text)), (dict, list))
    except ValueError:
        return False


def title(text: str) -> bool:
    return any(map(_spoken, re.findall(r"<<([^<>\n]+)>>", text)))


def two_responses(text: str) -> bool:
    parts = _blocks(text, "******")
    return parts is not None and len(parts) == 2 and words(parts[0].casefold()) != words(parts[1].casefold())


def repeat_prompt(text: str, prompt_to_repeat: str) -> bool:
    """The reply begins with the prompt and goes on."""
    prompt = prompt_to_repeat.strip().lower()
    return text.lower().startswith(prompt) and _spoken(text[len(prompt) :])


def end_checker(text: str, end_phrase: str) -> bool:
    return text.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def capital_word_frequency(text: str, capital_frequency: float, capital_relation: str) -> bool:
    return _holds(sum(word.isupper() for word in words(text)), capital_relation, capital_frequency)


def english_capital(text: str) -> bool:
    return text.isupper() and response_language(text.lower(), "en")


def english_lowercase(text: str) -> bool:
    return text.islower() and response_language(text, "en")


def no_comma(text: str) -> bool:
    return not any(comma in text for comma in _COMMAS)


def quotation(text: str) -> bool:
    return len(text) > 1 and text[0] == text[-1] == '"' and _spoken(text)


CHECKS: dict[str, Callable[..., bool]] = {
    "keywords:existence": existence,
    "keywords:frequency": frequency,
    "keywords:forbidden_words": forbidden_words,
    "keywords:letter_frequency": letter_frequency,
    "language:response_language": response_language,
    "length_constraints:number_sentences": number_sentences,
    "length_constraints:number_paragraphs": number_paragraphs,
    "length_constraints:number_words": number_words,
    "length_constraints:nth_paragraph_first_word": nth_paragraph_first_word,
    "detectable_content:number_placeholders": number_placeholders,
    "detectable_content:postscript": postscript,
    "detectable_format:number_bullet_lists": number_bullet_lists,
    "detectable_format:constrained_response": constrained_response,
    "detectable_format:number_highlighted_sections": number_highlighted_sections,
    "detectable_format:multiple_sections": multiple_sections,
    "detectable_format:json_format": json_format,
    "detectable_format:title": title,
    "combination:two_responses": two_responses,
    "combination:repeat_prompt": repeat_prompt,
    "startend:end_checker": end_checker,
    "change_case:capital_word_frequency": capital_word_frequency,
    "change_case:english_capital": english_capital,
    "change_case:english_lowercase": english_lowercase,
    "punctuation:no_comma": no_comma,
    "startend:quotation": quotation,
}
"""By IFEval's names."""
