"""Completions that grow over several steps: the same ones in the end, none lost, none used twice, to the bit."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import words
from burnish.core.algorithms import DR_GRPO, REMAX, Algorithm
from burnish.core.corrections import TIS
from burnish.core.online import NASH_MD
from burnish.core.orders import Pick
from burnish.core.selection import MixedGroups
from burnish.engines.decode import LocalSampler
from burnish.engines.local import Engine, LocalModel
from burnish.engines.optim import Schedule
from burnish.engines.table import END, build_table
from burnish.errors import InputError
from burnish.loops.drawing import DrawState
from burnish.loops.partial import Begun, lengthen
from burnish.loops.rl import RLConfig, rl
from burnish.loops.rollouts import Asked, Grouping
from burnish.run import Run
from burnish.signals import Interrupted
from burnish.tabular.worlds import SIX_STEPS
from burnish.tasks.maze import MazeTask
from burnish.types import Completion, Example, Reward, Sampling, outcome
from burnish.view import View
from tiny import three_token_model
from words import ENGINE

CHANCES = {
    "ask": {"more": 0.8, "well": 0.2},
    "tell": {"more": 0.4, "well": 0.6},
    "more": {"more": 0.7, "well": 0.2, END: 0.1},
    "well": {"more": 0.4, END: 0.6},
}
PLAIN = replace(DR_GRPO, kl=None)
CONFIG = RLConfig(
    steps=8,
    prompts=3,
    group=4,
    sampling=Sampling(max_tokens=24),
    schedule=Schedule(0.0),
    engine=ENGINE,
    checkpoint_every=2,
)
PULLED: list[int] = []
"""The calls of the reward before which the plug is pulled."""


@dataclass(frozen=True)
class Talk:
    """Pays for every "well"."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Example:
        return Example(({"role": "user", "content": ("ask", "tell")[index % 2]},))

    def reward(self, example: Example, completions: Sequence[Completion]) -> list[Reward]:  # noqa: ARG002
        if PULLED:
            PULLED[0] -= 1
            if not PULLED[0]:
                PULLED.clear()
                raise Interrupted(signal.SIGINT)
        assert all(c.finish != "paused" for c in completions), "only what is complete is rewarded"
        return [outcome(c.text.count("well") / 4) for c in completions]


def trained(out: Path, cfg: RLConfig, algo: Any = PLAIN, resume: bool = False) -> Path:
    """The directory of the stage."""
    model = out.parent / "model"
    if not model.exists():
        words.write(model, CHANCES)
    with Run.open(out, recipe="t", scale="tiny", config=cfg, seed=0, resume=resume, view=View(quiet=True)) as run:
        return Path(run.stage(rl, "rl", model, Talk(), algo=algo, cfg=cfg)).parent


def rows(stage: Path, steps: int = 8) -> list[dict[str, Any]]:
    paths = [stage / "rollouts" / f"step-{step:06d}.parquet" for step in range(1, steps + 1)]
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def metrics(stage: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]


def held(stage: Path, step: int) -> list[Begun]:
    state = json.loads((stage / f"checkpoints/step-{step:06d}/state.json").read_text())
    return list(DrawState.read(state["loop"]["drawing"]).held)


SAMPLED = (
    "draw",
    "item",
    "prompt_ids",
    "token_ids",
    "mask",
    "sampler_logprobs",
    "kept",
    "finish",
    "completion",
    "reward",
)


@pytest.mark.parametrize("algo", [PLAIN, replace(REMAX, reward_kl=None)], ids=["groups", "greedy"])
def test_with_constant_weights_the_completions_are_those_without(algo: Algorithm, tmp_path: Path) -> None:
    whole = {row["episode"]: row for row in rows(trained(tmp_path / "whole", replace(CONFIG, steps=12), algo), 12)}
    stage = trained(tmp_path / "partial", replace(CONFIG, partial=3), algo)
    found = rows(stage)
    assert any(row["version"] < row["step"] - 1 for row in found), "some of them began in earlier steps"
    for row in found:
        assert all(row[name] == whole[row["episode"]][name] for name in SAMPLED if name in row)


def test_every_step_is_full_and_nothing_is_lost_or_used_twice(tmp_path: Path) -> None:
    stage = trained(tmp_path / "run", replace(CONFIG, partial=2))
    found = rows(stage)
    groups = [row["group"] for row in found][::4]
    assert [row["step"] for row in found] == [step for step in range(1, 9) for _ in range(12)]
    waiting = [begun.draw for begun in held(stage, 8)]
    state = json.loads((stage / "checkpoints/step-000008/state.json").read_text())
    assert sorted(groups + waiting) == list(range(state["loop"]["drawing"]["draws"])), "each draw is in one place"
    assert waiting and len(waiting) <= CONFIG.prompts
    assert [line["partial/held"] for line in metrics(stage)][-1] == len(waiting)


