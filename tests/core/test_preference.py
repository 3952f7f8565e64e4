"""Every named loss against its formula, written out from the paper for one pair, and what must hold of the best known."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from burnish.core.aggregate import token_mean
from burnish.core.links import Logistic
from burnish.core.losses import NLL
from burnish.core.pointwise import Classify, Prospect
from burnish.core.preference import DPO, LLAMA3, ORPO, SFT, WPO, Preference, get, notes, table
from burnish.core.scores import HeadScore, LogRatio
from burnish.core.transport import PairTransport, SideTransport
from burnish.data.units import Unit
from burnish.errors import InputError
from burnish.types import Needs, means
from judged import answer, judge, outputs_of, random_judged, run

PAIRS: list[Unit] = [
    (answer(4, 0, score=2.0), answer(2, 1, score=1.5)),
    (answer(3, 0, score=1.0, label=0.8), answer(5, 1, score=-1.0, label=0.2)),
    (answer(3, 0, mask=(True, False, True), score=0.3), answer(4, 1, mask=(False, True, True, True), score=0.1)),
]


@dataclass(frozen=True)
class Pair:
    """One pair: log-probs, now and of the reference, of its masked tokens. w is the better answer, v the other one."""

    w: Tensor
    v: Tensor
    w_ref: Tensor
    v_ref: Tensor
    p: float
    gap: float
    chosen_tokens: int

    @property
    def a(self) -> Tensor:
        """``log pi/pi_ref`` of the better answer."""
        return (self.w - self.w_ref).sum()

    @property
    def b(self) -> Tensor:
        return (self.v - self.v_ref).sum()


def sig(x: Tensor | float) -> Tensor:
    return 1 / (1 + torch.exp(-torch.as_tensor(x, dtype=torch.float64)))


def soft(pair: Pair, f: Callable[[Tensor], Tensor], h: Tensor) -> Tensor:
    return pair.p * f(h) + (1 - pair.p) * f(-h)


def bt(x: Tensor) -> Tensor:
    return -torch.log(sig(x))


def coin(p: Tensor, q: Tensor | float) -> Tensor:
    """KL of two coins, by definition."""
    return p * torch.log(p / q) + (1 - p) * torch.log((1 - p) / (1 - q))


def dpo(pair: Pair, beta: float = 0.1) -> Tensor:
    return soft(pair, bt, beta * (pair.a - pair.b))


def cdpo(pair: Pair) -> Tensor:
    h = 0.1 * (pair.a - pair.b)
    q = 0.9 * pair.p + 0.1 * (1 - pair.p)
    return q * bt(h) + (1 - q) * bt(-h)


def robust(pair: Pair) -> Tensor:
    h = 0.1 * (pair.a - pair.b)

    def unflipped(x: Tensor) -> Tensor:
        return (0.9 * bt(x) - 0.1 * bt(-x)) / 0.8

    return soft(pair, unflipped, h)


def slic(pair: Pair) -> Tensor:
    return soft(pair, lambda h: torch.relu(1 - h), pair.w.sum() - pair.v.sum()) - 0.5 * pair.w.sum()


def simpo(pair: Pair) -> Tensor:
    h = 2 * (pair.w.mean() - pair.v.mean())
    return pair.p * bt(h - 0.5) + (1 - pair.p) * bt(-h - 0.5)


def nll(pair: Pair) -> Tensor:
    """This pair's part of the mean over all tokens of better answers, times the number of pairs."""
    return -pair.w.sum() / pair.chosen_tokens * len(PAIRS)


def orpo(pair: Pair) -> Tensor:
    p, q = pair.w.mean().exp(), pair.v.mean().exp()
    return nll(pair) + 0.1 * soft(pair, bt, torch.log(p / (1 - p)) - torch.log(q / (1 - q)))


def nca(pair: Pair) -> Tensor:
    def one(s: Tensor, t: Tensor) -> Tensor:
        return bt(s) + bt(-s) / 2 + bt(-t) / 2

    s, t = 0.01 * pair.a, 0.01 * pair.b
    return pair.p * one(s, t) + (1 - pair.p) * one(t, s)


