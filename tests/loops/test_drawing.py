"""Which groups a step trains on: picked by an order, logged with the reason, and drawn again where they are refused."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console

import words
from burnish import config
from burnish.core.algorithms import DR_GRPO
from burnish.core.keys import derive
from burnish.core.orders import Bands, Curriculum, Order, Prioritised, Rates, Shuffled
from burnish.core.selection import MixedGroups
from burnish.data.batching import epoch_order
from burnish.engines.optim import Schedule
from burnish.engines.table import END
from burnish.errors import InputError, TrainingHaltedError
from burnish.loops.report import DryRunFinished
from burnish.loops.rl import RLConfig, rl
from burnish.loops.rollouts import read_groups
from burnish.recipes import catalog
from burnish.run import Run
from burnish.signals import Interrupted
from burnish.types import Completion, Example, Reward, Sampling, outcome
from burnish.view import View
from words import ENGINE

CHANCES = {
    "easy": {"right": 1.0},
    "even": {"right": 0.5, "wrong": 0.5},
    "hard": {"wrong": 1.0},
    "right": {END: 1.0},
    "wrong": {END: 1.0},
}
PROMPTS = ("easy", "even", "hard")
PLAIN = replace(DR_GRPO, kl=None)
CONFIG = RLConfig(
    steps=6,
    prompts=2,
    group=4,
    sampling=Sampling(max_tokens=2),
    schedule=Schedule(1e-9),
    engine=ENGINE,
    checkpoint_every=2,
)
PULLED: list[int] = []
"""The calls of the reward before which the plug is pulled."""


@dataclass(frozen=True)
class Quiz:
    """A prompt of one word each; "right" is. ``difficulties`` may be missing."""

    prompts: tuple[str, ...] = PROMPTS
    difficulties: tuple[float, ...] = ()
    domains: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, index: int) -> Example:
        meta: dict[str, Any] = {"difficulty": self.difficulties[index]} if self.difficulties else {}
        if self.domains:
            meta["domain"] = self.domains[index]
        return Example(({"role": "user", "content": self.prompts[index]},), "right", meta)

    def reward(self, example: Example, completions: Sequence[Completion]) -> list[Reward]:  # noqa: ARG002
        if PULLED:
            PULLED[0] -= 1
            if not PULLED[0]:
                PULLED.clear()
                raise Interrupted(signal.SIGINT)
        return [outcome(float(c.text.startswith("right")), "right") for c in completions]

    def measure(self, example: Example, completion: Completion) -> dict[str, float]:  # noqa: ARG002
        return {"accuracy": float(completion.text.startswith("right"))}


def opened(out: Path, *, resume: bool = False, dry_run: bool = False, view: View | None = None) -> Run:
    return Run.open(
        out,
        recipe="t",
        scale="tiny",
        config=CONFIG,
        seed=0,
        resume=resume,
        dry_run=dry_run,
        view=view or View(quiet=True),
    )


def trained(out: Path, task: Quiz, cfg: RLConfig, algo: Any = PLAIN, **options: Any) -> Path:
    """The directory of the stage."""
    model = out.parent / "model"
    if not model.exists():
        words.write(model, CHANCES)
    with opened(out, resume=options.pop("resume", False), **options) as run:
        return Path(run.stage(rl, "rl", model, task, algo=algo, cfg=cfg, heldout=task)).parent


def rollouts(stage: Path, steps: int) -> list[dict[str, Any]]:
    paths = [stage / "rollouts" / f"step-{step:06d}.parquet" for step in range(1, steps + 1)]
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def metrics(stage: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]


def remembered(stage: Path, step: int) -> dict[str, Any]:
    state = json.loads((stage / f"checkpoints/step-{step:06d}/state.json").read_text())
    found: dict[str, Any] = state["loop"]["drawing"]
    return found


def test_without_an_order_the_draws_are_shuffled_passes(tmp_path: Path) -> None:
    stage = trained(tmp_path / "run", Quiz(), CONFIG)
    rows = rollouts(stage, 6)
    assert {row["why"] for row in rows} == {"shuffled"}
    items = [row["item"] for row in rows[::4]]
    assert all(sorted(items[i : i + 3]) == [0, 1, 2] for i in (0, 3, 6, 9))
    assert items == epoch_order(derive(derive(0, "rl"), "order"), 3, 0, 12)
    assert remembered(stage, 6) == {"draws": 12, "held": [], "order": {}}


def test_what_was_drawn_and_why_is_logged(tmp_path: Path) -> None:
    order = Prioritised(Rates(memory=1.0, weight=1e-6))
    stage = trained(tmp_path / "run", Quiz(difficulties=(1, 2, 6)), replace(CONFIG, steps=12, order=order))
    rows, logged = rollouts(stage, 12), metrics(stage)
    for row in rows:
        assert json.loads(row["example"])["messages"][0]["content"] == PROMPTS[row["item"]]
    late = [row for row in rows if row["step"] > 8]
    assert {row["item"] for row in late} <= {1, 2}, "what is always solved is drawn no more"
    for row in rows:
        before = [r["reward"] for r in rows if r["item"] == row["item"] and r["step"] < row["step"]]
        record = f"solved {sum(before):g} of {len(before)}" if before else "never drawn"
        assert row["why"] == f"prioritised: {record}"
    counts = remembered(stage, 12)["order"]["counts"]
    for item, (solved, tried) in counts.items():
        own = [row["reward"] for row in rows if row["item"] == int(item)]
        assert (solved, tried) == (sum(own), len(own))
    for step, line in enumerate(logged, 1):
        own = [row for row in rows if row["step"] == step][::4]
        assert line["draw/distinct"] == len({row["item"] for row in own})
        assert line["draw/difficulty"] == sum((1, 2, 6)[row["item"]] for row in own) / 2
    assert logged[0]["draw/pass_rate"] == 0.5 and all(0 <= line["draw/pass_rate"] <= 0.6 for line in logged)


def test_refused_groups_count_for_the_rates_and_steps_are_full(tmp_path: Path) -> None:
    """Groups of equal rewards are refused, so only "even" is trained on; what is known of the others comes from refusals."""
    algo = replace(PLAIN, select=MixedGroups(cap=50))
    stage = trained(tmp_path / "run", Quiz(), replace(CONFIG, order=Bands(0.1, 0.9, 0.01, Rates(weight=0))), algo)
    assert {row["item"] for row in rollouts(stage, 6)} == {1} and len(rollouts(stage, 6)) == 6 * 8
    counts = remembered(stage, 6)["order"]["counts"]
    assert counts["0"][0] == counts["0"][1] > 0 and counts["2"][0] == 0 < counts["2"][1]
    first, last = metrics(stage)[0], metrics(stage)[-1]
    assert first["draw/distinct"] == 3 and first["select/drawn"] > last["select/drawn"], "the band spares refusals"


def test_too_few_groups_halt_with_the_state_before_the_step(tmp_path: Path) -> None:
    algo = replace(PLAIN, select=MixedGroups(cap=2))
    with pytest.raises(TrainingHaltedError, match="step 1: of 4 groups only 0 were fit to train on, and 2 are needed"):
        trained(tmp_path / "run", Quiz(("easy", "hard")), CONFIG, algo)
    assert remembered(tmp_path / "run/rl", 0)["draws"] == 0


@pytest.mark.parametrize(
    "order", [Prioritised(), Bands(0.3, 0.8, 0.5), Curriculum(0.3, 4)], ids=lambda order: type(order).__name__
)
def test_an_interrupted_run_draws_what_the_undisturbed_one_draws(order: Order, tmp_path: Path) -> None:
    task = Quiz(("easy", "even", "hard") * 3, difficulties=(2, 1, 3) * 3)
    cfg, algo = replace(CONFIG, order=order, schedule=Schedule(0.01)), replace(PLAIN, select=MixedGroups(cap=50))
    straight = trained(tmp_path / "straight", task, cfg, algo)
    PULLED.append(17)
    with pytest.raises(Interrupted):
        trained(tmp_path / "broken", task, cfg, algo)
    assert not PULLED
    broken = trained(tmp_path / "broken", task, cfg, algo, resume=True)
    names = ["model/model.safetensors", "rollouts/step-000006.parquet", "checkpoints/step-000006/state.json"]
    assert all((straight / name).read_bytes() == (broken / name).read_bytes() for name in names)


def test_an_order_by_difficulty_asks_for_it_before_the_first_step(tmp_path: Path) -> None:
    cfg = replace(CONFIG, order=Curriculum())
    with pytest.raises(
        InputError, match=r'item 0 has the difficulty None: .* meta\["difficulty"\] .* order=Prioritised'
    ):
        trained(tmp_path / "run", Quiz(), cfg)
    with pytest.raises(InputError, match="item 1 has the difficulty nan"):
        trained(tmp_path / "other", Quiz(difficulties=(1.0, float("nan"), 2.0)), cfg)


def test_scores_are_told_apart_by_domain(tmp_path: Path) -> None:
    task = Quiz(("easy", "hard", "hard"), domains=("one", "other", "other"))
    cfg = replace(CONFIG, steps=2, prompts=3, eval_every=1, eval_items=2)
    for line in metrics(trained(tmp_path / "run", task, cfg)):
        assert line["reward/mean"] == pytest.approx(1 / 3)
        assert (line["reward/domain/one"], line["reward/domain/other"]) == (1.0, 0.0)
        assert (line["eval/accuracy"], line["eval/one/accuracy"], line["eval/other/accuracy"]) == (0.5, 1.0, 0.0)


def test_a_dry_run_rehearses_the_order(tmp_path: Path) -> None:
    words.write(tmp_path / "model", CHANCES)
    console, cfg = Console(record=True, width=120), replace(CONFIG, order=Curriculum(0.3, 1000))
    with opened(tmp_path / "dry", dry_run=True, view=View(console)) as run, pytest.raises(DryRunFinished):
        run.stage(rl, "rl", tmp_path / "model", Quiz(difficulties=(3, 2, 1)), algo=PLAIN, cfg=cfg)
    text = console.export_text()
    assert "Curriculum(start=0.3, steps=1000)" in text
    assert "\nhard\n" in text and "\neasy\n" not in text


def test_rollouts_without_the_columns_are_read(tmp_path: Path) -> None:
    stage = trained(tmp_path / "run", Quiz(), replace(CONFIG, steps=1))
    path = stage / "rollouts/step-000001.parquet"
    [group, _] = read_groups(stage / "rollouts", 1)
    assert (group.pick.why, group.pick.item) == ("shuffled", PROMPTS.index(group.example.messages[0]["content"]))
    pq.write_table(pq.read_table(path).drop_columns(["item", "why"]), tmp_path / path.name)
    assert [g.pick.item for g in read_groups(tmp_path, 1)] == [-1, -1]


def test_orders_are_settings() -> None:
    scale = catalog.get("grpo").SCALES["tiny"]
    assert scale.rl.order == Shuffled()
    assert config.apply(scale, ["rl.order=Prioritised", "rl.order.rates.success=0.5"]).rl.order == Prioritised(
        Rates(0.5)
    )
    bands = config.apply(scale, ["rl.order={kind: Bands, low: 0.2, high: 0.7}"]).rl.order
    assert bands == Bands(0.2, 0.7)
    with pytest.raises(InputError, match="explore"):
        config.apply(scale, ["rl.order={kind: Bands, explore: 0}"])
