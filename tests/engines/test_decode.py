"""The sampler draws from the trainer's own distribution, and what it draws depends on the request alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from burnish.core import keys
from burnish.data.batching import collate
from burnish.engines import decode
from burnish.engines.decode import LocalSampler, Row, draw, generate, inverse_cdf, truncate
from burnish.engines.local import Engine, LocalModel
from burnish.engines.lora import LoRA
from burnish.errors import InputError
from burnish.types import Completion, Request, Rollout, Sampling
from tiny import plain_distributions, plain_logprobs, plain_network, three_token_model, trajectories, two_token_model

FREE = Sampling(max_tokens=24)


def sampler_of(directory: Path, dtype: str = "float64", adapter: LoRA | None = None) -> LocalSampler:
    return LocalSampler(LocalModel(directory, Engine(dtype=dtype, device="cpu", adapter=adapter)))


@pytest.fixture(scope="module", params=["float64", "float32"])
def sampler(request: pytest.FixtureRequest, nano: Path) -> LocalSampler:
    """Sharpened, so that a token's probability depends on all that came before it and some rows end early."""
    found = sampler_of(nano, request.param)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(1)
        for weight in found.model.network.parameters():
            if weight.ndim == 2:
                noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
                weight.add_((0.06 * noise).to(weight.dtype))
    return found


def requests(sampling: Sampling = FREE, count: int = 4) -> list[Request]:
    """``count`` answers to each of three prompts of different lengths, interleaved."""
    prompts = [(40, 41, 42), (50,), (60, 61, 62, 63, 64, 65, 66)]
    return [Request(prompts[i % 3], keys.derive("test", i), sampling) for i in range(3 * count)]


def in_order(sampler: LocalSampler, wanted: Iterable[Request]) -> list[Completion]:
    found = list(sampler.sample(wanted))
    assert sorted(c.index for c in found) == list(range(len(found)))
    return sorted(found, key=lambda c: c.index)


def rollouts(wanted: Sequence[Request], found: Sequence[Completion]) -> list[Rollout]:
    return [
        Rollout(r.prompt, c.tokens, (True,) * len(c.tokens), c.logprobs, (), i, i, kept=c.kept, kept_ids=c.kept_ids)
        for i, (r, c) in enumerate(zip(wanted, found, strict=True))
    ]


def distributions(sampler: LocalSampler, prompt: Sequence[int], tokens: Sequence[int], temperature: float) -> Tensor:
    """[T, V] the trainer's log-probabilities of every token at every place, from its own forward pass."""
    vocabulary = sampler.model.head_weight.shape[0]
    rows = [
        Rollout(tuple(prompt) + tuple(tokens[:t]), (v,), (True,), (0.0,), (), 0, v)
        for t in range(len(tokens))
        for v in range(vocabulary)
    ]
    found = sampler.model.forward(collate(rows, temperature=temperature)).logprobs
    return found.reshape(len(tokens), vocabulary)


def edge_distance(logprobs: Tensor, uniform: float) -> float:
    """How far the uniform is from the nearest edge between two tokens."""
    return float((logprobs.double().exp().cumsum(-1) - uniform).abs().min())


# ------------------------------------------------------------------------------------ agreement with the trainer