def exo(pair: Pair) -> Tensor:
    return coin(sig(0.5 * (pair.a - pair.b)), pair.p * 0.999 + (1 - pair.p) * 0.001)


def apo_zero(pair: Pair) -> Tensor:
    s, t = sig(0.1 * pair.a), sig(0.1 * pair.b)
    return 1 + (2 * pair.p - 1) * (t - s)


def apo_down(pair: Pair) -> Tensor:
    s, t, h = sig(0.1 * pair.a), sig(0.1 * pair.b), 0.1 * (pair.a - pair.b)
    return pair.p * (s + 1 - sig(h)) + (1 - pair.p) * (t + 1 - sig(-h))


def sppo(pair: Pair) -> Tensor:
    return (pair.a - 1000 * (pair.p - 0.5)) ** 2 + (pair.b - 1000 * (0.5 - pair.p)) ** 2


def discopop(pair: Pair) -> Tensor:
    def one(h: Tensor) -> Tensor:
        q = sig(h / 0.05)
        return (1 - q) * bt(h) + q * torch.exp(-h)

    return soft(pair, one, 0.05 * (pair.a - pair.b))


def gap_kl(pair: Pair, backward: bool) -> Tensor:
    a, g = sig(0.2 * (pair.a - pair.b)), sig(pair.gap)
    return coin(g, a) if backward else coin(a, g)


def odpo(pair: Pair) -> Tensor:
    h, offset = 0.1 * (pair.a - pair.b), math.log(pair.gap)
    return pair.p * bt(h - offset) + (1 - pair.p) * bt(-h - offset)


def ld_dpo(pair: Pair) -> Tensor:
    u, v = pair.w - pair.w_ref, pair.v - pair.v_ref
    c = min(len(u), len(v))
    h = u[:c].sum() - v[:c].sum() + 0.5 * (u[c:].sum() - v[c:].sum())
    return soft(pair, bt, 0.1 * h)


def fdpo(pair: Pair, f_prime: Callable[[Tensor], Tensor]) -> Tensor:
    return soft(pair, bt, 0.1 * (f_prime(torch.exp(pair.a)) - f_prime(torch.exp(pair.b))))


def wpo(pair: Pair) -> Tensor:
    return pair.w.detach().mean().exp() * pair.v.detach().mean().exp() * dpo(pair, 0.01)


BY_PAIR: dict[str, Callable[[Pair], Tensor]] = {
    "dpo": dpo,
    "cdpo": cdpo,
    "robust": robust,
    "ipo": lambda pair: soft(pair, lambda h: (h - 5) ** 2, pair.a - pair.b),
    "slic": slic,
    "simpo": simpo,
    "cpo": lambda pair: soft(pair, bt, 0.1 * (pair.w.sum() - pair.v.sum())) + nll(pair),
    "orpo": orpo,
    "sft": nll,
    "nca": nca,
    "exo": exo,
    "apo_zero": apo_zero,
    "apo_down": apo_down,
    "sppo": sppo,
    "discopop": discopop,
    "rpo": lambda pair: gap_kl(pair, True),
    "rpo_forward": lambda pair: gap_kl(pair, False),
    "rpo_squared": lambda pair: (0.2 * (pair.a - pair.b) - pair.gap) ** 2,
    "odpo": odpo,
    "dpo_norm": lambda pair: soft(pair, bt, 5 * ((pair.w - pair.w_ref).mean() - (pair.v - pair.v_ref).mean())),
    "ld_dpo": ld_dpo,
    "fdpo_js": lambda pair: fdpo(pair, lambda t: torch.log(2 * t / (1 + t))),
    "fdpo_forward": lambda pair: fdpo(pair, lambda t: -1 / t),
    "fdpo_alpha": lambda pair: fdpo(pair, lambda t: (1 - t**-0.5) / 0.5),
    "wpo": wpo,
}
"""What each loss is for one pair. LLAMA3 and those with statistics of the batch have tests of their own."""


