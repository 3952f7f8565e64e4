"""A task of the user's is tried before anything is sampled."""

from __future__ import annotations

from burnish.errors import InputError
from burnish.tasks.checks import Judged
from burnish.tasks.environments import told
from burnish.types import Completion, Message

OWN = "burnish."
"""The package whose tasks need no rehearsal: they are tested, and their graders may run programs, or ask a model."""


def rehearse_reply(task: Judged, *, rewarded: bool = True, text: str = "1") -> None:
    """Grade two replies to the first example, one of them cut off. If they are not ``rewarded``, they are measured only.

    Raises InputError, in one line, where there is no example, where the task raises, or where a reply gets no reward.
    """
    kind, mend = type(task).__name__, "mend it and run again"
    if not len(task):
        raise InputError(f"task {kind} has no examples: give it at least one")
    if type(task).__module__.startswith(OWN):
        return
    said: tuple[Message, ...] = ({"role": "assistant", "content": text},)
    replies = [Completion((0,), text, said, finish) for finish in ("eos", "length")]
    try:
        example = task[0]
        rewards = task.reward(example, replies) if rewarded else [()] * len(replies)
        if hasattr(task, "with_split"):
            for reply in replies:
                task.measure(example, reply)
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(f"task {kind} does not work: its first example raised {told(error)}; {mend}") from error
    if len(rewards) != len(replies):
        raise InputError(
            f"the reward of task {kind} returned {len(rewards)} values for {len(replies)} completions; it must return one each"
        )
