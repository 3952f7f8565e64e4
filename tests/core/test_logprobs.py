"""The chunked head against the two lines it stands for, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from burnish.core import logprobs
from burnish.core.logprobs import (
    divergence,
    log_softmax_chunks,
    logprobs_at,
    predictor_index,
    ranks,
    token_logprobs,
    top_logprobs,
)

N, D, V = 7, 5, 11


def naive(hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    full = torch.log_softmax(hidden @ weight.T / temperature, -1)
    return full[torch.arange(len(targets)), targets], -(full.exp() * full).sum(-1)


def sets(targets: Tensor) -> Tensor:
    """[N, 4] ids around each target, in no order; alone in one row, the whole vocabulary (nothing but -1) in another."""
    kept = torch.stack([(targets + 3) % V, targets, (targets + 7) % V, torch.full_like(targets, -1)], 1)
    kept[1::2, [0, 3]] = kept[1::2, [3, 0]]
    kept[2] = torch.tensor([-1, -1, int(targets[2]), -1])
    kept[4] = -1
    return kept


def naive_kept(
    hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float, kept: Tensor
) -> tuple[Tensor, Tensor]:
    """Row by row: log pi(y) - log sum_k pi(k), and the entropy of pi(k) / sum_k pi(k)."""
    full = torch.log_softmax(hidden @ weight.T / temperature, -1)
    found = []
    for row, target, ids in zip(full, targets.tolist(), kept.tolist(), strict=True):
        chosen = row[[i for i in ids if i >= 0] or list(range(V))]
        share = chosen - chosen.logsumexp(0)
        found.append(torch.stack([row[target] - chosen.logsumexp(0), -(share.exp() * share).sum()]))
    return torch.stack(found).unbind(1)  # type: ignore[return-value]


def inputs(seed: int = 0, scale: float = 1.0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hidden = (torch.randn(N, D, generator=generator, dtype=torch.float64) * scale).to(dtype).requires_grad_()
    weight = torch.randn(V, D, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    return hidden, weight, torch.randint(V, (N,), generator=generator)


def close(got: Tensor, expected: Tensor, tolerance: float = 1e-12) -> bool:
    return (got - expected).norm().item() <= tolerance * max(1.0, expected.norm().item())


@pytest.mark.parametrize("chunk", [1, V, 2 * V + 3, 3 * V, N * V, 2**24])
@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.7])
def test_values_and_gradients_are_those_of_log_softmax(
    monkeypatch: pytest.MonkeyPatch, chunk: int, temperature: float
) -> None:
    monkeypatch.setattr(logprobs, "CHUNK_ELEMENTS", chunk)
    hidden, weight, targets = inputs()
    up = torch.Generator().manual_seed(1)
    upstream = torch.randn(2, N, generator=up, dtype=torch.float64)
    pairs = [f(hidden, weight, targets, temperature) for f in (token_logprobs, naive)]
    for got, expected in zip(*pairs, strict=True):
        assert close(got, expected)
    grads = [torch.autograd.grad((torch.stack(p) * upstream).sum(), (hidden, weight)) for p in pairs]
    for got, expected in zip(*grads, strict=True):
        assert close(got, expected)


@pytest.mark.parametrize("truncated", [False, True], ids=["full", "kept"])
def test_gradcheck_of_log_probability_and_entropy(monkeypatch: pytest.MonkeyPatch, truncated: bool) -> None:
    monkeypatch.setattr(logprobs, "CHUNK_ELEMENTS", 2 * V)
    hidden, weight, targets = inputs(3)
    kept = sets(targets) if truncated else None
    for place in (0, 1):
        assert torch.autograd.gradcheck(
            lambda h, w, p=place: token_logprobs(h, w, targets, 0.8, kept)[p], (hidden, weight)
        )


@pytest.mark.parametrize("ids", [torch.int64, torch.int32], ids=str)
@pytest.mark.parametrize("chunk", [1, 2 * V + 3, 2**24])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_over_kept_ids_values_and_gradients_are_those_of_the_restricted_softmax(
    monkeypatch: pytest.MonkeyPatch, chunk: int, temperature: float, ids: torch.dtype
) -> None:
    monkeypatch.setattr(logprobs, "CHUNK_ELEMENTS", chunk)
    hidden, weight, targets = inputs(7)
    kept = sets(targets).to(ids)
    upstream = torch.randn(2, N, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    pairs = [f(hidden, weight, targets, temperature, kept) for f in (token_logprobs, naive_kept)]
    for got, expected in zip(*pairs, strict=True):
        assert close(got, expected)
    for parts in (upstream, upstream * torch.tensor([[1.0], [0.0]])):  # with an entropy bonus and without
        grads = [
            torch.autograd.grad((torch.stack(p) * parts).sum(), (hidden, weight), retain_graph=True) for p in pairs
        ]
        for got, expected in zip(*grads, strict=True):
            assert close(got, expected)


BANNED = (2, 9, 10)


@pytest.mark.parametrize("truncated", [False, True], ids=["full", "kept"])
@pytest.mark.parametrize("chunk", [1, 2 * V + 3, 2**24])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_without_suppressed_ids_values_and_gradients_are_those_of_the_softmax_over_the_others(
    monkeypatch: pytest.MonkeyPatch, chunk: int, temperature: float, truncated: bool
) -> None:
    """But where the target is one of them: it was forced, and its distribution is over everything."""
    monkeypatch.setattr(logprobs, "CHUNK_ELEMENTS", chunk)
    hidden, weight, _ = inputs(7)
    targets = torch.tensor([0, 2, 3, 9, 8, 7, 1])
    allowed = torch.tensor([i for i in range(V) if i not in BANNED])
    literal = torch.stack([allowed if int(t) not in BANNED else torch.full_like(allowed, -1) for t in targets])
    kept = None
    if truncated:  # of each set, what is not suppressed; an empty set is the whole vocabulary
        kept = torch.where(targets[:, None] == torch.tensor([8, 3]), targets[:, None], -1)
        literal[2, 1:], literal[4, 1:], literal[2, 0], literal[4, 0] = -1, -1, 3, 8
    upstream = torch.randn(2, N, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    pairs = [
        token_logprobs(hidden, weight, targets, temperature, kept, BANNED),
        naive_kept(hidden, weight, targets, temperature, literal),
    ]
    for got, expected in zip(*pairs, strict=True):
        assert close(got, expected)
    for parts in (upstream, upstream * torch.tensor([[1.0], [0.0]])):  # with an entropy bonus and without
        grads = [
            torch.autograd.grad((torch.stack(p) * parts).sum(), (hidden, weight), retain_graph=True) for p in pairs
        ]
        for got, expected in zip(*grads, strict=True):
            assert close(got, expected)


def test_a_token_without_alternatives_is_certain_and_teaches_nothing() -> None:
    hidden, weight, targets = inputs(8, scale=40.0)
    got, entropy = token_logprobs(hidden, weight, targets, 0.5, targets[:, None])
    assert got.tolist() == entropy.tolist() == [0.0] * N
    grads = torch.autograd.grad(got.sum() + entropy.sum(), (hidden, weight))
    assert all((g == 0).all() for g in grads)


def test_rows_that_keep_everything_are_bitwise_the_full_distribution() -> None:
    hidden, weight, targets = inputs(9, dtype=torch.float32)
    full = token_logprobs(hidden, weight, targets, 0.7)
    for kept in (torch.full((N, 3), -1), torch.empty(N, 0, dtype=torch.long), torch.arange(V).repeat(N, 1)):
        assert all(
            torch.equal(a, b) for a, b in zip(token_logprobs(hidden, weight, targets, 0.7, kept), full, strict=True)
        )


def test_a_broken_state_stays_broken_under_truncation() -> None:
    """A NaN must reach the loss, where it is noticed, and not be masked with what was cut away."""
    hidden, weight, targets = inputs(10)
    with torch.no_grad():
        hidden[3, 0] = torch.nan
    for values in token_logprobs(hidden, weight, targets, 1.0, sets(targets)):
        assert torch.isnan(values).tolist() == [i == 3 for i in range(N)]


@pytest.mark.parametrize("wanted", ["hidden", "weight"])
def test_a_gradient_that_is_not_wanted_is_not_needed(wanted: str) -> None:
    hidden, weight, targets = inputs(4)
    frozen = (weight if wanted == "hidden" else hidden).requires_grad_(False)
    leaf = hidden if wanted == "hidden" else weight
    got = torch.autograd.grad(token_logprobs(hidden, weight, targets)[0].sum(), leaf)[0]
    assert close(got, torch.autograd.grad(naive(hidden, weight, targets, 1.0)[0].sum(), leaf)[0])
    assert not frozen.requires_grad


@given(st.integers(0, 10**6), st.floats(0.01, 200.0), st.floats(0.2, 5.0))
@settings(deadline=None, max_examples=40, derandomize=True)
def test_probabilities_are_a_distribution_at_any_scale(seed: int, scale: float, temperature: float) -> None:
    """Logits of many hundreds neither overflow nor lose the sum; the entropy lies between 0 and log V."""
    hidden, weight, _ = inputs(seed, scale)
    with torch.no_grad():
        every = [token_logprobs(hidden, weight, torch.full((N,), v), temperature) for v in range(V)]
    total = torch.stack([p for p, _ in every]).exp().sum(0)
    assert close(total, torch.ones(N, dtype=torch.float64))
    entropy = every[0][1]
    assert bool(((entropy > -1e-9) & (entropy < torch.tensor(V).log() + 1e-9)).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision_sums_in_float32(dtype: torch.dtype) -> None:
    hidden, weight, targets = inputs(5, dtype=dtype)
    got, entropy = token_logprobs(hidden, weight, targets)
    assert got.dtype == entropy.dtype == torch.float32
    rounded = (hidden @ weight.T).double()  # logits as the hardware returns them
    assert close(got.double(), torch.log_softmax(rounded, -1)[torch.arange(N), targets], 1e-6)
    got.sum().backward()
    assert hidden.grad is not None and hidden.grad.dtype == dtype
    assert weight.grad is not None and weight.grad.dtype == dtype


def test_the_full_distribution_is_the_one_tokens_are_scored_by(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logprobs, "CHUNK_ELEMENTS", 2 * V)
    hidden, weight, targets = inputs(6)
    with torch.no_grad():
        pieces = log_softmax_chunks(hidden, weight, 0.7)
        assert [rows.stop - rows.start for rows, _ in pieces] == [2, 2, 2, 1]
        full = torch.cat([piece for _, piece in pieces])
        assert torch.equal(full[torch.arange(N), targets], token_logprobs(hidden, weight, targets, 0.7)[0])


@pytest.mark.parametrize("chunk", [1, 2 * V + 3, 2**24])
def test_a_rank_is_the_place_in_the_sorted_distribution(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(logprobs, "CHUNK_ELEMENTS", chunk)
    hidden, weight, _ = inputs(11)
    order = (hidden @ weight.T).argsort(-1, descending=True)
    for place in range(V):
        assert ranks(hidden, weight, order[:, place]).tolist() == [place + 1] * N


def test_tokens_that_are_equally_likely_share_the_best_place() -> None:
    logits = torch.tensor([[2.0, 5.0, 5.0, 1.0, 5.0]], dtype=torch.float64)
    found = [int(ranks(logits, torch.eye(5, dtype=torch.float64), torch.tensor([token]))) for token in range(5)]
    assert found == [4, 1, 1, 5, 1]


def test_no_tokens_give_nothing() -> None:
    hidden, weight, _ = inputs()
    assert ranks(hidden[:0], weight, torch.zeros(0, dtype=torch.long)).shape == (0,)
    got, entropy = token_logprobs(hidden[:0], weight, torch.zeros(0, dtype=torch.long))
    assert got.shape == entropy.shape == (0,)


# ------------------------------------------------------------------------------------- many ids, and a second distribution


def several_ids(seed: int = 2) -> Tensor:
    """[N, 4] ids, one of them twice in a row, some of them padding, in one row all of them."""
    ids = torch.stack([torch.randperm(V, generator=torch.Generator().manual_seed(seed + i))[:4] for i in range(N)])
    ids[1, 3] = ids[1, 0]
    ids[2, [0, 2]] = -1
    ids[4] = -1
    return ids


@pytest.mark.parametrize("ids", [torch.int64, torch.int32], ids=str)
@pytest.mark.parametrize("chunk", [1, 2 * V + 3, 2**24])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_at_many_ids_values_and_gradients_are_those_of_log_softmax(
    monkeypatch: pytest.MonkeyPatch, chunk: int, temperature: float, ids: torch.dtype
) -> None:
    monkeypatch.setattr(logprobs, "CHUNK_ELEMENTS", chunk)
    hidden, weight, _ = inputs(11)
    chosen = several_ids()
    full = torch.log_softmax(hidden @ weight.T / temperature, -1)
    expected = torch.where(chosen >= 0, full.gather(1, chosen.clamp(min=0)), 0.0)
    got = logprobs_at(hidden, weight, chosen.to(ids), temperature)
    assert close(got, expected) and (got[chosen < 0] == 0).all()
    upstream = torch.randn(N, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    grads = [torch.autograd.grad((values * upstream).sum(), (hidden, weight)) for values in (got, expected)]
    assert all(close(a, b) for a, b in zip(*grads, strict=True))


def test_one_id_a_line_is_the_target() -> None:
    hidden, weight, targets = inputs(12, dtype=torch.float32)
    assert torch.equal(
        logprobs_at(hidden, weight, targets[:, None], 0.7)[:, 0], token_logprobs(hidden, weight, targets, 0.7)[0]
    )


def teacher(seed: int = 20, width: int = D + 3) -> tuple[Tensor, Tensor]:
    """Hidden states and a head of another size than the student's."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(n, width, generator=generator, dtype=torch.float64) for n in (N, V))  # type: ignore[return-value]