@pytest.mark.parametrize("temperature", [1.0, 0.7, 1.5])
def test_log_probs_are_those_of_the_trainer(sampler: LocalSampler, temperature: float) -> None:
    wanted = requests(replace(FREE, temperature=temperature))
    found = in_order(sampler, wanted)
    batch = collate(rollouts(wanted, found), temperature=temperature)
    trained = sampler.model.forward(batch).logprobs
    exact = sampler.model.engine.dtype == "float64"
    assert batch.sampler_logprobs is not None
    assert (batch.sampler_logprobs - trained).abs().max().item() < (1e-10 if exact else 1e-5)
    assert all(c.kept == (1.0,) * len(c.tokens) and len(c.logprobs) == len(c.tokens) for c in found)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_every_token_is_the_inverse_cdf_of_the_trainers_distribution(nano: Path, temperature: float) -> None:
    """At the uniform of its own key and position: nothing else decides."""
    sampler = sampler_of(nano)
    wanted = requests(replace(FREE, max_tokens=4, temperature=temperature), count=2)
    checked = 0
    for request, completion in zip(wanted, in_order(sampler, wanted), strict=True):
        uniforms = keys.uniforms(request.key, 4)
        logprobs = distributions(sampler, request.prompt, completion.tokens, temperature)
        for token, uniform, row in zip(completion.tokens, uniforms, logprobs, strict=False):
            edges = np.cumsum(row.exp().numpy())
            assert edge_distance(row, uniform) > 1e-9, "choose another key: this one lies on an edge"
            assert int(np.searchsorted(edges, uniform * edges[-1], side="right")) == token
            checked += 1
    assert checked > 12


@pytest.mark.parametrize("adapter", [None, LoRA(rank=4)], ids=["full", "lora"])
def test_the_sampler_follows_the_weights_after_a_step(nano: Path, adapter: LoRA | None) -> None:
    sampler = sampler_of(nano, adapter=adapter)
    before = generate(sampler, [(40, 41)], replace(FREE, temperature=0.5), 1)
    generator = torch.Generator().manual_seed(0)
    for parameter in sampler.model.masters.params.values():
        parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    sampler.model.optim_step(0.02)
    sampler.load(sampler.model.weights(), version=3)
    after = generate(sampler, [(40, 41)], replace(FREE, temperature=0.5), 1)
    assert sampler.version == 3 and after[0].tokens != before[0].tokens
    batch = collate(rollouts([Request((40, 41), 0, FREE)], after), temperature=0.5)
    trained = sampler.model.forward(batch).logprobs
    assert (batch.sampler_logprobs - trained).abs().max().item() < 1e-10  # type: ignore[operator]


def test_load_copies_weights_that_live_elsewhere(tmp_path: Path) -> None:
    source = sampler_of(three_token_model(tmp_path / "a", seed=1))
    target = sampler_of(three_token_model(tmp_path / "b", seed=2))
    one, other = (generate(s, [(0,)] * 40, FREE, 5) for s in (source, target))
    assert [c.tokens for c in one] != [c.tokens for c in other]
    target.load(source.model.weights(), 1)
    assert generate(target, [(0,)] * 40, FREE, 5) == one


# ---------------------------------------------------------------------------------- what a completion depends on


def test_the_same_call_twice_is_bitwise_the_same(sampler: LocalSampler) -> None:
    assert list(sampler.sample(requests())) == list(sampler.sample(requests()))


def test_an_observer_sees_what_is_drawn_and_changes_nothing(sampler: LocalSampler) -> None:
    """Every token once, in order, with the logits that it was drawn from; completions are bitwise those without it."""
    seen: dict[int, list[int]] = {}
    logprobs: dict[int, list[float]] = {}

    def observe(rows: Sequence[Row], logits: Tensor) -> tuple[int, ...]:
        assert logits.shape == (len(rows), len(sampler.model.head_weight))
        for row, line in zip(rows, torch.log_softmax(logits, -1), strict=True):
            seen.setdefault(row.index, []).append(row.tokens[-1])
            logprobs.setdefault(row.index, []).append(line[row.tokens[-1]].item())
        return ()

    observed = list(sampler.sample(requests(), observe))
    assert observed == list(sampler.sample(requests()))
    assert {c.index: list(c.tokens) for c in observed} == seen
    assert {c.index: list(c.logprobs) for c in observed} == logprobs
    assert len({len(tokens) for tokens in seen.values()}) > 1, "some rows end early"


