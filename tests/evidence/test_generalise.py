"""What the experiment on generalisation rests on: rules that differ, rows that are what they say, compute that is counted."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from burnish.engines.local import LocalModel
from burnish.engines.pretrained import resolve
from burnish.run import Run
from burnish.tasks.countdown import solves
from burnish.types import Completion
from burnish.view import View
from evidence import base, generalise
from evidence.generalise import EXPERIMENT, MEASURED, TRAINED, Pretraining, Solved, fit_cost, points, resigned, rl_costs


def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows: all of them would be encoded before the first step."""
    monkeypatch.setattr(generalise, "Pretraining", partial(Pretraining, size=64))
    monkeypatch.setattr(generalise, "Solved", partial(Solved, replace(TRAINED, size=64)))


def right(expression: str, numbers: tuple[int, ...]) -> bool:
    return solves(expression, numbers, TRAINED.target)


def test_the_other_rule_asks_for_other_solutions() -> None:
    shown = {key: [task[i].meta for i in range(40)] for key, task in MEASURED.items()}
    assert all({"J", "Q", "K"} & {*meta["cards"]} for meta in shown["out"])
    assert all(max(meta["numbers"]) <= 10 for key in ("in", "unseen") for meta in shown[key])
    assert all(max(meta["numbers"]) > 10 for meta in shown["out"])
    trained = {TRAINED[i].meta["canonical"] for i in range(400)}
    assert not trained & {meta["canonical"] for meta in shown["unseen"]}
    assert {meta["canonical"] for meta in shown["in"]} <= {TRAINED[i].meta["canonical"] for i in range(2000)}


def test_pretraining_has_both_rules_wrong_signs_and_wrong_replies_that_are_told_so() -> None:
    rows = [Pretraining()[i] for i in range(400)]
    lasts = [right(row.messages[-1]["content"], row.meta["numbers"]) for row in rows]
    assert 0.5 < sum(lasts) / 400 < 0.7, "half of them, and some of the others by chance"
    assert all(lasts[i] for i in range(400) if not i // 4 % 2)
    talks = [row for row in rows if len(row.messages) == 4]
    assert 150 < len(talks) <= 200
    for row in talks:
        wrong = row.messages[1]["content"]
        assert not right(wrong, row.meta["numbers"])
        assert row.messages[2]["content"] == f"{TRAINED.explain(row, Completion((), wrong, (), 'eos'))} Try again."
    assert {max(row.meta["numbers"]) > 10 for row in rows[::2]} == {False}
    assert all(max(row.meta["numbers"]) > 10 for row in rows[1::2])


def test_signs_are_drawn_anew_and_numbers_stay() -> None:
    drawn = {resigned("10+(4-2)", key) for key in range(200)}
    assert drawn == {f"10{a}(4{b}2)" for a in "+-*/" for b in "+-*/"}


def test_supervised_rows_are_right() -> None:
    rows = [Solved()[i] for i in range(50)]
    assert all(right(row.messages[-1]["content"], row.meta["numbers"]) for row in rows)


def test_what_is_measured_is_within_the_shares_of_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch)
    monkeypatch.setattr(generalise, "BUDGET", 30.0)
    model = resolve("nano")
    cfg = replace(generalise._FIT, steps=4, checkpoint_every=1)
    with Run.open(tmp_path / "run", view=View(quiet=True)) as run:
        run.stage(generalise.fitted, "train", model, cfg=cfg)
        found = points(run.directory / "train", model, [10.0, 10.0, 9.0, 9.0], 4)
    assert [point["passes"] for point in found] == [0.0, 10.0, 20.0, 29.0]


def test_a_step_costs_its_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch)
    model = resolve("nano")
    cost = fit_cost(LocalModel(model, generalise._ENGINE))
    row = Solved()[0]
    assert cost == pytest.approx(3 * 32 * (sum(len(m["content"]) + 2 for m in row.messages)), rel=0.1)
    cfg = replace(generalise._RL, steps=1, prompts=2, group=2, minibatches=1)
    with Run.open(tmp_path / "run", view=View(quiet=True)) as run:
        run.stage(generalise.reinforced, "train", model, 1, cfg=cfg)
        (found,) = rl_costs(run.directory / "train")
        lines = (run.directory / "train" / "metrics.jsonl").read_text()
    assert found % 4 == 0 and 4 * 4 * 18 < found < 4 * 4 * 60 and "tokens/sampled" in lines


def test_a_cell_runs_and_the_report_has_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch)
    for variant in ("sft", "rl-3"):
        cell = base.perform(EXPERIMENT, variant, 0, tmp_path, smoke=True)
        path = cell.numbers["path"]
        assert path[0]["passes"] == 0 < path[-1]["passes"] and all(point["in"]["n"] == 10 for point in path)
        assert all(0 <= point[key][way] <= 1 for point in path for key in MEASURED for way in ("greedy", "sampled"))
    report = EXPERIMENT.report(base.load(EXPERIMENT, tmp_path))
    assert all(f"| {name} |" in report for name in ("before", "sft", "rl-3", "rl-3 - sft"))
    assert report.count("| rl-3 - sft | other rule | sampled |") == 1
    assert "other rule" in (EXPERIMENT.plot(base.load(EXPERIMENT, tmp_path)) or "")
