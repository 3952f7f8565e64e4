"""Environments of gymnasium (gymnasium.farama.org) as conversations: an observation in words, and an action in reply."""

from __future__ import annotations

import math
import re
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from burnish.core.keys import derive
from burnish.errors import InputError, near
from burnish.rewards.accuracy import final_part
from burnish.tasks import checks
from burnish.tasks.adapters.games import Words, words_for
from burnish.tasks.adapters.options import Options, freeze, package, thaw
from burnish.tasks.problems import Drawn
from burnish.types import Completion, Example, Message, Reward, RewardPart

MOST_NUMBERS = 64
"""An observation of more numbers, such as a picture, is not written out."""

_RETURN = re.compile(r"(Game over\. Return|Return so far): (\S+)\.\Z")


@dataclass(frozen=True)
class Gymnasium(Drawn):
    """The environment ``id``, made with ``options``, such as ``{is_slippery: false}``; one action a turn, at most ``cap``.

    The opening gives the rules (of the toy games), the observation and the names of the actions. A reply has to name one
    action, as a word of its own: any other is no action, leaves everything as it is, uses up the turn and pays ``illegal``.
    That should be less than the worst step pays, so that nobody stays out of the game for the better. Each action pays what
    the environment says, part "game".

    ``actions`` gives names to the actions of an environment whose names we do not know; without them they are numbers.
    Actions have to be discrete. Observations are numbers, texts, or tuples and dictionaries of these. ``goal`` is the return
    from which an episode counts as a success; by default that is what the game is about (the toy games), or the threshold of
    the environment, or more than 0.

    The start of an episode follows from the example, all chance after it from the episode's seed; where an environment has
    one start, all examples look the same. Splits share no seed of a start. ``meta``: kind (the id), difficulty (``cap``),
    canonical (the seed: it decides the split), start.

    Raises InputError for settings out of range; what needs the package is checked by :meth:`checked` and where it is used.
    """

    keyed: ClassVar[str] = "gymnasium"

    id: str = "FrozenLake-v1"
    options: Options = ()
    actions: tuple[str, ...] = ()
    cap: int = 30
    illegal: float = -1.0
    goal: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "options", freeze(self.options))
        if self.cap < 1 or not math.isfinite(self.illegal):
            raise InputError(f"gymnasium/{self.id}: give cap >= 1 and a finite value for illegal")

    @property
    def max_turns(self) -> int:
        return self.cap

    def draw(self, key: int) -> Example | None:
        start = key % 2**31
        if checks.split_of(str(start)) != self.split:  # before the environment is made, which costs something
            return None
        meta = {"kind": self.id, "difficulty": self.cap, "canonical": str(start), "start": start}
        return Example(GymnasiumEnv(self, start).reset(0), None, meta)

    def env(self, example: Example) -> GymnasiumEnv:
        return GymnasiumEnv(self, example.meta["start"])

    def reward(self, example: Example, completions: Sequence[Completion]) -> list[Reward]:  # noqa: ARG002
        """Not for single completions: raises InputError. The environment pays every action."""
        raise InputError("a game is played action by action: it is rewarded by its env, not by one completion")

    def measure(self, example: Example, completion: Completion) -> dict[str, float]:  # noqa: ARG002
        """{"success": of the whole episode, as :attr:`goal` says}."""
        said = _RETURN.search(completion.messages[-1]["content"])
        if said is None:
            raise InputError(
                f"{completion.messages[-1]['content']!r} is not how an episode of gymnasium/{self.id} ends"
            )
        over, total = said[1].startswith("Game over"), float(said[2])
        return {"success": float(self._success(total, over))}

    def validate(self, count: int = 5) -> str:
        """Play ``count`` episodes of each split twice with the same random actions, one word that is no action among them.

        Returns one line on what was checked. Raises AssertionError where an episode does not repeat itself, where a word that
        is no action is not paid ``illegal``, or where splits share a start.
        """
        looked_at = checks.each(self, count, Gymnasium._check)
        return f"episodes repeat themselves, what is no action is paid {self.illegal:g}; {looked_at}"

    def _check(self, example: Example) -> None:
        once, again = self._random_play(example), self._random_play(example)
        if once != again:
            raise AssertionError(f"the same actions lead to {once[-1]} and to {again[-1]}")

    def checked(self) -> Gymnasium:
        """The task itself, where the environment can be made and put into words. Raises InputError."""
        with self.playing() as game:
            _write(game.observation_space, game.observation_space.sample())
            self.names(game)
        return self

    @contextmanager
    def playing(self) -> Iterator[Any]:
        """The environment of gymnasium, closed afterwards. Raises InputError where it cannot be made."""
        game = make(self.id, self.options)
        try:
            yield game
        finally:
            game.close()

    def names(self, game: Any) -> tuple[str, ...]:
        """The names of the actions, in order. Raises InputError where actions are not discrete, or names do not fit."""
        space, words = game.action_space, words_for(game.unwrapped)
        if type(space).__name__ != "Discrete":
            raise InputError(f"gymnasium/{self.id} has actions {space}: choose an environment with discrete actions")
        given = self.actions or (words.actions if words else tuple(str(space.start + i) for i in range(space.n)))
        if len(given) != space.n or len({name.lower() for name in given}) != len(given):
            raise InputError(f"gymnasium/{self.id} has {space.n} actions: give as many different names, not {given}")
        return given

    def _success(self, total: float, over: bool) -> bool:
        if self.goal is not None:
            return total >= self.goal
        with self.playing() as game:
            words, threshold = words_for(game.unwrapped), game.spec.reward_threshold
        if words and words.won:
            return words.won(total, over)
        return total > 0 if threshold is None else total >= threshold

    def _random_play(self, example: Example) -> list[tuple[Any, ...]]:
        """(answer, reward, done) of every turn of an episode of random actions; what the first turn says is none."""
        env, key = self.env(example), example.meta["start"]
        env.reset(key)
        chosen = np.random.Generator(np.random.Philox(key=derive("random play", key)))
        steps = [env.step("?")[:3]]
        if steps[0][1] != (RewardPart(-1, self.illegal, "illegal"),):
            raise AssertionError(f"a word that is no action is paid {steps[0][1]}")
        while not steps[-1][2]:
            steps.append(env.step(str(chosen.choice(env.names)))[:3])
        return steps


