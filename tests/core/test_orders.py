"""Which items are drawn: by hand, in the long run, and after a way through JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from itertools import islice

import numpy as np
import pytest

from burnish.core import keys
from burnish.core.orders import (
    Bands,
    Curriculum,
    Graded,
    Items,
    Order,
    OrderState,
    Outcome,
    Pick,
    Prioritised,
    Rates,
    Shuffled,
    UniformThenHard,
)
from burnish.data.batching import epoch_order
from burnish.errors import InputError

EXACT = Rates(memory=1.0, weight=0.0)
"""Plain success rates: nothing is forgotten, nothing presumed."""


def items(difficulties: Sequence[float], domains: Sequence[str] = (), key: int = 7) -> Items:
    named = domains or [""] * len(difficulties)
    return Items(len(difficulties), key, lambda: [Graded(d, x) for d, x in zip(named, difficulties, strict=True)])


def taken(order: Order, draws: range, of: Items, step: int = 0, state: OrderState | None = None) -> list[int]:
    return [pick.item for pick in order.choose(draws, step, of, state or {})[0]]


def solved(*counts: tuple[int, int, int]) -> list[Outcome]:
    """(item, successes, tries): what came of draws of these items."""
    return [Outcome(item, ({"reward": 1.0},) * k + ({"reward": 0.0},) * (n - k)) for item, k, n in counts]


def rated(order: Prioritised | Bands, *counts: tuple[int, int, int]) -> OrderState:
    return order.update({}, solved(*counts))


def test_passes_may_be_begun_anywhere() -> None:
    whole = list(islice(keys.passes(3, 5), 20))
    assert all(sorted(whole[i : i + 5]) == list(range(5)) for i in (0, 5, 10, 15)) and whole[:5] != whole[5:10]
    assert [list(islice(keys.passes(3, 5, start), 6)) for start in (0, 4, 13)] == [whole[i : i + 6] for i in (0, 4, 13)]


def test_shuffled_is_the_endless_pass_and_remembers_nothing() -> None:
    of = items([0.0] * 7)
    picks, state = Shuffled().choose(range(3, 20), 5, of, {})
    assert [pick.item for pick in picks] == epoch_order(of.key, 7, 3, 17)
    assert state == {} and {pick.why for pick in picks} == {"shuffled"}


# --- by difficulty -------------------------------------------------------------------------------


def test_a_curriculum_allows_whole_levels_from_the_easiest() -> None:
    of = items([3, 1, 2, 1, 5, 3, 4, 2, 1, 9])  # easier than 2 are .3 of the items, than 3 .5, than 4 .7
    order = Curriculum(start=0.2, steps=8)
    assert [order.allowed(step) for step in (0, 4, 8, 99)] == [0.2, pytest.approx(0.6), 1.0, 1.0]

    def levels(step: int) -> set[float]:
        return {of.graded[item].difficulty for item in taken(order, range(40), of, step)}

    assert levels(0) == {1} and levels(2) == {1, 2} and levels(4) == {1, 2, 3}
    assert taken(order, range(40), of, 8) == taken(Shuffled(), range(40), of), "then it is all there is"


def test_a_curriculum_draws_everything_that_is_allowed_before_it_comes_again() -> None:
    of = items([1, 1, 1, 2, 2, 2])
    first = taken(Curriculum(start=0.5), range(9), of)
    assert all(sorted(first[i : i + 3]) == [0, 1, 2] for i in (0, 3, 6))


def test_a_walk_goes_on_where_it_was() -> None:
    order, of = Curriculum(start=0.5), items([1, 2, 3, 1, 2, 3, 4, 5])
    first, state = order.choose(range(3), 0, of, {})
    second, state = order.choose(range(3, 8), 0, of, state)
    whole, end = order.choose(range(8), 0, of, {})
    assert (first + second, state) == (whole, end)


def test_domains_are_compared_with_themselves_only() -> None:
    of = items([1, 2, 3, 4, 100, 200, 300, 400], ["sum"] * 4 + ["maze"] * 4)
    assert set(taken(Curriculum(start=0.5), range(32), of)) == {0, 1, 4, 5}
    assert set(taken(UniformThenHard(0, 0.25), range(32), of)) == {3, 7}


def test_uniform_then_hard() -> None:
    of = items([1, 2, 3, 4, 4, 4])
    order = UniformThenHard(switch=3, hardest=0.5)
    assert taken(order, range(12), of, 2) == taken(Shuffled(), range(12), of)
    assert set(taken(order, range(12), of, 3)) == {3, 4, 5}
    assert set(taken(UniformThenHard(0, 0.1), range(12), items([2, 2, 2]))) == {0, 1, 2}, "one level is the hardest"
    why = [order.choose(range(1), step, of, {})[0][0].why.partition(", ")[2] for step in (0, 3)]
    assert why == ["uniform", "in the hardest 50%"]


# --- by success rate -----------------------------------------------------------------------------


def test_priorities_are_proportional_to_the_share_of_failures() -> None:
    order = Prioritised(EXACT)
    state = rated(order, (0, 8, 8), (1, 2, 8), (2, 4, 8))  # item 3 was never drawn: its rate is the prior, one half
    failing = np.array([0.0, 0.75, 0.5, 0.5])
    assert order.probabilities(state, 4) == pytest.approx(failing / failing.sum())
    count = 20_000
    found = Counter(taken(order, range(count), items([0.0] * 4), state=state))
    assert 0 not in found
    for item, share in enumerate(failing / failing.sum()):
        assert found[item] / count == pytest.approx(share, abs=4 * np.sqrt(share / count))


def test_a_priority_is_found_at_the_inverse_of_the_distribution() -> None:
    order, of = Prioritised(EXACT), items([0.0] * 4)
    state = rated(order, (0, 8, 8), (1, 2, 8), (2, 4, 8))
    edges = np.array([0.75, 1.25, 1.75]) / 1.75
    points = keys.uniforms(keys.derive(of.key, "prioritised"), 50)
    assert taken(order, range(50), of, state=state) == [1 + int((point >= edges[:2]).sum()) for point in points]
    assert taken(order, range(20, 30), of, state=state) == taken(order, range(50), of, state=state)[20:30]


def test_all_items_are_alike_where_nothing_is_known_and_where_all_is_solved() -> None:
    order = Prioritised(EXACT)
    assert order.probabilities({}, 5) == pytest.approx([0.2] * 5)
    assert order.probabilities(rated(order, *((i, 8, 8) for i in range(5))), 5) == pytest.approx([0.2] * 5)
    assert len(set(taken(order, range(100), items([0.0] * 5), state=rated(order, *((i, 8, 8) for i in range(5)))))) == 5


def test_a_running_rate_forgets_and_begins_at_its_prior() -> None:
    rates = Rates(memory=0.5, prior=0.25, weight=2.0)
    state = rates.updated(rates.updated({}, solved((3, 8, 8))), solved((3, 0, 4)))
    assert rates.of(state, 3) == pytest.approx((4 + 0.5) / (4 + 4 + 2)) and rates.of(state, 0) == 0.25
    assert (rates.record(state, 3), rates.record(state, 0)) == ("solved 4 of 8", "never drawn")


def test_what_counts_as_a_success() -> None:
    episodes = ({"accuracy": 0.7, "format": 0.3}, {"accuracy": 1.0, "length": -0.5}, {"format": 0.5}, {})
    assert [Rates().solves(parts) for parts in episodes] == [True, False, False, False]
    assert [Rates(part="accuracy").solves(parts) for parts in episodes] == [False, True, False, False]
    assert [Rates(success=0.5).solves(parts) for parts in episodes] == [True, True, True, False]
    state = Prioritised(Rates(part="accuracy")).update({}, [Outcome(0, episodes)])
    assert state == {"counts": {"0": [1, 4]}}
    with pytest.raises(
        InputError, match=r"rates.part=acuracy: no reward has such a part, there are accuracy, format, length"
    ):
        Prioritised(Rates(part="acuracy")).update({}, [Outcome(0, episodes)])


def test_items_outside_the_band_rest_and_come_back() -> None:
    order = Bands(0.2, 0.8, explore=1e-9, rates=EXACT)
    state = rated(order, (0, 8, 8), (1, 0, 8), (2, 4, 8), (3, 1, 5), (4, 4, 5))
    of = items([0.0] * 6)
    assert set(taken(order, range(40), of, state=state)) == {2, 3, 4, 5}, (
        "the edges belong to the band, the new are drawn"
    )
    back = order.update(state, solved((0, 0, 8)))  # half of all tries now
    assert set(taken(order, range(40), of, state=back)) == {0, 2, 3, 4, 5}
    assert taken(order, range(40), of) == taken(Shuffled(), range(40), of), "nothing rests before anything is known"


def test_resting_items_are_explored_by_their_share() -> None:
    order = Bands(0.2, 0.8, explore=0.1, rates=EXACT)
    state = rated(order, *((i, 8, 8) for i in range(50)))
    picks, after = order.choose(range(5000), 0, items([0.0] * 100), state)
    explored = [pick for pick in picks if pick.item < 50]
    assert {pick.why for pick in explored} == {"explored: solved 8 of 8"}
    assert len(explored) / after["place"] == pytest.approx(0.05, abs=0.01), "half of the places, a tenth of these"
    assert Counter(pick.why for pick in picks)["band: never drawn"] == 5000 - len(explored)


def test_where_all_items_rest_exploration_goes_on() -> None:
    order = Bands(rates=EXACT)
    state = rated(order, (0, 8, 8), (1, 8, 8))
    assert sorted(set(taken(order, range(30), items([0.0] * 2), state=state))) == [0, 1]


# --- resume --------------------------------------------------------------------------------------

ORDERS = (Shuffled(), Curriculum(0.3, 4), UniformThenHard(2, 0.4), Prioritised(), Bands(0.2, 0.8, 0.3))


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: type(order).__name__)
def test_what_is_remembered_is_json_and_decides_everything(order: Order) -> None:
    of = items([i % 5 for i in range(12)])

    def steps(state: OrderState, first: int, last: int) -> tuple[list[Pick], OrderState]:
        found: list[Pick] = []
        for step in range(first, last):
            picks, state = order.choose(range(4 * step, 4 * step + 4), step, of, state)
            found += picks
            state = order.update(state, solved(*((p.item, (p.item + step) % 5, 4) for p in picks)))
        return found, state

    whole, end = steps({}, 0, 8)
    first, middle = steps({}, 0, 3)
    rest, again = steps(json.loads(json.dumps(middle)), 3, 8)
    assert first + rest == whole and again == end
    assert middle == json.loads(json.dumps(middle)), "nothing changes what was remembered"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Curriculum(start=0.0), "the share is in"),
        (lambda: UniformThenHard(hardest=0.0), "a share in"),
        (lambda: Bands(0.8, 0.2), "the band is"),
        (lambda: Bands(explore=0.0), "never come back"),
        (lambda: Rates(prior=2.0), "shares from 0 to 1"),
        (lambda: Rates(weight=-1.0), "weight is 0 or more"),
    ],
)
def test_settings_that_cannot_be(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
