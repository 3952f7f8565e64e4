"""Episodes of several turns: what is sampled, what is masked, what is a row, and where it ends."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from burnish.core.algorithms import DR_GRPO
from burnish.data.batching import collate
from burnish.data.chat import Chat
from burnish.engines.decode import LocalSampler
from burnish.engines.local import Engine, LocalModel
from burnish.engines.table import END, table_tokenizer
from burnish.errors import InputError
from burnish.loops.episodes import Opening, has_turns, play
from burnish.loops.rollouts import Group, draw_groups, read_groups, rollout_table
from burnish.tabular import exact
from burnish.tabular.worlds import MOVES, SIX_STEPS
from burnish.tasks.maze import MazeEnv, MazeTask
from burnish.types import Example, Message, Reward, RewardPart, Sampling
from turns import ONE, Scripted, Speaker, draw, speak, table


@pytest.fixture(scope="module")
def chat(nano: Path) -> Chat:
    return Chat.load(nano)


def test_a_chat_row_is_the_encoded_conversation_and_its_mask(chat: Chat) -> None:
    """What is sampled turn by turn is what supervised training would have masked."""
    answers = ("you are at r0c1; exits: right left", "you are at r0c2")
    env = Speaker(answers)
    episode = speak(chat, env, ["right<|end|>", "down<|end|>", "up<|end|>"])
    assert env.heard == ["right", "down", "up"]
    [row] = episode.rollouts
    opening: Message = {"role": "user", "content": "hi"}
    tokens, mask = chat.encode_dialogue([opening, *episode.messages])
    assert row.prompt + row.tokens == tokens
    assert (False,) * len(row.prompt) + row.mask == mask
    assert row.prompt == chat.encode_prompt([opening])
    assert (row.group, row.episode, row.turn, row.version, row.finish) == (4, 11, 0, 3, "eos")
    sampled = [p for p, own in zip(row.sampler_logprobs, row.mask, strict=True) if own]
    assert sampled == [-0.5 - i for word in ("right", "down", "up") for i in range(len(word) + 1)]
    assert all(k == (0.9 if own else 1.0) for k, own in zip(row.kept, row.mask, strict=True))
    assert not any(p for p, own in zip(row.sampler_logprobs, row.mask, strict=True) if not own)


def test_rewards_of_a_turn_are_at_its_own_tokens(chat: Chat) -> None:
    rewards = [(RewardPart(-1, 1.0, "a"),), (RewardPart(0, 2.0, "a"), RewardPart(-1, 3.0, "b")), ()]
    [row] = speak(chat, Speaker(("x", "y"), rewards), ["ab<|end|>", "cd<|end|>", "e<|end|>"]).rollouts
    ends = [i for i, token in enumerate(row.tokens) if token in chat.eos_ids and row.mask[i]]
    starts = [i for i, own in enumerate(row.mask) if own and (i == 0 or not row.mask[i - 1])]
    assert row.rewards == (
        RewardPart(ends[0], 1.0, "a"), RewardPart(starts[1], 2.0, "a"), RewardPart(ends[1], 3.0, "b"),
    )  # fmt: skip
    with pytest.raises(InputError, match="part 'a' is nan"):
        speak(chat, Speaker((), [(RewardPart(-1, float("nan"), "a"),)]), ["ab<|end|>"])
    with pytest.raises(InputError, match="at token 3, but the completion has 3 tokens"):
        speak(chat, Speaker((), [(RewardPart(3, 1.0, "a"),)]), ["ab<|end|>"])


def test_a_turn_that_was_cut_off_is_closed_by_the_template(chat: Chat) -> None:
    """The end-of-turn token that the policy did not sample belongs to the environment."""
    [row] = speak(chat, Speaker(("x",)), ["ri", "up<|end|>"]).rollouts
    [closing] = [i for i, t in enumerate(row.tokens) if t in chat.eos_ids][:1]
    assert closing == 2 and row.mask[:3] == (True, True, False)
    assert chat.decode(row.tokens, special=True) == "ri<|end|><|user|>x<|end|><|assistant|>up<|end|>"


FORGETFUL = (
    "{% for message in messages %}<|{{ message['role'] }}|>"
    "{% if message['role'] == 'assistant' and not loop.last %}{{ message['content'].split('</think>')[-1] }}"
    "{% else %}{{ message['content'] }}{% endif %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture
def forgetful(nano: Path, tmp_path: Path) -> Chat:
    """A template that drops the reasoning of earlier turns, as those of reasoning models do."""
    directory = tmp_path / "forgetful"
    shutil.copytree(nano, directory)
    (directory / "chat_template.jinja").write_text(FORGETFUL)
    return Chat.load(directory)


def test_where_the_template_rewrites_history_a_new_row_begins(forgetful: Chat) -> None:
    rewards = [(RewardPart(-1, float(i + 1), "a"),) for i in range(4)]
    lines = ["<think>x</think>up<|end|>", "down<|end|>", "<think>y</think>left<|end|>", "right<|end|>"]
    episode = speak(forgetful, Speaker(("p", "q", "r"), rewards), lines)
    shown = [
        (forgetful.decode(r.prompt, special=True), forgetful.decode(r.tokens, special=True)) for r in episode.rollouts
    ]
    first = "<|user|>hi<|end|><|assistant|>"
    second = first + "up<|end|><|user|>p<|end|><|assistant|>"
    middle = "down<|end|><|user|>q<|end|><|assistant|><think>y</think>left<|end|>"
    third = second + "down<|end|><|user|>q<|end|><|assistant|>left<|end|><|user|>r<|end|><|assistant|>"
    assert shown == [(first, "<think>x</think>up<|end|>"), (second, middle), (third, "right<|end|>")]
    assert [r.turn for r in episode.rollouts] == [0, 1, 2]
    assert [r.finish for r in episode.rollouts] == ["stop", "stop", "eos"]
    assert {(r.group, r.episode) for r in episode.rollouts} == {(4, 11)}
    assert [[p.value for p in r.rewards] for r in episode.rollouts] == [[1], [2, 3], [4]]
    assert all(r.rewards[-1].position == len(r.tokens) - 1 for r in episode.rollouts)
    assert episode.rollouts[1].mask.count(False) == 4, "the turn of the user and the header of the assistant"
    assert episode.completion.messages == episode.messages and len(episode.messages) == 7


def test_what_is_stored_is_what_was_played(forgetful: Chat, tmp_path: Path) -> None:
    lines = ["<think>x</think>up<|end|>", "down<|end|>", "up<|end|>"]
    episode = speak(forgetful, Speaker(("p", "q"), [(), (RewardPart(-1, 1.0, "a"),), ()]), lines)
    texts = tuple(forgetful.decode(r.tokens, special=True) for r in episode.rollouts)
    group = Group(4, Example(({"role": "user", "content": "hi"},)), episode.rollouts, texts)
    batch = DR_GRPO.credit(collate(episode.rollouts, max_tokens=8), {})
    pq.write_table(rollout_table(1, [group], batch, {}, forgetful), tmp_path / "step-000001.parquet")
    [back] = read_groups(tmp_path, 1)
    assert back == group and len(back.rollouts) == 2 and not all(back.rollouts[1].mask)


def test_what_decoding_loses_is_not_kept_in_the_row(chat: Chat) -> None:
    """A control token inside a reply is not part of its text, so the conversation that goes on is another one."""
    episode = speak(chat, Speaker(("x",)), ["up<|user|>up<|end|>", "no<|end|>"])
    assert [chat.decode(r.prompt, special=True) for r in episode.rollouts] == [
        "<|user|>hi<|end|><|assistant|>", "<|user|>hi<|end|><|assistant|>upup<|end|><|user|>x<|end|><|assistant|>",
    ]  # fmt: skip


def test_tokens_stay_as_they_were_sampled(tmp_path: Path) -> None:
    """ "a" and "b" were sampled one by one; the tokenizer would write "ab" as one token."""
    table_tokenizer(("ab", "a", "b", END)).save_pretrained(tmp_path)
    chat = Chat.load(tmp_path)
    sampler = Scripted(chat, [[(1, 2), (0,)]])
    [episode] = play(sampler, chat, [Opening(Speaker(("b",), opening="a"), ("t",), ONE)], max_turns=2)
    [row] = episode.rollouts
    assert (row.prompt, row.tokens, row.mask) == ((1,), (1, 2, 2, 0), (True, True, False, True))
    assert sampler.asked == [(1,), (1, 1, 2, 2)]


def test_a_maze_of_words(chat: Chat) -> None:
    """The shortest path, said by words: one row, encoded as the whole conversation would be."""
    task = MazeTask(style="text", cap=9)
    names = [MOVES[move] for move in shortest()]
    words = [tuple(chat.tokenizer(f"{name}<|end|>", add_special_tokens=False)["input_ids"]) for name in names]
    sampler = Scripted(chat, [words])
    [group] = draw_groups(sampler, chat, task, task.reward, draws=range(1), size=1, sampling=ONE, seed=0, version=0)
    [row] = group.rollouts
    assert chat.decode(row.prompt, special=True) == "<|user|>you are at r0c0; exits: right down<|end|><|assistant|>"
    env = task.env(task[0])
    messages: list[Message] = [*env.reset(0)]
    for name in names:
        messages += [{"role": "assistant", "content": name}, *env.step(name)[0]]
    tokens, mask = chat.encode_dialogue(messages[:-1])
    assert row.prompt + row.tokens == tokens and (False,) * len(row.prompt) + row.mask == mask
    assert row.reward == 10 and row.finish == "eos" and len(row.rewards) == 6


def shortest() -> list[int]:
    """The moves that are best where every step costs one."""
    costly = replace(SIX_STEPS, step_reward=-1.0)
    best = exact.greedy(costly, exact.value_iteration(costly)).argmax(1)
    cell, moves = costly.start, list[int]()
    while cell != costly.goal:
        moves.append(int(best[cell]))
        cell = int(costly.neighbours[cell, best[cell]])
    return moves


def test_an_end_of_turn_is_part_of_what_was_sampled(tmp_path: Path) -> None:
    """The same where the template closes the turn: the conversation goes on after the token that the policy wrote."""
    tokenizer = table_tokenizer(("ab", "a", "b", END))
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message['content'] }}"
        "{% if message['role'] == 'assistant' %}<|end|>{% endif %}{% endfor %}"
    )
    tokenizer.save_pretrained(tmp_path)
    chat = Chat.load(tmp_path)
    sampler = Scripted(chat, [[(1, 2, 3), (0, 3)]])
    [episode] = play(sampler, chat, [Opening(Speaker(("b",), opening="a"), ("t",), ONE)], max_turns=2)
    [row] = episode.rollouts
    assert (row.tokens, row.mask) == ((1, 2, 3, 2, 0, 3), (True, True, True, False, True, True))


# --- where an episode ends ------------------------------------------------------------------------


def test_an_episode_is_cut_at_its_last_turn_and_where_the_context_is_full(chat: Chat) -> None:
    lines = ["ab<|end|>", "cd<|end|>", "ef<|end|>"]

    def cut(**limits: int) -> tuple[str, str]:
        [row] = speak(chat, Speaker(("x",) * 9), lines, **limits).rollouts
        return chat.decode(row.tokens, special=True), row.finish

    header = "<|user|>x<|end|><|assistant|>"
    assert cut(turns=2) == (f"ab<|end|>{header}cd<|end|>", "length")
    assert cut(turns=1) == ("ab<|end|>", "length")
    # Four tokens of opening and header with two letters are 5; a turn has 3, an answer with its headers 4.
    assert cut(context=13, turns=2) == (f"ab<|end|>{header}cd<|end|>", "length")
    assert cut(context=12) == ("ab<|end|>", "length"), "no room for a token after 12"


def test_a_full_context_ends_real_episodes_too(nano: Path) -> None:
    model = LocalModel(nano, Engine(dtype="float32", device="cpu"))
    model.network.config.max_position_embeddings = 150
    task = MazeTask(style="text", cap=50)
    groups = draw(model, range(2), task, sampling=Sampling(max_tokens=8))
    rows = [r for g in groups for r in g.rollouts]
    assert all(len(r.prompt) + len(r.tokens) <= 150 for r in rows)
    last = {r.episode: r for r in rows}
    assert {r.finish for r in last.values()} == {"length"} and all(r.mask[-1] for r in rows)
    batch = collate(rows)
    assert batch.sampler_logprobs is not None
    found = model.forward(batch).logprobs * batch.mask
    torch.testing.assert_close(found.double(), batch.sampler_logprobs, rtol=0, atol=2e-5)


@dataclass(frozen=True)
class Silent(MazeTask):
    def env(self, example: Example) -> Any:
        class Mute(MazeEnv):
            def step(self, text: str) -> tuple[tuple[Message, ...], Reward, bool, Mapping[str, Any]]:
                return ((), *super().step(text)[1:])

        env: MazeEnv = super().env(example)
        return Mute(env.grid, env.style)


def test_mistakes_of_an_environment_are_named(tmp_path: Path) -> None:
    model = table(tmp_path)
    with pytest.raises(InputError, match=r"says nothing after '[→↓]', but the episode is not over"):
        draw(model, range(1), Silent())

    class Endless:
        env = MazeTask.env

    class Momentary(Endless):
        max_turns: int | None

    for turns in (None, 0):
        Momentary.max_turns = turns
        with pytest.raises(InputError, match=f"^max_turns is {turns}: an episode has at least one turn$"):
            has_turns(Momentary())  # type: ignore[arg-type]
    with pytest.raises(InputError, match="Endless has an env but no max_turns"):
        has_turns(Endless())  # type: ignore[arg-type]
    with pytest.raises(InputError, match="max_turns is 0"):
        play(LocalSampler(model), model.chat, [], max_turns=0)
