"""Training nano in conversations: a maze, 24 points with a verifier's words, a Python tool. Held-out success rises.

Each environment is learnt by GRPO and by PPO, once with a reward for the episode and once with one for every turn. The policy
begins with guesses (``burnish.tasks.guesses``, random walks), so that it knows the form of a turn and seldom what to say.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby, product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from burnish.core.algorithms import GRPO, GRPO_PROCESS, PPO, Algorithm
from burnish.core.intervals import paired
from burnish.data.chat import Chat
from burnish.engines.decode import LocalSampler
from burnish.engines.local import Engine, LocalModel
from burnish.engines.optim import AdamW, Schedule
from burnish.loops.evaluate import Measured, run_items
from burnish.loops.fit import FitConfig, fit
from burnish.loops.fixed import Data
from burnish.loops.rl import RLConfig, rl
from burnish.loops.update import CriticConfig
from burnish.run import Run
from burnish.tabular.worlds import Grid
from burnish.tasks.arithmetic import Arithmetic
from burnish.tasks.feedback import Feedback
from burnish.tasks.guesses import CardGuesses, ProgramGuesses
from burnish.tasks.maze import MazeTask, RandomWalks
from burnish.tasks.points24 import Points24
from burnish.tasks.python_tool import PythonTool
from burnish.types import Completion, EnvTask, Hearing, Sampling
from burnish.view import View

ENGINE = Engine(dtype="float32", device="cpu", optimizer=AdamW(weight_decay=0.01))
END = "<|end|>"
ROOM = Grid(("S..", "..G"))
CARDS = Points24(cards=3, target=12, highest=6)
PRODUCT = Arithmetic(kinds=("product",), numbers=2, low=2, high=9)


@dataclass(frozen=True)
class Setting:
    """A task that pays for the episode, the same with a reward for every turn, and what the policy has seen of it.

    ``after`` names another setting that it has seen before: copying numbers is learnt once.
    """

    whole: Any
    stepped: Any
    seen: Data
    fit: FitConfig
    rl: RLConfig
    after: str = ""

    @property
    def sampling(self) -> Sampling:
        return self.rl.sampling


def fitted(steps: int, batch: int, lr: float) -> FitConfig:
    schedule = Schedule(lr, warmup=steps // 8, shape="cosine", final=0.1)
    return FitConfig(steps=steps, batch=batch, schedule=schedule, engine=ENGINE)


def learning(steps: int, prompts: int, lr: float, max_tokens: int) -> RLConfig:
    return RLConfig(
        steps=steps, prompts=prompts, group=8, schedule=Schedule(lr, warmup=1), engine=ENGINE,
        critic=CriticConfig(Schedule(1e-3, warmup=1)), sampling=Sampling(max_tokens=max_tokens),
    )  # fmt: skip


MAZE = MazeTask(ROOM, cap=3, style="text")
TRIED = Feedback(2)(CARDS)
CALLED = PythonTool(calls=1, tell=False)(PRODUCT)
SETTINGS = {
    "maze": Setting(
        MAZE,
        MazeTask(replace(ROOM, step_reward=-0.1), cap=3, style="text"),
        RandomWalks(MAZE),
        fitted(40, 8, 2e-3),
        learning(12, 4, 5e-4, 8),
    ),
    "python": Setting(
        CALLED,
        PythonTool(calls=1, tell=False, per_call=0.2)(PRODUCT),
        ProgramGuesses(CALLED, size=800),
        fitted(260, 16, 3e-3),
        learning(16, 4, 2e-4, 32),
    ),
    "points24": Setting(
        TRIED,
        Feedback(2, pay="each")(CARDS),
        CardGuesses(TRIED, signs="+-*", size=2000),
        fitted(120, 16, 1.5e-3),
        learning(20, 8, 2e-4, 12),
        after="python",
    ),
}
ALGORITHMS: dict[tuple[str, bool], Algorithm] = {
    ("grpo", False): replace(GRPO, kl=None),
    ("grpo", True): replace(GRPO_PROCESS, kl=None),
    ("ppo", False): replace(PPO, reward_kl=None),
    ("ppo", True): replace(PPO, reward_kl=None),
}


def opened(directory: Path, cfg: Any) -> Run:
    return Run.open(directory, recipe="t", scale="tiny", config=cfg, seed=0, view=View(quiet=True))


def successes(model: Path, task: Measured, sampling: Sampling, n: int = 120) -> list[float]:
    """Whether each of the same ``n`` held-out episodes succeeds."""
    policy = LocalModel(model, ENGINE)
    items = run_items(LocalSampler(policy), policy.chat, task, n=n, samples=1, sampling=sampling, key=1)
    return [next(iter(item.scores[0].values())) for item in items]


@dataclass(frozen=True)
class School:
    """Models that have seen guesses: one for each setting, made when it is first asked for."""

    nano: Path
    folder: Path

    @cache  # noqa: B019 - a few models
    def base(self, name: str) -> Path:
        setting = SETTINGS[name]
        begun = self.base(setting.after) if setting.after else self.nano
        with opened(self.folder / name, setting.fit) as run:
            return Path(run.stage(fit, "fit", begun, setting.seen, cfg=setting.fit))

    @cache  # noqa: B019
    def before(self, name: str) -> list[float]:
        setting = SETTINGS[name]
        return successes(self.base(name), setting.whole.with_split("test"), setting.sampling)


@pytest.fixture(scope="module")
def school(nano: Path, tmp_path_factory: pytest.TempPathFactory) -> School:
    return School(nano, tmp_path_factory.mktemp("school"))


def train(school: School, out: Path, name: str, algo: str, stepped: bool) -> tuple[Path, EnvTask]:
    """The trained policy, and what it was trained on; the run is in ``out``."""
    setting = SETTINGS[name]
    task = setting.stepped if stepped else setting.whole
    with opened(out, setting.rl) as run:
        algorithm = ALGORITHMS[algo, stepped]
        return Path(run.stage(rl, "rl", school.base(name), task, algo=algorithm, cfg=setting.rl)), task


QUICK = [("maze", "grpo", True)]


def combinations() -> list[Any]:
    """Every combination; all but the quickest are slow."""
    found = []
    for name, (algo, stepped) in product(SETTINGS, ALGORITHMS):
        marks = [pytest.mark.needs_sandbox] * (name != "maze") + [pytest.mark.slow] * (
            (name, algo, stepped) not in QUICK
        )
        rewards = "steps" if stepped else "whole"
        found.append(pytest.param(name, algo, stepped, marks=marks, id=f"{name}-{algo}-{rewards}"))
    return found


@pytest.mark.parametrize(("name", "algo", "stepped"), combinations())
def test_heldout_success_rises(name: str, algo: str, stepped: bool, school: School, tmp_path: Path) -> None:
    setting, before = SETTINGS[name], school.before(name)
    trained, task = train(school, tmp_path / "run", name, algo, stepped)
    after = successes(trained, setting.whole.with_split("test"), setting.sampling)
    change = paired(before, after)
    assert 0.03 < sum(before) / len(before) < 0.5 and change["low"] > 0, change
    stored = pq.read_table(tmp_path / "run/rl/rollouts/step-000001.parquet").to_pylist()
    assert max(len(row["rewards"]) for row in stored) > 1 or not stepped, "a reward for every turn"
    assert any(row["logprobs"] is not None for row in stored)
    for row in stored:
        check_row(row, task, Chat.load(school.nano), setting.sampling.max_tokens)


def check_row(row: dict[str, Any], task: EnvTask, chat: Chat, limit: int) -> None:
    """What is unmasked is what the policy said: played again with it, the environment says all the rest, and pays the same."""
    pieces = [
        (own, [token for token, _ in piece])
        for own, piece in groupby(zip(row["token_ids"], row["mask"], strict=True), key=lambda pair: pair[1])
    ]
    example = task[row["item"]]
    env, place, paid, ended = task.env(example), 0, [], True
    assert chat.encode_prompt(tuple(env.reset(0))) == tuple(row["prompt_ids"])
    answer: tuple[Any, ...] = ()
    for own, tokens in pieces:
        if own:
            ended = tokens[-1] in chat.eos_ids
            assert ended or len(tokens) == limit
            place += len(tokens)
            text = chat.decode(tokens)
            said = Completion(
                tuple(tokens), text, ({"role": "assistant", "content": text},), "eos" if ended else "length"
            )
            if isinstance(env, Hearing):
                env.hear(said)
            answer, reward, _, _ = env.step(text)
            paid += [(place - 1, part.value, part.part) for part in reward]
        else:
            place += len(tokens)
            [message] = answer
            spoken = f"<|{message['role']}|>{message['content']}{END}<|assistant|>"
            assert chat.decode(tokens, special=True) == ("" if ended else END) + spoken
    assert pieces[0][0] and pieces[-1][0], "a row begins and ends with the policy"
    assert [tuple(part.values()) for part in row["rewards"]] == paid
    if row["logprobs"] is None:  # all episodes of its group were paid alike
        return
    own = np.array(row["mask"])
    sampled, trained = (np.array(row[name]) for name in ("sampler_logprobs", "logprobs"))
    np.testing.assert_allclose(trained[own], sampled[own], atol=1e-4)
    assert not sampled[~own].any() and not np.array(row["advantages"])[~own].any()
