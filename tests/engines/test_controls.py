"""Controls of sampling: what is forced is forced exactly, what is chosen is a sample of the policy that is trained."""

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
from burnish.engines.controls import forced, repeats, think
from burnish.engines.decode import LocalSampler
from burnish.engines.local import Engine, LocalModel
from burnish.errors import InputError
from burnish.sampling import Repetition, Sampling, Thinking
from burnish.types import Completion, Request, Rollout, outcome
from tiny import model as tiny_model
from tiny import plain_distributions, plain_network
from words import END, write

LETTERS = "ab<>W."
"""Of the tiny transformer; "." ends its turn. A closing is two of its tokens."""
SHORT = Thinking(close="<>", minimum=4, maximum=7, wait="W")
WORDS = {
    "ask": {"so": 0.4, "hm": 0.3, "</think>": 0.2, END: 0.1},
    "so": {"so": 0.3, "hm": 0.3, "</think>": 0.3, END: 0.1},
    "hm": {"so": 0.5, "</think>": 0.5},
    "Wait": {"so": 0.2, "hm": 0.2, "</think>": 0.5, END: 0.1},
    "</think>": {"one": 0.5, "two": 0.5},
    "one": {"one": 0.4, END: 0.6},
    "two": {"one": 0.1, END: 0.9},
}


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> LocalSampler:
    """A transformer in float64 that writes its closing often."""
    directory = tiny_model(tmp_path_factory.mktemp("letters"), LETTERS, ".", seed=15)
    return LocalSampler(LocalModel(directory, Engine(dtype="float64", device="cpu")))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> LocalSampler:
    directory = write(tmp_path_factory.mktemp("table"), WORDS)
    return LocalSampler(LocalModel(directory, Engine(dtype="float64", device="cpu")))


def asked(sampling: Sampling, count: int = 60, pause: int = 0) -> list[Request]:
    prompts = [(0,), (1, 0, 1)]
    return [Request(prompts[i % 2], keys.derive("controls", i), sampling, pause=pause) for i in range(count)]


def sampled(sampler: LocalSampler, wanted: Sequence[Request]) -> list[Completion]:
    found = sorted(sampler.sample(wanted), key=lambda c: c.index)
    assert [c.index for c in found] == list(range(len(wanted)))
    return found


def rollouts(wanted: Sequence[Request], found: Sequence[Completion]) -> list[Rollout]:
    return [
        Rollout(r.prompt, c.tokens, c.chosen, c.logprobs, (), 0, i, kept=c.kept, kept_ids=c.kept_ids)
        for i, (r, c) in enumerate(zip(wanted, found, strict=True))
    ]


def same(one: Completion, other: Completion) -> bool:
    assert one.logprobs == pytest.approx(other.logprobs, abs=1e-10) and one.kept == pytest.approx(other.kept, abs=1e-10)
    return replace(one, logprobs=(), kept=(), index=0) == replace(other, logprobs=(), kept=(), index=0)


# --- interruptions -------------------------------------------------------------------------------

CONTROLS = {
    "plain": Sampling(20),
    "stop": Sampling(20, stop=("aba", "<>")),
    "cold": Sampling(20, temperature=0.7, top_k=3, truncation="kept"),
    "begin": Sampling(20, begin="<ab"),
    "suppress": Sampling(20, suppress=("a", ".")),
    "repetition": Sampling(20, repetition=Repetition(1, 3, 3)),
    "thinking": Sampling(20, thinking=SHORT),
    "all": Sampling(
        20, top_p=0.9, truncation="kept", stop=("aba",), suppress=("b",), begin="aW", repetition=Repetition(1, 4, 4),
        thinking=replace(SHORT, wait="WWW", waits=2),
    ),
}  # fmt: skip
every_control = pytest.mark.parametrize("name", CONTROLS)


@pytest.mark.parametrize("pause", [1, 2, 3, 7])
@every_control
def test_segments_of_a_completion_concatenate_to_the_one_sample(letters: LocalSampler, name: str, pause: int) -> None:
    wanted = asked(CONTROLS[name])
    whole, parts = sampled(letters, wanted), sampled(letters, [replace(r, pause=pause) for r in wanted])
    interrupted = 0
    while any(c.finish == "paused" for c in parts):
        going = [i for i, c in enumerate(parts) if c.finish == "paused"]
        interrupted += len(going)
        again = sampled(letters, [replace(wanted[i], begun=parts[i], pause=pause) for i in going])
        for i, completion in zip(going, again, strict=True):
            parts[i] = completion
    assert interrupted and all(map(same, whole, parts))


