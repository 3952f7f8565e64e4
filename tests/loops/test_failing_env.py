"""An environment that fails costs its group, is written down, and ends the run only where nearly all of them fail."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from burnish.core import keys
from burnish.core.algorithms import DR_GRPO
from burnish.core.orders import Pick
from burnish.engines.decode import LocalSampler
from burnish.engines.optim import Schedule
from burnish.engines.table import build_table
from burnish.errors import InputError, TrainingHaltedError
from burnish.loops.episodes import Opening, play
from burnish.loops.evaluate import EvalConfig, evaluate, run_items, summarise
from burnish.loops.failures import Failure, FailureLog, Lost, check_hope, told
from burnish.loops.rl import RLConfig, rl
from burnish.loops.rollouts import Grouping
from burnish.run import Run
from burnish.signals import Interrupted
from burnish.stage import Stage
from burnish.tabular.worlds import SIX_STEPS
from burnish.tasks.maze import MazeEnv, MazeTask
from burnish.types import Example, Message, Reward, RewardPart
from burnish.view import View
from turns import ONE, draw, table
from words import ENGINE

CONFIG = RLConfig(
    steps=6, prompts=2, group=4, sampling=ONE, schedule=Schedule(1e-3), engine=ENGINE, checkpoint_every=2
)  # fmt: skip
PLAIN = replace(DR_GRPO, kl=None)
PULLED: list[int] = []
"""The episodes before which the plug is pulled."""


class Unlucky(MazeEnv):
    """Fails where its seed says so: as often as ``share``, in the way of ``how``."""

    share = 0.1
    how = "step"

    def reset(self, seed: int) -> tuple[Message, ...]:
        if PULLED:
            PULLED[0] -= 1
            if not PULLED[0]:
                PULLED.clear()
                raise Interrupted(2)
        self.unlucky = seed % 1000 < 1000 * self.share
        if self.unlucky and self.how == "reset":
            raise OSError("no such maze")
        return super().reset(seed)

    def step(self, text: str) -> tuple[tuple[Message, ...], Reward, bool, Mapping[str, Any]]:
        if self.unlucky and self.moves == 2:
            if self.how == "step":
                return {}["key"]  # type: ignore[no-any-return]
            answer, _, done, info = super().step(text)
            if self.how == "exit":
                raise SystemExit(0)
            if self.how == "nan":
                return answer, (RewardPart(-1, float("nan"), "arrival"),), done, info
            return (), (), False, info
        return super().step(text)


@dataclass(frozen=True)
class Ruins(MazeTask):
    """A maze whose environments fail for a share of the episodes."""

    share: float = 0.1
    how: str = "step"

    def env(self, example: Example) -> MazeEnv:  # noqa: ARG002
        if self.how == "env":
            raise RuntimeError("not built yet")
        if self.how == "setting":
            raise InputError("there is no such maze: choose another")
        env = Unlucky(self.grid, self.style)
        env.share, env.how = self.share, self.how
        return env


def opened(out: Path, resume: bool = False, view: View | None = None) -> Run:
    return Run.open(out, recipe="t", scale="tiny", config=CONFIG, seed=0, resume=resume, view=view or View(quiet=True))


def trained(out: Path, task: MazeTask, cfg: RLConfig = CONFIG, resume: bool = False, view: View | None = None) -> Path:
    """The directory of the stage."""
    model = out.parent / "table"
    if not model.exists():
        build_table(model, SIX_STEPS)
    with opened(out, resume, view) as run:
        return Path(run.stage(rl, "rl", model, task, algo=PLAIN, cfg=cfg, heldout=task)).parent


def failures(stage: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (stage / "failures.jsonl").read_text().splitlines()]


def metrics(stage: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("how", "error", "turn", "message"),
    [
        ("step", "KeyError", 2, "'key'"),
        ("reset", "OSError", -1, "no such maze"),
        ("exit", "SystemExit", 2, "0"),
        ("nan", "InputError", 2, "reward part 'arrival' is nan"),
        ("silence", "InputError", 2, "the environment says nothing after"),
    ],
)
def test_a_failure_costs_its_group_and_is_written_down(
    how: str, error: str, turn: int, message: str, tmp_path: Path
) -> None:
    console = Console(record=True, width=400)
    stage = trained(tmp_path / "run", Ruins(how=how), view=View(console))
    lost, draws = failures(stage), set[int]()
    for step in range(1, 7):
        rows = pq.read_table(stage / f"rollouts/step-{step:06d}.parquet").to_pylist()
        assert len({row["group"] for row in rows}) == 2, "a step is full all the same"
        draws |= {row["group"] for row in rows}
    assert lost and not draws & {each["draw"] for each in lost}
    assert draws | {each["draw"] for each in lost} == set(range(12 + len(lost)))
    assert sum(line["env/failed"] for line in metrics(stage)) == len(lost)
    for each in lost:
        assert (each["error"], each["turn"]) == (error, turn) and message in each["message"]
        assert 1 <= each["failed"] <= 4 and 0 <= each["sample"] < 4 and each["item"] >= 0
        assert len(each["traceback"]) <= 8, "its last lines"
        assert each["traceback"][-1].startswith(f"{'burnish.errors.' * (error == 'InputError')}{error}")
    file, _, line = lost[0]["place"].rpartition(":")
    if error != "InputError":
        assert file == __file__ and line.isdigit()
    assert console.export_text().count("an environment failed with") == 1, "the same failure is said once"


def test_the_episodes_beside_a_failing_one_are_as_they_were(tmp_path: Path) -> None:
    sound, ruins = MazeTask(), Ruins(share=0.3)
    model, items = table(tmp_path), [5, 3, 1, 0, 7, 9, 2, 6, 4, 11, 10, 8]

    def groups(task: MazeTask) -> tuple[Any, Any]:
        grouping = Grouping(LocalSampler(model), model.chat, task, task.reward, 4, ONE, 7)
        return grouping.groups(grouping.ask(range(12), [Pick(item, "") for item in items]), 0)

    (whole, none), (left, lost) = groups(sound), groups(ruins)
    assert not none and lost
    missing = {each.draw for each in lost}
    assert [g.rollouts for g in left] == [g.rollouts for g in whole if g.draw not in missing]
    unlucky = {
        draw: [i for i in range(4) if keys.derive(7, "sample", draw, i, "env") % 1000 < 300] for draw in range(12)
    }
    assert max(map(len, unlucky.values())) > 1
    assert [(each.draw, each.item, each.sample, each.failed) for each in lost] == [
        (draw, items[draw], samples[0], len(samples)) for draw, samples in unlucky.items() if samples
    ]


def test_a_run_in_which_nearly_all_fail_halts_and_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(
        TrainingHaltedError,
        match=rf"failed in 32 of 32 episodes and cost 8 groups, the last one with KeyError: 'key' \({__file__}:",
    ):
        trained(tmp_path / "run", Ruins(share=1.0))
    assert len(failures(tmp_path / "run/rl")) == 8
    assert (tmp_path / "run/rl/checkpoints/step-000000").is_dir()
    with pytest.raises(TrainingHaltedError, match="RuntimeError: not built yet"):
        trained(tmp_path / "env", Ruins(how="env"))


def test_a_setting_that_cannot_work_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^there is no such maze: choose another$"):
        trained(tmp_path / "run", Ruins(how="setting"))


def test_when_there_is_no_hope(tmp_path: Path) -> None:
    lost = Lost(0, 0, 0, 4, Failure(0, "KeyError", "'k'", "f.py:1", ()))
    last = replace(lost, failure=Failure(0, "ValueError", "of two\n  lines", "g.py:2", ()))
    for groups, episodes in ((7, 28), (8, 36), (90, 400), (99, 800)):
        check_hope(1, [lost] * groups, episodes, 5, tmp_path)
    for groups, episodes in ((8, 32), (10, 44), (91, 400), (100, 800)):
        with pytest.raises(
            TrainingHaltedError,
            match=f"in {4 * groups} of {episodes} episodes and cost {groups} groups.*"
            r"the last one with ValueError: of two lines \(g\.py:2\)",
        ):
            check_hope(1, [*[lost] * (groups - 1), last], episodes, 5, tmp_path)


def test_an_interrupted_run_fails_again_at_the_same_places(tmp_path: Path) -> None:
    straight = trained(tmp_path / "straight", Ruins(share=0.2))
    PULLED.append(60)
    with pytest.raises(Interrupted):
        trained(tmp_path / "broken", Ruins(share=0.2))
    assert not PULLED
    broken = trained(tmp_path / "broken", Ruins(share=0.2), resume=True)
    names = ["model/model.safetensors", "rollouts/step-000006.parquet", "failures.jsonl"]
    assert all((straight / name).read_bytes() == (broken / name).read_bytes() for name in names)
    assert len(failures(straight)) > 3


def test_the_log_is_cut_back_to_the_step_that_is_resumed(tmp_path: Path) -> None:
    stage = Stage(tmp_path, seed=0, view=View(quiet=True))
    log = FailureLog(stage, 0)
    for step in (1, 2, 3):
        log.add(step, Lost(step, 0, 0, 1, Failure(0, "KeyError", "'k'", "f.py:1", ())))
    FailureLog(stage, 2)
    assert [each["step"] for each in failures(tmp_path)] == [1, 2]


def test_each_kind_of_failure_is_said_once_and_all_are_written(tmp_path: Path) -> None:
    console = Console(record=True, width=400)
    log = FailureLog(Stage(tmp_path, seed=0, view=View(console)), 0)
    for kind, place in (("KeyError", "f.py:1"), ("OSError", "f.py:1"), ("KeyError", "f.py:2"), ("KeyError", "f.py:1")):
        log.add(4, Lost(9, 8, 3, 2, Failure(5, kind, "gone", place, ("a", "b"))))
    said = console.export_text()
    assert [said.count(f"step 4: an environment failed with {each}") for each in ("KeyError", "OSError")] == [2, 1]
    assert len(failures(tmp_path)) == 4 and failures(tmp_path)[0] == {
        "step": 4, "draw": 9, "item": 8, "sample": 3, "failed": 2, "turn": 5, "error": "KeyError", "message": "gone",
        "place": "f.py:1", "traceback": ["a", "b"],
    }  # fmt: skip


def test_an_evaluation_scores_a_failure_as_silence_and_counts_it(tmp_path: Path) -> None:
    model = table(tmp_path)

    def measured(task: MazeTask) -> dict[str, Any]:
        items = run_items(LocalSampler(model), model.chat, task, n=20, samples=2, sampling=ONE, key=1)
        assert len(items) == 20
        return summarise(items)

    assert "env/failed_frac" not in measured(MazeTask())
    found = measured(Ruins(share=0.3))
    assert 0 < found["env/failed_frac"] < 1 and found["success"]["n"] == 20
    assert measured(Ruins(share=1.0))["success"]["mean"] == 0 and measured(Ruins(how="env"))["env/failed_frac"] == 1
    stage = trained(tmp_path / "run", Ruins(share=0.3), replace(CONFIG, steps=1, eval_every=1, eval_items=20))
    assert round(20 * metrics(stage)[0]["eval/failed_frac"], 9) in range(1, 20), "so many of twenty"
    console = Console(record=True, width=400)
    with opened(tmp_path / "alone", view=View(console)) as run:
        run.stage(
            evaluate, "1-test", tmp_path / "table", Ruins(share=0.3), cfg=EvalConfig(20, 2, sampling=ONE, engine=ENGINE)
        )
    said = rf"1-test: the environment failed in \d+ of 40 episodes with KeyError: 'key' \({__file__}:\d+\)"
    assert re.search(said, console.export_text())


def test_what_failed_is_counted_by_its_kind_and_place() -> None:
    often, seldom, elsewhere = (Failure(0, "KeyError", message, place, ()) for message, place in ("ax", "bx", "ay"))
    assert told([None, elsewhere, often, None, seldom]) == [
        "the environment failed in 2 of 5 episodes with KeyError: a (x)",
        "the environment failed in 1 of 5 episodes with KeyError: a (y)",
    ]
    assert told([None]) == []


def test_an_episode_that_is_not_spared_lets_the_error_out(tmp_path: Path) -> None:
    model, task = table(tmp_path), Ruins(share=1.0)
    openings = [Opening(task.env(task[0]), ("alone",), ONE)]
    with pytest.raises(KeyError, match="key"):
        play(LocalSampler(model), model.chat, openings, max_turns=task.max_turns)
    [episode] = play(LocalSampler(model), model.chat, openings, max_turns=task.max_turns, spare=True)
    assert episode.failure is not None and episode.failure.kind == "KeyError" and not episode.rollouts


def test_who_asks_for_groups_gets_the_error(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=rf"the environment of item \d+ failed with KeyError: 'key' \({__file__}:\d+\)"
    ):
        draw(table(tmp_path), range(2), Ruins(share=1.0))
