"""The maze learnt from samples by the loop that trains language models: PPO (arXiv:1707.06347), or any algorithm by name.

    a table of moves and cells, or nano after random walks -> episodes of several turns -> policy and critic

    burnish run maze-rl --scale tiny
    burnish run maze-rl --scale tiny algo=grpo

A lookup table is a language model whose tokens are moves and cells, so nothing here is special but the model: the world says
where we are, the policy answers with a move, and what the world says is masked. ``maze`` follows the exact gradient of the same
policy. The grid is shown before and after, with what is still to be expected in each cell and the likeliest move, and with
the critic's opinion where the algorithm has one. For a table the values and the success probability are exact. A
transformer knows its whole way: its move in a cell is the one after a shortest way there, and its success is also measured.

What a scale means here. No paper trains on this maze:

- ``tiny`` is the lookup table, from the uniform policy: seconds.
- ``laptop`` is ``nano`` in words ("you are at r0c1; exits: right left"): it first learns from random walks how to talk and
  which moves there are, then where to go. Two minutes.
- ``paper`` is a larger maze with steps to spare, in words, in which a random walk succeeds once in 480 episodes. Its settings
  are those of ``laptop`` with more of everything; they have not been tuned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from burnish.core.algorithms import PPO, Algorithm
from burnish.core.keys import derive
from burnish.data.batching import collate
from burnish.data.chat import Chat
from burnish.engines.local import Engine, LocalModel
from burnish.engines.optim import AdamW, Schedule
from burnish.engines.pretrained import resolve
from burnish.engines.table import build_table
from burnish.errors import InputError
from burnish.loops import report
from burnish.loops.evaluate import EvalConfig, evaluate
from burnish.loops.fit import FitConfig, fit
from burnish.loops.rl import RLConfig, rl
from burnish.loops.update import CriticConfig
from burnish.recipes.maze import frame
from burnish.run import Artifact, Run
from burnish.stage import Stage
from burnish.tabular import draw, exact
from burnish.tabular.worlds import MOVES, Grid, walled_grid
from burnish.tasks.maze import STYLES, MazeTask, RandomWalks
from burnish.types import Head, Message, Outputs, Rollout, Sampling

TABLE = "table"
"""The model that is made for the grid: a lookup table with the uniform policy."""


@dataclass(frozen=True)
class MazeRL:
    """``model`` is "table" or a model's name. ``pretrain`` teaches it random walks first; ``eval`` measures its success."""

    rl: RLConfig
    task: MazeTask = field(default_factory=MazeTask)
    model: str = TABLE
    algo: Algorithm = PPO
    pretrain: FitConfig | None = None
    eval: EvalConfig | None = None

    def __post_init__(self) -> None:
        if (self.model == TABLE) != (self.task.style == "table"):
            raise InputError(f"model={self.model} and task.style={self.task.style}: a table goes with style table only")


def main(run: Run, s: MazeRL) -> Artifact:
    if s.model == TABLE:
        base: Path | Artifact = run.stage(table, "0-table", s.task.grid)
    else:
        base = resolve(s.model)
    if s.pretrain:
        base = run.stage(fit, "0-pretrain", base, RandomWalks(s.task), cfg=s.pretrain, cache=True)
    before = run.stage(look, "1-before", base, s.task, cfg=s.rl)
    run.view.say(picture(s.task, before))
    tested = run.stage(evaluate, "1-test", base, s.task, cfg=s.eval) if s.eval else None
    trained: Artifact = run.stage(rl, "2-rl", base, s.task, algo=s.algo, cfg=s.rl)
    after = run.stage(look, "3-after", trained, s.task, cfg=s.rl, critic=critic_of(trained, s))
    run.view.say(f"\n{picture(s.task, after)}")
    chances = [exact.success(s.task.grid, np.array(seen["policy"]), s.task.cap) for seen in (before, after)]
    run.view.say(f"success within {s.task.cap} moves: {chances[0]:.4f} -> {chances[1]:.4f} in {s.rl.steps} steps")
    run.summary({"2-rl": {"success_before": chances[0], "success_after": chances[1]}})
    if s.eval and tested:
        report.learned(run, trained, tested, run.stage(evaluate, "3-test", trained, s.task, cfg=s.eval), stage="2-rl")
    return trained


@dataclass(frozen=True)
class Uniform:
    """The table of the uniform policy in ``grid``, to be written."""

    grid: Grid

    def export(self, directory: Path) -> None:
        build_table(directory, self.grid)


def table(stage: Stage, grid: Grid) -> Path:
    """A stage: the lookup table for ``grid``."""
    return stage.export(Uniform(grid))


def critic_of(trained: Path | Artifact, s: MazeRL) -> Path | None:
    """Where the loop has left the critic: in the model on whose trunk it sits, or beside it."""
    if not s.algo.needs_critic:
        return None
    return Path(trained) if s.rl.critic.shared else Path(trained).with_name("critic")