def test_a_pause_is_exactly_as_long_as_was_asked_for(letters: LocalSampler) -> None:
    begun = sampled(letters, asked(CONTROLS["begin"], pause=4))
    assert {len(c.tokens) for c in begun if c.finish == "paused"} == {3 + 4}
    assert {c.mask[:4] for c in begun if c.finish == "paused"} == {(False, False, False, True)}


def test_equal_beginnings_are_read_once(letters: LocalSampler, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = sampled(letters, asked(Sampling(8), 1, pause=3))[0]
    assert begun.finish == "paused"
    sizes, hidden = list[int](), letters.model.hidden
    monkeypatch.setattr(letters.model, "hidden", lambda t, *a: sizes.append(t.numel()) or hidden(t, *a))
    sampled(letters, [Request((0,), i, Sampling(8), begun) for i in range(9)])
    assert sizes[0] == 1 + 3


def test_no_room_is_an_end_at_once(letters: LocalSampler) -> None:
    begun = sampled(letters, asked(Sampling(8), 1, pause=3))[0]
    rows = [Request((0,), 1, Sampling(limit), begun) for limit in (2, 3, 4)]
    long = Request((0,) * 61, 1, Sampling(99), begun)  # the context is 64
    found = sampled(letters, [*rows, long])
    assert [c.tokens == begun.tokens and c.finish == "length" for c in found] == [True, True, False, True]
    assert len(found[2].tokens) == 4


def test_only_what_is_unfinished_goes_on(letters: LocalSampler) -> None:
    begun = sampled(letters, asked(Sampling(8), 1, pause=3))[0]
    for broken, told in (
        (replace(begun, finish="length"), "finished with 'length' does not go on"),
        (replace(begun, logprobs=()), "3 tokens, but 0 log-probs"),
    ):
        for sampling in (Sampling(8), Sampling(8, thinking=SHORT)):
            with pytest.raises(InputError, match=told):
                list(letters.sample([Request((0,), 1, sampling, broken)]))


def test_text_of_ones_own_goes_on_as_forced(letters: LocalSampler) -> None:
    begun = forced(letters.model.chat, (0, 1, 2))
    found = sampled(letters, [Request((0,), i, Sampling(8), begun) for i in range(20)])
    assert {(c.tokens[:3], c.mask[:3], c.logprobs[:3], c.kept[:3]) for c in found} == {
        ((0, 1, 2), (False,) * 3, (0.0,) * 3, (1.0,) * 3)
    }
    longer = sampled(letters, [Request((0, 0, 1, 2), 5, Sampling(8))])[0]
    assert found[5].tokens[3:] != longer.tokens[:5], "a position is that in the completion: other uniforms"


# --- forced and suppressed -----------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@every_control
def test_chosen_tokens_have_the_log_probs_of_the_trainer(letters: LocalSampler, name: str, temperature: float) -> None:
    sampling = replace(CONTROLS[name], temperature=temperature)
    wanted = asked(sampling)
    found = sampled(letters, wanted)
    banned = {"suppress": (0, 5), "all": (1,)}.get(name, ())
    batch = collate(rollouts(wanted, found), temperature=temperature, suppressed=banned)
    trained = letters.model.forward(batch).logprobs
    assert batch.sampler_logprobs is not None
    assert (trained - batch.sampler_logprobs)[batch.mask].abs().max() < 1e-10
    padding = torch.arange(batch.tokens.shape[1]) >= batch.lengths[:, None]
    assert (batch.sampler_logprobs[~batch.mask] == 0).all() and torch.isfinite(trained).all()
    assert bool((~batch.mask & ~padding).any()) == (name in ("begin", "thinking", "all"))


def test_forced_tokens_get_no_gradient(letters: LocalSampler) -> None:
    """Whatever is put in their place: the loss sees the same, as long as nothing is chosen after them."""
    begun = sampled(letters, asked(Sampling(9), 1, pause=4))[0]
    gradients = []
    for text in ((2, 3), (0, 1), ()):
        row = rollouts([Request((0,), 0, Sampling(9))], [forced(letters.model.chat, text, begun)])
        batch = collate(row, max_tokens=9)
        rewarded = replace(batch, advantages=torch.ones(batch.tokens.shape, dtype=torch.float64))
        letters.model.forward_backward(REINFORCE.loss.prepare(rewarded), REINFORCE.loss)
        gradients.append({n: p.grad.clone() for n, p in letters.model.masters.params.items() if p.grad is not None})
        letters.model.discard_gradient()
    for name, gradient in gradients[2].items():
        assert gradient.abs().max() > 0
        assert all(torch.allclose(other[name], gradient, atol=1e-14) for other in gradients[:2]), name


def test_every_completion_begins_as_it_is_told(letters: LocalSampler) -> None:
    found = sampled(letters, asked(CONTROLS["begin"]))
    assert all(c.text.startswith("<ab") and c.mask[:3] == (False,) * 3 and all(c.mask[3:]) for c in found)
    assert {c.messages[0]["content"] == c.text for c in found} == {True}


def test_suppressed_tokens_are_left_out_and_the_others_keep_their_odds(table: LocalSampler) -> None:
    sampling = Sampling(1, suppress=("</think>", END))
    found = sampled(table, [Request((0,), keys.derive("odds", i), sampling) for i in range(4000)])
    counts = Counter(c.text for c in found)
    assert counts.keys() == {"so", "hm"}
    assert counts["so"] / 4000 == pytest.approx(4 / 7, abs=0.03)
    assert {round(float(torch.tensor(c.logprobs[0]).exp()), 6) for c in found} == {round(4 / 7, 6), round(3 / 7, 6)}


def test_rows_with_and_without_suppression_go_together(letters: LocalSampler) -> None:
    settings = [Sampling(9), Sampling(9, suppress=("a",)), Sampling(9, suppress=("b", "."))]
    wanted = [replace(r, sampling=settings[i % 3]) for i, r in enumerate(asked(settings[0]))]
    alone = [sampled(letters, [replace(r)])[0] for r in wanted]
    assert all(map(same, sampled(letters, wanted), alone))


@pytest.mark.parametrize(
    ("control", "told"),
    [
        ({"suppress": ("ab",)}, "suppress='ab' is not one token of this model's vocabulary, which reads 'a', 'b'"),
        ({"suppress": ("é",)}, "suppress='é' is not one token"),
        ({"suppress": ("",)}, "suppress='' is not one token of this model's vocabulary, which reads nothing"),
        ({"suppress": tuple(LETTERS)}, "every token of the vocabulary"),
        ({"begin": "aé"}, "begin='aé' is not in this model's vocabulary, which reads 'aa'"),
        ({"begin": "a" * 9}, "begin='aaaaaaaaa' is 9 tokens and max_tokens is 9"),
        ({"thinking": replace(SHORT, close="é")}, "thinking.close='é' is not in this model's vocabulary"),
        ({"thinking": Thinking("<>", 1)}, "thinking.wait='Wait' is not in this model's vocabulary, which reads 'Waaa'"),
        ({"thinking": replace(SHORT, close=".")}, "thinking.close='.' is a special token of this model"),
    ],
)
def test_what_the_vocabulary_cannot_express_is_refused(
    letters: LocalSampler, control: dict[str, Any], told: str
) -> None:
    with pytest.raises(InputError, match=told.replace(".", r"\.")):
        list(letters.sample(asked(Sampling(9, **control), 3)))


def test_a_beginning_that_fills_the_context_is_refused(letters: LocalSampler) -> None:
    with pytest.raises(InputError, match=r"prompt of 62 tokens and begin='aW' fill the model's context of 64"):
        list(letters.sample([Request((0,) * 62, 0, Sampling(9, begin="aW"))]))


# --- repetition ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "found"),
    [
        ([1, 2, 1, 2, 1, 2], True),
        ([9, 1, 2, 1, 2, 1, 2], True),
        ([1, 2, 1, 2, 1, 2, 9], False),
        ([1, 2, 1, 2, 2, 2], False),
        ([2, 1, 2, 1, 2], False),
        ([1, 1, 1], False),
        ([1, 1, 1, 1, 1, 1], True),
        ([1, 2, 3, 4] * 3, False),
        ([1, 2, 3] * 3, True),
        ([], False),
    ],
)
def test_the_same_block_three_times(tokens: list[int], found: bool) -> None:
    """A block of two or three tokens; six equal ones are such blocks as well."""
    assert repeats(tokens, Repetition(2, 3, 3)) == found


def test_a_completion_stops_where_it_first_repeats_itself(letters: LocalSampler) -> None:
    rule = Repetition(1, 3, 3)
    free, found = (sampled(letters, asked(Sampling(20, repetition=r))) for r in (None, rule))
    assert {c.finish for c in found} >= {"repetition", "eos"}
    for one, other in zip(free, found, strict=True):
        first = next((n for n in range(1, len(one.tokens)) if repeats(one.tokens[:n], rule)), len(one.tokens))
        assert other.tokens == one.tokens[:first]
        assert (other.finish == "repetition") == (first < len(one.tokens) or repeats(other.tokens, rule))
        assert other.cut == (other.finish in ("repetition", "length"))


# --- thinking ------------------------------------------------------------------------------------


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
