"""A student and its teacher: two networks of different sizes, against the distributions transformers computes for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import tiny
from burnish.core.distil import FORWARD_KL, REVERSE_KL, TOP_K, Distil
from burnish.core.losses import NLL
from burnish.data.batching import collate, micro_batches
from burnish.engines.local import Engine, LocalModel
from burnish.engines.lora import LoRA
from burnish.engines.teacher import top_k
from burnish.errors import InputError
from burnish.types import Batch, Metrics, Needs, Outputs
from rows import rollout
from tiny import perturbed, plain_distributions, plain_network

LETTERS = "abcdefg."
EXACT = Engine(dtype="float64", device="cpu")
LENGTHS = (4, 1, 5, 2)
PROMPTS = ((1, 2, 3), (4,), (1, 2, 3), (1, 2, 3))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.model(tmp_path_factory.mktemp("small"), LETTERS, ".")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wider and deeper than the small one, and its head is padded to 16 rows for a vocabulary of 8."""
    options = {"hidden_size": 24, "num_hidden_layers": 2, "vocab_size": 16}
    return tiny.model(tmp_path_factory.mktemp("large"), LETTERS, ".", seed=1, **options)


def pupil(small: Path, large: Path, engine: Engine = EXACT) -> LocalModel:
    student = LocalModel(small, engine)
    student.learn_from(LocalModel(large, EXACT))
    return student


def data(temperature: float = 1.0) -> Batch:
    """Two prompts, one of them of three rows; some tokens are the environment's."""
    rows = [
        rollout(
            n,
            tokens=[(3 * i + 2 * t) % len(LETTERS) for t in range(n)],
            prompt=PROMPTS[i],
            mask=[(i + t) % 4 != 3 for t in range(n)],
            group=int(PROMPTS[i] == (4,)),
            episode=i,
        )
        for i, n in enumerate(LENGTHS)
    ]
    return collate(rows, temperature=temperature)


def with_teacher(teacher: LocalModel, batch: Batch, k: int) -> Batch:
    ids, logprobs = top_k(teacher, batch, k)
    stored = {"ids": ("token", ids), "teacher_logprobs": ("token", logprobs)}
    return replace(batch, extras={**batch.extras, **stored})


def distributions(network: object, batch: Batch, row: int) -> Tensor:
    """[n, V] log-probs at the batch's temperature over the student's vocabulary."""
    tokens = batch.tokens[row, : LENGTHS[row]].tolist()
    raw = plain_distributions(network, PROMPTS[row], tokens)[:, : len(LETTERS)]
    return torch.log_softmax(raw / batch.temperature, -1)


def reference(student: object, teacher: object, batch: Batch, beta: float) -> list[Tensor]:
    """Row by row [n], equation 1 of GKD written out."""
    found = []
    for row in range(len(LENGTHS)):
        p, q = distributions(student, batch, row).exp(), distributions(teacher, batch, row).exp().detach()
        m = beta * q + (1 - beta) * p
        forward, reverse = (q * (q / p).log()).sum(-1), (p * (p / q).log()).sum(-1)
        mixed = beta * (q * (q / m).log()).sum(-1) + (1 - beta) * (p * (p / m).log()).sum(-1)
        found.append({0.0: forward, 1.0: reverse}.get(beta, mixed))
    return found


def gradient(model: LocalModel) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in model.masters.params.items() if p.grad is not None}
    model.discard_gradient()
    return found


def run(model: LocalModel, batch: Batch, loss: Distil) -> tuple[Metrics, Outputs, dict[str, Tensor]]:
    metrics, outputs = model.forward_backward(loss.prepare(batch), loss)
    return metrics, outputs, gradient(model)


betas = pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])


# --------------------------------------------------------------------------------------------------- the whole vocabulary


@betas
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_divergence_is_the_one_of_the_plain_networks(
    small: Path, large: Path, beta: float, temperature: float
) -> None:
    batch = data(temperature)
    outputs = pupil(small, large).forward(batch, Needs(logprobs=False, divergence=beta))
    assert outputs.divergence is not None and outputs.divergence.shape == batch.tokens.shape
    assert outputs.at_ids is None and torch.isnan(outputs.logprobs[0, : LENGTHS[0]]).all()
    for row, expected in enumerate(reference(plain_network(small), plain_network(large), batch, beta)):
        n = LENGTHS[row]
        assert torch.allclose(outputs.divergence[row, :n], expected, rtol=1e-10, atol=1e-13)
        assert (outputs.divergence[row, n:] == 0).all()