def test_older_tokens_are_counted_and_keep_what_they_were_sampled_with(tmp_path: Path) -> None:
    """The lag is what the correction of the sampler against the trainer gets to see."""
    cfg = replace(CONFIG, partial=2, schedule=Schedule(0.5))
    stage = trained(tmp_path / "run", cfg, replace(PLAIN, correction=TIS(2.0)))
    found, logged = rows(stage), metrics(stage)
    assert logged[0]["partial/lag_tokens"] == 0 and max(line["partial/lag_tokens"] for line in logged) > 1
    for step, line in enumerate(logged, 1):
        own = [row for row in found if row["step"] == step]
        stale = [row for row in own if row["version"] < step - 1]
        assert line["partial/lag_tokens"] <= sum(len(row["token_ids"]) for row in stale) / len(own)
        assert (line["partial/lag_tokens"] > 0) == bool(stale)
    assert logged[0]["mismatch/kl"] < 1e-9 < max(line.get("mismatch/kl", 0.0) for line in logged)


def test_paused_completions_grow_by_the_tokens_they_are_given(tmp_path: Path) -> None:
    words.write(tmp_path / "model", CHANCES)
    model = LocalModel(tmp_path / "model", ENGINE)
    grouping = Grouping(LocalSampler(model), model.chat, Talk(), Talk().reward, 4, Sampling(max_tokens=10), 5)
    pool = [Begun(draw, Pick(draw, "shuffled"), 0, (None,) * 4) for draw in range(2)]
    for grown in range(1, 4):
        longer = lengthen(grouping, pool, 4)
        for before, after in zip(pool, longer, strict=True):
            for old, new in zip(before.completions, after.completions, strict=True):
                assert new is not None
                if old is not None:
                    assert new.tokens[: len(old.tokens)] == old.tokens and (old.finish == "paused" or new == old)
                assert (len(new.tokens) == 4 * grown) if new.finish == "paused" else len(new.tokens) <= 4 * grown
        pool = longer
    asked = [Asked(begun.draw, begun.pick, Talk()[begun.pick.item]) for begun in pool]
    [first, second], _ = grouping.groups(asked, 0)
    assert [begun.whole is not None for begun in pool] == [True, True]
    assert [r.tokens for r in first.rollouts + second.rollouts] == [c.tokens for b in pool for c in b.whole or ()]


def test_what_waits_is_json(tmp_path: Path) -> None:
    model = LocalModel(three_token_model(tmp_path / "m"), Engine(dtype="float32", device="cpu"))
    how = Sampling(max_tokens=8, top_k=2, truncation="kept")
    prompts = words.Prompts(("a", "ab"))
    grouping = Grouping(LocalSampler(model), model.chat, prompts, prompts.reward, 3, how, 1)
    new = Begun(4, Pick(1, "prioritised: never drawn", 0.5), 2, (None,) * 3)
    for state in (new, *lengthen(grouping, [new], 2)):
        assert Begun.read(json.loads(json.dumps(asdict(state)))) == state
    assert any(c and c.finish == "paused" and c.kept_ids for c in state.completions)


@pytest.mark.parametrize("call", [5, 14])
def test_an_interrupted_run_goes_on_to_the_same_bits(call: int, tmp_path: Path) -> None:
    cfg, algo = replace(CONFIG, partial=3, schedule=Schedule(0.05)), replace(PLAIN, select=MixedGroups(50))
    straight = trained(tmp_path / "straight", cfg, algo)
    PULLED.append(call)
    with pytest.raises(Interrupted):
        trained(tmp_path / "broken", cfg, algo)
    assert not PULLED
    broken = trained(tmp_path / "broken", cfg, algo, resume=True)
    names = ["model/model.safetensors", "checkpoints/step-000008/state.json"]
    names += [f"rollouts/step-{step:06d}.parquet" for step in range(1, 9)]
    assert all((straight / name).read_bytes() == (broken / name).read_bytes() for name in names)


def test_what_does_not_go_together_is_said_before_the_first_step(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot wait for a rival's completions: set partial=0"):
        trained(tmp_path / "rival", replace(CONFIG, partial=4), NASH_MD)
    build_table(tmp_path / "table", SIX_STEPS)
    cfg = replace(CONFIG, partial=4)
    with (
        Run.open(tmp_path / "maze", recipe="t", scale="tiny", config=cfg, seed=0, view=View(quiet=True)) as run,
        pytest.raises(InputError, match=r"tasks of one reply, and MazeTask has turns: set partial=0"),
    ):
        run.stage(rl, "rl", tmp_path / "table", MazeTask(), algo=PLAIN, cfg=cfg)
    with pytest.raises(ValueError, match="partial=-1"):
        replace(CONFIG, partial=-1)
