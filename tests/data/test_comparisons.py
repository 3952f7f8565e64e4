"""Every layout of judged answers becomes the same record; every mistake is named with its row and its fix."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from burnish.data.chat import Chat
from burnish.data.comparisons import Comparisons, compare, comparisons
from burnish.data.kinds import kind
from burnish.data.rows import load_rows
from burnish.data.units import collate, encode
from burnish.errors import InputError
from burnish.types import Answer, Comparison, Message

FIXTURES = Path(__file__).parent / "fixtures"
JUDGED = sorted(
    path.stem
    for path in FIXTURES.iterdir()
    if path.stem not in ("text", "messages", "sharegpt", "prompt-completion", "prompt-only")
)


def user(content: str) -> Message:
    return {"role": "user", "content": content}


def assistant(content: str) -> tuple[Message, ...]:
    return ({"role": "assistant", "content": content},)


def system(content: str) -> Message:
    return {"role": "system", "content": content}


def fixture(name: str) -> tuple[Comparison, ...]:
    return tuple(Comparisons(FIXTURES / f"{name}.jsonl"))


def pair(prompt: str, chosen: str, rejected: str) -> Comparison:
    return Comparison((user(prompt),), (Answer(assistant(chosen), 0), Answer(assistant(rejected), 1)))


SKY = pair("What colour is the sky?", "It is blue.", "It is green.")


@pytest.mark.parametrize("name", JUDGED)
def test_every_public_layout_can_be_trained_on(name: str, chatml: Chat) -> None:
    items = fixture(name)
    units = [encode(chatml, item) for item in items]
    batch = collate(units)
    assert len(batch) == sum(len(item.answers) for item in items)
    assert bool(batch.mask.any(1).all())
    # Each layout says something about every one of its answers.
    assert batch.ranks is not None
    judged = [
        batch.ranks >= 0,
        *(~target.isnan() for target in batch.targets.values()),
        *((extra >= 0).any(1) for key, (_, extra) in batch.extras.items() if key == "ratings"),
    ]
    assert all(any(bool(each[row]) for each in judged) for row in range(len(batch)))


@pytest.mark.parametrize("name", JUDGED)
def test_a_table_holds_the_same_comparisons(name: str, tmp_path: Path) -> None:
    """A table has null where a row lacks a column or a message lacks a key."""
    rows = load_rows(FIXTURES / f"{name}.jsonl")
    columns = {column: None for row in rows for column in row}
    for row in rows:
        pq.write_table(pa.Table.from_pylist([{**columns, **row}]), tmp_path / "a.parquet")
        found = compare(load_rows(tmp_path / "a.parquet")[0], kind(rows))
        assert [(one.prompt, one.answers) for one in found] == [
            (one.prompt, one.answers) for one in compare(row, kind(rows))
        ]


def test_pairs_standard_and_conversational() -> None:
    first, _, last = fixture("preference")
    assert first == pair("The sky is", " blue.", " green.")
    assert last.meta == {"source": "chemistry"}
    sky, keys, _ = fixture("preference-messages")
    assert sky == SKY
    assert keys.prompt[0] == system("Be kind.") and keys.prompt[-1] == user("In the hall.")


def test_implicit_prompts_of_texts_end_at_a_white_space() -> None:
    sky, question, sums = fixture("preference-implicit")
    assert sky == pair("The sky is", "blue.", "green.")
    assert question == pair("Q: What is 2 + 2?\nA:", "four", "five, I think")
    assert sums == pair("Two plus two is", "four.", "fourteen."), "not in the middle of a word"
    same = comparisons([{"chosen": "The sky is blue.", "rejected": "The sky is blue."}])
    assert same == [pair("The sky is", "blue.", "blue.")]
    longer = comparisons([{"chosen": "The sky is", "rejected": "The sky is blue."}])
    assert longer == [pair("The sky", "is", "is blue.")], "no answer is empty"


def test_implicit_prompts_of_conversations_are_the_messages_they_share() -> None:
    sky, birds, hello = fixture("preference-implicit-messages")
    assert sky == SKY
    assert len(birds.prompt) == 4 and birds.prompt[-1] == user("Another?")
    assert [len(answer.messages) for answer in hello.answers] == [1, 3], "an answer may go on for several turns"
    same = [user("Hi"), *assistant("Yo")]
    assert comparisons([{"chosen": same, "rejected": same}]) == [pair("Hi", "Yo", "Yo")]
    with_system = comparisons([{"system": "Be brief.", "chosen": same, "rejected": same}])
    assert with_system[0].prompt == (system("Be brief."), user("Hi"))


def test_whole_conversations_beside_their_prompt_and_in_one_string() -> None:
    planet = fixture("ultrafeedback")[0]
    assert planet.prompt == (user("Name a planet."),)
    assert [answer.scores for answer in planet.answers] == [{"score": 8.5}, {"score": 3.0}]
    assert set(planet.meta) == {"prompt_id", "messages"}
    egg, river, _ = fixture("hh")
    assert egg == pair("How do I boil an egg?", "Eight minutes in boiling water.", "Eggs come from hens.")
    assert [message["content"] for message in river.prompt] == ["Name a river.", "The Elbe.", "Where does it end?"]


def test_sharegpt_pairs() -> None:
    bird, tree, fish = fixture("sharegpt-preference")
    assert bird == pair("Name a bird.", "A wren.", "Bird.")
    assert tree.prompt[0] == system("Be brief.") and len(tree.prompt) == 4
    assert fish == pair("Name a fish.", "A pike.", "A whale.")


def test_soft_labels_and_margins() -> None:
    tea, earth, _ = fixture("soft")
    assert [(answer.rank, answer.label, answer.scores) for answer in tea.answers] == [
        (0, 0.6, {"margin": 0.5}),
        (1, 0.4, {"margin": 0.5}),
    ]
    assert [answer.label for answer in earth.answers] == [1, 0]
    assert tea.meta == {}


def test_edited_answers_are_the_best() -> None:
    greeting, thanks, _ = fixture("edited")
    assert [(answer.rank, answer.messages[0]["content"]) for answer in greeting.answers] == [
        (0, "Good morning, and welcome."),
        (1, "Good morning and welcom."),
        (2, "Morning."),
    ]
    assert thanks == pair("Say thanks.", "Thank you very much.", "Ok."), "not every pair was edited"
    row = {"prompt": "a", "edited": "b", "chosen": "c", "rejected": "d", "chosen_prob": 0.75, "score_edited": 3}
    edited, chosen, rejected = comparisons([row])[0].answers
    assert (edited.label, chosen.label, rejected.label) == (None, 0.75, 0.25)
    assert edited.scores == {"score": 3}


def test_rankings_are_dense_and_keep_their_ties() -> None:
    sea, river, ten = fixture("nectar")
    assert sea.prompt == (user("Why is the sea salty?"),)
    assert [answer.rank for answer in sea.answers] == [0, 1, 2]
    assert [answer.rank for answer in river.answers] == [1, 0, 1, 2]
    assert len(river.prompt) == 3
    assert [answer.rank for answer in ten.answers] == [0, 1]
    assert sea.meta["models"] == ["alpha", "beta", "gamma"] and sea.meta["num_response"] == 3


def test_labels_and_scores_of_single_answers() -> None:
    blue, green, *_ = fixture("unpaired")
    assert blue == Comparison((user("The sky is"),), (Answer(assistant(" blue."), label=1.0),))
    assert green.answers[0].label == 0.0
    haiku, _, rust, _ = fixture("helpsteer2")
    values = {"helpfulness": 4, "correctness": 4, "coherence": 4, "complexity": 1, "verbosity": 1}
    assert haiku.answers[0].scores == values and haiku.answers[0].rank is None
    assert [message["role"] for message in rust.prompt] == ["user", "assistant", "user"]
    some = comparisons([{"prompt": "a", "response": "b", "score": 0.5, "helpfulness": None, "id": 7}])
    assert some[0].answers[0].scores == {"score": 0.5} and some[0].meta == {"id": 7}


GOOD: dict[str, dict[str, Any]] = {
    "preference": {"prompt": "a", "chosen": "b", "rejected": "c"},
    "ranked": {"prompt": "a", "answers": [{"answer": "b", "rank": 1}, {"answer": "c", "rank": 2}]},
    "unpaired": {"prompt": "a", "completion": "b", "label": True},
    "attributes": {"prompt": "a", "response": "b", "helpfulness": 1},
}
TALK = [user("Hi"), *assistant("Yo")]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("preference", {"chosen": ""}, r"message 1 of 'chosen' \(assistant\) is empty"),
        ("preference", {"rejected": None}, "column 'rejected' is missing"),
        ("preference", {"chosen_prob": 1.5}, "'chosen_prob' is 1.5: it has to be between 0 and 1"),
        ("preference", {"margin": "wide"}, "'margin' is 'wide': make it a number"),
        ("preference", {"score_rejected": True}, "'score_rejected' is a JSON boolean: make it a number"),
        ("preference", {"prompt": None}, "no column 'prompt', and the answers begin with no common text: add"),
        ("preference", {"prompt": None, "question": "a"}, "but one called 'question': rename it to 'prompt'"),
        ("preference", {"prompt": None, "chosen": TALK}, "no prompt: add a column 'prompt', or begin 'rejected'"),
        ("preference", {"chosen": TALK, "rejected": TALK}, "do not begin with the column 'prompt': remove that"),
        ("preference", {"prompt": None, "chosen": TALK[:1], "rejected": TALK}, "does not end with an assistant"),
        (
            "preference",
            {"prompt": None, "chosen": [*TALK, user("A?"), *assistant("B")], "rejected": [*TALK, user("C?"), *assistant("D")]},
            "differ in message 3, which is a user message: they have to be the same up to a reply",
        ),
        ("ranked", {"answers": []}, "'answers' is no list of two answers or more"),
        ("ranked", {"answers": GOOD["ranked"]["answers"][:1]}, "'answers' is no list of two answers or more"),
        ("ranked", {"answers": ["b", "c"]}, "answer 1 is a JSON string: make it an object with 'answer' and 'rank'"),
        ("ranked", {"answers": [{"answer": "b", "rank": "first"}] * 2}, "answer 1 of 'answers': .*'first': make it a num"),
        ("ranked", {"answers": [{"answer": "b"}] * 2}, "answer 1 of 'answers' has no rank: give it one, 1 for the best"),
        ("ranked", {"answers": [{"answer": "", "rank": 1}] * 2}, "answer 1 of 'answers': .* is empty"),
        ("unpaired", {"label": "yes"}, r"column 'label' is 'yes': make it true or false \(or 1 or 0\)"),
        ("unpaired", {"label": None}, "column 'label' is null: make it true or false"),
        ("unpaired", {"label": 2}, "column 'label' is a JSON number: make it true or false"),
        ("unpaired", {"completion": " "}, "is empty"),
        ("attributes", {"helpfulness": None}, "the answer has no score: fill at least one of helpfulness"),
        ("attributes", {"helpfulness": "high"}, "'helpfulness' is 'high': make it a number"),
        ("attributes", {"response": ""}, "is empty"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_used_are_named_by_number(name: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^row 3: .*{message}"):
        comparisons([GOOD[name], GOOD[name], {**GOOD[name], **change}])


def test_rows_that_compare_nothing() -> None:
    with pytest.raises(InputError, match="rows of kind 'prompt-only' compare nothing: give rows of kind preference"):
        comparisons([{"prompt": "a"}])


def test_the_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        "\n".join(json.dumps(row) for row in (GOOD["attributes"], {**GOOD["attributes"], "helpfulness": "x"}))
    )
    with pytest.raises(InputError, match=r"a\.jsonl: row 2: column 'helpfulness'"):
        len(Comparisons(path))
