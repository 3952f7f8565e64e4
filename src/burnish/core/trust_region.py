"""The natural-gradient step with a hard bound on how far the policy moves (TRPO, arXiv:1502.05477).

    maximise over s:  G(theta + s)   subject to   mean KL(pi_theta || pi_{theta+s}) <= delta

To second order the mean KL is ``s^T F s / 2`` with the Fisher matrix F. Conjugate gradient solves ``(F + damping I) x = g``
for the ascent direction from products ``F v`` alone, the full step ``sqrt(2 delta / x^T F x) x`` lies on the edge of the
quadratic region, and a backtracking line search finds a step that satisfies the true constraint and improves.

The damping shapes the direction only. It is not part of ``x^T F x``: the constraint speaks of the KL, and where F is small
beside the damping (many parameters, long completions) a damped denominator would spend a small part of delta. Where the
quadratic model promises too much, the line search, which looks at the true KL, gives way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from burnish.types import Metrics

Product = Callable[[Tensor], Tensor]
"""A symmetric positive semi-definite matrix, known by what it does to a vector [N] -> [N]."""

Evaluate = Callable[[Tensor], tuple[float, float]]
"""``step [N] -> (gain of the objective, mean KL)``, both exact, of the parameters moved by ``step``."""


@dataclass(frozen=True)
class TrustRegion:
    """``delta`` bounds the mean KL of a step, in nats per token. ``iterations`` of conjugate gradient on ``F + damping I``.

    The line search tries the full step times ``1, backtrack, backtrack^2, ..``, ``tries`` of them.
    """

    delta: float = 0.01
    iterations: int = 10
    damping: float = 0.1
    backtrack: float = 0.8
    tries: int = 10

    def __post_init__(self) -> None:
        if not self.delta > 0 or self.damping < 0:
            raise ValueError(f"delta is above 0 and damping at least 0, not {self.delta} and {self.damping}")
        if not 0 < self.backtrack < 1:
            raise ValueError(f"backtrack lies between 0 and 1, not at {self.backtrack}: it shortens the step")
        if min(self.iterations, self.tries) < 1:
            raise ValueError("iterations and tries are at least 1")


def conjugate_gradient(product: Product, g: Tensor, iterations: int, tolerance: float = 1e-10) -> Tensor:
    """``x`` with ``A x = g`` from products ``A v`` (Hestenes and Stiefel 1952).

    After k iterations ``x`` minimises ``x^T A x / 2 - g^T x`` over the span of g, Ag, .., A^{k-1} g. Stops early when
    ``|g - A x| <= tolerance |g|``, or at a direction in which A has no positive curvature.
    """
    x, residual, direction = torch.zeros_like(g), g.clone(), g.clone()
    square = residual.dot(residual)
    enough = tolerance**2 * square
    for _ in range(iterations):
        if square <= enough:
            break
        image = product(direction)
        curvature = direction.dot(image)
        if not curvature > 0:
            break
        length = square / curvature
        x = x + length * direction
        residual = residual - length * image
        before, square = square, residual.dot(residual)
        direction = residual + (square / before) * direction
    return x


def full_step(gradient: Tensor, fisher: Product, settings: TrustRegion) -> Tensor | None:
    """``sqrt(2 delta / x^T F x) x`` with ``(F + damping I) x = g``; None where the policy does not move along x."""

    def damped(vector: Tensor) -> Tensor:
        return fisher(vector) + settings.damping * vector

    x = conjugate_gradient(damped, gradient, settings.iterations)
    curvature = float(x.dot(fisher(x)))
    return (2 * settings.delta / curvature) ** 0.5 * x if 0 < curvature < float("inf") else None


def step(gradient: Tensor, fisher: Product, evaluate: Evaluate, settings: TrustRegion) -> tuple[Tensor | None, Metrics]:
    """The step [N] to add to the parameters, or None where none was found; ``gradient`` [N] points uphill.

    A step that is returned has been evaluated as it is: its mean KL is at most delta and its gain above 0. Nothing is
    evaluated for a gradient that is zero or not finite. A NaN fails the comparison, so it is never accepted.
    """
    norm = float(gradient.norm())
    full = full_step(gradient, fisher, settings) if 0 < norm < float("inf") else None
    tried = 0
    while full is not None and tried < settings.tries:
        candidate = settings.backtrack**tried * full
        tried += 1
        gain, kl = evaluate(candidate)
        if kl <= settings.delta and gain > 0:
            return candidate, _report(tried, kl, gain, accepted=True)
    return None, _report(tried, 0.0, 0.0, accepted=False)


def _report(tried: int, kl: float, gain: float, *, accepted: bool) -> Metrics:
    """KL and gain are means over the accepted steps: a rejected one counts for nothing."""
    count = float(accepted)
    return {
        "trpo/accepted": (count, 1.0),
        "trpo/tries": (float(tried), 1.0),
        "trpo/kl": (kl, count),
        "trpo/gain": (gain, count),
    }
