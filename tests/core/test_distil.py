"""Distillation losses against the sums they stand for, in float64, on distributions small enough to write out."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from burnish.core import distil
from burnish.core.aggregate import seq_mean_token_mean
from burnish.core.distil import FORWARD_KL, JSD, REVERSE_KL, TOP_K, Distil, TopK
from burnish.core.logprobs import divergence
from burnish.errors import InputError
from burnish.types import Batch, Metrics, Outputs, add_metrics
from rows import batch_of, rollout

V = 6
ROWS = [
    rollout(3),
    rollout(2, episode=1, mask=(True, False)),
    rollout(1, episode=2),
    rollout(2, episode=3, train=False),
]
TRAINED = [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0)]


def logits(seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """[B, T, V]"""
    return 2 * torch.randn(4, 3, V, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def stored(teacher: Tensor, k: int) -> Batch:
    """The rows with the ``k`` most likely ids of the teacher, as top_k gives them."""
    batch = batch_of(ROWS)
    values, ids = torch.log_softmax(teacher, -1).topk(k)
    past = (torch.arange(3) >= batch.lengths[:, None])[..., None]
    found = {"ids": ids.masked_fill(past, -1), "teacher_logprobs": values.masked_fill(past, 0.0)}
    return replace(batch, extras={**batch.extras, **{name: ("token", tensor) for name, tensor in found.items()}})


def at_ids(student: Tensor, batch: Batch) -> Outputs:
    nothing, ids = torch.full((4, 3), torch.nan), batch.extra("ids")
    found = torch.log_softmax(student, -1).gather(-1, ids.clamp(min=0))
    return Outputs(nothing, nothing, at_ids=torch.where(ids >= 0, found, 0.0))


def diverging(student: Tensor, teacher: Tensor, beta: float) -> Outputs:
    """The divergence the engine would give, here with an identity for a head; its own tests are with the chunked head."""
    nothing, eye = torch.full((4, 3), torch.nan), torch.eye(V, dtype=student.dtype)
    found = divergence(student.reshape(-1, V), eye, teacher.reshape(-1, V), eye, beta)
    return Outputs(nothing, nothing, divergence=found.view(4, 3))


def close(got: Tensor, expected: Tensor, tolerance: float = 1e-10) -> bool:
    return (got - expected).norm().item() <= tolerance * max(1.0, expected.norm().item())


# ----------------------------------------------------------------------------------------------------- a teacher at hand


@pytest.mark.parametrize("loss", [FORWARD_KL, REVERSE_KL], ids=["forward", "reverse"])
def test_the_kls_by_hand(loss: Distil) -> None:
    student, teacher = logits(0).requires_grad_(), logits(1)
    p, q = student.softmax(-1), teacher.softmax(-1)
    each = [q[at] @ (q[at] / p[at]).log() if loss is FORWARD_KL else p[at] @ (p[at] / q[at]).log() for at in TRAINED]
    expected = torch.stack(each).mean()
    value, metrics = loss(diverging(student, teacher, loss.beta), loss.prepare(batch_of(ROWS)))
    assert close(value, expected)
    assert metrics["loss"] == metrics["kl/teacher"] == (pytest.approx(5 * expected.item(), rel=1e-12), 5.0)
    grads = [torch.autograd.grad(each, student)[0] for each in (value, expected)]
    assert close(*grads) and grads[0].norm() > 0.1
    assert (grads[0][1, 1] == 0).all() and (grads[0][3] == 0).all(), "masked tokens and untrained rows"


def test_the_jensen_shannon_divergence_by_hand() -> None:
    student, teacher = logits(0), logits(1)
    p, q = student.softmax(-1), teacher.softmax(-1)
    m = (p + q) / 2
    each = [(q[at] @ (q[at] / m[at]).log() + p[at] @ (p[at] / m[at]).log()) / 2 for at in TRAINED]
    value, metrics = JSD(diverging(student, teacher, 0.5), JSD.prepare(batch_of(ROWS)))
    assert value.item() == pytest.approx(torch.stack(each).mean().item(), rel=1e-10)
    assert "kl/teacher" not in metrics and metrics["jsd/teacher"] == metrics["loss"]
    assert value.item() < math.log(2)


def test_rows_may_weigh_the_same_and_the_whole_may_weigh_less() -> None:
    loss = Distil(0.0, seq_mean_token_mean, coef=0.3)
    outputs = diverging(logits(0), logits(1), 0.0)
    assert outputs.divergence is not None
    rows = [outputs.divergence[0].mean(), outputs.divergence[1, 0], outputs.divergence[2, 0]]
    value, _ = loss(outputs, loss.prepare(batch_of(ROWS)))
    assert value.item() == pytest.approx(0.3 * torch.stack(rows).mean().item(), rel=1e-12)


def test_tokens_outside_the_mask_cannot_poison_the_loss() -> None:
    outputs = diverging(logits(0), logits(1), 1.0)
    assert outputs.divergence is not None
    expected = REVERSE_KL(outputs, REVERSE_KL.prepare(batch_of(ROWS)))
    broken = outputs.divergence.clone()
    broken[1, 1] = broken[3] = torch.inf
    assert REVERSE_KL(replace(outputs, divergence=broken), REVERSE_KL.prepare(batch_of(ROWS))) == expected


@pytest.mark.parametrize("beta", [-0.1, 1.5, math.nan], ids=str)
def test_a_share_is_from_0_to_1(beta: float) -> None:
    with pytest.raises(InputError, match="from 0 to 1"):
        Distil(beta)


# --------------------------------------------------------------------------------------------------------- what was stored


@pytest.mark.parametrize("k", [1, 2, 4, V - 1])
def test_top_k_by_hand(k: int) -> None:
    """Over k + 1 events, the last of them all that was not stored."""
    student, teacher = logits(2).requires_grad_(), logits(3)
    batch = TOP_K.prepare(stored(teacher, k))
    p, q = student.softmax(-1), teacher.softmax(-1)
    each = []
    for at in TRAINED:
        ids = batch.extra("ids")[at]
        left, right = ((torch.cat([x[at][ids], 1 - x[at][ids].sum()[None]])) for x in (q, p))
        each.append(left @ (left / right).log())
    value, metrics = TOP_K(at_ids(student, batch), batch)
    assert close(value, torch.stack(each).mean())
    grads = [torch.autograd.grad(found, student)[0] for found in (value, torch.stack(each).mean())]
    assert close(*grads) and grads[0].norm() > 0.01
    rest = sum(1 - q[at][batch.extra("ids")[at]].sum().item() for at in TRAINED)
    assert metrics["teacher/rest"] == (pytest.approx(rest, abs=1e-12), 5.0)
    assert metrics["loss"] == metrics["kl/teacher"] == (pytest.approx(5 * value.item(), rel=1e-12), 5.0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_all_of_the_vocabulary_is_the_forward_kl(dtype: torch.dtype) -> None:
    student, teacher = logits(4, dtype).requires_grad_(), logits(5, dtype)
    batch = TOP_K.prepare(stored(teacher, V))
    value, _ = TOP_K(at_ids(student, batch), batch)
    expected, _ = FORWARD_KL(diverging(student, teacher, 0.0), FORWARD_KL.prepare(batch))
    tolerance = 1e-10 if dtype == torch.float64 else 1e-5
    assert close(value, expected, tolerance)
    assert close(*(torch.autograd.grad(found, student)[0] for found in (value, expected)), tolerance)


def test_it_grows_with_k_up_to_the_forward_kl() -> None:
    student, teacher = logits(6), logits(7)
    values = []
    for k in range(1, V + 1):
        batch = TOP_K.prepare(stored(teacher, k))
        values.append(TOP_K(at_ids(student, batch), batch)[0].item())
    assert values[0] > 0 and all(b - a > 1e-9 for a, b in pairwise(values[:-1]))
    assert values[-2] == pytest.approx(values[-1], rel=1e-12), "the last one left is an event of its own"


def test_where_the_student_agrees_there_is_nothing_to_learn() -> None:
    student = logits(8).requires_grad_()
    batch = TOP_K.prepare(stored(student.detach(), 3))
    value, _ = TOP_K(at_ids(student, batch), batch)
    assert abs(value.item()) < 1e-12
    assert torch.autograd.grad(value, student)[0].abs().max() < 1e-12


def test_a_student_that_forgot_the_rest_is_told_to_give_it_more() -> None:
    """In float32 its rest is 1 - 1 = 0: the loss stays a number and its gradient raises the logits of the rest."""
    teacher = logits(9, torch.float32)
    batch = TOP_K.prepare(stored(teacher, 2))
    kept = torch.zeros(4, 3, V, dtype=torch.bool).scatter_(-1, batch.extra("ids").clamp(min=0), True)
    student = torch.where(kept, teacher, teacher - 20).requires_grad_()
    value, _ = TOP_K(at_ids(student, batch), batch)
    (gradient,) = torch.autograd.grad(value, student)
    assert math.isfinite(value.item()) and value.item() > 1
    assert all((gradient[at][~kept[at]] < 0).all() for at in TRAINED)


def test_ids_that_are_padded_or_impossible_count_nothing() -> None:
    """A token with fewer ids than others: -1, whatever its log-prob; and an id of a teacher's probability 0."""
    student, teacher = logits(10).requires_grad_(), logits(11)
    batch = stored(teacher, 2)
    wider = {
        "ids": torch.nn.functional.pad(batch.extra("ids"), (0, 1), value=-1),
        "teacher_logprobs": torch.nn.functional.pad(batch.extra("teacher_logprobs"), (0, 1), value=-0.3),
    }
    padded = replace(batch, extras={**batch.extras, **{name: ("token", x) for name, x in wider.items()}})
    expected, got = (TOP_K(at_ids(student, b), TOP_K.prepare(b))[0] for b in (batch, padded))
    assert close(got, expected) and close(*(torch.autograd.grad(x, student)[0] for x in (got, expected)))
    never = teacher.clone()
    never[..., 0] = -torch.inf
    whole = TOP_K.prepare(stored(never, V))
    value, _ = TOP_K(at_ids(student, whole), whole)
    p, q = student.softmax(-1), never.softmax(-1)
    by_hand = torch.stack([q[at][1:] @ (q[at][1:] / p[at][1:]).log() for at in TRAINED]).mean()
    assert close(value, by_hand) and torch.isfinite(torch.autograd.grad(value, student)[0]).all()


