"""A key gives the same numbers for ever, and different places of a run have different keys."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.core import keys


def test_known_values_never_change() -> None:
    """Written down once: a run from last year resumes only while these hold."""
    assert keys.derive(0, "sample", 3) == 321520009878199041654341421398399558589
    assert keys.uniforms(12345, 3).tolist() == [0.6463801884227345, 0.7742675977164786, 0.7864362639285933]
    assert keys.permutation(12345, 6).tolist() == [3, 1, 4, 5, 2, 0]


def test_parts_are_typed_and_separated() -> None:
    places = [("a", 1), ("a1",), ("a", "1"), (1, "a"), ("a", 1, ""), (1,), ("1",), (), ("a",)]
    assert len({keys.derive(*place) for place in places}) == len(places)


@given(st.lists(st.integers(0, 9) | st.text(max_size=3), max_size=4), st.lists(st.integers(0, 9), max_size=4))
@settings(deadline=None, max_examples=60, derandomize=True)
def test_keys_fit_the_generator_and_collide_only_when_equal(left: list[str | int], right: list[str | int]) -> None:
    assert 0 <= keys.derive(*left) < 2**128
    assert (keys.derive(*left) == keys.derive(*right)) == (left == right)


@given(st.integers(0, 2**128 - 1), st.integers(0, 40), st.integers(0, 20))
@settings(deadline=None, max_examples=60, derandomize=True)
def test_any_position_is_reached_without_the_ones_before(key: int, start: int, count: int) -> None:
    whole = keys.uniforms(key, start + count)
    assert np.array_equal(keys.uniforms(key, count, start), whole[start:])


def test_uniforms_are_uniform_and_independent_of_global_generators() -> None:
    np.random.seed(0)
    random.seed(0)
    first = keys.uniforms(7, 20_000)
    np.random.seed(1)
    random.seed(1)
    assert np.array_equal(first, keys.uniforms(7, 20_000))
    assert first.min() >= 0 and first.max() < 1
    counts, _ = np.histogram(first, bins=20, range=(0, 1))
    assert (((counts - 1000) ** 2) / 1000).sum() < 43.8  # chi-square, 19 degrees of freedom, p = 0.001


def test_permutations_contain_everything_and_depend_on_the_key() -> None:
    assert sorted(keys.permutation(1, 50).tolist()) == list(range(50))
    assert keys.permutation(1, 50).tolist() != keys.permutation(2, 50).tolist()
