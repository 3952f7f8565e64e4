"""Demonstrations that bring ``nano`` to a base rate worth improving: half of them in form, most of them guesses."""

from __future__ import annotations

from dataclasses import dataclass

from burnish.core.keys import derive, uniforms
from burnish.errors import InputError
from burnish.tasks import checks
from burnish.tasks.arithmetic import Arithmetic, working
from burnish.types import Example

_THOUGHT = 0.5


@dataclass(frozen=True)
class Demonstrations:
    """Supervised rows for a task of kind "largest": the last message of each example is the assistant's.

    Half of the replies are ``<think>running maxima</think><answer>..</answer>``, half the bare answer; independently,
    with probability ``guessed`` the answer is a random operand. A model trained on them knows both forms and answers
    mostly by chance, so reinforcement learning has something to find. Prompts are drawn from ``task`` with repetition.
    """

    task: Arithmetic
    seed: int = 0
    size: int = 4800
    guessed: float = 0.8

    def __post_init__(self) -> None:
        if self.task.kinds != ("largest",):
            raise InputError(f"demonstrations are for kinds=('largest',), not {self.task.kinds}")
        if self.size < 1 or not 0 <= self.guessed <= 1:
            raise InputError(f"demonstrations need size >= 1 and 0 <= guessed <= 1, not {self.size} and {self.guessed}")

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Example:
        checks.check_index(index, self.size)
        which, guess, operand, think = uniforms(derive("demonstrations", self.seed, index), 4)
        example = self.task[int(which * len(self.task))]
        operands = example.meta["operands"]
        answer = str(operands[int(operand * len(operands))]) if guess < self.guessed else example.answer
        if think < _THOUGHT:
            answer = f"<think>{working('largest', operands)}</think><answer>{answer}</answer>"
        return Example((*example.messages, {"role": "assistant", "content": answer}), example.answer, example.meta)
