"""The implicit reward on held-out comparisons: against log-probs taken one by one, and what is said about it."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from burnish.core.preference import DPO, KTO, SIMPO, Preference
from burnish.data.units import encode
from burnish.engines.local import Engine, LocalModel
from burnish.errors import InputError
from burnish.loops import implicit
from burnish.loops.fit import FitConfig
from burnish.run import Run
from burnish.types import Answer, Comparison
from burnish.view import View
from tests.tiny import plain_logprobs, plain_network

CONFIG = FitConfig(batch=2, engine=Engine(dtype="float32", device="cpu"))


def asked(*answers: Answer, number: int = 0) -> Comparison:
    return Comparison(({"role": "user", "content": f"is it {number}?"},), answers)


def answer(text: str, **known: Any) -> Answer:
    return Answer(({"role": "assistant", "content": text},), **known)


PAIRS = [asked(answer("yes", rank=0), answer("certainly not", rank=1), number=i) for i in range(3)]
RANKED = asked(answer("yes", rank=0), answer("no", rank=1), answer("perhaps", rank=1), number=3)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with Run.open(tmp_path / "run", recipe="t", scale="tiny", config=CONFIG, seed=0, view=View(quiet=True)) as run:
        yield run


def measured(
    run: Run, model: Path, data: Sequence[Comparison], loss: Preference, reference: Path | None = None, name: str = "m"
) -> dict[str, Any]:
    found: dict[str, Any] = run.stage(
        implicit.measure, name, model, list(data), loss=loss, cfg=CONFIG, reference=reference
    )
    return found


def by_hand(model: Path, comparison: Comparison) -> list[float]:
    """The log-probs of whole answers, by plain forward passes in float64."""
    network, chat = plain_network(model), LocalModel(model, CONFIG.engine).chat
    return [float(plain_logprobs(network, row.prompt, row.tokens).detach().sum()) for row in encode(chat, comparison)]


def test_scores_and_log_probs_of_every_answer(run: Run, nano: Path) -> None:
    found = measured(run, nano, [*PAIRS, RANKED], SIMPO)["items"]
    for item, comparison in zip(found, [*PAIRS, RANKED], strict=True):
        logprobs = by_hand(nano, comparison)
        assert item["logprobs"] == pytest.approx(logprobs, abs=1e-3)
        assert item["scores"] == pytest.approx(
            [2 * x / n for x, n in zip(logprobs, item["tokens"], strict=True)], abs=1e-4
        )
    assert found[0]["chosen"] == [1, 0] and found[0]["rejected"] == [0, 1] and len(found[0]["right"]) == 1
    assert found[3]["chosen"] == [1, 0, 0] and found[3]["rejected"] == [0, 0.5, 0.5] and len(found[3]["right"]) == 2
    labelled = measured(run, nano, [*PAIRS, RANKED], KTO, reference=nano, name="labelled")["items"]
    assert [item["rejected"] for item in labelled] == [item["rejected"] for item in found]


def test_a_policy_that_is_its_reference_prefers_nothing(run: Run, nano: Path) -> None:
    found = measured(run, nano, PAIRS, DPO, reference=nano)
    assert all(item["scores"] == pytest.approx([0, 0], abs=1e-6) for item in found["items"])
    assert found["report"]["accuracy"]["mean"] == pytest.approx(0.5, abs=0.5)


def test_the_summary_is_of_the_items(run: Run, nano: Path) -> None:
    """Before and after are made up here: every number of the table follows from the items alone."""
    before = measured(run, nano, PAIRS, SIMPO)
    after = {"items": [dict(item) for item in before["items"]], "report": before["report"]}
    for place, item in enumerate(after["items"]):
        item["scores"] = [1.0 + place, 0.5]
        item["logprobs"] = [x + 2 + place for x in item["logprobs"]]
        item["right"] = [float(place > 0)]
    found = implicit.summary(before, after)
    margins = [a["scores"][0] - a["scores"][1] for a in before["items"]]
    assert found["margin"]["before"]["mean"] == pytest.approx(sum(margins) / 3)
    assert found["margin"]["after"]["mean"] == pytest.approx(1.5)
    assert found["accuracy"]["after"]["mean"] == pytest.approx(2 / 3) and found["accuracy"]["after"]["n"] == 3
    change = found["logprobs/chosen"]["paired"]
    half = 1.959963984540054 * 1 / math.sqrt(3)  # 2, 3 and 4 nats: a standard deviation of 1
    assert (change["difference"], change["low"], change["high"]) == pytest.approx((3, 3 - half, 3 + half))
    assert found["reward/rejected"]["after"] == {"mean": 0.5, "low": 0.5, "high": 0.5, "n": 3}


def test_labelled_answers_are_told_apart(run: Run, nano: Path) -> None:
    data = [asked(answer(text, label=float(text == "yes")), number=i) for i, text in enumerate(["yes", "no", "yes"])]
    before = measured(run, nano, data, KTO, reference=nano)
    after = {"items": [dict(item) for item in before["items"]], "report": before["report"]}
    for item, score in zip(after["items"], (0.3, 0.1, 0.2), strict=True):
        item["scores"] = [score]
    found = implicit.summary(before, after)
    assert "accuracy" not in found and "margin" not in found
    assert found["separation"]["after"]["mean"] == 1 and found["separation"]["after"]["n"] == 1
    assert found["reward/chosen"]["after"]["mean"] == pytest.approx(0.25)
    assert found["reward/rejected"]["after"]["mean"] == pytest.approx(0.1)


def test_separation_counts_pairs_of_a_good_and_a_bad_answer() -> None:
    assert implicit.separation([2.0, 1.0], [0.0, 1.0, 3.0])["mean"] == pytest.approx((1 + 1 + 0 + 1 + 0.5 + 0) / 6)
    assert implicit.separation([1.0] * 9, [0.0] * 4)["n"] == 4
    draw, hits = random.Random(0), 0
    true = 0.5 * math.erfc(-0.8 / 2)  # P(N(.8, 1) > N(0, 1))
    for _ in range(300):
        found = implicit.separation([draw.gauss(0.8, 1) for _ in range(20)], [draw.gauss(0, 1) for _ in range(30)])
        hits += found["low"] <= true <= found["high"]
    assert hits / 300 >= 0.95


def test_what_does_not_fit_is_left_out_or_an_error(run: Run, nano: Path) -> None:
    long = asked(answer("yes " * 1500, rank=0), answer("no", rank=1), number=9)
    assert len(measured(run, nano, [*PAIRS, long], SIMPO)["items"]) == 3
    with pytest.raises(InputError, match=r"no held-out comparison fits into 2048 tokens"):
        measured(run, nano, [long], SIMPO, name="n")


def test_a_dry_run_measures_nothing(nano: Path, tmp_path: Path) -> None:
    with Run.open(tmp_path / "d", config=replace(CONFIG), view=View(quiet=True), dry_run=True) as run:
        assert measured(run, nano, PAIRS, DPO) == {"items": [], "report": {}}
