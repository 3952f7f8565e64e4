"""The numbers of the running example for judged answers, by hand: they are what the loss computes."""

from __future__ import annotations

import math
import re

import pytest

from burnish.cli import judged
from burnish.core import online, preference, reward_models
from burnish.core.distil import REVERSE_KL

LOSSES = {**preference.table(), **reward_models.table()}
SIZES = {"A": 6, "B": 8, "C": 4}
RATIO = {"A": 0.6, "B": -0.6, "C": 0.2}  # log pi - log pi_ref of whole answers
LOGPROB = {"A": -2.4, "B": -8.6, "C": -2.8}
SCORE = {"A": 1.2, "B": 0.3, "C": 0.8}
KNOWN = {"A": 0.0, "B": 0.8, "C": 1.0}
PAIRS = (("C", "B"), ("C", "A"), ("B", "A"))


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def column(name: str, title: str) -> list[float]:
    """A column of the table it is in: its cells end where its title ends."""
    lines = list(judged.lines(LOSSES[name]))
    place, head = next((i, line) for i, line in enumerate(lines) if re.search(rf"  {re.escape(title)}(  |$)", line))
    end = re.search(rf"  {re.escape(title)}(?=  |$)", head).end()  # type: ignore[union-attr]
    cells = []
    for line in lines[place + 1 :]:
        if not re.match(r"  [ABC]", line):
            break
        cells.append(float(line[:end].split()[-1]))
    return cells


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_loss_has_numbers(name: str) -> None:
    text = "\n".join(judged.lines(LOSSES[name]))
    assert "nan" not in text and "inf" not in text and "tensor" not in text and "push" in text
    assert max(map(len, text.splitlines())) <= 128


@pytest.mark.parametrize(
    ("name", "scores"),
    [
        ("dpo", {k: 0.1 * r for k, r in RATIO.items()}),
        ("simpo", {k: 2 * x / SIZES[k] for k, x in LOGPROB.items()}),
        ("bradley_terry", SCORE),
    ],
)
def test_the_logistic_loss_of_pairs_by_hand(name: str, scores: dict[str, float]) -> None:
    margin = 0.5 if name == "simpo" else 0.0
    gaps = [scores[w] - scores[v] for w, v in PAIRS]
    assert column(name, "s_w") == pytest.approx([scores[w] for w, _ in PAIRS], abs=6e-4)
    assert column(name, "s_w - s_l") == pytest.approx(gaps, abs=6e-4)
    assert column(name, "loss") == pytest.approx([-math.log(sigma(gap - margin)) for gap in gaps], abs=6e-4)
    push = [sigma(margin - gap) for gap in gaps]
    assert column(name, "push on s_w") == pytest.approx(push, abs=6e-4)
    assert column(name, "on s_l") == pytest.approx([-x for x in push], abs=6e-4)
    per_token = {"dpo": lambda _: 0.1, "simpo": lambda answer: 2 / SIZES[answer]}.get(name)
    if per_token:
        found = column(name, "on a token of w"), column(name, "of l")
        assert found[0] == pytest.approx([x * per_token(w) for x, (w, _) in zip(push, PAIRS, strict=True)], abs=6e-4)
        assert found[1] == pytest.approx([-x * per_token(v) for x, (_, v) in zip(push, PAIRS, strict=True)], abs=6e-4)


def test_the_margins_of_llama2_and_the_gaps_of_rpo_are_of_the_known_rewards() -> None:
    gaps = [SCORE[w] - SCORE[v] - (KNOWN[w] - KNOWN[v]) for w, v in PAIRS]
    assert column("llama2", "loss") == pytest.approx([-math.log(sigma(gap)) for gap in gaps], abs=6e-4)
    push = [sigma(KNOWN[w] - KNOWN[v]) - sigma(0.2 * (RATIO[w] - RATIO[v])) for w, v in PAIRS]
    a = [0.2 * (RATIO[w] - RATIO[v]) for w, v in PAIRS]
    assert column("rpo_forward", "s_w - s_l") == pytest.approx(a, abs=6e-4)
    assert column("rpo", "push on s_w") == pytest.approx(push, abs=6e-4)
    assert column("rpo", "known reward") == [0, 0.8, 1] and not judged.lack(LOSSES["dpo"])


