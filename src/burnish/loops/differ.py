"""Two models on the same prompts: where the second one says what the first one would not (URIAL, arXiv:2312.01552).

Model B answers each prompt. At every token of its answer both models give the distribution of the next token, after the same
tokens, and the token's rank in that of A says how far B has moved: unshifted (A's first choice too), marginal (second or
third), shifted (below that). Much of what tuning changes is the style of answers: of the shifted tokens the stylistic
ones are counted by the fixed rule of :func:`stylistic`.

What it leaves out: only what B says is looked at, so a token that B has stopped saying shows in the KL and in nothing else.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from burnish.core.intervals import ratio, wilson
from burnish.data import units
from burnish.data.chat import Chat
from burnish.data.units import Row
from burnish.engines.decode import LocalSampler, generate
from burnish.engines.local import LocalModel
from burnish.engines.shifts import Shifts, check, shifts
from burnish.errors import InputError
from burnish.types import Completion, Message, Sampling

PROMPTS = (
    "What is the capital of Australia?",
    "How do I boil an egg?",
    "Write a short poem about rain.",
    "What is 17 times 6?",
    "Why is the sky blue?",
    "Give me three ideas for a birthday present.",
    "Explain what a bank does to a child of eight.",
    "Translate 'good morning' into French.",
    "My plants keep dying. What am I doing wrong?",
    "Write a polite email asking for a day off.",
    "Name the four seasons.",
    "Should I learn to play the piano or the guitar?",
)
"""Asked where the user gives no prompts: short, everyday, of different kinds."""

MARGINAL = 3  # the last rank that is not shifted
PLACES = (1, 4, 16, 64, 256)  # the last token of each stretch that is reported; one more has the rest

OPENING = (
    "hello", "hi", "hey", "greetings", "welcome", "thanks", "thank you", "goodbye", "good morning",
    "sure", "sure thing", "certainly", "absolutely", "definitely", "of course", "okay", "ok", "alright", "no problem",
    "great question", "good question", "here is", "here are", "here's", "let's", "let me", "i'd be happy to",
    "i would be happy to", "i'm happy to", "i can help",
    "first", "firstly", "second", "secondly", "third", "thirdly", "next", "then", "finally", "lastly",
    "so", "now", "well", "also", "note", "note that", "remember", "overall",
)  # fmt: skip
"""Stylistic where a sentence or a line begins, with these words: greetings, agreement, announcements, order, discourse.
Elsewhere they carry content ("the first president", "make sure", "a note")."""

ANYWHERE = (
    "however", "therefore", "thus", "moreover", "furthermore", "additionally", "consequently", "nevertheless",
    "for example", "for instance", "in addition", "in summary", "in conclusion", "in short", "to summarize",
    "on the other hand", "as a result", "in other words",
    "perhaps", "maybe", "possibly", "probably", "generally", "typically", "usually", "i think", "i believe", "it depends",
    "it is important to", "it's important to", "it's worth noting", "it is worth noting", "keep in mind", "please",
    "please note", "unfortunately", "i'm sorry", "i am sorry", "i apologize", "as an ai", "as an ai language model",
    "i hope this helps", "let me know", "feel free",
)  # fmt: skip
"""Stylistic wherever they stand: discourse markers, hedges, courtesies, what an assistant says about itself."""

MARKS = r"""
      ^[ \t]*(?:\d+[.)]|[-*+•]|\#{1,6}|>)(?=\s)           # a mark in front of a list entry, a heading, a quotation
    | \*\*+ | __+ | `+ | ~~+ | \| | ^[ \t]*-{3,}           # other Markdown
    | (?<!\d)[.,:] | [.,:](?!\d)                           # not within a number or a time
    | [;!?…—–“”"] | (?<!\w)' | '(?!\w)                     # no apostrophe within a word
    | [\U0001F300-\U0001FAFF\u2600-\u27BF]                 # pictures
"""
"""Stylistic marks. Brackets, operators and lone asterisks are not: in mathematics and in code they are content."""


def _any_of(phrases: Sequence[str]) -> str:
    longest_first = sorted(phrases, key=len, reverse=True)
    return rf"(?:{'|'.join(re.escape(phrase) for phrase in longest_first)})(?!\w)".replace(r"\ ", r"\s")


_BEGINS = r"(?:\A|(?<=[.!?:]\s)|(?<=\n)|(?<=\*\*))[ \t]*"
STYLE = re.compile(
    rf"{MARKS} | {_BEGINS}{_any_of(OPENING)} | (?<!\w){_any_of(ANYWHERE)}", re.VERBOSE | re.MULTILINE | re.IGNORECASE
)


class Span(NamedTuple):
    """Where the characters of a token stand in a text."""

    start: int
    end: int


def spans(chat: Chat, tokens: Sequence[int]) -> tuple[str, list[Span]]:
    """(the text with its special tokens, one span a token). Tokens that share a character share its span."""
    text, found = "", list[Span]()
    for count in range(1, len(tokens) + 1):
        longer = chat.decode(tokens[:count], special=True)
        if longer.endswith("\ufffd") and count < len(tokens):
            continue  # the first bytes of a character
        found += [Span(len(text), len(longer))] * (count - len(found))
        text = longer
    return text, found


def stylistic(text: str, places: Sequence[Span]) -> list[bool]:
    """Whether each token is a matter of style: white space, or nothing but marks and words of the lists above.

    A rule and no model: it gives the same answer everywhere, and can be read. It knows English only, and it sees words, not
    what they mean, so it is a measure to compare models by, not a share of "content" in itself.
    """
    covered = [char.isspace() for char in text]
    for match in STYLE.finditer(text.replace("’", "'")):
        covered[match.start() : match.end()] = [True] * (match.end() - match.start())
    return [all(covered[place.start : place.end]) for place in places]


@dataclass(frozen=True)
class Compared:
    """One prompt with the answers of both models, ``other`` A's and ``text`` B's, with their special tokens.

    All else is about the T tokens of B's answer: their ``places`` in the text, whether they are a matter of ``style``, their
    ``ranks`` in the distribution of A and their ``own_ranks`` in that of B, the ids that are A's ``favourites`` in their place,
    ``kl`` the KL(B || A) and ``kl_back`` the KL(A || B) over the vocabulary, in nats.
    """

    prompt: str
    other: str
    text: str
    same: bool
    tokens: tuple[int, ...]
    places: tuple[Span, ...]
    style: tuple[bool, ...]
    ranks: tuple[int, ...]
    own_ranks: tuple[int, ...]
    favourites: tuple[int, ...]
    kl: tuple[float, ...]
    kl_back: tuple[float, ...]

    @property
    def shifted(self) -> tuple[bool, ...]:
        return tuple(rank > MARGINAL for rank in self.ranks)


def compare(
    a: LocalModel, b: LocalModel, prompts: Sequence[Sequence[Message]], sampling: Sampling, key: int
) -> list[Compared]:
    """Both models answer each prompt, and both read B's answer. One and the same model may be given twice.

    Both get the tokens of B's chat template: what differs is then the models alone. Raises InputError where the tokenizers
    differ, and as the sampler does.
    """
    check(a, b)
    if not prompts:
        raise InputError("there is no prompt to compare the models on: give at least one")
    asked = [b.chat.encode_prompt(prompt) for prompt in prompts]
    ours = generate(LocalSampler(a), asked, sampling, key)
    theirs = generate(LocalSampler(b), asked, sampling, key)
    rows = [(Row(p, reply.tokens, reply.chosen),) for p, reply in zip(asked, theirs, strict=True)]
    found = shifts(a, b, units.collate(rows))
    return [
        _compared(b.chat, str(prompt[-1]["content"]), mine, reply, found.row(i, len(reply.tokens)))
        for i, (prompt, mine, reply) in enumerate(zip(prompts, ours, theirs, strict=True))
    ]


def _compared(chat: Chat, prompt: str, mine: Completion, reply: Completion, found: Shifts) -> Compared:
    text, places = spans(chat, reply.tokens)
    ends = [token in chat.eos_ids for token in reply.tokens]
    return Compared(
        prompt=prompt,
        other=chat.decode(mine.tokens, special=True),
        text=text,
        same=mine.tokens == reply.tokens,
        tokens=reply.tokens,
        places=tuple(places),
        style=tuple(end or each for end, each in zip(ends, stylistic(text, places), strict=True)),
        ranks=tuple(found.ranks.tolist()),
        own_ranks=tuple(found.own_ranks.tolist()),
        favourites=tuple(found.favourites.tolist()),
        kl=tuple(found.kl.tolist()),
        kl_back=tuple(found.kl_back.tolist()),
    )


Column = Callable[[Compared], Sequence[float]]
"""One number a token of B's answer."""


def summarise(items: Sequence[Compared]) -> dict[str, Any]:
    """The numbers of a comparison: {mean, low, high, n} over the n tokens that are meant, with 95% intervals.

    Prompts are independent, tokens of one answer are not: the intervals are those of a ratio over prompts. A share of 0 or
    1 has no spread to measure, and Wilson's interval for as many trials as there are prompts. ``low`` and ``high`` are None
    for one prompt, and so is ``mean`` where no token is meant.
    """
    return {
        "n": len(items),
        "tokens": sum(len(item.tokens) for item in items),
        "same": sum(item.same for item in items),
        "unshifted": _share(items, lambda item: [rank == 1 for rank in item.ranks]),
        "marginal": _share(items, lambda item: [1 < rank <= MARGINAL for rank in item.ranks]),
        "shifted": _share(items, _shifted),
        "shifted/own": _share(items, lambda item: [rank > MARGINAL for rank in item.own_ranks]),
        "stylistic": _share(items, lambda item: item.style),
        "stylistic/shifted": _share(items, lambda item: item.style, among=_shifted),
        "kl": _mean(items, lambda item: item.kl),
        "kl_back": _mean(items, lambda item: item.kl_back),
    }


def by_place(items: Sequence[Compared]) -> list[dict[str, Any]]:
    """The share of shifted tokens, and KL(B || A), in stretches of the answers: {first, last, shifted, kl}.

    Places count from 1; the last stretch has all the rest, and stretches that no answer reaches are left out.
    """
    longest = max(len(item.tokens) for item in items)
    found = []
    for before, last in pairwise((0, *(place for place in PLACES if place < longest), longest)):

        def within(item: Compared, before: int = before, last: int = last) -> list[bool]:
            return [before <= place < last for place in range(len(item.tokens))]

        shifted, kl = _share(items, _shifted, among=within), _mean(items, lambda item: item.kl, among=within)
        found.append({"first": before + 1, "last": last, "shifted": shifted, "kl": kl})
    return found


def _shifted(item: Compared) -> tuple[bool, ...]:
    return item.shifted


def _everywhere(item: Compared) -> Sequence[float]:
    return (1.0,) * len(item.tokens)


def _mean(items: Sequence[Compared], column: Column, among: Column = _everywhere) -> dict[str, float | None]:
    """The mean of a column over the tokens at which ``among`` is 1, per prompt as :func:`summarise` says."""
    sizes = [math.fsum(among(item)) for item in items]
    sums = [math.fsum(x * k for x, k in zip(column(item), among(item), strict=True)) for item in items]
    if not any(sizes):
        return {"mean": None, "low": None, "high": None, "n": 0}
    mean, low, high = ratio(sums, sizes)
    few = sum(size > 0 for size in sizes) < 2
    return {"mean": mean, "low": None if few else max(0.0, low), "high": None if few else high, "n": round(sum(sizes))}


def _share(items: Sequence[Compared], column: Column, among: Column = _everywhere) -> dict[str, float | None]:
    found = _mean(items, column, among)
    if found["high"] is None:
        return found
    if found["mean"] in (0, 1):
        prompts = sum(any(among(item)) for item in items)
        return found | dict(zip(("low", "high"), wilson(found["mean"] * prompts, prompts), strict=True))
    return found | {"high": min(1.0, found["high"])}


class Exchange(NamedTuple):
    """The ids of what A would have said and of what B says, how often, and whether that is a matter of style every time."""

    would: int
    says: int
    times: int
    style: bool


def exchanges(items: Sequence[Compared]) -> list[Exchange]:
    """The shifted tokens with A's first choice in their place, the most frequent first, then in order of appearance."""
    counts: Counter[tuple[int, int]] = Counter()
    plain: set[tuple[int, int]] = set()
    for item in items:
        for place, shifted in enumerate(item.shifted):
            pair = item.favourites[place], item.tokens[place]
            counts[pair] += shifted
            if shifted and not item.style[place]:
                plain.add(pair)
    return [Exchange(*pair, count, pair not in plain) for pair, count in counts.most_common() if count]
