"""What a reply says, for votes: replies that say the same vote for the same answer."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from burnish.rewards.accuracy import final_part, given
from burnish.types import Completion, Example, Task


def said(task: Task, example: Example, reply: Completion) -> Hashable | None:
    """What the reply says, None where it was cut off or gives no answer. Of a conversation it is the last reply that counts.

    It is what stands in the place of the answer, numbers by value and words by letter; where there is no answer to compare
    with, the text behind the thoughts. A task in which different answers are right has a method ``said(example, completion)``
    of its own.
    """
    if reply.cut:
        return None
    own: Callable[[Example, Completion], Hashable | None] | None = getattr(task, "said", None)
    if own is not None:
        return own(example, reply)
    text = next((m["content"] for m in reversed(reply.messages) if m["role"] == "assistant"), reply.text)
    if example.answer is None:
        return (final_part(text) or "").casefold() or None
    return given(text, str(example.answer))
