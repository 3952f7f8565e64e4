"""The calculator: exact values, and plain words for what is no expression."""

from __future__ import annotations

import pytest

from burnish.tasks.arithmetic import Arithmetic
from burnish.tasks.calculator import Calculator
from burnish.tasks.catalog import get


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        ("12*34", "12*34 = 408"),
        (" ( 3 + 4 )\n* 5 ", "( 3 + 4 ) * 5 = 35"),
        ("1/3 + 1/6", "1/3 + 1/6 = 1/2"),
        ("3-5", "3-5 = -2"),
        ("9" * 30 + "+1", "9" * 30 + "+1 = 1" + "0" * 30),
        ("1/(2-2)", "error: division by zero"),
        ("2**9", "error: expected a number or '(', found '*'"),
        ("x+1", "error: unexpected 'x'"),
        ("(1", "error: a parenthesis is not closed"),
        ("1+" * 60 + "1", "error: the expression is too long"),
        ("", "error: expected a number or '(', found ''"),
    ],
)
def test_values_are_exact(call: str, answer: str) -> None:
    assert Calculator().answer(call) == answer


def test_a_reply_asks_its_last_complete_call() -> None:
    call = Calculator().call
    assert call("so <calc>1+2</calc>, then <calc>3*4</calc> and") == "3*4"
    assert call("<think>hm</think>\n<calc>1+\n2</calc>") == "1+\n2"
    assert call("<calc>1+2") is None and call("1+2</calc>") is None and call("3") is None


def test_it_works_with_every_task_of_arithmetic() -> None:
    for name in ("product", "countdown"):
        assert "splits are disjoint" in Calculator(1)(get(name)).validate(3)
    example = Arithmetic()[0]
    assert "<calc>12*34</calc>" in Calculator().env(Arithmetic(), example).reset(0)[-1]["content"]
