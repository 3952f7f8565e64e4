"""verifiers as tasks: prompts and rewards of a taskset, what a reply thinks kept apart, and what is no single turn refused."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from burnish.errors import InputError
from burnish.tasks.adapters.verifiers import Verifiers
from burnish.tasks.catalog import get
from burnish.types import Completion, RewardPart

needs = pytest.mark.skipif(
    importlib.util.find_spec("verifiers") is None, reason="make test-adapters, or pip install 'burnish[verifiers]'"
)
SUMS = """
import verifiers.v1 as vf


class Data(vf.TaskData):
    answer: str = ""


class Sum(vf.Task[Data]):
    @vf.reward
    async def right(self, trace: vf.Trace) -> float:
        return float(trace.last_reply == self.data.answer)

    @vf.reward(weight=0.5)
    async def short(self, trace: vf.Trace) -> float:
        return float(len(trace.last_reply) < 4 and not trace.is_truncated)
{task}

class Config(vf.TasksetConfig):
    count: int = 60


class Sums(vf.Taskset[Sum, Config]):
    def load(self):
        for i in range(self.config.count):
            yield Sum(Data({prompt}, answer=str(2 * i)), self.config.task)
{taskset}

{after}
__all__ = [name for name in ("Sums", "Own") if name in globals()]
"""
PROMPT = 'prompt=f"{i} + {i} = ?", system_prompt="Reply with a number."'


@pytest.fixture
def taskset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Writes a taskset that can be imported, and gives its name, a new one each time."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(task: str = "", taskset: str = "", after: str = "", prompt: str = PROMPT) -> str:
        name = f"sums_{len(list(tmp_path.iterdir()))}_{tmp_path.name}".replace("-", "_").lower()
        text = SUMS
        for place, filled in {"task": task, "taskset": taskset, "after": after, "prompt": prompt}.items():
            text = text.replace(f"{{{place}}}", filled)
        (tmp_path / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        return name

    return write


def completion(text: str, finish: str = "eos") -> Completion:
    return Completion((), text, ({"role": "assistant", "content": text},), finish)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "verifiers.v1", None)
    with pytest.raises(InputError, match=r"pip install 'burnish\[verifiers\]'"):
        get("verifiers/anything")


@needs
def test_prompts_splits_and_options(taskset: Callable[..., str]) -> None:
    name = taskset()
    task: Any = get(f"verifiers/{name}")
    parts = [task.with_split(split) for split in ("train", "dev", "test")]
    seen = [{part[i].meta["canonical"] for i in range(len(part))} for part in parts]
    assert sum(map(len, seen)) == len(set.union(*seen)) == 60
    assert len(parts[0]) > 40
    place = task[3].meta["place"]
    assert task[3].messages == (
        {"role": "system", "content": "Reply with a number."},
        {"role": "user", "content": f"{place} + {place} = ?"},
    )
    assert sum(len(Verifiers(name, (("count", 20),), split=split)) for split in ("train", "dev", "test")) == 20
    with pytest.raises(InputError, match=r"refuses the options \{'cuont': 3\}: cuont: Extra inputs"):
        len(Verifiers(name, (("cuont", 3),)))


@needs
def test_every_reward_is_a_part_with_its_weight(taskset: Callable[..., str]) -> None:
    task: Any = get(f"verifiers/{taskset()}")
    example = task[3]
    answer = str(2 * example.meta["place"])
    texts = [answer, f"<think>{answer}0 no</think> {answer}", f"<think>{answer}", "quite a lot"]
    rewards = task.reward(example, [*map(completion, texts), completion(answer, "length")])
    full = (RewardPart(-1, 1.0, "right"), RewardPart(-1, 0.5, "short"))
    assert rewards[:2] == [full, full]
    assert [tuple(part.value for part in reward) for reward in rewards[2:]] == [(0.0, 0.5), (0.0, 0.0), (1.0, 0.0)]
    assert [task.measure(example, completion(text))["success"] for text in texts] == [1.0, 1.0, 0.0, 0.0]


TOOLS = """
    @classmethod
    def toolsets(cls, config):
        return []
"""
MACHINE = """
    async def setup(self, trace, runtime):
        pass
"""
REWARD = """
    @vf.reward
    async def passes(self, trace, runtime) -> float:
        return 1.0
"""


@needs
@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"task": TOOLS}, "gives tools"),
        ({"taskset": TOOLS}, "gives tools"),
        ({"task": MACHINE}, "prepares a machine"),
        ({"task": "    NEEDS_CONTAINER = True\n"}, "prepares a machine"),
        ({"task": REWARD}, "has rewards that need a machine"),
        ({"task": "    right = None\n    short = None\n"}, "has no rewards"),
        ({"prompt": "prompt=None"}, "no prompt of text"),
        ({"after": "class Own(vf.SingleAgentEnv):\n    pass\n"}, "environment of its own"),
    ],
)
def test_what_is_no_single_turn_is_refused(taskset: Callable[..., str], parts: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        get(f"verifiers/{taskset(**parts)}")


@needs
def test_errors_name_the_taskset(taskset: Callable[..., str]) -> None:
    with pytest.raises(
        InputError, match=r"verifiers/no_such_taskset cannot be loaded: taskset 'no_such_taskset' not found"
    ):
        get("verifiers/no_such_taskset")
    failing = taskset(task="    @vf.reward\n    async def broken(self, trace) -> float:\n        return 1 / 0\n")
    task: Any = get(f"verifiers/{failing}")
    with pytest.raises(InputError, match=r"the rewards of verifiers/.* failed; mend the taskset .*ZeroDivisionError"):
        task.reward(task[0], [completion("1")])
