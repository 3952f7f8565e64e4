"""Cases that good programs agree about stay, problems whose good programs pass them stay, at exactly the paper's shares."""

from __future__ import annotations

from pathlib import Path

import pytest

from burnish.errors import InputError
from burnish.loops.curate.test_cases import Checked, Rules, add_tests, agreed, check, generated, generators, run_all
from burnish.loops.curate.writer import Writer
from burnish.rewards.code import Code
from burnish.rewards.sandbox import Limits, choose
from burnish.types import Completion, Example
from curating import curate, provenance, rows, write
from judging import Scripted

LIMITS = Limits(cpu=2, wall=120.0, memory=256 << 20)
RULES = Rules(cases=1)
GOOD = "print(2 * int(input()))"
SMALL = "n = int(input())\nprint(2 * n if n < 100 else n)"
FAILS = "n = int(input())\nprint(2 * n)\nif n == 7: raise SystemExit(1)"
GENERATOR = "import random\nn = int(input())\nrandom.seed(n)\nprint(random.randint(0, 9) + 200 * (n % 2))"


def writes_a_generator(text: str) -> str:
    return f"```python\n{GENERATOR}\n```" if "double" in text else "no idea"


def test_seven_of_ten_agree_and_six_do_not() -> None:
    assert agreed(["4"] * 7 + ["5", "6", None], 0.7) == "4"
    assert agreed(["4"] * 6 + ["5"] * 4, 0.7) is None
    assert agreed(["4"] * 14 + ["5"] * 6, 0.7) == "4" and agreed(["4"] * 13 + ["5"] * 7, 0.7) is None
    assert agreed(["4"] * 6 + [None] * 4, 0.7) is None, "a program that fails agrees with nobody"
    assert agreed([None] * 10, 0.7) is None and agreed([], 0.7) is None


@pytest.mark.parametrize(("bad", "reason"), [(1, ""), (2, "submissions disagree")])
def test_nine_of_ten_pass_and_eight_do_not(bad: int, reason: str) -> None:
    outputs = [["4"] * 10, ["8"] * (10 - bad) + ["9"] * bad]
    found = check(["2", "4"], outputs, RULES)
    assert found == Checked(({"stdin": "2", "stdout": "4"}, {"stdin": "4", "stdout": "8"}), 10 - bad, 10)
    assert found.dropped(RULES) == reason


def test_a_dropped_case_is_failed_by_nobody() -> None:
    outputs = [["4"] * 10, ["1"] * 6 + ["2"] * 4]
    found = check(["2", "4"], outputs, RULES)
    assert found == Checked(({"stdin": "2", "stdout": "4"},), 10, 10) and found.dropped(RULES) == ""


def test_a_problem_needs_enough_of_both() -> None:
    test = {"stdin": "2", "stdout": "4"}
    assert Checked((test,) * 40, 10, 10).dropped(Rules()) == ""
    assert Checked((test,) * 39, 10, 10).dropped(Rules()) == "too few cases"
    assert Checked((test,) * 40, 9, 9).dropped(Rules()) == "too few submissions"


def test_shares_that_decide_nothing_are_refused() -> None:
    with pytest.raises(InputError, match=r"more than \.5"):
        Rules(agree=0.5)
    with pytest.raises(InputError, match="at least 1"):
        Rules(cases=0)


@pytest.mark.needs_sandbox
def test_what_programs_print_and_what_fails() -> None:
    """White space at the ends does not count; a wrong exit code, a crash and an endless loop are failures."""
    loop = "while True: pass"
    found = run_all(choose(), [GOOD + "\nprint()", SMALL, FAILS, loop], ["7", "100"], Limits(cpu=1, wall=120.0))
    assert found == [["14", "14", None, None], ["200", "100", "200", None]]


@pytest.mark.needs_sandbox
def test_generators_are_run_and_what_repeats_goes() -> None:
    found = generated(choose(), "n = int(input())\nprint(n % 3)\nif n == 1: raise SystemExit(1)", 5, LIMITS)
    assert found == ["0\n", "2\n", "1\n"]


@pytest.mark.needs_sandbox
def test_planted_programs_and_cases(tmp_path: Path) -> None:
    """One bad program of ten is outvoted, and its problem stays with the case that it fails; two take the problem down.

    Where four of ten disagree about large numbers, the cases with these go, and the problem stays with the others.
    """
    inputs = ["3\n", "7\n", "150\n"]
    problems = [
        {"prompt": "one", "submissions": [GOOD] * 9 + [FAILS], "inputs": inputs},
        {"prompt": "two", "submissions": [GOOD] * 8 + [FAILS] * 2, "inputs": inputs},
        {"prompt": "four", "submissions": [GOOD] * 6 + [SMALL] * 4, "inputs": inputs},
        {"prompt": "few", "submissions": [GOOD] * 9, "inputs": inputs},
    ]
    data = write(tmp_path / "a.jsonl", problems)
    path = curate(tmp_path / "r", add_tests, data, rules=RULES, limits=LIMITS)
    assert [(row["prompt"], [test["stdin"] for test in row["tests"]]) for row in rows(path)] == [
        ("one", inputs),
        ("four", inputs[:2]),
    ]
    notes = rows(path.with_name("problems.jsonl"))
    assert [(note["cases"], note["passing"], note["dropped"]) for note in notes] == [
        (3, 9, ""),
        (3, 8, "submissions disagree"),
        (2, 10, ""),
        (0, 0, "too few submissions"),
    ]
    assert provenance(path)["counts"] == {
        "problems": 4, "dropped: submissions disagree": 1, "dropped: too few submissions": 1, "kept": 2,
    }  # fmt: skip


@pytest.mark.needs_sandbox
def test_a_model_is_asked_for_generators_and_a_reward_reads_the_tests(tmp_path: Path) -> None:
    model = Scripted(writes_a_generator)
    problems = [{"prompt": "double it", "submissions": [GOOD] * 3}, {"prompt": "other", "submissions": [GOOD] * 3}]
    assert generators(Writer(model), ["double it", "other"]) == [GENERATOR + "\n", "no idea"]
    rules = Rules(submissions=3, cases=2, inputs=4)
    data = write(tmp_path / "a.jsonl", problems)
    path = curate(tmp_path / "r", add_tests, data, rules=rules, model=model, limits=LIMITS)
    (row,) = rows(path)
    assert row["domain"] == "code" and len(row["tests"]) >= 2
    example = Example(({"role": "user", "content": row["prompt"]},), meta=row)
    group = [Completion((), code, (), "eos") for code in (GOOD, SMALL)]
    assert [part.value for (part,) in Code(limits=LIMITS)(example, group)] == [1, 0]


def test_bad_rows_are_named(tmp_path: Path) -> None:
    data = write(tmp_path / "a.jsonl", [{"prompt": "p", "submissions": [GOOD], "inputs": ["1"]}, {"prompt": "p"}])
    with pytest.raises(InputError, match="row 2: column 'submissions' has to be a list of texts"):
        curate(tmp_path / "r", add_tests, data)
    write(data, [{"prompt": "p", "submissions": [GOOD]}])
    with pytest.raises(InputError, match="1 of 1 problems have neither 'inputs' nor a 'generator'"):
        curate(tmp_path / "q", add_tests, data)