@dataclass
class GymnasiumEnv:
    """One episode. It is closed when it is over, or when nobody holds it any more."""

    task: Gymnasium
    start: int
    names: tuple[str, ...] = ()
    turns: int = 0
    total: float = 0.0
    game: Any = field(default=None, repr=False)
    words: Words | None = field(default=None, repr=False)
    close: Callable[[], Any] = field(default=lambda: None, repr=False)

    def reset(self, seed: int) -> tuple[Message, ...]:
        self.close()
        self.game, self.turns, self.total = make(self.task.id, self.task.options), 0, 0.0
        self.close = weakref.finalize(self, self.game.close)
        self.words, self.names = words_for(self.game.unwrapped), self.task.names(self.game)
        observation, _ = self.game.reset(seed=self.start)
        self.game.np_random = np.random.Generator(np.random.Philox(key=derive(seed, "game")))
        rules = self.words.rules(self.game.unwrapped) if self.words else f"You play {self.task.id}."
        asked = f"Reply with one action: {', '.join(self.names)}."
        return ({"role": "user", "content": f"{rules}\n{self._tell(observation)}\n{asked}"},)

    def step(self, text: str) -> tuple[tuple[Message, ...], Reward, bool, Mapping[str, Any]]:
        """Take the action that ``text`` names; nothing happens where it names none, or several."""
        self.turns += 1
        cut = self.turns >= self.task.cap
        action = self._action(text)
        if action is None:
            said, over, paid = (
                f"That is no action. Reply with one of: {', '.join(self.names)}.",
                False,
                self.task.illegal,
            )
        else:
            observation, value, over, late, _ = self.game.step(self.game.action_space.start + action)
            said, paid, cut = self._tell(observation), float(value), cut or late
            self.total += paid
        if over or cut:
            self.close()
        tally = f"{'Game over. Return' if over else 'Return so far'}: {self.total:.6g}."
        part = RewardPart(-1, paid, "illegal" if action is None else "game")
        return ({"role": "user", "content": f"{said} {tally}"},), (part,), over or cut, {"valid": action is not None}

    def _action(self, text: str) -> int | None:
        """The one action whose name stands in the reply."""
        body = final_part(text) or ""
        said = [i for i, name in enumerate(self.names) if re.search(rf"(?i)(?<![\w.-]){re.escape(name)}(?!\w)", body)]
        return said[0] if len(said) == 1 else None

    def _tell(self, observation: Any) -> str:
        if self.words:
            return self.words.tell(self.game.unwrapped, observation)
        return f"Observation: {_write(self.game.observation_space, observation)}."


def load(name: str) -> Gymnasium:
    """``task=gymnasium/ID``: the environment of that id, with its own settings. Raises InputError."""
    return Gymnasium(id=name).checked()


def make(id: str, options: Options) -> Any:
    """The environment. Raises InputError where there is none of that id (the nearest is named) or it cannot be made."""
    gymnasium = package("gymnasium", extra="gymnasium")
    try:
        return gymnasium.make(id, **thaw(options))
    except (gymnasium.error.Error, ImportError) as error:
        reason = " ".join(str(error).split())
        known = gymnasium.registry if isinstance(error, gymnasium.error.UnregisteredEnv) else ()
        hint = "" if "Did you mean" in reason else near(id, known)
        raise InputError(f"gymnasium/{id} cannot be made: {reason}{hint}") from error
    except (TypeError, ValueError, KeyError, AssertionError) as error:
        raise InputError(f"gymnasium/{id} refuses the options {thaw(options)}: {error}") from error


def _write(space: Any, value: Any) -> str:
    """An observation as text. Raises InputError for a space of anything but numbers and texts, or of too many."""
    match type(space).__name__:
        case "Discrete":
            return str(int(value))
        case "Box" | "MultiDiscrete" | "MultiBinary" if np.size(value) <= MOST_NUMBERS:
            return " ".join(f"{number:.4g}" for number in np.ravel(value))
        case "Text":
            return str(value)
        case "Tuple":
            return ", ".join(_write(inner, item) for inner, item in zip(space.spaces, value, strict=True))
        case "Dict":
            return ", ".join(f"{name} {_write(inner, value[name])}" for name, inner in space.spaces.items())
    raise InputError(
        f"observations {space} cannot be put into words: choose an environment that gives at most {MOST_NUMBERS} numbers, "
        "texts, or tuples and dictionaries of these"
    )
