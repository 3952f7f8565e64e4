"""What differs between two models: the rule of style, the numbers, and models whose difference is known."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from burnish.core.losses import NLL
from burnish.data import units
from burnish.data.chat import Chat
from burnish.engines.local import Engine, LocalModel
from burnish.errors import InputError
from burnish.loops.differ import PROMPTS, Compared, Span, by_place, compare, exchanges, spans, stylistic, summarise
from burnish.types import Message, Sampling
from tiny import model

EXACT = Engine(dtype="float64", device="cpu")
GREEDY = Sampling(max_tokens=24, temperature=0.0)
Z95 = 1.959963984540054


def asked(text: str) -> tuple[Message, ...]:
    return ({"role": "user", "content": text},)


# --- style -----------------------------------------------------------------------------------------


def marked(text: str) -> str:
    """The characters that count as style, white space as it is and all others as dots."""
    flags = stylistic(text, [Span(i, i + 1) for i in range(len(text))])
    return "".join(char if flag else "·" for char, flag in zip(text, flags, strict=True))


@pytest.mark.parametrize(
    ("text", "style"),
    [
        ("Sure! Rome is.", "Sure! ···· ··."),
        ("Make sure of it", "···· ···· ·· ··"),
        ("The first is. First, go", "··· ····· ··. First, ··"),
        ("Surely Hints", "······ ·····"),
        ("It is, however, so", "·· ··, however, ··"),
        ("I’m sorry, no", "I’m sorry, ··"),
        ("at 10:30, 3.14 or 1,000.", "·· ·····, ···· ·· ·····."),
        ("don't 'quote'", "····· '·····'"),
        ("1. Eggs\n- milk\n## Tea", "1. ····\n- ····\n## ···"),
        ("3 - 1 * 2 = (a+b)[0]", "· · · · · · ········"),
        ("**Yes** `x`\n---", "**···** `·`\n---"),
        ("Well\nSo it goes", "Well\nSo ·· ····"),
        ("Fine 🙂", "···· 🙂"),
    ],
    ids=lambda text: text.split("\n")[0],
)
def test_the_rule_of_style_is_what_it_says(text: str, style: str) -> None:
    assert marked(text) == style


def test_a_token_is_style_only_as_a_whole() -> None:
    text = "Sure, Rome."
    assert stylistic(text, [Span(0, 2), Span(2, 5), Span(5, 10), Span(10, 11), Span(4, 7)]) == [
        True, True, False, True, False,
    ]  # fmt: skip


def byte_chat() -> Chat:
    """One token a byte."""
    backend = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(pre_tokenizers.ByteLevel.alphabet())}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return Chat(PreTrainedTokenizerFast(tokenizer_object=backend), frozenset())


def test_the_bytes_of_a_character_share_its_span() -> None:
    chat = byte_chat()
    tokens = chat.tokenizer("aé🙂b")["input_ids"]
    text, found = spans(chat, tokens)
    assert text == "aé🙂b"
    assert found == [Span(0, 1), *[Span(1, 2)] * 2, *[Span(2, 3)] * 4, Span(3, 4)]
    cut, found = spans(chat, tokens[:5])
    assert len(found) == 5 and found[-1].end == len(cut), "an answer may be cut within a character"


# --- numbers ---------------------------------------------------------------------------------------


def item(ranks: list[int], style: list[bool], kl: list[float], **changes: Any) -> Compared:
    """An answer of one letter a token."""
    size = len(ranks)
    found = Compared(
        prompt="p",
        other="",
        text="x" * size,
        same=False,
        tokens=tuple(range(size)),
        places=tuple(Span(i, i + 1) for i in range(size)),
        style=tuple(style),
        ranks=tuple(ranks),
        own_ranks=(1,) * size,
        favourites=(9,) * size,
        kl=tuple(kl),
        kl_back=(0.5,) * size,
    )
    return replace(found, **changes)


ITEMS = [
    item([1, 2, 4, 90], [True, False, True, False], [0.0, 0.1, 1.0, 3.0], same=True),
    item([3, 1], [False, True], [0.2, 0.0]),
    item([5, 1, 1], [True, True, False], [2.0, 0.0, 0.1]),
]


def by_hand(sums: list[float], sizes: list[float]) -> tuple[float, float]:
    """The ratio and its half width, in the words of the formula."""
    mean, n = sum(sums) / sum(sizes), len(sizes)
    residuals = sum((s - mean * size) ** 2 for s, size in zip(sums, sizes, strict=True))
    return mean, Z95 * math.sqrt(n / (n - 1) * residuals) / sum(sizes)


def test_shares_and_divergences_are_ratios_over_prompts() -> None:
    found = summarise(ITEMS)
    assert (found["n"], found["tokens"], found["same"]) == (3, 9, 1)
    sums: dict[str, tuple[list[float], list[float]]] = {
        "unshifted": ([1, 1, 2], [4, 2, 3]),
        "marginal": ([1, 1, 0], [4, 2, 3]),
        "shifted": ([2, 0, 1], [4, 2, 3]),
        "stylistic": ([2, 1, 2], [4, 2, 3]),
        "stylistic/shifted": ([1, 0, 1], [2, 0, 1]),
        "kl": ([4.1, 0.2, 2.1], [4, 2, 3]),
    }
    for name, (counted, sizes) in sums.items():
        mean, half = by_hand(counted, sizes)
        high = mean + half if name == "kl" else min(1, mean + half)
        expected = {"mean": mean, "low": max(0, mean - half), "high": high, "n": sum(sizes)}
        assert found[name] == pytest.approx(expected, abs=1e-12), name
    assert found["kl_back"]["mean"] == 0.5


def test_a_share_without_spread_has_wilsons_interval_over_prompts() -> None:
    found = summarise(ITEMS)["shifted/own"]
    assert found["mean"] == 0 and found["low"] == pytest.approx(0, abs=1e-12)
    assert found["high"] == pytest.approx(Z95**2 / (3 + Z95**2)), "three prompts, not nine tokens"


def test_one_prompt_has_no_interval_and_no_token_no_mean() -> None:
    found = summarise([ITEMS[1]])
    assert found["unshifted"] == {"mean": 0.5, "low": None, "high": None, "n": 2}
    assert found["stylistic/shifted"] == {"mean": None, "low": None, "high": None, "n": 0}


def test_by_place_every_token_is_in_one_stretch() -> None:
    found = by_place(ITEMS)
    assert [(each["first"], each["last"]) for each in found] == [(1, 1), (2, 4)]
    assert [each["shifted"]["n"] for each in found] == [3, 6]
    assert [each["shifted"]["mean"] for each in found] == pytest.approx([1 / 3, 2 / 6])
    assert [each["kl"]["mean"] for each in found] == pytest.approx([2.2 / 3, 4.2 / 6])
    long = by_place([item([9] * 17, [True] * 17, [1.0] * 17)])
    assert [(each["first"], each["last"]) for each in long] == [(1, 1), (2, 4), (5, 16), (17, 17)]


def test_exchanges_count_shifted_tokens_only() -> None:
    first = item([9, 9, 1], [True, False, True], [0.0] * 3, tokens=(4, 5, 4), favourites=(7, 8, 4))
    second = item([9, 2], [False, False], [0.0] * 2, tokens=(4, 5), favourites=(7, 8))
    assert exchanges([first, second]) == [(7, 4, 2, False), (8, 5, 1, False)]
    assert exchanges([first]) == [(7, 4, 1, True), (8, 5, 1, False)]


# --- models ----------------------------------------------------------------------------------------


def test_a_model_compared_with_itself_has_not_moved(nano: Path) -> None:
    policy = LocalModel(nano, EXACT)
    items = compare(policy, LocalModel(nano, EXACT), [asked(text) for text in PROMPTS[:3]], GREEDY, 0)
    found = summarise(items)
    assert found["same"] == found["n"] == 3 and found["unshifted"]["mean"] == 1
    assert found["shifted"]["mean"] == 0 and found["stylistic/shifted"]["mean"] is None
    assert all(abs(x) < 1e-9 for each in items for x in (*each.kl, *each.kl_back))
    assert exchanges(items) == []


LETTERS = "qrs?Sue! itnoy#"
ANSWERS = {"q?": "it is so#", "r?": "it is not#", "s?": "no it is not so#"}


def taught(home: Path, out: Path, opening: str) -> LocalModel:
    """A small model that has learned the answers by heart, each with this opening."""
    policy = LocalModel(home, Engine(dtype="float32", device="cpu"))
    rows = []
    for question, answer in ANSWERS.items():
        prompt, reply = ([LETTERS.index(letter) for letter in text] for text in (question, opening + answer))
        rows.append((units.Row(tuple(prompt), tuple(reply), (True,) * len(reply)),))
    batch = NLL().prepare(units.collate(rows))
    for _ in range(120):
        policy.forward_backward(batch, NLL())
        policy.optim_step(0.02)
    out.mkdir()
    policy.export(out)
    return policy


def test_of_a_model_that_learned_an_opening_the_opening_shifts(tmp_path: Path) -> None:
    plain = taught(model(tmp_path / "0", LETTERS, "#"), tmp_path / "1", "")
    styled = taught(tmp_path / "1", tmp_path / "2", "Sure! ")
    items = compare(plain, styled, [asked(question) for question in ANSWERS], GREEDY, 0)
    for each, answer in zip(items, ANSWERS.values(), strict=True):
        assert (each.other, each.text) == (answer, f"Sure! {answer}")
        assert each.style[:6] == (True,) * 6 and each.style[-1] is True, "the end of the turn is style too"
        assert each.shifted[0] and sum(each.shifted[:5]) >= 4 and not each.shifted[-1]
    found, stretches = summarise(items), by_place(items)
    assert found["stylistic/shifted"]["low"] > found["stylistic"]["high"]
    assert stretches[0]["shifted"]["mean"] == 1 > stretches[-1]["shifted"]["mean"]
    assert stretches[0]["kl"]["mean"] > stretches[-1]["kl"]["mean"] > 0
    top = exchanges(items)[0]
    assert top.style and top.times >= 2
    back = summarise(compare(styled, plain, [asked(question) for question in ANSWERS], GREEDY, 0))
    assert back["shifted"]["mean"] < found["shifted"]["mean"], "what B no longer says does not shift"


def test_sampled_answers_repeat_and_show_what_sampling_alone_shifts(nano: Path) -> None:
    policy, prompts = LocalModel(nano, EXACT), [asked("Hi"), asked("Ho")]
    warm = replace(GREEDY, temperature=1.0)
    first = compare(policy, policy, prompts, warm, 0)
    assert compare(policy, policy, prompts, warm, 0) == first != compare(policy, policy, prompts, warm, 1)
    found = summarise(first)
    assert found["shifted"]["mean"] == found["shifted/own"]["mean"] > 0.5, "nano is near to uniform"


def test_what_cannot_be_compared_is_refused(nano: Path, tmp_path: Path) -> None:
    policy = LocalModel(nano, EXACT)
    with pytest.raises(InputError, match="no prompt to compare"):
        compare(policy, policy, [], GREEDY, 0)
    other = LocalModel(model(tmp_path / "a", "ab.", "."), EXACT)
    with pytest.raises(InputError, match="different tokenizers"):
        compare(policy, other, [asked("a")], GREEDY, 0)
