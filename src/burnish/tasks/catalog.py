"""Names of tasks and environments for the command line."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from burnish.errors import InputError, unknown
from burnish.tasks.adapters import gymnasium, reasoning_gym, verifiers
from burnish.tasks.algebra import Algebra
from burnish.tasks.arithmetic import KINDS, Arithmetic
from burnish.tasks.calculator import Calculator
from burnish.tasks.checks import Generated, Judged, Split
from burnish.tasks.coding import Coding
from burnish.tasks.countdown import Countdown
from burnish.tasks.environments import Environment, Partner, split_of
from burnish.tasks.feedback import Feedback
from burnish.tasks.hub import CompetitionMath, Gsm8k
from burnish.tasks.humaneval import HumanEval
from burnish.tasks.languages import Languages
from burnish.tasks.maze import MazeTask
from burnish.tasks.mazes import Mazes
from burnish.tasks.mixture import Mixture, is_mixture, parse
from burnish.tasks.points24 import Points24
from burnish.tasks.preference_world import PreferenceWorld
from burnish.tasks.python_tool import PythonTool
from burnish.tasks.spelling import Spelling
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
    "points24": Points24,
    "points24-rank": partial(Points24, faces="rank", face_needed=True),
    "spelling": Spelling,
    "algebra": Algebra,
    "languages": Languages,
    "coding": Coding,
    "humaneval": HumanEval,
    "gsm8k": Gsm8k,
    "math": CompetitionMath,
    "preference-world": PreferenceWorld,
    "maze": partial(MazeTask, style="text"),
    "mazes": Mazes,
    "word-game": WordGame,
}
TITLES: dict[str, str] = {
    "arithmetic": "Arithmetic of all kinds, two numbers: the five tasks that follow",
    "largest": "The largest of three numbers",
    "sum": "The sum of two numbers",
    "product": "The product of two numbers from 2 to 12",
    "sort": "Three numbers from smallest to largest",
    "compare": "Whether one number is greater than another",
    "countdown": "Countdown: combine numbers with + - * / to reach a target",
    "points24": "24 points: four cards, each used once, to make 24; J, Q, K are 10 (arXiv:2501.17161)",
    "points24-rank": "24 points under the other rule, J = 11, Q = 12, K = 13, to measure out of distribution",
    "spelling": "Spell a word, count a letter in it, write it backwards",
    "algebra": "Small algebra: values, sums to simplify, linear equations",
    "languages": "Questions in eight languages; also measures whether the thinking is in the language of the question",
    "coding": "Short functions in Python, run on tests in the sandbox",
    "humaneval": "HumanEval, for measuring only (arXiv:2107.03374); extra humaneval",
    "gsm8k": "GSM8K: grade-school word problems (arXiv:2110.14168); from the hub, or task.path=DIR",
    "math": "MATH: competition problems (arXiv:2103.03874); from the hub, or task.path=DIR",
    "preference-world": "Questions whose gold rule is known: helpfulness, safety, style and length",
    "maze": "One maze, move by move",
    "mazes": "Mazes drawn in text, another one each time, move by move",
    "word-game": "A word game of two players that the policy plays against itself",
}
"""What each task is, in one line."""

CLASSES = (
    Arithmetic, Countdown, Points24, Spelling, Algebra, Languages, Coding, HumanEval, Gsm8k, CompetitionMath, Mixture,
    MazeTask, Mazes, WordGame, PreferenceWorld, reasoning_gym.ReasoningGym, gymnasium.Gymnasium, verifiers.Verifiers,
)  # fmt: skip
"""What a task in a configuration may be."""

ADAPTERS: dict[str, Callable[[str], Split]] = {
    "reasoning-gym": reasoning_gym.load,
    "gymnasium": gymnasium.load,
    "verifiers": verifiers.load,
}
"""``{package: what makes a task of a name in it}``: ``task=reasoning-gym/chain_sum``."""

ENVS: dict[str, Callable[..., Environment]] = {
    "feedback": Feedback,
    "calculator": Calculator,
    "python": PythonTool,
}
ENV_CLASSES = (Feedback, Calculator, PythonTool)
"""What an environment in a configuration may be."""


def get(name: str) -> Split:
    """The task of that name with its usual settings, training split; of several names (``2*countdown + sum``) their mixture.

    ``package/NAME`` is one of :data:`ADAPTERS`, ``file.py:Name`` one of the user's, which may lack ``with_split``: then it is
    trained on as it is, and nothing is held out. Raises InputError with the nearest name, or for what cannot be loaded or
    is no task.
    """
    if is_mixture(name):
        return parse(name, single)
    if names_file(name):
        return _users(name)
    package, slash, inner = name.partition("/")
    if slash and package in ADAPTERS:
        return ADAPTERS[package](inner)
    if name not in TASKS:
        raise unknown("task", name, [*TASKS, *(f"{package}/NAME" for package in ADAPTERS)])
    return TASKS[name]()


def get_split(name: str, split: str) -> Judged:
    """The same, of that split. Raises InputError also for a task of the user's that has no splits."""
    return split_of(get(name), split)


def _users(name: str) -> Split:
    found: Split = make(name, "task")
    missing = [method for method in ("__len__", "__getitem__", "reward") if not hasattr(found, method)]
    if hasattr(found, "with_split") and not hasattr(found, "measure"):
        missing.append("measure")
    if missing:
        raise InputError(f"task {name} lacks {', '.join(missing)}: see docs/tasks.md for what a task has")
    return found


def single(name: str) -> Generated:
    """The same for who needs single replies and splits. Raises InputError for a conversation, or a task without splits."""
    task = get(name)
    if hasattr(task, "env"):
        raise InputError(f"task {name} is a conversation: train on it by itself, with the recipe grpo, ppo or maze-rl")
    missing = [method for method in ("with_split", "measure") if not hasattr(task, method)]
    if missing:
        raise InputError(f"task {name} lacks {', '.join(missing)}, which this recipe needs: see docs/tasks.md")
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
