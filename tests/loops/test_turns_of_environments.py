"""Every environment and every game on a chat template: exactly what the policy said is unmasked, and paid to who said it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from burnish.data.chat import Chat
from burnish.loops.episodes import Episode, Opening, environments, play
from burnish.tasks.arithmetic import Arithmetic
from burnish.tasks.calculator import Calculator
from burnish.tasks.feedback import Feedback
from burnish.tasks.maze import MazeTask
from burnish.tasks.mazes import Mazes
from burnish.tasks.python_tool import PythonTool
from burnish.tasks.word_game import WordGame
from burnish.types import EnvTask, Message, Sampling
from turns import Scripted

END = "<|end|>"


@pytest.fixture(scope="module")
def chat(nano: Path) -> Chat:
    return Chat.load(nano)


def spoken(chat: Chat, task: EnvTask, *lines: Sequence[str]) -> list[Episode]:
    """The episodes of the first example in which the policy says these lines."""
    ids = [[tuple(chat.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in line] for line in lines]
    envs = environments(task, task[0], len(lines))
    openings = [Opening(env, ("test", i), Sampling(), 0, i) for i, env in enumerate(envs)]
    return play(Scripted(chat, ids), chat, openings, max_turns=max(map(len, lines)))


SUM = Arithmetic(kinds=("product",), numbers=2)
RIGHT = SUM.gold(SUM[0])
PROGRAM = "```python\nprint(6 * 7)\n```"


@pytest.mark.parametrize(
    ("task", "lines", "answers"),
    [
        (Feedback(3)(SUM), ("no", f"{RIGHT}"), ("That is not right. Try again.",)),
        (Feedback(2, pay="each")(SUM), ("no", "no"), ("That is not right. Try again.",)),
        (Calculator()(SUM), ("<calc>6*7</calc>", "so <calc>x</calc>", RIGHT), ("6*7 = 42", "error: unexpected 'x'")),
        pytest.param(PythonTool()(SUM), (PROGRAM, RIGHT), ("42",), marks=pytest.mark.needs_sandbox),
        pytest.param(PythonTool(role="tool")(SUM), (PROGRAM, "no"), ("42",), marks=pytest.mark.needs_sandbox),
        (MazeTask(style="text"), ("right", "hm"), ("you are at r0c1; exits: right left",)),
        (Mazes(), ("hm", "down"), ("you are at r0c0; exits: ",)),
    ],
    ids=["feedback", "each", "calculator", "python", "tool", "maze", "mazes"],
)
def test_exactly_what_the_policy_said_is_unmasked(
    chat: Chat, task: EnvTask, lines: tuple[str, ...], answers: tuple[str, ...]
) -> None:
    [episode] = spoken(chat, task, [f"{line}{END}" for line in lines])
    [row] = episode.rollouts
    own = [token for token, mask in zip(row.tokens, row.mask, strict=True) if mask]
    assert chat.decode(own, special=True) == "".join(f"{line}{END}" for line in lines)
    heard = chat.decode([token for token, mask in zip(row.tokens, row.mask, strict=True) if not mask], special=True)
    assert all(answer in heard for answer in answers) and "assistant" in heard
    opening = tuple(task.env(task[0]).reset(0))
    said: list[Message] = [*opening, *episode.messages[: 2 * len(lines) - 1]]
    tokens, mask = chat.encode_dialogue(said)
    assert row.prompt + row.tokens == tokens and (False,) * len(row.prompt) + row.mask == mask
    ends = [i for i, token in enumerate(row.tokens) if token in chat.eos_ids and row.mask[i]]
    assert {part.position for part in row.rewards} <= set(ends) and row.rewards


def test_two_players_have_a_row_each_and_share_no_token(chat: Chat) -> None:
    task = WordGame()
    given = task[0].meta["word"]
    pairs = [(a, b) for a in task.words for b in task.words if a[0] == given[-1] and b[0] == a[-1]]
    own, reply = next((a, b) for a, b in pairs if len({a, b, given}) == 3)
    said = ([own, "nonsense"], [own, reply])
    first, second = spoken(chat, task, *([f"{word}{END}" for word in line] for line in said))
    for episode, line in ((first, said[0]), (second, said[1])):
        [row] = episode.rollouts
        unmasked = [token for token, mask in zip(row.tokens, row.mask, strict=True) if mask]
        assert chat.decode(unmasked, special=True) == "".join(f"{word}{END}" for word in line)
        assert chat.decode(row.tokens, special=True).count(f"<|user|>{own}{END}") == 1, "the other's word is a message"
    assert [episode.rollouts[0].reward for episode in (first, second)] == [-1.0, 1.0]
