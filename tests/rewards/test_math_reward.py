"""The mathematics reward: its corpus, random numbers in random notations, threads, and what it refuses to grade."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.errors import InputError
from burnish.rewards.audit import audit
from burnish.rewards.base import Composable, per_completion
from burnish.rewards.corpora.math import CASES
from burnish.rewards.math import Math, equivalent
from burnish.types import Completion, Example, Reward, outcome


def verdict(
    gold: object, text: str, question: str = "?", finish: str = "eos", reward: Composable | None = None
) -> float:
    example = Example(({"role": "user", "content": question},), gold)
    (((position, value, part),),) = (reward or Math())(example, [Completion((), text, (), finish)])
    assert (position, part) == (-1, "math")
    return value


@dataclass(frozen=True)
class Contains(Composable):
    """The gold answer anywhere in the reply."""

    @per_completion
    def __call__(self, example: Example, completion: Completion) -> Reward:
        return outcome(str(example.answer) in completion.text, "contains")


def test_the_corpus_has_no_false_positive_and_few_false_negatives() -> None:
    found = audit(Math(), CASES)
    assert found.accepted >= 50 and found.refused >= 70
    assert [(m.case.example.answer, m.case.text[:80], m.case.why) for m in found.false_positives] == []
    assert len(found.false_negatives) <= 0.03 * found.accepted


def test_a_naive_reward_fails_the_corpus() -> None:
    found = audit(Contains(), CASES)
    assert len(found.false_positives) > 20 and len(found.false_negatives) > 20


def test_the_last_number_earns_nothing_unless_it_is_asked_for() -> None:
    loose = Math(sources=("boxed", "tag", "phrase", "number"))
    text = "Adding them, she has 12 + 6 = 18 eggs left."
    assert (verdict("18", text), verdict("18", text, reward=loose)) == (0.0, 1.0)
    for wrong in ("12 or 18", "18 is not right", "maybe 18?", "12 + 18", "x18", "18.5", "18, 3", "10-18", "18²"):
        assert verdict("18", wrong, reward=loose) == 0.0, wrong
    assert verdict("18", r"\boxed{17} so 18", reward=loose) == 0.0
    assert verdict("1/2", r"$\frac12$", reward=Math(sources=("number", "whole"))) == 1.0


def test_sources_are_read_only_where_named() -> None:
    boxed, tagged = Math(sources=("boxed",)), Math(sources=("tag",))
    assert verdict("5", r"\boxed{5}", reward=boxed) == verdict("5", "<answer>5</answer>", reward=tagged) == 1.0
    assert verdict("5", "<answer>5</answer>", reward=boxed) == verdict("5", r"\boxed{5}", reward=tagged) == 0.0
    assert verdict("5", "The answer is 5.", reward=boxed) == verdict("5", "5", reward=boxed) == 0.0


def test_a_truncated_reply_is_wrong() -> None:
    assert verdict("5", r"\boxed{5}", finish="length") == 0.0
    assert verdict("5", r"\boxed{5}", finish="stop") == 1.0


@pytest.mark.parametrize(
    "gold", [r"\forall x", "1/2x", r"\frac{1}{0}", "9^{9^{9}}", r"\begin{cases} 1 \end{cases}", "(", "x" * 2000]
)
def test_a_gold_answer_that_cannot_be_read_is_an_error_that_names_its_row(gold: str) -> None:
    with pytest.raises(InputError, match=r"'What is it\?' cannot be read as mathematics"):
        verdict(gold, r"\boxed{1}", question="What is it?")


@pytest.mark.parametrize("gold", [None, "", "  "])
def test_a_missing_answer_is_an_error(gold: object) -> None:
    with pytest.raises(InputError, match="column 'answer'"):
        verdict(gold, r"\boxed{1}")


def test_unknown_sources_are_errors() -> None:
    with pytest.raises(InputError, match="Did you mean 'boxed'"):
        Math(sources=("boxes",))
    with pytest.raises(InputError, match="reads nothing"):
        Math(sources=())


def test_it_is_a_value_and_scores_the_group_in_order() -> None:
    assert Math() == Math() and hash(Math()) == hash(Math()) and Math() != Math(sources=("boxed",))
    assert Math.domains == frozenset({"math"})
    replies = [Completion((), text, (), "eos") for text in (r"\boxed{5}", "no", "5")]
    rewards = Math()(Example((), 5), replies)
    assert [r[0].value for r in rewards] == [1.0, 0.0, 1.0]
    assert Math()(Example((), 5), []) == []


def test_it_runs_in_threads() -> None:
    """No signal, no precision shared with others: verdicts are the same off the main thread."""
    import mpmath

    before = mpmath.mp.prec
    cases = [case for case in CASES if len(case.text) < 200]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda case: Math()(case.example, [case.completion])[0][0].value, cases))
    assert got == [Math()(case.example, [case.completion])[0][0].value for case in cases]
    assert mpmath.mp.prec == before


def test_no_reply_costs_much() -> None:
    """A generous bound for what would otherwise never end."""
    began = time.monotonic()
    sums = "+".join(rf"\frac{{1}}{{{prime}^{{99}}}}" for prime in (3, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47))
    for text in (
        rf"\boxed{{{sums}}}",
        r"\boxed{" + r"\arctan(\arctan(" * 12 + "x" + "))" * 12 + "}",
        r"\boxed{" + ",".join(["x^x"] * 99) + "}",
        r"\boxed{" + "2^{9999}" * 40 + "}",
        "answer " * 50_000 + "is 5",
        "or " * 50_000 + "####" * 50_000,
        "$" * 300_000,
        "\n" * 300_000 + "####",
    ):
        assert verdict("17", text) == 0.0
    assert time.monotonic() - began < 60


# --- random numbers in random notations ----------------------------------------------------------


def mixed(value: Fraction) -> str:
    whole, rest = divmod(abs(value), 1)
    sign = "-" if value < 0 else ""
    if not rest:
        return f"{sign}{whole}"
    part = rf"\frac{{{rest.numerator}}}{{{rest.denominator}}}"
    return f"{sign}{whole or ''}{part}"


def decimal(value: Fraction) -> str:
    """With a repeating part where there is one."""
    whole, rest = divmod(abs(value), 1)
    digits: list[str] = []
    seen: dict[Fraction, int] = {}
    while rest and rest not in seen:
        seen[rest] = len(digits)
        digit, rest = divmod(rest * 10, 1)
        digits.append(str(digit))
    fixed, repeated = digits[: seen.get(rest, len(digits))], digits[seen.get(rest, len(digits)) :]
    tail = "".join(fixed) + (rf"\overline{{{''.join(repeated)}}}" if repeated else "")
    return ("-" if value < 0 else "") + f"{whole}" + (f".{tail}" if tail else "")


NOTATIONS: tuple[Callable[[Fraction, int], str], ...] = (
    lambda v, k: f"{v.numerator * k}/{v.denominator * k}",
    lambda v, k: rf"\dfrac{{{v.numerator * k}}}{{{v.denominator * k}}}",
    lambda v, k: rf"-\frac{{{-v.numerator * k}}}{{{v.denominator * k}}}",
    lambda v, _: mixed(v),
    lambda v, _: decimal(v),
    lambda v, k: rf"\frac{{{v.numerator}}}{{{v.denominator}}} + {k} - {k}",
    lambda v, k: rf"{k} \cdot \left(\tfrac{{{v.numerator}}}{{{v.denominator * k}}}\right)",
    lambda v, k: rf"\sqrt{{{k * k}}} \times \frac{{{v.numerator}}}{{{k * v.denominator}}}",
    lambda v, _: f"{v.numerator:,}" if v.denominator == 1 else f"({v.numerator})/({v.denominator})",
    lambda v, k: rf"{v.numerator}e{k} / {v.denominator}e{k}",
)
FRAMES = (
    r"So \boxed{%s}.",
    "<think>7</think><answer>%s</answer>",
    "The answer is $%s$.",
    "$%s$",
    r"\[ x = %s \]",
    r"Thus $$\boxed{x = %s}$$",
)
rationals = st.builds(Fraction, st.integers(-20_000, 20_000), st.integers(1, 60))


@settings(max_examples=200, deadline=None)
@given(
    rationals,
    st.sampled_from(NOTATIONS),
    st.sampled_from(NOTATIONS),
    st.integers(2, 9),
    st.sampled_from(FRAMES),
    st.sampled_from([Fraction(1), Fraction(-1), Fraction(1, 10**6), Fraction(1, 7)]),
)
def test_random_numbers_in_random_notations(
    value: Fraction,
    gold: Callable[[Fraction, int], str],
    said: Callable[[Fraction, int], str],
    k: int,
    frame: str,
    off: Fraction,
) -> None:
    assert verdict(gold(value, k), frame % said(value, k)) == 1.0
    assert verdict(gold(value, k), frame % said(value + off, k)) == 0.0
    if value:
        assert verdict(gold(value, k), frame % said(-value, k)) == 0.0


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=r"0123456789+-*/^!(){}[]|,.=<>\ abefgoqrstx_%$&:", max_size=60))
def test_any_text_gets_a_verdict(text: str) -> None:
    assert verdict("17", rf"\boxed{{{text}}}") in (0.0, 1.0)
    assert verdict("17", text) in (0.0, 1.0)


def polynomial(draw: random.Random, depth: int) -> str:
    if depth == 0:
        return draw.choice(["x", "y", str(draw.randint(1, 9))])
    left, right = polynomial(draw, depth - 1), polynomial(draw, depth - 1)
    return draw.choice([f"({left}+{right})", f"({left}-{right})", f"({left})*({right})", f"({left})^2"])


def test_the_verdict_on_random_expressions_is_that_of_symbolic_algebra() -> None:
    import sympy

    draw = random.Random(0)
    symbols = sympy.symbols("x y")
    equal = 0
    for _ in range(60):
        text = polynomial(draw, 3)
        expression = sympy.expand(sympy.sympify(text.replace("^", "**")))
        other = sympy.latex(expression + draw.choice([0, 0, 1, symbols[0]]))
        same = sympy.expand(expression - sympy.sympify(text.replace("^", "**"))) == 0
        changed = sympy.latex(expression) != other
        assert same
        equal += not changed
        assert verdict(text, rf"\boxed{{{other}}}") == float(not changed), (text, other)
    assert 20 < equal < 50


# --- two answers of which neither is known to be right -------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("1/2", "0.50", True),
        ("28%", "0.28", True),
        ("0.28", "28%", True),
        ("x = 5", "5", True),
        ("Red", "red ", True),
        ("5", "6", False),
        ("so )( be", "so )( it", False),
        ("so )( be", "So )( be", True),
    ],
)
def test_two_answers_are_the_same_either_way_round(one: str, other: str, same: bool) -> None:
    assert equivalent(one, other) is equivalent(other, one) is same
