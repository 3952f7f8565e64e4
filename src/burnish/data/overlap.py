"""Held-out data must be held out: finds prompts that occur in both sets."""

from __future__ import annotations

from typing import Protocol

from burnish.data.datasets import prompt_of
from burnish.errors import InputError
from burnish.types import Comparison, Example


class Examples(Protocol):
    """Anything sized and indexable: a list, a data set, a task."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Example | Comparison: ...


def overlap(train: Examples, heldout: Examples) -> list[int]:
    """The indices of held-out examples whose prompt, up to case and white space, also occurs in training."""
    seen = {_normalised(train[i]) for i in range(len(train))}
    return [i for i in range(len(heldout)) if _normalised(heldout[i]) in seen]


def require_disjoint(train: Examples, heldout: Examples) -> None:
    """Raise InputError, with the count and the first example, where a held-out prompt also occurs in training."""
    shared = overlap(train, heldout)
    if not shared:
        return
    prompt = prompt_of(heldout[shared[0]])
    text = " ".join(prompt[-1]["content"].split()) if prompt else ""
    raise InputError(
        f"{len(shared)} of {len(heldout)} held-out prompts also occur in the training data, the first is example "
        f"{shared[0] + 1}: {text[:200]!r}. Remove them from one of the two sets"
    )


def _normalised(item: Example | Comparison) -> tuple[tuple[str, str], ...]:
    return tuple((m["role"], " ".join(m["content"].casefold().split())) for m in prompt_of(item))
