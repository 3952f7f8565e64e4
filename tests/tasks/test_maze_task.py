"""The maze as a conversation: its moves are those of the grid, in both styles, and its grader is right."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from burnish.errors import InputError
from burnish.tabular.worlds import ARROWS, MOVES, SIX_STEPS, STEPS, Grid, open_grid, walled_grid
from burnish.tasks.maze import MazeTask, RandomWalks
from burnish.types import Completion, Example, RewardPart

DECOY = Grid(("S3", ".G"), goal_reward=10.0, step_reward=-0.1)
STYLES = pytest.mark.parametrize(("style", "names"), [("table", ARROWS), ("text", MOVES)], ids=["table", "text"])


def text_of(task: MazeTask, row: int, column: int) -> str:
    return f"({row},{column})" if task.style == "table" else f"you are at r{row}c{column};"


@STYLES
def test_every_move_in_every_cell_is_the_move_of_the_grid(style: str, names: str) -> None:
    for grid in (SIX_STEPS, DECOY):
        task = MazeTask(grid, style=style)
        for state, (row, column) in enumerate(grid.cells):
            if grid.terminal[state]:
                continue
            for name, (down, right) in zip(names, STEPS, strict=True):
                env = task.env(task[0])
                env.reset(0)
                env.cell = state
                target = (row + down, column + right)
                answer, reward, done, info = env.step(name)
                after = grid.index.get(target, state)
                assert answer[0]["role"] == "user" and answer[0]["content"].startswith(
                    text_of(task, *grid.cells[after])
                )
                assert info == {"valid": target in grid.index} and done == bool(grid.terminal[after])
                assert sum(part.value for part in reward) == pytest.approx(grid.pays(state, after), abs=1e-15)


def test_the_parts_of_a_reward() -> None:
    env = MazeTask(DECOY, cap=2).env(MazeTask(DECOY)[0])
    env.reset(0)
    _, reward, done, _ = env.step("→")
    assert reward == (RewardPart(-1, 3.0, "arrival"), RewardPart(-1, -0.1, "step")) and done
    env.reset(0)
    assert env.step("↑")[1] == (RewardPart(-1, 0.0, "arrival"), RewardPart(-1, -0.1, "step"))


def test_text_names_the_exits() -> None:
    task = MazeTask(style="text")
    assert task[0].messages == ({"role": "user", "content": "you are at r0c0; exits: right down"},)
    env = task.env(task[0])
    assert env.reset(5) == task[0].messages
    assert env.step(" RIGHT\n")[0][0]["content"] == "you are at r0c1; exits: right left"
    for word in ("sideways", "", "up", "→"):
        answer, _, done, info = env.step(word)
        assert answer[0]["content"] == "you are at r0c1; exits: right left" and not done and not info["valid"]


def test_slips_have_the_probabilities_of_the_grid_and_follow_from_the_seed() -> None:
    grid = replace(SIX_STEPS, slip=0.4)
    task = MazeTask(grid)
    env = task.env(task[0])

    def first(seed: int) -> int:
        env.reset(seed)
        env.step("↓")
        return int(env.cell)

    found = Counter(first(seed) for seed in range(4000))
    assert [first(seed) for seed in range(50)] == [first(seed) for seed in range(50)]
    for state in range(len(grid.cells)):
        p = grid.transitions[grid.start, 2, state]
        assert abs(found[state] / 4000 - p) <= 5 * (p * (1 - p) / 4000) ** 0.5
    assert found[grid.index[0, 1]] and found[grid.index[0, 0]], "a slip to a side, and one into a wall"


def test_every_move_slips_on_its_own() -> None:
    grid = open_grid(5, slip=0.5)
    env = MazeTask(grid, cap=8).env(Example(()))

    def slipped(seed: int) -> tuple[bool, bool]:
        env.reset(seed)
        env.cell = grid.index[1, 2]
        rows = [1, *(grid.cells[env.cell][0] for _ in range(2) if env.step("↓"))]
        return rows[1] == rows[0], rows[2] == rows[1]

    assert {slipped(seed) for seed in range(40)} == {(a, b) for a in (True, False) for b in (True, False)}


@STYLES
def test_success_is_ending_in_the_goal(style: str, names: str) -> None:
    task = MazeTask(DECOY, cap=2, style=style)
    for moves, wanted in (((2, 1), 1.0), ((1,), 0.0), ((2, 0), 0.0)):
        env = task.env(task[0])
        env.reset(0)
        said = tuple(m for move in moves for m in env.step(names[move])[0])
        assert task.measure(task[0], Completion((), "", said, "eos")) == {"success": wanted}


@pytest.mark.parametrize("style", ["table", "text"])
def test_validate_plays_the_shortest_path(style: str) -> None:
    assert "path of 6 moves is paid 10;" in MazeTask(style=style).validate()
    assert "path of 2 moves is paid 9.8;" in MazeTask(DECOY, style=style).validate(), "around the decoy"
    slippery = walled_grid(5, key=1, slip=0.3, step_reward=-1)
    assert "moves" in MazeTask(slippery, cap=30, style=style).validate()


class Crooked(MazeTask):
    def measure(self, example: object, completion: Completion) -> dict[str, float]:  # noqa: ARG002
        return {"success": 1.0}


def test_validate_notices_a_grader_that_accepts_everything() -> None:
    with pytest.raises(AssertionError, match=r"success 1\.0 instead of 0\.0"):
        Crooked().validate()


def test_what_cannot_be_played() -> None:
    with pytest.raises(InputError, match="6 moves from the start: cap=5"):
        MazeTask(cap=5)
    with pytest.raises(InputError, match="cannot be reached"):
        MazeTask(Grid(("S.#.", "..#G")))
    with pytest.raises(InputError, match="cannot be reached"):
        MazeTask(Grid(("S1G",)))
    with pytest.raises(InputError, match="table"):
        MazeTask(style="tabel")
    with pytest.raises(InputError, match="move by move"):
        MazeTask().reward(MazeTask()[0], [])
    with pytest.raises(IndexError):
        MazeTask(size=3)[3]
    assert len(MazeTask(size=3)) == 3 and MazeTask().max_turns == 6


@STYLES
def test_a_conversation_leads_to_every_cell_by_a_shortest_way(style: str, names: str) -> None:
    for grid in (SIX_STEPS, replace(SIX_STEPS, slip=0.5)):
        task, far = MazeTask(grid, style=style), grid.distances(grid.start)
        for state, (row, column) in enumerate(grid.cells):
            said = task.conversation(state)
            assert said is not None and len(said) == 1 + 2 * far[state]
            env = MazeTask(SIX_STEPS, style=style).env(task[0])
            heard = list(env.reset(0))
            for move in said[1::2]:
                assert move["role"] == "assistant" and move["content"] in tuple(names)
                heard += [move, *env.step(move["content"])[0]]
            assert tuple(heard) == said and text_of(task, row, column) in said[-1]["content"]
    behind = Grid(("S.2.", "..##", "..G."))
    assert MazeTask(behind).conversation(behind.index[0, 3]) is None, "a decoy ends the episode"


@STYLES
def test_random_walks_are_episodes_of_the_task_that_take_every_permitted_move(style: str, names: str) -> None:
    task = MazeTask(style=style)
    walks = list(RandomWalks(task, size=1500))
    first, lengths = Counter(walk.messages[1]["content"] for walk in walks), Counter(len(w.messages) for w in walks)
    assert set(first) == {names[1], names[2]} and abs(first[names[1]] / 1500 - 0.5) < 5 * 0.5 / 1500**0.5
    assert lengths == {12: 1500}, "six moves, each after what the world said"
    reached = 0
    for walk in walks:
        env = task.env(task[0])
        heard = list(env.reset(0))
        for move in walk.messages[1::2]:
            answer, _, done, info = env.step(move["content"])
            assert info["valid"]
            heard += [move, *answer]
        assert walk.messages == tuple(heard[:-1]) and walk.messages[-1]["role"] == "assistant"
        reached += done
    assert 0 < reached < 1500 * 0.04, "one in 58 arrives"


def test_random_walks_are_fixed_end_in_the_goal_and_follow_from_their_seed() -> None:
    task = MazeTask(cap=40)
    walks = RandomWalks(task, size=60)
    assert list(walks) == [RandomWalks(task)[i] for i in range(60)] and walks[0] != RandomWalks(task, seed=1)[0]
    assert len({len(walk.messages) for walk in walks}) > 5, "the goal ends them"
    with pytest.raises(InputError, match="size"):
        RandomWalks(task, size=0)
    with pytest.raises(IndexError):
        walks[60]
