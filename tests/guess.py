"""A task of one word, for tests of what is built around tasks: one word is right, and the grader has words for the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from burnish.tasks import checks
from burnish.types import Completion, Example, Reward, outcome


@dataclass(frozen=True)
class Guess:
    """Prompt "q0", "q1", ...; the right word is ``right``, which pays 5, any other -1."""

    right: str = "b"
    split: str = "train"

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> Example:
        checks.check_index(index, len(self))
        asked = f"q{index}" if self.split == "train" else f"{self.split}{index}"
        return Example(({"role": "user", "content": asked},), self.right, {"canonical": asked})

    def with_split(self, split: str) -> Guess:
        return replace(self, split=split)

    def reward(self, example: Example, completions: Sequence[Completion]) -> list[Reward]:
        return [outcome(5.0 if self.measure(example, c)["accuracy"] else -1.0, "guess") for c in completions]

    def measure(self, example: Example, completion: Completion) -> dict[str, float]:
        return {"accuracy": float(completion.text == example.answer and not completion.cut)}

    def gold(self, example: Example) -> str:
        return str(example.answer)

    def near_misses(self, example: Example) -> tuple[str, ...]:  # noqa: ARG002
        return ("a", "c")

    def explain(self, example: Example, completion: Completion) -> str:  # noqa: ARG002
        return f"'{completion.text}' is another word."
