"""Thinking within a budget: its minimum and maximum are obeyed exactly, and what is forced is not trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from burnish.core import keys
from burnish.core.algorithms import REINFORCE
from burnish.data.batching import collate
from burnish.engines.controls import think
from burnish.engines.decode import LocalSampler
from burnish.errors import InputError
from burnish.sampling import Sampling, Thinking
from burnish.types import Completion, Request, Rollout, outcome
from controlled import LETTERS, SHORT, WORDS, asked, lettered, same, sampled, worded
from tiny import plain_distributions, plain_network
from words import END


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> LocalSampler:
    return lettered(tmp_path_factory.mktemp("letters"))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> LocalSampler:
    return worded(tmp_path_factory.mktemp("table"))


def by_hand(request: Request, limit: int) -> tuple[list[str], list[bool], str]:
    """Budget forcing on the table of words, word by word, where a closing is one token."""
    budget = request.sampling.thinking
    assert budget is not None
    names = list(dict.fromkeys([*WORDS, *(w for row in WORDS.values() for w in row if w != END), END]))
    said, mask, waits = list[str](), list[bool](), 0
    while len(said) < limit:
        if "</think>" not in said and 0 < budget.maximum <= len(said):
            said, mask = [*said, "</think>"], [*mask, False]
            continue
        key = keys.derive(request.key, "wait", waits) if waits else request.key
        rest, row = keys.uniforms(key, limit)[len(said)], WORDS[said[-1] if said else "ask"]
        for word in sorted(row, key=names.index):
            rest -= row[word]
            if rest < 0:
                break
        early = len(said) < budget.minimum and (budget.waits is None or waits < budget.waits)
        if word in ("</think>", END) and "</think>" not in said and early:
            said, mask, waits = [*said, "Wait"], [*mask, False], waits + 1
            continue
        said, mask = [*said, word], [*mask, True]
        if word == END:
            return said, mask, "eos"
    return said, mask, "length"


@pytest.mark.parametrize(
    "budget",
    [
        Thinking(),
        Thinking(minimum=3),
        Thinking(maximum=3),
        Thinking(minimum=4, maximum=4),
        Thinking(minimum=2, maximum=5),
        Thinking(minimum=9, waits=2),
    ],
    ids=str,
)
def test_thinking_is_what_it_is_by_hand(table: LocalSampler, budget: Thinking) -> None:
    sampling = Sampling(14, thinking=budget)
    wanted = [Request((0,), keys.derive("hand", i), sampling) for i in range(300)]
    for request, found in zip(wanted, sampled(table, wanted), strict=True):
        words, mask, finish = by_hand(request, 14)
        said = [table.model.chat.decode([token], special=True) for token in found.tokens]
        assert (said, list(found.chosen), found.finish) == (words, mask, finish)


@pytest.mark.parametrize("wait", ["W", "aWb"])
@pytest.mark.parametrize(("minimum", "maximum"), [(0, 5), (6, 0), (6, 6), (4, 9), (1, 2)])
def test_the_budget_is_obeyed_exactly(letters: LocalSampler, minimum: int, maximum: int, wait: str) -> None:
    """With a closing of two tokens, which a budget can cut in the middle."""
    wanted = asked(Sampling(24, thinking=Thinking("<>", minimum, maximum, wait), begin="ba"), 200)
    lengths, forcing = Counter[int](), Counter[bool]()
    for found in sampled(letters, wanted):
        thought, closing, _ = found.text[2:].partition("<>")
        lengths[len(thought)] += bool(closing)
        forcing.update(found.mask[2:])
        assert len(thought) >= minimum and found.mask[:2] == (False, False)
        assert not maximum or len(thought) <= maximum
        closed = found.chosen[2 + len(thought) :][:2]
        if maximum and len(thought) == maximum:
            assert closed == (False, False)
        elif closing:
            assert closed == (True, True)
        for place, own in enumerate(found.chosen[2 : 2 + len(thought)], 2):
            assert own or found.text[place] in wait, "nothing else is forced in between"
    assert (
        lengths[maximum or minimum] > 3 and (len(lengths) > 2 or maximum - minimum < 2) and min(forcing.values()) > 20
    )


def test_what_is_said_after_waiting_is_drawn_afresh(letters: LocalSampler) -> None:
    """The closing that is taken back was drawn from a uniform of the place where the policy now goes on: were it used again,
    nothing but ">" would follow.
    """
    sampling = Sampling(20, thinking=Thinking("<>", 2, 0, "W"))
    found = sampled(letters, [Request((0,), keys.derive("fresh", i), sampling) for i in range(6000)])
    after = [c.text[1] if len(c.text) > 1 else "." for c in found if c.mask and not c.mask[0]]
    rows = [Rollout((0, 4), (token,), (True,), (0.0,), (), 0, token) for token in range(len(LETTERS))]
    chances = letters.model.forward(collate(rows)).logprobs[:, 0].exp().tolist()
    counts = Counter(after)
    assert len(after) > 200
    for letter, chance in zip("ab", chances, strict=False):
        assert counts[letter] / len(after) == pytest.approx(chance, abs=4 * (chance * (1 - chance) / len(after)) ** 0.5)


def forced_at_two(network: Any) -> dict[tuple[int, ...], tuple[tuple[bool, ...], Tensor]]:
    """Every completion of at most 5 tokens whose thought is closed at two, its mask, and the log-prob of what was chosen."""
    found: dict[tuple[int, ...], tuple[tuple[bool, ...], Tensor]] = {}

    def grow(tokens: tuple[int, ...], mask: tuple[bool, ...], logprob: Tensor) -> None:
        if len(tokens) == 5 or tokens[-1:] == (5,):
            found[tokens] = mask, logprob
        elif len(tokens) == 2 and tokens != (2, 3):
            grow((*tokens, 2, 3), (*mask, False, False), logprob)
        else:
            for token, row in enumerate(plain_distributions(network, (0,), (*tokens, 0))[-1]):
                grow((*tokens, token), (*mask, True), logprob + row)

    grow((), (), torch.zeros((), dtype=torch.float64))
    return found


def test_under_a_maximum_the_gradient_is_exact(letters: LocalSampler) -> None:
    """Its expectation over every completion is the gradient of the expected reward, whatever the baseline."""
    model, network = letters.model, plain_network(letters.model.directory)
    every = forced_at_two(network)
    chances = torch.stack([logprob for _, logprob in every.values()]).exp()
    assert float(chances.detach().sum()) == pytest.approx(1, abs=1e-12)
    sampling = Sampling(5, thinking=Thinking("<>", 0, 2))
    for c in sampled(letters, [Request((0,), keys.derive("every", i), sampling) for i in range(200)]):
        assert every[c.tokens][0] == c.chosen and sum(c.logprobs) == pytest.approx(every[c.tokens][1].item(), abs=1e-10)
    rewards = torch.randn(len(every), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (chances * rewards).sum().backward()
    exact = {name: p.grad for name, p in network.named_parameters()}
    rows = [
        Rollout((0,), tokens, mask, (0.0,) * len(tokens), outcome(reward), 0, i)
        for i, ((tokens, (mask, _)), reward) in enumerate(zip(every.items(), rewards.tolist(), strict=True))
    ]
    for baseline in (0.0, 0.7):
        batch = REINFORCE.loss.prepare(REINFORCE.credit(collate(rows, max_tokens=5), {"sum": baseline, "weight": 1.0}))
        weights = {name: w * chances.detach()[:, None] * len(rows) for name, w in batch.weights.items()}
        model.forward_backward(replace(batch, weights=weights), REINFORCE.loss)
        for name, p in model.masters.params.items():
            assert p.grad is not None and (p.grad + exact[name]).norm() < 1e-10 * exact[name].norm(), name
        model.discard_gradient()


def test_an_end_of_turn_closes_too_early_as_well(letters: LocalSampler) -> None:
    budget = Thinking("<>", 5, 0, "W", waits=1)
    found = sampled(letters, asked(Sampling(24, thinking=budget), 200))
    early = [c for c in found if c.finish == "eos" and "<>" not in c.text]
    assert early and all("W" in c.text or len(c.text) >= 5 for c in early)
    assert all(c.chosen.count(False) <= 1 for c in found)


def test_after_so_many_waits_it_may_close(letters: LocalSampler) -> None:
    found = sampled(letters, asked(Sampling(40, thinking=Thinking("<>", 39, 0, "WbW", waits=2)), 200))
    assert {c.chosen.count(False) for c in found} == {2 * 3} and {c.finish for c in found} == {"eos", "length"}
    assert sum(c.text.index("<>") < 39 for c in found if "<>" in c.text) > 10


def test_a_closing_that_overlaps_with_the_forced_one_stands(letters: LocalSampler) -> None:
    """The policy ends its two tokens with the first half of the closing, and its forced one completes it a token early."""
    found = sampled(letters, asked(Sampling(9, thinking=Thinking("aa", 2, 2, "W")), 200))
    assert all(c.tokens[2:4] == (0, 0) and c.chosen[2:4] == (False, False) for c in found)
    assert sum(c.tokens[1] == 0 and c.chosen[1] for c in found) > 3


def test_a_stop_string_that_comes_with_the_closing_stops_there(letters: LocalSampler) -> None:
    found = sampled(letters, asked(Sampling(20, stop=("<>",), thinking=Thinking("<>", 2, 5, "W")), 100))
    assert {c.text.endswith("<>") for c in found if c.finish == "stop"} == {True}
    assert {c.chosen[-1] for c in found if c.finish == "stop"} == {True, False}
    assert {c.finish for c in found} == {"stop", "eos"}


def test_the_limit_ends_thinking_as_well(letters: LocalSampler) -> None:
    """What is forced at the limit is forced as far as there is room."""
    found = sampled(letters, asked(Sampling(6, thinking=Thinking("<>", 0, 5, "W")), 100))
    full = [c for c in found if len(c.tokens) == 6]
    assert {c.finish for c in full} >= {"length"} and max(len(c.tokens) for c in found) == 6
    assert any(c.tokens[5] == 2 and not c.chosen[5] for c in full), "the first token of the closing, and no more"


def test_thinking_works_with_any_sampler_that_goes_on(letters: LocalSampler) -> None:
    calls = list[int]()

    def draw(requests: Sequence[Request]) -> Iterator[Completion]:
        calls.append(len(requests))
        assert all(r.sampling.thinking is None for r in requests)
        return letters.sample(requests)

    wanted = [*asked(Sampling(20, thinking=SHORT), 30), *asked(Sampling(5), 4)]
    found = sorted(think(draw, letters.model.chat, letters.context, wanted), key=lambda c: c.index)
    assert calls[0] == 34 and len(calls) > 2 and all(map(same, found, sampled(letters, wanted)))


def test_thinking_cannot_be_observed(letters: LocalSampler) -> None:
    with pytest.raises(InputError, match="takes tokens back, so it cannot be observed"):
        list(letters.sample(asked(Sampling(9, thinking=SHORT), 2), lambda _rows, _logits: ()))
