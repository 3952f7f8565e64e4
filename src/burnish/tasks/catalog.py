"""Names of tasks and environments for the command line."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from burnish.errors import InputError, unknown
from burnish.tasks.arithmetic import KINDS, Arithmetic
from burnish.tasks.calculator import Calculator
from burnish.tasks.checks import Generated, Split
from burnish.tasks.countdown import Countdown
from burnish.tasks.environments import Environment, Partner
from burnish.tasks.feedback import Feedback
from burnish.tasks.maze import MazeTask
from burnish.tasks.mazes import Mazes
from burnish.tasks.mixture import Mixture, is_mixture, parse
from burnish.tasks.python_tool import PythonTool
from burnish.tasks.userfile import make, names_file
from burnish.tasks.word_game import WordGame

TASKS: dict[str, Callable[..., Split]] = {
    "arithmetic": partial(Arithmetic, kinds=KINDS, numbers=2),
    "largest": partial(Arithmetic, kinds=("largest",)),
    "sum": partial(Arithmetic, kinds=("sum",), numbers=2),
    "product": partial(Arithmetic, kinds=("product",), numbers=2, low=2, high=12),
    "sort": partial(Arithmetic, kinds=("sort",)),
    "compare": partial(Arithmetic, kinds=("compare",), numbers=2),
    "countdown": Countdown,
    "maze": partial(MazeTask, style="text"),
    "mazes": Mazes,
    "word-game": WordGame,
}
CLASSES = (Arithmetic, Countdown, Mixture, MazeTask, Mazes, WordGame)
"""What a task in a configuration may be."""

ENVS: dict[str, Callable[..., Environment]] = {
    "feedback": Feedback,
    "calculator": Calculator,
    "python": PythonTool,
}
ENV_CLASSES = (Feedback, Calculator, PythonTool)
"""What an environment in a configuration may be."""


def get(name: str) -> Split:
    """The task of that name with its usual settings, training split; of several names (``2*countdown + sum``) their mixture.

    Raises InputError with the nearest name.
    """
    if is_mixture(name):
        return parse(name, single)
    if name not in TASKS:
        raise unknown("task", name, TASKS)
    return TASKS[name]()


def single(name: str) -> Generated:
    """The same for who needs single replies and right ones to learn from. Raises InputError for a task of several turns."""
    task = get(name)
    if hasattr(task, "env"):
        raise InputError(f"task {name} is a conversation, which is trained on by the recipes grpo, ppo and maze-rl")
    found: Generated = task  # type: ignore[assignment]
    return found


def environment(name: str) -> Environment:
    """The environment of that name with its usual settings, or the class in the user's ``file.py:Name``.

    Raises InputError with the nearest name, or for what cannot be loaded.
    """
    if names_file(name):
        found: Environment = make(name, "environment")
        if not isinstance(found, Partner):
            raise InputError(f"environment {name} is no Partner: inherit from burnish.tasks.environments.Partner")
        return found
    if name not in ENVS:
        raise unknown("environment", name, ENVS)
    return ENVS[name]()
