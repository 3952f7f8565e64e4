"""The numbers of the running example, by hand: they are what the algorithm computes, and they are printed where they belong."""

from __future__ import annotations

import math
import re

import pytest

from burnish.cli import example
from burnish.core import algorithms

R = (0.0, 0.8, 1.0)
DEVIATION = math.sqrt((0.6**2 + 0.2**2 + 0.4**2) / 2)
SIZES = (6, 8, 4)
NUMBER = r"-?\d+\.\d+|-"


def shown(name: str) -> str:
    return "\n".join(example.lines(algorithms.get(name)))


def column(name: str, title: str) -> list[float]:
    """A column of a table: its cells end where its title ends."""
    lines = shown(name).splitlines()
    place, head = next(
        (i, x) for i, x in enumerate(lines) if title in x and "token by token" not in x and x[:6] == " " * 6
    )
    end = head.index(title) + len(title)
    return [float(line[:end].split()[-1]) for line in lines[place + 1 : place + 4]]


def series(name: str, title: str) -> list[list[float]]:
    """What is printed token by token."""
    lines = shown(name).splitlines()
    place = lines.index(f"  {title}, token by token")
    return [[math.nan if x == "-" else float(x) for x in line.split()[1:]] for line in lines[place + 1 : place + 4]]


@pytest.mark.parametrize("name", sorted(algorithms.table()))
def test_every_algorithm_has_numbers_for_every_token(name: str) -> None:
    text = shown(name)
    assert "nan" not in text and "tensor" not in text
    for title in re.findall(r"^  (.+), token by token$", text, re.MULTILINE):
        assert [len(row) for row in series(name, title)] == list(SIZES)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("reinforce", [r - 0.6 for r in R]),
        ("dr_grpo", [r - 0.6 for r in R]),
        ("kimi", [r - 0.6 for r in R]),
        ("grpo", [(r - 0.6) / DEVIATION for r in R]),
        ("dapo", [(r - 0.6) / DEVIATION for r in R]),
        # the KL takes .05 x .2 a token, 6 8 4 tokens, and 5 of the greedy completion
        ("rloo", [-0.06 - (0.72 + 0.96) / 2, 0.72 - (-0.06 + 0.96) / 2, 0.96 - (-0.06 + 0.72) / 2]),
        ("remax", [-0.06 - 0.75, 0.72 - 0.75, 0.96 - 0.75]),
    ],
)
def test_advantages_by_hand(name: str, expected: list[float]) -> None:
    assert column(name, "advantage") == pytest.approx(expected, abs=6e-4)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("grpo", [0.6] * 3),
        ("lite_ppo", [0.6] * 3),
        ("reinforce", [0.6] * 3),
        ("rloo", [0.84, 0.45, 0.33]),
        ("remax", [0.75] * 3),
    ],
)
def test_baselines_by_hand(name: str, expected: list[float]) -> None:
    assert column(name, "baseline") == pytest.approx(expected, abs=6e-4)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("grpo", [1 / 18, 1 / 24, 1 / 12]),
        ("dr_grpo", [1 / 24] * 3),  # 1/(N L): 3 completions, at most 8 tokens
        ("rloo", [1 / 3] * 3),
        ("ppo", [1 / 18] * 3),
    ],
)
def test_weights_by_hand(name: str, expected: list[float]) -> None:
    assert column(name, "weight of a token") == pytest.approx(expected, abs=6e-5)


def test_the_critic_of_a2c_sees_the_return_and_ppo_the_smoothed_one() -> None:
    values = series("a2c", "V(s_t)")
    assert series("a2c", "advantage") == [pytest.approx([r - v for v in row]) for r, row in zip(R, values, strict=True)]
    assert column("a2c", "target of V") == list(R)
    last, before = 1 - 0.004 - 0.9, 0.9 - 0.8 - 0.004
    assert series("ppo", "advantage")[2][2:] == pytest.approx([before + 0.95 * last, last], abs=6e-4)


def test_vapo_has_one_lambda_for_the_critic_and_one_for_the_policy() -> None:
    """1 - 1/(.05 T) is below 0 for these short completions, so 0: the advantage is the one-step error."""
    assert series("vapo", "advantage")[2] == pytest.approx([0.1, 0.2, 0.1, 0.1])
    assert column("vapo", "target of V") == list(R)
    assert column("vapo", "imitation weight") == pytest.approx([0, 1 / 12, 1 / 12], abs=6e-5)


