"""The recipe distill: on the student's text, on the teacher's, on what was stored; what is measured, and what is refused."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from burnish import config
from burnish.core.online import GKD
from burnish.engines.local import Engine
from burnish.errors import InputError
from burnish.loops.fit import fit
from burnish.loops.report import DryRunFinished
from burnish.recipes import catalog
from burnish.recipes.distill import SCALES, Distill, main
from burnish.run import Run
from burnish.tasks.arithmetic import Arithmetic
from burnish.types import Example, Sampling
from burnish.view import View
from tests.tiny import three_token_model

FIXTURES = Path(__file__).parents[1] / "data" / "fixtures"


@dataclass(frozen=True)
class Manners:
    """What the teacher has learnt to say."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> Example:
        question, reply = (
            {"role": "user", "content": f"{index}?"},
            {"role": "assistant", "content": "yes" + "!" * (index % 3)},
        )
        return Example((question, reply))


@pytest.fixture(scope="module")
def teacher(nano: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out, cfg = tmp_path_factory.mktemp("teacher") / "run", SCALES["tiny"].fit
    with Run.open(out, recipe="t", scale="tiny", config=cfg, seed=0, view=View(quiet=True)) as run:
        return Path(run.stage(fit, "fit", nano, Manners(), cfg=cfg))


@pytest.fixture
def settings(tmp_path: Path, nano: Path, teacher: Path) -> Distill:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"{i}?"}) + "\n" for i in range(40)))
    tiny, sampling = SCALES["tiny"], Sampling(max_tokens=16)
    return replace(
        tiny, model=str(nano), teacher=str(teacher), data=str(prompts), heldout=12, eval_n=12,
        rl=replace(tiny.rl, steps=6, sampling=sampling), texts=replace(tiny.texts, n=24, samples=2, sampling=sampling),
    )  # fmt: skip


def run_it(out: Path, settings: Distill, resume: bool = False) -> dict[str, Any]:
    view = View(quiet=True)
    with Run.open(out, recipe="distill", scale="tiny", config=settings, seed=0, view=view, resume=resume) as run:
        main(run, settings)
    found: dict[str, Any] = json.loads((out / "summary.json").read_text())["3-distill"]
    return found


def steps(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "3-distill" / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("changes", "metric", "nearer"),
    [
        ({}, "kl/teacher", "kl"),
        ({"mode": "offline"}, "loss", "nll"),
        ({"mode": "offline", "top_k": 4}, "kl/teacher", "nll"),
    ],
    ids=["on-policy", "texts", "top-k"],
)
def test_the_student_comes_nearer_to_its_teacher(
    changes: dict[str, Any], metric: str, nearer: str, settings: Distill, tmp_path: Path
) -> None:
    """On the text it learns on: its own, or the teacher's."""
    found = run_it(tmp_path / "run", replace(settings, **changes))
    assert found["kl"]["before"]["n"] == 12 and found["kl"]["before"]["low"] > 0
    assert found[nearer]["paired"]["high"] < 0
    assert all(metric in line for line in steps(tmp_path / "run"))
    before = (tmp_path / "run" / "3-distill" / "metrics.jsonl").read_bytes()
    run_it(tmp_path / "run", replace(settings, **changes), resume=True)
    assert (tmp_path / "run" / "3-distill" / "metrics.jsonl").read_bytes() == before, "what is done is not done again"


def test_a_task_is_graded_and_so_is_the_teacher(settings: Distill, tmp_path: Path) -> None:
    task = Arithmetic(kinds=("largest",), numbers=2, low=0, high=9)
    rl = replace(settings.rl, steps=2, eval_every=1, eval_items=1)
    found = run_it(tmp_path / "run", replace(settings, data="", heldout=None, task=task, rl=rl, eval_n=2))
    assert {"before", "after", "paired", "teacher"} == found["accuracy"].keys()
    assert "eval/accuracy" in steps(tmp_path / "run")[0]


def test_a_teacher_with_other_tokens_teaches_by_its_texts_alone(settings: Distill, tmp_path: Path) -> None:
    prompts = tmp_path / "ab.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": "ab" * i}) + "\n" for i in range(1, 16)))
    other = three_token_model(tmp_path / "other")
    own = replace(settings, data=str(prompts), teacher=str(other), heldout=5)
    with pytest.raises(
        InputError, match=r"have different vocabularies, .* or train on its texts alone with mode=offline"
    ):
        run_it(tmp_path / "refused", own)
    found = run_it(tmp_path / "run", replace(own, mode="offline"))
    assert "kl" not in found and found["nll"]["paired"]["mean"] < 0


def test_a_dry_run_shows_what_the_teacher_writes_and_trains_nothing(
    settings: Distill, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for mode in ("on-policy", "offline"):
        own = replace(settings, mode=mode)  # type: ignore[arg-type]
        with (
            Run.open(tmp_path / mode, recipe="distill", scale="tiny", config=own, seed=0, dry_run=True) as run,
            pytest.raises(DryRunFinished),
        ):
            main(run, own)
        said = capsys.readouterr().out
        assert "the teacher writes 8 texts" in said or "the teacher writes 4 texts" in said
        assert "->" in said and "nothing to learn from" not in said
        assert not (tmp_path / mode / "3-distill" / "metrics.jsonl").exists()


def test_settings_by_name() -> None:
    tiny = catalog.get("distill").SCALES["tiny"]
    changed = config.apply(tiny, ["algo=gkd", "algo.distil.beta=0.5", "mode=offline", "top_k=3", "teacher=x"])
    assert changed.algo == replace(GKD, distil=replace(GKD.distil, beta=0.5)) and changed.mode == "offline"
    for override in ("mode=offlin", "top_k=-1", "eval_n=0", "texts.samples=0"):
        with pytest.raises(InputError):
            config.apply(tiny, [override])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher": ""}, "distill has no teacher to learn from: add teacher=MODEL"),
        ({"data": ""}, "distill has no prompts to train on"),
        ({"data": "preference.jsonl"}, "data of kind 'preference', and distill trains on"),
        ({"top_k": 3}, "top_k=3 is for stored texts: add mode=offline"),
        ({"algo": "xpo"}, "this algorithm has no teacher: choose algo=gkd"),
    ],
    ids=["no-teacher", "no-prompts", "pairs", "top-k", "algorithm"],
)
def test_what_does_not_fit_is_named_with_the_way_out(
    changes: dict[str, Any], message: str, settings: Distill, tmp_path: Path
) -> None:
    if changes.get("data"):
        changes = {**changes, "data": str(FIXTURES / changes["data"])}
    own = replace(settings, **changes) if "algo" not in changes else config.apply(settings, ["algo=xpo"])
    with pytest.raises(InputError, match=re.escape(message)):
        run_it(tmp_path / "run", own)


def test_a_prompt_that_one_of_the_two_cannot_read_is_named(settings: Distill, tmp_path: Path) -> None:
    prompts = tmp_path / "long.jsonl"
    prompts.write_text('{"prompt": "a?"}\n' + json.dumps({"prompt": "b" * 3000}) + "\n")
    with pytest.raises(InputError, match=r"long\.jsonl, row 2: the prompt has \d+ tokens, but the context of"):
        run_it(tmp_path / "run", replace(settings, data=str(prompts), heldout=0))


def test_the_scales_hold_what_they_say() -> None:
    assert all(isinstance(scale.texts.engine, Engine) and scale.rl.group == 1 for scale in SCALES.values())
    assert SCALES["paper"].fit.engine.adapter is None
