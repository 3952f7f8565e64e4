"""Programs in processes of this machine: what goes in, what comes out, and how it ends.

A backend says how a process is isolated (:meth:`Local.spawn`); the limits, the pipes and the end are the same for all.
"""

from __future__ import annotations

import os
import random
import selectors
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Protocol, Self

from burnish.rewards.sandbox import filter
from burnish.rewards.sandbox.base import Limits, Program, Result

_CHUNK = 1 << 16
_USERS = range(61184, 65520)  # what systemd takes for users that exist for a moment
KILLED = 128 + signal.SIGKILL
_SETTLE = 10.0  # seconds that a killed process may need to be gone


class Child(Protocol):
    """A process with unbuffered pipes. ``wait`` gives (exit code, seconds of processor time), or None at the timeout."""

    stdin: IO[bytes]
    stdout: IO[bytes]
    stderr: IO[bytes]

    def kill(self) -> None: ...
    def wait(self, timeout: float) -> tuple[int, float] | None: ...


class Local(ABC):
    """Runs programs as processes of this machine."""

    name: str

    @abstractmethod
    def spawn(self, limits: Limits) -> Child:
        """An isolated interpreter that runs ``inside.py``."""

    def start(self, program: Program, limits: Limits = Limits()) -> Session:  # noqa: B008 - a frozen value
        """Begin a program and leave its standard input open: it can be talked to."""
        session = Session(self.spawn(limits), limits)
        source = program.source.encode(errors="replace")
        session.send(b"%d\n%s%s" % (len(source), source, program.stdin))
        return session

    def run(self, program: Program, limits: Limits = Limits(), /) -> Result:  # noqa: B008
        """Run a program to its end."""
        with self.start(program, limits) as session:
            return session.finish()


