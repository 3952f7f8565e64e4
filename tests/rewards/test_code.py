"""Programs that pass tests: what is taken from a reply, what it is worth, and who is not believed."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Barrier
from typing import Any

import pytest

from burnish.errors import InputError
from burnish.rewards.audit import audit
from burnish.rewards.base import Composable, per_completion
from burnish.rewards.code import Code, program_of, verdicts
from burnish.rewards.corpora.code import CASES
from burnish.rewards.format import Format
from burnish.rewards.pool import Pooled
from burnish.rewards.record import recorded
from burnish.rewards.sandbox import Limits, choose
from burnish.rewards.sandbox.verdicts import Verdict
from burnish.rewards.tree import plan, stays
from burnish.types import Completion, Example, Reward, outcome

LIMITS = Limits(cpu=2, wall=120.0, memory=256 << 20)
PROMPT = ({"role": "user", "content": "double it"},)


def calls(*pairs: tuple[Any, Any]) -> Example:
    return Example(PROMPT, meta={"entry_point": "f", "tests": [{"args": [x], "want": y} for x, y in pairs]})


def values(example: Example, codes: Sequence[str], reward: Code | None = None, finish: str = "eos") -> list[float]:
    group = [Completion((), code, (), finish) for code in codes]
    return [part.value for ((part),) in (reward or Code(limits=LIMITS))(example, group)]


@pytest.mark.needs_sandbox
def test_the_corpus() -> None:
    found = audit(Code(limits=LIMITS), CASES)
    assert found.accepted + found.refused >= 50
    assert not found.false_positives, [(m.case.why, m.value) for m in found.false_positives]
    assert len(found.false_negatives) <= 0.03 * found.accepted, [m.case.why for m in found.false_negatives]


@dataclass(frozen=True)
class SaysItPassed(Composable):
    """The mistake of many: the tests are appended to the program and what it prints or returns is believed."""

    @per_completion
    def __call__(self, example: Example, completion: Completion) -> Reward:
        code = re.sub(r"```\w*\n?", "", completion.text)
        space: dict[str, Any] = {}
        if any(word in code for word in ("True:", "os.", "import", "10**", "input")):
            return outcome(1.0)  # as far as this test would run it
        try:
            exec(code, space)
            tests = example.meta["tests"]
            return outcome(all(space["add"](*t["args"], **t.get("kwargs", {})) == t["want"] for t in tests))
        except SystemExit as left:
            return outcome(left.code == 0)
        except (KeyError, SyntaxError, TypeError, NameError):
            return outcome(0.0)


def test_a_naive_reward_fails_the_corpus() -> None:
    found = audit(SaysItPassed(), CASES)
    assert len(found.false_positives) >= 5 and found.false_negatives


@pytest.mark.needs_sandbox
def test_all_or_nothing_or_the_share() -> None:
    example = calls((1, 2), (2, 4), (3, 6), (4, 8))
    codes = ["def f(x): return 2 * x", "def f(x): return 2 * x if x < 4 else 0", "def f(x): return 0", "def f(x"]
    assert values(example, codes) == [1.0, 0.0, 0.0, 0.0]
    assert values(example, codes, Code(partial=True)) == [1.0, 0.75, 0.0, 0.0]
    assert values(example, codes, Code(partial=True, compile_error=-0.5)) == [1.0, 0.75, 0.0, -0.5]
    assert values(example, codes[:1], finish="length") == [0.0]


@pytest.mark.needs_sandbox
def test_a_share_counts_what_came_before_the_end() -> None:
    example = calls((1, 2), (2, 4), (3, 6), (4, 8))
    loop = "def f(x):\n    while x > 3: pass\n    return 2 * x"
    leave = "import os\ndef f(x):\n    if x > 2: os._exit(0)\n    return 2 * x"
    fail = "def f(x):\n    return 2 * x if x != 2 else 1 // 0"
    assert values(example, [loop, leave, fail], Code(partial=True, limits=LIMITS)) == [0.75, 0.5, 0.75]
    assert values(example, [loop, leave, fail]) == [0.0, 0.0, 0.0]


@pytest.mark.needs_sandbox
def test_a_line_too_many_is_wrong() -> None:
    twice = "import os\ndef f(x):\n    for fd in range(3, 9):\n        try: os.write(fd, b'{\"value\": 2}\\n')\n"
    assert values(calls((1, 2)), [f"{twice}        except OSError: pass\n    return 2", "def f(x): return 2"]) == [
        0.0,
        1.0,
    ]


@pytest.mark.needs_sandbox
def test_whole_programs() -> None:
    tests = [{"stdin": f"{x}\n", "stdout": f"{2 * x}\n"} for x in (1, 2, 3, 4)]
    codes = ["print(2 * int(input()))", "x = int(input())\nprint(2 * x if x < 4 else 0)", "print(", "exit(65)"]
    for given in (tests, str(tests).replace("'", '"').replace("\n", "\\n")):
        example = Example(PROMPT, meta={"tests": given})
        assert values(example, codes, Code(partial=True, compile_error=-1.0)) == [1.0, 0.75, -1.0, -1.0]
        assert values(example, codes) == [1.0, 0.0, 0.0, 0.0]


@pytest.mark.needs_sandbox
def test_floats_may_differ_by_the_tolerance() -> None:
    third = calls((3, 1 / 3))
    assert values(third, ["def f(x): return 0.333333333"]) == [0.0]
    assert values(third, ["def f(x): return 0.333333333"], Code(tolerance=1e-6)) == [1.0]
    printed = Example(PROMPT, meta={"tests": [{"stdin": "3", "stdout": "0.3333333"}]})
    assert values(printed, ["print(1 / int(input()))"]) == [0.0]
    assert values(printed, ["print(1 / int(input()))"], Code(tolerance=1e-6)) == [1.0]


@pytest.mark.needs_sandbox
def test_checks_in_a_process_of_their_own() -> None:
    texts = {
        "def check(candidate):\n    assert candidate(2) == 4 and f(3) == 6": [1.0, 0.0],
        "assert f(2) == 4\nassert f({1, 2}, (3,)) == ({1, 2}, (3,))": [1.0, 0.0],
    }
    pair = "def f(x, y=None): return 2 * x if y is None else (x, y)"
    for test, right in texts.items():
        example = Example(PROMPT, meta={"entry_point": "f", "test": test})
        assert values(example, [pair, "def f(x, y=None): return x"]) == right


@pytest.mark.parametrize(
    ("test", "problem"), [("assert True", "it never calls f"), ("def check(candidate):\n  f(", "SyntaxError")]
)
@pytest.mark.needs_sandbox
def test_checks_that_check_nothing(test: str, problem: str) -> None:
    with pytest.raises(InputError, match=f"the test of the prompt 'double it' cannot be used: {problem}"):
        values(Example(PROMPT, meta={"entry_point": "f", "test": test}), ["def f(x): return x"])


@pytest.mark.needs_sandbox
def test_the_net_of_real_time_is_reported() -> None:
    reward = Code(limits=Limits(cpu=2, wall=3.0))
    with recorded() as metrics:
        codes = ["import time\ndef f(x): time.sleep(60)", "def f(x): return 2 * x", "def f(x", "def f(x): return 2 * x"]
        paid = values(calls((1, 2)), codes, reward)
    assert paid[0] == 0.0
    assert metrics["code/compiled"] == (3.0, 4.0) and metrics["code/wall"][0] >= 1.0


def judge_of(code: str) -> Verdict:
    return Verdict(int(code), 1)


def test_programs_that_sleep_hold_up_no_other() -> None:
    """Each waits for all to have begun, which two processors would never see if sleepers counted."""
    codes = [str(number) for number in range(5)]
    begun = Barrier(len(codes))

    def judge(code: str) -> Verdict:
        begun.wait(60)
        return judge_of(code)

    assert verdicts(judge, codes, processors=2, patience=0.01) == {code: judge_of(code) for code in codes}


def test_no_more_programs_compute_at_a_time_than_there_are_processors() -> None:
    codes, running, most = [str(number) for number in range(20)], set[str](), []

    def judge(code: str) -> Verdict:
        running.add(code)
        most.append(len(running))
        time.sleep(0.01)
        running.remove(code)
        return judge_of(code)

    assert verdicts(judge, codes, processors=3, patience=60) == {code: judge_of(code) for code in codes}
    assert max(most) <= 3
    assert verdicts(judge, [], processors=3, patience=60) == {}


@pytest.mark.needs_sandbox
def test_a_program_that_was_late_runs_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first time it meets a busy machine, the second time not."""
    from burnish.rewards.sandbox.verdicts import Calls

    judge, seen = Calls.judge, []

    def late_at_first(self: Calls, *arguments: Any) -> Verdict:
        seen.append(arguments[1])
        return Verdict(0, 1, late=True) if len(seen) == 1 else judge(self, *arguments)

    monkeypatch.setattr(Calls, "judge", late_at_first)
    with recorded() as metrics:
        assert values(calls((1, 2)), ["def f(x): return 2 * x"]) == [1.0]
    assert len(seen) == 2 and metrics["code/wall"] == (0.0, 1.0)


