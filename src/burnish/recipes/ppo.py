"""PPO with a critic on your own prompts and reward, or on a named task (step 3 of InstructGPT, arXiv:2203.02155).

    burnish run ppo model=smollm2-135m data=prompts.jsonl reward=my_reward.py:score
    burnish run ppo model=smollm2-135m task=countdown rl.critic.shared=true
    burnish run ppo model=SFT data=prompts.jsonl reward=my_reward.py:score algo=ppo_ptx pretraining=chat.jsonl

``data``, ``task``, ``reward`` and ``heldout`` are those of the recipe ``grpo``, and so is all that is measured. What is more:

- A critic says what to expect at every token, so one completion a prompt is enough. It has weights of its own and begins as
  the policy, or as the model ``critic_model``: a directory whose ``heads.safetensors`` has the head ``value``, such as the
  ``critic`` of an earlier run, or ``score``, such as a reward model. For ``rl.critic.pretrain`` steps it learns alone.
  ``rl.critic.shared=true`` makes it a head on the policy's trunk instead; ``rl.critic.schedule`` and ``rl.critic.engine`` are
  its own settings.
- ``pretraining`` is a file of conversations whose language-model loss is added to each update: PPO-ptx, ``algo=ppo_ptx``.

Every algorithm with a critic runs here (``algo=a2c``, ``vapo``, ``apa``), and those without one too.

- ``tiny`` runs the loop on ``nano`` for a few steps: it shows that data and reward work, not that a model learns.
- ``laptop`` adapts the last layers of SmolLM2-135M-Instruct with LoRA, and those of a critic beside it.
- ``paper`` trains all weights with the published settings: 256,000 episodes in batches of 512, minibatches of 64, one epoch,
  clip .2, KL .02, no discount, temperature 1, warm-up over 10 steps, the critic at 9e-6. Choices: the policy's learning rate,
  1024 tokens, an open model of 7B in place of GPT-3. The critic begins as the reward model where ``critic_model`` names it, and
  ``algo=ppo_ptx`` adds eight rows of ``pretraining`` for each episode. Not done: the moving average of the weights.
"""

from __future__ import annotations

from dataclasses import dataclass

from burnish.core.algorithms import PPO, Algorithm
from burnish.data.chat import Chat
from burnish.data.datasets import Dataset
from burnish.engines.local import Engine
from burnish.engines.lora import LoRA
from burnish.engines.optim import Schedule
from burnish.engines.pretrained import resolve
from burnish.errors import InputError
from burnish.loops.rl import RLConfig
from burnish.loops.update import CriticConfig
from burnish.recipes.grpo import Grpo, train
from burnish.run import Artifact, Run
from burnish.types import Sampling


@dataclass(frozen=True)
class Ppo(Grpo):
    """``critic_model`` is the model the critic begins as (empty: the policy), ``pretraining`` a file of conversations."""

    algo: Algorithm = PPO
    critic_model: str = ""
    pretraining: str = ""


def main(run: Run, s: Ppo) -> Artifact:
    text = check(s)
    critic = resolve(s.critic_model) if s.critic_model else None
    return train(run, s, critic=critic, pretraining=text)


def check(s: Ppo) -> Dataset | None:
    """The text to mix in. Raises InputError, before anything is measured, where it or a critic is missing or of no use."""
    if s.critic_model and not s.algo.needs_critic:
        raise InputError(
            f"critic_model={s.critic_model}: this algorithm has no critic; leave it out, or choose algo=ppo"
        )
    if s.critic_model and s.rl.critic.shared:
        raise InputError(
            f"critic_model={s.critic_model}: a shared critic sits on the policy's trunk; set rl.critic.shared=false"
        )
    if s.pretraining and not s.algo.pretraining:
        raise InputError(f"pretraining={s.pretraining}: this algorithm does not mix in text; choose algo=ppo_ptx")
    if s.algo.pretraining and not s.pretraining:
        raise InputError(
            "this algorithm mixes in a language-model loss and there is no text: add pretraining=FILE (JSONL, JSON or "
            "Parquet with conversations), or choose algo=ppo"
        )
    if not s.pretraining:
        return None
    text, chat = Dataset(s.pretraining), Chat.load(resolve(s.model))
    for row, example in enumerate(text, start=1):
        try:
            chat.encode_dialogue(example.messages)
        except InputError as error:
            raise InputError(f"{s.pretraining}, row {row}: {error}") from error
    return text


SCALES = {
    "tiny": Ppo(
        model="nano",
        rl=RLConfig(
            steps=5, prompts=16, group=1, minibatches=2, sampling=Sampling(max_tokens=32),
            schedule=Schedule(3e-4, warmup=3), engine=Engine(dtype="float32"),
            critic=CriticConfig(Schedule(1e-3, warmup=3), pretrain=1),
        ),
        eval_n=20,
    ),
    "laptop": Ppo(
        model="smollm2-135m",
        rl=RLConfig(
            steps=50, prompts=32, group=2, minibatches=4, sampling=Sampling(max_tokens=128),
            schedule=Schedule(2e-4, warmup=2), engine=Engine(adapter=LoRA(rank=16, alpha=32, layers=12)),
            critic=CriticConfig(Schedule(5e-4, warmup=2), pretrain=3),
        ),
    ),
    "paper": Ppo(
        model="Qwen/Qwen2.5-7B",
        rl=RLConfig(
            steps=500, prompts=512, group=1, minibatches=8, sampling=Sampling(max_tokens=1024),
            schedule=Schedule(9e-6, warmup=10), critic=CriticConfig(Schedule(9e-6, warmup=10)), pretraining_batch=512,
            engine=Engine(dtype="bfloat16", token_budget=65_536, activation_checkpointing=True),
        ),
    ),
}  # fmt: skip
