"""What rewards can do to the pool, and what can be done to the program meanwhile: nobody waits, and nothing stays behind."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from burnish.errors import InputError
from burnish.rewards import nursery
from burnish.rewards.function import load_function
from burnish.rewards.pool import Pooled, close_pools, score_groups
from burnish.rewards.record import recorded
from burnish.types import Reward
from tests.misbehaving import CRASHES, EXAMPLE, HANGS, Misbehaving, Where, done, gone, leaving_nothing, marked

MARK = f"test-reward-pool-{os.getpid()}"
MEMORY = 128
UNDISTURBED = 0.5  # seconds that a thousand rewards take of which 40 crash, on two cores with nothing else to do


@pytest.fixture(scope="module", autouse=True)
def nothing_left() -> Iterator[None]:
    with leaving_nothing(MARK):
        yield


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, marked(MARK)
        time.sleep(0.05)


def sleepers() -> int:
    """The processes that a reward has started."""
    return sum(line.startswith("sleep") for line in marked(MARK).values())


def ended(pid: int) -> bool:
    """Whether the process is gone, or waits for its parent to take notice."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def timed(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def nurseries() -> list[int]:
    """Every nursery has one process of its own, which leads its session."""
    return [pid for pid, line in marked(MARK).items() if "nursery" in line and os.getsid(pid) == pid]


def test_a_thousand_rewards_of_which_some_hang_and_some_crash() -> None:
    """They take one deadline, and 2 seconds on a machine that has nothing else to do.

    How busy it is, crashes alone tell, before and after. Where it was busier in between, another attempt counts: hangs that
    wait for each other would make all of them last for many deadlines.
    """
    seconds, lost = 5.0, -1.0
    bad = random.Random(0).sample(range(1000), 40)
    texts = [str(number) for number in range(1000)]
    crashing = list(texts)
    for place, index in enumerate(bad):
        texts[index] = [*HANGS, *CRASHES][place % 8]
        crashing[index] = "exit"
    score = Pooled(Misbehaving(), seconds, MEMORY, workers=2, lost=lost)
    score(EXAMPLE, done("1", "2"))
    groups = [(EXAMPLE, done(*texts[start : start + 8])) for start in range(0, 1000, 8)]
    expected = [lost if index in bad else float(index) for index in range(1000)]

    def excess() -> float:
        """Seconds above what is allowed."""
        rewards: list[Reward] = []
        before = timed(lambda: score(EXAMPLE, done(*crashing)))  # as many new workers, and nobody hangs
        with recorded() as found:
            took = timed(lambda: rewards.extend(reward for group in score_groups(score, groups) for reward in group))
        after = timed(lambda: score(EXAMPLE, done(*crashing)))
        assert [reward[0].value for reward in rewards] == expected
        timeouts, crashes = found["reward/timeouts"], found["reward/crashes"]
        assert timeouts[0] + crashes[0] == 40 and timeouts[0] >= 20 and timeouts[1] == crashes[1] == 1000
        return took - seconds - 2.0 * max(1.0, before / UNDISTURBED, after / UNDISTURBED)

    attempts: list[float] = []
    while len(attempts) < 3 and min(attempts, default=1.0) >= 0:
        attempts.append(excess())
    assert min(attempts) < 0, attempts
    wait_until(lambda: len(marked(MARK)) == 3)  # the nursery and its workers
    assert [reward[0].value for reward in score(EXAMPLE, done("1", "2"))] == [1, 2]


def test_what_a_reward_has_started_ends_with_it() -> None:
    score = Pooled(Misbehaving(), 3.0, MEMORY, workers=2)
    assert score(EXAMPLE, done("children"))[0][0].part == "lost"
    wait_until(lambda: not sleepers())


def test_a_nursery_that_dies_costs_what_is_running() -> None:
    score = Pooled(Where(), 60, MEMORY, workers=2)
    [[first]] = score(EXAMPLE, done("a"))
    for pid in nurseries():
        os.kill(pid, signal.SIGKILL)
    assert gone(MARK) == {}
    wait_until(lambda: ended(int(first.value)))
    [[second]] = score(EXAMPLE, done("a"))
    assert second.part == "process" and second != first


def test_a_nursery_that_dies_during_a_call_costs_what_is_running(capfd: pytest.CaptureFixture[str]) -> None:
    def end_it() -> None:
        wait_until(lambda: sleepers() == 3)
        os.kill(nurseries()[0], signal.SIGKILL)

    close_pools()
    with ThreadPoolExecutor(1) as threads, recorded() as found:
        ended_by = threads.submit(end_it)
        rewards = Pooled(Misbehaving(), 60, MEMORY, workers=1)(EXAMPLE, done("children", "1", "2"))
        ended_by.result()
    assert [reward[0].part for reward in rewards] == ["lost", "number", "number"]
    assert found["reward/crashes"] == (1, 3) and found["reward/timeouts"] == (0, 3)
    assert "something has ended the process that reward workers come from" in capfd.readouterr().err
    for pid in [pid for pid, line in marked(MARK).items() if line.startswith("sleep") or line.startswith("sh -c")]:
        os.kill(pid, signal.SIGKILL)  # nobody was there to end what the reward had started


