"""The recipe ppo: its critic, its text, and what it refuses before anything is measured. The rest is that of grpo."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from burnish import config
from burnish.core.algorithms import A2C, GRPO, PPO, PPO_PTX, VAPO
from burnish.errors import InputError
from burnish.recipes import catalog
from burnish.recipes.ppo import SCALES, Ppo, check, main
from burnish.run import Run
from burnish.types import Sampling
from burnish.view import View

CRITIC = Path("1-rl", "critic")


@pytest.fixture
def settings(tmp_path: Path, nano: Path) -> Ppo:
    """A small run on a file of prompts, with a reward function."""
    data, reward, text = tmp_path / "p.jsonl", tmp_path / "r.py", tmp_path / "text.jsonl"
    data.write_text("".join(json.dumps({"prompt": f"{i}?"}) + "\n" for i in range(12)))
    text.write_text("".join(json.dumps({"prompt": f"{i}?", "completion": f"yes {i}"}) + "\n" for i in range(9)))
    reward.write_text("def score(completion):\n    return float('e' in completion)\n")
    rl = replace(SCALES["tiny"].rl, steps=2, prompts=4, minibatches=1, sampling=Sampling(max_tokens=6))
    return replace(SCALES["tiny"], model=str(nano), data=str(data), reward=f"{reward}:score", heldout=2, rl=rl)


def run_it(out: Path, settings: Ppo, resume: bool = False) -> list[dict[str, float]]:
    with Run.open(
        out, recipe="ppo", scale="tiny", config=settings, seed=0, view=View(quiet=True), resume=resume
    ) as run:
        main(run, settings)
    return [json.loads(line) for line in (out / "1-rl" / "metrics.jsonl").read_text().splitlines()]


def test_a_critic_of_its_own_learns_first_and_is_left_beside_the_model(settings: Ppo, tmp_path: Path) -> None:
    lines = run_it(tmp_path / "run", settings)
    assert ["loss" in line for line in lines] == [False, True, True], "the critic's step comes before the policy's two"
    assert all("value/loss" in line and "critic/lr" in line for line in lines)
    done = {path.parent.name for path in (tmp_path / "run").glob("*/done.json")}
    assert done == {"0-before", "1-rl", "2-after"}
    head = load_file(tmp_path / "run" / CRITIC / "heads.safetensors")
    assert bool(head["value.weight"].any())
    before = (tmp_path / "run" / "1-rl" / "metrics.jsonl").read_bytes()
    run_it(tmp_path / "run", settings, resume=True)
    assert (tmp_path / "run" / "1-rl" / "metrics.jsonl").read_bytes() == before, "what is done is not done again"


def test_a_shared_critic_is_a_head_of_the_model(settings: Ppo, tmp_path: Path) -> None:
    critic = replace(settings.rl.critic, shared=True, pretrain=0)
    lines = run_it(tmp_path / "run", replace(settings, rl=replace(settings.rl, critic=critic)))
    assert len(lines) == 2 and all("critic/lr" not in line and "value/loss" in line for line in lines)
    assert (tmp_path / "run" / "1-rl" / "model" / "heads.safetensors").is_file()
    assert not (tmp_path / "run" / CRITIC).exists()


def test_a_critic_begins_as_the_model_it_is_given(settings: Ppo, tmp_path: Path) -> None:
    """Its first values are those of that model, whose head says 7 everywhere; of the policy's own they are 0."""
    lines = run_it(tmp_path / "run", settings)
    assert lines[0]["value/mean"] == 0.0
    shutil.copytree(tmp_path / "run" / CRITIC, tmp_path / "given")
    head = load_file(tmp_path / "given" / "heads.safetensors")
    save_file(
        {"value.weight": 0 * head["value.weight"], "value.bias": 0 * head["value.bias"] + 7},
        tmp_path / "given" / "heads.safetensors",
    )
    critic = replace(settings.rl.critic, schedule=replace(settings.rl.critic.schedule, lr=0.0))
    given = replace(settings, critic_model=str(tmp_path / "given"), rl=replace(settings.rl, critic=critic))
    assert run_it(tmp_path / "again", given)[0]["value/mean"] == pytest.approx(7.0, abs=1e-6)


def test_pretraining_text_goes_beside_each_update(settings: Ppo, tmp_path: Path) -> None:
    mixed = replace(settings, algo=PPO_PTX, pretraining=str(tmp_path / "text.jsonl"))
    lines = run_it(tmp_path / "run", mixed)
    assert ["pretraining/loss" in line for line in lines] == [False, True, True]
    assert lines[2]["pretraining/loss"] < lines[1]["pretraining/loss"], "at 27.8 times its gradient it is learnt"


def test_algorithms_by_name() -> None:
    tiny = catalog.get("ppo").SCALES["tiny"]
    for name, algo in {"ppo_ptx": PPO_PTX, "a2c": A2C, "vapo": VAPO, "grpo": GRPO}.items():
        assert config.apply(tiny, [f"algo={name}"]).algo == algo
    assert tiny.algo == PPO
    changed = config.apply(tiny, ["rl.critic.shared=true", "rl.critic.pretrain=0", "critic_model=x", "pretraining=y"])
    assert changed.rl.critic.shared and (changed.critic_model, changed.pretraining) == ("x", "y")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"algo": GRPO, "critic_model": "nano"}, "this algorithm has no critic"),
        ({"pretraining": "text.jsonl"}, "does not mix in text; choose algo=ppo_ptx"),
        ({"algo": PPO_PTX}, "there is no text: add pretraining=FILE"),
        ({"algo": PPO_PTX, "pretraining": "nothing.jsonl"}, "nothing.jsonl does not exist"),
        ({"algo": PPO_PTX, "pretraining": "p.jsonl"}, "p.jsonl, row 1: nothing to train on"),
    ],
    ids=["no-critic", "no-mix", "no-text", "no-file", "no-reply"],
)
def test_what_is_missing_or_of_no_use_is_named(
    changes: dict[str, object], message: str, settings: Ppo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=re.escape(message)):
        check(replace(settings, **changes))  # type: ignore[arg-type]


def test_a_shared_critic_begins_as_nothing_else(settings: Ppo) -> None:
    critic = replace(settings.rl.critic, shared=True, pretrain=0)
    with pytest.raises(InputError, match=r"set rl\.critic\.shared=false"):
        check(replace(settings, critic_model="nano", rl=replace(settings.rl, critic=critic)))


def test_prompts_have_to_come_from_somewhere(settings: Ppo, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ppo has no prompts to train on"):
        run_it(tmp_path / "run", replace(settings, data=""))


def test_the_published_numbers() -> None:
    """InstructGPT: 256,000 episodes, batches of 512 in minibatches of 64, one epoch, the critic at 9e-6, 8 rows a episode."""
    paper = SCALES["paper"].rl
    assert paper.steps * paper.prompts * paper.group == 256_000 and paper.prompts * paper.group == 512
    assert (paper.prompts // paper.minibatches, paper.epochs, paper.sampling.temperature) == (64, 1, 1.0)
    assert (paper.critic.schedule.lr, paper.schedule.warmup, paper.pretraining_batch) == (9e-6, 10, 8 * 64)
    assert SCALES["paper"].algo.reward_kl is not None and SCALES["paper"].algo.reward_kl.coef == 0.02
