"""What the experiment on PPO-ptx rests on: text that is apart from the reward and from what is measured, points that match."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from burnish.core.algorithms import PPO
from burnish.engines.local import LocalModel
from burnish.engines.pretrained import resolve
from burnish.run import Run
from burnish.tasks.tiny import Demonstrations
from burnish.types import Completion
from burnish.view import View
from evidence.nano import Paid
from evidence.ptx import (
    _ENGINE,
    _RL,
    HIGHEST,
    OTHER,
    REWARD,
    TASK,
    Alternating,
    Solved,
    held_out,
    kept,
    likelihood,
    points,
)


def test_the_reward_is_measured_as_a_share_of_the_highest() -> None:
    dev, right = Paid(TASK.with_split("dev"), REWARD, HIGHEST), TASK.with_split("dev")[0].answer
    shares = {
        f"<think>so</think><answer>{right}</answer>": (1.0, 1.0),
        right: (1.0, 1 / 1.5),
        "<think>so</think><answer>no</answer>": (0.0, 0.5 / 1.5),
    }
    for text, (accuracy, share) in shares.items():
        found = dev.measure(dev[0], Completion((), text, (), "eos"))
        assert (found["accuracy"], found["reward"]) == (accuracy, pytest.approx(share))


def test_the_text_alternates_and_the_held_out_part_is_in_nobodys_training() -> None:
    text = Alternating(Demonstrations(TASK), Solved(OTHER))
    kinds = [text[index].meta["kind"] for index in range(6)]
    assert kinds == ["largest", "sort"] * 3 and len(text) == 9600
    seen = {text[index].meta["canonical"] for index in range(len(text))}
    held = [held_out()[index] for index in range(len(held_out()))]
    assert not seen & {example.meta["canonical"] for example in held}
    assert all(OTHER.gold(example) == example.messages[-1]["content"] for example in held)


def test_a_point_has_reward_and_likelihood_of_the_same_weights(tmp_path: Path) -> None:
    """The last point is that of the exported model's own run stopped there."""
    base = resolve("nano")
    cfg = replace(_RL, steps=3, prompts=2, group=2, minibatches=1, eval_items=4)
    dev = Paid(TASK.with_split("dev"), REWARD, HIGHEST)
    with Run.open(tmp_path / "run", view=View(quiet=True)) as run:
        run.stage(kept, "rl", base, TASK, algo=PPO, cfg=cfg, reward=REWARD, heldout=dev, pretraining=Solved(OTHER))
        stage = run.directory / "rl"
        saved = LocalModel(base, _ENGINE)
        saved.restore(stage / "checkpoints" / "step-000002" / "policy")
        expected = likelihood(saved)
        found = points(stage, base, cfg)
    assert [point["step"] for point in found] == [0, 2]
    assert found[0]["nats"] == pytest.approx(likelihood(LocalModel(base, _ENGINE)), rel=1e-12)
    assert found[1]["nats"] == pytest.approx(expected, rel=1e-12) != pytest.approx(found[0]["nats"], rel=1e-6)
