"""Rewards as they are typed: what is allowed means what it says, and nothing else has a meaning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish import config
from burnish.errors import InputError
from burnish.recipes.grpo import SCALES
from burnish.rewards.accuracy import Accuracy
from burnish.rewards.base import Composable
from burnish.rewards.expression import METHODS, parse
from burnish.rewards.format import Format
from burnish.rewards.function import UserReward, load_function
from burnish.rewards.length import Overlong
from burnish.types import Completion, Example, Reward, outcome

A, F, L = Accuracy(), Format(), Overlong(512, 128)
LONG = "overlong(limit=512, buffer=128)"


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ("accuracy", A),
        ("accuracy()", A),
        ("accuracy(strict=True)", Accuracy(strict=True)),
        ("accuracy(strict=true)", Accuracy(strict=True)),
        (" accuracy + 0.2*format ", A + 0.2 * F),
        ("accuracy*2 - format", 2 * A - F),
        ("-accuracy + -0.5*format", -A + -0.5 * F),
        ("2 * 0.5 * accuracy", 1.0 * A),
        ("accuracy * format", A * F),
        ("(accuracy + format) * format", (A + F) * F),
        ("accuracy + format * format", A + F * F),
        (f"accuracy + {LONG}", A + L),
        ("accuracy.on('math') | format", A.on("math") | F),
        ('accuracy.on("math", "geometry") | 0', A.on("math", "geometry") | 0),
        ("accuracy.when(format)", A.when(F)),
        ("accuracy.when(format, above=0.5).named('gated')", A.when(F, above=0.5).named("gated")),
        ("accuracy.when(condition=0.5*format, above=-1)", A.when(0.5 * F, above=-1)),
        ("(accuracy + format).clipped(high=1)", (A + F).clipped(high=1)),
        ("accuracy.clipped(-1, 1.5)", A.clipped(-1, 1.5)),
        ("accuracy.against('chosen')", A.against("chosen")),
        ("accuracy.within_group() + format.within_group(std=False)", A.within_group() + F.within_group(std=False)),
    ],
)
def test_an_expression_is_the_reward_it_says(text: str, reward: Composable) -> None:
    assert parse(text) == reward


@pytest.fixture
def mine(tmp_path: Path) -> str:
    path = tmp_path / "my reward.py"
    path.write_text("def score(completion): return 1.0\n")
    return f"{path}:score"


def test_a_function_stands_by_itself_or_in_quotes(mine: str) -> None:
    own = load_function(mine)
    assert parse(mine) == parse(f'"{mine}"') == own
    assert parse(f"accuracy + 0.5*'{mine}'.named('own')") == A + 0.5 * own.named("own")
    assert parse(f"accuracy.when('{mine}')") == A.when(own), "where a reward is asked for"


def test_an_expression_survives_the_command_line(mine: str) -> None:
    """Overrides are YAML, in which quotes and stars have a meaning of their own."""
    for text in (mine, f'"{mine}"', f'"{mine}" + 0.2*format', "format.on('a: b') | 0", "-1*format"):
        given = config.apply(SCALES["tiny"], [f"reward={text}"]).reward
        assert parse(given) == parse(text)


def test_a_missing_function_or_file_is_an_error_that_names_it(mine: str) -> None:
    with pytest.raises(InputError, match=r"reward file 'nowhere\.py' does not exist"):
        parse("accuracy + 'nowhere.py:score'")
    with pytest.raises(InputError, match="Did you mean 'score'"):
        parse(mine.replace(":score", ":scores"))
    with pytest.raises(InputError, match=r"write it as my_reward\.py:score"):
        parse("my_reward.py")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("acuracy", "Did you mean 'accuracy'"),
        ("accuracy(strickt=True)", r"unknown setting of accuracy 'strickt'\. Did you mean 'strict'"),
        ("accuracy(strict='yes')", "accuracy: strict='yes' does not fit: Input should be a valid boolean"),
        ("overlong", r"overlong needs limit and buffer: write overlong\(limit=\.\.\., buffer=\.\.\.\)"),
        ("overlong(limit=512)", "overlong needs buffer"),
        ("overlong(limit=1.5, buffer=1)", "valid integer"),
        ("overlong(limit=1, buffer=2)", "1 <= buffer <= limit"),
        ("overlong(limit=accuracy, buffer=1)", "limit=accuracy is no constant"),
        ("accuracy.wen(format)", "Did you mean 'when'"),
        ("accuracy.when()", "when needs condition"),
        ("accuracy.when(0.5)", "'0.5' is a number where a reward belongs"),
        ("accuracy.when(format, 0.5, 1)", "when takes condition and above, and nothing more"),
        ("accuracy.on()", "a reward for no domain"),
        ("accuracy.on(1)", "on: domain=1 does not fit"),
        ("accuracy.on(only='math')", "on takes domains in quotes"),
        ("accuracy.clipped(high=-1, low=1)", "give low <= high"),
        ("accuracy + 1", r"'accuracy \+ 1' joins a reward and a number"),
        ("accuracy | 1", "joins a reward and a number"),
        ("1 | accuracy", "joins a reward and a number"),
        ("1e999*accuracy", "weight inf of a reward is not finite"),
        ("0.5", "is a number where a reward belongs"),
        ("format | accuracy", "is for every domain"),
        ("", "cannot be read"),
        ("accuracy +", "cannot be read"),
        ("my_reward.py:score + format", "your own function in quotes"),
        ("accuracy\0", "cannot be read"),
        ("1" + "0" * 400 + "*accuracy", "is too large"),
        ("+".join(["accuracy"] * 5000), "is too large|cannot be read"),
        ("-" * 5000 + "accuracy", "is too large|cannot be read"),
    ],
)  # fmt: skip
def test_mistakes_are_named(text: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "accuracy.__class__",
        "accuracy.__class__()",
        "accuracy / 2",
        "accuracy ** 2",
        "accuracy @ format",
        "+accuracy",
        "not accuracy",
        "accuracy and format",
        "accuracy if format else accuracy",
        "accuracy < format",
        "[accuracy, format]",
        "(accuracy, format)",
        "{accuracy}",
        "accuracy[0]",
        "lambda: accuracy",
        "(x := accuracy)",
        "[x for x in accuracy]",
        "f'{accuracy}'",
        "accuracy(True)",
        "accuracy(**{})",
        "accuracy(*[])",
        "accuracy()()",
        "True*accuracy",
        "None",
        "b'my_reward.py:score'",
        "accuracy(strict=not True)",
        "accuracy(strict=print(1))",
        "accuracy = format",
        "accuracy; format",
        "import os",
    ],
)
def test_nothing_else_has_a_meaning(text: str) -> None:
    with pytest.raises(InputError, match=r"write it with the names of `burnish list`|unknown"):
        parse(text)


@settings(deadline=None, derandomize=True)
@given(st.text(alphabet="acf0.5+-*|()'\",= :", max_size=20))
def test_any_text_is_a_reward_or_an_input_error(text: str) -> None:
    try:
        found = parse(text)
    except InputError:
        return
    assert isinstance(found, Composable)


def test_what_may_follow_a_reward_is_what_rewards_have() -> None:
    assert all(callable(getattr(Composable, name)) for name in METHODS)
    assert isinstance(A, Composable) and not isinstance(A, UserReward)


@dataclass(frozen=True)
class Constant(Composable):
    """What a maker makes."""

    value: float = 1.0

    def __call__(self, example: Example, completions: Sequence[Completion], /) -> list[Reward]:  # noqa: ARG002
        return [outcome(self.value, "constant") for _ in completions]


def made(*, value: float, times: float = 1.0) -> Composable:
    return Constant(value * times)


def test_further_names_are_called_with_constants() -> None:
    assert parse("accuracy + 2*made(value=0.5)", {"made": made}) == Accuracy() + 2 * Constant(0.5)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("made(value=accuracy)", "value=accuracy is no constant"),
        ("made()", r"made: missing a required argument: 'value'; write made\(value=\.\.\.\)$"),
        ("made", "made: missing a required argument: 'value'"),
        ("made(value=1, x=2)", "made: got an unexpected keyword argument 'x'"),
        ("made(0.5)", "means nothing in a reward"),
    ],
)
def test_a_further_name_that_is_called_wrongly(text: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        parse(text, {"made": made})
