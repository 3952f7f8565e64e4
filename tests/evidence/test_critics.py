"""What the experiment on critics rests on: its explained variance, and where its critics begin."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from burnish.engines.pretrained import resolve
from burnish.rewards.base import Composable, per_completion
from burnish.run import Run
from burnish.types import Completion, Example, Reward, outcome
from burnish.view import View
from evidence.critics import explained_variance, random_head, reward_model


@dataclass(frozen=True)
class Digits(Composable):
    """Something that a model with random weights does now and then."""

    @per_completion
    def __call__(self, example: Example, completion: Completion) -> Reward:  # noqa: ARG002
        return outcome(completion.text.count("1"))


@pytest.mark.parametrize(
    ("values", "wanted"),
    [([[1.0, 1.0], [0.0]], 1.0), ([[5.0, 5.0], [4.0]], 1.0), ([[0.0, 0.0], [0.0]], 0.0), ([[-1.0, -1.0], [0.0]], -3.0)],
    ids=["exact", "shifted", "zero", "opposed"],
)
def test_explained_variance(values: list[list[float]], wanted: float, tmp_path: Path) -> None:
    """Token by token against the outcome of the completion; a constant offset explains as much."""
    pq.write_table(pa.table({"reward": [1.0, 0.0], "values": values}), tmp_path / "step.parquet")
    assert explained_variance(tmp_path / "step.parquet") == pytest.approx(wanted, abs=1e-12)


def test_where_the_critics_begin(tmp_path: Path) -> None:
    """A random head on the base's own trunk; a reward model whose trunk and head have learnt while the policy stood still."""
    base = resolve("nano")
    with Run.open(tmp_path / "run", view=View(quiet=True)) as run:
        random = Path(run.stage(random_head, "random", base))
        learnt = Path(run.stage(reward_model, "learnt", base, reward=Digits(), steps=1))
    before, head = (load_file(p) for p in (base / "model.safetensors", random / "heads.safetensors"))
    same = load_file(random / "model.safetensors")
    assert before.keys() == same.keys() and all(torch.equal(before[name], same[name]) for name in before)
    assert 0.5 < float(head["value.weight"].norm()) < 2.0
    policy, critic = (load_file(p / "model.safetensors") for p in (learnt.with_name("model"), learnt))
    assert all(torch.equal(before[name], policy[name]) for name in before)
    # The head begins at zero, so the first update moves it alone, and from the second on the trunk learns.
    assert float(load_file(learnt / "heads.safetensors")["value.weight"].norm()) > 0
    assert any((before[name] - critic[name]).abs().max() > 1e-4 for name in before)
