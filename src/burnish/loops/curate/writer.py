"""Who writes data: the model behind an endpoint or the one in a directory, with templates for what it is asked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from burnish.core import keys
from burnish.errors import InputError
from burnish.loops.local_judge import LocalJudge
from burnish.rewards.ask import Judge, Question, ask
from burnish.stage import Artifact
from burnish.types import Message

Author = Path | Artifact | Judge
"""A model directory, or whoever else answers questions: an :class:`~burnish.rewards.endpoint.Endpoint`."""

Conversation = tuple[Message, ...]
_FIELD = re.compile(r"\{(\w+)\}")


def says(role: str, content: str) -> Message:
    """One message."""
    return {"role": role, "content": content}


@dataclass(frozen=True)
class Writer:
    """A model with how its replies are drawn: at most ``max_tokens`` long."""

    model: Judge
    temperature: float = 1.0
    max_tokens: int = 512

    def __post_init__(self) -> None:
        if self.temperature < 0 or self.max_tokens < 1:
            raise InputError(
                f"temperature={self.temperature}, max_tokens={self.max_tokens}: give at least 0 and at least 1"
            )

    @classmethod
    def of(cls, author: Author, temperature: float, max_tokens: int) -> Writer:
        """The writer of a model, which may be a directory."""
        model = LocalJudge(author) if isinstance(author, Path | Artifact) else author
        return cls(model, temperature, max_tokens)

    def write(self, conversations: Sequence[Conversation | None], *where: str | int) -> list[str]:
        """How each conversation goes on, stripped; empty where the reply was cut off, and where there was none to go on.

        The randomness of a reply follows from ``where`` and the place of its conversation.
        """
        questions = [
            None
            if conversation is None
            else Question(
                conversation, self.max_tokens, self.temperature, seed=keys.derive("write", *where, place) % 2**31
            )
            for place, conversation in enumerate(conversations)
        ]
        replies = ask(self.model, questions)
        return ["" if reply is None or reply.finish == "length" else reply.text.strip() for reply in replies]


def filled(template: str, **values: str) -> str:
    """The template with each ``{name}`` replaced; other braces stay. Raises InputError where it lacks one of the names."""
    present = set(_FIELD.findall(template))
    for name in values:
        if name not in present:
            raise InputError(f"the template {template[:80]!r} has no {{{name}}}: write where it goes")
    return _FIELD.sub(lambda field: values.get(field[1], field[0]), template)
