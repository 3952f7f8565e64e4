"""Burnish: post-training for language models.

The names below are the public ones; each is loaded when it is first used, so that ``import burnish`` is quick. The
algorithms are in :mod:`burnish.core.algorithms`, the losses in :mod:`burnish.core.preference` and beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from burnish.lazy import lazy

if TYPE_CHECKING:
    from burnish.data.chat import Chat
    from burnish.data.comparisons import Comparisons
    from burnish.data.datasets import Dataset, Texts
    from burnish.engines.decode import LocalSampler
    from burnish.engines.local import Engine, LocalModel
    from burnish.engines.lora import LoRA
    from burnish.engines.optim import AdamW, Schedule
    from burnish.engines.pretrained import resolve
    from burnish.errors import InputError, TrainingHaltedError
    from burnish.loops.evaluate import EvalConfig, evaluate
    from burnish.loops.fit import FitConfig, fit
    from burnish.loops.reward_model import ProcessReward, RewardModel
    from burnish.loops.rl import RLConfig, rl
    from burnish.rewards.accuracy import Accuracy
    from burnish.rewards.format import Format
    from burnish.rewards.function import load_function
    from burnish.rewards.length import Overlong
    from burnish.run import Artifact, Run, Stage
    from burnish.sampling import Sampling, Thinking
    from burnish.tasks.arithmetic import Arithmetic
    from burnish.tasks.countdown import Countdown
    from burnish.tasks.mixture import Mixture
    from burnish.tasks.userdata import UserTask
    from burnish.types import (
        Answer,
        Batch,
        Comparison,
        Completion,
        Example,
        Message,
        Reward,
        Rollout,
        Step,
        Task,
        outcome,
    )
    from burnish.view import View

__version__ = "0.1.0"

_NAMES = {
    "data.chat": ("Chat",),
    "data.comparisons": ("Comparisons",),
    "data.datasets": ("Dataset", "Texts"),
    "engines.decode": ("LocalSampler",),
    "engines.local": ("Engine", "LocalModel"),
    "engines.lora": ("LoRA",),
    "engines.optim": ("AdamW", "Schedule"),
    "engines.pretrained": ("resolve",),
    "errors": ("InputError", "TrainingHaltedError"),
    "loops.evaluate": ("EvalConfig", "evaluate"),
    "loops.fit": ("FitConfig", "fit"),
    "loops.reward_model": ("ProcessReward", "RewardModel"),
    "loops.rl": ("RLConfig", "rl"),
    "rewards.accuracy": ("Accuracy",),
    "rewards.format": ("Format",),
    "rewards.function": ("load_function",),
    "rewards.length": ("Overlong",),
    "run": ("Artifact", "Run", "Stage"),
    "sampling": ("Sampling", "Thinking"),
    "tasks.arithmetic": ("Arithmetic",),
    "tasks.countdown": ("Countdown",),
    "tasks.mixture": ("Mixture",),
    "tasks.userdata": ("UserTask",),
    "types": (
        "Answer", "Batch", "Comparison", "Completion", "Example", "Message", "Reward", "Rollout", "Step", "Task", "outcome",
    ),
    "view": ("View",),
}  # fmt: skip
"""``{module: the public names it defines}``."""

__all__ = [
    "Accuracy",
    "AdamW",
    "Answer",
    "Arithmetic",
    "Artifact",
    "Batch",
    "Chat",
    "Comparison",
    "Comparisons",
    "Completion",
    "Countdown",
    "Dataset",
    "Engine",
    "EvalConfig",
    "Example",
    "FitConfig",
    "Format",
    "InputError",
    "LoRA",
    "LocalModel",
    "LocalSampler",
    "Message",
    "Mixture",
    "Overlong",
    "ProcessReward",
    "RLConfig",
    "Reward",
    "RewardModel",
    "Rollout",
    "Run",
    "Sampling",
    "Schedule",
    "Stage",
    "Step",
    "Task",
    "Texts",
    "Thinking",
    "TrainingHaltedError",
    "UserTask",
    "View",
    "__version__",
    "evaluate",
    "fit",
    "load_function",
    "outcome",
    "resolve",
    "rl",
]


if not TYPE_CHECKING:  # a type checker knows the names from above, and reports all others
    __getattr__, __dir__ = lazy(__name__, _NAMES)
