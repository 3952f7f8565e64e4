"""Constitutional AI (arXiv:2212.08073) on a policy that can be enumerated: revisions to learn from, then RL from AI feedback.

A prompt is harmful or safe. The judge knows only what does least harm; that a refusal helps nobody who asked for something
safe is what people's labels say. The preference model is trained on both, or on the judge's alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch

from burnish.core.algorithms import PPO
from burnish.data.datasets import Dataset
from burnish.engines.optim import Schedule
from burnish.loops.curate.revision import Revising, revise
from burnish.loops.fit import FitConfig, fit
from burnish.rewards.ask import Question, Said
from burnish.rewards.base import Composable, per_completion
from burnish.rewards.constitution import Constitution
from burnish.rewards.pairwise import Comparing
from burnish.run import Run
from burnish.types import Answer, Comparison, Completion, Example, Message, Reward, outcome
from burnish.view import View
from curating import curate, rows, speaker
from curating import write as write_rows
from tests.judging import sections
from words import ENGINE, Prompts, expected, replies, train, write

PROMPTS = Prompts(("harmful", "safe"))
REPLIES = ("recipe", "sorry", "explain", "answer")
AFTER_REVISION = {
    "harmful": {"recipe": 0.3, "sorry": 0.3, "explain": 0.3, "answer": 0.1},
    "safe": {"recipe": 0.02, "sorry": 0.2, "explain": 0.08, "answer": 0.7},
}
"""The policy of the supervised stage: it still helps with harm now and then, and refuses safe things."""
HARM = {"recipe": 3, "answer": 2, "explain": 1, "sorry": 0}
HELP = {"safe": {"answer": 1.0, "explain": 0.3}, "harmful": {"explain": 1.0}}


class LeastHarm:
    """A judge that reasons and is then certain of what does less harm, whatever the prompt."""

    def ask(self, questions: Sequence[Question]) -> list[Said]:
        return [self._said(question) for question in questions]

    def _said(self, question: Question) -> Said:
        if not question.choices:
            return Said("One of them does less harm.")
        read = sections(question.messages[0]["content"])
        first = HARM[read["reply A"]] < HARM[read["reply B"]]
        return Said(choices={"A": float(first), "B": float(not first)})


def said(text: str) -> tuple[Message, ...]:
    return ({"role": "assistant", "content": text},)


def pairs(prompt: str) -> list[Comparison]:
    example = PROMPTS[PROMPTS.words.index(prompt)]
    return [
        Comparison(example.messages, tuple(Answer(said(reply)) for reply in both), {"kind": prompt})
        for both in permutations(REPLIES, 2)
    ]


def from_people(prompt: str) -> list[Comparison]:
    """What helps more is preferred; equal answers are not compared."""
    found = []
    for pair in pairs(prompt):
        worth = [HELP[prompt].get(answer.messages[0]["content"], 0.0) for answer in pair.answers]
        if worth[0] > worth[1]:
            answers = tuple(Answer(a.messages, label=label) for a, label in zip(pair.answers, (1.0, 0.0), strict=True))
            found.append(Comparison(pair.prompt, answers, pair.meta))
    return found


@dataclass(frozen=True)
class Preferred(Composable):
    """A preference model: a score for each reply to each kind of prompt."""

    scores: tuple[tuple[float, ...], ...]

    @per_completion
    def __call__(self, example: Example, completion: Completion) -> Reward:
        return outcome(self.of(example.meta["kind"], completion.text), "preference")

    def of(self, prompt: str, reply: str) -> float:
        """Anything but one of the replies is as good as the worst of them."""
        row = self.scores[PROMPTS.words.index(prompt)]
        return row[REPLIES.index(reply)] if reply in REPLIES else min(row)

    def accuracy(self, data: Sequence[Comparison]) -> float:
        """The share of pairs whose likelier answer has the higher score."""
        right = 0
        for pair in data:
            kind, (one, other) = pair.meta["kind"], pair.answers
            apart = self.of(kind, one.messages[0]["content"]) - self.of(kind, other.messages[0]["content"])
            right += apart * ((one.label or 0.0) - 0.5) > 0
        return right / len(data)


def fitted(data: Sequence[Comparison]) -> Preferred:
    """The minimum of -[p log sigma(d) + (1-p) log sigma(-d)] over the pairs; weak regularisation makes it unique."""
    scores = torch.zeros(len(PROMPTS.words), len(REPLIES), dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([scores], max_iter=200, line_search_fn="strong_wolfe")
    rows = torch.tensor([PROMPTS.words.index(pair.meta["kind"]) for pair in data])
    one, other = (
        torch.tensor([REPLIES.index(pair.answers[side].messages[0]["content"]) for pair in data]) for side in (0, 1)
    )
    labels = torch.tensor([pair.answers[0].label for pair in data], dtype=torch.float64)

    def closure() -> torch.Tensor:
        solver.zero_grad()
        apart = scores[rows, one] - scores[rows, other]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(apart, labels) + 1e-3 * scores.square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    solver.step(closure)  # type: ignore[no-untyped-call, arg-type]
    return Preferred(tuple(tuple(row) for row in scores.tolist()))


def chance(model: Path, prompt: str, reply: str) -> float:
    found = replies(model, PROMPTS[PROMPTS.words.index(prompt)], 2)
    return sum(p for p, completion in found if completion.text == reply)


@dataclass(frozen=True)
class Helpful(Composable):
    """What people want, exactly."""

    @per_completion
    def __call__(self, example: Example, completion: Completion) -> Reward:
        return outcome(HELP[example.meta["kind"]].get(completion.text, 0.0))


HELPFUL_ONLY = {
    "harmful": {"recipe": 0.8, "sorry": 0.05, "explain": 0.05, "answer": 0.1},
    "safe": {"recipe": 0.02, "sorry": 0.2, "explain": 0.08, "answer": 0.7},
    "judge": {"flaw": 1.0},
    "mend": {"recipe": 0.15, "sorry": 0.35, "explain": 0.4, "answer": 0.1},
}
"""The policy before: it helps with anything. Told what is wrong with a reply, it seldom writes the harmful one again."""


def revised(out: Path, model: Path) -> list[dict[str, Any]]:
    """Critique and revision of replies to harmful prompts: the first draft and the last reply, row by row."""
    asked = write_rows(out / "red-team.jsonl", [{"prompt": "harmful"}] * 200)
    cfg = Revising(rounds=2, max_tokens=2, critique="{principle}judge", revision="mend")
    return rows(curate(out / "revisions", revise, model, asked, cfg=cfg))


@pytest.fixture(scope="module")
def labelled() -> list[Comparison]:
    """The judge's labels: harmful prompts in both models, safe ones only where there are no people."""
    judge = Constitution(LeastHarm(), comparing=Comparing(reasoned=True))
    return judge.label([*pairs("harmful"), *pairs("safe")])


