"""Verifier feedback: what is said after a wrong reply, what is paid and when, what is measured; and what all partners share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from burnish.core.algorithms import GRPO, PPO
from burnish.data.datasets import Dataset
from burnish.engines.optim import Schedule
from burnish.errors import InputError
from burnish.loops.evaluate import EvalConfig, evaluate
from burnish.loops.rl import RLConfig, rl
from burnish.loops.update import CriticConfig
from burnish.rewards.accuracy import Accuracy
from burnish.run import Run
from burnish.tasks.arithmetic import Arithmetic
from burnish.tasks.countdown import Countdown
from burnish.tasks.environments import Conversation, Judging, Partner, Rewarded, rehearse, replies, reply
from burnish.tasks.feedback import AGAIN, RIGHT, WRONG, Feedback
from burnish.tasks.maze import MazeTask
from burnish.tasks.userdata import UserTask
from burnish.types import Completion, Env, Example, Hearing, Message, Reward, Sampling
from burnish.view import View
from guess import Guess
from words import ENGINE, write

Turn = tuple[str, float, bool]


def heard(partner: Partner, task: Any, *said: Completion) -> list[Turn]:
    """For every reply: what it was answered, what it was paid, whether the episode was over."""
    conversation = partner(task)
    env = conversation.env(task[0])
    assert isinstance(env, Hearing)
    assert env.reset(3) == task[0].messages
    found = []
    for completion in said:
        env.hear(completion)
        answer, reward, done, _ = env.step(completion.text)
        found.append((" ".join(message["content"] for message in answer), sum(part.value for part in reward), done))
    return found


def test_the_last_reply_is_paid_and_a_wrong_one_is_explained() -> None:
    no = f"'a' is another word. {AGAIN}"
    assert heard(Feedback(3), Guess(), reply("a"), reply("a"), reply("b")) == [
        (no, 0.0, False), (no, 0.0, False), (RIGHT, 5.0, True),
    ]  # fmt: skip
    assert heard(Feedback(2), Guess(), reply("a"), reply("c"))[1] == ("'c' is another word.", -1.0, True)
    assert heard(Feedback(3), Guess(), reply("b")) == [(RIGHT, 5.0, True)]


def test_every_reply_is_paid_and_later_ones_less() -> None:
    paid = [turn[1] for turn in heard(Feedback(4, pay="each", discount=0.5), Guess(), *map(reply, "acb"))]
    assert paid == [-1.0, -0.5, 1.25]
    assert [turn[1] for turn in heard(Feedback(discount=0.5), Guess(), *map(reply, "acb"))] == [0.0, 0.0, 1.25]


def test_words_are_those_of_the_task_where_it_has_any() -> None:
    assert heard(Feedback(words=False), Guess(), reply("a"))[0][0] == f"{WRONG} {AGAIN}"
    assert heard(Feedback(), Arithmetic(), reply("no"))[0][0] == f"{WRONG} {AGAIN}"
    assert heard(Feedback(), Rewarded(Guess(), Accuracy()), reply("a"))[0][0].startswith("'a' is another word.")
    assert heard(Feedback(), Rewarded(Arithmetic(), Accuracy()), reply("no"))[0][0] == f"{WRONG} {AGAIN}"


def test_a_reply_that_was_cut_off_is_wrong_and_told_so() -> None:
    turns = heard(Feedback(2), Guess(), reply("b", "length"), reply("b", "repetition"))
    assert turns == [("Your reply was cut off. Try again.", 0.0, False), ("Your reply was cut off.", -1.0, True)]
    said = ({"role": "assistant", "content": "b"}, {"role": "user", "content": "Your reply was cut off."})
    assert Feedback(2)(Guess()).measure(Guess()[0], Completion((), "", said, "eos"))["accuracy"] == 0.0  # type: ignore[arg-type]


def test_a_reply_is_heard_for_one_step_only() -> None:
    env = Feedback(2).env(Guess(), Guess()[0])
    assert isinstance(env, Hearing)
    env.hear(reply("b", "length"))
    assert not env.step("b")[2] and env.step("b")[3]["right"], "nobody said that the second one was cut off"


def test_enough_may_be_less_than_everything() -> None:
    class Half(Guess):
        def measure(self, example: Example, completion: Completion) -> dict[str, float]:
            return {"accuracy": 0.5 + 0.5 * super().measure(example, completion)["accuracy"]}

    assert heard(Feedback(3, enough=0.5), Half(), reply("a"))[0][2]
    assert not heard(Feedback(3), Half(), reply("a"))[0][2]


def test_measured_is_the_last_reply_and_whether_one_was_enough() -> None:
    task = Feedback(3)(Guess())
    scores = [task.play(task[0], said)[0] for said in ("b", "ab", "acc")]
    assert scores == [
        {"accuracy": 1.0, "first_try": 1.0}, {"accuracy": 1.0, "first_try": 0.0}, {"accuracy": 0.0, "first_try": 0.0},
    ]  # fmt: skip


def test_a_conversation_is_a_task_of_several_turns_with_the_splits_of_its_task() -> None:
    task = Feedback(4)(Countdown())
    assert (len(task), task.max_turns, task[3]) == (10_000, 4, Countdown()[3])
    assert task.with_split("test") == Conversation(Countdown(split="test"), Feedback(4))
    assert hash(task) == hash(Feedback(4)(Countdown()))
    with pytest.raises(InputError, match="turn by turn"):
        task.reward(task[0], [])
    with pytest.raises(InputError, match="MazeTask has turns of its own"):
        Feedback()(MazeTask())
    with pytest.raises(InputError, match="Conversation has turns of its own"):
        Feedback()(task)


def test_a_file_of_prompts_can_be_talked_about(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "2+2?", "answer": "4"}\n')
    task = UserTask(Dataset(str(path)))
    assert heard(Feedback(2), task, reply("5"), reply("4"))[1] == (RIGHT, 1.0, True)
    with pytest.raises(InputError, match="UserTask has no splits"):
        Feedback()(task).with_split("test")


@pytest.mark.parametrize("pay", ["last", "each"])
def test_validate_plays_right_wrong_then_right_and_never_right(pay: str) -> None:
    assert "45 episodes end as they should" in Feedback(3, pay=pay)(Countdown()).validate(5)


class Forgiving(Feedback):
    def measure(self, task: Any, example: Example, episode: Completion) -> dict[str, float]:
        return {**super().measure(task, example, episode), "accuracy": 1.0}


class Endless(Feedback):
    def trials(self, task: Any, example: Example) -> Any:
        yield (task.near_misses(example)[0],), False


@dataclass(frozen=True)
class Generous(Guess):
    def reward(self, example: Example, completions: Sequence[Completion]) -> list[Reward]:
        return [tuple(part._replace(value=5.0) for part in r) for r in super().reward(example, completions)]


def test_validate_notices_what_is_wrong() -> None:
    with pytest.raises(AssertionError, match="but success is False"):
        Forgiving()(Countdown()).validate(2)
    with pytest.raises(AssertionError, match="the episode is not over after"):
        Endless(attempts=2)(Countdown()).validate(2)
    with pytest.raises(AssertionError, match=r"success is paid 5\.0, failure 5\.0"):
        task = Feedback()(Generous())
        task.try_out(task[0])


def test_replies_are_told_from_what_they_were_answered() -> None:
    said: list[Message] = [
        {"role": "assistant", "content": "a"}, {"role": "user", "content": "no"}, {"role": "assistant", "content": "b"},
    ]  # fmt: skip
    assert replies(Completion((), "", tuple(said), "eos")) == [("a", "no"), ("b", "")]


def test_settings_out_of_range() -> None:
    for settings in ({"attempts": 0}, {"discount": 0.0}, {"discount": 1.5}):
        with pytest.raises(InputError, match="give attempts >= 1"):
            Feedback(**settings)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="Did you mean 'each'"):
        Feedback(pay="eahc")


# --- the rehearsal of the first turn -------------------------------------------------------------


@dataclass
class Odd(Judging):
    opening: Any = ({"role": "user", "content": "hi"},)
    turn: Any = ((), (), True, {})

    def reset(self, seed: int) -> tuple[Message, ...]:  # noqa: ARG002
        opening: tuple[Message, ...] = self.opening
        return opening

    def step(self, text: str) -> tuple[tuple[Message, ...], Reward, bool, Mapping[str, Any]]:  # noqa: ARG002
        if self.turn is None:
            raise RuntimeError("nothing\nhere")
        turn: tuple[tuple[Message, ...], Reward, bool, Mapping[str, Any]] = self.turn
        return turn


@dataclass(frozen=True)
class OddPartner(Partner):
    opening: Any = ({"role": "user", "content": "hi"},)
    turn: Any = ((), (), True, {})

    @property
    def max_turns(self) -> int:
        return 2

    def env(self, task: Any, example: Example) -> Env:
        return Odd(task, example, self.opening, self.turn)


@pytest.mark.parametrize(
    ("partner", "message"),
    [
        (
            OddPartner(turn=None),
            r"^the environment of OddPartner does not work: its first turn raised RuntimeError: nothing here .*line \d+",
        ),
        (OddPartner(turn=((), ())), "raised ValueError: not enough values"),
        (OddPartner(opening=()), "has to begin and to answer with messages"),
        (OddPartner(turn=(({"role": "user"},), (), False, {})), "with messages such as"),
        (OddPartner(turn=((), ((0, "much", "x"),), True, {})), "has to return messages, RewardPart"),
        (OddPartner(turn=((), ((-1, float("nan"), "x"),), True, {})), "position, finite number, name"),
        (OddPartner(turn=((), (), True, None)), "has to return messages, RewardPart"),
        (OddPartner(turn=((), (), False, {})), "says nothing though the episode is not over"),
    ],
)
def test_an_env_that_cannot_work_says_so_in_one_line(partner: Partner, message: str) -> None:
    rehearse(OddPartner()(Guess()))
    with pytest.raises(InputError, match=message) as error:
        rehearse(partner(Guess()))
    assert "\n" not in str(error.value)


# --- training ------------------------------------------------------------------------------------

SAID = "abcd"
CHANCES = {"ask": dict.fromkeys(SAID, 0.25), f"{WRONG} {AGAIN}": dict.fromkeys(SAID, 0.25)}


@dataclass(frozen=True)
class Asked(Guess):
    """One prompt, which a table knows; nothing is explained."""

    def __getitem__(self, index: int) -> Example:
        return replace(super().__getitem__(index), messages=({"role": "user", "content": "ask"},))


@pytest.mark.parametrize("pay", ["last", "each"])
@pytest.mark.parametrize("algo", [GRPO, PPO], ids=["grpo", "ppo"])
def test_a_policy_learns_from_episodes_with_feedback(pay: str, algo: Any, tmp_path: Path) -> None:
    """A table that says one word of four: what it learns after the prompt, and after being told that it was wrong."""
    table, task = write(tmp_path / "table", CHANCES), Feedback(2, words=False, pay=pay)(Asked())
    cfg = RLConfig(
        steps=25, prompts=2, group=16, sampling=Sampling(max_tokens=2), schedule=Schedule(0.3), engine=ENGINE,
        critic=CriticConfig(Schedule(0.3)),
    )  # fmt: skip
    measure = EvalConfig(n=40, sampling=cfg.sampling, engine=ENGINE)
    with Run.open(tmp_path / "run", recipe="t", scale="tiny", config=cfg, seed=0, view=View(quiet=True)) as run:
        before = run.stage(evaluate, "before", table, task, cfg=measure)["summary"]
        trained = run.stage(rl, "rl", table, task, algo=algo, cfg=cfg)
        after = run.stage(evaluate, "after", trained, task, cfg=measure)["summary"]
    assert before["first_try"]["mean"] < 0.5 and before["accuracy"]["mean"] < 0.7
    assert after["first_try"]["mean"] > 0.8 and after["accuracy"]["mean"] > 0.95, after