def test_rows_that_are_given_up_leave_and_the_others_do_not_notice(sampler: LocalSampler) -> None:
    steps: dict[int, int] = {}

    def observe(rows: Sequence[Row], _logits: Tensor) -> list[int]:
        for row in rows:
            steps[row.index] = len(row.tokens)
        return [row.index for row in rows if row.index in (1, 4) and len(row.tokens) == 3]

    free = {c.index: c for c in sampler.sample(requests())}
    assert all(len(free[index].tokens) > 3 for index in (1, 4))
    kept = {c.index: c for c in sampler.sample(requests(), observe)}
    assert steps[1] == steps[4] == 3 and kept.keys() == free.keys() - {1, 4}
    if sampler.model.head_weight.dtype == torch.float64:  # in float32, rounding depends on the number of rows
        assert all(kept[index].tokens == free[index].tokens for index in kept)


def test_across_batchings_the_first_difference_is_at_a_near_tie(sampler: LocalSampler) -> None:
    """Alone, in another order, among other rows: a token may differ only where the uniform lies within 1e-4 of an edge
    between two tokens, and in float64 nothing differs at all.
    """
    wanted = requests(count=6)
    base = in_order(sampler, wanted)
    reverse = in_order(sampler, wanted[::-1])[::-1]
    alone = [in_order(sampler, [request])[0] for request in wanted]
    crowded = in_order(sampler, [*requests(replace(FREE, max_tokens=30), count=9)[18:], *wanted])[-len(wanted) :]
    assert len({len(c.tokens) for c in base}) > 1, "no row left the batch early"
    for others in (reverse, alone, crowded):
        for request, left, right in zip(wanted, base, others, strict=True):
            if left.tokens != right.tokens:
                assert sampler.model.engine.dtype == "float32"
                place = next(i for i, (a, b) in enumerate(zip(left.tokens, right.tokens, strict=False)) if a != b)
                row = distributions(sampler, request.prompt, left.tokens[: place + 1], 1.0)[-1]
                assert edge_distance(row, keys.uniforms(request.key, place + 1)[-1]) < 1e-4
            else:
                assert left.logprobs == pytest.approx(right.logprobs, abs=1e-5)


@pytest.mark.parametrize("rows", [1, 5, 7])
def test_waves_give_the_same_completions(monkeypatch: pytest.MonkeyPatch, nano: Path, rows: int) -> None:
    sampler = sampler_of(nano)
    whole = in_order(sampler, requests())
    monkeypatch.setattr(decode, "MAX_ROWS", rows)
    for left, right in zip(in_order(sampler, requests()), whole, strict=True):
        assert left.tokens == right.tokens and left.finish == right.finish and left.index == right.index
        assert left.logprobs == pytest.approx(right.logprobs, abs=1e-10)


def test_mixed_settings_in_one_call_equal_separate_calls(nano: Path) -> None:
    sampler = sampler_of(nano)
    kinds = [FREE, replace(FREE, temperature=0.0), replace(FREE, top_k=3, max_tokens=5), replace(FREE, top_p=0.5)]
    mixed = [replace(r, sampling=kinds[i % 4]) for i, r in enumerate(requests())]
    together = in_order(sampler, mixed)
    for request, found in zip(mixed, together, strict=True):
        alone = in_order(sampler, [request])[0]
        assert alone.tokens == found.tokens and alone.kept == pytest.approx(found.kept, abs=1e-10)


def test_another_key_gives_another_completion(nano: Path) -> None:
    found = generate(sampler_of(nano), [(40, 41, 42)] * 8, FREE, 0)
    assert len({c.tokens for c in found}) == 8
    assert [c.index for c in found] == list(range(8))


# --------------------------------------------------------------------------------------- frequencies, truncation


