"""GRPO on your own prompts and reward, or on a named task (DeepSeekMath, arXiv:2402.03300).

    burnish run grpo model=smollm2-135m data=prompts.jsonl reward=my_reward.py:score
    burnish run grpo model=smollm2-135m task=countdown algo=rloo
    burnish run grpo model=smollm2-135m task=countdown env=feedback env.attempts=3

``data`` is a JSONL, JSON or Parquet file with a ``prompt`` (text or messages) and any other columns, which reach the
reward function by name: ``score(completion, answer, **columns)`` gives a number or a dict of named parts. ``reward`` may also
combine rewards of ``burnish list``: ``reward="accuracy + 0.2*format"``. Without it, the reply has to give the column
``answer`` exactly. ``reward_model``, a directory that the recipe ``reward-model`` made, takes the place of ``reward``.
``task`` takes the place of the file, by name or as a class of your own, ``task=my_task.py:Name``; a reward then replaces the
task's own. ``algo`` is any algorithm of ``burnish list``, by
name. ``env`` makes a conversation of the task or the file: an environment of ``burnish list``, or a class of your own,
``env=my_env.py:MyEnv``. Its episodes are graded as single replies would be.

``heldout`` is a file of the same form, or the number of rows to keep apart; by default that is a tenth, at most 200
rows. Up to ``eval_n`` held-out prompts are measured before and after, with the sampling settings of training. A named
task has held-out splits of its own.

``retention=true`` measures general questions and tasks before and after, to see what was forgotten; ``retention=questions,sum``
chooses among them, ``retention.data=FILE`` adds your own (docs/evaluation.md).

- ``tiny`` runs the loop on ``nano`` for a few steps: it shows that data and reward work, not that a model learns.
- ``laptop`` adapts the last layers of SmolLM2-135M-Instruct with LoRA.
- ``paper`` trains all weights with the published settings: learning rate 1e-6, KL .04, 64 completions a prompt, 1024 a
  step, 1024 tokens, one update a step; the number of steps is a choice. The paper's reward model is not part of it: the
  reward is yours.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from burnish.core.algorithms import GRPO, Algorithm
from burnish.data.chat import Chat
from burnish.engines.local import Engine
from burnish.engines.lora import LoRA
from burnish.engines.optim import Schedule
from burnish.engines.pretrained import resolve
from burnish.errors import InputError
from burnish.loops import report
from burnish.loops.commentate import Grading
from burnish.loops.episodes import has_turns
from burnish.loops.evaluate import EvalConfig, Measured, evaluate
from burnish.loops.evaluation.retention import Retention, Watch
from burnish.loops.fixed import Data
from burnish.loops.rl import RLConfig, rl
from burnish.recipes.generic import context_length, given_reward
from burnish.rewards.base import Composable
from burnish.rewards.tree import by_completion
from burnish.run import Artifact, Run
from burnish.tasks.checks import Split
from burnish.tasks.environments import Environment, Rewarded, rehearse
from burnish.tasks.rehearsal import rehearse_reply
from burnish.tasks.userdata import UserTask, parts
from burnish.types import Example, Sampling


@dataclass(frozen=True)
class Grpo:
    """Prompts from a ``data`` file or a ``task``. ``reward`` is ``file.py:function`` or an expression, ``reward_model`` a
    directory. The rest is described in the recipe."""

    model: str
    rl: RLConfig
    data: str = ""
    task: Split | None = None
    reward: str = ""
    reward_model: str = ""
    reward_seconds: float = 10.0
    algo: Algorithm = GRPO
    env: Environment | None = None
    heldout: int | str | None = None
    eval_n: int = 200
    retention: Retention | bool | None = None


def main(run: Run, s: Grpo) -> Artifact:
    return train(run, s)


def train(run: Run, s: Grpo, *, critic: Path | None = None, pretraining: Data | None = None) -> Artifact:
    """The program of every online recipe for your own prompts: check, measure, train, measure again.

    ``critic`` and ``pretraining`` are what some algorithms need besides (see :func:`burnish.loops.rl.rl`).
    """
    if s.rl.group < 2 and s.algo.advantage.needs_group:
        raise InputError(
            "rl.group=1: this algorithm compares completions of one prompt with each other; set rl.group=2 or more, or "
            "algo=reinforce"
        )
    reward = given_reward(s.reward, s.reward_model, s.reward_seconds)
    parts = tasks(s, reward)
    base = resolve(s.model)
    for part in (parts[0], parts[2]):
        if isinstance(part, UserTask):
            check(part, base)
    if s.task is not None and parts[2] is None:
        run.view.say(f"{type(s.task).__name__} has no with_split: all of it is trained on, and nothing is measured")
    prompts, during, test = (None if part is None else played(part, s.env, reward) for part in parts)
    assert prompts is not None
    if has_turns(prompts):
        rehearse(prompts, s.rl.group + s.algo.needs_greedy)
    cfg = replace(s.rl, eval_items=min(s.rl.eval_items, len(during))) if during else s.rl
    measure = EvalConfig(n=min(s.eval_n, len(test) if test else 0), sampling=s.rl.sampling, engine=s.rl.engine)
    watch = Watch.begin(run, base, s.retention, s.rl.engine)
    before = run.stage(evaluate, "0-before", base, test, cfg=measure) if measure.n else None
    tuned: Artifact = run.stage(
        rl, "1-rl", base, prompts, algo=s.algo, cfg=cfg, reward=reward, heldout=during, critic=critic,
        pretraining=pretraining,
    )  # fmt: skip
    watch.after("1-rl", tuned)
    if before:
        after = run.stage(evaluate, "2-after", tuned, test, cfg=measure)
        report.learned(run, tuned, before, after, stage="1-rl")
    else:
        report.say_next(run, tuned, prompts[0].messages[-1]["content"])
    return tuned


class Prompts(Protocol):
    """Settings of a recipe that say where its prompts come from."""

    @property
    def data(self) -> str: ...
    @property
    def task(self) -> Split | None: ...
    @property
    def heldout(self) -> int | str | None: ...


def tasks(s: Prompts, reward: Composable | None) -> tuple[Measured, Measured | None, Measured | None]:
    """(prompts to train on, prompts to measure on during training, prompts to measure on before and after)."""
    if bool(s.data) == (s.task is not None):
        given = "both data and task" if s.data else "no prompts to train on"
        recipe = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", type(s).__name__).lower()
        raise InputError(
            f"{recipe} has {given}: add either data=FILE (JSONL, JSON or Parquet with prompts) or task=NAME."
        )
    if s.task is not None:
        if s.heldout is not None:
            raise InputError(
                f"heldout={s.heldout} is for data files: leave it out, a task has held-out splits of its own."
            )
        apart = hasattr(s.task, "with_split")  # of a task of the user's without it nothing can be held out
        heldout = (s.task.with_split("dev"), s.task.with_split("test")) if apart else (None, None)
        if not has_turns(s.task):
            rehearse_reply(s.task, rewarded=reward is None)
        return s.task, *heldout
    train, test = parts(partial(UserTask, grader=reward), s.data, s.heldout)
    return train, test, test


def played(part: Measured, env: Environment | None, reward: Composable | None) -> Measured:
    """The prompts as ``env`` plays them, with replies judged by ``reward`` where it is given; without ``env``, as they are.

    Raises InputError for a reward that an environment has no use for.
    """
    if env is None:
        if reward is not None and has_turns(part):
            raise InputError(f"{type(part).__name__} is a conversation that its env pays: leave the reward out")
        return part
    if reward is not None and not by_completion(reward):
        raise InputError("an environment judges replies one by one, and this reward compares completions of a group")
    if reward is not None and not isinstance(part, UserTask):
        part = Rewarded(part, reward)
    return env(part)


def grading(s: Grpo) -> Grading:
    """How the run judges its completions, for whoever looks at them later. Raises InputError where its files are gone."""
    reward = given_reward(s.reward, s.reward_model, s.reward_seconds)
    train, _, _ = tasks(s, reward)
    if s.env is not None or has_turns(train):
        raise InputError("episodes of several turns have no commentary: it follows single replies")
    return Grading(train, reward or train.reward, s.rl.sampling, reward_kl=s.algo.reward_kl is not None)


def check(data: UserTask, model: Path) -> None:
    """Raise InputError, with the row of the file, for a prompt that cannot be graded or that this model cannot read."""
    data.require_grading()
    chat, context = Chat.load(model), context_length(model)

    def verify(example: Example) -> None:
        if data.grader is not None:
            data.grader.check(example)
        length = len(chat.encode_prompt(example.messages))
        if length >= context:
            raise InputError(
                f"the prompt has {length} tokens, but the model's context holds {context}: shorten it, or choose a "
                "model with a longer context"
            )

    data.check(verify)


SCALES = {
    "tiny": Grpo(
        model="nano",
        rl=RLConfig(
            steps=5, prompts=4, group=4, sampling=Sampling(max_tokens=32), schedule=Schedule(3e-4, warmup=3),
            engine=Engine(dtype="float32"),
        ),
        eval_n=20,
    ),
    "laptop": Grpo(
        model="smollm2-135m",
        rl=RLConfig(
            steps=50, prompts=8, group=8, sampling=Sampling(max_tokens=128), schedule=Schedule(5e-4, warmup=2),
            engine=Engine(adapter=LoRA(rank=16, alpha=32, layers=12)),
        ),
    ),
    "paper": Grpo(
        model="deepseek-ai/deepseek-math-7b-instruct",
        rl=RLConfig(
            steps=1000, prompts=16, group=64, sampling=Sampling(max_tokens=1024), schedule=Schedule(1e-6),
            engine=Engine(dtype="bfloat16", token_budget=65_536, activation_checkpointing=True),
        ),
    ),
}  # fmt: skip
