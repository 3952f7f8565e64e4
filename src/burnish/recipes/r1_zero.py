"""DeepSeek-R1-Zero (arXiv:2501.12948): reinforcement learning from a base model with rule rewards alone.

    base model -> GRPO, reward = accuracy + format -> reasoning

No supervised fine-tuning, no reward model: the answer is checked by a rule, and a second rule asks for
``<think>..</think><answer>..</answer>``.

What differs here from the paper, scale by scale:

- ``tiny`` first pretrains ``nano`` (0.9M parameters) on demonstrations of which most answers are guesses: a base model
  with a base rate. The tags are among its tokens, and both rewards are learnt. The weight of the format reward is a choice
  (the paper gives none): with .1 or .2 this model drops the tags, since bare answers are as often right.
- ``laptop`` starts from SmolLM2-135M-Instruct, an instruct model, on a mixture of arithmetic: the largest of three and of
  five numbers, and products, which stay hard. It never writes the tags by itself (a base rate near zero gives nothing to
  reinforce), so accuracy alone is rewarded, by its lenient reading: the reply may be a sentence. LoRA on the last layers, no
  KL and no reference: the run is minutes long. A small entropy bonus and a decaying rate keep groups
  from agreeing before they are right.
- ``paper`` has the published numbers: learning rate 3e-6, KL .001 against a reference, 16 completions a question, 32
  questions an update, temperature 1, 32,768 tokens, 10,400 updates, 16 for each rollout of 8,192. The clip range and the
  aggregation are those of our GRPO. The reference becomes the policy every 400 updates, which are 25 of our steps. Not
  done: the longer limit after update 8,200.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from burnish.core.algorithms import GRPO, Algorithm
from burnish.core.kl import KL
from burnish.engines.local import Engine
from burnish.engines.lora import LoRA
from burnish.engines.optim import AdamW, Schedule
from burnish.engines.pretrained import resolve
from burnish.loops import report
from burnish.loops.commentate import Grading
from burnish.loops.evaluate import EvalConfig, evaluate
from burnish.loops.fit import FitConfig, fit
from burnish.loops.rl import RLConfig, rl
from burnish.rewards.accuracy import Accuracy
from burnish.rewards.base import Composable
from burnish.rewards.format import Format
from burnish.run import Artifact, Run
from burnish.tasks.arithmetic import Arithmetic
from burnish.tasks.checks import Generated
from burnish.tasks.countdown import Countdown
from burnish.tasks.mixture import Mixture
from burnish.tasks.tiny import Demonstrations
from burnish.types import Sampling

NO_REFERENCE = replace(GRPO, kl=None)


@dataclass(frozen=True)
class R1Zero:
    """``format_weight`` 0 rewards accuracy alone. ``pretrain`` None starts from ``model`` as it is."""

    model: str
    task: Generated
    rl: RLConfig
    eval: EvalConfig
    algo: Algorithm = NO_REFERENCE
    format_weight: float = 0.0
    pretrain: FitConfig | None = None

    @property
    def reward(self) -> Composable:
        return Accuracy() + self.format_weight * Format() if self.format_weight else Accuracy()


def main(run: Run, s: R1Zero) -> Artifact:
    base: Path | Artifact = resolve(s.model)
    if s.pretrain:
        assert isinstance(s.task, Arithmetic)
        base = run.stage(fit, "0-pretrain", base, Demonstrations(s.task), cfg=s.pretrain, cache=True)
    test = s.task.with_split("test")
    before = run.stage(evaluate, "1-before", base, test, cfg=s.eval)
    zero: Artifact = run.stage(
        rl, "2-r1-zero", base, s.task, reward=s.reward, algo=s.algo, cfg=s.rl, heldout=s.task.with_split("dev")
    )
    after = run.stage(evaluate, "3-after", zero, test, cfg=s.eval)
    report.learned(run, zero, before, after, stage="2-r1-zero")
    return zero


def grading(s: R1Zero) -> Grading:
    """How the run judges its completions, for whoever looks at them later."""
    return Grading(s.task, s.reward, s.rl.sampling, reward_kl=s.algo.reward_kl is not None)


_NANO = Engine(dtype="float32", optimizer=AdamW(weight_decay=0.01))
_SHORT = Sampling(max_tokens=40)
_LAPTOP = Sampling(max_tokens=16)

SCALES = {
    "tiny": R1Zero(
        model="nano",
        task=Arithmetic(kinds=("largest",), numbers=4, low=0, high=9, style="think"),
        pretrain=FitConfig(
            steps=150, batch=32, schedule=Schedule(2e-3, warmup=20, shape="cosine", final=0.1), engine=_NANO
        ),
        rl=RLConfig(steps=30, prompts=8, group=16, sampling=_SHORT, schedule=Schedule(3e-4, warmup=3), engine=_NANO),
        eval=EvalConfig(n=200, sampling=_SHORT, engine=_NANO),
        format_weight=0.5,
    ),
    "laptop": R1Zero(
        model="smollm2-135m",
        task=Mixture(
            (
                Arithmetic(kinds=("largest",), numbers=3),
                Arithmetic(kinds=("largest",), numbers=5, high=999),
                Arithmetic(kinds=("product",), numbers=2, low=2, high=30),
            ),
            weights=(0.5, 0.35, 0.15),
        ),
        algo=replace(NO_REFERENCE, entropy=0.02),
        rl=RLConfig(
            steps=40, prompts=8, group=8, sampling=_LAPTOP, schedule=Schedule(1e-3, warmup=2, shape="linear", final=0.1),
            engine=Engine(adapter=LoRA(rank=16, alpha=32, layers=12)), eval_every=10, eval_items=40,
        ),
        eval=EvalConfig(n=200, sampling=_LAPTOP),
    ),
    "paper": R1Zero(
        model="deepseek-ai/DeepSeek-V3-Base",
        task=Countdown(),
        algo=replace(GRPO, kl=KL(coef=0.001)),
        rl=RLConfig(
            steps=650, prompts=512, group=16, minibatches=16, refresh_reference=25, sampling=Sampling(max_tokens=32_768),
            schedule=Schedule(3e-6), engine=Engine(dtype="bfloat16", token_budget=65_536, activation_checkpointing=True),
        ),
        eval=EvalConfig(n=500, samples=16, ks=(1, 16), sampling=Sampling(max_tokens=32_768)),
        format_weight=1.0,
    ),
}  # fmt: skip
