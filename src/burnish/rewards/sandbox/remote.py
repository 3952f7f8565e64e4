"""A service that runs programs: Piston's ``/api/v2/execute`` or SandboxFusion's ``/run_code``.

Piston: https://github.com/engineer-man/piston, docs/api-v2.md. SandboxFusion: https://bytedance.github.io/SandboxFusion.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Any, ClassVar

from burnish.errors import InputError
from burnish.rewards.sandbox.base import COMPILE_ERROR, MEGABYTE, Limits, Program, Result

_SLACK = 30.0  # seconds that a busy service may queue a program


@dataclass(frozen=True)
class Remote:
    """Runs programs where ``url`` says, which has to confine them. It measures real time: too slow is status "wall".

    Raises InputError where the service cannot be reached, refuses the request or fails.
    """

    url: str
    name: ClassVar[str] = "remote"

    def run(self, program: Program, limits: Limits = Limits(), /) -> Result:  # noqa: B008 - a frozen value
        """Run a program to its end."""
        if self.url.rstrip("/").endswith("/execute"):
            return self._piston(program, limits)
        if self.url.rstrip("/").endswith("/run_code"):
            return self._fusion(program, limits)
        raise InputError(
            f"'{self.url}' is no service for programs: it ends neither with /api/v2/execute nor with /run_code"
        )

    def tried(self) -> Remote:
        """This service, after it has run a program. Raises InputError."""
        result = self.run(Program("print(6 * 7)"))
        if (result.status, result.stdout.strip()) != ("ok", b"42"):
            raise InputError(f"{self.url} does not run Python: print(6 * 7) gave {result}")
        return self

    def _piston(self, program: Program, limits: Limits) -> Result:
        request: dict[str, Any] = {
            "language": "python",
            "version": "3",
            "files": [{"name": "program.py", "content": program.source}],
        }
        request |= {
            "stdin": _text(program.stdin),
            "run_timeout": int(1000 * limits.wall),
            "run_memory_limit": limits.memory,
        }
        run = _part(self._post(request, limits), "run")
        name = str(run.get("signal"))
        code = 128 + signal.Signals[name].value if name in signal.Signals.__members__ else run.get("code")
        return _result(run, code, run.get("status") == "TO", limits)

    def _fusion(self, program: Program, limits: Limits) -> Result:
        request: dict[str, Any] = {"language": "python", "code": program.source, "stdin": _text(program.stdin)}
        request |= {"run_timeout": limits.wall, "memory_limit_MB": limits.memory // MEGABYTE}
        reply = self._post(request, limits)
        if reply.get("status") == "SandboxError":
            raise InputError(f"{self.url} failed to run a program: {reply.get('message')}")
        run = _part(reply, "run_result")
        return _result(run, run.get("return_code"), run.get("status") == "TimeLimitExceeded", limits)

    def _post(self, request: dict[str, Any], limits: Limits) -> dict[str, Any]:
        import httpx2

        try:
            reply = httpx2.post(self.url, json=request, timeout=limits.wall + _SLACK)
            reply.raise_for_status()
            content = reply.json()
        except httpx2.HTTPStatusError as error:
            raise InputError(f"{self.url} refused to run a program: {error.response.text[:500]}") from error
        except (httpx2.HTTPError, ValueError, RecursionError) as error:
            raise InputError(f"{self.url} cannot be used to run programs: {type(error).__name__}: {error}") from error
        if not isinstance(content, dict):
            raise InputError(f"{self.url} replied with {type(content).__name__}, not with an object")
        return content


def _part(reply: dict[str, Any], name: str) -> dict[str, Any]:
    value = reply.get(name)
    if not isinstance(value, dict):
        raise InputError(f"a service for programs replied without '{name}': {str(reply)[:500]}")
    return value


def _result(run: dict[str, Any], code: Any, late: bool, limits: Limits) -> Result:
    out, err = (str(run.get(name) or "").encode(errors="replace") for name in ("stdout", "stderr"))
    if late or not isinstance(code, int):
        code = 128 + signal.SIGKILL
    elif code < 0:  # a signal, as Python tells it
        code = 128 - code
    last = err.rstrip().rpartition(b"\n")[2]
    if code == 1 and last.startswith((b"SyntaxError", b"IndentationError", b"TabError")):
        code = COMPILE_ERROR
    if late:
        status = "wall"
    elif max(len(out), len(err)) > limits.output:
        status = "output"
    elif last.startswith(b"MemoryError"):
        status = "memory"
    else:
        status = "ok" if code == 0 else "killed" if code > 128 else "error"
    return Result(status, out[: limits.output], err[: limits.output], code, 0.0)


def _text(data: bytes) -> str:
    return data.decode(errors="replace")
