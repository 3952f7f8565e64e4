"""The recipe dpo, end to end on small files: any loss by name, what is measured, what is refused, and how it resumes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from burnish import config
from burnish.cli import main
from burnish.core import preference
from burnish.core.links import Logistic
from burnish.core.preference import DPO, LLAMA3, ORPO, SIMPO
from burnish.core.scores import Alpha, Desensitised, LogRatio, average, content
from burnish.errors import InputError
from burnish.recipes import catalog

SMALL = ("--scale", "tiny", "fit.steps=6", "fit.checkpoint_every=2")


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pair(number: int, **more: Any) -> dict[str, Any]:
    return {"prompt": f"{number} + 1?", "chosen": f"{number + 1}.", "rejected": f"{number + 1}!!!", **more}


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write(tmp_path / "pairs.jsonl", [pair(i) for i in range(30)])


def metrics(out: Path, stage: str = "1-dpo") -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (out / stage / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if not name.startswith("perf/")} for line in lines]


def weights(out: Path) -> bytes:
    return (out / "1-dpo" / "model" / "model.safetensors").read_bytes()


def test_pairs(nano: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    given = [f"model={nano}", f"data={pairs}", "fit.steps=15", "fit.eval_every=10"]
    assert main(["run", "dpo", "--scale", "tiny", "--out", str(out), *given]) == 0
    printed = capsys.readouterr().out
    assert "27 comparisons, 54 rows" in printed and "held out, n = 3" in printed
    assert "no preference" in printed, "the policy begins as its reference"
    assert "<|end|>⟧" in printed, "one example with its trained tokens"
    found = metrics(out)
    assert found[0]["loss"] == pytest.approx(0.6931, abs=1e-3) and found[-1]["loss"] < 0.5
    assert "eval/reward/accuracy" in found[0] and "eval/reward/accuracy" not in found[1]
    learned = json.loads((out / "summary.json").read_text())["1-dpo"]
    assert learned["accuracy"]["after"]["mean"] == 1 and learned["accuracy"]["after"]["low"] < 0.5
    for name in ("margin", "logprobs/chosen", "logprobs/rejected"):
        change = learned[name]["paired"]
        assert change["n"] == 3 and change["low"] <= change["difference"] <= change["high"]
    assert learned["margin"]["paired"]["difference"] > 0.3
    assert {"characters", "within", "longer"} <= learned["length"].keys()
    assert main(["run", "dpo", "--scale", "tiny", "--out", str(out), "--resume"]) == 0
    again = capsys.readouterr().out
    assert "step 1/" not in again and "held out, n = 3" in again, "only the result is shown again"


@pytest.mark.parametrize("extra", ["loss=dpo", "fit.refresh_reference=2", "fit.engine.neftune=5"])
def test_a_run_that_was_cut_goes_on_to_the_bit(nano: Path, pairs: Path, tmp_path: Path, extra: str) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    given = [f"model={nano}", f"data={pairs}", "heldout=0", extra]
    assert main(["run", "dpo", *SMALL, "--out", str(whole), "--quiet", *given]) == 0
    shutil.copytree(whole, cut)
    shutil.rmtree(cut / "1-dpo" / "model")
    (cut / "1-dpo" / "done.json").unlink()
    shutil.rmtree(cut / "1-dpo" / "checkpoints" / "step-000006")
    (cut / "1-dpo" / "checkpoints" / "latest").write_text("step-000004\n")
    assert main(["run", "dpo", *SMALL, "--out", str(cut), "--quiet", "--resume"]) == 0
    assert metrics(cut) == metrics(whole) and weights(cut) == weights(whole)


def test_noise_changes_what_is_learnt_and_not_what_is_measured(nano: Path, pairs: Path, tmp_path: Path) -> None:
    given = [f"model={nano}", f"data={pairs}", "heldout=3", "loss=simpo"]
    for out, alpha in (("plain", 0), ("noisy", 5)):
        assert (
            main(["run", "dpo", *SMALL, "--out", str(tmp_path / out), "--quiet", *given, f"fit.engine.neftune={alpha}"])
            == 0
        )
    plain, noisy = ([line["loss"] for line in metrics(tmp_path / out)] for out in ("plain", "noisy"))
    assert plain != noisy
    before = [
        json.loads((tmp_path / out / "0-before" / "done.json").read_text())["result"] for out in ("plain", "noisy")
    ]
    assert before[0] == before[1]


def test_rankings_and_a_loss_without_reference(nano: Path, tmp_path: Path) -> None:
    rows = [
        {
            "prompt": f"{i}?",
            "answers": [{"answer": text, "rank": rank} for rank, text in enumerate(("a", "bb", "ccc"), 1)],
        }
        for i in range(20)
    ]
    data, out = write(tmp_path / "ranked.jsonl", rows), tmp_path / "run"
    assert (
        main(["run", "dpo", *SMALL, "--out", str(out), "--quiet", f"model={nano}", f"data={data}", "loss=simpo"]) == 0
    )
    learned = json.loads((out / "summary.json").read_text())["1-dpo"]
    assert learned["accuracy"]["before"]["n"] == 2 and not list(tmp_path.rglob("reference/*"))


def test_a_reference_of_its_own(nano: Path, pairs: Path, tmp_path: Path) -> None:
    """The policy has moved away from it before the first step."""
    first, second = tmp_path / "first", tmp_path / "second"
    assert main(["run", "dpo", *SMALL, "--out", str(first), "--quiet", f"model={nano}", f"data={pairs}"]) == 0
    given = [f"model={first}/1-dpo/model", f"reference={nano}", f"data={pairs}"]
    assert main(["run", "dpo", *SMALL, "--out", str(second), "--quiet", *given]) == 0
    assert metrics(second)[0]["reward/margin"] > 0.05
    learned = json.loads((second / "summary.json").read_text())["1-dpo"]
    assert learned["margin"]["before"]["mean"] > 0.05


def test_a_dry_run_shows_an_example_and_asks_no_reference(
    nano: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    assert main(["run", "dpo", "--scale", "tiny", "--dry-run", f"model={nano}", f"data={pairs}"]) == 0
    printed = capsys.readouterr().out
    assert "loss.link" in printed and "⟦" in printed and "nothing was trained" in printed
    assert not (tmp_path / "cache" / "reference").exists()


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["loss=orpo"], ORPO),
        (["loss=ORPO", "loss.nll=0.2"], replace(ORPO, nll=0.2)),
        (["loss.score.beta=0.05"], replace(DPO, score=LogRatio(0.05))),
        (["loss=simpo", "loss.link.margin=1.2"], replace(SIMPO, link=Logistic(margin=1.2))),
        (["loss.score.reduce=average"], replace(DPO, score=LogRatio(0.1, average))),
        (["loss.score.reduce={kind: Desensitised, alpha: 0.3}"], replace(DPO, score=LogRatio(0.1, Desensitised(0.3)))),
        (["loss.score.slope=Alpha"], replace(DPO, score=LogRatio(0.1, slope=Alpha()))),
        (["loss.score.read=content", "loss.nll=0.2"], replace(DPO, score=LogRatio(0.1, read=content), nll=0.2)),
        (["loss.trust=likelihood"], replace(DPO, trust=preference.likelihood)),
        (["loss=llama3", "loss.aggregate=token_mean"], replace(LLAMA3, aggregate=DPO.aggregate)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_every_axis_of_a_loss_can_be_set(overrides: list[str], expected: preference.Preference) -> None:
    assert config.apply(catalog.get("dpo").SCALES["tiny"], overrides).loss == expected


@pytest.mark.parametrize("name", sorted(preference.table()))
def test_every_loss_is_recorded_and_read_back(name: str, tmp_path: Path) -> None:
    tiny = catalog.get("dpo").SCALES["tiny"]
    (tmp_path / "c.json").write_text(json.dumps({"loss": config.plain(preference.get(name))}))
    assert config.from_yaml(tiny, tmp_path / "c.json").loss == preference.get(name)


def test_a_wrong_name_has_a_near_one() -> None:
    tiny = catalog.get("dpo").SCALES["tiny"]
    for override, near in {
        "loss=opro": "orpo",
        "loss.score.reduce=avrage": "average",
        "loss.bta=1": "loss.score.beta",
    }.items():
        with pytest.raises(InputError, match=f"Did you mean '{near}'"):
            config.apply(tiny, [override])


# --- what is refused -----------------------------------------------------------------------------


CASES = {
    "no loss of that name": ([pair(1)], ["loss=dop"], "unknown preference loss 'dop'"),
    "thumbs": ([{"prompt": "a", "completion": "b", "label": True}], [], "recipe kto or reward-model"),
    "conversations": (
        [{"prompt": "a", "completion": "b"}],
        [],
        "kind 'prompt-completion', and dpo trains on preference",
    ),
    "same text": (
        [pair(i) for i in range(9)] + [{"prompt": "a", "chosen": "b", "rejected": "b"}],
        [],
        "row 10): remove",
    ),
    "unknown columns": ([{"good": "a", "bad": "b"}], [], "the columns are good, bad"),
    "no scores": ([pair(1)], ["loss=rpo"], "row 1: this loss wants the gap of known scores"),
    "no reference needed": ([pair(1)], ["loss=simpo", "reference=nano"], "reference=nano: this loss compares with no"),
    "no reference to move": ([pair(1)], ["loss=simpo", "fit.refresh_reference=2"], "fit.refresh_reference: this loss"),
    "too long": ([pair(1)], ["fit.max_length=9"], "row 1: the prompt with its longest answer has"),
    "a reward model": ([pair(1)], ["loss.score={kind: HeadScore}"], "take the recipe reward-model"),
    "no row left": ([pair(1)], ["heldout=1"], "leaves none to train on"),
}


@pytest.mark.parametrize("case", list(CASES), ids=list(CASES))
def test_what_is_refused(case: str, nano: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, overrides, message = CASES[case]
    data, out = write(tmp_path / "d.jsonl", rows), tmp_path / "run"
    assert main(["run", "dpo", "--scale", "tiny", "--out", str(out), f"model={nano}", f"data={data}", *overrides]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists(), "nothing was begun"


def test_data_is_asked_for_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "dpo", "--scale", "tiny", "--out", str(tmp_path / "r"), "model=no such model"]) == 2
    assert "dpo has no data to train on: add data=FILE" in capsys.readouterr().err


def test_a_held_out_file_shares_no_prompt(
    nano: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write(tmp_path / "h.jsonl", [pair(99), pair(3)])
    given = [f"model={nano}", f"data={pairs}", f"heldout={other}", "--out", str(tmp_path / "r")]
    assert main(["run", "dpo", "--scale", "tiny", *given]) == 2
    assert "1 of 2 held-out prompts also occur in the training data" in capsys.readouterr().err
