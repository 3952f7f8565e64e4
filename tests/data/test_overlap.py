"""Held-out prompts that training has seen are found, however they are typed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.data.overlap import overlap, require_disjoint
from burnish.errors import InputError
from burnish.types import Example


def ask(text: str, reply: str = "") -> Example:
    closing = ({"role": "assistant", "content": reply},) if reply else ()
    return Example(({"role": "user", "content": text}, *closing))  # type: ignore[arg-type]


def test_case_and_white_space_do_not_hide_an_overlap() -> None:
    train = [ask("What is 2 + 2?"), ask("Name a COLOUR", "red")]
    heldout = [ask("what is 3 + 2?"), ask(" what  is\n2 + 2? "), ask("name a colour", "blue"), ask("Straße")]
    assert overlap(train, heldout) == [1, 2]
    assert overlap([ask("STRASSE")], heldout) == [3]


def test_the_whole_prompt_counts_and_the_reply_does_not() -> None:
    shot = ask("1+1", "2").messages
    few = [Example((*shot, *ask(text).messages)) for text in ("2+2", "3+3")]
    assert overlap(few[:1], few[1:]) == []
    assert overlap(few[:1], few) == [0]


@given(train=st.lists(st.text(max_size=3)), heldout=st.lists(st.text(max_size=3)))
def test_overlap_is_membership_of_normalised_prompts(train: list[str], heldout: list[str]) -> None:
    seen = {" ".join(text.casefold().split()) for text in train}
    expected = [i for i, text in enumerate(heldout) if " ".join(text.casefold().split()) in seen]
    assert overlap([ask(t) for t in train], [ask(t) for t in heldout]) == expected


def test_require_disjoint_shows_the_count_and_the_first() -> None:
    train = [ask("a"), ask("b\nb")]
    require_disjoint(train, [ask("c")])
    with pytest.raises(InputError, match=r"2 of 3 held-out prompts .* example 2: 'B b'\. Remove them"):
        require_disjoint(train, [ask("c"), ask("B b"), ask("a")])