def naive_divergence(student: Tensor, teacher: Tensor, beta: float) -> Tensor:
    """GKD's equation 1 on probabilities [N, V], with KL at the two ends."""
    kl = lambda p, q: (p * (p / q).log()).sum(-1)  # noqa: E731
    if beta in (0, 1):
        return kl(teacher, student) if beta == 0 else kl(student, teacher)
    mixture = beta * teacher + (1 - beta) * student
    return beta * kl(teacher, mixture) + (1 - beta) * kl(student, mixture)


betas = pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 0.9, 1.0])


@betas
@pytest.mark.parametrize("chunk", [1, 2 * V, 4 * V + 3, 2**24])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_the_divergence_and_its_gradient_are_those_of_the_equation(
    monkeypatch: pytest.MonkeyPatch, beta: float, chunk: int, temperature: float
) -> None:
    monkeypatch.setattr(logprobs, "CHUNK_ELEMENTS", chunk)
    (hidden, weight, _), (other, head) = inputs(13), teacher()
    student, target = ((h @ w.T / temperature).softmax(-1) for h, w in ((hidden, weight), (other, head)))
    expected = naive_divergence(student, target, beta)
    got = divergence(hidden, weight, other, head, beta, temperature)
    assert close(got, expected, 1e-10) and (got > 0).all()
    upstream = torch.randn(N, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    grads = [torch.autograd.grad((values * upstream).sum(), (hidden, weight)) for values in (got, expected)]
    assert all(close(a, b, 1e-10) for a, b in zip(*grads, strict=True))


@betas
def test_the_divergence_without_suppressed_ids_is_that_over_the_others(beta: float) -> None:
    (hidden, weight, _), (other, head) = inputs(13), teacher()
    allowed = [i for i in range(V) if i not in BANNED]
    student, target = ((h @ w[allowed].T / 0.6).softmax(-1) for h, w in ((hidden, weight), (other, head)))
    expected, got = naive_divergence(student, target, beta), divergence(hidden, weight, other, head, beta, 0.6, BANNED)
    assert close(got, expected, 1e-10)
    upstream = torch.randn(N, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    grads = [torch.autograd.grad((values * upstream).sum(), (hidden, weight)) for values in (got, expected)]
    assert all(close(a, b, 1e-10) for a, b in zip(*grads, strict=True))


@betas
def test_gradcheck_of_the_divergence(monkeypatch: pytest.MonkeyPatch, beta: float) -> None:
    monkeypatch.setattr(logprobs, "CHUNK_ELEMENTS", 4 * V)
    (hidden, weight, _), (other, head) = inputs(14), teacher()
    assert torch.autograd.gradcheck(lambda h, w: divergence(h, w, other, head, beta, 0.8), (hidden, weight))


@betas
def test_a_student_that_is_the_teacher_has_nothing_to_learn(beta: float) -> None:
    hidden, weight, _ = inputs(15)
    got = divergence(hidden, weight, hidden.detach(), weight.detach(), beta)
    grads = torch.autograd.grad(got.sum(), (hidden, weight))
    assert got.abs().max() < 1e-14 and all(g.abs().max() < 1e-14 for g in grads)


@pytest.mark.parametrize(("near", "end"), [(1e-6, 0.0), (1 - 1e-6, 1.0)], ids=["forward", "reverse"])
def test_the_ends_are_where_the_mixtures_gradient_points(near: float, end: float) -> None:
    """JSD / beta goes to the forward KL, JSD / (1 - beta) to the reverse one: in value and in gradient."""
    (hidden, weight, _), (other, head) = inputs(16), teacher()
    scale = min(near, 1 - near)
    one, two = (divergence(hidden, weight, other, head, beta, temperature=3.0) for beta in (near, end))
    values = one / scale, two
    assert close(*values, 1e-4)
    grads = [torch.autograd.grad(each.sum(), hidden)[0] for each in values]
    assert close(*grads, 1e-4)


@betas
def test_a_certain_teacher_and_a_certain_student_stay_finite(beta: float) -> None:
    """Probabilities that underflow to 0: 0 log 0 is 0, and the reverse KL is large but a number."""
    (hidden, weight, _), (other, head) = inputs(17, scale=200.0, dtype=torch.float32), teacher()
    got = divergence(hidden, weight, 200 * other.float(), head.float(), beta)
    grads = torch.autograd.grad(got.sum(), (hidden, weight))
    assert got.dtype == torch.float32 and torch.isfinite(got).all() and all(torch.isfinite(g).all() for g in grads)
    if 0 < beta < 1:
        entropy = -(beta * math.log(beta) + (1 - beta) * math.log(1 - beta))
        assert (got <= entropy + 1e-5).all() and got.max() > 0.9 * entropy, "bounded by the entropy of the shares"


@pytest.mark.parametrize("chunk", [1, 2 * V + 3, 2**24])
def test_the_most_likely_ids_with_their_log_probs(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(logprobs, "CHUNK_ELEMENTS", chunk)
    hidden, weight, _ = inputs(18)
    full = torch.log_softmax(hidden @ weight.T / 0.7, -1)
    ids, values = top_logprobs(hidden, weight, 4, 0.7)
    assert torch.equal(ids, full.argsort(descending=True)[:, :4]) and not values.requires_grad
    assert close(values, full.gather(1, ids))


def test_the_first_token_is_predicted_by_the_prompt_and_each_other_by_the_one_before() -> None:
    assert predictor_index(4, 9, 3).tolist() == [4, 9, 10]
    assert predictor_index(0, 1, 1).tolist() == [0]
