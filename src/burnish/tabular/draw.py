"""A world as text: one line a row of cells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from burnish.tabular.exact import TIE
from burnish.tabular.worlds import ARROWS, Floats, Grid

UNDECIDED = "·"


def draw(world: Grid, texts: Sequence[str]) -> str:
    """The picture with a text in each of the S cells: a wall is a block, goal and decoys show their own mark."""
    width = max(map(len, texts))
    shown = [
        world.picture[r][c].center(width) if world.terminal[s] else text.rjust(width)
        for s, ((r, c), text) in enumerate(zip(world.cells, texts, strict=True))
    ]
    blocks = [
        [shown[world.index[r, c]] if (r, c) in world.index else "█" * width for c in range(len(row))]
        for r, row in enumerate(world.picture)
    ]
    return "\n".join(" ".join(row).rstrip() for row in blocks)


def arrows(policy: Floats) -> list[str]:
    """The likeliest move of each of the S cells; a dot where two are as likely."""
    found = []
    for row in policy:
        best = np.flatnonzero(row >= row.max() - TIE)
        found.append(ARROWS[best[0]] if len(best) == 1 else UNDECIDED)
    return found


def hundredths(values: Floats) -> list[str]:
    """Values as whole hundredths, short enough for grids side by side."""
    return [f"{round(100 * value):3d}" for value in values]


def beside(*blocks: str, gap: str = "   ") -> str:
    """Blocks of text of the same height, from left to right."""
    lines = [block.splitlines() for block in blocks]
    widths = [max(map(len, block)) for block in lines]
    rows = zip(*lines, strict=True)
    return "\n".join(gap.join(t.ljust(w) for t, w in zip(row, widths, strict=True)).rstrip() for row in rows)
