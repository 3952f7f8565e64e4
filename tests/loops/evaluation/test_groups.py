"""Items by what they say of themselves."""

from __future__ import annotations

from typing import Any

import pytest

from burnish.errors import InputError
from burnish.loops.evaluation.groups import BINS, groups, of


def items(*values: Any) -> list[dict[str, Any]]:
    return [{"difficulty": value, "kind": f"k{value}"} for value in values]


def test_few_values_are_groups_of_their_own_in_order() -> None:
    assert groups(items(10, 2, 2, 10, 3), "difficulty") == {"2": [1, 2], "3": [4], "10": [0, 3]}


def test_many_numbers_are_put_into_bins_of_about_one_size() -> None:
    values = [7 * i % 100 for i in range(100)]
    found = groups(items(*values), "difficulty")
    assert len(found) == BINS and sorted(place for places in found.values() for place in places) == list(range(100))
    assert all(len(places) == 20 for places in found.values())
    assert next(iter(found)) == "0 to 19" and {values[place] for place in found["0 to 19"]} == set(range(20))


def test_no_value_is_in_two_bins() -> None:
    values = [0] * 90 + list(range(1, 11))
    found = groups(items(*values), "difficulty")
    homes = [{label for label, places in found.items() for place in places if values[place] == v} for v in set(values)]
    assert all(len(home) == 1 for home in homes)


def test_a_key_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match=r"no item says its 'dificulty'\. Did you mean 'difficulty'"):
        groups(items(1, 2), "dificulty")
    with pytest.raises(InputError, match="'kind' has 20 values that are no numbers"):
        groups(items(*range(20)), "kind")


def test_a_part_of_a_series() -> None:
    assert of([(1.0, 1.0), (2.0, 1.0), (3.0, 1.0)], [2, 0]) == [(3.0, 1.0), (1.0, 1.0)]
