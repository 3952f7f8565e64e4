"""Services that run programs, against a server of the same form that runs them in a sandbox of this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from burnish.errors import InputError
from burnish.rewards.code import Code
from burnish.rewards.sandbox import Limits, Program, Result, choose
from burnish.rewards.sandbox.process import Local
from burnish.rewards.sandbox.remote import Remote
from burnish.types import Completion, Example


class Service(BaseHTTPRequestHandler):
    box: Local

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = {"/api/v2/execute": self.piston, "/run_code": self.fusion, "/broken/run_code": self.broken}.get(
            self.path
        )
        content = json.dumps(answer(request) if answer else {"message": "no such path"}).encode()
        if deep := self.path == "/deep/run_code":
            content = b"[" * 100_000
        self.send_response(200 if answer or deep else 404)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def piston(self, request: dict[str, Any]) -> dict[str, Any]:
        (file,) = request["files"]
        limits = Limits(wall=request["run_timeout"] / 1000, memory=request["run_memory_limit"])
        done = self.box.run(Program(file["content"], request["stdin"].encode()), limits)
        signal = {137: "SIGKILL", 139: "SIGSEGV"}.get(done.exit_code)
        run = {
            "code": None if signal else python_code(done),
            "signal": signal,
            "status": "TO" if done.status == "wall" else None,
        }
        return {"language": "python", "run": {**run, "stdout": done.stdout.decode(), "stderr": done.stderr.decode()}}

    def fusion(self, request: dict[str, Any]) -> dict[str, Any]:
        limits = Limits(wall=request["run_timeout"], memory=request["memory_limit_MB"] << 20)
        done = self.box.run(Program(request["code"], request["stdin"].encode()), limits)
        late = done.status == "wall"
        code = 128 - done.exit_code if done.exit_code > 128 else python_code(done)
        run = {"status": "TimeLimitExceeded" if late else "Finished", "return_code": None if late else code}
        status = "Success" if done.status == "ok" else "Failed"
        return {"status": status, "run_result": {**run, "stdout": done.stdout.decode(), "stderr": done.stderr.decode()}}

    def broken(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        return {"status": "SandboxError", "message": "no room"}

    def log_message(self, *_: object) -> None:
        pass


def python_code(done: Result) -> int:
    """Other services run Python itself, which knows one exit code for all exceptions."""
    return 1 if done.exit_code == 65 else done.exit_code


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    Service.box = choose()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(params=["/api/v2/execute", "/run_code"])
def service(request: pytest.FixtureRequest, address: str) -> Remote:
    return Remote(f"{address}{request.param}")


@pytest.mark.needs_sandbox
@pytest.mark.parametrize(
    ("source", "status", "code"),
    [
        ("print(input())", "ok", 0),
        ("import sys; sys.exit(7)", "error", 7),
        ("1 +", "error", 65),
        ("import ctypes; ctypes.string_at(0)", "killed", 139),
        ("x = bytearray(1 << 40)", "memory", 1),
        ("print('x' * 5000)", "output", 0),
        ("import time; time.sleep(99)", "wall", 137),
    ],
)
def test_both_forms_tell_the_same(service: Remote, source: str, status: str, code: int) -> None:
    limits = Limits(wall=2.0 if status == "wall" else 60.0, output=1000)
    result = service.run(Program(source, b"said"), limits)
    assert (result.status, result.exit_code) == (status, code)
    assert result.stdout == {"ok": b"said\n", "output": b"x" * 1000}.get(status, b"")


@pytest.mark.needs_sandbox
def test_a_reward_through_a_service(service: Remote) -> None:
    choose.cache_clear()
    example = Example((), meta={"entry_point": "f", "tests": [{"args": [2], "want": 4}]})
    group = [Completion((), code, (), "eos") for code in ("def f(x): return x * x", "def f(x): return x", "def f(")]
    rewards = Code(backend="remote", url=service.url, compile_error=-1.0)(example, group)
    assert [reward[0].value for reward in rewards] == [1.0, 0.0, -1.0]
    check = Example((), meta={"entry_point": "f", "test": "def check(f): assert f(2) == 4"})
    with pytest.raises(InputError, match="use a sandbox of this machine"):
        Code(backend="remote", url=service.url)(check, group)


@pytest.mark.needs_sandbox
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/nowhere/run_code", "refused to run a program: .*no such path"),
        ("/broken/run_code", "failed to run a program: no room"),
        ("/deep/run_code", "cannot be used to run programs: RecursionError"),
        ("/else", "ends neither with"),
    ],
)
def test_services_that_do_not_work(address: str, path: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose("remote", url=f"{address}{path}")


def test_nobody_there() -> None:
    with pytest.raises(InputError, match="cannot be used to run programs"):
        Remote("http://127.0.0.1:9/run_code").tried()
