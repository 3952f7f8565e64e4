"""The recipe kto: thumbs and pairs, the balance of good and bad, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from burnish import config
from burnish.cli import main
from burnish.core.pointwise import Classify, Prospect
from burnish.data.comparisons import Comparisons
from burnish.recipes import catalog
from burnish.recipes.kto import balance


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def thumb(number: int, good: bool) -> dict[str, Any]:
    return {"prompt": f"{number} + 1?", "completion": f"{number + 1}" + ("." if good else "!!!"), "label": good}


def run(out: Path, nano: Path, data: Path, *given: str) -> int:
    return main(["run", "kto", "--scale", "tiny", "--out", str(out), f"model={nano}", f"data={data}", *given])


def metrics(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "1-kto" / "metrics.jsonl").read_text().splitlines()]


def test_thumbs(nano: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = write(tmp_path / "t.jsonl", [thumb(i, i % 3 == 0) for i in range(60)]), tmp_path / "run"
    assert run(out, nano, data, "fit.steps=12", "heldout=12") == 0
    printed = capsys.readouterr().out
    assert "20 good answers and 40 bad ones" in printed and "set loss.link.desirable=2" in printed
    assert "good answer above a bad one" in printed and "held out, n = 12" in printed
    assert metrics(out)[0]["loss"] == pytest.approx(0.5, abs=1e-3)
    learned = json.loads((out / "summary.json").read_text())["1-kto"]
    assert learned["separation"]["before"]["mean"] == 0.5 < learned["separation"]["after"]["mean"]
    assert learned["reward/chosen"]["after"]["mean"] > learned["reward/rejected"]["after"]["mean"]
    done = (out / "1-kto" / "metrics.jsonl").read_bytes()
    assert main(["run", "kto", "--scale", "tiny", "--out", str(out), "--resume", "--quiet"]) == 0
    assert (out / "1-kto" / "metrics.jsonl").read_bytes() == done


def test_several_answers_to_a_prompt_are_held_out_together(nano: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "t.jsonl", [thumb(i, good) for i in range(20) for good in (True, False)])
    assert run(tmp_path / "run", nano, data, "fit.steps=2", "--quiet") == 0
    learned = json.loads((tmp_path / "run" / "summary.json").read_text())["1-kto"]
    assert learned["separation"]["after"]["n"] == 2, "four rows, two of each kind"


def test_pairs_and_another_loss(nano: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"{i}?", "chosen": "yes", "rejected": "no no"} for i in range(20)]
    data, out = write(tmp_path / "p.jsonl", rows), tmp_path / "run"
    assert run(out, nano, data, "fit.steps=3", "loss=bco", "loss.score.beta=0.1", "--quiet") == 0
    learned = json.loads((out / "summary.json").read_text())["1-kto"]
    assert learned["accuracy"]["after"]["n"] == 2 and "reward/baseline" in metrics(out)[0]


def test_the_loss_is_kto_unless_told_otherwise() -> None:
    tiny = catalog.get("kto").SCALES["tiny"]
    assert config.apply(tiny, ["loss.link.undesirable=1.5"]).loss.link == Prospect(1.0, 1.5)
    assert config.apply(tiny, ["loss=bco"]).loss.link == Classify()


@pytest.mark.parametrize(
    ("good", "bad", "link", "advice"),
    [
        (10, 10, Prospect(), ""),
        (10, 8, Prospect(), ""),
        (12, 6, Prospect(), "the good ones weigh 2.0 times as much. For an even weight set loss.link.undesirable=2"),
        (12, 6, Prospect(undesirable=2.0), ""),
        (3, 12, Prospect(), "the bad ones weigh 4.0 times as much. For an even weight set loss.link.desirable=4"),
    ],
    ids=["even", "near", "more good", "weighed", "more bad"],
)
def test_the_balance_of_good_and_bad(good: int, bad: int, link: Prospect, advice: str, tmp_path: Path) -> None:
    rows = [thumb(i, True) for i in range(good)] + [thumb(i, False) for i in range(bad)]
    said = balance(Comparisons(write(tmp_path / "t.jsonl", rows)), link)
    assert said.startswith(f"{good} good answers and {bad} bad ones") and said.endswith(advice)
    assert bool(advice) == ("set loss.link" in said)


CASES = {
    "one prompt": ([thumb(1, i % 2 == 0) for i in range(9)], ["heldout=0"], "all 9 rows have one prompt"),
    "one prompt, held out": ([thumb(1, i % 2 == 0) for i in range(20)], [], "give a file of other prompts"),
    "all good": ([thumb(i, True) for i in range(9)], [], "all 9 answers are good: add some of the other kind"),
    "rankings": (
        [{"prompt": "a", "answers": [{"answer": "b", "rank": 1}, {"answer": "c", "rank": 2}]}],
        [],
        "recipe dpo",
    ),
    "no label": ([{"prompt": "a", "completion": "b"}], [], "kto trains on preference, unpaired"),
    "a bad label": ([thumb(1, True), thumb(2, False), {**thumb(3, True), "label": "yes"}], [], "row 3: column 'label'"),
    "a loss on pairs": ([thumb(1, True), thumb(2, False)], ["loss=dpo"], "take the recipe dpo, or choose loss=kto"),
}


@pytest.mark.parametrize("case", list(CASES), ids=list(CASES))
def test_what_is_refused(case: str, nano: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, overrides, message = CASES[case]
    assert run(tmp_path / "run", nano, write(tmp_path / "d.jsonl", rows), *overrides) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists(), "nothing was begun"


def test_data_is_asked_for_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "kto", "--scale", "tiny", "--out", str(tmp_path / "r")]) == 2
    assert "kto has no data to train on: add data=FILE" in capsys.readouterr().err
