"""Held-out data must be held out: finds prompts that occur in both sets."""

from __future__ import annotations

from typing import Protocol

from burnish.data.datasets import prompt_of
from burnish.errors import InputError
from burnish.types import Comparison, Example


class Examples(Protocol):
    """Anything sized and indexable: a list, a data set, a task."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Example | Comparison | str: ...


def overlap(train: Examples, heldout: Examples) -> list[int]:
    """The indices of held-out examples whose prompt, up to case and white space, also occurs in training."""
    seen = {prompt_key(train[i]) for i in range(len(train))}
    return [i for i in range(len(heldout)) if prompt_key(heldout[i]) in seen]


def require_disjoint(train: Examples, heldout: Examples) -> None:
    """Raise InputError, with the count and the first example, where a held-out prompt also occurs in training."""
    shared = overlap(train, heldout)
    if not shared:
        return
    first = heldout[shared[0]]
    prompt = prompt_of(first)
    text = " ".join(prompt[-1]["content"].split()) if prompt else ""
    what = "texts" if isinstance(first, str) else "prompts"
    raise InputError(
        f"{len(shared)} of {len(heldout)} held-out {what} also occur in the training data, the first is example "
        f"{shared[0] + 1}: {text[:200]!r}. Remove them from one of the two sets"
    )


def prompt_key(item: Example | Comparison | str) -> tuple[tuple[str, str], ...]:
    """What is the same for two items with the same prompt, up to case and white space."""
    return tuple((m["role"], " ".join(m["content"].casefold().split())) for m in prompt_of(item))