def by_pair(formula: Callable[[Pair], Tensor], seed: int = 0) -> tuple[Tensor, Tensor]:
    """The mean of a formula over PAIRS, and its gradient."""
    batch, logprobs = random_judged(PAIRS, seed)
    assert batch.ref_logprobs is not None
    mask, total = batch.mask, torch.zeros((), dtype=torch.float64)
    for place in range(len(PAIRS)):
        w, v = 2 * place, 2 * place + 1
        label, score = float(batch.targets["label"][w]), batch.targets["score"]
        pair = Pair(
            logprobs[w][mask[w]], logprobs[v][mask[v]], batch.ref_logprobs[w][mask[w]], batch.ref_logprobs[v][mask[v]],
            1.0 if math.isnan(label) else label, float(score[w] - score[v]), int(mask[0::2].sum()),
        )  # fmt: skip
        total = total + formula(pair) / len(PAIRS)
    return total.detach(), torch.autograd.grad(total, logprobs)[0]


@pytest.mark.parametrize("name", BY_PAIR)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_loss_and_its_gradient_are_those_of_the_paper(name: str, seed: int) -> None:
    want, slope = by_pair(BY_PAIR[name], seed)
    batch, logprobs = random_judged(PAIRS, seed)
    value, gradient, metrics = run(get(name), logprobs, batch)
    torch.testing.assert_close(value, want, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradient, slope.nan_to_num(0.0), rtol=1e-10, atol=1e-12)
    assert metrics["loss"] == (pytest.approx(float(want), rel=1e-10), pytest.approx(1.0))


def test_every_named_loss_has_a_reference_and_a_note() -> None:
    of_the_batch = {"kto", "bco", "aot", "aot_unpaired"}  # in test_pointwise and test_transport
    assert set(table()) == set(notes()) == {*BY_PAIR, *of_the_batch, "llama3"}
    for name, note in notes().items():
        assert "loss = " in note or "good:" in note or " = " in note, name
        assert "arXiv:" in note or name in ("cdpo", "sft"), name
    assert get("Apo-Zero") is table()["apo_zero"]
    with pytest.raises(InputError, match=r"unknown preference loss .dpoo.\. Did you mean .dpo.\?"):
        get("dpoo")


def test_what_a_loss_needs_follows_from_its_parts() -> None:
    assert DPO.needs == Needs(reference=True)
    assert ORPO.needs == get("simpo").needs == SFT.needs == Needs()
    assert get("kto").needs == Needs(reference=True, statistics=True, mismatched=True)
    assert get("bco").needs == get("aot").needs == Needs(reference=True, statistics=True)
    scalar = HeadScore()
    assert Preference(scalar, Logistic()).needs == Needs(logprobs=False, heads={"score": scalar.head})
    assert Preference(scalar, Logistic(), nll=1.0).needs.logprobs
    assert Preference(scalar, Logistic(), trust=WPO.trust).needs.logprobs