def test_frequencies_match_the_enumerated_probabilities(tmp_path: Path) -> None:
    """4000 samples of each of the four completions of the two-token model, at 4 standard deviations."""
    directory = two_token_model(tmp_path, seed=1)
    sampler, network, count = sampler_of(directory, "float32"), plain_network(directory), 4000
    found = Counter(c.tokens for c in generate(sampler, [(1, 0)] * count, Sampling(max_tokens=3), 11))
    every = trajectories(2, 1, 3)
    assert found.keys() <= set(every)
    for tokens in every:
        p = plain_logprobs(network, (1, 0), tokens).sum().exp().item()
        assert abs(found[tokens] - count * p) < 4 * (count * p * (1 - p)) ** 0.5


@pytest.mark.parametrize("sampling", [Sampling(max_tokens=2, top_k=2), Sampling(max_tokens=2, top_p=0.6)])
def test_truncated_sampling_keeps_log_probs_and_reports_the_kept_mass(tmp_path: Path, sampling: Sampling) -> None:
    """``logprobs`` are before truncation, ``kept`` is the mass of what was left; tokens come from there."""
    directory = three_token_model(tmp_path, seed=7)
    sampler, network = sampler_of(directory), plain_network(directory)
    seen = set()
    for completion in generate(sampler, [(0, 1)] * 200, sampling, 3):
        full = plain_distributions(network, (0, 1), completion.tokens).detach()
        for place, token in enumerate(completion.tokens):
            ordered = full[place].exp().sort(descending=True)
            mass = ordered.values.cumsum(0)
            size = sampling.top_k or int((mass < sampling.top_p).sum()) + 1
            assert token in ordered.indices[:size].tolist()
            assert completion.kept[place] == pytest.approx(mass[size - 1].item(), abs=1e-10)
            assert completion.logprobs[place] == pytest.approx(full[place, token].item(), abs=1e-10)
            seen.add((place, token))
    assert len(seen) > 2


CUTS = {"top-k": {"top_k": 5}, "top-p": {"top_p": 0.3}, "both": {"top_k": 40, "top_p": 0.6, "temperature": 0.7}}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS.keys())
def test_kept_ids_are_top_k_and_top_p_of_the_trainers_distribution(nano: Path, cut: dict[str, Any]) -> None:
    """They hold the sampled token and the reported mass, and no smaller or other set of likely tokens would do."""
    sampler = sampler_of(nano)
    sampling = Sampling(max_tokens=4, truncation="kept", **cut)
    wanted = requests(sampling, count=1)
    sizes = set()
    for request, found in zip(wanted, in_order(sampler, wanted), strict=True):
        trained = distributions(sampler, request.prompt, found.tokens, sampling.temperature).exp()
        for token, ids, mass, row in zip(found.tokens, found.kept_ids, found.kept, trained, strict=True):
            assert token in ids and list(ids) == sorted(set(ids))
            ordered = row.sort(descending=True)
            likely = ordered.values[: sampling.top_k or None].cumsum(0)
            size = int((likely < sampling.top_p * likely[-1]).sum()) + 1 if sampling.top_p < 1 else sampling.top_k
            assert set(ids) == set(ordered.indices[:size].tolist())
            assert mass == pytest.approx(row[list(ids)].sum().item(), abs=1e-10)
            sizes.add(size)
    assert max(sizes) > 1