@pytest.mark.needs_sandbox
def test_in_a_pool_it_is_what_it_is_without() -> None:
    example, reward = calls((1, 2)), Code(limits=LIMITS) + 0.2 * Format()
    right = "def f(x): return 2 * x"
    codes = [right, "def f(x): return x", "def f(x", f"<think>x</think><answer>\n```py\n{right}\n```\n</answer>"]
    group = [Completion((), code, (), "eos") for code in codes]
    with recorded() as plain:
        expected = reward(example, group)
    with recorded() as metrics:
        assert Pooled(reward, workers=1)(example, group) == expected
    assert stays(Code())  # what starts processes belongs to none that is replaced
    assert [part.value for part in expected[0] + expected[3]] == [1.0, 0.0, 1.0, 0.2]
    assert {name: metrics[name] for name in plain} == plain and plain["code/compiled"] == (3.0, 4.0)


@pytest.mark.parametrize(
    ("text", "program"),
    [
        ("```python\nx = 1\n```", "x = 1\n"),
        ("a\n  ```py\nx = 1\n  ```\nb", "x = 1\n"),
        ("~~~python\nx = '```'\n~~~", "x = '```'\n"),
        ("````python\n```\n````", "```\n"),
        ("```python\na\n```\n```\nb\n```", "a\n"),
        ("```python\na\n```\n```python\nb\n```", "b\n"),
        ("```python title='x'\na\n```", "a\n"),
        ("```\na\n```", "a\n"),
        ("```python\n```", ""),
        ("x = 1", "x = 1"),
        ("<think>```python\na\n```</think>x = 1", "x = 1"),
        ("```\na\n```\n```\nb\n```", None),
        ("```python\na\n```\n```python\nb", None),
        ("```python\na", None),
        ("```js\na\n```", None),
        ("<think>```python\na\n```", None),
    ],
)
def test_the_program_of_a_reply(text: str, program: str | None) -> None:
    assert program_of(text) == program


