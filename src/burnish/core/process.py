"""Process reward models: losses on the steps of an answer, and from the verdicts on steps to one number.

A step has a rating: wrong (-1), neutral (0) or good (1), or a number between them where it was estimated. In a batch it is
``extras["ratings"]`` [B, T], plus 1, at the last token of its step, and -1 elsewhere. The head ``step`` judges a step once
all of it has been read, one token later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from burnish.core.logprobs import read
from burnish.errors import InputError
from burnish.types import Batch, Head, Metrics, Needs, Outputs

STEP = "step"
"""The head of a process reward model."""

WRONG, NEUTRAL, GOOD = range(3)
"""The classes of a step, in the order of a head of three."""


def classes(ratings: Tensor) -> Tensor:
    """[...] ratings plus 1 -> [..., 3] a distribution over wrong, neutral, good: one class, or its two neighbours."""
    return (1 - (ratings[..., None] - torch.arange(3, device=ratings.device)).abs()).clamp(min=0)


def judged(batch: Batch, beyond: bool = False) -> Tensor:
    """[B, T] True at the ends of rated steps up to and with the first wrong one; with ``beyond`` of all rated steps.

    What follows a wrong step builds on it: whether it is right is not defined (PRM800K, arXiv:2305.20050).
    """
    ratings = batch.extra("ratings")
    rated = (ratings >= 0) & batch.train[:, None]
    wrong = (rated & (ratings == WRONG)).long()
    return rated if beyond else rated & (wrong.cumsum(1) - wrong == 0)


def _prepare(batch: Batch, beyond: bool) -> Batch:
    """With the weights ``steps``, the mean over judged steps. Raises InputError where there is none, or nothing follows."""
    if batch.extras.get("ratings") is None:
        raise InputError("no step of these answers is rated: give each answer 'steps' with ratings -1, 0 or 1")
    steps = judged(batch, beyond)
    last = batch.lengths[:, None] - 1 == torch.arange(steps.shape[1], device=steps.device)
    if bool((steps & last).any()):
        raise InputError("a step ends with the last token of its answer: end answers with an end-of-turn token")
    weights = steps.double() / steps.sum().clamp(min=1)
    return replace(batch, weights={**batch.weights, "steps": weights})


def _means(batch: Batch, error: Tensor, right: Tensor) -> tuple[Tensor, Metrics]:
    weights = batch.weights["steps"].to(error.dtype)
    steps = weights > 0
    count = float(steps.sum())
    metrics: Metrics = {"loss": (float(error.detach()[steps].sum()), count)}
    return (weights * error).sum(), {**metrics, "step/accuracy": (float(right[steps].sum()), count)}


@dataclass(frozen=True)
class StepClasses:
    """``-log P(rating | x, steps so far)`` over three classes, the mean over rated steps up to the first wrong one.

    The process reward model of PRM800K (arXiv:2305.20050). With ``beyond`` steps after a wrong one count too. Neighbour:
    :class:`StepBinary` knows right and wrong only.
    """

    beyond: bool = False

    needs = Needs(logprobs=False, heads={STEP: Head(3, at="tokens")})

    def prepare(self, batch: Batch) -> Batch:
        return _prepare(batch, self.beyond)

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Metrics]:
        logits, ratings = read(outputs.heads[STEP]), batch.extra("ratings")
        target = classes(ratings).to(logits.dtype)
        error = -(target * logits.log_softmax(-1)).sum(-1)
        return _means(batch, error, logits.argmax(-1) == target.argmax(-1))


@dataclass(frozen=True)
class StepBinary:
    """``-(p log sigma(z) + (1 - p) log sigma(-z))``, the mean over rated steps: p is 0, ``neutral``, 1 by rating.

    p is linear between the ratings, so that the ratings ``2 rate - 1`` of rollouts are soft labels p = rate where neutral
    is .5 (Math-Shepherd, arXiv:2312.08935, which rates every step: ``beyond``). PRM800K's neutral steps are right ones (1) or
    wrong ones (0). Neighbour: :class:`StepClasses` leaves that choice to who reads the score.
    """

    neutral: float = 1.0
    beyond: bool = False

    needs = Needs(logprobs=False, heads={STEP: Head(1, at="tokens")})

    def prepare(self, batch: Batch) -> Batch:
        return _prepare(batch, self.beyond)

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Metrics]:
        logits = read(outputs.heads[STEP])
        target = classes(batch.extra("ratings")).to(logits.dtype) @ logits.new_tensor([0.0, self.neutral, 1.0])
        error = binary_cross_entropy_with_logits(logits, target, reduction="none")
        return _means(batch, error, (logits > 0) == (target > 0.5))


# --- from steps to a solution --------------------------------------------------------------------

Reduce = Callable[[Tensor], Tensor]
"""``[n] the probability that each step is right -> the score of the solution``."""


def product(right: Tensor) -> Tensor:
    """The probability that every step is right: one sure error is enough, and many steps cost a little."""
    return right.prod()


def lowest(right: Tensor) -> Tensor:
    """The weakest step: unlike :func:`product` it does not mind how many there are."""
    return right.min()


def mean(right: Tensor) -> Tensor:
    """The average step, which forgives a wrong one in a long solution."""
    return right.mean()


def rightness(logits: Tensor, neutral: float = 1.0) -> Tensor:
    """[..., 3] of a head of three classes -> [...] P(good) + ``neutral`` P(neutral).

    With 1 and 0, and :func:`product` and :func:`lowest`, these are the four scores of arXiv:2305.20050, of which product
    with neutral steps counted as right was best (78.2% of MATH, best of 1860; the others 77.4% to 77.8%).
    """
    return logits.softmax(-1) @ logits.new_tensor([0.0, neutral, 1.0])


def first_wrong(wrong: Tensor, threshold: float = 0.2) -> int | None:
    """The first step with P(wrong) above the threshold; None where there is none. .2 is that of arXiv:2305.20050."""
    above = torch.nonzero(wrong > threshold)
    return int(above[0, 0]) if len(above) else None


def split_steps(text: str, separator: str = "\n") -> tuple[str, ...]:
    """The steps of a text, which join to it: each ends with ``separator``, and white space alone is none. () for no text."""
    *ended, rest = text.split(separator)
    steps: list[str] = []
    for piece in (*(part + separator for part in ended), rest):
        if steps and not (piece.strip() and steps[-1].strip()):
            steps[-1] += piece
        else:
            steps.append(piece)
    return tuple(steps) if text.strip() else ()


# --- labels from rollouts ------------------------------------------------------------------------

Label = Callable[[float], float]
"""From the share of rollouts that came out right to the rating of a step."""


def hard(rate: float) -> float:
    """1 where any rollout from the end of the step came out right, else -1 (Math-Shepherd, arXiv:2312.08935)."""
    return 1.0 if rate > 0 else -1.0


def soft(rate: float) -> float:
    """``2 rate - 1``, whose binary label is the rate itself (Math-Shepherd, arXiv:2312.08935)."""
    return 2 * rate - 1
