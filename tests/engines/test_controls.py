"""Controls of sampling: what is forced is forced exactly, what is chosen is a sample of the policy that is trained."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch

from burnish.core import keys
from burnish.core.algorithms import REINFORCE
from burnish.data.batching import collate
from burnish.engines.controls import forced, repeats
from burnish.engines.decode import LocalSampler
from burnish.errors import InputError
from burnish.sampling import Repetition, Sampling, Thinking
from burnish.types import Request
from controlled import LETTERS, SHORT, asked, lettered, rollouts, same, sampled, worded
from words import END


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> LocalSampler:
    return lettered(tmp_path_factory.mktemp("letters"))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> LocalSampler:
    return worded(tmp_path_factory.mktemp("table"))


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
