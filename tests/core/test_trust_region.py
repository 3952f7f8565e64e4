"""Conjugate gradient, the full step and the line search; tabular policies, whose Fisher matrix is written down."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from burnish.core.trust_region import TrustRegion, conjugate_gradient, full_step, step
from burnish.tabular import exact
from burnish.tabular.worlds import SIX_STEPS, Grid
from burnish.types import means

SIZE = 6


def matrix(seed: int, rank: int = SIZE) -> Tensor:
    """[N, N] symmetric, positive semi-definite, of that rank."""
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(SIZE, rank, generator=generator, dtype=torch.float64)
    return factor @ factor.T


def vector(seed: int, size: int = SIZE) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(100 + seed), dtype=torch.float64)


# ----------------------------------------------------------------------------------------------- conjugate gradient


@pytest.mark.parametrize("seed", range(3))
def test_as_many_iterations_as_dimensions_solve_the_system(seed: int) -> None:
    a, g = matrix(seed) + torch.eye(SIZE), vector(seed)
    x = conjugate_gradient(lambda v: a @ v, g, iterations=SIZE)
    assert torch.allclose(x, torch.linalg.solve(a, g), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("count", range(1, SIZE + 1))
def test_every_iteration_is_the_best_of_its_subspace(count: int) -> None:
    """``x_k`` minimises ``x^T A x / 2 - g^T x`` over the span of g, Ag, .., A^{k-1} g."""
    a, g = matrix(3) + torch.eye(SIZE), vector(3)
    x = conjugate_gradient(lambda v: a @ v, g, iterations=count)
    krylov = [g]
    for _ in range(count - 1):
        krylov.append(a @ krylov[-1])
    basis, _ = torch.linalg.qr(torch.stack(krylov, 1))
    best = basis @ torch.linalg.solve(basis.T @ a @ basis, basis.T @ g)
    assert torch.allclose(x, best, rtol=1e-9, atol=1e-11)


def test_it_stops_when_the_residual_is_small_beside_the_right_side() -> None:
    """Three distinct eigenvalues take three products, at any scale of g; a loose tolerance takes fewer."""
    a = torch.diag(torch.tensor([1.0, 1.0, 2.0, 2.0, 5.0, 5.0], dtype=torch.float64))
    calls = []

    def product(v: Tensor) -> Tensor:
        calls.append(v)
        return a @ v

    for scale, tolerance, expected in [(1.0, 1e-10, 3), (1e-6, 1e-10, 3), (1.0, 0.1, 2)]:
        calls.clear()
        g = scale * vector(0)
        x = conjugate_gradient(product, g, 50, tolerance)
        assert len(calls) == expected
        assert (g - a @ x).norm() <= tolerance * g.norm()


def test_a_singular_system_with_a_solution_is_solved() -> None:
    """A Fisher matrix has null directions (all logits of a state together); the gradient has no part along them."""
    a = matrix(1, rank=3)
    g = a @ vector(1)
    x = conjugate_gradient(lambda v: a @ v, g, iterations=50)
    assert torch.allclose(a @ x, g, rtol=1e-9, atol=1e-10)
    assert conjugate_gradient(lambda v: 0 * v, g, 10).eq(0).all(), "no curvature: no step, and no division by zero"


# ----------------------------------------------------------------------------------------------- the step


@dataclass
class Watched:
    """A quadratic world: gain ``g^T s``, KL ``factor s^T F s / 2``; notes what was asked."""

    fisher: Tensor
    gradient: Tensor
    factor: float = 1.0
    sign: float = 1.0
    asked: list[Tensor] = field(default_factory=list)
    products: int = 0

    def product(self, v: Tensor) -> Tensor:
        self.products += 1
        return self.fisher @ v

    def __call__(self, moved: Tensor) -> tuple[float, float]:
        self.asked.append(moved)
        kl = self.factor * float(moved @ self.fisher @ moved) / 2
        return self.sign * float(self.gradient @ moved), kl

    def step(self, region: TrustRegion) -> tuple[Tensor | None, dict[str, float]]:
        found, metrics = step(self.gradient, self.product, self, region)
        return found, means(metrics)


EXACT = TrustRegion(iterations=50)


@pytest.mark.parametrize("delta", [1e-8, 0.01, 1.0])
def test_where_the_quadratic_model_is_true_the_full_step_spends_delta(delta: float) -> None:
    """Damping turns the direction and takes nothing from the length. A hair's breadth is left for rounding."""
    world = Watched(matrix(0), vector(0), factor=1 - 1e-9)
    found, metrics = world.step(replace(EXACT, delta=delta))
    assert found is not None
    natural = torch.linalg.solve(world.fisher + 0.1 * torch.eye(SIZE), world.gradient)
    assert torch.allclose(found / found.norm(), natural / natural.norm(), rtol=1e-9)
    assert metrics["trpo/kl"] == pytest.approx(delta, rel=1e-8) and metrics["trpo/kl"] <= delta
    assert metrics["trpo/gain"] == pytest.approx(float(world.gradient @ found), rel=1e-12)
    assert (metrics["trpo/accepted"], metrics["trpo/tries"]) == (1.0, 1.0)


