"""Conversations and comparisons as rows of units."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from burnish.data import units
from burnish.data.chat import Chat
from burnish.data.units import Row
from burnish.errors import InputError
from burnish.types import Answer, Comparison, Example, Message, Step


@pytest.fixture(scope="module")
def chat(nano: Path) -> Chat:
    return Chat.load(nano)


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}


def answer(text: str, **known: object) -> Answer:
    return Answer((assistant(text),), **known)  # type: ignore[arg-type]


def test_supervised_starts_at_the_first_trained_token() -> None:
    texts = [((1, 2, 3, 4), (False, False, True, True)), ((5, 6, 7, 8), (False, True, False, True))]
    batch = units.collate([units.supervised(*text) for text in texts])
    assert [p.tolist() for p in batch.prompts] == [[1, 2], [5]]
    assert batch.tokens.tolist() == [[3, 4, 0], [6, 7, 8]]
    assert batch.mask.tolist() == [[True, True, False], [True, False, True]]
    assert batch.lengths.tolist() == [2, 3] and batch.train.all()
    assert batch.sampler_logprobs is None and batch.token_rewards is None and batch.ref_logprobs is None


def test_a_row_trained_from_its_first_token_keeps_that_one_as_prompt() -> None:
    batch = units.collate([units.supervised((1, 2, 3), (True, True, True))])
    assert batch.prompts[0].tolist() == [1] and batch.tokens.tolist() == [[2, 3]] and batch.mask.all()


def test_a_row_without_a_trained_token_is_an_error() -> None:
    with pytest.raises(ValueError):
        units.supervised((1, 2), (False, False))


def test_a_comparison_is_one_unit_whose_rows_share_the_prompt(chat: Chat) -> None:
    ranked = Comparison((user("2+2?"),), (answer("5", rank=7), answer("4", rank=1), answer("four", rank=7)))
    batch = units.collate([units.encode(chat, ranked), units.encode(chat, ranked)])
    assert batch.units.tolist() == [0, 0, 0, 1, 1, 1] and batch.groups.tolist() == [0] * 6
    assert batch.ranks is not None and batch.ranks.tolist() == [1, 0, 1] * 2  # dense, ties alike
    assert all(torch.equal(p, batch.prompts[0]) for p in batch.prompts)
    assert chat.decode(batch.tokens[2, : batch.lengths[2]].tolist(), special=True) == "four<|end|>"
    # The end-of-turn token is trained, and is formatting.
    assert batch.mask[2].sum() == batch.lengths[2] == batch.extra("content")[2].sum() + 1


def test_earlier_assistant_messages_of_the_prompt_are_not_trained(chat: Chat) -> None:
    prompt = (user("hi"), assistant("yo"), user("again"))
    (row,) = units.encode(chat, Comparison(prompt, (answer("ok"),)))
    assert chat.decode(row.tokens, special=True) == "ok<|end|>" and all(row.mask) and row.rank == -1


def test_the_last_assistant_message_only(chat: Chat) -> None:
    talk = Example((user("hi"), assistant("yo"), user("again"), assistant("ok")))
    (every,), (last,) = units.encode(chat, talk), units.encode(chat, talk, last_only=True)
    assert chat.decode([t for t, m in zip(every.tokens, every.mask, strict=True) if m]) == "yook"
    assert chat.decode([t for t, m in zip(last.tokens, last.mask, strict=True) if m]) == "ok"


def test_targets_are_nan_where_a_row_has_none(chat: Chat) -> None:
    two = Comparison((user("x"),), (answer("a", label=0.8, scores={"score": 3.0}), answer("b", label=0.2)))
    one = Comparison((user("y"),), (answer("c", scores={"clarity": 1.0}),))
    batch = units.collate([units.encode(chat, two), units.encode(chat, one)])
    assert batch.targets["label"].tolist()[:2] == [0.8, 0.2] and math.isnan(batch.targets["label"][2])
    assert batch.targets["score"][0] == 3 and batch.targets["score"][1:].isnan().all()
    assert batch.select([2]).targets["clarity"].tolist() == [1.0]


def test_ratings_stand_at_the_last_token_of_their_step(chat: Chat) -> None:
    steps = (Step("1+1=2\n", 1), Step("so 3\n", -1), Step("end"))
    stepped = Comparison((user("x"),), (answer("1+1=2\nso 3\nend", steps=steps),))
    batch = units.collate([units.encode(chat, stepped)])
    ends = [(i, r) for i, r in enumerate(batch.extra("ratings")[0].tolist()) if r >= 0]
    assert [r for _, r in ends] == [2, 0]
    text = [chat.decode(batch.tokens[0, : i + 1].tolist()).rstrip() for i, _ in ends]
    assert text == ["1+1=2", "1+1=2\nso 3"]


def test_mismatched_units_have_the_answer_to_another_prompt() -> None:
    def unit(prompt: int, reply: int) -> units.Unit:
        return (Row((prompt,), (reply,), (True,)),)

    found = units.mismatch([unit(1, 10), unit(1, 11), unit(2, 20)])
    assert [(u[0].prompt, u[0].tokens) for u in found] == [((1,), (20,)), ((1,), (20,)), ((2,), (10,))]
    batch = units.collate([unit(1, 10), *found])
    assert batch.train.tolist() == [True, False, False, False]
    assert batch.extra("mismatched").tolist() == [False, True, True, True]
    with pytest.raises(InputError, match="all prompts are the same"):
        units.mismatch([unit(1, 10), unit(1, 11)])


def test_no_answer_is_an_error(chat: Chat) -> None:
    with pytest.raises(InputError, match="without an answer"):
        units.encode(chat, Comparison((user("x"),), ()))


def test_a_text_is_cut_into_windows_that_predict_every_token_once(chat: Chat) -> None:
    text = "Once there was a number, and it grew."
    tokens = [*chat.tokenizer(text)["input_ids"], chat.tokenizer.eos_token_id]
    for length in (2, 3, 7, len(tokens) - 1, len(tokens), 500):
        rows = [row for unit in units.windows(chat, text, length) for row in unit]
        assert [token for row in rows for token in row.tokens] == tokens[1:], "each after the first, once, in order"
        assert all(len(row) <= length and len(row.prompt) == 1 and all(row.mask) for row in rows)
        assert [row.prompt[0] for row in rows] == [tokens[0], *(row.tokens[-1] for row in rows[:-1])]
    with pytest.raises(InputError, match="windows of 1 tokens predict nothing"):
        units.windows(chat, text, 1)