@betas
def test_the_gradient_is_the_one_of_the_plain_networks(small: Path, large: Path, beta: float) -> None:
    batch, student, plain = data(0.7), pupil(small, large), plain_network(small)
    metrics, _, found = run(student, batch, Distil(beta))
    each = [d[batch.mask[i, : len(d)]] for i, d in enumerate(reference(plain, plain_network(large), batch, beta))]
    expected = torch.cat(each).mean()
    expected.backward()
    assert metrics["loss"][0] / metrics["loss"][1] == pytest.approx(expected.item(), rel=1e-10)
    for name, parameter in plain.named_parameters():
        assert (found[name] - parameter.grad).norm() <= 1e-10 * parameter.grad.norm(), name
        assert parameter.grad.norm() > 1e-6


@betas
@pytest.mark.parametrize("engine", [EXACT, replace(EXACT, adapter=LoRA(rank=2))], ids=["full", "lora"])
def test_no_split_changes_gradient_metrics_or_outputs(small: Path, large: Path, engine: Engine, beta: float) -> None:
    results = []
    for budget in (1, 9, 8192):
        student = perturbed(pupil(small, large, replace(engine, token_budget=budget)))
        results.append(run(student, data(), Distil(beta)))
    assert [len(micro_batches(data(), budget)) for budget in (1, 9, 8192)] == [4, 3, 1]
    metrics, outputs, whole = results[-1]
    for found_metrics, found_outputs, found in results[:-1]:
        assert found_metrics == {name: (pytest.approx(s, rel=1e-10), n) for name, (s, n) in metrics.items()}
        assert found_outputs.divergence is not None and outputs.divergence is not None
        assert torch.allclose(found_outputs.divergence, outputs.divergence, rtol=1e-10, atol=1e-13)
        assert all((found[name] - value).norm() <= 1e-10 * value.norm() for name, value in whole.items())


def test_training_sees_what_scoring_sees_and_the_teacher_only_reads(small: Path, large: Path) -> None:
    student = pupil(small, large, replace(EXACT, token_budget=9))
    assert student.teacher is not None
    before = {name: weight.clone() for name, weight in student.teacher.weights().items()}
    batch = with_teacher(student.teacher, data(), 3)
    scored = student.forward(batch, Needs(at_ids=True, divergence=1.0))
    _, seen, _ = run(student, batch, REVERSE_KL)
    assert scored.divergence is not None and seen.divergence is not None
    assert torch.equal(scored.divergence, seen.divergence) and not seen.divergence.requires_grad
    _, stored = student.forward_backward(TOP_K.prepare(batch), TOP_K)
    assert scored.at_ids is not None and stored.at_ids is not None and torch.equal(scored.at_ids, stored.at_ids)
    student.optim_step(0.1)
    assert all(torch.equal(weight, before[name]) for name, weight in student.teacher.weights().items())
    assert all(p.grad is None for p in student.teacher.network.parameters())


@pytest.mark.parametrize("loss", [FORWARD_KL, REVERSE_KL, TOP_K], ids=["forward", "reverse", "top-k"])
def test_a_student_becomes_its_teacher(small: Path, loss: Distil, tmp_path: Path) -> None:
    """A teacher of the student's own shape, so that the KL can reach 0 on these rows."""
    teacher = LocalModel(tiny.model(tmp_path, LETTERS, ".", seed=3), EXACT)
    student = LocalModel(small, EXACT)
    student.learn_from(teacher)
    batch = with_teacher(teacher, data(), 6)
    needs = Needs(logprobs=False, divergence=0.0)
    values = []
    for _ in range(60):
        found = student.forward(batch, needs).divergence
        assert found is not None
        values.append(float((found * batch.mask).sum() / batch.mask.sum()))
        student.forward_backward(loss.prepare(batch), loss)
        student.optim_step(0.02)
    assert values[0] > 0.3 and values[-1] < 0.02 * values[0]


# --------------------------------------------------------------------------------------------------------- what is stored


@pytest.mark.parametrize("k", [1, 3, 8])
def test_the_most_likely_tokens_are_those_of_the_plain_network(large: Path, k: int) -> None:
    """Of the 8 there are: the other 8 rows of the head are padding."""
    batch = data(0.7)
    model = LocalModel(large, replace(EXACT, token_budget=9))
    ids, logprobs = top_k(model, batch, k)
    assert ids.shape == logprobs.shape == (*batch.tokens.shape, k)
    plain = plain_network(large)
    for row, n in enumerate(LENGTHS):
        full = distributions(plain, batch, row)
        assert torch.equal(ids[row, :n], full.argsort(descending=True)[:, :k])
        assert torch.allclose(logprobs[row, :n], full.gather(1, ids[row, :n]), rtol=1e-10)
        assert (ids[row, n:] == -1).all() and (logprobs[row, n:] == 0).all()


