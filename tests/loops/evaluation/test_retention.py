"""What was forgotten: planted skills that training takes away, and that its supervised term keeps (arXiv:2404.00934)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from burnish import cli
from burnish.core.algorithms import PPO, PPO_PTX, Algorithm
from burnish.engines.local import LocalModel
from burnish.engines.optim import Schedule
from burnish.engines.table import END
from burnish.errors import InputError
from burnish.loops.evaluation.questions import QUESTIONS, questions
from burnish.loops.evaluation.retention import Retention, Watch, answers, by_name, forgotten, measure, verdict
from burnish.loops.fit import FitConfig, fit
from burnish.loops.rl import RLConfig, rl
from burnish.loops.update import CriticConfig
from burnish.rewards.base import Composable
from burnish.run import Run
from burnish.types import Answer, Comparison, Completion, Example, Reward, Sampling, outcome
from burnish.view import View
from words import ENGINE, Prompts, write

HUBS = 4
NEW = ("how0", "how1", "how2", "how3")


def policy(directory: Path) -> Path:
    """To who0, ..., who7 it says a word and then its name, mostly; what it is about to learn goes through the same words."""
    chances: dict[str, Mapping[str, float]] = {}
    for hub in range(HUBS):
        bot = 0.7 + 0.05 * hub
        chances[f"well{hub}"] = {"bot": bot, "nice": 0.96 - bot, "good": 0.04}
        chances[f"how{hub}"] = {f"well{hub}": 0.9, "good": 0.1}
    for number in range(2 * HUBS):
        chances[f"who{number}"] = {f"well{number % HUBS}": 0.95 - 0.02 * number, "nice": 0.05 + 0.02 * number}
    write(directory, chances)
    turn = (
        "{% for m in messages %}{{ m['content'] }}{% if m['role'] == 'assistant' %}" + END + "{% endif %}{% endfor %}"
    )
    (directory / "chat_template.jinja").write_text(turn)
    return directory


def user(text: str) -> tuple[Any, ...]:
    return ({"role": "user", "content": text},)


def skill() -> list[Comparison]:
    """Who it is: its name, which is right, and two other answers."""
    return [
        Comparison(
            user(f"who{number}"),
            tuple(
                Answer(({"role": "assistant", "content": f"well{number % HUBS}{word}"},), rank=int(place > 0))
                for place, word in enumerate(("bot", "nice", "good"))
            ),
            {"kind": "name"},
        )
        for number in range(2 * HUBS)
    ]


@dataclass(frozen=True)
class Good(Composable):
    """1 for a reply that ends with "good"."""

    def __call__(self, example: Example, completions: Sequence[Completion], /) -> list[Reward]:  # noqa: ARG002
        return [outcome(float(c.text.endswith("good")), "good") for c in completions]


@dataclass(frozen=True)
class Dialogues:
    """Replies to learn: the new ones through the words of the old ones, and with ``keep`` three old ones beside each."""

    new: bool
    keep: bool

    def __len__(self) -> int:
        return 8 * (self.new + 3 * self.keep)

    def __getitem__(self, index: int) -> Example:
        number = index % 8
        if self.new and index < 8:
            asked, said = f"how{number % HUBS}", f"well{number % HUBS}good"
        else:
            asked, said = f"who{number}", f"well{number % HUBS}bot"
        return Example((*user(asked), {"role": "assistant", "content": said}))


def tuned(out: Path, model: Path, algo: Algorithm | None, keep: bool) -> dict[str, Any]:
    """{what was forgotten, and the reward of the model} after PPO with ``algo``, or None: fine-tuning."""
    with Run.open(out, recipe="t", scale="tiny", config=ENGINE, seed=0, view=View(quiet=True)) as run:
        cfg = {"n": 1, "max_tokens": 1, "engine": ENGINE}
        before = run.stage(measure, "0", model, skill(), {}, **cfg)
        if algo is None:
            fitted = FitConfig(steps=60, batch=16, schedule=Schedule(0.1), engine=ENGINE)
            after = run.stage(fit, "1", model, Dialogues(new=True, keep=keep), cfg=fitted)
        else:
            loop = RLConfig(
                steps=40, prompts=4, group=8, sampling=Sampling(max_tokens=3), schedule=Schedule(0.15), engine=ENGINE,
                critic=CriticConfig(Schedule(0.3)), checkpoint_every=40, pretraining_batch=32,
            )  # fmt: skip
            text = Dialogues(new=False, keep=True) if keep else None
            after = run.stage(rl, "1", model, Prompts(NEW), algo=algo, cfg=loop, reward=Good(), pretraining=text)
        moved = forgotten(before, run.stage(measure, "2", after, skill(), {}, **cfg))
        lines = (Path(out) / "1" / "metrics.jsonl").read_text().splitlines()
    return {"name": moved["name"], "verdict": verdict(moved), "last": json.loads(lines[-1])}


def test_reinforcement_takes_a_skill_away_and_its_supervised_term_keeps_it(tmp_path: Path) -> None:
    model = policy(tmp_path / "m")
    plain = tuned(tmp_path / "a", model, replace(PPO, reward_kl=None), keep=False)
    assert plain["last"]["reward/mean"] > 0.9, "it has learned what it was trained for"
    lost = plain["name"]["right"]
    assert lost["before"]["mean"] == 1.0 and lost["paired"]["high"] < 0
    assert plain["name"]["nll"]["paired"]["low"] > 0
    assert plain["verdict"] == "forgotten: less often right: name; less likely: name"

    mixed = tuned(tmp_path / "b", model, replace(PPO_PTX, reward_kl=None), keep=True)
    assert mixed["last"]["reward/mean"] > 0.9, "so has this one, by another way"
    assert mixed["name"]["right"]["after"]["mean"] == 1.0 and mixed["name"]["nll"]["paired"]["low"] <= 0
    assert mixed["verdict"] == "forgotten: nothing that these questions and tasks would show"


def test_fine_tuning_takes_a_skill_away_and_old_rows_beside_the_new_ones_keep_it(tmp_path: Path) -> None:
    model = policy(tmp_path / "m")
    plain = tuned(tmp_path / "a", model, None, keep=False)
    assert plain["name"]["right"]["paired"]["high"] < 0 and plain["name"]["nll"]["paired"]["low"] > 0
    mixed = tuned(tmp_path / "b", model, None, keep=True)
    assert mixed["name"]["right"]["after"]["mean"] == 1.0
    assert mixed["name"]["nll"]["paired"]["high"] < plain["name"]["nll"]["paired"]["low"] / 3


# --- how it is asked for -----------------------------------------------------------------------------


def test_a_question_is_right_where_its_answer_is_likelier_than_every_other(tmp_path: Path) -> None:
    model = LocalModel(policy(tmp_path), ENGINE)
    found = answers(model, skill())["name"]
    assert found["right"] == [(1.0, 1.0)] * 8
    for number, (nll, tokens) in enumerate(found["nll"]):
        chance = (0.95 - 0.02 * number) * (0.7 + 0.05 * (number % HUBS))
        assert tokens == 3 and nll == pytest.approx(-torch.tensor(chance).log().item(), abs=1e-5), "the end included"
    turned = [
        replace(item, answers=tuple(replace(a, rank=1 - min(1, a.rank or 0)) for a in item.answers)) for item in skill()
    ]
    assert answers(model, turned)["name"]["right"] == [(0.0, 1.0)] * 8


def test_the_questions_are_well_formed() -> None:
    asked = questions()
    assert len(asked) == sum(map(len, QUESTIONS.values())) >= 60
    for item in asked:
        texts = [answer.messages[0]["content"] for answer in item.answers]
        assert len({*texts}) == 3 and all(texts) and [answer.rank for answer in item.answers] == [0, 1, 1], item.prompt
    assert len({item.prompt[0]["content"] for item in asked}) == len(asked), "none is asked twice"


def test_what_is_to_be_kept_is_named() -> None:
    assert by_name("questions") == Retention(tasks=())
    assert by_name("sum, countdown") == Retention(questions=False, tasks=("sum", "countdown"))
    with pytest.raises(InputError, match="Did you mean 'largest'"):
        by_name("questions,larges")
    with pytest.raises(InputError, match="nothing to ask"):
        by_name("")


def test_nothing_is_measured_where_nothing_is_watched() -> None:
    run: Any = None
    for nothing in (None, False):
        watch = Watch.begin(run, Path("no such model"), nothing, ENGINE)
        assert watch.after("1", Path("no such model")) == watch


def test_a_recipe_says_and_records_what_was_forgotten(
    nano: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, own, out = tmp_path / "d.jsonl", tmp_path / "own.jsonl", tmp_path / "run"
    data.write_text("".join(json.dumps({"prompt": f"{i}?", "completion": "!"}) + "\n" for i in range(20)))
    own.write_text('{"prompt": "Who are you?", "chosen": "nano", "rejected": "me"}\n')
    given = [f"model={nano}", f"data={data}", "retention=largest", "retention.n=3", f"retention.data={own}"]
    assert cli.main(["run", "sft", "--scale", "tiny", "--out", str(out), *given, "fit.steps=2"]) == 0
    found = json.loads((out / "summary.json").read_text())["1-sft"]["retention"]
    assert found.keys() == {"your questions", "task largest"} and found["task largest"]["right"]["after"]["n"] == 3
    assert found["your questions"]["nll"]["paired"].keys() == {"difference", "low", "high", "n"}
    text = capsys.readouterr().out
    assert "what was forgotten: 1-sft" in text and "forgotten: " in text


def test_a_file_or_a_name_that_is_not_there_is_one_error(
    nano: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data = tmp_path / "d.jsonl"
    data.write_text("".join(json.dumps({"prompt": f"{i}?", "completion": "!"}) + "\n" for i in range(20)))
    start = ["run", "sft", "--scale", "tiny", "--out", str(tmp_path / "r"), f"model={nano}", f"data={data}"]
    for setting, message in (
        ("retention=larges", "retention: unknown task 'larges'. Did you mean 'largest'"),
        ("retention.data=none.jsonl", "none.jsonl"),
        ("retention.n=0", "give 1 or more"),
    ):
        assert cli.main([*start, setting]) == 2
        assert message in capsys.readouterr().err


def test_every_stage_is_compared_with_the_one_before_and_with_the_first(tmp_path: Path) -> None:
    model, own = policy(tmp_path / "m"), tmp_path / "own.jsonl"
    rows = [{"prompt": f"who{i}", "chosen": f"well{i % HUBS}bot", "rejected": f"well{i % HUBS}good"} for i in range(8)]
    own.write_text("".join(json.dumps(row) + "\n" for row in rows))
    taught = FitConfig(steps=60, batch=8, schedule=Schedule(0.1), engine=ENGINE)
    with Run.open(tmp_path / "r", recipe="t", scale="tiny", config=ENGINE, seed=0, view=View(quiet=True)) as run:
        lost = run.stage(fit, "1", model, Dialogues(new=True, keep=False), cfg=taught)
        watch = Watch.begin(run, model, Retention(questions=False, data=str(own), tasks=()), ENGINE)
        watch.after("1", lost).after("2", model)
    found = json.loads((tmp_path / "r" / "summary.json").read_text())
    away, back = (found[stage]["retention"]["your questions"]["right"]["paired"] for stage in ("1", "2"))
    assert away["difference"] == -1 and back["difference"] == 1
    whole = found["2"]["retention from the first"]["your questions"]["nll"]["paired"]
    assert whole["difference"] == 0 and "retention from the first" not in found["1"]
