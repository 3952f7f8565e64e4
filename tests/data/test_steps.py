"""Rated steps: TRL's stepwise supervision and PRM800K in both forms, every label in exactly one answer."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from burnish.data.chat import Chat
from burnish.data.comparisons import Comparisons, compare
from burnish.data.units import encode
from burnish.errors import InputError
from burnish.types import Comparison

FIXTURES = Path(__file__).parent / "fixtures"


def rated(comparison: Comparison) -> list[tuple[str, int | None]]:
    return [(step.text.strip(), step.rating) for step in comparison.answers[0].steps]


def labelled(steps: list[dict[str, Any]], finish: str = "solution") -> dict[str, Any]:
    return {"question": {"problem": "Q"}, "label": {"steps": steps, "finish_reason": finish}}


def step(*completions: tuple[str, int | None], chosen: int | None = 0, human: str | None = None) -> dict[str, Any]:
    return {
        "completions": [{"text": text, "rating": rating, "flagged": None} for text, rating in completions],
        "human_completion": {"text": human, "rating": None} if human else None,
        "chosen_completion": chosen,
    }


@pytest.mark.parametrize("name", ["stepwise", "prm800k", "prm800k-rows"])
def test_steps_join_to_the_answer(name: str, chatml: Chat) -> None:
    for item in Comparisons(FIXTURES / f"{name}.jsonl"):
        (answer,) = item.answers
        assert "".join(step.text for step in answer.steps) == answer.messages[0]["content"]
        (row,) = encode(chatml, item)
        assert list(row.ratings.values()) == [step.rating for step in answer.steps if step.rating is not None]
        for place, step in zip(sorted(row.ratings), (s for s in answer.steps if s.rating is not None), strict=True):
            assert chatml.decode(row.tokens[: place + 1]).rstrip().endswith(step.text.rstrip())


def test_stepwise_labels_are_ratings() -> None:
    first, _, last = Comparisons(FIXTURES / "stepwise.jsonl")
    assert [rating for _, rating in rated(first)] == [1, 1, -1, -1]
    assert first.answers[0].messages[0]["content"].split("\n")[3] == "So 9.11 is larger."
    assert [rating for _, rating in rated(last)] == [-1, 1], "labels may be 0 and 1"


def test_the_solution_and_its_alternatives() -> None:
    items = list(Comparisons(FIXTURES / "prm800k.jsonl"))
    adding = [rated(item) for item in items if item.prompt[0]["content"].startswith("What is 12 + 30")]
    assert adding == [
        [("First I add 12 and 30.", 0), ("12 + 30 = 42.", 1), ("42 - 2 = 40.\n\n# Answer\n\n40", 1)],
        [("First I add 12 and 30.", None), ("12 + 30 = 32.", -1)],
    ], "the flagged completion has no rating to learn from"
    assert items[0].meta["finish_reason"] == "solution" and items[0].meta["ground_truth_answer"] == "40"
    assert items[0].meta["labeler"] == "0000"


def test_a_solution_without_a_choice_ends_with_the_step_that_was_shown() -> None:
    items = [item for item in Comparisons(FIXTURES / "prm800k.jsonl") if "cube" in item.prompt[0]["content"]]
    assert [rated(item) for item in items] == [
        [("A cube has six faces.", 1), ("Every edge lies in three faces.", -1)],
        [("A cube has six faces.", None), ("Every face has four edges.", 1)],
        [("A cube has six faces.", None), ("Edges are lines.", 0)],
    ]


def test_what_a_person_wrote_is_good_and_goes_on() -> None:
    items = [item for item in Comparisons(FIXTURES / "prm800k.jsonl") if "7 * 8" in item.prompt[0]["content"]]
    assert [rated(item) for item in items] == [
        [("7 * 8 = 56.", 1), ("# Answer\n\n56", 1)],
        [("7 * 8 = 54.", -1)],
        [("7 * 8 = 58.", -1)],
    ]


def test_the_first_wrong_step_ends_the_solution() -> None:
    wrong = labelled([step(("a", 1)), step(("b", -1), ("c", 1)), step(("d", 1))])
    assert [rated(item) for item in compare(wrong, "prm800k")] == [
        [("a", 1), ("b", -1)],
        [("a", None), ("c", 1)],
    ]


def test_every_label_occurs_once() -> None:
    """The ratings before the first wrong step of each solution, counted in the file and in the comparisons."""
    rows = [labelled([step(("a", 1), ("b", -1), ("c", 0)), step(("d", 0), ("e", 1)), step(("f", -1), chosen=None)])]
    found = Counter(
        pair for row in rows for item in compare(row, "prm800k") for pair in rated(item) if pair[1] is not None
    )
    assert found == Counter([("a", 1), ("b", -1), ("c", 0), ("d", 0), ("e", 1), ("f", -1)])


def test_lines_without_a_label_have_no_comparison() -> None:
    assert compare(labelled([step(("a", 1))], "bad_problem"), "prm800k") == ()
    assert compare(labelled([step(("a", None), ("b", None))]), "prm800k") == ()
    stuck = labelled(
        [step(("a", 0)), {"completions": None, "human_completion": None, "chosen_completion": None}], "give_up"
    )
    assert [rated(item) for item in compare(stuck, "prm800k")] == [[("a", 0)]]


def test_rows_of_steps() -> None:
    first, wrong, human, last = Comparisons(FIXTURES / "prm800k-rows.jsonl")
    assert rated(first) == [("First I add 12 and 30.", 0)]
    assert rated(wrong) == [("First I add 12 and 30.", None), ("12 + 30 = 32.", -1)]
    assert rated(human)[-1] == ("12 + 30 = 42.", 1), "a person wrote it"
    assert rated(last)[-1] == ("42 - 2 = 40.\n\n# Answer\n\n40", 1)
    assert last.meta == {"is_human_response": False, "is_solution": True, "is_preferred_response": True}
    row = {"instruction": "Q", "responses": [], "next_response": "a"}
    assert [
        compare({**row, "rating": rating}, "prm800k-rows")[0].answers[0].steps[0].rating for rating in (-1.0, 1)
    ] == [-1, 1]
    assert compare({**row, "rating": float("nan")}, "prm800k-rows") == (), "as a table of pandas writes null"


def test_a_file_without_any_label_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"instruction": "Q", "responses": [], "next_response": "a", "rating": null}')
    with pytest.raises(InputError, match="no step in these rows has a rating: rate steps with -1, 0 or 1"):
        len(Comparisons(path))


@pytest.mark.parametrize(
    ("row", "kind", "message"),
    [
        ({"prompt": "Q", "completions": ["a"], "labels": [True, False]}, "stepwise", "1 completions but 2 labels: give one"),
        ({"prompt": "Q", "completions": [], "labels": []}, "stepwise", "0 completions but 0 labels"),
        ({"prompt": "Q", "completions": "a", "labels": [1]}, "stepwise", "'completions' is a JSON string: make it a list"),
        ({"prompt": "Q", "completions": ["a"], "labels": [-1]}, "stepwise", "label 1 is .*: make it true or false"),
        ({"prompt": "Q", "completions": ["a", " "], "labels": [1, 1]}, "stepwise", "completion 2 is empty"),
        (labelled([step(("a", 2))]), "prm800k", "the rating of completion 1 of step 1 is 2: make it -1"),
        (labelled([step(("a", 1), chosen=1)]), "prm800k", "'chosen_completion' of step 1 is 1: make it 0 to 0, or null"),
        (labelled([step(("a", 1)), step(("", 1))]), "prm800k", "completion 1 of step 2 is empty"),
        (labelled([step(("a", 1))], "solved"), "prm800k", "unknown finish_reason 'solved'"),
        (labelled(["a"]), "prm800k", "step 1 is a JSON string: make it an object"),  # type: ignore[list-item]
        ({"question": {"problem": "Q"}, "label": 1}, "prm800k", "'label' is a JSON number: make it an object"),
        ({"question": {}, "label": labelled([])["label"]}, "prm800k", "'problem' is missing"),
        (labelled([{**step(("a", 1)), "completions": ["a"]}]), "prm800k", "completion 1 of step 1 is a JSON string"),
        ({"instruction": "Q", "responses": [], "next_response": "a", "rating": 0.5}, "prm800k-rows", "'rating' is 0.5"),
        ({"instruction": "Q", "responses": [], "next_response": "", "rating": 1}, "prm800k-rows", "'next_response' is empty"),
        ({"instruction": "Q", "responses": None, "next_response": "a", "rating": 1}, "prm800k-rows", "'responses' is a JSON"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(row: dict[str, Any], kind: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        compare(row, kind)
