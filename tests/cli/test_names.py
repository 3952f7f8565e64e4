"""Names read from the sources are the names there are."""

from __future__ import annotations

from burnish.cli import names
from burnish.core import algorithms
from burnish.core.orders import Order
from burnish.engines.pretrained import ALIASES
from burnish.loops.curate.catalog import FUNCTIONS
from burnish.recipes.catalog import RECIPES
from burnish.rewards.catalog import REWARDS
from burnish.tasks.catalog import TASKS, TITLES


def test_names_are_those_of_the_tables() -> None:
    assert set(names.algorithms()) == set(algorithms.table())
    assert list(names.tasks()) == list(TASKS) and names.tasks() == TITLES
    assert list(names.rewards()) == list(REWARDS)
    assert names.models() == list(ALIASES)
    assert list(names.recipes()) == list(RECIPES)
    assert set(names.orders()) == {cls.__name__ for cls in Order.__subclasses__()}
    assert list(names.curation()) == list(FUNCTIONS)


def test_titles_are_the_first_lines() -> None:
    for name, title in names.algorithms().items():
        assert algorithms.notes()[name].splitlines()[0] == title
    assert all("arXiv" in title for title in names.recipes().values())