# --- what a model would do -------------------------------------------------------------------------


def look(stage: Stage, model: Path, task: MazeTask, *, cfg: RLConfig, critic: Path | None = None) -> dict[str, Any]:
    """A stage: "policy" [S, A], the chance of each move in each cell after a shortest way there, and "values" [S] of a critic.

    Cells that end an episode, and those no way leads to, have zeros. What a row lacks to 1 is the chance of no move at all.
    """
    grid, engine = task.grid, replace(stage.decide("engine", cfg.engine.resolved), adapter=None)
    ways = {cell: task.conversation(cell) for cell in np.flatnonzero(~grid.terminal).tolist()}
    known = {cell: way for cell, way in ways.items() if way is not None}
    policy, values = np.zeros(grid.permitted.shape), np.zeros(len(grid.cells))
    answers = ask(LocalModel(Path(model), engine), task, list(known.values()), cfg.sampling)
    policy[list(known)] = answers.logprobs.double().sum(1).exp().reshape(-1, len(MOVES)).numpy()
    if critic is not None:
        judge = LocalModel(Path(critic), engine, heads={"value": Head()})
        heads = ask(judge, task, list(known.values()), cfg.sampling).heads
        values[list(known)] = heads["value"].double()[:: len(MOVES), 0].numpy()  # before a move: the same for all four
    return {"policy": policy.tolist(), "values": values.tolist() if critic is not None else None}


def ask(model: LocalModel, task: MazeTask, ways: Sequence[Sequence[Message]], sampling: Sampling) -> Outputs:
    """What ``model`` computes for each of the four moves as the reply to each conversation: one row each."""
    words = {name: reply_of(model.chat, name, sampling) for name in STYLES[task.style]}
    rows = [
        Rollout(heard(model.chat, way, words), word, (True,) * len(word), (0.0,) * len(word), (), 0, number, 0, 0)
        for number, way in enumerate(ways)
        for word in words.values()
    ]
    return model.forward(collate(rows, temperature=sampling.temperature))


def reply_of(chat: Chat, move: str, sampling: Sampling) -> tuple[int, ...]:
    """The tokens of a move and the end of the turn, which is not drawn any more where the move alone reaches the limit."""
    tokens = (*chat.tokenizer(move, add_special_tokens=False)["input_ids"], chat.tokenizer.eos_token_id)
    return tokens[: sampling.max_tokens]


def heard(chat: Chat, way: Sequence[Message], words: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """The tokens before the next move, as they are when the moves of the conversation were sampled one by one."""
    known = chat.encode_prompt(way[:1])
    for turn in range(1, len(way), 2):
        known = chat.encode_next(way[:turn], known, words[way[turn]["content"]], way[: turn + 2])
    return known


def picture(task: MazeTask, seen: dict[str, Any]) -> str:
    """The success probability, and in each cell what is to be expected and the likeliest move; the critic's values beside."""
    shown = frame(task.grid, np.array(seen["policy"]), task.cap)
    if seen["values"] is None:
        return shown
    values = draw.draw(task.grid, [f"{value:6.3f}" for value in seen["values"]])
    critic = f"critic's V\n{values}"
    return f"{draw.beside(shown, critic)}\n"


_NANO = Engine(dtype="float32", optimizer=AdamW(weight_decay=0.01))
_WORD = Sampling(max_tokens=8)
_WALKS = FitConfig(
    steps=60, batch=8, schedule=Schedule(2e-3, warmup=20, shape="cosine", final=0.1), engine=_NANO
)  # fmt: skip
_WORDS = MazeRL(
    model="nano",
    task=MazeTask(style="text"),
    pretrain=_WALKS,
    rl=RLConfig(
        steps=20, prompts=1, group=64, sampling=_WORD, schedule=Schedule(5e-4, warmup=2), engine=_NANO,
        critic=CriticConfig(Schedule(3e-3, warmup=2)),
    ),
    eval=EvalConfig(n=200, sampling=_WORD, engine=_NANO),
)  # fmt: skip

SCALES = {
    "tiny": MazeRL(
        rl=RLConfig(
            steps=40, prompts=1, group=64, sampling=Sampling(max_tokens=1), schedule=Schedule(0.3),
            engine=Engine(dtype="float32", optimizer=AdamW(betas=(0.9, 0.99))),
            critic=CriticConfig(Schedule(0.4, shape="cosine", final=0.02)),
        ),
    ),
    "laptop": _WORDS,
    "paper": replace(
        _WORDS,
        task=MazeTask(walled_grid(6, derive("maze"), goal_reward=10.0), cap=14, style="text"),
        pretrain=replace(_WALKS, steps=200),
        rl=replace(_WORDS.rl, steps=100, group=256),
    ),
}  # fmt: skip
