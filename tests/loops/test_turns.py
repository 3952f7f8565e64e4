"""Episodes of several turns: what is sampled, what is masked, what is a row, and that the gradient of all of it is exact."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from burnish.core.algorithms import DR_GRPO, GRPO, REINFORCE, RLOO, Algorithm
from burnish.data.batching import collate
from burnish.data.chat import Chat
from burnish.engines.decode import LocalSampler
from burnish.engines.local import Engine, LocalModel
from burnish.engines.optim import AdamW, Schedule
from burnish.engines.table import END, build_table, policy_of, table_tokenizer
from burnish.errors import InputError
from burnish.loops.episodes import Episode, Opening, has_turns, play
from burnish.loops.evaluate import EvalConfig, evaluate, run_items, summarise
from burnish.loops.rl import RLConfig, rl
from burnish.loops.rollouts import Group, draw_groups, read_groups, rollout_table
from burnish.run import Run
from burnish.signals import Interrupted
from burnish.tabular import exact
from burnish.tabular.worlds import MOVES, SIX_STEPS, Grid
from burnish.tasks.maze import MazeEnv, MazeTask
from burnish.types import Completion, Example, Message, Request, Reward, RewardPart, Sampling
from burnish.view import View

ONE = Sampling(max_tokens=1)
FORK = Grid(("S.1", "..#", "G.."), goal_reward=2.0, step_reward=-0.1)
"""Small enough to enumerate, with a decoy, walls and episodes of different lengths."""


@dataclass
class Scripted:
    """A sampler that says what it is told: line ``i`` of the script, turn by turn. A turn is token ids."""

    chat: Chat
    lines: Sequence[Sequence[Sequence[int]]]
    context: int = 2**31
    reproducible = True
    asked: list[tuple[int, ...]] = field(default_factory=list)
    _at: list[int] = field(default_factory=list)
    _live: list[int] = field(default_factory=list)

    def load(self, weights: Mapping[str, Tensor], version: int) -> None:  # noqa: ARG002
        raise AssertionError("nothing to load")

    def sample(self, requests: Iterable[Request]) -> Iterator[Completion]:
        wanted = list(requests)
        if not self._at:
            self._at, self._live = [0] * len(wanted), list(range(len(wanted)))
        elif len(wanted) < len(self._live):  # an episode is over when its line is
            self._live = [i for i in self._live if self._at[i] < len(self.lines[i])]
        for index, (line, request) in enumerate(zip(self._live, wanted, strict=True)):
            tokens = tuple(self.lines[line][self._at[line]])
            self._at[line] += 1
            self.asked.append(request.prompt)
            text = self.chat.decode(tokens)
            finish = "eos" if tokens[-1] in self.chat.eos_ids else "length"
            own = tuple(-0.5 - position for position in range(len(tokens)))
            yield Completion(
                tokens, text, ({"role": "assistant", "content": text},), finish, own, (0.9,) * len(tokens), index
            )


@dataclass
class Speaker:
    """An environment that says its lines, pays what it is told, and ends after the last one."""

    answers: Sequence[str]
    rewards: Sequence[Reward] = ()
    opening: str = "hi"
    turn: int = 0
    heard: list[str] = field(default_factory=list)

    def reset(self, seed: int) -> tuple[Message, ...]:  # noqa: ARG002
        return ({"role": "user", "content": self.opening},)

    def step(self, text: str) -> tuple[tuple[Message, ...], Reward, bool, Mapping[str, Any]]:
        self.heard.append(text)
        answer = self.answers[self.turn] if self.turn < len(self.answers) else ""
        reward = self.rewards[self.turn] if self.rewards else ()
        self.turn += 1
        messages: tuple[Message, ...] = ({"role": "user", "content": answer},) if answer else ()
        return messages, reward, self.turn > len(self.answers), {}


def table(tmp_path: Path, world: Grid = SIX_STEPS, dtype: str = "float64") -> LocalModel:
    directory = tmp_path / "table"
    if not directory.exists():
        build_table(directory, world)
    return LocalModel(directory, Engine(dtype=dtype, device="cpu"))


def set_policy(model: LocalModel, theta: np.ndarray, world: Grid) -> None:
    with torch.no_grad():
        view, allowed = policy_of(model.head_weight, world), torch.from_numpy(world.permitted)
        view[allowed] = torch.from_numpy(theta)[allowed].to(view.dtype)


def logits_of(world: Grid, seed: int = 5) -> np.ndarray:
    return np.random.Generator(np.random.Philox(seed)).normal(size=world.permitted.shape)


def draw(model: LocalModel, draws: range, task: Any = None, sampler: Any = None, **options: Any) -> list[Group]:
    settings: dict[str, Any] = {"size": 3, "sampling": ONE, "seed": 7, "version": 2, **options}
    task = task or MazeTask()
    return draw_groups(sampler or LocalSampler(model), model.chat, task, task.reward, draws=draws, **settings)


def speak(chat: Chat, env: Speaker, lines: Sequence[str], context: int = 2**31, turns: int = 99) -> Episode:
    """The episode in which the policy says ``lines``, each as the tokenizer encodes it."""
    tokens = [tuple(chat.tokenizer(line, add_special_tokens=False)["input_ids"]) for line in lines]
    sampler = Scripted(chat, [tokens], context)
    [episode] = play(sampler, chat, [Opening(env, ("test", 0), Sampling(), 4, 11)], max_turns=turns, version=3)
    return episode


# --- a table in a maze --------------------------------------------------------------------------


def test_a_table_writes_one_row_of_moves_and_cells(tmp_path: Path) -> None:
    model = table(tmp_path)
    moves = SIX_STEPS.permitted.shape[1]
    rollouts = [r for g in draw(model, range(30), size=4) for r in g.rollouts]
    assert len(rollouts) == 120, "no template is in the way: every episode is one row"
    for row in rollouts:
        assert row.prompt == (moves + SIX_STEPS.start,) and row.turn == 0 and row.version == 2
        cell, paid = SIX_STEPS.start, 0.0
        for place, (token, own) in enumerate(zip(row.tokens, row.mask, strict=True)):
            assert own == (place % 2 == 0) == (token < moves)
            if own:
                after = int(SIX_STEPS.neighbours[cell, token])
                assert SIX_STEPS.permitted[cell, token]
                assert (place, SIX_STEPS.pays(cell, after)) in [(p.position, p.value) for p in row.rewards]
                paid, cell = paid + SIX_STEPS.pays(cell, after), after
            else:
                assert token == moves + cell and row.sampler_logprobs[place] == 0 and row.kept[place] == 1
        assert row.mask[-1], "nothing is read after the last move"
        assert row.reward == paid and len(row.rewards) == sum(row.mask) <= 6
        assert row.finish == ("eos" if SIX_STEPS.terminal[cell] else "length")
    assert {sum(r.mask) for r in rollouts} == {6} and {r.finish for r in rollouts} == {"eos", "length"}


def test_rows_lie_by_group_and_episode(tmp_path: Path) -> None:
    groups = draw(table(tmp_path), range(5, 8), size=3)
    assert [g.draw for g in groups] == [5, 6, 7]
    assert [[(r.group, r.episode) for r in g.rollouts] for g in groups] == [
        [(d, 3 * d), (d, 3 * d + 1), (d, 3 * d + 2)] for d in (5, 6, 7)
    ]
    assert groups[0].texts[0][0] in "→↓" and groups[0].texts[0][1:6] in ("(0,1)", "(1,0)")


class Backwards(LocalSampler):
    def sample(self, requests: Iterable[Request]) -> Iterator[Completion]:
        yield from reversed(list(super().sample(requests)))


def test_the_same_draws_are_bitwise_the_same_episodes(tmp_path: Path) -> None:
    model = table(tmp_path)
    slippery = MazeTask(replace(SIX_STEPS, slip=0.3), cap=12)
    together = draw(model, range(6), slippery)
    assert draw(model, range(6), slippery) == together
    assert draw(model, range(6), slippery, Backwards(model)) == together
    assert [g for d in range(6) for g in draw(model, range(d, d + 1), slippery)] == together
    assert draw(model, range(6), slippery, seed=8) != together
    rows = [r.tokens for g in together for r in g.rollouts]
    assert len(set(rows)) == len(rows), "every episode has randomness of its own"
    set_policy(model, 100 * logits_of(SIX_STEPS), SIX_STEPS)
    rows = [r.tokens for g in draw(model, range(6), slippery) for r in g.rollouts]
    assert len(set(rows)) > 9, "so has its environment: the policy is all but certain now"


def test_sampler_and_trainer_agree_on_what_was_sampled(tmp_path: Path) -> None:
    model = table(tmp_path)
    set_policy(model, logits_of(SIX_STEPS), SIX_STEPS)
    batch = collate([r for g in draw(model, range(10)) for r in g.rollouts])
    assert batch.sampler_logprobs is not None
    found = model.forward(batch).logprobs * batch.mask
    torch.testing.assert_close(found, batch.sampler_logprobs, rtol=0, atol=1e-12)


def test_drawn_one_token_too_far_a_table_still_plays_row_by_row(tmp_path: Path) -> None:
    """Its end of text is not printed by the template, so each turn is a new row, and the moves are the same."""
    model = table(tmp_path)
    one = [r for g in draw(model, range(4)) for r in g.rollouts]
    many = [r for g in draw(model, range(4), sampling=Sampling(max_tokens=9)) for r in g.rollouts]
    assert len(many) == 6 * len(one)
    moves = {e: [r.tokens[0] for r in many if r.episode == e] for e in {r.episode for r in many}}
    assert moves == {r.episode: [t for t, own in zip(r.tokens, r.mask, strict=True) if own] for r in one}


@pytest.mark.parametrize("task", [MazeTask(FORK, cap=4), MazeTask(SIX_STEPS, cap=7)], ids=["fork", "six-steps"])
def test_expected_reinforce_is_the_exact_policy_gradient(task: MazeTask, tmp_path: Path) -> None:
    """Every episode there is, played through the environment and weighed with its probability."""
    grid, cap = task.grid, task.cap
    model = table(tmp_path, grid)
    theta = logits_of(grid)
    set_policy(model, theta, grid)
    every = list(exact.paths(grid, exact.softmax(grid, theta), cap))
    assert sum(p for p, _ in every) == pytest.approx(1, abs=1e-12) and len({len(path.moves) for _, path in every}) > 1
    scripted = Scripted(model.chat, [[(move,) for move in path.moves] for _, path in every])
    rows = [r for g in draw(model, range(len(every)), task, scripted, size=1) for r in g.rollouts]
    assert [r.reward for r in rows] == pytest.approx([sum(path.rewards) for _, path in every], abs=1e-12)

    for baseline in (0.0, 0.7):
        batch = REINFORCE.credit(collate(rows, max_tokens=1), {"sum": baseline, "weight": 1.0})
        batch = REINFORCE.loss.prepare(batch)
        chance = torch.tensor([p for p, _ in every], dtype=torch.float64)[:, None] * len(rows)
        weights = {name: w * chance for name, w in batch.weights.items()}
        model.forward_backward(replace(batch, weights=weights), REINFORCE.loss)
        gradient = model.head_weight.grad
        assert gradient is not None
        found = -policy_of(gradient, grid).numpy()
        wanted = exact.policy_gradient(grid, theta, cap)
        assert np.abs(found - wanted).max() < 1e-10 and np.abs(wanted).max() > 1e-2
        rest = gradient.clone()
        policy_of(rest, grid)[:] = 0
        assert not bool(rest.any()), "nothing else of the table has a gradient"
        model.discard_gradient()


def test_sampled_episodes_have_the_exact_expectation(tmp_path: Path) -> None:
    grid = replace(FORK, slip=0.2)
    model = table(tmp_path, grid)
    theta = logits_of(grid)
    set_policy(model, theta, grid)
    groups = draw(model, range(500), MazeTask(grid, cap=5), size=4)
    rewards = np.array([r.reward for g in groups for r in g.rollouts])
    error = rewards.std() / len(rewards) ** 0.5
    assert abs(rewards.mean() - exact.objective(grid, theta, 5)) < 4 * error < 0.15


def test_success_is_measured_on_episodes(tmp_path: Path) -> None:
    model = table(tmp_path)
    theta = logits_of(SIX_STEPS) / 2 + np.array([-1, 1, 1, -1])
    set_policy(model, theta, SIX_STEPS)
    sampler, task = LocalSampler(model), MazeTask()

    def measured() -> list[Any]:
        return run_items(sampler, model.chat, task, n=100, samples=4, sampling=ONE, key=5)

    items = measured()
    assert items == measured()
    found = summarise(items)
    p = exact.success(SIX_STEPS, exact.softmax(SIX_STEPS, theta), 6)
    assert 0.2 < p < 0.8
    assert abs(found["success"]["mean"] - p) < 4 * (p * (1 - p) / 400) ** 0.5
    assert found["n"] == 100 and found["length/mean"] == 6
    assert found["length/truncated_frac"] == pytest.approx(1 - found["success"]["mean"])
    assert len(set(items[0].completions)) > 1, "samples of one item differ"
    assert items[0].prompt == "(0,0)" and items[0].completions[0].count("(") == 6
    with pytest.raises(InputError, match="has 3 items, fewer than the 4"):
        run_items(sampler, model.chat, MazeTask(size=3), n=4, samples=1, sampling=ONE, key=5)


# --- chat templates -------------------------------------------------------------------------------


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

    with pytest.raises(InputError, match="Endless has an env but no max_turns"):
        has_turns(Endless())  # type: ignore[arg-type]
    with pytest.raises(InputError, match="max_turns is 0"):
        play(LocalSampler(model), model.chat, [], max_turns=0)


# --- in the loop ----------------------------------------------------------------------------------

CONFIG = RLConfig(
    steps=12, prompts=2, group=64, sampling=ONE, schedule=Schedule(lr=0.3),
    engine=Engine(dtype="float32", device="cpu", optimizer=AdamW(betas=(0.9, 0.99))),
)  # fmt: skip


def opened(directory: Path, resume: bool = False) -> Run:
    return Run.open(directory, recipe="t", scale="tiny", config=CONFIG, seed=0, resume=resume, view=View(quiet=True))


@pytest.mark.parametrize("algo", [REINFORCE, RLOO, GRPO, DR_GRPO], ids=["reinforce", "rloo", "grpo", "dr_grpo"])
def test_six_steps(algo: Algorithm, tmp_path: Path) -> None:
    """A uniform policy reaches the goal once in 58 episodes, and only there is anything paid."""
    build_table(tmp_path / "table", SIX_STEPS)
    task = MazeTask()
    with opened(tmp_path / "run") as run:
        trained = run.stage(rl, "rl", tmp_path / "table", task, algo=algo, cfg=CONFIG)
    model = LocalModel(Path(trained), CONFIG.engine)
    theta = policy_of(model.head_weight.detach(), SIX_STEPS).double().numpy()
    assert exact.success(SIX_STEPS, exact.uniform(SIX_STEPS), task.cap) < 0.018
    assert exact.success(SIX_STEPS, exact.softmax(SIX_STEPS, theta), task.cap) > 0.9


def test_heldout_success_is_logged_and_a_stage_of_its_own(tmp_path: Path) -> None:
    build_table(tmp_path / "table", SIX_STEPS)
    cfg = replace(CONFIG, steps=2, group=4, eval_every=1, eval_items=10)
    with opened(tmp_path / "run") as run:
        run.stage(rl, "rl", tmp_path / "table", MazeTask(), algo=RLOO, cfg=cfg, heldout=MazeTask())
        measure = EvalConfig(n=8, samples=2, sampling=ONE, engine=cfg.engine)
        found = run.stage(evaluate, "eval", tmp_path / "table", MazeTask(), cfg=measure)
    lines = [json.loads(line) for line in (tmp_path / "run/rl/metrics.jsonl").read_text().splitlines()]
    assert all(0 <= line["eval/success"] <= 1 and "reward/arrival" in line for line in lines)
    assert found["summary"]["success"]["n"] == 8


def test_what_is_stored_is_what_was_played(forgetful: Chat, tmp_path: Path) -> None:
    lines = ["<think>x</think>up<|end|>", "down<|end|>", "up<|end|>"]
    episode = speak(forgetful, Speaker(("p", "q"), [(), (RewardPart(-1, 1.0, "a"),), ()]), lines)
    texts = tuple(forgetful.decode(r.tokens, special=True) for r in episode.rollouts)
    group = Group(4, Example(({"role": "user", "content": "hi"},)), episode.rollouts, texts)
    batch = DR_GRPO.credit(collate(episode.rollouts, max_tokens=8), {})
    pq.write_table(rollout_table(1, [group], batch, {}, forgetful), tmp_path / "step-000001.parquet")
    [back] = read_groups(tmp_path, 1)
    assert back == group and len(back.rollouts) == 2 and not all(back.rollouts[1].mask)


PULLED: list[int] = []
"""The draws before which the plug is pulled."""


@dataclass(frozen=True)
class Fragile(MazeTask):
    def env(self, example: Example) -> MazeEnv:
        if PULLED:
            PULLED[0] -= 1
            if not PULLED[0]:
                PULLED.clear()
                raise Interrupted(signal.SIGINT)
        return super().env(example)


def test_an_interrupted_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    build_table(tmp_path / "table", SIX_STEPS)
    cfg = replace(CONFIG, steps=4, group=8, checkpoint_every=2)
    task = Fragile(replace(SIX_STEPS, slip=0.1), cap=12)

    def trained(name: str, resume: bool = False) -> bytes:
        with opened(tmp_path / name, resume) as run:
            out = run.stage(rl, "rl", tmp_path / "table", task, algo=GRPO, cfg=cfg)
        return Path(out, "model.safetensors").read_bytes()

    straight = trained("straight")
    PULLED.append(3 * cfg.prompts * cfg.group - 1)  # while the third step is about to be played
    with pytest.raises(Interrupted):
        trained("broken")
    assert not PULLED and trained("broken", resume=True) == straight
    stored = [pq.read_table(tmp_path / name / "rl/rollouts/step-000004.parquet") for name in ("straight", "broken")]
    assert stored[0].equals(stored[1])
