"""Comparisons into other comparisons: a condition for the judge, softer labels, and no reward for length."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

from burnish.core import keys
from burnish.errors import InputError
from burnish.types import Answer, Comparison, Message

Length = Callable[[Answer], int]


def characters(answer: Answer) -> int:
    """The length of an answer's text."""
    return sum(len(message["content"]) for message in answer.messages)


def conditioned(prompt: Sequence[Message], condition: str) -> tuple[Message, ...]:
    """The prompt as a conditional reward model reads it: under a system prompt that names what to judge by.

    One reward model learns preferences that contradict each other, each under its own condition; the policy never sees it
    (InternLM2, arXiv:2403.17297). Where there is a system prompt already, the condition precedes its text.
    """
    first, rest = prompt[0], tuple(prompt[1:])
    if first["role"] == "system":
        return ({"role": "system", "content": f"{condition}\n\n{first['content']}"}, *rest)
    return ({"role": "system", "content": condition}, first, *rest)


def condition(comparison: Comparison, text: str) -> Comparison:
    """The comparison under a condition: see :func:`conditioned`."""
    return replace(comparison, prompt=conditioned(comparison.prompt, text))


def clamp_labels(comparison: Comparison, low: float = 0.4, high: float = 0.6) -> Comparison:
    """The comparison with its labels moved into [low, high].

    A judge that reasons before it answers is surer than it is right: [.4, .6] is the range of Constitutional AI
    (arXiv:2212.08073) for such labels, and for no others. Raises InputError where the range is none.
    """
    if not 0 <= low <= 0.5 <= high <= 1:
        raise InputError(f"labels cannot be clamped to [{low}, {high}]: give 0 <= low <= 0.5 <= high <= 1")
    answers = [a if a.label is None else replace(a, label=min(max(a.label, low), high)) for a in comparison.answers]
    return replace(comparison, answers=tuple(answers))


def balance_lengths(
    pairs: Sequence[Comparison], *, buckets: int = 10, seed: int = 0, length: Length = characters
) -> list[Comparison]:
    """The pairs, in order, without as many as it takes for length to tell nothing about preference.

    Pairs are sorted by the difference of their lengths into ``buckets`` of about equal size; in each, pairs of the more
    frequent kind, "the longer is better" or "the shorter is better", are left out at random until both are as many
    (ChatGLM-RLHF, arXiv:2404.00934; how to cut the buckets is a choice). Pairs of equal lengths stay, and so do ties. All
    randomness follows from ``seed``. Raises InputError for a comparison that is no pair.
    """
    if buckets < 1:
        raise InputError(f"{buckets} buckets hold no pair: give at least 1")
    gaps = [_gap(pair, number, length) for number, pair in enumerate(pairs, start=1)]
    order = sorted((i for i, gap in enumerate(gaps) if gap), key=lambda i: (abs(gaps[i]), i))
    size = max(1, -(-len(order) // buckets))
    dropped: set[int] = set()
    for number in range(0, len(order), size):
        kinds: dict[bool, list[int]] = defaultdict(list)
        for i in order[number : number + size]:
            kinds[gaps[i] > 0].append(i)
        more, fewer = sorted((kinds[True], kinds[False]), key=len, reverse=True)
        shuffled = keys.permutation(keys.derive("balance", seed, number), len(more))
        dropped |= {more[place] for place in shuffled[len(fewer) :]}
    return [pair for i, pair in enumerate(pairs) if i not in dropped]


def _gap(pair: Comparison, number: int, length: Length) -> int:
    """How much longer the better answer is; 0 for a tie."""
    ranks = [answer.rank for answer in pair.answers]
    if len(ranks) != 2 or None in ranks:
        raise InputError(
            f"comparison {number} is no pair: it has the ranks {ranks}. Balance pairs, before they are joined to lists"
        )
    better, worse = sorted(pair.answers, key=lambda answer: answer.rank or 0)
    return 0 if better.rank == worse.rank else length(better) - length(worse)
