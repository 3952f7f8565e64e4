"""Is a set of prompts fit for reinforcement learning? The three questions of Kimi k1.5 (arXiv:2501.12599) to a data file.

Coverage: is there something of everything? Difficulty: how often is a model right that tries each prompt several times? And
evaluability: does a right answer show that the problem was solved, or can it be guessed, or not be checked at all?
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from burnish.core import keys
from burnish.data.chat import Chat
from burnish.data.overlap import prompt_key
from burnish.errors import InputError
from burnish.loops.curate.duplicates import Near, repeats
from burnish.rewards.accuracy import Accuracy
from burnish.rewards.base import Composable, total
from burnish.types import Example, Request, Sampler, Sampling

COLUMNS = ("domain", "tags", "tag", "category", "subject", "topic")
"""Columns that say what a prompt is about, in the order in which they are looked for."""

ALIKE = Near(threshold=0.7, size=1)
BINS = ("never", "seldom, up to 1/4", "sometimes", "often, from 3/4", "always")
SHOWN = 5  # values of a column, and row numbers of a finding
_WORDS = 12  # an answer with more is a text, which no comparison settles

_OPTIONS = re.compile(r"(?:^|\s)\(?A[).:]\s.+?\s\(?B[).:]\s", re.DOTALL)
_TRUTH = re.compile(r"\b(?:true or false|yes or no|true/false|yes/no)\b", re.IGNORECASE)
_PROOF = re.compile(r"\b(?:prove|disprove|show) that\b|\bprove (?:the|it|this|or)\b|\bgive a proof\b", re.IGNORECASE)
_TRUTHS = ("true", "false", "yes", "no")


@dataclass(frozen=True)
class Coverage:
    """How many prompts there are of each kind: of each value of the column ``by``, or, where it is empty, of each group of
    prompts that are much like its first, named by that one. The most frequent come first.
    """

    by: str
    kinds: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Doubt:
    """Why a right answer to these ``rows`` (numbers from 1) would show little; ``detail`` says it of the first."""

    what: str
    rows: tuple[int, ...]
    detail: str


@dataclass(frozen=True)
class Difficulty:
    """{row number: share of its ``samples`` replies that were right} of the prompts that were tried.

    ``cut`` is the share of replies that reached their limit, which is wrong whatever they would have said.
    """

    samples: int
    rates: dict[int, float]
    cut: float

    @property
    def histogram(self) -> dict[str, int]:
        """How many prompts lie in each of :data:`BINS`."""
        found = Counter(_bin(rate) for rate in self.rates.values())
        return {name: found[name] for name in BINS}

    def rows(self, name: str) -> list[int]:
        """The rows in a bin."""
        return [row for row, rate in self.rates.items() if _bin(rate) == name]


@dataclass(frozen=True)
class PromptSet:
    """What was found; ``difficulty`` is None where no model tried."""

    coverage: Coverage
    doubts: tuple[Doubt, ...]
    difficulty: Difficulty | None


@dataclass(frozen=True)
class Trying:
    """``samples`` replies to each of ``prompts`` prompts, spread over the file, right from the reward ``least`` on.

    Ten at a high temperature are the paper's.
    """

    prompts: int = 32
    samples: int = 10
    least: float = 1.0
    sampling: Sampling = field(default_factory=Sampling)


def coverage(examples: Sequence[Example]) -> Coverage:
    """By the first of :data:`COLUMNS` that any row has, or by likeness."""
    by = next((name for name in COLUMNS if any(example.meta.get(name) for example in examples)), "")
    if by:
        found = Counter(value for example in examples for value in _values(example.meta.get(by)))
        return Coverage(by, tuple(found.most_common()))
    texts = ["\n".join(text for _, text in prompt_key(example)) for example in examples]
    leaders = [place if repeat is None else repeat.of for place, repeat in enumerate(repeats(texts, ALIKE))]
    groups = Counter(leaders).most_common()
    return Coverage("", tuple((_short(examples[place]), count) for place, count in groups))


def doubts(examples: Sequence[Example], grader: Composable) -> tuple[Doubt, ...]:
    """What speaks against each prompt as one whose answer is checked: see :func:`doubt`."""
    found: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for number, example in enumerate(examples, start=1):
        for what, detail in doubt(example, grader):
            found[what].append((number, detail))
    return tuple(Doubt(what, tuple(row for row, _ in rows), rows[0][1]) for what, rows in found.items())


def doubt(example: Example, grader: Composable) -> list[tuple[str, str]]:
    """(what, why) for each doubt about a prompt. A choice among few can be guessed, a proof has no answer to compare."""
    asked = example.messages[-1]["content"] if example.messages else ""
    answer = "" if example.answer is None else str(example.answer).strip()
    found = []
    if _OPTIONS.search(asked) or (len(answer) == 1 and answer in "ABCDE"):
        found.append(("multiple choice", "guessing is right every few tries"))
    if _TRUTH.search(asked) or answer.casefold() in _TRUTHS:
        found.append(("true or false", "guessing is right every other try"))
    if _PROOF.search(asked):
        found.append(("proof", "a right last line proves nothing"))
    if isinstance(grader, Accuracy) and len(answer.split()) > _WORDS:
        found.append(("long answer", f"{len(answer.split())} words, which have to be met one by one"))
    try:
        grader.check(example)
    except InputError as error:
        found.append(("not to be graded", str(error)))
    return found


def difficulty(
    sampler: Sampler, chat: Chat, examples: Sequence[Example], grader: Composable, cfg: Trying, *, key: int
) -> Difficulty:
    """How often the model is right; prompts that the grader cannot judge are not tried."""
    usable = [place for place, example in enumerate(examples) if _gradable(example, grader)]
    count = min(cfg.prompts, len(usable))
    tried = [usable[i * len(usable) // count] for i in range(count)]
    requests = [
        Request(chat.encode_prompt(examples[place].messages), keys.derive(key, place, sample), cfg.sampling)
        for place in tried
        for sample in range(cfg.samples)
    ]
    done = sorted(sampler.sample(requests), key=lambda completion: completion.index)
    rates = {}
    for number, place in enumerate(tried):
        group = done[number * cfg.samples : (number + 1) * cfg.samples]
        right = sum(total(reward) >= cfg.least for reward in grader(examples[place], group))
        rates[place + 1] = right / cfg.samples
    return Difficulty(cfg.samples, rates, sum(c.cut for c in done) / max(1, len(done)))


def _gradable(example: Example, grader: Composable) -> bool:
    try:
        grader.check(example)
    except InputError:
        return False
    return True


def _bin(rate: float) -> str:
    if rate in (0, 1):
        return BINS[-1 if rate else 0]
    return BINS[1] if rate <= 0.25 else BINS[3] if rate >= 0.75 else BINS[2]


def _values(value: object) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else ["(none)" if value is None else str(value)]


def _short(example: Example) -> str:
    text = " ".join(example.messages[-1]["content"].split()) if example.messages else ""
    return text if len(text) <= 60 else f"{text[:57]}..."


# --- for people ----------------------------------------------------------------------------------


def render(found: PromptSet) -> RenderableType:
    """The findings for a terminal or a plain log: what there is, then what to drop."""
    parts: list[RenderableType] = [_kinds(found.coverage)]
    if found.difficulty is not None:
        parts += _tried(found.difficulty)
    for each in found.doubts:
        parts.append(Text(f"{len(each.rows)} {each.what} (row {_rows(each.rows)}): {each.detail}", style="yellow"))
    if not found.doubts:
        parts.append(Text("every answer can be checked", style="green"))
    return Group(*parts)


def _kinds(coverage: Coverage) -> RenderableType:
    if not coverage.by and all(count == 1 for _, count in coverage.kinds):
        return Text("no two prompts are much alike; a column 'domain' or 'tags' would tell what they are about")
    table = Table(coverage.by or "prompts like", "rows", box=box.SIMPLE_HEAD)
    for name, count in coverage.kinds[:SHOWN]:
        table.add_row(Text(name), str(count))
    rest = coverage.kinds[SHOWN:]
    if rest:
        table.add_row(f"{len(rest)} others", str(sum(count for _, count in rest)))
    return table


def _tried(difficulty: Difficulty) -> list[RenderableType]:
    table = Table(f"right in {difficulty.samples} tries", "prompts", box=box.SIMPLE_HEAD)
    for name, count in difficulty.histogram.items():
        table.add_row(name, str(count))
    parts: list[RenderableType] = [table]
    advice = {"never": "too hard for this model, or the answer is wrong", "always": "nothing is left to learn"}
    for name, why in advice.items():
        rows = difficulty.rows(name)
        if rows:
            parts.append(Text(f"{len(rows)} {name} right (row {_rows(rows)}): {why}", style="yellow"))
    if difficulty.cut > 0.1:
        parts.append(Text(f"{difficulty.cut:.0%} of the replies were cut off: raise --max-tokens", style="yellow"))
    return parts


def _rows(rows: Sequence[int]) -> str:
    return ", ".join(map(str, rows[:SHOWN])) + (", ..." if len(rows) > SHOWN else "")
