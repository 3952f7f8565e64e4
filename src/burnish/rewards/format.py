"""The think/answer format of DeepSeek-R1-Zero (arXiv:2501.12948)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from burnish.rewards.base import Composable, per_completion
from burnish.types import Completion, Example, Reward, outcome

_INSIDE = r"(?:(?!</?(?:think|answer)>).)*"
_FORMAT = re.compile(rf"\s*<think>{_INSIDE}</think>\s*<answer>{_INSIDE}</answer>\s*", re.DOTALL)


def well_formed(text: str) -> bool:
    """Whether the text is ``<think>..</think><answer>..</answer>``: one of each, only white space around them."""
    return _FORMAT.fullmatch(text) is not None


@dataclass(frozen=True)
class Format(Composable):
    """1 where the whole reply has the think/answer format, else 0; part "format". The contents are not looked at."""

    @per_completion
    def __call__(self, example: Example, completion: Completion) -> Reward:  # noqa: ARG002 - the format asks for no answer
        return outcome(well_formed(completion.text), "format")
