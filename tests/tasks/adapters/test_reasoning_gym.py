"""reasoning-gym as tasks: strict answers, splits that share no question, graders that run nothing, and one clear error each."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from burnish import config
from burnish.cli import main
from burnish.errors import InputError
from burnish.recipes import catalog as recipes
from burnish.rewards.record import recorded
from burnish.tasks.adapters import reasoning_gym
from burnish.tasks.adapters.reasoning_gym import GRADES, HASHED, RANDOM, ReasoningGym
from burnish.tasks.catalog import get
from burnish.types import Completion, Example

needs = pytest.mark.skipif(
    importlib.util.find_spec("reasoning_gym") is None, reason="pip install 'burnish[reasoning-gym]'"
)
NASTY = (
    *(
        "",
        " ",
        "nan",
        "inf",
        "-",
        "²",
        "٣",
        "\x00",
        "None",
        "[]",
        "{}",
        "()",
        "(,)",
        "1e999999999",
        "0/0",
        "1/0",
        "1:2:3",
    ),
    *("[" * 5000, "9" * 5000, "1 " * 2000, "a,b,,c", '["x", 1, null]', "1 × 2 × x", "x = y", "Day 1, 2", "😀", "\n\n"),
)


def completion(text: str, finish: str = "eos") -> Completion:
    return Completion((), text, ({"role": "assistant", "content": text},), finish)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(InputError, match=r"pip install 'burnish\[reasoning-gym\]'"):
        ReasoningGym(seed=71)[0]
    with pytest.raises(InputError, match=r"pip install 'burnish\[reasoning-gym\]'"):
        get("reasoning-gym/lcm")  # no other test has loaded it


def test_a_value_has_a_hash_and_nothing_is_loaded_for_it() -> None:
    given: Any = {"weights": [1, [2, 3]], "n": 4}
    task = ReasoningGym(dataset="anything", options=given)
    assert task.options == (("weights", (1, (2, 3))), ("n", 4))
    assert hash(task) == hash(ReasoningGym(dataset="anything", options=(("weights", (1, (2, 3))), ("n", 4))))
    nested: Any = {"a": {"b": 1}}
    with pytest.raises(InputError, match="cannot be an option"):
        ReasoningGym(options=nested)


@needs
@pytest.mark.parametrize("name", ["chain_sum", "mini_sudoku", "word_sorting"])
@pytest.mark.parametrize("style", ["plain", "think"])
def test_validate(name: str, style: str) -> None:
    task = ReasoningGym(dataset=name, style=style)
    assert "disjoint" in task.validate(15)
    assert ("<answer>" in task[0].messages[0]["content"]) == (style == "think")


@needs
def test_problems_stay_whatever_the_size_and_splits_share_none_whatever_the_seed() -> None:
    task = ReasoningGym(dataset="gcd")
    assert task[7] == ReasoningGym(dataset="gcd", size=8)[7] != ReasoningGym(dataset="gcd", seed=1)[7]
    train = {ReasoningGym(dataset="gcd", seed=seed)[i].meta["canonical"] for seed in (0, 1) for i in range(60)}
    test = {
        ReasoningGym(dataset="gcd", seed=seed, split="test")[i].meta["canonical"] for seed in (0, 1) for i in range(60)
    }
    assert not train & test
    near = {ReasoningGym(dataset="gcd", seed=1)._entry(i)["question"] for i in range(20)}
    assert not near & {task._entry(i)["question"] for i in range(20)}  # seeds do not count on from each other
    assert len(train) > 100


@needs
@pytest.mark.parametrize(
    ("text", "lenient", "strict"),
    [
        ("{}", 1, 1),
        (" {}\n", 1, 1),
        ("<think>2 + 2</think><answer>{}</answer>", 1, 1),
        ("Let me see.\n{}", 1, 0),
        ("The answer is {}", 0, 0),
        ("{}.", 0, 0),
        ("{} ok", 0, 0),
        ("{}\nok", 0, 0),
        ("<answer>so\n{}</answer>", 0, 0),
        ("Let me see.\n<answer>{}</answer>", 1, 1),
        ("<think>{}</think>", 0, 0),
        ("<answer>{}</answer><answer>{}</answer>", 0, 0),
        ("1{}", 0, 0),
        ("", 0, 0),
    ],
)
def test_only_the_answer_itself_is_right(text: str, lenient: float, strict: float) -> None:
    task = ReasoningGym(dataset="chain_sum")
    example = task[0]
    done = completion(text.format(example.answer, example.answer))
    measured = task.measure(example, done)
    assert (measured["accuracy"], measured["accuracy_strict"]) == (lenient, strict)
    assert task.reward(example, [done, completion(done.text, "length")]) == [
        ((-1, lenient, "accuracy"),),
        ((-1, 0.0, "accuracy"),),
    ]
    assert set(task.measure(example, completion(done.text, "length")).values()) == {0.0}


@needs
def test_an_answer_of_several_lines_is_the_last_lines_of_a_reply() -> None:
    task = ReasoningGym(dataset="mini_sudoku")
    example = task[0]
    rows = str(example.answer).splitlines()
    assert len(rows) == 4
    loose = "\n\n".join(f" {row}  " for row in rows)
    assert task.measure(example, completion(loose))["accuracy_strict"] == 1
    assert task.measure(example, completion(f"Here it is:\n{loose}"))["accuracy"] == 1
    assert task.measure(example, completion("\n".join(rows[:3])))["accuracy"] == 0


@needs
def test_the_graded_score_pays_for_guesses_and_is_only_logged() -> None:
    task = ReasoningGym(dataset="syllogism")
    example = task[0]
    with recorded() as metrics:
        rewards = task.reward(example, [completion("Yes No"), completion(str(example.answer))])
    assert [reward[0].value for reward in rewards] == [0.0, 1.0]
    graded = task.measure(example, completion("Yes No"))["graded"]
    assert 0.25 < graded < 1
    assert metrics["reasoning-gym/graded"] == (pytest.approx(graded + 1), 2)


@needs
def test_a_grader_that_evaluates_replies_is_never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVALUATED", "no")
    attack = "__import__('os').environ.__setitem__('EVALUATED', 'yes')"
    for name in ("spiral_matrix", "string_insertion", "countdown"):
        task = ReasoningGym(dataset=name)
        assert "graded" not in task.measure(task[0], completion(attack))
        task.reward(task[0], [completion(attack)])
    assert os.environ["EVALUATED"] == "no"


def asked(name: str, replies: tuple[str, ...]) -> None:
    """Grades that are asked for are numbers in [0, 1], whatever is graded."""
    task = ReasoningGym(dataset=name)
    example = Example(({"role": "user", "content": "?"},), "x", {"entry": 0, "kind": name})
    for text in replies:
        assert 0 <= task.measure(example, completion(text)).get("graded", 0) <= 1, (name, text)


@needs
@pytest.mark.parametrize("name", ["chain_sum", "calendar_arithmetic", "knights_knaves", "number_sorting", "sudoku"])
def test_graders_stand_any_reply(name: str) -> None:
    asked(name, NASTY)


@needs
@pytest.mark.slow
def test_every_grader_that_is_asked_stands_any_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "0")  # what is asked of a data set here does not depend on its order
    names = [name for name in reasoning_gym.names() if name not in RANDOM | {"composite"}]
    assert set(names) >= GRADES | HASHED
    for name in names:
        asked(name, NASTY)


@needs
@pytest.mark.slow
def test_problems_are_the_same_in_every_process() -> None:
    program = (
        "import json, random, sys\n"
        "from burnish.tasks.adapters.reasoning_gym import HASHED, RANDOM, ReasoningGym, names\n"
        "random.seed(sys.argv[1])\n"
        "known = [name for name in names() if name not in HASHED | RANDOM | {'composite', 'acre'}]\n"
        "entries = {n: [ReasoningGym(dataset=n)._entry(i * 97) for i in range(4)] for n in known}\n"
        "said = {name: [(e['question'], e['answer']) for e in found] for name, found in entries.items()}\n"
        "print('\\n' + json.dumps(said))\n"
    )
    first, second = (
        subprocess.run(
            [sys.executable, "-c", program, seed], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True,
            text=True, check=True,
        )
        for seed in ("1", "2")
    )  # fmt: skip
    one, other = (json.loads(run.stdout.splitlines()[-1]) for run in (first, second))
    assert len(one) > 90
    assert [name for name in one if one[name] != other[name]] == []


@needs
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("chian_sum", r"unknown data set 'reasoning-gym/chian_sum'. Did you mean 'chain_sum'\?"),
        ("rush_hour", "no answers to compare with"),
        ("codeio", "another problem each time"),
        ("composite", "refuses the options"),
    ],
)
def test_data_sets_that_cannot_be_used(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        get(f"reasoning-gym/{name}")[0]


@needs
def test_an_order_that_changes_has_to_be_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    with pytest.raises(InputError, match="export PYTHONHASHSEED=0"):
        ReasoningGym(dataset="ransom_note", seed=5)[0]
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    assert ReasoningGym(dataset="ransom_note", seed=5)[0].answer in ("True", "False")


@needs
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((("max_term", 3),), r"no option 'max_term'. Did you mean 'max_terms'\? Known: min_terms, max_terms"),
        ((("seed", 3),), "no option 'seed'"),
        ((("min_terms", 5), ("max_terms", 2)), "refuses the options"),
        ((("min_terms", "many"),), "refuses the options"),
    ],
)
def test_options_that_do_not_fit(options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ReasoningGym(dataset="chain_sum", options=options)[0]


@needs
def test_the_command_line_sets_options_and_reads_back_what_was_recorded() -> None:
    start = recipes.get("grpo").SCALES["tiny"]
    given = ["task=reasoning-gym/chain_sum", "task.options={min_terms: 2, max_terms: 2, max_digits: 1}", "task.size=50"]
    task = config.apply(start, given).task
    assert task == ReasoningGym(
        dataset="chain_sum", options=(("min_terms", 2), ("max_terms", 2), ("max_digits", 1)), size=50
    )
    question = task[0].messages[0]["content"].splitlines()[0]
    assert sum(word in "+-" for word in question.split()) == 1
    path = json.dumps(config.plain(task))
    assert config.apply(start, [f"task={path}"]).task == task


@needs
def test_one_command_trains_on_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["run", "grpo", "--scale", "tiny", "--out", str(tmp_path / "run"), "task=reasoning-gym/chain_sum"]
    small = ["rl.steps=1", "rl.prompts=2", "rl.group=2", "rl.eval_items=2", "eval_n=2"]
    assert main([*command, *small]) == 0, capsys.readouterr().err
    line = json.loads((tmp_path / "run" / "1-rl" / "metrics.jsonl").read_text().splitlines()[0])
    assert line["reward/accuracy"] == 0
    assert 0 <= line["reasoning-gym/graded"] < 1
