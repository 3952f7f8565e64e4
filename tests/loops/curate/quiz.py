"""Questions of one word to a table, and a run with one stage that curates its replies."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.engines.table import END
from burnish.loops.curate.base import Drawn, Scored
from burnish.rewards.base import Composable, per_completion
from burnish.run import Run
from burnish.types import Completion, Example, Reward, Sampling, outcome
from burnish.view import View
from words import ENGINE

SHORT = Sampling(max_tokens=6)
SETTINGS: dict[str, Any] = {"sampling": SHORT, "engine": ENGINE}

# "yes" is right; every second reply thinks first, some for ever, and "no" comes with and without a thought.
TABLE: Mapping[str, Mapping[str, float]] = {
    "ask": {"hm ": 0.5, "yes": 0.25, "no": 0.25},
    "tell": {"hm ": 0.5, "yes": 0.1, "no": 0.4},
    "hm ": {"hm ": 0.5, "yes": 0.25, "no": 0.25},
    "yes": {END: 1.0},
    "no": {END: 1.0},
}


@dataclass(frozen=True)
class Right(Composable):
    """1 for a reply that ends with the answer."""

    @per_completion
    def __call__(self, example: Example, completion: Completion) -> Reward:
        return outcome(completion.text.endswith(example.answer) and completion.finish == "eos", "right")


@dataclass(frozen=True)
class Quiz:
    """Questions whose answer is "yes"."""

    words: tuple[str, ...] = ("ask", "tell")

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, index: int) -> Example:
        return Example(({"role": "user", "content": self.words[index]},), "yes", {"kind": self.words[index]})

    def reward(self, example: Example, completions: Sequence[Completion]) -> list[Reward]:
        return Right()(example, completions)


def curate(out: Path, fn: Callable[..., Path], *args: Any, seed: int = 0, dry_run: bool = False, **kwargs: Any) -> Path:
    """The data file that ``fn`` writes as a stage of a run."""
    with Run.open(out, recipe="t", scale="tiny", seed=seed, view=View(quiet=True), dry_run=dry_run) as run:
        return Path(run.stage(fn, "s", *args, **kwargs))


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def provenance(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.with_suffix(".provenance.json").read_text())
    return found


def said(text: str, length: int = 0, finish: str = "eos") -> Completion:
    """A completion of so many tokens; as many as words if not given."""
    tokens = (1,) * (length or len(text.split()) + 1)
    return Completion(tokens, text, ({"role": "assistant", "content": text},), finish)


def group(word: str, *judged: tuple[str, float] | tuple[str, float, int]) -> list[Scored]:
    """Completions to one prompt: (text, reward) or (text, reward, length)."""
    example = Example(({"role": "user", "content": word},), "yes")
    return [Scored(example, said(text, *length), reward) for text, reward, *length in judged]


def drawn(word: str, *completions: Completion) -> Drawn:
    return Drawn(Example(({"role": "user", "content": word},), "yes"), completions)
