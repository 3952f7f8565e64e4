"""What is measured on each item: how often its replies are right, how long they are, how they end, how often they reflect.

A measure is a series (:data:`burnish.core.intervals.Series`): for each item a sum and what it is a sum over. So every mean has
an interval that takes items, not replies, as independent, and every change between two models is paired.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from burnish.core import intervals
from burnish.core.estimates import best_of_n, cons_at_k, pass_at_k
from burnish.core.intervals import Series
from burnish.data.chat import Chat
from burnish.loops.episodes import FAILED
from burnish.loops.failures import Failure
from burnish.rewards.answers import after_thoughts
from burnish.rewards.reading import words
from burnish.types import Completion, Example

REFLECTIVE = (
    *("wait", "mistake", "however", "but", "retry", "error", "verify", "wrong", "evaluate", "check"),
    *("recheck", "rethink", "reconsider", "reassess", "reevaluate", "re-evaluate", "re-examine"),
)
"""Words that reflect. The first ten are those counted for DeepSeek-R1-Zero (doi:10.1038/s41586-025-09422-z, extended data
figure 1), the others are of the same kind. Base models say them too (arXiv:2503.20783): count them there first.
"""
BLOCK, TIMES, LEAST = 20, 4, 12
"""A reply goes round in circles if it ends with at most BLOCK words, said TIMES times or more, LEAST words or more in all."""

_REFLECTIVE = re.compile(rf"\b(?:{'|'.join(sorted(REFLECTIVE, key=len, reverse=True))})\b", re.IGNORECASE)


@dataclass(frozen=True)
class Item:
    """One evaluated prompt and its replies. By reply: its scores, name by name; what it says
    (:func:`burnish.tasks.votes.said`); and how many of its tokens are thoughts, or of a conversation, why its environment has
    failed.
    """

    example: Example
    replies: tuple[Completion, ...]
    scores: tuple[dict[str, float], ...]
    said: tuple[Hashable | None, ...]
    thinking: tuple[int, ...] = ()
    failures: tuple[Failure | None, ...] = ()

    @property
    def prompt(self) -> str:
        return self.example.messages[-1]["content"]

    @property
    def right(self) -> tuple[bool, ...]:
        """Whether a reply has the full first score."""
        return tuple(next(iter(scores.values())) >= 1 for scores in self.scores)


def thinking(chat: Chat, reply: Completion) -> int:
    """The tokens of a reply up to the end of its thoughts: all where they never end, none where there are none."""
    rest = after_thoughts(reply.text)
    end = len(reply.text) if rest is None else len(reply.text) - len(rest)
    low, high = 0, len(reply.tokens)
    while low < high:
        middle = (low + high) // 2
        if len(chat.decode(reply.tokens[:middle])) < end:
            low = middle + 1
        else:
            high = middle
    return low


def circles(text: str) -> bool:
    """Whether a text ends by saying the same again and again."""
    found = words(text.casefold())
    for size in range(1, min(BLOCK, len(found) // TIMES) + 1):
        block, times = found[-size:], 1
        while found[-size * (times + 1) : -size * times] == block:
            times += 1
        if times >= TIMES and times * size >= LEAST:
            return True
    return False


# --- series ------------------------------------------------------------------------------------------


def measures(items: Sequence[Item], ks: Sequence[int] = (), cons: Sequence[int] = ()) -> dict[str, Series]:
    """Every measure by name: scores, pass@k, cons@k, lengths in tokens, how replies end, reflective words."""
    return {**scores(items, ks), **consensus(items, cons), **behaviour(items)}


def scores(items: Sequence[Item], ks: Sequence[int] = ()) -> dict[str, Series]:
    """The scores of the task, and pass@k of each for every k from 2 to the number of samples."""
    found: dict[str, Series] = {}
    for name in dict.fromkeys(name for item in items for scored in item.scores for name in scored):
        found[name] = counted(items, partial(_score, name))
        for k in _possible(ks, items):
            found[f"{name}/pass@{k}"] = [_passed(item, name, k) for item in items]
    return found


def _score(name: str, item: Item, j: int) -> float | None:
    return item.scores[j].get(name)


def _passed(item: Item, name: str, k: int) -> tuple[float, float]:
    """pass@k of one item, if it has that score: a mixture of tasks may have several."""
    if name not in item.scores[0]:
        return 0.0, 0.0
    return pass_at_k(len(item.replies), sum(scored[name] >= 1 for scored in item.scores), k), 1.0


def consensus(items: Sequence[Item], ks: Sequence[int]) -> dict[str, Series]:
    """cons@k of the first score: how often the answer that most of k replies give is right, ties by lot."""
    name = next(iter(items[0].scores[0]))
    return {f"{name}/cons@{k}": [(cons_at_k(i.said, i.right, k), 1.0) for i in items] for k in _possible(ks, items)}


def best_of(items: Sequence[Item], judged: Sequence[Sequence[float]], ks: Sequence[int]) -> dict[str, Series]:
    """best@k of the first score: that of the reply which a reward, ``judged`` by item and reply, likes best of k."""
    name = next(iter(items[0].scores[0]))
    golds = [[scored[name] for scored in item.scores] for item in items]
    return {
        f"{name}/best@{k}": [(best_of_n(gold, proxy, k), 1.0) for gold, proxy in zip(golds, judged, strict=True)]
        for k in _possible(ks, items)
    }


def behaviour(items: Sequence[Item]) -> dict[str, Series]:
    """How the model replies, right or wrong. A measure that no reply has anything to say on is left out."""
    found = {
        "length/mean": counted(items, _length),
        "length/right": counted(items, lambda item, j: _length(item, j) if item.right[j] else None),
        "length/wrong": counted(items, lambda item, j: None if item.right[j] else _length(item, j)),
        "length/truncated_frac": counted(items, lambda item, j: item.replies[j].cut),
        "length/circles_frac": counted(items, lambda item, j: _repeats(item.replies[j])),
        "env/failed_frac": counted(items, lambda item, j: item.replies[j].finish == FAILED),
        "reflection/words": counted(items, lambda item, j: len(_REFLECTIVE.findall(item.replies[j].text))),
        "reflection/frac": counted(items, lambda item, j: _REFLECTIVE.search(item.replies[j].text) is not None),
    }
    if any(any(item.thinking) for item in items):
        found["length/thinking"] = counted(items, lambda item, j: item.thinking[j])
        found["length/answer"] = counted(items, lambda item, j: _length(item, j) - item.thinking[j])
    return {name: series for name, series in found.items() if any(size for _, size in series)}


def counted(items: Sequence[Item], value: Callable[[Item, int], float | None]) -> Series:
    """The series of what reply j of an item is worth; None is a reply that does not count.

    Both numbers are divided by the replies of the item: its size is 1 where all of them count.
    """
    found = []
    for item in items:
        values = [v for j in range(len(item.replies)) if (v := value(item, j)) is not None]
        found.append((float(sum(values)) / len(item.replies), len(values) / len(item.replies)))
    return found


def _length(item: Item, j: int) -> int:
    return len(item.replies[j].tokens)


def _repeats(reply: Completion) -> bool:
    return reply.finish == "repetition" or circles(reply.text)


def _possible(ks: Sequence[int], items: Sequence[Item]) -> list[int]:
    """The k that say more than a single reply does and that there are enough replies for."""
    return [k for k in ks if 1 < k <= min(len(item.replies) for item in items)]


def estimates(found: Mapping[str, Series]) -> dict[str, dict[str, float]]:
    """{name: {mean, low, high, n}}: the 95% interval takes items as independent."""
    return {name: intervals.estimate(series) for name, series in found.items()}
