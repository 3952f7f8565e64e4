"""`burnish commentate` on small trained runs: what it prints, and what it says where it cannot."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file, save_file

from burnish import config
from burnish.cli import main
from burnish.cli.commentate import _grading, recorded
from burnish.recipes import catalog

Captured = pytest.CaptureFixture[str]
SMALL = ["rl.steps=2", "rl.prompts=2", "rl.group=2", "rl.sampling.max_tokens=6", "eval.n=2"]


def trained(out: Path, nano: Path, *overrides: str) -> Path:
    arguments = ["run", "r1-zero", "--scale", "tiny", "--quiet", "--out", str(out)]
    assert main([*arguments, f"model={nano}", "pretrain=none", *SMALL, *overrides]) == 0
    return out


@pytest.fixture(scope="module")
def ppo(nano: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("ppo") / "run", nano, "algo=ppo")


@pytest.fixture
def copy(ppo: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(ppo, tmp_path / "copy"))


@pytest.fixture
def say(capsys: Captured) -> Callable[..., str]:
    def said(*arguments: str) -> str:
        capsys.readouterr()
        assert main(["commentate", *arguments]) == 0
        return capsys.readouterr().out

    return said


def refused(capsys: Captured, *arguments: str) -> str:
    assert main(["commentate", *arguments]) == 2
    return capsys.readouterr().err


def row(run: Path, step: int, place: int) -> dict[str, object]:
    return pq.read_table(run / "2-r1-zero" / "rollouts" / f"step-{step:06d}.parquet").to_pylist()[place]  # type: ignore[no-any-return]


def values_of(text: str) -> list[float]:
    """The column V, state by state."""
    found = re.findall(r"^ *\S.*?  +(-?\d\.\d\d) .*(?:\[\d\.\d\d, \d\.\d\d\]|the outcome)", text, re.MULTILINE)
    return [float(number) for number in found]


def test_the_value_is_that_of_the_stages_critic(copy: Path, say: Callable[..., str]) -> None:
    """A critic that always expects .75 is surprised by the outcome, and by nothing before it."""
    path = copy / "2-r1-zero" / "critic" / "heads.safetensors"
    head = load_file(path)
    save_file({"value.weight": head["value.weight"] * 0, "value.bias": head["value.bias"] * 0 + 0.75}, path)
    text = say(str(copy), "--samples", "2")
    reward = row(copy, 2, 0)["reward"]
    *before, last = values_of(text)
    assert reward == last == 0.0 and {*before} == {0.75}
    (line,) = re.findall(r".*the outcome.*", text)
    assert "◀ biggest drop of V" in line
    assert f"what the critic expects falls most at token {len(before)}, " in text and ": 0.75 -> 0.00" in text


def test_a_rollout_is_commented_on(ppo: Path, say: Callable[..., str]) -> None:
    saved = row(ppo, 2, 0)
    text = say(str(ppo), "--samples", "4")
    assert f"step 2, episode {saved['episode']} (one of 4)" in text
    tokens = saved["token_ids"]
    assert isinstance(tokens, list)
    numbers = values_of(text)
    assert len(numbers) == len(tokens) + 1
    assert numbers[-1] == pytest.approx(saved["reward"], abs=0.005), "the last state is the outcome"
    assert "the success rate of 4 continuations" in text and "off the mean reward" in text
    assert "V also expects the KL penalty" in text, "that of PPO is in the reward"
    assert say(str(ppo), "--samples", "4") == text, "the same command says the same"


def test_step_episode_and_seed_choose(ppo: Path, say: Callable[..., str]) -> None:
    saved = row(ppo, 1, 2)
    text = say(str(ppo), "--step", "1", "--episode", str(saved["episode"]), "--stage", "2-r1-zero")
    assert f"step 1, episode {saved['episode']}" in text
    assert str(saved["prompt"])[9:20] in text


def test_a_typed_prompt_is_answered_and_judged_where_the_answer_is_given(ppo: Path, say: Callable[..., str]) -> None:
    text = say(str(ppo), "--prompt", "Largest of 1, 2?", "--samples", "2")
    assert "a completion of your prompt\n" in text
    assert "no Monte Carlo: the right answer is not known" in text and "95% interval" not in text
    judged = say(str(ppo), "--prompt", "Largest of 1, 2?", "--answer", "2", "--samples", "2")
    assert "a completion of your prompt: reward" in judged and "95% interval" in judged
    assert say(str(ppo), "--prompt", "Largest of 1, 2?", "--seed", "1") != text


def test_a_critic_on_the_policys_trunk_comments_too(nano: Path, tmp_path: Path, say: Callable[..., str]) -> None:
    run = trained(tmp_path / "run", nano, "algo=a2c", "rl.critic.shared=true")
    assert not (run / "2-r1-zero" / "critic").exists()
    text = say(str(run), "--samples", "2")
    assert "what the critic expects" in text and "KL penalty" not in text


def test_without_a_known_reward_only_the_critic_speaks(copy: Path, say: Callable[..., str]) -> None:
    record = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**record, "recipe": "mine"}))
    text = say(str(copy))
    assert "no Monte Carlo: 'mine' is no recipe" in text and "what the critic expects" in text
    (copy / "run.json").write_text(json.dumps({**record, "config": {**record["config"], "nonsense": 1}}))
    assert "cannot be had again (unknown key 'nonsense'" in say(str(copy))


def test_the_reward_is_that_of_the_run_and_not_of_the_scale(copy: Path) -> None:
    record = json.loads((copy / "run.json").read_text())
    record["config"]["task"]["kinds"] = ["sum"]
    (copy / "run.json").write_text(json.dumps(record))
    grading, reason = _grading(record)
    assert grading is not None and not reason
    assert grading.task.kinds == ("sum",) and grading.sampling.max_tokens == 6 and grading.reward_kl  # type: ignore[attr-defined]


def test_grpo_runs_are_judged_by_their_own_file_and_function(
    nano: Path, tmp_path: Path, say: Callable[..., str]
) -> None:
    data, function = tmp_path / "prompts.jsonl", tmp_path / "mine.py"
    data.write_text("".join(json.dumps({"prompt": f"Say {i}.", "answer": str(i)}) + "\n" for i in range(6)))
    function.write_text("def score(completion, answer, **columns):\n    return 1.0\n")
    out = tmp_path / "run"
    arguments = ["run", "grpo", "--scale", "tiny", "--quiet", "--out", str(out), f"model={nano}", f"data={data}"]
    assert main([*arguments, f"reward={function}:score", "algo=ppo", *SMALL[:4], "heldout=0"]) == 0
    text = say(str(out), "--samples", "2")
    assert "the success rate of 2 continuations never falls" in text
    function.unlink()
    assert "the reward of the run cannot be had again" in say(str(out))


# --- what cannot be done ---------------------------------------------------------------------------


def test_a_run_without_a_critic_names_algorithms_with_one(nano: Path, tmp_path: Path, capsys: Captured) -> None:
    run = trained(tmp_path / "run", nano)
    text = refused(capsys, str(run))
    known = text.rpartition(": ")[2].strip().rstrip(".").split(", ")
    assert "was trained without a critic" in text and {"a2c", "ppo", "vapo"} <= {*known} and "grpo" not in known
    assert "trained without a critic" in refused(capsys, str(run), "--stage", "2-r1-zero")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--stage", "2-r1-zro"], "Did you mean '2-r1-zero'"),
        (["--stage", "1-before"], "trained without a critic"),
        (["--step", "9"], "2-r1-zero has steps 1 to 2"),
        (["--episode", "99"], "step 2 has no episode 99; it has 4, 5, 6, 7"),
        (["--prompt", "Hi", "--step", "1"], "either --prompt"),
        (["--answer", "7"], "--answer belongs to --prompt"),
    ],
    ids=lambda value: "".join(value)[:20],
)
def test_wrong_choices_are_refused(ppo: Path, options: list[str], message: str, capsys: Captured) -> None:
    assert message in refused(capsys, str(ppo), *options)


def test_what_is_no_run_is_refused(ppo: Path, tmp_path: Path, capsys: Captured) -> None:
    assert "there is no run in" in refused(capsys, str(tmp_path / "nowhere"))
    assert "is not a run directory" in refused(capsys, str(tmp_path))
    assert "--stage 2-r1-zero" in refused(capsys, str(ppo / "2-r1-zero" / "critic"))


def test_missing_rollouts_and_unfinished_stages_are_named(copy: Path, capsys: Captured) -> None:
    shutil.rmtree(copy / "2-r1-zero" / "rollouts")
    assert "no rollouts: comment on a completion of your own with --prompt" in refused(capsys, str(copy))
    shutil.rmtree(copy / "2-r1-zero" / "critic")
    (copy / "2-r1-zero" / "done.json").unlink()
    assert "2-r1-zero" in (text := refused(capsys, str(copy))) and "is not finished" in text


def test_a_reward_that_needs_more_than_an_answer_says_so(copy: Path, capsys: Captured) -> None:
    record = json.loads((copy / "run.json").read_text())
    grpo = {"kind": "Grpo", "model": "nano", "task": {"kind": "Countdown"}}
    (copy / "run.json").write_text(json.dumps({**record, "recipe": "grpo", "config": grpo}))
    text = refused(capsys, str(copy), "--prompt", "Use 1, 2 to make 3.", "--answer", "3")
    assert "comment on a rollout instead" in text


@pytest.mark.parametrize("scale", ["tiny", "laptop", "paper"])
@pytest.mark.parametrize(
    "override", ["algo=ppo", "task=countdown", 'model="größe 😀: [1]\t"', "algo=vapo algo.reward_kl=KL"]
)
@pytest.mark.parametrize("recipe", ["r1-zero", "grpo"])
def test_recorded_settings_are_read_back(recipe: str, scale: str, override: str) -> None:
    """Whatever the scale has: one task, a mixture, none."""
    scales = catalog.get(recipe).SCALES
    settings = config.apply(scales[scale], override.split(" ") if override.startswith("algo") else [override])
    record = json.loads(json.dumps(config.plain(settings)))
    assert recorded(scales[scale], record) == settings
    assert recorded(scales["tiny"], record) == settings, "even over another scale"
