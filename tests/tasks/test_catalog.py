"""Every task of the catalog is right about its own answers."""

from __future__ import annotations

import pytest

from burnish.errors import InputError
from burnish.tasks.catalog import TASKS, get


@pytest.mark.parametrize("name", sorted(TASKS))
def test_every_task_validates(name: str) -> None:
    task = get(name)
    assert ("disjoint" in task.validate(25)) == (name != "maze"), "the one maze is in every split"
    assert hash(task) == hash(get(name))
    kinds = {task[i].meta["kind"] for i in range(50)}
    assert kinds == ({name} if name != "arithmetic" else {"largest", "sum", "product", "sort", "compare"})


def test_unknown_names_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean 'countdown'"):
        get("countdwn")
