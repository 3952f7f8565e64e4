"""The maze by reinforcement learning: the table finds the way, what is shown is what the models compute, done is done."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from burnish import config
from burnish.engines.local import Engine, LocalModel
from burnish.engines.table import build_table, policy_of
from burnish.errors import InputError
from burnish.loops.fit import FitConfig
from burnish.recipes import catalog
from burnish.recipes.maze_rl import SCALES, MazeRL, ask, heard, look, main, picture, reply_of
from burnish.run import Run
from burnish.tabular import exact
from burnish.tabular.worlds import MOVES, SIX_STEPS, Grid
from burnish.tasks.maze import MazeTask
from burnish.types import Sampling
from burnish.view import View

TINY = SCALES["tiny"]


def run_it(directory: Path, settings: MazeRL, resume: bool = False) -> str:
    screen = Console(record=True, width=120, file=io.StringIO())
    with Run.open(
        directory, recipe="maze-rl", scale="tiny", config=settings, seed=0, view=View(screen), resume=resume
    ) as run:
        main(run, settings)
    return screen.export_text()


def done(directory: Path, stage: str) -> Any:
    return json.loads((directory / stage / "done.json").read_text())["result"]["value"]


def test_a_table_learns_the_way_and_its_critic_the_values(tmp_path: Path) -> None:
    text = run_it(tmp_path / "r", TINY)
    before, after = (done(tmp_path / "r", name) for name in ("1-before", "3-after"))
    live = ~SIX_STEPS.terminal
    np.testing.assert_allclose(np.array(before["policy"])[live], exact.uniform(SIX_STEPS)[live], atol=1e-6)
    assert before["values"] is None and "success 0.0174" in text and "3.333" in text
    success = exact.success(SIX_STEPS, np.array(after["policy"]), 6)
    assert success > 0.98 and f"success within 6 moves: 0.0174 -> {success:.4f} in 40 steps" in text
    assert "critic's V" in text and picture(TINY.task, after) in text
    there = exact.occupancy(SIX_STEPS, np.array(after["policy"]), 5).sum(0) > 0.5
    assert (there & live).sum() >= 6 and np.abs(np.array(after["values"]) - 10)[there & live].max() < 1.0
    head = load_file(tmp_path / "r" / "2-rl" / "critic" / "heads.safetensors")
    of_cells = (head["value.weight"][0, len(MOVES) : -1] + head["value.bias"]).numpy()
    np.testing.assert_allclose(np.array(after["values"])[live], of_cells[live], atol=1e-5)
    again = run_it(tmp_path / "r", TINY, resume=True)
    assert "step 1/" not in again and f"-> {success:.4f}" in again and "critic's V" in again
    assert json.loads((tmp_path / "r" / "summary.json").read_text())["2-rl"]["success_after"] == success


@pytest.mark.parametrize(
    ("overrides", "critic"),
    [([], True), (["rl.critic.shared=true"], True), (["algo=grpo"], False), (["algo=reinforce"], False)],
    ids=["ppo", "ppo-shared", "grpo", "reinforce"],
)
def test_an_algorithm_by_name_and_its_critic_beside_it(overrides: list[str], critic: bool, tmp_path: Path) -> None:
    tiny = catalog.get("maze-rl").SCALES["tiny"]
    settings = config.apply(tiny, [*overrides, "rl.steps=2", "rl.group=4"])
    assert ("critic's V" in run_it(tmp_path / "r", settings)) is critic
    assert (done(tmp_path / "r", "3-after")["values"] is not None) is critic


def test_what_is_seen_of_a_table_is_the_table(tmp_path: Path) -> None:
    """Also where a decoy and the goal bar the way to some cells; nothing is known of those."""
    world = Grid(("S.2.", "..##", "..G."))
    build_table(tmp_path / "table", world)
    model = LocalModel(tmp_path / "table", Engine(dtype="float32", device="cpu"))
    theta = np.random.Generator(np.random.Philox(1)).normal(size=world.permitted.shape)
    with torch.no_grad():
        allowed = torch.from_numpy(world.permitted)
        policy_of(model.head_weight, world)[allowed] = torch.from_numpy(theta)[allowed].float()
    (tmp_path / "random").mkdir()
    model.export(tmp_path / "random")
    cfg = replace(TINY.rl, engine=Engine(dtype="float64", device="cpu"))
    with Run.open(tmp_path / "r", recipe="t", scale="tiny", config=cfg, seed=0, view=View(quiet=True)) as run:
        seen = run.stage(look, "look", tmp_path / "random", MazeTask(world), cfg=cfg)
    beyond = (world.index[0, 3], world.index[2, 3])
    known = [s for s in range(len(world.cells)) if not world.terminal[s] and s not in beyond]
    wanted = exact.softmax(world, theta)
    np.testing.assert_allclose(np.array(seen["policy"])[known], wanted[known], atol=1e-6)
    assert not np.delete(np.array(seen["policy"]), known, 0).any()


def test_what_is_seen_of_a_transformer_is_what_it_samples(nano: Path) -> None:
    """A reply is its letters and the end of the turn, in the context of the whole conversation."""
    task, sampling = MazeTask(style="text"), Sampling(max_tokens=3)
    model = LocalModel(nano, Engine(dtype="float32", device="cpu"))
    way = task.conversation(SIX_STEPS.index[1, 0])
    assert way is not None
    found = ask(model, task, [way], sampling)
    assert (found.logprobs != 0).sum(1).tolist() == [3, 3, 3, 3], "up and its end; the others do not fit into the limit"
    wide = ask(model, task, [way], replace(sampling, max_tokens=8))
    assert (wide.logprobs != 0).sum(1).tolist() == [len(name) + 1 for name in MOVES]
    replies = {name: reply_of(model.chat, name, Sampling(max_tokens=8)) for name in MOVES}
    assert heard(model.chat, way, replies) == model.chat.encode_prompt(way), "this template closes its turns"


def test_a_transformer_begins_with_random_walks_and_is_measured(tmp_path: Path) -> None:
    laptop = SCALES["laptop"]
    assert laptop.pretrain is not None and laptop.eval is not None
    short = replace(
        laptop,
        pretrain=replace(laptop.pretrain, steps=2, batch=2),
        rl=replace(laptop.rl, steps=1, group=2),
        eval=replace(laptop.eval, n=4),
    )
    text = run_it(tmp_path / "r", short)
    assert "held out, n = 4" in text and "success" in text and "critic's V" in text
    stages = {path.parent.name for path in (tmp_path / "r").glob("*/done.json")}
    assert stages == {"0-pretrain", "1-before", "1-test", "2-rl", "3-after", "3-test"}
    assert (
        isinstance(short.pretrain, FitConfig) and (tmp_path / "r" / "2-rl" / "critic" / "heads.safetensors").is_file()
    )


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(InputError, match="a table goes with style table only"):
        replace(TINY, task=MazeTask(style="text"))
    with pytest.raises(InputError, match="a table goes with style table only"):
        replace(SCALES["laptop"], task=MazeTask())