def test_damping_turns_the_natural_gradient_towards_the_gradient() -> None:
    f, g = matrix(2), vector(2)

    def towards(target: Tensor, damping: float) -> float:
        full = full_step(g, lambda v: f @ v, replace(EXACT, damping=damping))
        assert full is not None
        return float(torch.cosine_similarity(full, target, dim=0))

    assert towards(torch.linalg.solve(f, g), 0.0) == pytest.approx(1, abs=1e-10)
    assert towards(g, 1e8) == pytest.approx(1, abs=1e-10)
    assert towards(g, 0.0) < 0.9 < towards(g, 10.0)


def test_the_first_step_that_keeps_both_bounds_is_taken() -> None:
    """The true KL is three times the model's: .8^2k <= 1/3 first at k = 3. What is returned is what was evaluated."""
    world = Watched(matrix(0), vector(0), factor=3)
    found, metrics = world.step(EXACT)
    assert metrics["trpo/tries"] == len(world.asked) == 4
    assert found is world.asked[-1]
    assert metrics["trpo/kl"] == pytest.approx(0.01 * 3 * 0.8**6, rel=1e-8)
    lengths = [float(s.norm() / world.asked[0].norm()) for s in world.asked]
    assert lengths == pytest.approx([1, 0.8, 0.64, 0.512])


@pytest.mark.parametrize(
    ("world", "tries"),
    [
        (Watched(matrix(0), vector(0), factor=1e9), 5),  # every try goes too far
        (Watched(matrix(0), vector(0), sign=-1), 5),  # every try makes it worse
        (Watched(matrix(0), vector(0), sign=0), 5),  # no try makes it better
        (Watched(matrix(0), vector(0), factor=float("nan")), 5),
        (Watched(matrix(0), vector(0), sign=float("nan")), 5),
        (Watched(matrix(0), torch.zeros(SIZE, dtype=torch.float64)), 0),  # nothing to gain: nothing is asked
        (Watched(matrix(0), torch.full((SIZE,), torch.nan, dtype=torch.float64)), 0),
        (Watched(matrix(0), torch.full((SIZE,), torch.inf, dtype=torch.float64)), 0),
        (Watched(torch.zeros(SIZE, SIZE, dtype=torch.float64), vector(0)), 0),  # no parameter moves the policy
    ],
    ids=["far", "worse", "equal", "nan-kl", "nan-gain", "zero", "nan-gradient", "infinite-gradient", "no-curvature"],
)
def test_no_step_is_said_to_be_none(world: Watched, tries: int) -> None:
    found, metrics = world.step(TrustRegion(tries=5))
    assert found is None and len(world.asked) == tries
    assert metrics == {"trpo/accepted": 0.0, "trpo/tries": tries}, "a mean KL or gain over no steps does not exist"
    useful = world.gradient.isfinite().all() and world.gradient.any()
    assert (world.products > 0) == bool(useful), "a product is as much work as a gradient"


