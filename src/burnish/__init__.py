"""Burnish: post-training for language models.

The names below are the public ones; each is loaded when it is first used, so that ``import burnish`` is quick. The
algorithms are in :mod:`burnish.core.algorithms`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from burnish.data.chat import Chat
    from burnish.data.datasets import Dataset
    from burnish.engines.decode import LocalSampler
    from burnish.engines.local import Engine, LocalModel
    from burnish.engines.lora import LoRA
    from burnish.engines.optim import AdamW, Schedule
    from burnish.engines.pretrained import resolve
    from burnish.errors import InputError, TrainingHaltedError
    from burnish.loops.evaluate import EvalConfig, evaluate
    from burnish.loops.fit import FitConfig, fit
    from burnish.loops.rl import RLConfig, rl
    from burnish.rewards.accuracy import Accuracy
    from burnish.rewards.format import Format
    from burnish.rewards.function import load_function
    from burnish.rewards.length import Overlong
    from burnish.run import Artifact, Run, Stage
    from burnish.tasks.arithmetic import Arithmetic
    from burnish.tasks.countdown import Countdown
    from burnish.tasks.mixture import Mixture
    from burnish.tasks.userdata import UserTask
    from burnish.types import Batch, Completion, Example, Message, Reward, Rollout, Sampling, Task, outcome
    from burnish.view import View

__version__ = "0.1.0"

_NAMES = {
    "data.chat": ("Chat",),
    "data.datasets": ("Dataset",),
    "engines.decode": ("LocalSampler",),
    "engines.local": ("Engine", "LocalModel"),
    "engines.lora": ("LoRA",),
    "engines.optim": ("AdamW", "Schedule"),
    "engines.pretrained": ("resolve",),
    "errors": ("InputError", "TrainingHaltedError"),
    "loops.evaluate": ("EvalConfig", "evaluate"),
    "loops.fit": ("FitConfig", "fit"),
    "loops.rl": ("RLConfig", "rl"),
    "rewards.accuracy": ("Accuracy",),
    "rewards.format": ("Format",),
    "rewards.function": ("load_function",),
    "rewards.length": ("Overlong",),
    "run": ("Artifact", "Run", "Stage"),
    "tasks.arithmetic": ("Arithmetic",),
    "tasks.countdown": ("Countdown",),
    "tasks.mixture": ("Mixture",),
    "tasks.userdata": ("UserTask",),
    "types": ("Batch", "Completion", "Example", "Message", "Reward", "Rollout", "Sampling", "Task", "outcome"),
    "view": ("View",),
}
"""``{module: the public names it defines}``."""
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "Accuracy",
    "AdamW",
    "Arithmetic",
    "Artifact",
    "Batch",
    "Chat",
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
    "RLConfig",
    "Reward",
    "Rollout",
    "Run",
    "Sampling",
    "Schedule",
    "Stage",
    "Task",
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

    def __getattr__(name: str) -> object:
        if name not in _HOME:
            raise AttributeError(f"module 'burnish' has no attribute '{name}'")
        value = getattr(importlib.import_module(f"burnish.{_HOME[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