def test_a_token_of_which_nothing_was_stored_adds_nothing() -> None:
    student = logits(12).requires_grad_()
    batch = stored(logits(13), 2)
    ids = batch.extra("ids").clone()
    ids[0] = -1
    batch = TOP_K.prepare(replace(batch, extras={**batch.extras, "ids": ("token", ids)}))
    value, metrics = TOP_K(at_ids(student, batch), batch)
    assert (torch.autograd.grad(value, student)[0][0] == 0).all()
    assert metrics["teacher/rest"][0] > 3 and metrics["loss"][1] == 5


@pytest.mark.parametrize("name", ["ids", "teacher_logprobs"])
def test_a_batch_without_a_stored_teacher_is_refused(name: str) -> None:
    batch = stored(logits(0), 2)
    with pytest.raises(InputError, match=f"no {name} of a teacher"):
        TOP_K.prepare(replace(batch, extras={n: x for n, x in batch.extras.items() if n != name}))


# ------------------------------------------------------------------------------------------------------------ as values


@pytest.mark.parametrize("name", sorted(distil.table()))
def test_losses_and_metrics_add_up_over_rows(name: str) -> None:
    loss = distil.table()[name]
    batch = loss.prepare(stored(logits(1), 3))
    beta = loss.beta if isinstance(loss, Distil) else 0.0
    outputs = replace(diverging(logits(0), logits(1), beta), at_ids=at_ids(logits(0), batch).at_ids)
    whole, expected = loss(outputs, batch)
    total, metrics = 0.0, Metrics()
    for rows in ([3, 1], [0], [2]):
        assert outputs.divergence is not None and outputs.at_ids is not None
        part = replace(outputs, divergence=outputs.divergence[rows], at_ids=outputs.at_ids[rows])
        value, found = loss(part, batch.select(rows))
        total, metrics = total + value.item(), add_metrics(metrics, found)
    assert total == pytest.approx(whole.item(), rel=1e-12)
    assert metrics == {n: (pytest.approx(s, rel=1e-12), c) for n, (s, c) in expected.items()}


def test_every_loss_has_a_name_and_says_what_it_needs() -> None:
    assert distil.table() == {"forward_kl": FORWARD_KL, "reverse_kl": REVERSE_KL, "jsd": JSD, "top_k": TOP_K}
    assert [loss.needs.divergence for loss in (FORWARD_KL, JSD, REVERSE_KL, TOP_K)] == [0.0, 0.5, 1.0, None]
    assert [loss.needs.at_ids for loss in (FORWARD_KL, TOP_K)] == [False, True]
    assert not any(loss.needs.logprobs for loss in distil.table().values())
    assert distil.get("Reverse-KL") is REVERSE_KL and distil.notes().keys() == distil.table().keys()
    with pytest.raises(InputError, match="forward_kl"):
        distil.get("forwardkl")


@pytest.mark.parametrize("loss", [Distil(0.3), TopK(coef=2.0)], ids=["distil", "top-k"])
def test_losses_travel(loss: Distil | TopK) -> None:
    assert pickle.loads(pickle.dumps(loss)) == loss
