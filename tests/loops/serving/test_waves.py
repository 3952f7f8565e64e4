"""The thread that owns the model: what waits is decoded together, what nobody waits for leaves, what fails says so."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from burnish.core import keys
from burnish.engines.decode import LocalSampler, Observer
from burnish.errors import InputError
from burnish.loops.serving import waves as module
from burnish.loops.serving.asked import Asked, RefusedError
from burnish.loops.serving.waves import Drawn, Ended, Event, Failed, Read, Waves, fits
from burnish.types import Completion, Request, Sampling
from tests.served import LIVENESS, sampler_of
from tests.tiny import plain_distributions, plain_network

ASKED = Asked(False, ((40, 41, 42),), ("",), Sampling(12), seed=5)


class Watched(LocalSampler):
    """Counts the rows of every call."""

    def __init__(self, sampler: LocalSampler) -> None:
        super().__init__(sampler.model)
        self.calls: list[int] = []

    def sample(self, requests: Iterable[Request], observe: Observer | None = None) -> Iterator[Completion]:
        listed = list(requests)
        self.calls.append(len(listed))
        yield from super().sample(listed, observe)


def answered(sampler: LocalSampler, *asked: Asked) -> list[list[Event]]:
    """The events of each request, all of which wait before the first wave begins."""
    waves, events = Waves(sampler), [list[Event]() for _ in asked]
    left = len(asked)

    def tell(place: int, event: Event) -> None:
        nonlocal left
        events[place].append(event)
        ended = sum(isinstance(each, Ended) for each in events[place])
        left -= isinstance(event, Failed) or (isinstance(event, Ended) and ended == asked[place].rows)
        if not left:
            waves.close()

    for place, each in enumerate(asked):
        waves.submit(each, lambda event, place=place: tell(place, event))  # type: ignore[misc]
    waves.run()
    return events


def drawn(events: list[Event], row: int = 0) -> list[int]:
    return [event.token.id for event in events if isinstance(event, Drawn) and event.row == row]


def test_what_waits_is_decoded_together_and_as_if_alone(sampler: LocalSampler) -> None:
    many = [replace(ASKED, prompts=((50 + i, 41),), seed=i, n=2) for i in range(5)]
    alone = [answered(sampler, each)[0] for each in many]
    watched = Watched(sampler)
    together = answered(watched, *many)
    assert watched.calls == [10]
    assert [[drawn(events, row) for row in (0, 1)] for events in together] == [
        [drawn(events, row) for row in (0, 1)] for events in alone
    ]


def test_a_seed_names_the_randomness(sampler: LocalSampler) -> None:
    [events] = answered(sampler, replace(ASKED, n=2))
    key = keys.derive("serve", "seed", 5)
    requests = [Request(ASKED.prompts[0], keys.derive(key, row), ASKED.sampling) for row in (0, 1)]
    found = sorted(sampler.sample(requests), key=lambda c: c.index)
    assert [drawn(events, row) for row in (0, 1)] == [list(c.tokens) for c in found]
    assert {e.finish for e in events if isinstance(e, Ended)} <= {"eos", "length"}


def test_without_a_seed_every_request_is_another_draw_and_a_server_repeats_itself(sampler: LocalSampler) -> None:
    free = replace(ASKED, seed=None)
    first, again = (answered(sampler, free, free) for _ in range(2))
    assert drawn(first[0]) != drawn(first[1])
    assert [drawn(events) for events in first] == [drawn(events) for events in again]


def test_waves_are_bounded(sampler: LocalSampler, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ASKED.width == 15
    monkeypatch.setattr(module, "WAVE_TOKENS", 60)
    assert fits([ASKED] * 4) and not fits([ASKED] * 5)
    assert not fits([ASKED, ASKED, replace(ASKED, prompts=((40,) * 30,))])
    watched = Watched(sampler)
    answered(watched, *[ASKED] * 9, replace(ASKED, n=7), ASKED)
    assert watched.calls == [4, 4, 1, 7, 1]


def test_a_full_queue_and_a_stopped_server_refuse(sampler: LocalSampler) -> None:
    waves = Waves(sampler, queue=2)
    told: list[Event] = []
    for _ in range(2):
        waves.submit(ASKED, told.append)
    with pytest.raises(RefusedError, match="2 requests are waiting") as refused:
        waves.submit(ASKED, told.append)
    assert refused.value.status == 503
    waves.close()
    with pytest.raises(RefusedError, match="stopping"):
        waves.submit(ASKED, told.append)
    waves.run()
    assert told == [Failed(503, "the server is stopping")] * 2


def test_closing_ends_a_wave_at_its_next_token(sampler: LocalSampler) -> None:
    waves = Waves(sampler)
    told: list[Event] = []

    def tell(event: Event) -> None:
        told.append(event)
        waves.close()

    waves.submit(ASKED, tell)
    waves.run()
    assert [type(event) for event in told] == [Drawn, Failed]


def test_what_nobody_waits_for_leaves_the_wave(sampler: LocalSampler) -> None:
    waves = Waves(sampler)
    gone, kept, never = list[Event](), list[Event](), list[Event]()

    def leave(event: Event) -> None:
        gone.append(event)
        jobs[0].abandoned = len(gone) == 3

    def stay(event: Event) -> None:
        kept.append(event)
        if isinstance(event, Ended):
            waves.close()

    jobs = [waves.submit(ASKED, leave), waves.submit(replace(ASKED, seed=6), stay), waves.submit(ASKED, never.append)]
    jobs[2].abandoned = True
    waves.run()
    assert len([e for e in gone if isinstance(e, Drawn)]) == 3 and not any(isinstance(e, Ended) for e in gone)
    assert drawn(kept) == drawn(answered(sampler, replace(ASKED, seed=6))[0])
    assert not any(isinstance(e, Drawn) for e in never)


def test_log_probs_are_the_model_s_own_whatever_the_sampling(sampler: LocalSampler, small: Path) -> None:
    """At temperature 1 and before the cut, beside rows that want none or fewer alternatives."""
    cool = replace(ASKED, sampling=Sampling(12, 0.5, 0.8, 30), top=4)
    plain, found, few = answered(sampler, ASKED, cool, replace(ASKED, top=0, seed=9))
    assert all(e.token.logprob is None for e in plain if isinstance(e, Drawn))
    network = plain_network(small)
    for events, top in ((found, 4), (few, 0)):
        scored = [e.token for e in events if isinstance(e, Drawn)]
        truth = plain_distributions(network, ASKED.prompts[0], [s.id for s in scored])
        for place, token in enumerate(scored):
            best, ids = truth[place].topk(top)
            assert token.logprob == pytest.approx(truth[place, token.id].item(), abs=1e-9)
            assert [i for i, _ in token.top] == ids.tolist()
            assert [value for _, value in token.top] == pytest.approx(best.tolist(), abs=1e-9)


def test_prompts_are_read_by_the_training_forward_pass(sampler: LocalSampler, small: Path) -> None:
    prompts = ((40, 41, 42, 60, 61), (50, 51), (70,))
    echo = Asked(False, prompts, ("",) * 3, Sampling(), top=3, echo=True, reply=False)
    [events] = answered(sampler, echo)
    network = plain_network(small)
    read = {event.prompt: event.tokens for event in events if isinstance(event, Read)}
    assert [tuple(token.id for token in read[p]) for p in range(3)] == list(prompts)
    assert all(read[p][0].logprob is None and read[p][0].top == () for p in range(3))
    for p, prompt in enumerate(prompts[:2]):
        truth = plain_distributions(network, prompt[:1], prompt[1:])
        for place, token in enumerate(read[p][1:]):
            assert token.logprob == pytest.approx(truth[place, token.id].item(), abs=1e-9)
            best, ids = truth[place].topk(3)
            assert [i for i, _ in token.top] == ids.tolist()
            assert [value for _, value in token.top] == pytest.approx(best.tolist(), abs=1e-9)
    assert [e for e in events if isinstance(e, Ended)] == [Ended(row, "length") for row in range(3)]


def test_the_likeliest_token_has_bitwise_the_log_prob_of_the_likeliest(small: Path) -> None:
    """Clients tell greedy continuations by equality of the two numbers."""
    rough = sampler_of(small, "bfloat16")
    greedy = replace(ASKED, sampling=Sampling(12, 0.0), top=1, seed=None)
    [events] = answered(rough, greedy)
    tokens = [e.token for e in events if isinstance(e, Drawn)]
    assert tokens and all(token.top == ((token.id, token.logprob),) for token in tokens)
    echo = replace(greedy, prompts=((*ASKED.prompts[0], *drawn(events)),), echo=True, reply=False, top=2)
    [events] = answered(rough, echo)
    scored = next(e for e in events if isinstance(e, Read)).tokens[1:]
    assert all(dict(token.top).get(token.id, token.logprob) == token.logprob for token in scored)
    assert any(token.id in dict(token.top) for token in scored)


def test_what_the_model_cannot_do_fails_the_wave_and_not_the_next_one(sampler: LocalSampler) -> None:
    class Failing(Watched):
        def sample(self, requests: Iterable[Request], observe: Observer | None = None) -> Iterator[Completion]:
            yield from super().sample(requests, observe)
            if len(self.calls) == 1:
                raise RuntimeError("no memory left")
            if len(self.calls) == 2:
                raise InputError("the window is too small")

    waves = Waves(Failing(sampler))
    told: list[list[Event]] = [[], [], []]

    def tell(place: int, event: Event) -> None:
        told[place].append(event)
        if isinstance(event, Failed) and place < 2:
            waves.submit(replace(ASKED, seed=place + 1), lambda each: tell(place + 1, each))
        if isinstance(event, Ended) and place == 2:
            waves.close()

    waves.submit(ASKED, lambda event: tell(0, event))
    waves.run()
    ends = [next((e.status, e.message) for e in events if isinstance(e, Failed)) for events in told[:2]]
    assert [status for status, _ in ends] == [500, 400]
    assert "no memory left" in ends[0][1] and "the window is too small" in ends[1][1]
    assert not any(isinstance(event, Failed) for event in told[2][:-1])


def test_an_error_of_the_program_ends_the_run_and_leaves_nobody_waiting(sampler: LocalSampler) -> None:
    class Broken(LocalSampler):
        def sample(self, *_requests: object) -> Iterator[Completion]:
            raise AssertionError("a bug")

    waves = Waves(Broken(sampler.model))
    told: list[Event] = []
    waves.submit(replace(ASKED, n=200), told.append)
    waves.submit(replace(ASKED, n=200), told.append)
    with pytest.raises(AssertionError, match="a bug"):
        waves.run()
    assert told == [Failed(503, "the server is stopping")] * 2
    with pytest.raises(RefusedError):
        waves.submit(ASKED, told.append)


def test_an_idle_run_waits_for_work(sampler: LocalSampler) -> None:
    waves = Waves(sampler)
    done = threading.Event()
    thread = threading.Thread(target=waves.run)
    thread.start()
    waves.submit(ASKED, lambda event: done.set() if isinstance(event, Ended) else None)
    assert done.wait(LIVENESS)
    waves.close()
    thread.join(LIVENESS)
    assert not thread.is_alive()