def test_log_probs_at_stored_ids_are_those_of_the_plain_network(small: Path, large: Path) -> None:
    student = pupil(small, large)
    assert student.teacher is not None
    batch = with_teacher(student.teacher, data(0.7), 3)
    ids = batch.extra("ids").clone()
    ids[0, 1, 2] = -1
    batch = replace(batch, extras={**batch.extras, "ids": ("token", ids)})
    found = student.forward(batch, Needs(logprobs=False, at_ids=True)).at_ids
    assert found is not None and (found[ids < 0] == 0).all()
    for row, n in enumerate(LENGTHS):
        full = distributions(plain_network(small), batch, row)
        expected = torch.where(ids[row, :n] >= 0, full.gather(1, ids[row, :n].clamp(min=0)), 0.0)
        assert torch.allclose(found[row, :n], expected, rtol=1e-10)


def test_a_whole_stored_vocabulary_teaches_what_the_teacher_at_hand_does(small: Path) -> None:
    student = LocalModel(small, EXACT)
    student.learn_from(perturb(LocalModel(small, EXACT)))
    assert student.teacher is not None
    batch = with_teacher(student.teacher, data(0.7), len(LETTERS))
    _, _, left = run(student, batch, FORWARD_KL)
    student.forward_backward(TOP_K.prepare(batch), TOP_K)
    right = gradient(student)
    assert all((right[name] - value).norm() <= 1e-9 * value.norm() for name, value in left.items())


def perturb(model: LocalModel) -> LocalModel:
    """Another model of the same shape."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return model


@pytest.mark.parametrize("k", [0, 9], ids=str)
def test_a_number_of_tokens_there_is_not_is_refused(small: Path, k: int) -> None:
    with pytest.raises(InputError, match="from 1 to the vocabulary's 8"):
        top_k(LocalModel(small, EXACT), data(), k)


# --------------------------------------------------------------------------------------------------------- what is refused


def test_a_teacher_with_another_vocabulary_is_refused(small: Path, tmp_path: Path) -> None:
    other = LocalModel(tiny.model(tmp_path, "hgfedcb.", "."), EXACT)
    with pytest.raises(InputError, match="different vocabularies"):
        LocalModel(small, EXACT).learn_from(other)


def test_a_teacher_that_does_not_know_every_token_is_refused(small: Path, large: Path) -> None:
    with pytest.raises(InputError, match="8 rows, that of the student 16"):
        LocalModel(large, EXACT).learn_from(LocalModel(small, EXACT))


def test_a_loss_that_needs_a_teacher_says_so(small: Path) -> None:
    with pytest.raises(InputError, match="learn_from"):
        run(LocalModel(small, EXACT), data(), REVERSE_KL)


def test_rows_beyond_the_teachers_context_are_refused(small: Path, tmp_path: Path) -> None:
    student = LocalModel(small, EXACT)
    student.learn_from(LocalModel(tiny.model(tmp_path, LETTERS, ".", max_position_embeddings=6), EXACT))
    with pytest.raises(InputError, match="a row of 8 tokens is longer than the teacher's context of 6"):
        run(student, data(), REVERSE_KL)


@pytest.mark.parametrize("needs", [Needs(at_ids=True), Needs(divergence=0.5)], ids=["ids", "divergence"])
def test_truncated_rows_are_refused(small: Path, large: Path, needs: Needs) -> None:
    student = pupil(small, large)
    assert student.teacher is not None
    batch = with_teacher(student.teacher, data(), 2)
    batch = replace(batch, extras={**batch.extras, "kept_ids": ("token", batch.tokens[..., None])})
    student.forward(batch)
    with pytest.raises(InputError, match="truncation=full"):
        student.forward(batch, needs)


def test_without_suppressed_tokens_only_what_was_stored_cannot_be_compared(small: Path, large: Path) -> None:
    student = pupil(small, large)
    assert student.teacher is not None
    batch = replace(with_teacher(student.teacher, data(), 2), suppressed=(3,))
    found, whole = (student.forward(b, Needs(divergence=1.0)) for b in (batch, replace(batch, suppressed=())))
    assert found.divergence is not None and whole.divergence is not None
    assert not torch.allclose(found.divergence, whole.divergence)
    with pytest.raises(InputError, match="stored of the teacher is over all tokens"):
        student.forward(batch, Needs(at_ids=True))


def test_other_losses_do_not_ask_the_teacher(small: Path, large: Path) -> None:
    """Its presence changes nothing, to the bit."""
    results = []
    for student in (pupil(small, large), LocalModel(small, EXACT)):
        student.forward_backward(NLL().prepare(data()), NLL())
        results.append(gradient(student))
    assert all(torch.equal(value, results[1][name]) for name, value in results[0].items())
