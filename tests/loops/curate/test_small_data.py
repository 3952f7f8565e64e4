"""What is chosen is clean, hard and of every kind; it teaches more than as much drawn at random."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from burnish.core import keys
from burnish.data.datasets import Dataset
from burnish.engines.optim import Schedule
from burnish.errors import InputError
from burnish.loops.curate.items import Item
from burnish.loops.curate.selection import Answered, Candidate, OfLength, Readable, Selection, diverse, select
from burnish.loops.fit import FitConfig, fit
from burnish.rewards.base import Composable, per_completion
from burnish.run import Run
from burnish.types import Completion, Example, Reward, outcome
from burnish.view import View
from curating import curate, provenance, rows, speaker, write
from words import ENGINE, expected

FIT = FitConfig(steps=40, batch=12, schedule=Schedule(0.3), engine=ENGINE, checkpoint_every=40)


class EndsRight(Composable):
    """1 for a reply that ends with "right"."""

    @per_completion
    def __call__(self, example: Example, completion: Completion) -> Reward:  # noqa: ARG002
        return outcome(completion.text.endswith("right"), "right")


def ask(text: str) -> Example:
    return Example(({"role": "user", "content": text},))


def item(reply: str, prompt: str = "q") -> Item:
    return Item(1, {}, ({"role": "user", "content": prompt},), (reply,) if reply else ())


# --- quality -------------------------------------------------------------------------------------


def test_filters() -> None:
    assert all(map(Readable(), [item("a\n\tb"), item("Ärger, naïve, 你好, €5 & more"), item("Ã la carte")]))
    broken = ["caf\ufffd", "cafÃ\xa9", "itâ€™s", "a &amp; b", "a\x00b", "\x1b[31m"]
    assert not any(Readable()(item(text)) for text in broken) and not Readable()(item("a", "b\ufffd"))
    assert all(map(Answered(), [item("4"), item("<think>2 + 2</think>4")]))
    wrong = ["", " ", "<think>2 + 2", "<think>2 + 2</think> ", "2</think>4", "<think>a</think><think>b</think>4"]
    assert not any(Answered()(item(text)) for text in wrong)
    assert [OfLength(2, 3)(item("x" * n)) for n in (1, 2, 3, 4)] == [False, True, True, False]


# --- diversity, then difficulty ------------------------------------------------------------------


def test_domains_are_drawn_alike_and_the_hardest_with_chance_one_half() -> None:
    """Of 2,000 draws 3 deviations are .034."""
    candidates = [Candidate("large", (float(i),)) for i in range(50)] + [Candidate("small", (0.0,))]
    firsts = Counter(diverse(candidates, 1, seed=seed)[0] for seed in range(2000))
    assert firsts[50] / 2000 == pytest.approx(1 / 2, abs=0.034)
    assert firsts[49] / 2000 == pytest.approx(1 / 4, abs=0.034)
    assert firsts[48] / 2000 == pytest.approx(1 / 8, abs=0.034)


def test_all_are_drawn_once_if_there_are_no_more() -> None:
    candidates = [Candidate("ab"[i % 2], (float(i % 3),)) for i in range(9)]
    assert sorted(diverse(candidates, 100)) == list(range(9))
    assert diverse(candidates, 4) == diverse(candidates, 9)[:4] != diverse(candidates, 9, seed=1)[:4]
    assert diverse([], 3) == []


def test_a_selection_covers_the_domains_and_is_hard(tmp_path: Path) -> None:
    """Nine tenths of the rows are of one domain, and easy; the selection has as much of every domain, and harder rows."""
    lines = [
        {"prompt": f"q{i}", "completion": "x" * 5, "domain": f"d{0 if i % 10 else i // 10 % 5}", "pass_rate": i % 8 / 7}
        for i in range(400)
    ]
    cfg = Selection(n=40, pass_rate="pass_rate")
    path = curate(tmp_path / "r", select, write(tmp_path / "a.jsonl", lines), cfg=cfg)
    kept = rows(path)
    assert len(kept) == 40 and all(row["pass_rate"] < 1 for row in kept)
    shares = Counter(row["domain"] for row in kept)
    assert set(shares) == {f"d{i}" for i in range(5)} and max(shares.values()) <= 16
    mean = sum(row["pass_rate"] for row in kept) / 40
    assert mean < 0.75 * sum(row["pass_rate"] for row in lines) / 400
    assert provenance(path)["counts"] == {
        "rows": 400, "after Readable": 400, "after Answered": 400, "after OfLength": 400, "not too easy": 350,
        "domains": 5, "kept": 40,
    }  # fmt: skip


def test_without_a_pass_rate_long_replies_are_hard(tmp_path: Path) -> None:
    lines = [{"prompt": f"q{i}", "completion": "x" * (i + 1)} for i in range(100)]
    data = write(tmp_path / "a.jsonl", lines)
    cfg = Selection(n=10, domain="", filters=(OfLength(most=50),))
    lengths = [len(row["completion"]) for row in rows(curate(tmp_path / "r", select, data, cfg=cfg))]
    assert max(lengths) <= 50 and min(lengths) > 25
    other = [len(row["completion"]) for row in rows(curate(tmp_path / "o", select, data, cfg=cfg, seed=1))]
    assert other != lengths
    with pytest.raises(InputError, match="row 1 has no column 'domain'"):
        curate(tmp_path / "q", select, data, cfg=replace(cfg, domain="domain"))
    with pytest.raises(InputError, match="n >= 1"):
        Selection(n=0)


# --- what it is for ------------------------------------------------------------------------------


def trained(out: Path, model: Path, data: Path) -> Path:
    with Run.open(out, recipe="t", scale="tiny", seed=0, view=View(quiet=True)) as run:
        return Path(run.stage(fit, "sft", model, Dataset(data), cfg=FIT))


def accuracy(model: Path, prompts: Sequence[str], limit: int) -> float:
    """Exact: over every reply that the table can give."""
    return sum(expected(model, ask(word), EndsRight(), limit) for word in prompts) / len(prompts)


@pytest.mark.parametrize("seed", range(3))
def test_a_selection_teaches_more_than_as_much_at_random(tmp_path: Path, seed: int) -> None:
    """Four domains with easy and hard problems, which the base solves with chance .9 and .1. Of 400 rows nearly all are
    easy ones of the first domain: what is drawn at random shows the model what it can do.
    """
    kinds = [f"{domain}-{level}" for domain in ("sums", "logic", "words", "maps") for level in ("easy", "hard")]
    model = speaker(
        tmp_path / "model",
        {kind: {"right": r, "wrong": 1 - r} for kind in kinds for r in [0.9 if kind.endswith("easy") else 0.1]},
    )
    place = {0: "sums-hard", 1: "logic-easy", 2: "logic-hard", 3: "words-hard", 4: "maps-hard", 5: "words-easy"}
    shown = [place.get(i // 4 if i < 24 else 99, "sums-easy") for i in range(400)]
    lines = [
        {"prompt": kind, "completion": "right", "domain": kind.split("-")[0], "pass_rate": 0.9 - 0.8 * ("hard" in kind)}
        for kind in shown
    ]
    data = write(tmp_path / "all.jsonl", lines)
    chosen = curate(tmp_path / "chosen", select, data, cfg=Selection(n=12, pass_rate="pass_rate"), seed=seed)
    drawn = keys.permutation(keys.derive("random", seed), len(lines))[:12]
    random = write(tmp_path / "random.jsonl", [lines[i] for i in drawn])
    before = accuracy(model, kinds, 2)
    by_chance = accuracy(trained(tmp_path / "a", model, random), kinds, 2)
    by_choice = accuracy(trained(tmp_path / "b", model, chosen), kinds, 2)
    assert before == pytest.approx(0.5)
    assert by_choice > 0.9 and by_choice > by_chance + 0.2


def test_traces_teach_what_answers_alone_do_not(tmp_path: Path) -> None:
    """The base finds the first step of every problem, and then guesses. What follows from a step is the same for all
    problems, so traces of some of them teach it for all; their answers alone teach nothing about the others.
    """
    problems = [f"problem{i:02}" for i in range(20)]
    chances = {word: {f"step{i % 2}": 0.8, "wrong": 0.15, "right": 0.05} for i, word in enumerate(problems)}
    chances |= {f"step{i}": {"right": 0.3, "wrong": 0.7} for i in range(2)}
    model = speaker(tmp_path / "model", chances)
    answers = [{"prompt": word, "completion": "right"} for word in problems[:12]]
    traces = [{**row, "completion": f"step{i % 2}right"} for i, row in enumerate(answers)]
    with_answers = trained(tmp_path / "a", model, write(tmp_path / "answers.jsonl", answers))
    with_traces = trained(tmp_path / "b", model, write(tmp_path / "traces.jsonl", traces))
    heldout = problems[12:]
    base = accuracy(model, heldout, 3)
    assert base == pytest.approx(0.8 * 0.3 + 0.05)
    assert accuracy(with_answers, problems[:12], 3) > 0.95, "it has learnt these answers by heart"
    assert accuracy(with_answers, heldout, 3) == pytest.approx(base, abs=1e-4)
    assert accuracy(with_traces, heldout, 3) > base + 0.4
