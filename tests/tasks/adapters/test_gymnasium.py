"""gymnasium as conversations: what is said, which words are actions, what is paid, chance that repeats itself, closed ends."""

from __future__ import annotations

import gc
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from burnish import config
from burnish.cli import main
from burnish.errors import InputError
from burnish.recipes import catalog as recipes
from burnish.tasks.adapters.gymnasium import Gymnasium, GymnasiumEnv
from burnish.tasks.catalog import get
from burnish.types import Completion, Message, RewardPart

needs = pytest.mark.skipif(importlib.util.find_spec("gymnasium") is None, reason="pip install 'burnish[gymnasium]'")
STILL = (("is_slippery", False),)
LAKE = Gymnasium("FrozenLake-v1", options=STILL)
WAY = ("down", "down", "right", "right", "down", "right")


def played(
    task: Gymnasium, texts: tuple[str, ...], seed: int = 0, index: int = 0
) -> tuple[float, float, list[Message]]:
    """(success, sum of the rewards, what was said) of the episode in which the policy says ``texts``; the last ends it."""
    example = task[index]
    env = task.env(example)
    said, total = list(env.reset(seed)), 0.0
    assert tuple(said) == example.messages
    for number, text in enumerate(texts, 1):
        answer, reward, done, _ = env.step(text)
        said += [{"role": "assistant", "content": text}, *answer]
        total += sum(part.value for part in reward)
        assert done == (number == len(texts)), texts[:number]
    completion = Completion((), "", tuple(said[1:]), "eos")
    return task.measure(example, completion)["success"], total, said


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    for ask in (lambda: LAKE[0], lambda: get("gymnasium/FrozenLake-v1")):
        with pytest.raises(InputError, match=r"pip install 'burnish\[gymnasium\]'"):
            ask()


