"""Mazes: as difficult as they say, drawn as they are, and no form of a held-out one is trained on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from burnish.errors import InputError
from burnish.tabular.worlds import MOVES, Grid
from burnish.tasks.checks import SPLITS
from burnish.tasks.maze import MazeTask
from burnish.tasks.mazes import Mazes, canonical
from burnish.types import Completion, Example, Message


def test_a_canonical_picture_is_that_of_every_turn_and_mirror() -> None:
    picture = ("S.#.", "....", ".#..", "..#G")
    turned = tuple("".join(row) for row in zip(*picture[::-1], strict=True))
    swapped = tuple(row.translate(str.maketrans("SG", "GS")) for row in picture)
    forms = (picture, turned, picture[::-1], tuple(row[::-1] for row in picture), swapped, turned[::-1])
    assert len(set(forms)) == 6 and len({canonical(form) for form in forms}) == 1
    assert canonical(("S...", "....", ".#..", "..#G")) != canonical(picture)


def test_mazes_differ_and_are_drawn_with_where_we_are() -> None:
    task = Mazes()
    example = task[0]
    rows, asked, here = example.meta["rows"], *example.messages[0]["content"].splitlines()[-2:]
    assert example.messages[0]["content"].splitlines()[:4] == list(rows)
    assert asked == "Go from S to G, one move a reply: up, right, down, left."
    assert here == MazeTask(Grid(rows), cap=12, style="text")[0].messages[0]["content"]
    assert len({task[i].meta["rows"] for i in range(30)}) > 20
    assert task[0] == Mazes()[0] and [task[i] for i in range(5)] != [Mazes(seed=1)[i] for i in range(5)]


def test_difficulty_is_the_length_of_a_shortest_way() -> None:
    task = Mazes(longest=10, cap=10)
    found = {task[i].meta["difficulty"] for i in range(60)}
    assert 6 in found and found <= {6, 8, 10}
    for i in range(20):
        grid = Grid(task[i].meta["rows"])
        assert grid.distances(grid.start)[grid.goal] == task[i].meta["difficulty"]


def walked(task: Mazes, example: Example, moves: list[str]) -> tuple[dict[str, float], list[float]]:
    env, said, paid = task.env(example), list[Message](), []
    env.reset(0)
    for move in moves:
        answer, reward, _, _ = env.step(move)
        said += [{"role": "assistant", "content": move}, *answer]
        paid.append(sum(part.value for part in reward))
    return task.measure(example, Completion((), "", tuple(said), "eos")), paid


def test_the_goal_pays_and_moves_may_cost() -> None:
    task = Mazes(step_reward=-0.125)
    example = next(task[i] for i in range(50) if task[i].meta["rows"][0].startswith("S."))
    way = MazeTask(Grid(example.meta["rows"]), cap=12, style="text").conversation(Grid(example.meta["rows"]).goal)
    assert way is not None
    moves = [message["content"] for message in way if message["role"] == "assistant"]
    assert walked(task, example, moves) == ({"success": 1.0}, [-0.125] * (len(moves) - 1) + [0.875])
    assert walked(task, example, moves[:-1])[0] == {"success": 0.0} and set(moves) <= set(MOVES)


def test_validate_and_splits() -> None:
    assert "splits are disjoint" in Mazes().validate(10)
    forms = [{Mazes(split=split)[i].meta["canonical"] for i in range(40)} for split in SPLITS]
    assert not forms[0] & forms[1] and not forms[0] & forms[2] and not forms[1] & forms[2]
    assert Mazes().with_split("dev") == Mazes(split="dev")


class Leaky(Mazes):
    def with_split(self, split: str) -> Mazes:  # noqa: ARG002
        return self


class Silent(Mazes):
    def __getitem__(self, index: int) -> Example:
        return replace(super().__getitem__(index), messages=({"role": "user", "content": "find it"},))


def test_validate_notices_what_is_wrong() -> None:
    with pytest.raises(AssertionError, match="train and dev share problems"):
        Leaky().validate(3)
    with pytest.raises(AssertionError, match="and not with"):
        Silent().validate(3)


def test_what_cannot_be_played() -> None:
    with pytest.raises(InputError, match="size of at least 1"):
        Mazes(size=0)
    for settings in ({"side": 2}, {"density": 1.0}):
        with pytest.raises(InputError, match="side >= 3"):
            Mazes(**settings)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="6 moves: give 6 <= longest <= cap"):
        Mazes(longest=5)
    with pytest.raises(InputError, match="longest <= cap"):
        Mazes(longest=14)
    with pytest.raises(InputError, match="found no problem of split 'test'"):
        _ = Mazes(side=3, density=0.0, longest=4, split="test")[0]
    with pytest.raises(InputError, match="move by move"):
        Mazes().reward(Mazes()[0], [])
    with pytest.raises(IndexError):
        _ = Mazes(size=3)[3]