def test_orpo_adds_the_likelihood_of_the_better_answer() -> None:
    """Its mean over all tokens of better answers: C, C and B have 16; each pair is shown three times its share."""
    mean = {k: x / SIZES[k] for k, x in LOGPROB.items()}
    odds = {k: x - math.log(1 - math.exp(x)) for k, x in mean.items()}
    expected = [-0.1 * math.log(sigma(odds[w] - odds[v])) - 3 * LOGPROB[w] / 16 for w, v in PAIRS]
    assert column("orpo", "loss") == pytest.approx(expected, abs=6e-4)


def test_a_penalty_pulls_both_scores() -> None:
    plain = [sigma(SCORE[v] - SCORE[w]) for w, v in PAIRS]
    both = [0.02 * (SCORE[w] + SCORE[v]) for w, v in PAIRS]
    assert column("centred", "push on s_w") == pytest.approx(
        [x - y for x, y in zip(plain, both, strict=True)], abs=6e-4
    )
    assert column("centred", "on s_l") == pytest.approx([-x - y for x, y in zip(plain, both, strict=True)], abs=6e-4)


def test_kto_compares_with_answers_to_other_prompts() -> None:
    z = 0.1 * 0.2
    assert "a constant, is 0.020" in "\n".join(judged.lines(preference.KTO))
    losses = [sigma(0.06 - z), sigma(z + 0.06), sigma(z - 0.02)]
    assert column("kto", "loss") == pytest.approx(losses, abs=6e-4)
    assert column("kto", "push on s") == pytest.approx(
        [sign * x * (1 - x) for sign, x in zip((-1, 1, 1), losses, strict=True)], abs=6e-4
    )


def test_single_answers_and_whole_rankings_by_hand() -> None:
    push = [-sigma(1.2), 1 - sigma(0.3), 1 - sigma(0.8)]
    assert column("outcome", "push on s") == column("outcome_tokens", "push on s") == pytest.approx(push, abs=6e-4)
    e = {k: math.exp(x) for k, x in SCORE.items()}
    all_three, two = sum(e.values()), e["A"] + e["B"]
    expected = [1 - e["C"] / all_three, 1 - e["B"] / all_three - e["B"] / two, -e["A"] / all_three - e["A"] / two]
    assert column("plackett_luce", "push on it") == pytest.approx(expected, abs=6e-4)
    assert column_of_attributes() == [2 * (1 - 1.5), 2 * (0 - 2.0), 2 * (4 - 2.5), 2 * (1 - 1.5), 0]


def column_of_attributes() -> list[float]:
    lines = list(judged.lines(reward_models.HELPSTEER2))
    head = next(line for line in lines if "A is rated" in line)
    end = head.index("push") + 4
    return [float(line[:end].split()[-1]) for line in lines[lines.index(head) + 1 : lines.index(head) + 6]]


def test_steps_after_the_first_wrong_one_do_not_count() -> None:
    third = 1 / 3
    good, wrong = column("prm800k", "push on 'good'"), column("prm800k", "push on 'wrong'")
    assert good == pytest.approx([1 - third, -third, 0, 1 - third, -third, *[1 - third] * 3], abs=6e-4)
    assert wrong[1] == pytest.approx(1 - third, abs=6e-4) and "7 of 8 count" in "\n".join(
        judged.lines(reward_models.PRM800K)
    )
    assert column("math_shepherd", "push on 'right'") == [0.5, -0.5, 0.5, 0.5, 0.0, 0.5, 0.5, 0.5]


def test_online_methods_rank_what_was_sampled() -> None:
    shown = {name: "\n".join(judged.online(method)) for name, method in online.table().items()}
    assert "a pair: C above A" in shown["online_dpo"] and shown["online_dpo"].count("a pair:") == 1
    for pair in ("B above the rival's second", "C above the rival's third", "the rival's first above A"):
        assert f"a pair: {pair}" in shown["xpo"]
    wins = [sigma(KNOWN[each] - 0.5) - 0.5 for each in "ABC"]
    assert [f"{x:.3f}" for x in wins] == re.findall(r"-?\d\.\d{3}$", shown["nash_md"], re.MULTILINE)[:3]
    assert "distributions of policy and teacher" in shown["gkd"] and online.GKD.loss == REVERSE_KL
