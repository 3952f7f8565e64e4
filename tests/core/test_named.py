"""Tables of constants."""

from __future__ import annotations

import pytest

from burnish.core import named
from burnish.errors import InputError

FIRST = 1.5
"""The first."""

SECOND = 2
OTHER = "text"
"""Not a number."""


def test_constants_of_a_kind_by_lower_case_name() -> None:
    assert named.constants(globals(), float | int) == {"first": 1.5, "second": 2}


def test_a_name_in_any_spelling() -> None:
    known = {"dr_grpo": 1}
    assert named.find("algorithm", "Dr-GRPO", known) == 1
    with pytest.raises(InputError, match=r"dr_grppo.*dr_grpo"):
        named.find("algorithm", "dr_grppo", known)


def test_notes_are_the_strings_below() -> None:
    assert named.notes(__file__, {"first", "second"}) == {"first": "The first."}
