"""The interval of the change in loss, and what the recipe refuses before it loads a model."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from burnish import cli
from burnish.errors import InputError
from burnish.recipes.sft import SCALES, Sft, change_interval, main


def test_the_interval_covers_the_true_change_about_95_times_in_100() -> None:
    draw = random.Random(0)
    hits = 0
    for _ in range(400):
        tokens = [float(draw.randint(5, 60)) for _ in range(100)]
        before = [2.0 * t + draw.gauss(0, 3) for t in tokens]
        after = [b - t * draw.gauss(0.5, 0.3) for b, t in zip(before, tokens, strict=True)]
        low, high = change_interval(before, after, tokens)
        hits += low < -0.5 < high
    assert 0.92 <= hits / 400 <= 0.98


def test_a_row_in_two_halves_is_not_two_rows() -> None:
    """The same change on every token has no spread, however long the rows are."""
    low, high = change_interval([4.0, 10.0], [2.0, 5.0], [2.0, 5.0])
    assert low == pytest.approx(-1) and high == pytest.approx(-1)


def test_data_is_asked_for_first() -> None:
    run: Any = None
    with pytest.raises(InputError, match="add data=FILE"):
        main(run, Sft(model="no such model", fit=SCALES["tiny"].fit))


def test_the_recipe_for_other_data_is_named(tmp_path: Path) -> None:
    run: Any = None
    data = tmp_path / "d.jsonl"
    data.write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    with pytest.raises(
        InputError, match=r"d\.jsonl has data of kind 'preference', and sft trains on .* recipe dpo or kto"
    ):
        main(run, Sft(model="no such model", fit=SCALES["tiny"].fit, data=str(data)))


def test_pretraining_text(nano: Path, tmp_path: Path) -> None:
    data, out = tmp_path / "t.jsonl", tmp_path / "run"
    data.write_text("".join(f'{{"text": "Story {i}. Once there was a number, and it grew."}}\n' for i in range(20)))
    given = [f"model={nano}", f"data={data}", "fit.max_length=16", "fit.steps=4", "fit.engine.neftune=5", "--quiet"]
    assert cli.main(["run", "sft", "--scale", "tiny", "--out", str(out), *given]) == 0
    measured = json.loads((out / "summary.json").read_text())["1-sft"]["nll"]
    assert measured["n"] > 2, "windows of the two held-out texts"
    assert measured["after"] < measured["before"] - 0.2


def test_three_scales() -> None:
    assert list(SCALES) == ["tiny", "laptop", "paper"]
    assert SCALES["paper"].fit.engine.adapter is None
    assert Path(SCALES["paper"].model).parts[0] == "Qwen"