@pytest.mark.parametrize("settings", [{"cap": 0}, {"size": 0}, {"illegal": float("nan")}, {"split": "trian"}])
def test_settings_out_of_range(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Gymnasium(**settings)


@needs
@pytest.mark.parametrize(
    "name",
    [
        "FrozenLake-v1",
        "FrozenLake8x8-v1",
        "CliffWalking-v1",
        "Taxi-v4",
        "Blackjack-v1",
        "CartPole-v1",
        "MountainCar-v0",
    ],
)
def test_validate(name: str) -> None:
    task = get(f"gymnasium/{name}")
    assert "repeat themselves" in task.validate(2)  # type: ignore[attr-defined]
    assert hash(task) == hash(get(f"gymnasium/{name}"))


@needs
def test_a_lake_is_drawn_and_crossed() -> None:
    success, total, said = played(LAKE, WAY)
    opening = said[0]["content"]
    assert "SFFF\nFHFH\nFFFH\nHFFG\nYou are in row 1, column 1.\n" in opening
    assert opening.endswith("Reply with one action: left, down, right, up.") and "slippery" not in opening
    assert "slippery" in Gymnasium("FrozenLake-v1")[0].messages[0]["content"]
    assert said[2]["content"] == "You are in row 2, column 1. Return so far: 0."
    assert said[-1]["content"] == "You are in row 4, column 4. Game over. Return: 1."
    assert (success, total) == (1.0, 1.0)
    assert played(LAKE, ("down", "right"))[:2] == (0.0, 0.0)  # a hole


@needs
@pytest.mark.parametrize(
    ("text", "moved"),
    [
        ("down", True),
        ("I go DOWN.", True),
        ("<think>left or up</think>down", True),
        ("<answer>down</answer>", True),
        ("downwards", False),
        ("up or down", False),
        ("", False),
        ("1", False),
        ("<think>down", False),
    ],
)
def test_one_action_has_to_be_named(text: str, moved: bool) -> None:
    env = LAKE.env(LAKE[0])
    env.reset(0)
    [message], [part], done, info = env.step(text)
    assert (info["valid"], done) == (moved, False)
    assert part == (RewardPart(-1, 0.0, "game") if moved else RewardPart(-1, -1.0, "illegal"))
    assert message["content"].startswith("You are in row 2" if moved else "That is no action. Reply with one of: left,")


@needs
def test_words_that_are_no_action_use_up_turns_and_are_no_return() -> None:
    task = Gymnasium("CliffWalking-v1", cap=3, illegal=-7.0)
    success, total, said = played(task, ("up", "?", "up"))
    assert (success, total) == (0.0, -9.0)
    assert said[-1]["content"].endswith("Return so far: -2.")


@needs
def test_success_is_what_the_game_is_about() -> None:
    cliff = ("up", *["right"] * 11, "down")
    assert played(Gymnasium("CliffWalking-v1"), cliff)[:2] == (1.0, -13.0)
    assert played(Gymnasium("CliffWalking-v1", goal=-12.0), cliff)[0] == 0.0
    short = Gymnasium("CartPole-v1", cap=5)
    steps = ("left", "right", "left", "right", "left")
    assert played(short, steps)[:2] == (0.0, 5.0)  # the threshold of the environment is 475
    assert played(Gymnasium("CartPole-v1", cap=5, goal=5.0), steps)[0] == 1.0


@needs
def test_the_example_gives_the_start_and_the_episode_its_luck() -> None:
    taxi = Gymnasium("Taxi-v4")
    assert len({taxi[i].messages[0]["content"] for i in range(10)}) > 5
    lake = Gymnasium("FrozenLake-v1", cap=12)
    ways = [[said["content"] for said in _wander(lake, seed)] for seed in (0, 0, 1, 2, 3)]
    assert ways[0] == ways[1]
    assert len({tuple(way) for way in ways}) > 2
    starts = [{lake.with_split(split)[i].meta["canonical"] for i in range(50)} for split in ("train", "dev", "test")]
    assert len(set.union(*starts)) == 150


def _wander(task: Gymnasium, seed: int) -> list[Message]:
    env = task.env(task[0])
    said, done = [*env.reset(seed)], False
    while not done:
        answer, _, done, _ = env.step("down")
        said += answer
    return said


@needs
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("FrozenLak-v1", r"gymnasium/FrozenLak-v1 cannot be made: .* Did you mean"),
        ("FrozenLake-v9", r"version `v9`.* Did you mean 'FrozenLake-v1'"),
        ("Pendulum-v1", "choose an environment with discrete actions"),
    ],
)
def test_environments_that_cannot_be_played(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        get(f"gymnasium/{name}")


@needs
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"options": (("is_slippry", False),)}, "refuses the options {'is_slippry': False}"),
        ({"options": (("map_name", "9x9"),)}, "refuses the options"),
        ({"actions": ("a", "b")}, "has 4 actions"),
        ({"actions": ("a", "b", "c", "A")}, "different names"),
    ],
)
def test_options_that_do_not_fit(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Gymnasium("FrozenLake-v1", **settings).checked()


# --- an environment of somebody else --------------------------------------------------------------


@pytest.fixture
def lamp() -> Iterator[list[str]]:
    """An environment whose observations are of every kind, and whose actions count from 3. Gives what happened to it."""
    import gymnasium
    from gymnasium import spaces

    happened: list[str] = []

    class Lamp(gymnasium.Env[Any, Any]):
        def __init__(self, pixels: int = 2) -> None:
            self.action_space = spaces.Discrete(2, start=3)
            parts = {"name": spaces.Text(9), "pair": spaces.Tuple((spaces.Discrete(9), spaces.MultiBinary(2)))}
            self.observation_space = spaces.Dict({"light": spaces.Box(0, 1, (pixels,)), **parts})

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            super().reset(seed=seed, options=options)
            return self._seen(0), {}

        def step(self, action: Any) -> Any:
            happened.append(f"step {action}")
            return self._seen(1), 0.5, False, False, {}

        def _seen(self, on: int) -> dict[str, Any]:
            size = self.observation_space["light"].shape
            return {
                "light": np.full(size, on / 3, dtype=np.float32),
                "name": "lamp",
                "pair": (on, np.array([0, on], dtype=np.int8)),
            }

        def close(self) -> None:
            happened.append("close")

    gymnasium.register("Lamp-v0", entry_point=Lamp)
    yield happened
    del gymnasium.registry["Lamp-v0"]


@needs
def test_observations_of_every_kind_are_written(lamp: list[str]) -> None:
    task = Gymnasium("Lamp-v0", actions=("off", "on"), cap=2).checked()
    lamp.clear()
    success, total, said = played(task, ("on", "off"))
    assert "Observation: light 0 0, name lamp, pair 0, 0 0.\nReply with one action: off, on." in said[0]["content"]
    assert said[2]["content"] == "Observation: light 0.3333 0.3333, name lamp, pair 1, 0 1. Return so far: 0.5."
    assert [each for each in lamp if each != "close"] == ["step 4", "step 3"]
    assert (success, total) == (1.0, 1.0)
    assert Gymnasium("Lamp-v0")[0].messages[0]["content"].endswith("Reply with one action: 3, 4.")
    with pytest.raises(
        InputError, match="cannot be put into words: choose an environment that gives at most 64 numbers"
    ):
        Gymnasium("Lamp-v0", options=(("pixels", 65),)).checked()


@needs
def test_what_is_opened_is_closed(lamp: list[str]) -> None:
    task = Gymnasium("Lamp-v0", cap=2)
    example = task[0]
    lamp.clear()
    env: GymnasiumEnv | None = task.env(example)
    assert env is not None
    env.reset(0)
    env.step("3")
    assert lamp == ["step 3"]
    env.step("4")
    assert lamp == ["step 3", "step 4", "close"]  # the last turn
    env.reset(1)
    assert lamp.count("close") == 1
    env.reset(2)
    assert lamp.count("close") == 2  # an episode that was left
    env = None
    gc.collect()
    assert lamp.count("close") == 3  # an episode that nobody finished


@needs
def test_the_command_line_sets_options_and_reads_back_what_was_recorded() -> None:
    start = recipes.get("grpo").SCALES["tiny"]
    task = config.apply(start, ["task=gymnasium/FrozenLake-v1", "task.options={is_slippery: false}", "task.cap=9"]).task
    assert task == Gymnasium("FrozenLake-v1", options=STILL, cap=9)
    assert config.apply(start, [f"task={json.dumps(config.plain(task))}"]).task == task


@needs
def test_one_command_trains_on_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["run", "grpo", "--scale", "tiny", "--out", str(tmp_path / "run"), "task=gymnasium/Blackjack-v1"]
    small = ["task.cap=2", "rl.steps=1", "rl.prompts=2", "rl.group=2", "rl.eval_items=2", "eval_n=2"]
    assert main([*command, *small]) == 0, capsys.readouterr().err
    line = json.loads((tmp_path / "run" / "1-rl" / "metrics.jsonl").read_text().splitlines()[0])
    assert line["reward/illegal"] == -2.0  # a model that has learnt nothing names no action