def test_labels_are_clamped_and_the_hybrid_model_is_right_about_both_sources(labelled: list[Comparison]) -> None:
    assert {round(float(a.label or 0), 9) for pair in labelled for a in pair.answers} <= {0.4, 0.5, 0.6}
    feedback, people = [pair for pair in labelled if pair.meta["kind"] == "harmful"], from_people("safe")
    hybrid = fitted([*feedback, *people])
    assert hybrid.accuracy(feedback) == hybrid.accuracy(people) == 1.0
    assert fitted(labelled).accuracy(people) < 0.5, "the judge alone would rather have safe prompts refused"


def test_reinforcement_learning_makes_it_harmless_and_not_evasive(labelled: list[Comparison], tmp_path: Path) -> None:
    supervised = write(tmp_path / "table", AFTER_REVISION)
    feedback = [pair for pair in labelled if pair.meta["kind"] == "harmful"]
    models = {"judge": fitted(labelled), "hybrid": fitted([*feedback, *from_people("safe")])}
    policies = {
        name: train(tmp_path / name, supervised, PROMPTS, 8.0 * model, PPO, limit=2, steps=30)
        for name, model in models.items()
    }
    safe = PROMPTS[1]
    before = expected(supervised, safe, Helpful(), 2)
    for policy in policies.values():
        assert chance(policy, "harmful", "recipe") < 0.05 < chance(supervised, "harmful", "recipe")
    assert expected(policies["hybrid"], safe, Helpful(), 2) > before
    assert chance(policies["hybrid"], "safe", "sorry") < 0.05
    assert chance(policies["judge"], "safe", "sorry") > 0.5 > chance(supervised, "safe", "sorry")
    assert expected(policies["judge"], safe, Helpful(), 2) < before


def test_revisions_then_reinforcement_each_make_it_less_harmful(labelled: list[Comparison], tmp_path: Path) -> None:
    """SL-CAI learns the revisions beside helpful data; RL-CAI begins there, and helps no less than it did."""
    helpful_only = speaker(tmp_path / "table", HELPFUL_ONLY)
    found = revised(tmp_path, helpful_only)
    drafts, last = (sum(row[name] == "recipe" for row in found) / len(found) for name in ("draft", "completion"))
    assert last < drafts / 2 and drafts > 0.7
    helpful = [{"prompt": "safe", "completion": "answer"}, {"prompt": "safe", "completion": "sorry"}] * 50
    data = write_rows(tmp_path / "sft.jsonl", [*({**row, "prompt": "harmful"} for row in found), *helpful])
    cfg = FitConfig(steps=30, batch=32, schedule=Schedule(0.1), engine=ENGINE)
    with Run.open(tmp_path / "sl", recipe="t", scale="tiny", view=View(quiet=True)) as run:
        supervised = Path(run.stage(fit, "sft", helpful_only, Dataset(data), cfg=cfg))
    feedback = [pair for pair in labelled if pair.meta["kind"] == "harmful"]
    hybrid = fitted([*feedback, *from_people("safe")])
    reinforced = train(tmp_path / "rl", supervised, PROMPTS, 8.0 * hybrid, PPO, limit=2, steps=30)
    violates = [chance(model, "harmful", "recipe") for model in (helpful_only, supervised, reinforced)]
    assert violates[0] > 2 * violates[1] and violates[1] > 2 * violates[2] and violates[2] < 0.05
    helps = [expected(model, PROMPTS[1], Helpful(), 2) for model in (supervised, reinforced)]
    assert helps[1] > helps[0] and chance(reinforced, "safe", "sorry") < chance(supervised, "safe", "sorry")
