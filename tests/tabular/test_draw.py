"""Pictures of worlds, character by character."""

from __future__ import annotations

import numpy as np
import pytest

from burnish.tabular import draw, exact
from burnish.tabular.worlds import SIX_STEPS, Grid

WORLD = Grid(("S.2", "#.G"))


def test_a_picture() -> None:
    assert draw.draw(WORLD, ["ab", "c", "x", "d", "y"]) == "ab  c 2\n██  d G"


def test_arrows_are_the_likeliest_moves() -> None:
    policy = exact.uniform(WORLD)
    assert draw.arrows(policy)[:2] == ["→", "·"]
    policy = exact.greedy(WORLD, exact.value_iteration(WORLD, 0.5), 0.5)
    assert np.array(draw.arrows(policy))[[0, 1, 3]].tolist() == ["→", "→", "↑"]


def test_the_maze_shows_its_way() -> None:
    policy = exact.greedy(SIX_STEPS, exact.value_iteration(SIX_STEPS, 0.9), 0.9)
    shown = draw.draw(SIX_STEPS, draw.arrows(policy))
    assert shown == "→ → ↓ ←\n↓ █ ↓ █\n↓ █ ↓ █\n→ → → G"


def test_numbers_side_by_side() -> None:
    assert draw.hundredths(np.array([0.5, -0.004, 1.0])) == [" 50", "  0", "100"]
    assert draw.beside("a\nbcd", "e\nf", gap="|") == "a  |e\nbcd|f"
    with pytest.raises(ValueError, match="shorter"):
        draw.beside("a\nb", "c")