@pytest.mark.parametrize(
    "wrong",
    [
        {"delta": 0.0},
        {"delta": float("nan")},
        {"damping": -0.1},
        {"backtrack": 1.0},
        {"backtrack": 0.0},
        {"tries": 0},
        {"iterations": 0},
    ],
    ids=str,
)
def test_settings_without_a_meaning_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"delta|backtrack|iterations"):
        TrustRegion(**wrong)  # type: ignore[arg-type]


# ----------------------------------------------------------------------------------------------- tabular policies


@dataclass(frozen=True)
class Table:
    """A softmax policy over logits [S, A], states weighed by ``visits`` [S], with fixed advantages [S, A]."""

    logits: Tensor
    visits: Tensor
    advantages: Tensor

    def policy(self, moved: Tensor | float = 0.0) -> Tensor:
        shift = moved.view(self.logits.shape) if isinstance(moved, Tensor) else moved
        return torch.softmax(self.logits + shift, -1)

    def gradient(self) -> Tensor:
        p = self.policy()
        centred = self.advantages - (p * self.advantages).sum(-1, keepdim=True)
        return (self.visits[:, None] * p * centred).flatten()

    def fisher(self) -> Tensor:
        """[S A, S A] one block ``d(s) (diag p - p p^T)`` a state."""
        blocks = [d * (torch.diag(p) - torch.outer(p, p)) for d, p in zip(self.visits, self.policy(), strict=True)]
        return torch.block_diag(*blocks)

    def evaluate(self, moved: Tensor) -> tuple[float, float]:
        old, new = self.policy(), self.policy(moved)
        gain = (self.visits[:, None] * (new - old) * self.advantages).sum()
        kl = (self.visits[:, None] * torch.special.xlogy(old, old / new)).sum()
        return float(gain), float(kl)

    def step(self, region: TrustRegion) -> tuple[Tensor | None, dict[str, float]]:
        fisher = self.fisher()
        found, metrics = step(self.gradient(), lambda v: fisher @ v, self.evaluate, region)
        return found, means(metrics)


def table(seed: int, states: int = 3, moves: int = 4) -> Table:
    generator = torch.Generator().manual_seed(seed)
    logits, advantages = torch.randn(2, states, moves, generator=generator, dtype=torch.float64)
    visits = torch.rand(states, generator=generator, dtype=torch.float64)
    return Table(2 * logits, visits / visits.sum(), advantages)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    delta=st.floats(1e-6, 3.0),
    damping=st.sampled_from([0.0, 1e-3, 0.1]),
    backtrack=st.sampled_from([0.5, 0.8]),
)
def test_an_accepted_step_keeps_its_bounds(seed: int, delta: float, damping: float, backtrack: float) -> None:
    policy, region = table(seed), TrustRegion(delta, iterations=20, damping=damping, backtrack=backtrack)
    found, metrics = policy.step(region)
    if found is None:
        assert metrics == {"trpo/accepted": 0.0, "trpo/tries": 10.0}
        return
    gain, kl = policy.evaluate(found)
    assert 0 < gain == metrics["trpo/gain"] and 0 <= kl == metrics["trpo/kl"] <= delta
    if metrics["trpo/tries"] > 1:
        gain, kl = policy.evaluate(found / backtrack)
        assert gain <= 0 or kl > delta * (1 - 1e-9), "a longer step was possible"