def test_ids_are_kept_on_request_and_where_something_was_cut(nano: Path) -> None:
    """The draws are the same in either mode; rows of one call have their own."""
    cut = Sampling(max_tokens=6, top_k=3)
    kinds = [cut, replace(cut, truncation="kept"), Sampling(6, truncation="kept"), Sampling(6, 0.0, top_k=3)]
    wanted = [Request((40, 41), keys.derive("kept", i // 4), kinds[i % 4]) for i in range(12)]
    found = in_order(sampler_of(nano), wanted)
    for full, kept, uncut, greedy in zip(found[::4], found[1::4], found[2::4], found[3::4], strict=True):
        assert full.tokens == kept.tokens and full.logprobs == kept.logprobs and full.kept == kept.kept
        assert [len(ids) for ids in kept.kept_ids] == [3] * len(kept.tokens)
        assert full.kept_ids == uncut.kept_ids == greedy.kept_ids == ()


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS.keys())
def test_truncated_log_probs_are_those_of_the_trainer(sampler: LocalSampler, cut: dict[str, Any]) -> None:
    sampling = replace(FREE, truncation="kept", **cut)
    wanted = requests(sampling)
    found = in_order(sampler, wanted)
    batch = collate(rollouts(wanted, found), temperature=sampling.temperature)
    trained = sampler.model.forward(batch).logprobs
    exact = sampler.model.engine.dtype == "float64"
    assert batch.sampler_logprobs is not None
    assert (batch.sampler_logprobs - trained).abs().max().item() < (1e-10 if exact else 1e-5)
    assert min(min(c.kept) for c in found) < 0.9


def test_an_unknown_truncation_is_an_error_that_says_which_there_are() -> None:
    with pytest.raises(ValueError, match="truncation must be full or kept, not 'top'"):
        Sampling(truncation="top")


LOGITS = st.lists(st.floats(-8, 8), min_size=2, max_size=9)


@given(LOGITS, st.integers(0, 10), st.floats(0.05, 1.0))
@settings(deadline=None, max_examples=150, derandomize=True)
def test_truncation_keeps_the_smallest_likely_set(logits: list[float], top_k: int, top_p: float) -> None:
    logprobs = torch.log_softmax(torch.tensor([logits], dtype=torch.float64), -1)
    kept, mass = truncate(logprobs, top_k, top_p)
    probabilities = logprobs.exp()[0]
    chosen = kept[0] > 0
    assert torch.equal(kept[0][chosen], probabilities[chosen])
    assert mass.item() == pytest.approx(kept.sum().item(), rel=1e-12)
    assert 1 <= int(chosen.sum()) <= (top_k or len(logits))
    if not chosen.all():
        assert probabilities[chosen].min() >= probabilities[~chosen].max(), "a likelier token was dropped"
    candidates = probabilities.sort(descending=True).values[: top_k or None]
    if top_p < 1:
        goal = top_p * candidates.sum().item()
        assert mass.item() >= goal - 1e-12
        assert mass.item() - probabilities[chosen].min().item() < goal + 1e-12, "a token more than needed"
    else:
        assert int(chosen.sum()) == len(candidates)


@given(LOGITS, st.floats(0, 1, exclude_max=True))
@settings(deadline=None, max_examples=150, derandomize=True)
def test_inverse_cdf(logits: list[float], uniform: float) -> None:
    probabilities = torch.softmax(torch.tensor([logits], dtype=torch.float64), -1)
    token = int(inverse_cdf(probabilities, torch.tensor([uniform], dtype=torch.float64)))
    edges = probabilities[0].cumsum(0)
    assert (edges[token - 1].item() if token else 0.0) <= uniform * edges[-1].item() + 1e-15
    assert token == len(logits) - 1 or edges[token].item() > uniform * edges[-1].item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-53])
def test_impossible_tokens_are_never_drawn(dtype: torch.dtype, uniform: float) -> None:
    """Not at the ends, where the uniform is 0 or rounds to 1, and not in the middle."""
    for weights in ([0, 0, 1, 0, 0], [0, 0.3, 0, 0.7, 0], [0.5, 0, 0, 0.5, 0], [0, 1e-30, 0, 1, 0]):
        probabilities = torch.tensor([weights], dtype=dtype)
        token = int(inverse_cdf(probabilities, torch.tensor([uniform], dtype=torch.float64)))
        assert weights[token] > 0


def test_draw_at_temperature_zero_is_the_argmax_with_its_own_log_prob() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0], [5.0, 0.0, 5.0]])
    tokens, logprobs, kept, inside = draw(logits, torch.tensor([0.99, 0.99], dtype=torch.float64), 0.0, 2, 0.5)
    assert tokens.tolist() == [1, 0]
    assert torch.equal(logprobs, torch.log_softmax(logits, -1)[[0, 1], tokens])
    assert kept.tolist() == [1.0, 1.0] and inside is None