TAMPERING = """
import os, subprocess, sys, threading, time
from pathlib import Path

def score(completion):
    match completion:
        case "fork":
            os.fork()  # and both go on
        case "folder":
            os.chdir("/")
        case "thread":
            threading.Thread(target=time.sleep, args=[600]).start()
        case "child":
            subprocess.Popen(["sleep", "600"])
        case "print":
            print("much" * 20_000)
            print("more" * 20_000, file=sys.stderr)
        case "raw":
            os.write(1, b"raw ")
        case "files":
            os.closerange(3, 256)
        case "print and hang":
            print("before the hang")
            time.sleep(600)
    return len(completion) + Path("here").exists()
"""


def test_what_a_reward_leaves_behind_is_not_the_next_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    close_pools()  # output goes where it went when the pool was started
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").touch()
    (tmp_path / "tampering.py").write_text(TAMPERING)
    score = Pooled(load_function("tampering.py:score"), 4, MEMORY, workers=1, lost=-1.0)
    deeds = [
        "fork",
        "x",
        "folder",
        "yy",
        "thread",
        "child",
        "print",
        "zzz",
        "raw",
        "files",
        "v",
        "print and hang",
        "ww",
    ]
    rewards = score(EXAMPLE, done(*deeds))
    worth = {"folder": 6, "files": -1, "print and hang": -1}
    assert [reward[0].value for reward in rewards] == [worth.get(deed, len(deed) + 1) for deed in deeds]
    out, err = capfd.readouterr()
    assert out.replace("much" * 20_000, "MUCH") == "MUCH\nraw before the hang\n"
    assert err.replace("more" * 20_000, "MORE") == "MORE\n"
    wait_until(lambda: not sleepers())


def test_children_are_found_without_the_kernels_list() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        assert child.pid in nursery._children()
        assert set(nursery._children_by_parent()) == set(nursery._children())
        child.kill()


@pytest.mark.parametrize("waitid", [True, False])
def test_a_death_is_noticed_on_every_system(waitid: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not waitid:
        monkeypatch.delattr(os, "waitid")
    if pid := os.fork():
        assert os.waitpid(pid, 0)[1] == 0
        return
    try:  # in a process without other children
        nobody = nursery._next_dead()
        if not (child := os.fork()):
            os._exit(0)
        wait_until(lambda: nursery._next_dead() == child)
        os._exit(int(nobody != 0))
    finally:
        os._exit(1)


@contextmanager
def no_more_files() -> Iterator[None]:
    """Only 0, 1 and 2 may be opened, and they are open: what is closed meanwhile makes no room."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_program_that_may_open_no_more_files() -> None:
    score = Pooled(Misbehaving(), 60, MEMORY, workers=1)
    score(EXAMPLE, done("1"))
    with no_more_files(), pytest.raises(InputError, match=r"Too many open files.*`ulimit -n`"):
        score(EXAMPLE, done("exit", "2"))  # needs another worker
    with no_more_files(), pytest.raises(InputError, match=r"Too many open files.*`ulimit -n`"):
        score(EXAMPLE, done("2"))  # needs a nursery
    assert score(EXAMPLE, done("2"))[0][0].value == 2


def test_a_fork_of_the_program_has_its_own_workers() -> None:
    score = Pooled(Where(), 60, MEMORY, workers=1)
    [[ours]] = score(EXAMPLE, done("a"))
    pid = os.fork()
    if not pid:
        [[theirs]] = score(EXAMPLE, done("a"))
        close_pools()
        os._exit(int(theirs.part != "process" or theirs == ours))
    assert os.waitpid(pid, 0)[1] == 0
    assert score(EXAMPLE, done("a")) == [(ours,)]


PROGRAM = """
import sys
from burnish import signals
from burnish.rewards.pool import Pooled
from tests.misbehaving import EXAMPLE, Misbehaving, done

with signals.handle_signals():
    print("begun", flush=True)
    try:
        Pooled(Misbehaving(), 600, 512, workers=2)(EXAMPLE, done("1", "children", "sleep in C", "loop"))
    except signals.Interrupted as stop:
        print("interrupted", flush=True)
        sys.exit(128 + stop.signum)
"""


@contextmanager
def program_that_waits() -> Iterator[subprocess.Popen[str]]:
    """A program whose rewards all hang, in a process group of its own, as a shell starts it."""
    close_pools()
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        cwd=Path(__file__).parents[2],
    ) as program:
        try:
            wait_until(lambda: sleepers() == 3)
            yield program
        finally:
            program.kill()


def test_nothing_outlives_a_program_that_is_killed() -> None:
    with program_that_waits() as program:
        program.kill()
        program.wait()
        assert gone(MARK) == {}


def test_a_signal_is_the_programs_business() -> None:
    with program_that_waits() as program:
        for pid in [pid for pid, line in marked(MARK).items() if "nursery" in line]:
            os.kill(pid, signal.SIGINT)  # as a scheduler does that signals every process of a job
            os.kill(pid, signal.SIGTERM)
        os.killpg(program.pid, signal.SIGINT)
        out, err = program.communicate(timeout=60)
    assert (program.returncode, out) == (130, "begun\ninterrupted\n")
    assert err == "\nstopping: saving a checkpoint; press Ctrl-C again to quit at once\n"
    assert gone(MARK) == {}
