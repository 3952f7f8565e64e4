"""What the experiment on lengths rests on: planted lengths, a reward that does not see them, the pull of 1/|o_i|."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from burnish.core.aggregate import seq_mean_token_mean
from burnish.core.algorithms import DR_GRPO, GRPO, Algorithm
from burnish.types import Completion, Outputs
from evidence.lengths import TASK, Answered, Tails
from rows import batch_of, rollout

LONGEST = 300  # beyond it lies .8^300 of the tails


def pull(algo: Algorithm, advantage: float, stop: float = 0.2) -> float:
    """The expected gradient of the loss on the logit of stopping, for completions of one advantage and geometric length."""
    logit = torch.tensor(stop, dtype=torch.float64).logit().requires_grad_()
    lengths = torch.arange(1, LONGEST + 1)
    batch = batch_of([rollout(n, episode=n, tokens=[3] * n) for n in lengths.tolist()], LONGEST)
    last = torch.arange(LONGEST) == lengths[:, None] - 1
    ends, goes = torch.nn.functional.logsigmoid(logit), torch.nn.functional.logsigmoid(-logit)
    logprobs = torch.where(batch.mask, torch.where(last, ends, goes), 0.0)
    batch = algo.loss.prepare(replace(batch, advantages=torch.full_like(logprobs, advantage) * batch.mask))
    share = stop * (1 - stop) ** (lengths - 1).double()
    batch = replace(batch, weights={"policy": batch.weights["policy"] * LONGEST * share[:, None]})
    loss, _ = algo.loss(Outputs(logprobs, torch.zeros_like(logprobs), {}), batch)
    (slope,) = torch.autograd.grad(loss, logit)
    return float(slope)


@pytest.mark.parametrize(
    "algo",
    [replace(GRPO, kl=None), replace(DR_GRPO, aggregate=seq_mean_token_mean)],
    ids=["grpo", "grpo-without-std"],
)
def test_grpo_pulls_known_wrong_tails_longer_and_right_ones_shorter(algo: Algorithm) -> None:
    """Descent lowers the logit of stopping after a wrong answer. E[(1/n) d log pi] = -s ln s / (1 - s) - s for right ones."""
    s = 0.2
    exact = -s * math.log(s) / (1 - s) - s
    assert exact > 0.1
    assert pull(algo, -1.0) == pytest.approx(exact, rel=1e-10)
    assert pull(algo, 1.0) == pytest.approx(-exact, rel=1e-10)


def test_dr_grpo_pulls_tails_nowhere() -> None:
    for advantage in (-1.0, 1.0):
        assert pull(DR_GRPO, advantage) == pytest.approx(0.0, abs=1e-10)


@pytest.mark.parametrize("known", [True, False], ids=["known", "blind"])
def test_the_planted_length_does_not_depend_on_being_right(known: bool) -> None:
    rows, right = Tails(TASK, known), Answered()
    tails: dict[bool, list[float]] = {True: [], False: []}
    for index in range(2000):
        example = rows[index]
        text = example.messages[-1]["content"]
        ((part,),) = right(example, [Completion((), text, (), "eos")])
        assert not known or ("+" in text) == bool(part.value)
        tails[bool(part.value)].append(float(sum(text.count(mark) for mark in "+-.")))
    one, other = (torch.tensor(tails[kind]) for kind in (True, False))
    assert min(len(one), len(other)) > 600
    error = (one.var() / len(one) + other.var() / len(other)).sqrt()
    assert abs(one.mean() - other.mean()) < 3 * error
    assert one.min() == other.min() == 1 and one.max() == other.max() == 40 and 8 < one.mean() < 11


def test_the_reward_sees_the_answer_and_not_the_length() -> None:
    example = replace(TASK[0], answer="7")
    for answer, wanted in (("7", 1.0), ("6", 0.0)):
        texts = [f"<answer>{answer}</answer>{'-' * n}" for n in (0, 1, 30)]
        texts += [f"<think>{'.' * n}</think><answer>{answer}</answer>" for n in (0, 1, 30)]
        completions = [Completion((), text, (), finish) for text in texts for finish in ("eos", "length")]
        assert {part.value for (part,) in Answered()(example, completions)} == {wanted}
