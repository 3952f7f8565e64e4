"""The recipe online-dpo: rounds, judges, algorithms by name, and what is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from burnish import config
from burnish.cli import main
from burnish.core.online import NASH_MD, ONLINE_DPO, XPO
from burnish.core.preference import IPO
from burnish.engines.local import Engine, LocalModel
from burnish.recipes import catalog
from burnish.types import Head


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    (tmp_path / "r.py").write_text("def score(completion):\n    return completion.count('e') - len(completion) / 100\n")
    return write(tmp_path / "p.jsonl", [{"prompt": f"{i}?"} for i in range(20)])


def run(out: Path, nano: Path, *given: str) -> int:
    small = ("rl.steps=2", "rl.sampling.max_tokens=8")
    return main(["run", "online-dpo", "--scale", "tiny", "--out", str(out), f"model={nano}", *small, *given])


def metrics(out: Path, stage: str = "1-round") -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / stage / "metrics.jsonl").read_text().splitlines()]


def moved(before: Path, after: Path) -> float:
    """The distance of all weights."""
    one, other = (load_file(directory / "model.safetensors") for directory in (before, after))
    return sum(float((one[name] - other[name]).square().sum()) for name in one) ** 0.5


def test_two_rounds(nano: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, reward = tmp_path / "run", f"reward={prompts.parent}/r.py:score"
    assert run(out, nano, f"data={prompts}", reward, "rounds=2", "heldout=4", "rl.schedule.warmup=0") == 0
    printed = capsys.readouterr().out
    assert "held out, n = 4" in printed and "burnish chat" in printed
    assert {path.parent.name for path in out.glob("*/done.json")} == {"0-before", "1-round", "2-round", "3-after"}
    for stage in ("1-round", "2-round"):
        first, second = metrics(out, stage)
        assert first["loss"] == pytest.approx(math.log(2), abs=1e-5), "the reference is the policy at the round's start"
        assert second["loss"] != pytest.approx(math.log(2), abs=1e-5)
    measured = json.loads((out / "summary.json").read_text())["2-round"]["reward"]
    assert measured["before"]["n"] == measured["after"]["n"] == 4
    assert moved(out / "1-round" / "model", out / "2-round" / "model") < moved(nano, out / "2-round" / "model"), (
        "it goes on"
    )
    weights = (out / "2-round" / "model" / "model.safetensors").read_bytes()
    assert main(["run", "online-dpo", "--scale", "tiny", "--out", str(out), "--resume", "--quiet", "rounds=3"]) == 0
    assert (out / "2-round" / "model" / "model.safetensors").read_bytes() == weights, (
        "one round more keeps those before"
    )
    assert len(metrics(out, "3-round")) == 2


def test_a_reward_model_is_the_judge(nano: Path, prompts: Path, tmp_path: Path) -> None:
    judge = tmp_path / "judge"
    judge.mkdir()
    LocalModel(nano, Engine(dtype="float32", device="cpu"), heads={"score": Head(at="last", spread=1.0)}).export(judge)
    out = tmp_path / "run"
    assert run(out, nano, f"data={prompts}", f"reward_model={judge}", "heldout=0", "--quiet") == 0
    assert "reward/reward_model" in metrics(out)[0]


@pytest.mark.parametrize("algo", ["xpo", "nash-md"])
def test_a_rival(nano: Path, prompts: Path, tmp_path: Path, algo: str) -> None:
    out, reward = tmp_path / "run", f"reward={prompts.parent}/r.py:score"
    assert run(out, nano, f"data={prompts}", reward, f"algo={algo}", "heldout=0", "--quiet") == 0
    assert len(metrics(out)) == 2
    assert ("logprobs/rival" in metrics(out)[0]) == (algo == "xpo")


def test_a_named_task_without_anything_to_compare(nano: Path, tmp_path: Path) -> None:
    """All completions are wrong alike: no pair, no gradient, no error."""
    assert run(tmp_path / "run", nano, "task=largest", "eval_n=2", "--quiet") == 0
    assert metrics(tmp_path / "run")[0]["grad/norm"] == 0


def test_a_dry_run_samples_a_few_prompts(nano: Path, prompts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [f"model={nano}", f"data={prompts}", f"reward={prompts.parent}/r.py:score"]
    assert main(["run", "online-dpo", "--scale", "tiny", "--dry-run", *given]) == 0
    printed = capsys.readouterr().out
    assert "mean reward" in printed and "nothing was trained" in printed


def test_algorithms_and_their_losses_are_given_by_name(tmp_path: Path) -> None:
    tiny = catalog.get("online-dpo").SCALES["tiny"]
    assert (tiny.algo, config.apply(tiny, ["algo=xpo"]).algo, config.apply(tiny, ["algo=Nash-MD"]).algo) == (
        ONLINE_DPO, XPO, NASH_MD,
    )  # fmt: skip
    assert config.apply(tiny, ["algo.preference=ipo"]).algo == replace(ONLINE_DPO, preference=IPO)
    for algo in (ONLINE_DPO, XPO, NASH_MD):
        (tmp_path / "c.json").write_text(json.dumps({"algo": config.plain(algo)}))
        assert config.from_yaml(tiny, tmp_path / "c.json").algo == algo


CASES = {
    "no prompts": ([], "online-dpo has no prompts to train on: add either data=FILE"),
    "two sources": (["data=DATA", "task=largest", "reward=REWARD"], "both data and task"),
    "no judge": (["data=DATA"], "rows have no column 'answer'"),
    "two judges": (["data=DATA", "reward=REWARD", "reward_model=nano"], "one of them judges"),
    "no reward model": (
        ["data=DATA", "reward_model=MODEL"],
        "has no head 'score': train it with the recipe reward-model",
    ),
    "one completion": (["data=DATA", "reward=REWARD", "rl.group=1"], "set rl.group=2"),
    "no round": (["data=DATA", "reward=REWARD", "rounds=0"], "train for one round at least"),
    "a teacher": (["data=DATA", "reward=REWARD", "algo=gkd"], "take the recipe distill"),
    "another table": (["data=DATA", "reward=REWARD", "algo=grpo"], "unknown online method 'grpo'"),
    "a loss for fixed data": (["data=DATA", "reward=REWARD", "algo.preference=kto"], "it is for fixed data only"),
    "pairs": (["data=PAIRS", "reward=REWARD"], "take the recipe dpo or kto or reward-model"),
}


@pytest.mark.parametrize("case", list(CASES), ids=list(CASES))
def test_what_is_refused(
    case: str, nano: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = write(tmp_path / "pairs.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "c"}])
    names = {"DATA": prompts, "PAIRS": pairs, "REWARD": f"{tmp_path}/r.py:score", "MODEL": nano}
    given, message = CASES[case]
    for name, value in names.items():
        given = [each.replace(name, str(value)) for each in given]
    assert run(tmp_path / "run", nano, *given) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists(), "nothing was begun"