def test_a_scalar_head_makes_it_a_reward_model() -> None:
    batch, logprobs = random_judged(PAIRS)
    loss = Preference(HeadScore(), Logistic())
    scores = torch.randn(len(batch), dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    value, metrics = loss(outputs_of(torch.full_like(logprobs, torch.nan), score=scores), loss.prepare(batch))
    want = torch.stack([p * bt(scores[i] - scores[i + 1]) + (1 - p) * bt(scores[i + 1] - scores[i])
                        for i, p in ((0, 1.0), (2, 0.8), (4, 1.0))]).mean()  # fmt: skip
    torch.testing.assert_close(value, want)
    value.backward()
    assert scores.grad is not None and bool(torch.isfinite(scores.grad).all())
    assert not any(name.startswith("logprobs/") for name in metrics)


# --- what must hold of the best known ------------------------------------------------------------


def test_at_the_reference_dpo_is_ln_2_with_half_beta_slopes() -> None:
    batch, _ = random_judged(PAIRS[:1])
    assert batch.ref_logprobs is not None
    logprobs = batch.ref_logprobs.clone().requires_grad_()
    value, gradient, metrics = run(DPO, logprobs, batch)
    assert float(value) == pytest.approx(math.log(2), abs=1e-15)
    want = 0.05 * torch.tensor([[-1.0] * 4, [1.0, 1.0, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(gradient, want, rtol=0, atol=1e-15)
    assert metrics["reward/accuracy"] == (0.5, 1.0)  # a tie counts half


def test_no_gradient_reaches_the_reference() -> None:
    batch, logprobs = random_judged(PAIRS)
    assert batch.ref_logprobs is not None
    reference = batch.ref_logprobs.requires_grad_()
    for loss in (DPO, get("ipo"), get("aot"), LLAMA3):
        value, _ = loss(outputs_of(logprobs), loss.prepare(batch, outputs_of(logprobs.detach())))
        assert torch.autograd.grad(value, reference, allow_unused=True, retain_graph=True)[0] is None


def test_dpo_on_a_bandit_finds_the_best_policy_of_the_reward() -> None:
    """All pairs of five answers, weighed by their Bradley-Terry probability: pi = ref e^{r/beta}/Z."""
    reward = torch.tensor([0.3, -0.2, 0.0, 0.5, 0.1], dtype=torch.float64)
    reference = torch.log_softmax(torch.tensor([0.5, 1.0, -0.3, 0.0, 0.2], dtype=torch.float64), 0)
    chosen = [(i, j) for i in range(5) for j in range(i + 1, 5)]
    units = [(answer(1, 0, label=float(sig(reward[i] - reward[j]))), answer(1, 1)) for i, j in chosen]
    batch = judge(units, [[[float(reference[k])] for k in pair] for pair in chosen])
    batch, rows = DPO.prepare(batch), torch.tensor(chosen).flatten()
    logits = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value, _ = DPO(outputs_of(torch.log_softmax(logits, 0)[rows, None]), batch)
        value.backward()
        return value

    for _ in range(5):
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    best = torch.softmax(reference + reward / 0.1, 0)
    assert float((torch.softmax(logits.detach(), 0) - best).abs().sum() / 2) < 1e-3


def test_orpo_without_its_odds_is_supervised_fine_tuning() -> None:
    """To the last bit of the gradient, on the better answers alone."""
    batch, logprobs = random_judged(PAIRS)
    value, gradient, _ = run(replace(ORPO, coef=0.0), logprobs, batch)
    better = replace(batch, train=batch.ranks == 0)
    plain, _ = NLL(token_mean)(outputs_of(logprobs.nan_to_num(0.0)), NLL(token_mean).prepare(better))
    assert torch.equal(value, plain.detach())
    assert torch.equal(gradient, torch.autograd.grad(plain, logprobs)[0])


def test_llama3_leaves_formatting_out_of_its_first_term_only() -> None:
    batch, logprobs = random_judged(PAIRS)
    content, formatting = batch.extra("content") & batch.mask, batch.mask & ~batch.extra("content")
    value, gradient, _ = run(LLAMA3, logprobs, batch)
    _, first, _ = run(replace(LLAMA3, nll=0.0), logprobs, batch)
    assert bool(formatting.any(1).all()) and bool((first[formatting] == 0).all())
    assert bool((first[content] != 0).all())
    assert bool((gradient[formatting & (batch.ranks == 0)[:, None]] < 0).all())
    assert bool((gradient[formatting & (batch.ranks == 1)[:, None]] == 0).all())
    plain, _, _ = run(DPO, logprobs, replace(batch, mask=content))
    imitation = torch.stack([-logprobs[i][batch.mask[i]].mean() for i in (0, 2, 4)]).mean()
    torch.testing.assert_close(value, plain + 0.2 * imitation.detach())
    with pytest.raises(InputError, match="content"):
        run(LLAMA3, logprobs, replace(batch, extras={}))


def test_plain_dpo_contradicts_itself_on_the_end_of_turn() -> None:
    """The same end token goes up in one answer and down in the other; with formatting masked neither moves."""
    batch, logprobs = random_judged(PAIRS[:1])
    _, gradient, _ = run(DPO, logprobs, batch)
    assert float(gradient[0, 3]) < 0 < float(gradient[1, 1])


def test_a_ranking_is_the_mean_of_its_pairs() -> None:
    """Three answers: three pairs of a third each; and two answers are a plain pair."""
    ranked = (answer(2, 1), answer(3, 0), answer(1, 2))
    batch, logprobs = random_judged([ranked])
    value, gradient, metrics = run(DPO, logprobs, batch)
    assert batch.ref_logprobs is not None
    s = 0.1 * torch.where(batch.mask, logprobs - batch.ref_logprobs, 0.0).sum(1)
    want = (bt(s[1] - s[0]) + bt(s[1] - s[2]) + bt(s[0] - s[2])) / 3
    torch.testing.assert_close(value, want.detach())
    torch.testing.assert_close(gradient, torch.autograd.grad(want, logprobs)[0].nan_to_num(0.0))
    s = s.detach()
    assert metrics["reward/margin"][1] == pytest.approx(1.0)
    assert means(metrics)["reward/chosen"] == pytest.approx(float(2 * s[1] + s[0]) / 3)
    assert means(metrics)["reward/rejected"] == pytest.approx(float(2 * s[2] + s[0]) / 3)


def test_ties_weigh_nothing_and_single_answers_are_turned_away() -> None:
    tie: Unit = (answer(2, 0), answer(3, 0))
    batch, logprobs = random_judged([PAIRS[0], tie])
    value, gradient, _ = run(replace(DPO, nll=1.0), logprobs, batch)
    alone = logprobs.detach()[:2].requires_grad_()
    want, _, _ = run(replace(DPO, nll=1.0), alone, batch.select([0, 1]))
    torch.testing.assert_close(value, want)
    assert bool((gradient[2:] == 0).all())
    batch, logprobs = random_judged([tie])
    value, gradient, metrics = run(DPO, logprobs, batch)
    assert float(value) == 0 and bool((gradient == 0).all()) and "loss" not in means(metrics)
    single, logprobs = random_judged([(answer(2, label=1.0),)])
    with pytest.raises(InputError, match=r"no answer has a rank.*kto, bco"):
        run(DPO, logprobs, single)


def test_only_rows_can_be_weighed() -> None:
    for link in (PairTransport(), SideTransport()):
        with pytest.raises(InputError, match="leave out the trust"):
            Preference(LogRatio(0.1), link, trust=WPO.trust)
    for link in (Prospect(), Classify()):
        assert Preference(LogRatio(0.1), link, trust=WPO.trust).needs.statistics


def test_metrics_are_means_over_units() -> None:
    batch, logprobs = random_judged(PAIRS)
    assert batch.ref_logprobs is not None
    found = means(run(replace(DPO, nll=0.5), logprobs, batch)[2])
    inside = torch.where(batch.mask, logprobs.detach(), 0.0)
    scores = 0.1 * (inside - torch.where(batch.mask, batch.ref_logprobs, 0.0)).sum(1)
    margin = scores[0::2] - scores[1::2]
    assert found["reward/chosen"] == pytest.approx(float(scores[0::2].mean()))
    assert found["reward/rejected"] == pytest.approx(float(scores[1::2].mean()))
    assert found["reward/margin"] == pytest.approx(float(margin.mean()))
    assert found["reward/accuracy"] == pytest.approx(float((margin > 0).double().mean()))
    assert found["logprobs/chosen"] == pytest.approx(float(inside.sum(1)[0::2].mean()))
    assert found["logprobs/rejected"] == pytest.approx(float(inside.sum(1)[1::2].mean()))
    assert found["nll"] == pytest.approx(-float(inside[0::2].sum()) / int(batch.mask[0::2].sum()))
