"""Filters: texts that each has to keep and to drop."""

from __future__ import annotations

import pytest
from quiz import said

from burnish.errors import InputError
from burnish.loops.curate.filters import READABLE, AtMost, Either, Filter, NoCode, Not, SameLanguage, ShortParagraphs

PLAIN = "First we add the two numbers, and then we take the larger one."
GERMAN = "Zuerst nehmen wir die beiden Zahlen und dann ist die größere von ihnen die Antwort."
CODE = "We count.\n\n    ```\nx = 1\n```\nSo it is 1."


@pytest.mark.parametrize(
    ("keeps", "kept", "dropped"),
    [
        (SameLanguage(), [PLAIN, "42", "$x = 4$", "", "```\nzwei = 2\n```"], [GERMAN, "so 我们 把 它 加 起来"]),
        (SameLanguage("de"), [GERMAN, "42"], [PLAIN]),
        (SameLanguage(least=0.5), [f"{PLAIN} 我们"], [f"{GERMAN} {GERMAN} the sum"]),
        (ShortParagraphs(5), ["a b c d e", "a b c d e\n \nf g h i j"], ["a b c d e f", "a\n\nb c d e f g"]),
        (NoCode(), [PLAIN, "use `x` here", "a ``` b"], [CODE, "~~~\nx\n~~~"]),
        (AtMost(3), ["a b"], ["a b c"]),
        (Either((NoCode(), AtMost(3))), ["```", "a b c d"], ["```\na b c\n```"]),
        (Not(NoCode()), [CODE], [PLAIN]),
    ],
    ids=repr,
)
def test_a_filter_keeps_and_drops(keeps: Filter, kept: list[str], dropped: list[str]) -> None:
    assert [text for text in kept if not keeps(said(text))] == []
    assert [text for text in dropped if keeps(said(text))] == []


def test_the_filters_of_r1_are_values() -> None:
    assert (SameLanguage("en", 0.95), ShortParagraphs(200), NoCode()) == READABLE and len(set(READABLE)) == 3


def test_what_is_no_language_and_no_share_is_refused() -> None:
    with pytest.raises(InputError, match="unknown language 'english'"):
        SameLanguage("english")
    with pytest.raises(InputError, match="least=95 is no share"):
        SameLanguage(least=95)
