"""A judge behind any OpenAI-compatible endpoint: a hosted model, vLLM, llama.cpp, ``burnish serve``.

What was said once is kept in the cache and not asked again, so a run that is resumed gets the replies it had. The key is
read from the environment when a request is made and is written nowhere.
"""

from __future__ import annotations

import email.utils
import hashlib
import json
import math
import os
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import httpx2
from pydantic import BaseModel, Field, ValidationError

from burnish import files
from burnish.errors import InputError
from burnish.rewards.ask import NoJudgeError, Question, Said, chosen
from burnish.rewards.record import record

LONGEST_WAIT = 60.0
"""Seconds between two attempts, at most, whatever a server asks for."""
LONGEST_REPLY = 16 * 2**20
"""Bytes of one reply: far more than any text with its log-probs."""
_SHOWN = 300

Body = dict[str, Any]


class _Token(BaseModel):
    token: str
    logprob: Annotated[float, Field(le=1e-3, allow_inf_nan=False)]


class _Place(_Token):
    top_logprobs: list[_Token] = []


class _Logprobs(BaseModel):
    content: list[_Place] | None = None


class _Text(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Text
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None

    @property
    def first(self) -> dict[str, float]:
        """The probability of each token that the reply may have begun with, as far as they were reported."""
        places = (self.logprobs.content if self.logprobs else None) or []
        listed = [places[0], *places[0].top_logprobs] if places and places[0].top_logprobs else []
        return {each.token: math.exp(each.logprob) for each in listed}


class _Reply(BaseModel):
    choices: list[_Choice]


class _RetryError(Exception):
    """Worth another attempt. ``wait`` is how many seconds the server asked for."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True)
class Endpoint:
    """``POST {url}/chat/completions``, at most ``concurrency`` requests at a time; replies in the order of the questions.

    ``url`` ends with the version, as in ``https://api.openai.com/v1``. ``key_env`` names the environment variable with the
    key; without one in it no key is sent. ``timeout`` is in seconds, for the beginning of a reply and again for the rest. After
    a connection error, a status of 408, 409, 429, 5xx or a reply that is no chat completion the request is repeated ``retries``
    times, after ``backoff`` seconds, then twice as long, and so on, or as long as ``Retry-After`` says. ``top_logprobs`` is how
    many tokens a choice is looked for among. ``options`` are added to the request, a None takes a field out of it:
    ``(("max_tokens", None), ("max_completion_tokens", 4000))``. ``cache`` False asks every time.

    :meth:`ask` raises NoJudgeError, which ends a run at its last checkpoint, where the endpoint cannot be used.
    """

    url: str
    model: str
    key_env: str = "OPENAI_API_KEY"
    concurrency: int = 8
    timeout: float = 60.0
    retries: int = 5
    backoff: float = 1.0
    top_logprobs: int = 20
    options: tuple[tuple[str, str | int | float | bool | None], ...] = ()
    cache: bool = True

    def __post_init__(self) -> None:
        try:
            url = httpx2.URL(self.url)
        except httpx2.InvalidURL as error:
            raise InputError(
                f"the judge's url is none ({error}): give one such as https://api.openai.com/v1"
            ) from error
        if url.userinfo or url.query:  # they would be written with the run
            raise InputError("the judge's url has a password or a query in it: give the key in an environment variable")
        if url.scheme not in ("http", "https") or not url.host:
            raise InputError(f"the judge's url is {self.url!r}: give one such as https://api.openai.com/v1")
        if self.concurrency < 1 or self.retries < 0 or self.timeout <= 0 or self.backoff < 0:
            raise InputError(f"{self}: give concurrency >= 1, retries >= 0, timeout > 0 and backoff >= 0")

    def ask(self, questions: Sequence[Question]) -> list[Said]:
        """The replies, in order. Records ``perf/judge_cached``, the share of questions that had been asked before."""
        bodies = [self._body(question) for question in questions]
        names = [self._name(body) for body in bodies]
        known = {name: reply for name in names if (reply := self._stored(name)) is not None}
        record("perf/judge_cached", sum(name in known for name in names), len(names))
        missing = {name: body for name, body in zip(names, bodies, strict=True) if name not in known}
        known |= self._fetch(missing)
        return [self._said(question, known[name]) for question, name in zip(questions, names, strict=True)]

    def _body(self, question: Question) -> Body:
        body: Body = {
            "model": self.model,
            "messages": list(question.messages),
            "max_tokens": question.max_tokens,
            "temperature": question.temperature,
        }
        if question.temperature:
            body["seed"] = question.seed
        if question.choices:
            body |= {"max_tokens": 1, "logprobs": True, "top_logprobs": self.top_logprobs}
        return {name: value for name, value in (body | dict(self.options)).items() if value is not None}

    # --- cache

    def _name(self, body: Body) -> str:
        """The hash of what is asked and of whom; the key is no part of it."""
        return hashlib.sha256(json.dumps([self.url, self.model, body], sort_keys=True).encode()).hexdigest()

    def _stored(self, name: str) -> _Choice | None:
        path = files.cache_dir() / "judge" / name[:2] / f"{name}.json"
        if not self.cache or not path.exists():
            return None
        try:
            return _Choice.model_validate_json(path.read_bytes())
        except ValidationError:  # of another version, or damaged: ask again
            return None

    def _store(self, name: str, reply: _Choice) -> None:
        """Keep a reply. The lock is there because temporary names are fixed; see :mod:`burnish.files`."""
        folder = files.cache_dir() / "judge" / name[:2]
        try:
            with files.Lock(files.make_directory(folder) / "lock") as lock:
                lock.acquire(wait=True)
                files.write_json(folder / f"{name}.json", reply.model_dump())
        except OSError as error:
            raise InputError(
                f"cannot write the judge's cache {folder}: {error}. Set BURNISH_CACHE to a writable directory, or give the "
                "judge cache=False"
            ) from error

    # --- requests

    def _fetch(self, missing: Mapping[str, Body]) -> dict[str, _Choice]:
        """The replies by name. The first that cannot be had ends the others."""
        if not missing:
            return {}
        key, halt = self._key(), threading.Event()
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        with (
            httpx2.Client(headers=headers, timeout=self.timeout) as client,
            ThreadPoolExecutor(min(self.concurrency, len(missing))) as pool,
        ):
            futures = [pool.submit(self._reply, client, name, body, key, halt) for name, body in missing.items()]
            try:
                for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                    future.result()
            except BaseException:
                halt.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            return {name: future.result() for name, future in zip(missing, futures, strict=True)}

    def _key(self) -> str:
        key = os.environ.get(self.key_env, "").strip() if self.key_env else ""
        if not (key.isascii() and key.isprintable()):
            raise InputError(f"the variable {self.key_env} holds no key: it has characters that no header may have")
        return key

    def _reply(self, client: httpx2.Client, name: str, body: Body, key: str, halt: threading.Event) -> _Choice:
        """The reply to one request, kept; after a ``halt`` no attempt is made any more."""
        for attempt in range(self.retries + 1):
            try:
                reply = self._attempt(client, body, key)
            except _RetryError as error:
                reason, pause = str(error), error.wait
            else:
                if self.cache and not (key and key in reply.model_dump_json()):
                    self._store(name, reply)
                return reply
            pause = self.backoff * 2**attempt if pause is None else pause
            if attempt < self.retries and halt.wait(min(pause, LONGEST_WAIT)):
                break
        raise NoJudgeError(
            f"the judge at {self.url} does not answer after {self.retries + 1} attempts: {reason}. Start it, or raise its "
            "timeout or retries; what it has said so far is kept, and --resume goes on from the last checkpoint"
        )

    def _attempt(self, client: httpx2.Client, body: Body, key: str) -> _Choice:
        try:
            with client.stream("POST", f"{self.url.rstrip('/')}/chat/completions", json=body) as response:
                content = self._whole(response)
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            raise _RetryError(f"{type(error).__name__} {error}".strip()) from error
        status, said = response.status_code, _excerpt(content.decode(errors="replace"), key)
        if status in (408, 409, 429) or status >= 500:
            raise _RetryError(f"status {status}: {said}", _retry_after(response.headers.get("Retry-After")))
        if status != 200:
            raise self._refused(status, said, bool(key))
        try:
            reply = _Reply.model_validate_json(content)
        except ValidationError as error:
            raise _RetryError(f"the reply is no chat completion: {said}") from error
        if not reply.choices:
            raise _RetryError(f"the reply has no choices: {said}")
        if body.get("logprobs") and not reply.choices[0].first:
            raise NoJudgeError(
                f"the judge {self.model!r} at {self.url} reports no log-probs, which a choice among answers is read from: "
                "take a server that does, such as vLLM or llama.cpp, or a judge that writes its verdict (GenerativeReward)"
            )
        return reply.choices[0]

    def _whole(self, response: httpx2.Response) -> bytes:
        """What a server sends. One that sends a little now and then, and never ends, would hold a run for ever."""
        deadline, content = time.monotonic() + self.timeout, bytearray()
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) > LONGEST_REPLY:
                raise _RetryError(f"the reply is longer than {LONGEST_REPLY} bytes")
            if time.monotonic() > deadline:
                raise _RetryError(f"the reply had not ended after {self.timeout:g} s")
        return bytes(content)

    def _refused(self, status: int, said: str, keyed: bool) -> NoJudgeError:
        """The error for a status that another attempt would not change."""
        place = f"the judge at {self.url} refuses the request (status {status}: {said})"
        if status in (401, 403):
            told = f"the key in {self.key_env} is not accepted" if keyed else "no key was sent"
            return NoJudgeError(
                f"{place}. {told[0].upper()}{told[1:]}: put one in the environment variable {self.key_env!r}"
            )
        if status == 404:
            return NoJudgeError(
                f"{place}. Check the model {self.model!r} and that the url ends with the version, as in /v1"
            )
        return NoJudgeError(f"{place}. Check the model {self.model!r} and the options of the judge")

    @staticmethod
    def _said(question: Question, reply: _Choice) -> Said:
        if not question.choices:
            return Said(reply.message.content or "", "length" if reply.finish_reason == "length" else "eos")
        first = reply.first
        return chosen({choice: first.get(choice, 0.0) + first.get(f" {choice}", 0.0) for choice in question.choices})


def _excerpt(text: str, key: str) -> str:
    """The beginning of what a server said, on one line, without the key if it repeats it."""
    shown = " ".join((text.replace(key, "[key]") if key else text).split())
    return shown[:_SHOWN] or "nothing"


def _retry_after(header: str | None) -> float | None:
    """Seconds, from a number or a date; None where neither is given."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        when = email.utils.parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
