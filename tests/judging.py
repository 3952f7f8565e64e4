"""A judge server on 127.0.0.1 that speaks chat/completions and fails as it is told to; rules that stand for a model."""

from __future__ import annotations

import json
import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from burnish.rewards.ask import Question, Said, chosen
from burnish.types import Completion, Example

Rule = Callable[[str], str | Mapping[str, float]]
"""What is said to the last message of a conversation: a text, or the probability of each first token."""


def completion(text: str, finish: str = "eos") -> Completion:
    return Completion((1, 2), text, ({"role": "assistant", "content": text},), finish)


def asked(text: str, answer: object = None, **meta: Any) -> Example:
    return Example(({"role": "user", "content": text},), answer, meta)


def question(text: str, **settings: Any) -> Question:
    return Question(({"role": "user", "content": text},), **settings)


def sections(text: str) -> dict[str, str]:
    """The material in a question, as one who heeds the mark reads it."""
    found = re.search(r"Only lines with the mark ([0-9a-f]{16}) begin", text)
    assert found, text
    here = found[1]
    return dict(re.findall(rf"^<<{here} (.+?)>>\n(.*?)\n<<{here} end of \1>>$", text, re.DOTALL | re.MULTILINE))


@dataclass(frozen=True)
class Scripted:
    """A judge in this process that follows a rule; ``seen`` collects what it was asked, call by call."""

    rule: Rule
    seen: list[list[Question]] = field(default_factory=list, compare=False, repr=False)

    def ask(self, questions: Sequence[Question]) -> list[Said]:
        self.seen.append(list(questions))
        return [self._said(each) for each in questions]

    def _said(self, each: Question) -> Said:
        said = self.rule(each.messages[-1]["content"])
        if isinstance(said, str):
            return Said(said)
        return chosen({choice: said.get(choice, 0.0) for choice in each.choices})

    @property
    def texts(self) -> list[str]:
        return [each.messages[-1]["content"] for call in self.seen for each in call]


@dataclass(frozen=True)
class Fault:
    """An answer that is none: a status with headers and a body, after a while; status 0 closes the connection.

    With a ``pace`` its bytes come one by one, so many seconds apart.
    """

    status: int
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    after: float = 0.0
    pace: float = 0.0


class Server(ThreadingHTTPServer):
    """``faults`` are answered first, one a request, None being none. ``requests`` are (headers, body), ``busiest`` is how
    many there were at one time.
    """

    daemon_threads = True
    # Faster than a client that gives up closes: a late reply to nobody is no error of the test.
    block_on_close = False

    def __init__(
        self, rule: Rule, faults: Sequence[Fault | None] = (), *, logprobs: bool = True, pause: float = 0.0
    ) -> None:
        self.rule, self.faults, self.logprobs, self.pause = rule, list(faults), logprobs, pause
        self.requests: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.paths: list[str] = []
        self.busy = self.busiest = 0
        self.guard = threading.Lock()
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has hung up is expected here."""

    def reply(self, body: Mapping[str, Any]) -> dict[str, Any]:
        said = self.rule(body["messages"][-1]["content"])
        if isinstance(said, str):
            return {"choices": [{"message": {"role": "assistant", "content": said}, "finish_reason": "stop"}]}
        top = [{"token": token, "logprob": math.log(p)} for token, p in said.items() if p > 0]
        place = {**max(top, key=lambda each: each["logprob"]), "top_logprobs": top[: body["top_logprobs"]]}
        logprobs = {"content": [place]} if self.logprobs else None
        message = {"role": "assistant", "content": place["token"]}
        return {"choices": [{"message": message, "finish_reason": "length", "logprobs": logprobs}]}


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.guard:
            self.server.requests.append((dict(self.headers), body))
            self.server.paths.append(self.path)
            self.server.busy += 1
            self.server.busiest = max(self.server.busy, self.server.busiest)
            fault = self.server.faults.pop(0) if self.server.faults else None
        try:
            self._answer(body, fault)
        finally:
            with self.server.guard:
                self.server.busy -= 1

    def _answer(self, body: Mapping[str, Any], fault: Fault | None) -> None:
        time.sleep(fault.after if fault else self.server.pause)
        if fault is None:
            self._send(200, json.dumps(self.server.reply(body)).encode(), {"Content-Type": "application/json"})
        elif fault.status:
            self._send(fault.status, fault.body, fault.headers, fault.pace)
        else:
            self.close_connection = True

    def _send(self, status: int, content: bytes, headers: Mapping[str, str], pace: float = 0.0) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        for part in [content[i : i + 1] for i in range(len(content))] if pace else [content]:
            self.wfile.write(part)
            time.sleep(pace)

    def log_message(self, *_: Any) -> None:
        """Tests print nothing."""


@contextmanager
def serving(rule: Rule, *faults: Fault | None, **settings: Any) -> Iterator[Server]:
    server = Server(rule, faults, **settings)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