def test_step_rewards_are_normalised_together_and_summed_to_the_end() -> None:
    steps = [0.5, -0.5, 0.5, -0.2, 0.5, 0.5, 0.5]
    mean = sum(steps) / 7
    scale = math.sqrt(sum((x - mean) ** 2 for x in steps) / 6)
    good, bad = (0.5 - mean) / scale, (-0.5 - mean) / scale
    assert series("grpo_process", "advantage")[0] == pytest.approx([good + bad] * 3 + [bad] * 3, abs=6e-4)
    assert series("grpo_process", "advantage")[2] == pytest.approx([2 * good] * 2 + [good] * 2, abs=6e-4)
    assert "= +0.5, -0.2, +0.5 for its steps" in shown("grpo_process") and "steps" not in shown("grpo")


@pytest.mark.parametrize(
    ("name", "first", "shut"),
    [
        ("grpo", [0.0, 1.1, 0.0], 3),  # A at .6, C at 1.25 and 1.4
        ("dapo", [0.0, 1.1, 1.25], 2),  # clip-higher lets 1.25 through
        ("cispo", [0.6, 1.1, 1.25], 0),
    ],
)
def test_the_clip_by_hand(name: str, first: list[float], shut: int) -> None:
    assert [row[0] for row in series(name, "factor")] == pytest.approx(first, abs=6e-4)
    found = re.search(r"the clip is shut: (\d+) of 18", shown(name))
    assert (int(found[1]) if found else 0) == shut


def test_the_gate_of_sapo_by_hand() -> None:
    """4 s (1 - s) rho with s = sigmoid(tau (rho - 1)), tau 1.05 where A < 0: A's first token, and 1 for B and C."""
    gates = [(rho, 1 / (1 + math.exp(-tau * (rho - 1)))) for rho, tau in ((0.6, 1.05), (1.1, 1.0), (1.25, 1.0))]
    expected = [4 * s * (1 - s) * rho for rho, s in gates]
    assert [row[0] for row in series("sapo", "factor")] == pytest.approx(expected, abs=6e-4)


def test_gspo_reads_the_ratio_of_the_sequence() -> None:
    means = [(0.6 * 0.9**5) ** (1 / 6), (1.1**4 * 0.95**4) ** (1 / 8), (1.25 * 1.4 * 1.05**2) ** (1 / 4)]
    assert column("gspo", "pi / pi_old at level sequence_mean") == pytest.approx(means, abs=6e-5)
    assert column("gspo", "factor") == [0, 0, 0]


def test_kimi_is_pulled_back_by_the_whole_sequence_and_grpo_token_by_token() -> None:
    total = math.log(0.6) + 5 * math.log(0.9)
    assert column("kimi", "KL pull")[0] == pytest.approx(-0.1 * total, abs=6e-5)
    u = 0.2 + math.log(0.6)
    assert series("grpo", "KL pull")[0][0] == pytest.approx(-0.04 * (1 - math.exp(-u)), abs=6e-5)


def test_apa_pushes_towards_its_target() -> None:
    advantage = series("apa", "advantage")[2][0]
    assert series("apa", "push = -d loss / d log pi")[2][0] == pytest.approx(
        2 * (advantage - 0.2 - math.log(1.25)), abs=2e-3
    )


def test_whitening_says_its_mean_and_deviation() -> None:
    centred = [r - 0.6 for r, size in zip(R, SIZES, strict=True) for _ in range(size)]
    mean = sum(centred) / 18
    deviation = math.sqrt(sum((x - mean) ** 2 for x in centred) / 17)
    assert f"minus its mean {mean:.3f}, divided by a deviation of {deviation:.3f}" in shown("reinforce_pp_baseline")
    assert f"scaled: divided by a deviation of {deviation:.3f}" in shown("lite_ppo")


def test_what_comes_on_top_is_said() -> None:
    assert "27.8 x the gradient of log pi on pretraining text" in shown("ppo_ptx")
    assert "0.01 x the gradient of the entropy" in shown("a2c")
    assert "rewards 1, 1, 1 is left out" in shown("dapo") and "rewards 0, 0.8, 1 is kept" in shown("dapo")
    assert "greedy decoding    5 tokens  reward 0.80" in shown("remax")
    assert "No ratio" in shown("rloo") and "No ratio" not in shown("kimi")