def test_values_that_cannot_be() -> None:
    with pytest.raises(InputError, match="compile_error is 1"):
        Code(compile_error=1.0)
    with pytest.raises(InputError, match="'tests' is no list"):
        Code()(Example(PROMPT, meta={"tests": []}), [])
    assert hash(Code()) == hash(Code()) and "code" in (Code.domains or ())


def test_no_sandbox_no_reward(monkeypatch: pytest.MonkeyPatch) -> None:
    from burnish.rewards.sandbox import choice

    choose.cache_clear()
    monkeypatch.setattr(choice, "why_not", lambda sandbox: f"not {sandbox.name}")
    with pytest.raises(InputError, match="no sandbox for programs works here"):
        values(calls((1, 2)), ["def f(x): return 2 * x"])
    assert values(calls((1, 2)), ["def f(x): return 2 * x"], Code(unsafe=True)) == [1.0]
    choose.cache_clear()


@pytest.mark.needs_sandbox
def test_the_plan_says_which_sandbox_is_live() -> None:
    name = choose().name
    assert plan(Code().when(Format()) + 0.5 * Code(partial=True)) == {"programs": f"run in {name}"}
    assert plan(Format()) == {}


def test_the_plan_says_that_limits_are_no_sandbox() -> None:
    assert plan(Code(backend="rlimits", unsafe=True))["programs"].endswith("no sandbox")