def test_as_delta_shrinks_the_step_is_the_natural_gradient_of_length_delta() -> None:
    """Direction ``F^+ g`` and, but for the line search, ``s^T F s = 2 delta``; KL and gain come to be what the quadratic
    and the linear model say, with errors like sqrt(delta)."""
    policy = table(7)
    natural = torch.linalg.pinv(policy.fisher()) @ policy.gradient()
    errors = []
    for delta in (1e-2, 1e-4, 1e-6):
        found, metrics = policy.step(TrustRegion(delta, iterations=30, damping=0.0, backtrack=0.95))
        assert found is not None
        assert float(torch.cosine_similarity(found, natural, dim=0)) == pytest.approx(1, abs=1e-10)
        quadratic, linear = float(found @ policy.fisher() @ found) / 2, float(policy.gradient() @ found)
        assert 0.8 * delta < quadratic < 1.001 * delta
        errors.append((abs(1 - metrics["trpo/kl"] / quadratic), abs(1 - metrics["trpo/gain"] / linear)))
    for kind in zip(*errors, strict=True):
        assert [large / small for large, small in pairwise(kind)] == pytest.approx([10, 10], rel=0.2)


def test_the_step_does_not_depend_on_the_parameters_chosen() -> None:
    """Without damping the policy after the step is the same for ``theta = B phi``: what makes the gradient natural."""
    policy, region = table(11), TrustRegion(1e-3, iterations=40, damping=0.0)
    found, _ = policy.step(region)
    size = policy.logits.numel()
    basis = torch.eye(size, dtype=torch.float64) + 0.3 * torch.randn(
        size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    fisher = basis.T @ policy.fisher() @ basis
    other, _ = step(basis.T @ policy.gradient(), lambda v: fisher @ v, lambda s: policy.evaluate(basis @ s), region)
    assert found is not None and other is not None
    assert torch.allclose(policy.policy(basis @ other), policy.policy(found), rtol=1e-7)
    plain = basis @ (basis.T @ policy.gradient())
    assert float(torch.cosine_similarity(plain, policy.gradient(), dim=0)) < 0.99, "the ordinary gradient does depend"


@dataclass(frozen=True)
class Maze:
    """A softmax policy in the maze of six steps, by its exact gradient; states weighed by how often they are visited."""

    logits: np.ndarray
    world: Grid = SIX_STEPS
    cap: int = 6

    @property
    def policy(self) -> Tensor:
        return torch.from_numpy(exact.softmax(self.world, self.logits))

    def success(self) -> float:
        return exact.success(self.world, self.policy.numpy(), self.cap)

    def moved(self, by: Tensor) -> Maze:
        return replace(self, logits=self.logits + by.view(self.logits.shape).numpy())

    def visits(self) -> Tensor:
        return torch.from_numpy(exact.occupancy(self.world, self.policy.numpy(), self.cap)[:-1].mean(0))

    def evaluate(self, by: Tensor) -> tuple[float, float]:
        """The true gain: the surrogate of the paper is an estimate of it."""
        after, permitted = self.moved(by), torch.from_numpy(self.world.permitted)
        ratio = torch.where(permitted, self.policy / after.policy, 1.0)
        kl = (self.visits()[:, None] * torch.special.xlogy(self.policy, ratio)).sum()
        return after.success() - self.success(), float(kl)

    def step(self, region: TrustRegion) -> Tensor | None:
        blocks = [d * (torch.diag(p) - torch.outer(p, p)) for d, p in zip(self.visits(), self.policy, strict=True)]
        fisher = torch.block_diag(*blocks)
        gradient = torch.from_numpy(exact.policy_gradient(self.world, self.logits, self.cap)).flatten()
        return step(gradient, lambda v: fisher @ v, self.evaluate, region)[0]


def test_it_learns_the_maze() -> None:
    """Every step keeps to its KL and raises the probability of success; six steps suffice."""
    maze = Maze(np.zeros(SIX_STEPS.permitted.shape))
    reached = [maze.success()]
    for _ in range(6):
        found = maze.step(TrustRegion(0.05, 30, 1e-3))
        assert found is not None and maze.evaluate(found)[1] <= 0.05
        maze = maze.moved(found)
        reached.append(maze.success())
    assert reached == sorted(reached) and reached[0] < 0.02 and reached[-1] > 0.99
