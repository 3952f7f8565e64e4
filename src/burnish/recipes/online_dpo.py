"""Online preference optimisation: pairs of the policy's own completions, judged as they are sampled (arXiv:2402.04792).

    burnish run online-dpo model=smollm2-135m data=prompts.jsonl reward=my_reward.py:score
    burnish run online-dpo model=smollm2-135m data=prompts.jsonl reward_model=runs/rm/1-reward-model/model rounds=3
    burnish run online-dpo model=smollm2-135m task=countdown algo=xpo
    burnish run online-dpo model=smollm2-135m task=countdown algo.preference=ipo

``data``, ``task``, ``reward`` and ``heldout`` are those of the recipe ``grpo``, and so is what is measured. ``reward_model`` is
a directory that the recipe ``reward-model`` made: it takes the place of ``reward``. ``algo`` is ``online_dpo``, ``xpo`` (the
second answer comes from the reference, with a bonus for what that would not say) or ``nash_md`` (against the policy mixed with
the reference). ``algo.preference`` is any loss on pairs, by name. With ``rl.group`` above 2, online DPO compares the best and
the worst completion of a prompt.

``rounds`` repeats all of it: each round is a stage of the run whose reference is the policy at its start, as in iterative DPO.

- ``tiny`` runs the loop on ``nano`` for a few steps: it shows that data and reward work, not that a model learns.
- ``laptop`` adapts the last layers of SmolLM2-135M-Instruct with LoRA.
- ``paper`` trains all weights with the published settings: two completions a prompt, beta .1, batches of 128, learning rate
  5e-7 after 150 steps of warm-up, 12,000 steps. What differs: AdamW in place of Adafactor, an open model of 7B in place of
  PaLM 2, temperature 1 (training needs the policy's own distribution), 512 tokens (a choice), and the judge is yours.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from burnish.core.method import Method
from burnish.core.online import ONLINE_DPO
from burnish.engines.local import Engine
from burnish.engines.lora import LoRA
from burnish.engines.optim import Schedule
from burnish.engines.pretrained import resolve
from burnish.errors import InputError
from burnish.loops import report
from burnish.loops.evaluate import EvalConfig, evaluate
from burnish.loops.evaluation.retention import Retention, Watch
from burnish.loops.rl import RLConfig, rl
from burnish.recipes.generic import given_reward, kind_for
from burnish.recipes.grpo import check, tasks
from burnish.rewards.base import Composable
from burnish.run import Artifact, Run
from burnish.tasks.checks import Generated
from burnish.tasks.userdata import UserTask
from burnish.types import Sampling


@dataclass(frozen=True)
class OnlineDpo:
    """Prompts from a ``data`` file or a ``task``; ``reward`` is ``file.py:function``, ``reward_model`` a directory."""

    model: str
    rl: RLConfig
    data: str = ""
    task: Generated | None = None
    reward: str = ""
    reward_model: str = ""
    reward_seconds: float = 10.0
    algo: Method = field(default=ONLINE_DPO)
    rounds: int = 1
    heldout: int | str | None = None
    eval_n: int = 200
    retention: Retention | bool | None = None

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"rounds={self.rounds}: train for one round at least")


def main(run: Run, s: OnlineDpo) -> Artifact:
    if s.data:
        kind_for("online-dpo", s.data)
    reward = judge(s)
    prompts, during, test = tasks(s, reward)
    base = resolve(s.model)
    for part in (prompts, test):
        if isinstance(part, UserTask):
            check(part, base)
    cfg = replace(s.rl, eval_items=min(s.rl.eval_items, len(during))) if during else s.rl
    measured = EvalConfig(n=min(s.eval_n, len(test) if test else 0), sampling=s.rl.sampling, engine=s.rl.engine)
    watch = Watch.begin(run, base, s.retention, s.rl.engine)
    before = run.stage(evaluate, "0-before", base, test, cfg=measured) if measured.n else None
    tuned: Path | Artifact = base
    for number in range(1, s.rounds + 1):
        tuned = run.stage(rl, f"{number}-round", tuned, prompts, algo=s.algo, cfg=cfg, reward=reward, heldout=during)
        watch = watch.after(f"{number}-round", tuned)
    assert isinstance(tuned, Artifact)
    if before:
        after = run.stage(evaluate, f"{s.rounds + 1}-after", tuned, test, cfg=measured)
        report.learned(run, tuned, before, after, stage=f"{s.rounds}-round")
    else:
        report.say_next(run, tuned, prompts[0].messages[-1]["content"])
    return tuned


def judge(s: OnlineDpo) -> Composable | None:
    """What ranks completions, None for the task's own reward. Raises InputError, before anything is measured, for settings
    that contradict each other."""
    if s.algo.needs_teacher:
        raise InputError("this algorithm learns from a teacher and compares nothing: take the recipe distill")
    if s.algo.needs_critic:
        raise InputError("this algorithm has a critic: take the recipe ppo, or choose algo=online_dpo")
    if s.rl.group < 2 and s.algo.rival is None:
        raise InputError(f"rl.group={s.rl.group}: two completions of a prompt at least are compared; set rl.group=2")
    return given_reward(s.reward, s.reward_model, s.reward_seconds)


SCALES = {
    "tiny": OnlineDpo(
        model="nano",
        rl=RLConfig(
            steps=5, prompts=4, group=2, sampling=Sampling(max_tokens=32), schedule=Schedule(3e-4, warmup=3),
            engine=Engine(dtype="float32"),
        ),
        eval_n=20,
    ),
    "laptop": OnlineDpo(
        model="smollm2-135m",
        rl=RLConfig(
            steps=50, prompts=16, group=4, sampling=Sampling(max_tokens=128), schedule=Schedule(2e-4, warmup=2),
            engine=Engine(adapter=LoRA(rank=16, alpha=32, layers=12)),
        ),
    ),
    "paper": OnlineDpo(
        model="Qwen/Qwen2.5-7B",
        rl=RLConfig(
            steps=12_000, prompts=128, group=2, sampling=Sampling(max_tokens=512), schedule=Schedule(5e-7, warmup=150),
            engine=Engine(dtype="bfloat16", token_budget=65_536, activation_checkpointing=True), checkpoint_every=200,
        ),
    ),
}  # fmt: skip