class Session:
    """A running program. Whoever leaves the context leaves no process behind."""

    def __init__(self, child: Child, limits: Limits) -> None:
        self._child, self._limits = child, limits
        self._deadline = time.monotonic() + limits.wall
        self._pending = b""
        self._seen = {child.stdout: bytearray(), child.stderr: bytearray()}
        self._answered = 0  # bytes of the output that were read as lines
        self.failure = ""
        self._result: Result | None = None
        self._selector = selectors.DefaultSelector()
        for stream in self._seen:
            os.set_blocking(stream.fileno(), False)
            self._selector.register(stream, selectors.EVENT_READ)
        os.set_blocking(child.stdin.fileno(), False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._result is None:
            self.failure = self.failure or "killed"
            self._end()

    def send(self, data: bytes) -> None:
        """Data for the program; they are written when it is next waited for."""
        self._pending += data

    def ask(self, line: bytes) -> bytes | None:
        """Send a line, with its line feed, and wait for one. None where the program ended or went over a limit."""
        self.send(line)
        out = self._seen[self._child.stdout]
        while b"\n" not in out[self._answered :]:
            if not self._turn():
                return None
        end = out.index(b"\n", self._answered) + 1
        answer = bytes(out[self._answered : end])
        self._answered = end
        return answer

    def finish(self) -> Result:
        """Close the program's input and wait for its end."""
        while self._pending and self._turn():
            pass
        self._close_input()
        while self._turn():
            pass
        return self._end()

    def _turn(self) -> bool:
        """Wait for one thing to happen; False where nothing more can."""
        if self.failure or not any(key.fileobj in self._seen for key in self._selector.get_map().values()):
            return False
        self._watch_input()
        ready = self._selector.select(max(0.0, self._deadline - time.monotonic()))
        if not ready and time.monotonic() >= self._deadline:
            self.failure = "wall"
        for key, _ in ready:
            if key.fileobj is self._child.stdin:
                self._write()
            else:
                self._read(key.fileobj)  # type: ignore[arg-type]
        return not self.failure

    def _watch_input(self) -> None:
        watched = not self._child.stdin.closed and self._child.stdin in self._selector.get_map()
        if self._pending and not watched and not self._child.stdin.closed:
            self._selector.register(self._child.stdin, selectors.EVENT_WRITE)
        elif watched and not self._pending:
            self._selector.unregister(self._child.stdin)

    def _write(self) -> None:
        try:
            written = os.write(self._child.stdin.fileno(), self._pending[:_CHUNK])
        except BrokenPipeError:  # it reads no more, which is its right
            self._close_input()
        else:
            self._pending = self._pending[written:]

    def _close_input(self) -> None:
        self._pending = b""
        if not self._child.stdin.closed:
            if self._child.stdin in self._selector.get_map():
                self._selector.unregister(self._child.stdin)
            self._child.stdin.close()

    def _read(self, stream: IO[bytes]) -> None:
        chunk = os.read(stream.fileno(), _CHUNK)
        seen = self._seen[stream]
        seen += chunk
        if not chunk:
            self._selector.unregister(stream)
        elif len(seen) > self._limits.output:
            del seen[self._limits.output :]
            self.failure = "output"

    def _end(self) -> Result:
        ended = None if self.failure else self._child.wait(max(0.0, self._deadline - time.monotonic()))
        if ended is None:
            self.failure = self.failure or "wall"
            self._child.kill()
            ended = self._child.wait(_SETTLE) or (KILLED, 0.0)
        self._selector.close()
        for stream in (self._child.stdin, *self._seen):
            stream.close()
        out, err = (bytes(seen) for seen in self._seen.values())
        self._result = Result(self.failure or status(*ended, err, self._limits), out, err, *ended)
        return self._result


def status(code: int, cpu: float, stderr: bytes, limits: Limits) -> str:
    """What an exit code means."""
    if code == 0:
        return "ok"
    if code == 128 + signal.SIGXCPU or (code == KILLED and cpu >= limits.cpu):
        return "cpu"
    if stderr.rstrip().rpartition(b"\n")[2].startswith(b"MemoryError"):
        return "memory"
    return "killed" if 128 < code <= 128 + signal.SIGRTMAX else "error"


class Process:
    """A child of this process. Its environment is empty but for a fixed seed of hashes: the same program does the same."""

    def __init__(self, command: Sequence[str], accounted: bool = True) -> None:
        """``accounted`` says that the time of the program is added to that of the command, which waits for it."""
        self._accounted = accounted
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=ENVIRONMENT,
            cwd="/",
            start_new_session=True,
        )
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self.stdin, self.stdout, self.stderr = self._process.stdin, self._process.stdout, self._process.stderr

    def kill(self) -> None:
        """The whole group: a process that is being set up may not yet die with its parent."""
        if self._process.returncode is None:  # Popen.kill would take the exit code away from wait4
            os.killpg(self._process.pid, signal.SIGKILL)

    def wait(self, timeout: float) -> tuple[int, float] | None:
        deadline, pause = time.monotonic() + timeout, 0.0005
        while True:
            pid, ended, usage = os.wait4(self._process.pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(ended)
                self._process.returncode = code
                seconds = usage.ru_utime + usage.ru_stime if self._accounted else 0.0
                return (128 - code if code < 0 else code), seconds
            if time.monotonic() >= deadline:
                return None
            time.sleep(pause)
            pause = min(2 * pause, 0.01)


ENVIRONMENT: Mapping[str, str] = {"PYTHONHASHSEED": "0"}


def temporary_user() -> int:
    """A user for one run where we are root, so that limits bind and runs do not share them; 0 where we are not."""
    return random.SystemRandom().choice(_USERS) if os.geteuid() == 0 else 0


@cache
def text(module: str) -> str:
    """The source of a module beside this one, to be run by another interpreter."""
    return Path(__file__).with_name(f"{module}.py").read_text(encoding="utf-8")


def interpreter(*arguments: str) -> list[str]:
    """The command of an interpreter that knows nothing but the standard library."""
    return [os.path.realpath(sys._base_executable), "-P", "-s", "-S", "-X", "utf8", "-c", *arguments]  # type: ignore[attr-defined]


def inside(limits: Limits, user: int = 0, threads: int = 0, filtered: bool = True) -> list[str]:
    """The command of an interpreter that runs ``inside.py``."""
    numbers = (limits.cpu, limits.memory, threads, user)
    return interpreter(text("inside"), *map(str, numbers), filter.program().hex() if filtered else "")


@dataclass(frozen=True)
class View:
    """What of the file system a program may read: files, folders with all that is in them, and (link, target)."""

    paths: tuple[str, ...]
    links: tuple[tuple[str, str], ...]


DEVICES = ("/dev/null", "/dev/urandom")


@cache
def view() -> View:
    """The interpreter with its standard library, and the libraries of the system that it loads."""
    base = Path(os.path.realpath(sys.base_prefix))
    executable = Path(interpreter()[0])
    candidates = [Path(name) for name in ("/usr/lib", "/usr/lib64", "/lib", "/lib64")] + [base / "lib", base / "lib64"]
    links = tuple((str(path), str(path.readlink())) for path in candidates if path.is_symlink())
    folders = {path for path in candidates if path.is_dir() and not path.is_symlink()}
    top = sorted(path for path in folders if not any(above in folders for above in path.parents))
    return View((*map(str, top), str(executable)), links)
