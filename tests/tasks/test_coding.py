"""Short functions: every snippet is right about itself, and its tests tell it from what is nearly right."""

from __future__ import annotations

import pytest

from burnish.errors import InputError
from burnish.rewards.code import Code
from burnish.tasks.checks import SPLITS
from burnish.tasks.coding import KINDS, Coding, fenced
from burnish.tasks.snippets import SNIPPETS, TAKES
from burnish.types import Completion, Example


def said(text: str, finish: str = "eos") -> Completion:
    return Completion((), text, (), finish)


def rewards(example: Example, *texts: str) -> list[float]:
    return [reward[0].value for reward in Coding().reward(example, [said(text) for text in texts])]


def test_validate() -> None:
    assert "disjoint" in Coding(style="think").validate(2)


@pytest.mark.slow
def test_validate_on_many() -> None:
    assert "disjoint" in Coding().validate(100)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_accepts_its_program_and_refuses_what_is_near(kind: str) -> None:
    example = Coding(kinds=(kind,))[0]
    programs = [example.meta["solution"], *example.meta["wrong"]]
    assert rewards(example, *map(fenced, programs)) == [1.0] + [0.0] * (len(programs) - 1)
    assert example.meta["difficulty"] == SNIPPETS[kind].difficulty


def test_replies_in_the_ways_people_write_them() -> None:
    example = Coding(kinds=("linear",))[0]
    program = example.meta["solution"]
    body = program.splitlines()[1].strip().removeprefix("return ")
    right = [program, f"Here it is:\n{fenced(program)}", f"```\n{program}\n```", fenced(f"f = lambda x: {body}")]
    late = f"<think>{fenced('def f(x): return 0')}</think>{fenced(program)}"
    assert rewards(example, *right, late) == [1.0] * 5
    by_heart = {test["args"][0]: test["want"] for test in example.meta["tests"][:-1]}
    wrong = [
        fenced(program.replace("return", "yield")),
        fenced(f"{program}\nimport os; os._exit(0)"),
        fenced(f"{program}\n1/0"),
        fenced(f"def f(x):\n    return {by_heart}.get(x)"),
        fenced(f"class Same:\n    def __eq__(self, other): return True\ndef f(x): return Same()"),  # noqa: F541
        fenced("def f(x):\n    while True: x += 1"),
        f"<think>{fenced(program)}</think>",
        "",
    ]
    quick = Coding(code=Code(limits=Code().limits.__class__(cpu=1)))
    assert [r[0].value for r in quick.reward(example, [said(text) for text in wrong])] == [0.0] * len(wrong)
    assert Coding().measure(example, said(fenced(program), "length")) == {"accuracy": 0.0}


def test_programs_of_held_out_problems_are_never_trained_on() -> None:
    seen = {split: {Coding(split=split)[i].meta["solution"] for i in range(60)} for split in SPLITS}
    assert all(len(programs) > 25 for programs in seen.values())
    assert not seen["train"] & seen["test"] and not seen["train"] & seen["dev"] and not seen["dev"] & seen["test"]


def test_inputs_follow_from_the_key_and_differ() -> None:
    for _, make in TAKES.values():
        assert [make(key) for key in range(20)] == [make(key) for key in range(20)]
        assert len({repr(make(key)) for key in range(20)}) > 5


def test_bad_settings() -> None:
    with pytest.raises(InputError, match="Did you mean 'linear'"):
        Coding(kinds=("linaer",))
    for settings in ({"kinds": ()}, {"code": Code(partial=True)}):
        with pytest.raises(InputError, match="a code reward of 1 or 0"):
            Coding(**settings)  # type: ignore[arg-type]


def test_without_a_sandbox_there_is_one_clear_error() -> None:
    task = Coding(code=Code(backend="nowhere"))
    with pytest.raises(InputError, match="nowhere"):
        task.reward(task[0], [said("x")])
