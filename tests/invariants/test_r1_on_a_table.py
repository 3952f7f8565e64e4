"""DeepSeek-R1 (arXiv:2501.12948), its four stages as a straight-line program, on a policy that is enumerated.

A reply to a question is a thought and "yes" or "no"; "yes" is right. A readable thought helps most, one in another language
or in a block of code helps too, and without thinking nearly every reply is wrong. Beside the questions somebody says hello.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from burnish.core.algorithms import DR_GRPO
from burnish.data.datasets import Dataset
from burnish.engines.local import LocalModel
from burnish.engines.optim import Schedule
from burnish.engines.table import END
from burnish.loops.curate.filters import READABLE
from burnish.loops.curate.rejection import Rejection, reject
from burnish.loops.fit import FitConfig, fit
from burnish.loops.rl import RLConfig, rl
from burnish.rewards.base import Composable, per_completion
from burnish.rewards.language import OneLanguage
from burnish.run import Artifact, Run
from burnish.types import Completion, Example, Reward, Sampling, outcome
from burnish.view import View
from curating import rows, speaker
from words import ENGINE, Prompts, expected, replies

LIMIT = 4
MATHS = tuple(f"ask{i}" for i in range(4))
ENGLISH, MORE, RUSSIAN, CODE = "this is the sum\n", "and it is right\n", "это сумма\n", "```py\n"
SPOKEN = {"yes": {END: 1.0}, "no": {END: 1.0}, "gladly": {END: 1.0}, "go away": {END: 1.0}}
HELP = {ENGLISH: {"yes": 0.5, "no": 0.4, MORE: 0.1}, MORE: {"yes": 0.7, "no": 0.3}}
THOUGHTS = {**HELP, RUSSIAN: {"yes": 0.5, "no": 0.5}, CODE: {"yes": 0.5, "no": 0.5}}
BASE = {
    **{word: {ENGLISH: 0.04, RUSSIAN: 0.03, CODE: 0.03, "no": 0.88, "yes": 0.02} for word in MATHS},
    "hello": {"gladly": 0.3, "go away": 0.7},
    **THOUGHTS,
    **SPOKEN,
}


@dataclass(frozen=True)
class Asked(Prompts):
    """Questions, of the domain "maths", and what else is said, of the domain "general"."""

    def __getitem__(self, index: int) -> Example:
        example = super().__getitem__(index)
        domain = "maths" if self.words[index] in MATHS else "general"
        return replace(example, meta={**example.meta, "domain": domain})


@dataclass(frozen=True)
class Right(Composable):
    """The rule: 1 for a reply that ends with "yes"."""

    @per_completion
    def __call__(self, example: Example, completion: Completion) -> Reward:  # noqa: ARG002
        return outcome(completion.text.endswith("yes") and completion.finish == "eos", "accuracy")


@dataclass(frozen=True)
class Polite(Composable):
    """The model of what people prefer: 1 for "gladly"."""

    @per_completion
    def __call__(self, example: Example, completion: Completion) -> Reward:  # noqa: ARG002
        return outcome(completion.text == "gladly", "preference")


@dataclass(frozen=True)
class Written:
    """Rows by hand: (prompt, reply)."""

    lines: tuple[tuple[str, str], ...]

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: int) -> Example:
        prompt, reply = self.lines[index]
        return Example(({"role": "user", "content": prompt}, {"role": "assistant", "content": reply}))


@dataclass(frozen=True)
class Joined:
    """The rows of a data file and rows by hand."""

    file: Artifact
    others: Written

    def __len__(self) -> int:
        return len(Dataset(self.file)) + len(self.others)

    def __getitem__(self, index: int) -> Example:
        found = Dataset(self.file)
        return found[index] if index < len(found) else self.others[index - len(found)]


RIGHT = Right()
REASONING = RIGHT + 0.2 * OneLanguage("en", where="all")
EVERYTHING = REASONING.on("maths") | Polite().on("general")
QUESTIONS, SCENARIOS = Asked(MATHS), Asked((*MATHS, "hello"))
LONG_THOUGHTS = Written(tuple((word, f"{ENGLISH}{answer}") for word in MATHS for answer in ("yes", "no", f"{MORE}yes")))
GENERAL = Written((("hello", "gladly"),) * 5 + (("hello", "go away"),) * 3)
SAMPLES = Rejection(samples=6, sampling=Sampling(max_tokens=LIMIT), keep=READABLE, per_prompt=0, engine=ENGINE)


def fitting(steps: int, lr: float = 0.2) -> FitConfig:
    return FitConfig(steps=steps, batch=8, schedule=Schedule(lr), engine=ENGINE, checkpoint_every=max(steps, 1))


def reinforcing(prompts: int, steps: int) -> RLConfig:
    return RLConfig(
        steps=steps, prompts=prompts, group=16, sampling=Sampling(max_tokens=LIMIT), schedule=Schedule(0.2), engine=ENGINE,
        checkpoint_every=steps,
    )  # fmt: skip


def r1(out: Path, base: Path, *, steps: int = 8, relearnt: FitConfig | None = None) -> dict[str, Artifact]:
    """The program. What each stage left, by its name."""
    with Run.open(out, recipe="r1", scale="table", resume=out.exists(), view=View(quiet=True)) as run:
        cold = run.stage(fit, "1-cold-start", base, LONG_THOUGHTS, cfg=fitting(15))
        thinker = run.stage(
            rl, "2-reasoning", cold, QUESTIONS, algo=DR_GRPO, cfg=reinforcing(4, steps), reward=REASONING
        )
        samples = run.stage(reject, "3-samples", thinker, QUESTIONS, reward=RIGHT, cfg=SAMPLES)
        tuned = run.stage(fit, "3-sft", base, Joined(samples, GENERAL), cfg=relearnt or fitting(20))
        last = run.stage(
            rl, "4-all-scenarios", tuned, SCENARIOS, algo=DR_GRPO, cfg=reinforcing(5, 8), reward=EVERYTHING
        )
    return {"cold": cold, "thinker": thinker, "samples": samples, "tuned": tuned, "last": last}


def table(directory: Path, chances: Mapping[str, Mapping[str, float]]) -> Path:
    return speaker(directory, chances)


def accuracy(model: Path | Artifact) -> float:
    """Exact, over all replies to all questions."""
    return sum(expected(Path(model), example, RIGHT, LIMIT) for example in QUESTIONS) / len(QUESTIONS)


def russian(model: Path | Artifact) -> float:
    """The exact share of replies to all questions that think in Russian."""
    found = [reply for example in QUESTIONS for reply in replies(Path(model), example, LIMIT)]
    return sum(chance for chance, completion in found if RUSSIAN in completion.text) / len(QUESTIONS)


def politeness(model: Path | Artifact) -> float:
    return expected(Path(model), SCENARIOS[len(MATHS)], Polite(), LIMIT)


def weights(model: Path | Artifact) -> torch.Tensor:
    return LocalModel(Path(model), ENGINE).head_weight.detach()


def said(kept: Sequence[Mapping[str, Any]]) -> list[str]:
    return [row["completion"][0]["content"] for row in kept]


def hashes(out: Path) -> dict[str, str]:
    return {path.parent.name: json.loads(path.read_text())["hash"] for path in out.glob("*/stage.json")}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return table(tmp_path_factory.mktemp("base") / "table", BASE)


@pytest.fixture(scope="module")
def made(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Artifact]]:
    out = tmp_path_factory.mktemp("r1") / "run"
    return out, r1(out, base)


def test_every_stage_does_what_it_is_for(base: Path, made: tuple[Path, dict[str, Artifact]]) -> None:
    left = made[1]
    cold, thinker, tuned, last = (accuracy(left[name]) for name in ("cold", "thinker", "tuned", "last"))
    assert accuracy(base) < 0.1 < cold - 0.1 and thinker > cold + 0.1
    assert tuned > accuracy(base) + 0.4, "what was sampled teaches the base to think"
    assert last > tuned
    assert politeness(left["thinker"]) == pytest.approx(politeness(base)), "reasoning alone leaves manners as they were"
    assert politeness(left["last"]) > politeness(left["tuned"]) > politeness(base)


def test_the_second_stage_is_paid_for_one_language(base: Path, tmp_path: Path) -> None:
    """Thinking in Russian helps, so the rule alone makes it likelier. Paid for one language, the policy leaves it."""
    with Run.open(tmp_path / "run", view=View(quiet=True)) as run:
        ruled, paid = (
            run.stage(rl, name, base, QUESTIONS, algo=DR_GRPO, cfg=reinforcing(4, 24), reward=reward)
            for name, reward in (("rule", RIGHT), ("paid", REASONING))
        )
    assert russian(paid) < 0.1 and russian(ruled) > 0.2


def test_every_sample_is_right_and_readable(base: Path, made: tuple[Path, dict[str, Artifact]], tmp_path: Path) -> None:
    """There were others: right ones in Russian and with code, and wrong ones."""
    kept = rows(Path(made[1]["samples"]))
    texts = said(kept)
    assert texts and all(row["reward"] == 1.0 for row in kept) and all(text.endswith("yes") for text in texts)
    assert not any(RUSSIAN in text or CODE in text for text in texts)
    assert len({(row["prompt"][0]["content"], text) for row, text in zip(kept, texts, strict=True)}) == len(texts)
    with Run.open(tmp_path / "run", view=View(quiet=True)) as run:
        cfg = replace(SAMPLES, samples=200)
        free, strict = (
            rows(Path(run.stage(reject, name, base, QUESTIONS, reward=RIGHT, cfg=replace(cfg, keep=keep))))
            for name, keep in (("free", ()), ("strict", READABLE))
        )
    assert {text.splitlines()[-1] for text in said(free)} == {"yes"}, "of what is wrong nothing, whatever it looks like"
    for planted in (RUSSIAN, CODE):
        assert any(planted in text for text in said(free))
        assert not any(planted in text for text in said(strict))
    assert {*said(strict)} == {f"{ENGLISH}yes", f"{ENGLISH}{MORE}yes", "yes"}


def test_the_third_stage_begins_with_the_base_and_reads_the_second(
    base: Path, made: tuple[Path, dict[str, Artifact]], tmp_path: Path
) -> None:
    """Without a learning rate it leaves the base as it was, whatever the thinker had learnt."""
    left = r1(tmp_path / "run", base, relearnt=fitting(1, lr=0.0))
    assert torch.equal(weights(left["tuned"]), weights(base))
    assert not torch.equal(weights(left["thinker"]), weights(base))
    assert left["samples"].sha256 == made[1]["samples"].sha256 and left["tuned"].sha256 != made[1]["tuned"].sha256


def test_a_stage_that_changes_runs_those_again_that_stand_on_it(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    r1(out, base, steps=1)
    before = hashes(out)
    done = (out / "1-cold-start" / "done.json").stat().st_mtime_ns
    r1(out, base, steps=8)
    after = hashes(out)
    assert {name for name in after if before.get(name) != after[name] and ".old" not in name} == {
        "2-reasoning", "3-samples", "3-sft", "4-all-scenarios",
    }  # fmt: skip
    assert {name for name in after if ".old" in name} == {f"{name}.old-1" for name in before if name != "1-cold-start"}
    assert (out / "1-cold-start" / "done.json").stat().st_mtime_ns == done
    r1(out, base, steps=8)
    assert hashes(out) == after, "nothing changed, nothing runs"


# --- distillation --------------------------------------------------------------------------------


def spent(stage: Path) -> int:
    """The tokens that were sampled and trained on."""
    lines = [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]
    return round(sum(line.get("tokens/sampled", 0) + line["tokens/trained"] for line in lines))


def test_a_small_student_learns_from_samples_what_it_does_not_find_itself(
    made: tuple[Path, dict[str, Artifact]], tmp_path: Path
) -> None:
    """It thinks once in 10,000 replies, and is never right without. The teacher's samples are counted as the student's."""
    small: dict[str, Any] = {word: {ENGLISH: 1e-4, "no": 1 - 1e-4} for word in MATHS}
    student = table(tmp_path / "student", {**small, **THOUGHTS, **SPOKEN})
    samples = made[1]["samples"]
    sampled = SAMPLES.samples * len(MATHS) * LIMIT
    with Run.open(tmp_path / "run", view=View(quiet=True)) as run:
        distilled = run.stage(fit, "sft", student, Dataset(samples), cfg=fitting(50))
        cfg = reinforcing(4, 24)
        alone = run.stage(rl, "rl", student, QUESTIONS, algo=DR_GRPO, cfg=cfg, reward=REASONING)
        assert spent(run.directory / "rl") >= spent(run.directory / "sft") + sampled, "it had as much to learn from"
    assert accuracy(student) < 1e-4
    assert accuracy(alone) < 1e-3 and accuracy(distilled) > 0.5
