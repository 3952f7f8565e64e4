"""A calculator: <calc>12*34</calc> is answered with the exact value."""

from __future__ import annotations

import re
from dataclasses import dataclass

from burnish.tasks.countdown import evaluate
from burnish.tasks.tool import Tool

_CALL = re.compile(r"<calc>(.*?)</calc>", re.DOTALL)


@dataclass(frozen=True)
class Calculator(Tool):
    """A :class:`~burnish.tasks.tool.Tool` for whole numbers, + - * / and parentheses, in exact fractions.

    With ``stop=("</calc>",)`` in its sampling settings the policy is answered as soon as the call is complete.
    """

    @property
    def manual(self) -> str:
        return "To calculate, write <calc>12*34</calc> and wait for the value. Then answer."

    @property
    def sample(self) -> str:
        return "<calc>12*34</calc>"

    def call(self, text: str) -> str | None:
        found = _CALL.findall(text)
        return found[-1] if found else None

    def answer(self, call: str) -> str:
        """The value, as a whole number or a fraction in lowest terms, or what is wrong."""
        try:
            value, _ = evaluate(call)
        except ZeroDivisionError:
            return "error: division by zero"
        except ValueError as error:
            return f"error: {error}"
        return f"{' '.join(call.split())} = {value}"
