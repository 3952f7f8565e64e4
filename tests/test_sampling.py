"""Settings of sampling that contradict themselves are refused in one line, from Python and from the command line."""

from __future__ import annotations

from typing import Any

import pytest

from burnish.config import apply
from burnish.errors import InputError
from burnish.loops.rl import RLConfig
from burnish.sampling import Repetition, Sampling, Thinking


@pytest.mark.parametrize(
    ("make", "settings", "told"),
    [
        (Sampling, {"max_tokens": 0}, "max_tokens=0: a completion has at least one token"),
        (Sampling, {"truncation": "half"}, "truncation must be full or kept, not 'half'"),
        (
            Sampling,
            {"temperature": float("nan")},
            "temperature=nan: give 0, which is greedy, or a finite number above it",
        ),
        (Sampling, {"temperature": -1.0}, "temperature=-1.0: give 0"),
        (Sampling, {"top_p": 0.0}, "top_p=0.0 keeps no token: give a number above 0 and at most 1"),
        (Sampling, {"top_p": 1.5}, "top_p=1.5"),
        (Sampling, {"top_p": float("nan")}, "top_p=nan"),
        (
            Sampling,
            {"max_tokens": 8, "thinking": Thinking(minimum=8)},
            "minimum=8 fills max_tokens=8: raise max_tokens",
        ),
        (Sampling, {"begin": "<think></think>", "thinking": Thinking()}, "closes the thinking"),
        (Thinking, {"minimum": -1}, "give numbers of tokens"),
        (Thinking, {"minimum": 5, "maximum": 4}, "minimum=5, maximum=4"),
        (Thinking, {"waits": 0}, "waits=0: give how often"),
        (Thinking, {"wait": ""}, "give two texts"),
        (Thinking, {"close": ""}, "give two texts"),
        (Thinking, {"wait": "so </think>"}, "the second without the first"),
        (Repetition, {"least": 0}, "give 1 <= least <= most, and times >= 2"),
        (Repetition, {"least": 9, "most": 8}, "least=9, most=8"),
        (Repetition, {"times": 1}, "times=1"),
    ],
)
def test_what_contradicts_itself_is_refused(make: Any, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError) as caught:
        make(**settings)
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_the_edges_are_fine() -> None:
    Sampling(max_tokens=9, top_p=1e-9, thinking=Thinking(minimum=8, maximum=8, waits=1))
    Repetition(1, 1, 2)


def test_controls_are_set_from_the_command_line() -> None:
    found = apply(
        RLConfig(),
        [
            "sampling.thinking.maximum=64",
            "sampling.thinking.minimum=8",
            "sampling.repetition=Repetition",
            "sampling.suppress=[a, ' b']",
            'sampling.begin="<think>\\n"',
        ],
    ).sampling
    assert found == Sampling(
        thinking=Thinking(minimum=8, maximum=64), repetition=Repetition(), suppress=("a", " b"), begin="<think>\n"
    )
    assert apply(RLConfig(sampling=found), ["sampling.thinking=none"]).sampling.thinking is None
    with pytest.raises(InputError, match=r"^sampling\.max_tokens: max_tokens=0: .* give 1 or more$"):
        apply(RLConfig(), ["sampling.max_tokens=0"])
    with pytest.raises(InputError, match=r"unknown key 'sampling\.thinking\.most'"):
        apply(RLConfig(), ["sampling.thinking.most=4"])
    with pytest.raises(InputError, match=r"sampling\.thinking\.\w+.*minimum=9, maximum=8"):
        apply(RLConfig(), ["sampling.thinking.minimum=9", "sampling.thinking.maximum=8"])