def test_greedy_equals_the_argmax_of_the_plain_network(nano: Path) -> None:
    sampler, network = sampler_of(nano), plain_network(nano)
    for completion in generate(sampler, [(40, 41), (50,)], Sampling(max_tokens=6, temperature=0.0), 0):
        prompt = ((40, 41), (50,))[completion.index]
        full = plain_distributions(network, prompt, completion.tokens)
        assert full.argmax(-1).tolist() == list(completion.tokens)
        expected = full.max(-1).values.tolist()
        assert completion.logprobs == pytest.approx(expected, abs=1e-10)


# ----------------------------------------------------------------------------------------- how a completion ends


def test_eos_ends_a_row_and_is_its_last_token(tmp_path: Path) -> None:
    sampler = sampler_of(two_token_model(tmp_path, seed=1))
    found = generate(sampler, [(1, 0)] * 60, Sampling(max_tokens=3), 2)
    assert {c.finish for c in found} == {"eos", "length"}
    for c in found:
        assert (c.tokens[-1] == 1) == (c.finish == "eos") and 1 not in c.tokens[:-1]
        assert c.text == "a" * c.tokens.count(0), "the end-of-turn token is not part of the text"
        assert c.messages == ({"role": "assistant", "content": c.text},)
        assert c.finish == "eos" or len(c.tokens) == 3


def test_a_stop_string_ends_a_row_where_it_first_appears(tmp_path: Path) -> None:
    sampler = sampler_of(three_token_model(tmp_path, seed=7))
    sampling = Sampling(max_tokens=12, stop=("bb", "aba"))
    free = generate(sampler, [(0, 1)] * 60, replace(sampling, stop=()), 2)
    stopped = generate(sampler, [(0, 1)] * 60, sampling, 2)
    assert sum(c.finish == "stop" for c in stopped) > 20
    for c, whole in zip(stopped, free, strict=True):
        assert whole.tokens[: len(c.tokens)] == c.tokens
        has = [s in c.text for s in sampling.stop]
        assert any(has) == (c.finish == "stop")
        assert not any(s in c.text[:-1] for s in sampling.stop)


def test_an_end_and_a_limit_at_once_is_an_end(tmp_path: Path) -> None:
    sampler = sampler_of(two_token_model(tmp_path, seed=1))
    for c in generate(sampler, [(1, 0)] * 30, Sampling(max_tokens=1), 2):
        assert c.finish == ("eos" if c.tokens == (1,) else "length")


def test_the_context_limits_a_completion(tmp_path: Path) -> None:
    """Six places, a prompt of four: two tokens at most, whatever max_tokens says; rows with more room go on."""
    sampler = sampler_of(three_token_model(tmp_path, seed=2, max_position_embeddings=6))
    wanted = [Request((0,) * (1 + 3 * (i % 2)), keys.derive(i), Sampling(max_tokens=50)) for i in range(40)]
    found = in_order(sampler, wanted)
    assert max(len(c.tokens) for c in found[1::2]) == 2 and max(len(c.tokens) for c in found[::2]) == 5
    assert all(c.finish == "length" for c in found[1::2] if c.tokens[-1] != 2)


def test_prompts_that_cannot_be_continued_are_errors_before_any_sampling(tmp_path: Path) -> None:
    sampler = sampler_of(three_token_model(tmp_path, max_position_embeddings=6))
    good = Request((0,), 1, FREE)
    with pytest.raises(InputError, match="empty"):
        next(sampler.sample([good, Request((), 1, FREE)]))
    with pytest.raises(InputError, match="6 tokens, but the model's context holds 6"):
        next(sampler.sample([good, Request((0,) * 6, 1, FREE)]))


def test_no_requests_give_no_completions(nano: Path) -> None:
    assert list(sampler_of(nano).sample([])) == []
