"""Columns, and where they are ambiguous most rows, say what kind of data there is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from burnish.data.comparisons import READERS, compare
from burnish.data.datasets import example, texts
from burnish.data.kinds import COLUMNS, COMPARED, DIALOGUES, RECIPES, Kind, kind
from burnish.data.rows import load_rows
from burnish.errors import InputError

FIXTURES = Path(__file__).parent / "fixtures"
PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")

FILES = {
    "text": "language-modelling",
    "messages": "messages",
    "sharegpt": "messages",
    "prompt-completion": "prompt-completion",
    "prompt-only": "prompt-only",
    "preference": "preference",
    "preference-messages": "preference",
    "preference-implicit": "preference",
    "preference-implicit-messages": "preference",
    "sharegpt-preference": "preference",
    "hh": "preference",
    "ultrafeedback": "preference",
    "soft": "preference",
    "edited": "preference",
    "unpaired": "unpaired",
    "unpaired-messages": "unpaired",
    "nectar": "ranked",
    "helpsteer2": "attributes",
    "stepwise": "stepwise",
    "prm800k": "prm800k",
    "prm800k-rows": "prm800k-rows",
}


def read(row: dict[str, Any], what: Kind) -> object:
    if what == "language-modelling":
        return texts([row])
    return compare(row, what) if what in COMPARED else example(row, what)


@pytest.mark.parametrize("file", sorted(FILES))
def test_every_public_layout_is_recognised(file: str) -> None:
    rows = load_rows(FIXTURES / f"{file}.jsonl")
    assert 3 <= len(rows) <= 5
    assert kind(rows) == FILES[file]


def test_every_kind_has_a_file_columns_and_a_reader() -> None:
    assert {path.stem for path in FIXTURES.iterdir()} == set(FILES)
    assert set(FILES.values()) == set(COLUMNS) == set(get_args(Kind))
    assert {*COMPARED, *DIALOGUES, "language-modelling"} == set(COLUMNS)
    assert set(READERS) == set(COMPARED)
    assert set(RECIPES) == set(COLUMNS)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"text": "a"}, "language-modelling"),
        ({"messages": [], "prompt": "the same again"}, "messages"),
        ({"conversations": []}, "messages"),
        ({"prompt": "a", "completion": "b"}, "prompt-completion"),
        ({"prompt": "a", "completion": "b", "label": "geography"}, "prompt-completion"),
        ({"prompt": "a", "completion": "b", "label": False}, "unpaired"),
        ({"prompt": "a", "answer": 3}, "prompt-only"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "preference"),
        ({"chosen": "b", "rejected": "c"}, "preference"),
        ({"prompt": "a", "completions": ["b"], "labels": [True]}, "stepwise"),
        ({"prompt": "a", "answers": [{"answer": "b", "rank": 1}]}, "ranked"),
        ({"prompt": "a", "answers": ["b", "c"]}, "prompt-only"),
        ({"prompt": "a", "response": "b", "verbosity": 1}, "attributes"),
        ({"prompt": "a", "response": "b", "score": 1}, "attributes"),
        ({"prompt": "a", "response": "b"}, "prompt-only"),
        ({"question": {"problem": "a"}, "label": {"steps": []}}, "prm800k"),
        ({"instruction": "a", "responses": [], "next_response": "b", "rating": 1}, "prm800k-rows"),
        ({"prompt": "a", "chosen": [], "rejected": [], "messages": [], "score_chosen": 1}, "preference"),
        ({"edited": "a", "chosen": "b", "rejected": "c"}, "preference"),
    ],
)
def test_columns_tell_the_kinds_apart(row: dict[str, Any], expected: str) -> None:
    assert kind([row]) == expected


def test_a_bad_label_does_not_turn_feedback_into_demonstrations() -> None:
    good = {"prompt": "a", "completion": "b", "label": True}
    assert kind([good, good, {**good, "label": None}]) == "unpaired"
    assert kind([good, good, {**good, "label": "yes"}]) == "unpaired"
    assert kind([good, {"prompt": "a", "completion": "b"}]) == "unpaired"
    assert kind([good, *[{**good, "label": None}] * 3]) == "unpaired", "a table writes null where a row has none"
    assert kind([{**good, "label": label} for label in (0, 1, 2, 3, 4)]) == "prompt-completion", "a class"


def test_a_missing_column_names_those_present_and_those_accepted() -> None:
    with pytest.raises(InputError) as caught:
        kind([{"question": "a", "solution": "b"}])
    assert "the columns are question, solution" in str(caught.value)
    assert "prompt + completion (prompt-completion)" in str(caught.value)
    with pytest.raises(InputError, match="the columns are none"):
        kind([{}])
    with pytest.raises(InputError, match=r"prompt \+ response \+ one of helpfulness, .* \(attributes\)"):
        kind([{"response": "a"}])


def test_the_page_shows_every_kind_with_its_recipes() -> None:
    table = dict(re.findall(r"^\| ([\w-]+)(?: \([^|]*\))? \|[^|]*\| ([^|]*) \|$", PAGE, re.MULTILINE))
    assert {name: ", ".join(f"`{each}`" for each in RECIPES[name]) for name in RECIPES} == {
        name: recipes for name, recipes in table.items() if name in RECIPES
    }


def test_the_examples_of_the_page_are_read() -> None:
    blocks = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    rows = [json.loads(line) for block in blocks for line in block.splitlines()]
    shown = {kind([row]) for row in rows}
    assert shown == set(COLUMNS)
    assert all(read(row, kind([row])) for row in rows)
