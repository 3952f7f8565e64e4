"""The data sets of reasoning-gym (github.com/open-thought/reasoning-gym): over a hundred generators of short problems."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from types import ModuleType
from typing import Any

from burnish.core.keys import derive
from burnish.errors import InputError, near
from burnish.rewards.answers import after_thoughts, final_part
from burnish.rewards.record import record
from burnish.tasks.adapters.options import Options, freeze, package, thaw
from burnish.tasks.problems import CLOSING, Problems, evasions
from burnish.types import Completion, Example, Reward

ENTRIES = 10_000
"""How many problems of a seed there are; a few data sets make all of them at once."""

HASHED = frozenset({"isomorphic_strings", "knight_swap", "polynomial_multiplication", "ransom_note", "word_ladder"})
"""Data sets that walk through Python's sets of strings, so that a new process has other problems (release 0.1.25)."""

RANDOM = frozenset({"codeio", "list_functions"})
"""Data sets that draw from Python's global generator, so that a problem is another one when it is asked for again."""

GRADES = frozenset(
    {
        "ab", "advanced_geometry", "arc_agi", "calendar_arithmetic", "chain_sum", "circuit_logic",
        "color_cube_rotation", "decimal_arithmetic", "decimal_chain_sum", "dice", "emoji_mystery",
        "family_relationships", "figlet_font", "fraction_simplification", "futoshiki", "game_of_life_halting",
        "gsm_symbolic", "knights_knaves", "letter_jumble", "manipulate_matrix", "mini_sudoku", "needle_haystack",
        "number_format", "number_sorting", "palindrome_generation", "path_star", "pool_matrix", "products", "rearc",
        "rectangle_count", "self_reference", "sentence_reordering", "shortest_path", "spell_backward", "sudoku",
        "time_intervals", "tsumego", "word_sorting", "zebra_puzzles",
    }
)  # fmt: skip
"""Data sets whose own grader was read (release 0.1.25): it runs nothing of a reply, and raises nothing. Some of the others
evaluate replies as Python. Those with the grader that all inherit need not be listed."""


@dataclass(frozen=True)
class ReasoningGym(Problems):
    """Problems of one of the data sets; ``options`` are the settings of its generator, such as ``{max_terms: 3}``.

    A reply is right where it is the data set's answer to the letter, spaces and line breaks apart: the body of ``<answer>``,
    or as many last lines as the answer has. Where several answers are right, only the data set's own is. Its graded score
    pays for guesses and for answers among other words: it is measured and logged as "graded", and pays nothing.

    The problem ``i`` of a split is one of the ``ENTRIES`` first problems of the data set, and its question decides its split,
    whatever the seed. ``meta``: kind (the data set), difficulty (characters of the answer), canonical (the question), entry.

    Raises InputError where the extra is missing, for a data set or an option that does not exist, with the nearest name, and
    for data sets without answers or whose problems do not stay the same.
    """

    dataset: str = "chain_sum"
    options: Options = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "options", freeze(self.options))

    def draw(self, key: int) -> Example | None:
        index = key % ENTRIES
        entry = self._entry(index)
        if entry["answer"] is None:
            raise InputError(
                f"reasoning-gym/{self.dataset} has no answers to compare with, only a grader: choose another data set"
            )
        question, answer = str(entry["question"]), str(entry["answer"])
        meta = {"kind": self.dataset, "difficulty": len(answer), "canonical": question, "entry": index}
        closing = CLOSING if self.style == "think" else "Reply with the answer only."
        if not answer.strip():
            return None
        return Example(({"role": "user", "content": f"{question}\n{closing}"},), answer, meta)

    def reward(self, example: Example, completions: Sequence[Completion]) -> list[Reward]:
        """1 for the exact answer, else 0. The graded score is the metric "reasoning-gym/graded"."""
        for completion in completions:
            for value in self._graded(example, completion).values():
                record("reasoning-gym/graded", value)
        return super().reward(example, completions)

    def measure(self, example: Example, completion: Completion) -> dict[str, float]:
        """{"accuracy": ``<answer>`` or the last lines are the answer, "accuracy_strict": ``<answer>`` or the whole reply},
        and, where the data set's own grader is safe to ask, "graded": its score for ``<answer>`` or the whole reply."""
        body = None if completion.cut else final_part(completion.text)
        answer = str(example.answer)
        tagged = "<answer>" in (after_thoughts(completion.text) or "")
        wanted, last = _plain(answer), 0 if tagged else len(answer.strip().splitlines())
        return {
            "accuracy": float(body is not None and _plain(body, last) == wanted),
            "accuracy_strict": float(body is not None and _plain(body) == wanted),
            **self._graded(example, completion),
        }

    def gold(self, example: Example) -> str:
        return self.reply(str(example.answer))

    def near_misses(self, example: Example) -> tuple[str, ...]:
        """The answer among other words, with something after it, twice, or where it does not count."""
        answer = str(example.answer)
        wrong = (f"{answer} ok", f"{answer}\nok", f"{answer} {answer}", f"not{answer}", f"{answer}0")
        return (*(self.reply(text) for text in wrong), *evasions(answer))

    def checked(self) -> ReasoningGym:
        """The task itself, where its data set can be made. Raises InputError."""
        _dataset(self.dataset, self.seed, self.options)
        return self

    def _entry(self, index: int) -> Mapping[str, Any]:
        return _entry(self.dataset, self.seed, self.options, index)

    def _graded(self, example: Example, completion: Completion) -> dict[str, float]:
        """The data set's own score, where nothing of the reply is run for it; 0 for a reply that was cut off."""
        data = _dataset(self.dataset, self.seed, self.options)
        if (
            self.dataset not in GRADES
            and type(data).score_answer is not _package().dataset.ProceduralDataset.score_answer
        ):
            return {}
        body = None if completion.cut else final_part(completion.text)
        return {"graded": float(data.score_answer(body, self._entry(example.meta["entry"]))) if body else 0.0}


