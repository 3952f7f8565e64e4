"""The recipe reward-model: what is trained on, what is measured, where its model goes, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from burnish import config
from burnish.core.ranking import L2, Attributes, Centre, Penalised
from burnish.core.reward_models import BRADLEY_TERRY, CHATGLM, HELPSTEER2, INTERNLM2, OUTCOME, PLACKETT_LUCE, JudgeLoss
from burnish.data.datasets import Dataset
from burnish.errors import InputError
from burnish.loops.fit import FitConfig
from burnish.loops.reward_model import RewardModel
from burnish.recipes import catalog, grpo, ppo
from burnish.recipes.reward_model import SCALES, Judging, judged, main
from burnish.run import Run
from burnish.types import Sampling
from burnish.view import View

FIXTURES = Path(__file__).parents[1] / "data" / "fixtures"
SMALL = replace(SCALES["tiny"].fit, steps=12, batch=8)


def lines(path: Path, rows: Sequence[object]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def pairs(count: int = 40) -> list[dict[str, object]]:
    """The polite answer is the better one, and as long as the other."""
    return [{"prompt": f"{i}?", "chosen": f"Yes, {i}", "rejected": f"Nah, {i}"} for i in range(count)]


@pytest.fixture
def settings(tmp_path: Path, nano: Path) -> Judging:
    data = lines(tmp_path / "pairs.jsonl", pairs())
    return replace(SCALES["tiny"], model=str(nano), data=data, heldout=10, fit=SMALL)


def run_it(out: Path, settings: Judging, resume: bool = False) -> tuple[Path, dict[str, Any]]:
    view = View(quiet=True)
    with Run.open(out, recipe="reward-model", scale="tiny", config=settings, seed=0, view=view, resume=resume) as run:
        model = main(run, settings)
    return Path(model), json.loads((out / "summary.json").read_text())


def test_it_learns_what_is_better_and_says_so_with_intervals(settings: Judging, tmp_path: Path) -> None:
    model, summary = run_it(tmp_path / "run", settings)
    held = summary["1-reward-model"]["heldout"]
    assert held["before"] is None, "a new head says the same of every answer: there is nothing to measure"
    accuracy = held["after"]["accuracy"]
    assert accuracy["n"] == 10 and accuracy["low"] > 0.5
    assert {"calibration", "length", "scores"} <= held["after"].keys()
    assert load_file(model / "heads.safetensors")["score.weight"].shape == (1, 192)


def test_a_reward_model_that_goes_on_is_measured_before_too(settings: Judging, tmp_path: Path) -> None:
    model, _ = run_it(tmp_path / "run", settings)
    again = replace(settings, model=str(model), fit=replace(SMALL, steps=1))
    _, summary = run_it(tmp_path / "again", again)
    assert summary["1-reward-model"]["heldout"]["before"]["accuracy"]["n"] == 10


def test_demonstrations_score_zero_on_average(settings: Judging, tmp_path: Path) -> None:
    chat = lines(tmp_path / "chat.jsonl", [{"prompt": f"{i}?", "completion": f"Sure, {i}"} for i in range(7)])
    model, summary = run_it(tmp_path / "run", replace(settings, demonstrations=chat))
    assert model.parent.name == "2-centred"
    demonstrations = [(d.messages[:-1], d.messages[-1]["content"]) for d in Dataset(chat)]
    scores = RewardModel(model).scores(demonstrations)
    assert sum(scores) / 7 == pytest.approx(0, abs=1e-5) and max(map(abs, scores)) > 0
    uncentred = RewardModel(tmp_path / "run" / "1-reward-model" / "model").scores(demonstrations)
    gaps = [a - b for a, b in zip(uncentred, scores, strict=True)]
    assert max(gaps) - min(gaps) < 1e-5 and abs(gaps[0]) > 1e-3, "one constant for all"
    assert summary["1-reward-model"]["heldout"]["after"]["accuracy"]["low"] > 0.5


def test_members_differ_and_are_measured_one_by_one(settings: Judging, tmp_path: Path) -> None:
    _, summary = run_it(tmp_path / "run", replace(settings, members=2, fit=replace(SMALL, steps=3)))
    one, two = (load_file(tmp_path / "run" / f"1-reward-model-{i}" / "model" / "heads.safetensors") for i in (1, 2))
    assert not torch.equal(one["score.weight"], two["score.weight"])
    assert all("heldout" in summary[f"1-reward-model-{i}"] for i in (1, 2))


def test_labels_of_a_model_are_clamped_and_its_prompts_are_not_held_out(settings: Judging, tmp_path: Path) -> None:
    ai = [{"prompt": f"{i}?", "chosen": "Yes", "rejected": "No", "chosen_prob": 0.95} for i in range(50)]
    train, heldout = judged(replace(settings, ai_data=lines(tmp_path / "ai.jsonl", ai)))
    assert heldout is not None and len(heldout) == 10
    assert train.counts["data"] == 30 and train.counts["ai"] == 40, "ten of its prompts are held out"
    labels = {answer.label for i in range(len(train)) for answer in train[i].answers}
    assert labels == {None, 0.6, 0.4}
    apart = {heldout[i].prompt[-1]["content"] for i in range(10)}
    assert not apart & {train[i].prompt[-1]["content"] for i in range(len(train))}


def test_balancing_leaves_no_length_bias(settings: Judging, tmp_path: Path) -> None:
    rows = [{"prompt": f"{i}?", "chosen": "y" * (6 if i % 4 else 2), "rejected": "nono"} for i in range(40)]
    data = lines(tmp_path / "long.jsonl", rows)
    train, _ = judged(replace(settings, data=data, heldout=0, balance=1))
    longer = [len(train[i].answers[0].messages[0]["content"]) > 4 for i in range(len(train))]
    assert len(longer) == 20 and sum(longer) == 10 and train.counts["unbalanced"] == 20


@pytest.mark.parametrize(
    ("file", "loss", "count"),
    [
        ("preference.jsonl", BRADLEY_TERRY, 3),
        ("nectar.jsonl", PLACKETT_LUCE, None),
        ("soft.jsonl", INTERNLM2, 3),
        ("unpaired.jsonl", OUTCOME, 4),
        ("preference.jsonl", OUTCOME, 3),
        ("helpsteer2.jsonl", HELPSTEER2, 4),
        ("ultrafeedback.jsonl", Attributes(("score",)), None),
    ],
    ids=["pairs", "ranked", "soft", "labels", "labels-of-pairs", "attributes", "scores"],
)
def test_every_loss_on_data_of_its_kind(
    file: str, loss: JudgeLoss, count: int | None, settings: Judging, tmp_path: Path
) -> None:
    own = replace(settings, data=str(FIXTURES / file), loss=loss, heldout=0, fit=replace(SMALL, steps=2, batch=2))
    train, _ = judged(own)
    assert len(train) == count or (count is None and len(train) > 0)
    model, _ = run_it(tmp_path / "run", own)
    outputs = len(loss.names) if isinstance(loss, Attributes) else 1
    assert load_file(model / "heads.safetensors")["score.weight"].shape[0] == outputs


def test_attributes_are_measured_where_nothing_is_compared(settings: Judging, tmp_path: Path) -> None:
    rows = [
        {"prompt": f"{i}?", "response": "y" * (i % 5 + 1), "helpfulness": i % 5, "correctness": 4} for i in range(20)
    ]
    loss = Attributes(("helpfulness", "correctness"))
    data = lines(tmp_path / "a.jsonl", rows)
    _, summary = run_it(
        tmp_path / "run", replace(settings, data=data, loss=loss, heldout=8, fit=replace(SMALL, steps=3))
    )
    after = summary["1-reward-model"]["heldout"]["after"]
    assert "accuracy" not in after and after["attributes"]["correctness"]["target"] == 4


def test_it_judges_and_criticises_in_the_other_recipes(settings: Judging, tmp_path: Path) -> None:
    """The reward of ppo is the model's score, and its critic begins with the model's head."""
    model, _ = run_it(tmp_path / "run", replace(settings, heldout=0))
    prompts = lines(tmp_path / "prompts.jsonl", [{"prompt": f"{i}?"} for i in range(6)])
    rl = replace(ppo.SCALES["tiny"].rl, steps=1, prompts=2, minibatches=1, sampling=Sampling(max_tokens=4))
    rl = replace(rl, critic=replace(rl.critic, schedule=replace(rl.critic.schedule, lr=0.0)))
    own = replace(
        ppo.SCALES["tiny"], model=settings.model, data=prompts, rl=rl, heldout=2, reward_model=str(model),
        critic_model=str(model),
    )  # fmt: skip
    with Run.open(tmp_path / "ppo", recipe="ppo", scale="tiny", config=own, seed=0, view=View(quiet=True)) as run:
        ppo.main(run, own)
    line = json.loads((tmp_path / "ppo" / "1-rl" / "metrics.jsonl").read_text().splitlines()[-1])
    assert line["reward/reward_model"] != 0 and line["value/mean"] != 0
    critic = load_file(tmp_path / "ppo" / "1-rl" / "critic" / "heads.safetensors")
    assert torch.equal(critic["value.weight"], load_file(model / "heads.safetensors")["score.weight"])


def test_a_directory_without_the_head_is_no_judge(tmp_path: Path, nano: Path) -> None:
    prompts = lines(tmp_path / "prompts.jsonl", [{"prompt": "a?"}, {"prompt": "b?"}])
    own = replace(grpo.SCALES["tiny"], model=str(nano), data=prompts, reward_model=str(nano))
    with (
        Run.open(tmp_path / "g", recipe="grpo", scale="tiny", config=own, seed=0, view=View(quiet=True)) as run,
        pytest.raises(InputError, match="has no head 'score': train it with the recipe reward-model"),
    ):
        grpo.main(run, own)


def test_resuming_does_nothing_twice(settings: Judging, tmp_path: Path) -> None:
    run_it(tmp_path / "run", settings)
    before = (tmp_path / "run" / "1-reward-model" / "metrics.jsonl").read_bytes()
    run_it(tmp_path / "run", settings, resume=True)
    assert (tmp_path / "run" / "1-reward-model" / "metrics.jsonl").read_bytes() == before


def test_losses_by_name_with_their_parts() -> None:
    tiny = catalog.get("reward-model").SCALES["tiny"]
    assert config.apply(tiny, ["loss=plackett-luce"]).loss == PLACKETT_LUCE
    assert config.apply(tiny, ["loss=internlm2", "loss.loss.link.gamma=3"]).loss.loss.link.gamma == 3
    attributes = config.apply(tiny, ["loss={kind: Attributes, names: [score]}"]).loss
    assert attributes == Attributes(("score",))
    penalised = config.apply(tiny, ["loss=chatglm", "loss.penalties=[{kind: L2, coef: 0.5}, Centre]"]).loss
    assert penalised == Penalised(BRADLEY_TERRY, (L2(0.5), Centre())) and CHATGLM.penalties == (L2(0.01),)
    with pytest.raises(InputError, match="Did you mean 'bradley_terry'"):
        config.apply(tiny, ["loss=bradly_terry"])
    with pytest.raises(InputError, match="Did you mean 'Barrier'"):
        config.apply(tiny, ["loss=chatglm", "loss.penalties=[Barier]"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": ""}, "reward-model has no data to train on: add data=FILE"),
        ({"data": "stepwise.jsonl"}, "data of kind 'stepwise', and reward-model trains on"),
        ({"data": "messages.jsonl"}, "take the recipe sft or grpo"),
        ({"data": "unpaired.jsonl"}, "labelled one by one; choose loss=outcome"),
        ({"data": "helpsteer2.jsonl"}, "its answers have scores; choose loss=helpsteer2"),
        ({"data": "preference.jsonl", "loss": HELPSTEER2}, "its answers are compared; choose loss=bradley_terry"),
        ({"loss": "prm800k"}, "judges steps, not answers: choose loss=outcome, or run process-reward-model"),
        ({"loss": OUTCOME, "demonstrations": "prompt-completion.jsonl"}, "leave demonstrations out"),
        ({"demonstrations": "prompt-only.jsonl"}, "row 1: the conversation does not end with a reply"),
        ({"weights": (1.0, 2.0)}, "there are 2 weights and 1 attributes"),
        ({"balance": 3, "data": "nectar.jsonl"}, "is no pair"),
        ({"balance": 3, "data": "hh.jsonl"}, "balance=3 leaves nothing: in every bucket"),
        ({"fit": FitConfig(max_length=5)}, "more than 5: shorten it, or leave such comparisons out with fit.drop_long=true"),
    ],
    ids=[
        "no-data", "steps", "chat", "labels", "scores", "no-scores", "process-loss", "own-zero", "no-reply", "weights",
        "lists", "all-longer", "long",
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named_with_the_way_out(
    changes: dict[str, Any], message: str, settings: Judging, tmp_path: Path
) -> None:
    named = {k: str(FIXTURES / v) if k in ("data", "demonstrations") and v else v for k, v in changes.items()}
    if named.get("loss") == "prm800k":
        named["loss"] = config.apply(catalog.get("reward-model").SCALES["tiny"], ["loss=prm800k"]).loss
    with pytest.raises(InputError, match=re.escape(message)):
        run_it(tmp_path / "run", replace(settings, heldout=0, **named))


def test_settings_that_mean_nothing_are_refused(settings: Judging) -> None:
    for override, message in {"members=0": "one model at least", "clamp=[0.6, 0.4]": "cannot be clamped"}.items():
        with pytest.raises(InputError, match=message):
            config.apply(settings, [override])


def test_the_published_numbers() -> None:
    """InstructGPT's reward model: 64 prompts a step, one pass, learning rate 9e-6."""
    paper = SCALES["paper"].fit
    assert (paper.batch, paper.epochs, paper.schedule.lr) == (64, 1.0, 9e-6) and SCALES["paper"].loss == BRADLEY_TERRY
