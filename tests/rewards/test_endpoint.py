"""A judge over HTTP, against a real server on this machine: what is sent, what is kept, and what happens when it fails."""

from __future__ import annotations

import json
import pickle
import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from burnish import files
from burnish.core.algorithms import GRPO
from burnish.engines.local import Engine
from burnish.errors import InputError
from burnish.loops.rl import RLConfig, rl
from burnish.rewards import endpoint
from burnish.rewards.ask import Said
from burnish.rewards.endpoint import Endpoint
from burnish.rewards.generative import GenerativeReward
from burnish.rewards.record import recorded
from burnish.run import Run
from burnish.stage import fingerprint
from burnish.tasks.arithmetic import Arithmetic
from burnish.types import Sampling
from burnish.view import View
from tests.judging import Fault, Server, question, serving

KEY = "sk-canary-5d1b9e77c0ffee"
BUSY = Fault(429, b"slow down", {"Retry-After": "0"})
IMPOSSIBLE = {"choices": [{"message": {}, "logprobs": {"content": [{"token": "A", "logprob": 1e9}]}}]}
FIVES = '{"reasoning": "so-so", "score": 5}'


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache of its own for every test, and no key but where a test sets one."""
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    yield tmp_path / "cache"


def shout(text: str) -> str:
    return text.upper()


def judge(server: Server, **settings: Any) -> Endpoint:
    return Endpoint(server.url, "m", **{"backoff": 0.0, "timeout": 20.0, **settings})


def texts(judge: Endpoint, *asked: str) -> list[str]:
    return [said.text for said in judge.ask([question(text) for text in asked])]


# --- what is asked and said ----------------------------------------------------------------------


def test_replies_come_in_the_order_of_the_questions() -> None:
    words = [f"word {i}" for i in range(20)]
    with serving(shout, Fault(500, after=0.2)) as server:  # whoever comes first has to come again
        assert texts(judge(server, concurrency=7), *words) == [word.upper() for word in words]
    assert set(server.paths) == {"/v1/chat/completions"}


def test_a_request_says_what_the_question_says() -> None:
    with serving(shout) as server:
        judge(server).ask([question("a", max_tokens=7)])
        judge(server).ask([question("a", temperature=0.5, seed=3)])
        judge(server, options=(("max_tokens", None), ("max_completion_tokens", 9))).ask([question("a")])
    message = [{"role": "user", "content": "a"}]
    assert [body for _, body in server.requests] == [
        {"model": "m", "messages": message, "max_tokens": 7, "temperature": 0.0},
        {"model": "m", "messages": message, "max_tokens": 512, "temperature": 0.5, "seed": 3},
        {"model": "m", "messages": message, "max_completion_tokens": 9, "temperature": 0.0},
    ]
    assert all("Authorization" not in headers for headers, _ in server.requests)


def test_a_reply_that_was_cut_off_says_so() -> None:
    cut = json.dumps({"choices": [{"message": {"content": "and"}, "finish_reason": "length"}]}).encode()
    empty = json.dumps({"choices": [{"message": {"content": None}, "finish_reason": "content_filter"}]}).encode()
    with serving(shout, Fault(200, cut), Fault(200, empty)) as server:
        assert judge(server).ask([question("a")]) == [Said("and", "length")]
        assert judge(server).ask([question("b")]) == [Said("", "eos")]


def test_no_more_requests_at_a_time_than_allowed() -> None:
    with serving(shout, pause=0.02) as server:
        texts(judge(server, concurrency=3), *map(str, range(15)))
    assert 1 < server.busiest <= 3


def test_choices_are_read_from_the_first_token_in_both_spellings() -> None:
    first = {"A": 0.3, " A": 0.1, "B": 0.15, "Answer": 0.25, "a": 0.2}
    with serving(lambda _: first) as server:
        said = judge(server).ask([question("which?", choices=("A", "B", "C"))])[0]
    body = server.requests[0][1]
    assert (body["max_tokens"], body["logprobs"], body["top_logprobs"]) == (1, True, 20)
    assert said.choices == pytest.approx({"A": 0.4 / 0.55, "B": 0.15 / 0.55, "C": 0.0})
    assert said.mass == pytest.approx(0.55)


def test_a_judge_that_chooses_nothing_has_no_mass() -> None:
    with serving(lambda _: {"Well": 1.0}) as server:
        said = judge(server).ask([question("which?", choices=("A", "B"))])[0]
    assert (dict(said.choices), said.mass) == ({"A": 0.5, "B": 0.5}, 0.0)


def test_a_server_without_log_probs_cannot_choose() -> None:
    which = question("which?", choices=("A", "B"))
    with serving(lambda _: {"A": 1.0}, logprobs=False) as server:
        with pytest.raises(InputError, match=r"'m' at http.* reports no log-probs.*GenerativeReward"):
            judge(server).ask([which])
        server.logprobs = True  # what it did not say is not kept
        assert judge(server).ask([which])[0].choices == {"A": 1.0, "B": 0.0}


def test_a_choice_may_not_begin_another() -> None:
    with pytest.raises(InputError, match="'1' begins the choice '10'"):
        question("how many?", choices=("1", "10"))


# --- failures ------------------------------------------------------------------------------------

PASSING = [
    pytest.param(BUSY, id="429"),
    pytest.param(Fault(503, b"loading"), id="503"),
    pytest.param(Fault(500), id="500"),
    pytest.param(Fault(0), id="connection dropped"),
    pytest.param(Fault(200, b'{"choices": [{"mess'), id="half a reply"),
    pytest.param(Fault(200, b"<html>please wait</html>", {"Content-Type": "text/html"}), id="a web page"),
    pytest.param(Fault(200, b'{"choices": []}'), id="no choice"),
    pytest.param(Fault(200, b'{"error": "overloaded"}'), id="an error with status 200"),
    pytest.param(Fault(200, b"\xff\xfe"), id="no text"),
    pytest.param(Fault(200, json.dumps(IMPOSSIBLE).encode()), id="a log-prob above 0"),
]


@pytest.mark.parametrize("fault", PASSING)
def test_what_passes_is_tried_again(fault: Fault) -> None:
    with serving(shout, fault, fault) as server:
        assert texts(judge(server, retries=2), "a") == ["A"]
    assert len(server.requests) == 3


@pytest.mark.parametrize("fault", PASSING)
def test_what_does_not_pass_ends_the_run(fault: Fault, cache: Path) -> None:
    with serving(shout, *[fault] * 3) as server, pytest.raises(InputError) as raised:
        texts(judge(server, retries=2), "a")
    assert f"{server.url} does not answer after 3 attempts: " in str(raised.value)
    assert len(server.requests) == 3 and not list(cache.rglob("*.json"))


def test_a_slow_reply_counts_as_none() -> None:
    with serving(shout, Fault(500, after=1.5)) as server, pytest.raises(InputError, match="ReadTimeout"):
        texts(judge(server, timeout=0.2, retries=0), "a")


def test_a_reply_that_does_not_end_counts_as_none() -> None:
    """Each byte comes in time."""
    with (
        serving(shout, Fault(200, b" " * 300, pace=0.1)) as server,
        pytest.raises(InputError, match="had not ended after"),
    ):
        texts(judge(server, timeout=1.0, retries=0), "a")


def test_a_reply_without_measure_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "LONGEST_REPLY", 1000)
    with serving(shout, Fault(200, b" " * 1001)) as server, pytest.raises(InputError, match="longer than 1000 bytes"):
        texts(judge(server, retries=0), "a")


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(InputError, match=f"127.0.0.1:{port}/v1 does not answer after 2 attempts: ConnectError"):
        texts(Endpoint(f"http://127.0.0.1:{port}/v1", "m", backoff=0.0, retries=1), "a")


def test_a_server_says_when_to_come_again() -> None:
    past = format_datetime(datetime(2020, 1, 1, tzinfo=UTC))
    with serving(shout, Fault(429, b"", {"Retry-After": past}), BUSY) as server:
        assert texts(judge(server, backoff=1e9), "a") == ["A"]  # without these headers the test would wait for minutes


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (401, "No key was sent: put one in the environment variable 'OPENAI_API_KEY'"),
        (403, "No key was sent: put one in the environment variable 'OPENAI_API_KEY'"),
        (404, "Check the model 'm' and that the url ends with the version"),
        (400, "Check the model 'm' and the options of the judge"),
        (301, "Check the model 'm' and the options of the judge"),
    ],
)
def test_what_another_attempt_would_not_change_is_said_at_once(status: int, told: str) -> None:
    with serving(shout, Fault(status, b"no such thing")) as server, pytest.raises(InputError) as raised:
        texts(judge(server), "a")
    assert told in str(raised.value) and f"status {status}: no such thing" in str(raised.value)
    assert len(server.requests) == 1


def test_one_failure_ends_the_others() -> None:
    with serving(shout, Fault(404), pause=0.05) as server, pytest.raises(InputError, match="Check the model"):
        texts(judge(server, concurrency=2), *map(str, range(100)))
    assert len(server.requests) < 50


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"url": "api.openai.com/v1"}, "such as https://api.openai.com/v1"),
        ({"url": "https://"}, "such as https://api.openai.com/v1"),
        ({"url": "http://host:port/v1"}, "such as https://api.openai.com/v1"),
        ({"url": "ftp://me:secret@host/v1"}, "has a password or a query in it"),
        ({"url": "https://host/v1?key=secret"}, "has a password or a query in it"),
        ({"concurrency": 0}, "concurrency >= 1"),
        ({"retries": -1}, "retries >= 0"),
        ({"timeout": 0.0}, "timeout > 0"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told) as raised:
        Endpoint(**{"url": "http://127.0.0.1:1/v1", "model": "m", **settings})
    assert "secret" not in str(raised.value)


# --- cache ---------------------------------------------------------------------------------------


def test_what_was_said_is_not_asked_again() -> None:
    with serving(shout) as server, recorded() as metrics:
        assert texts(judge(server), "a", "b", "a") == ["A", "B", "A"]
        assert texts(judge(server, retries=1, concurrency=1), "b", "c") == ["B", "C"]
    assert sorted(body["messages"][0]["content"] for _, body in server.requests) == ["a", "b", "c"]
    assert metrics == {"perf/judge_cached": (1.0, 5.0)}


def test_another_judge_or_question_is_asked() -> None:
    with serving(shout) as server, serving(shout) as other:
        one = judge(server)
        for endpoint in (one, replace(one, options=(("top_p", 0.5),)), replace(one, model="n"), judge(other)):
            texts(endpoint, "a")
        warm = question("a", temperature=1.0)
        one.ask([warm, replace(warm, seed=1), question("a", max_tokens=1)])
        replace(one, cache=False).ask([question("a")])
    assert (len(server.requests), len(other.requests)) == (7, 1)


def test_choices_come_back_from_the_cache_exactly() -> None:
    with serving(lambda _: {"A": 0.7, "B": 0.2}) as server:
        first, second = (judge(server).ask([question("which?", choices=("A", "B"))]) for _ in range(2))
    assert first == second and len(server.requests) == 1


def test_a_damaged_entry_is_asked_for_again(cache: Path) -> None:
    with serving(shout) as server:
        texts(judge(server), "a")
        (entry,) = cache.rglob("*.json")
        files.write_text(entry, '{"message"')
        assert texts(judge(server), "a") == ["A"]
        assert texts(judge(server), "a") == ["A"]
    assert len(server.requests) == 2


def test_a_cache_that_cannot_be_written_is_named(cache: Path) -> None:
    files.make_directory(cache)
    files.write_text(cache / "judge", "a file where a folder should be")
    with serving(shout) as server, pytest.raises(InputError, match=r"cannot write the judge's cache.*cache=False"):
        texts(judge(server), "a")


# --- the key -------------------------------------------------------------------------------------


def everything_in(folder: Path) -> bytes:
    found = [path for path in folder.rglob("*") if path.is_file()]
    assert found
    return b"".join(path.read_bytes() for path in found)


def test_the_key_is_sent_and_written_nowhere(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_JUDGE_KEY", f" {KEY}\n")
    with serving(lambda text: f"you sent {KEY}" if text == "key?" else text) as server:
        endpoint = judge(server, key_env="MY_JUDGE_KEY")
        assert texts(endpoint, "a", "key?") == ["a", f"you sent {KEY}"]
        assert {headers["Authorization"] for headers, _ in server.requests} == {f"Bearer {KEY}"}
        said = repr(endpoint) + fingerprint(stage, (endpoint,), {}, 0)
    assert KEY not in said and KEY.encode() not in pickle.dumps(endpoint) + everything_in(cache)


def stage(out: object, value: object) -> None:
    """A stage that takes a value."""


@pytest.mark.parametrize("status", [401, 400, 500, 200])
def test_the_key_is_in_no_error(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving(shout, Fault(status, f"bad key {KEY}".encode())) as server, pytest.raises(InputError) as raised:
        texts(judge(server, retries=0), "a")
    assert KEY not in str(raised.value) and "bad key [key]" in str(raised.value)
    if status == 401:
        assert "The key in OPENAI_API_KEY is not accepted" in str(raised.value)


@pytest.mark.parametrize("key", ["two\nlines-of-a-key", "schlüssel-of-somebody"])
def test_a_key_that_is_none_is_not_shown(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with serving(shout) as server, pytest.raises(InputError, match="OPENAI_API_KEY holds no key") as raised:
        texts(judge(server), "a")
    assert "of" not in str(raised.value).split("characters")[0] and not server.requests


# --- in a run ------------------------------------------------------------------------------------

CFG = RLConfig(
    steps=3, prompts=2, group=2, sampling=Sampling(max_tokens=8), engine=Engine(dtype="float32"), checkpoint_every=1
)


def train(out: Path, model: Path, reward: GenerativeReward, resume: bool = False) -> None:
    with Run.open(out, recipe="judged", scale="tiny", config=CFG, seed=0, view=View(quiet=True), resume=resume) as run:
        run.stage(rl, "rl", model, Arithmetic(), algo=GRPO, reward=reward, cfg=CFG)


def metrics_of(out: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for path in out.rglob("metrics.jsonl") for line in path.read_text().splitlines()]
    return [{name: value for name, value in line.items() if not name.startswith("perf/")} for line in lines]


def test_a_judge_that_goes_away_halts_the_run_and_the_run_goes_on_when_it_is_back(
    nano: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving(lambda text: FIVES.replace("5", str(len(text) % 10))) as server:
        reward = GenerativeReward(judge(server, retries=0, cache=False, concurrency=1))
        train(tmp_path / "whole", nano, reward)
        asked = len(server.requests)
        assert asked > 6
        server.faults = [*[None] * (asked - 2), Fault(503)]
        with pytest.raises(InputError, match="does not answer after 1 attempts: status 503"):
            train(tmp_path / "halted", nano, reward)
        assert len(metrics_of(tmp_path / "halted")) == 2
        train(tmp_path / "halted", nano, reward, resume=True)
    assert metrics_of(tmp_path / "halted") == metrics_of(tmp_path / "whole")
    assert KEY.encode() not in everything_in(tmp_path)