def load(name: str) -> ReasoningGym:
    """``task=reasoning-gym/NAME``: the data set of that name with its own settings. Raises InputError."""
    return ReasoningGym(dataset=name).checked()


def names() -> tuple[str, ...]:
    """The data sets there are. Raises InputError where the extra is missing."""
    return tuple(sorted(_package().factory.DATASETS))


def _package() -> ModuleType:
    return package("reasoning_gym", extra="reasoning-gym")


@lru_cache(maxsize=32)
def _dataset(name: str, seed: int, options: Options) -> Any:
    """The generator. Raises InputError as said at :class:`ReasoningGym`."""
    known = _package().factory.DATASETS
    if name not in known:
        raise InputError(f"unknown data set 'reasoning-gym/{name}'.{near(name, known)} reasoning-gym has {len(known)}.")
    if name in RANDOM:
        raise InputError(f"reasoning-gym/{name} gives another problem each time it is asked: choose another data set")
    if name in HASHED and os.environ.get("PYTHONHASHSEED", "random") == "random":
        raise InputError(
            f"reasoning-gym/{name} has other problems in every process, because it goes through sets of words: "
            "fix their order with export PYTHONHASHSEED=0"
        )
    settings, allowed = thaw(options), [f.name for f in fields(known[name][1]) if f.name not in ("seed", "size")]
    for option in settings:
        if option not in allowed:
            hint = near(option, allowed)
            raise InputError(f"reasoning-gym/{name} has no option '{option}'.{hint} Known: {', '.join(allowed)}.")
    try:
        # Problems are numbered on from the seed: as they are, neighbouring seeds would share nearly all of them.
        start = derive("reasoning-gym", seed) % 2**31
        return _package().create_dataset(name, seed=start, size=ENTRIES, **settings)
    except (AssertionError, TypeError, ValueError) as error:
        raise InputError(f"reasoning-gym/{name} refuses the options {settings}: {error}") from error


@lru_cache(maxsize=4096)
def _entry(name: str, seed: int, options: Options, index: int) -> Mapping[str, Any]:
    found: Mapping[str, Any] = _dataset(name, seed, options)[index]
    return found


def _plain(text: str, last: int = 0) -> str:
    """The words of a text, or of so many of its last lines, with one space between them."""
    lines = [line for line in text.splitlines() if line.strip()]
    return " ".join(" ".join(lines[-last:]).split())
