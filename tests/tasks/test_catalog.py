"""Every task of the catalog is right about its own answers, and the user's own tasks are loaded by file and name."""

from __future__ import annotations

from pathlib import Path

import pytest

from burnish.errors import InputError
from burnish.tasks.catalog import TASKS, TITLES, get, get_split, single

SLOW = ("coding",)  # programs run in the sandbox: their own tests look at more
ELSEWHERE = ("humaneval", "gsm8k", "math")  # their data are not here
KINDS = {
    "arithmetic": {"largest", "sum", "product", "sort", "compare"},
    "points24-rank": {"points24"},
    "spelling": {"spell", "count", "reverse"},
    "algebra": {"substitute", "simplify", "solve", "both"},
    "languages": {"day", "month", "opposite", "sum"},
}


@pytest.mark.parametrize("name", sorted(set(TASKS) - set(ELSEWHERE)))
def test_every_task_validates(name: str) -> None:
    task = get(name)
    assert ("disjoint" in task.validate(1 if name in SLOW else 25)) == (name != "maze"), (
        "the one maze is in every split"
    )
    assert hash(task) == hash(get(name))
    kinds = {task[i].meta.get("kind", name) for i in range(50)}
    assert kinds == KINDS.get(name, {name}) or name == "coding"


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_task_of_foreign_data_is_a_value_without_them(name: str) -> None:
    assert hash(get(name)) == hash(get(name)) and get(name) == TASKS[name]()


def test_every_task_has_a_title() -> None:
    assert list(TITLES) == list(TASKS)


def test_unknown_names_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean 'countdown'"):
        get("countdwn")
    with pytest.raises(InputError, match="Did you mean 'points24'"):
        get_split("point24", "test")


OWN = """
from dataclasses import dataclass
from burnish.types import Example, outcome

@dataclass(frozen=True)
class Bare:
    size: int = 4
    def __len__(self): return self.size
    def __getitem__(self, i): return Example(({"role": "user", "content": str(i)},))
    def reward(self, example, completions): return [outcome(1.0) for _ in completions]

@dataclass(frozen=True)
class Split(Bare):
    def with_split(self, split): return self

@dataclass(frozen=True)
class Empty:
    pass
"""


def test_a_task_of_the_users_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(OWN)
    assert len(get(f"{file}:Bare")) == 4
    with pytest.raises(InputError, match=r"Bare has no splits to measure on: add with_split"):
        get_split(f"{file}:Bare", "test")
    with pytest.raises(InputError, match=r"Split lacks measure"):
        get(f"{file}:Split")
    with pytest.raises(InputError, match=r"Empty lacks __len__, __getitem__, reward"):
        get(f"{file}:Empty")
    with pytest.raises(InputError, match=r"Bare lacks with_split, measure, which this recipe needs"):
        single(f"{file}:Bare")
    with pytest.raises(InputError, match="Did you mean 'Bare'"):
        get(f"{file}:Bar")
