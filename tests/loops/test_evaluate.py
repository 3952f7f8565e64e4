"""Evaluation: intervals, pass@k, fixed items and fixed randomness."""

from __future__ import annotations

from pathlib import Path

import pytest
from bandit import Bandit

from burnish.engines.decode import LocalSampler
from burnish.engines.local import Engine, LocalModel
from burnish.errors import InputError
from burnish.loops.evaluate import EvalConfig, distinct, evaluate, run_items, summarise
from burnish.run import Run
from burnish.types import Completion, Example, Sampling
from burnish.view import View
from tiny import two_token_model
from words import Prompts, write

ENGINE = Engine(dtype="float32", device="cpu")


def test_the_same_items_see_the_same_randomness_and_repeats_are_dropped(tmp_path: Path) -> None:
    model = LocalModel(two_token_model(tmp_path, seed=1), ENGINE)
    sampler = LocalSampler(model)

    def once() -> list[tuple[str, ...]]:
        items = run_items(sampler, model.chat, Bandit(), n=4, samples=8, sampling=Sampling(max_tokens=2), key=5)
        return [tuple(reply.text for reply in item.replies) for item in items]

    first = once()
    assert first == once()
    assert len(first) == 2, "four items, two different prompts"
    assert len({*first[0]}) > 1, "samples of one item differ"
    with pytest.raises(InputError, match="has 4 items, fewer than the 5 to evaluate"):
        distinct(Bandit(), 5)


def test_summary_of_known_scores(tmp_path: Path) -> None:
    model = LocalModel(two_token_model(tmp_path, seed=3), ENGINE)
    items = run_items(LocalSampler(model), model.chat, Bandit(), n=2, samples=4, sampling=Sampling(max_tokens=1), key=1)
    found = summarise(items, ks=(1, 2, 4))
    rates = [sum(s["accuracy"] for s in item.scores) / 4 for item in items]
    assert found["accuracy"]["mean"] == pytest.approx(sum(rates) / 2)
    assert found["accuracy/pass@4"]["mean"] == pytest.approx(sum(r > 0 for r in rates) / 2)
    assert "accuracy/pass@1" not in found and found["n"] == 2
    assert found["length/mean"] == 1


def test_the_stage_returns_every_completion(tmp_path: Path) -> None:
    model = two_token_model(tmp_path / "m", seed=3)
    cfg = EvalConfig(n=2, samples=2, sampling=Sampling(max_tokens=1), engine=ENGINE)
    with Run.open(tmp_path / "r", recipe="t", scale="tiny", config=cfg, seed=0, view=View(quiet=True)) as run:
        found = run.stage(evaluate, "e", model, Bandit(), cfg=cfg)
    assert [len(item["completions"]) for item in found["items"]] == [2, 2]
    assert set(found["summary"]["accuracy"]) == {"mean", "low", "high", "n"}


class Asked(Prompts):
    """Right is who says yes."""

    def measure(self, example: Example, completion: Completion) -> dict[str, float]:  # noqa: ARG002
        return {"accuracy": float(completion.text.endswith("yes"))}


def test_an_item_knows_its_thoughts_and_what_its_replies_say(tmp_path: Path) -> None:
    chances = {"q": {"hm": 1.0}, "hm": {"hm": 0.4, "</think>": 0.6}, "</think>": {"yes": 0.5, "no": 0.5}}
    model = LocalModel(write(tmp_path, chances), ENGINE)
    sampler = LocalSampler(model)
    [item] = run_items(sampler, model.chat, Asked(("q",)), n=1, samples=20, sampling=Sampling(max_tokens=8), key=1)
    assert {reply.finish for reply in item.replies} == {"eos"}
    assert [len(reply.tokens) - thoughts for reply, thoughts in zip(item.replies, item.thinking, strict=True)] == [
        2
    ] * 20
    assert {*item.said} == {"yes", "no"} and [said == "yes" for said in item.said] == list(item.right)
