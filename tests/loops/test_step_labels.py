"""Steps rated by rollouts, in a game where the chance to win from every step is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from burnish.core.process import hard, soft
from burnish.engines.decode import LocalSampler
from burnish.engines.local import Engine, LocalModel
from burnish.engines.table import END, NEVER, save_table
from burnish.errors import InputError
from burnish.loops.commentate import Grading
from burnish.loops.continuations import Prefix, continuations
from burnish.loops.step_labels import Solution, label_steps
from burnish.types import Completion, Example, Reward, Sampling, outcome

LETTERS = ("g", "f", "l", END)
MOVES = torch.tensor(
    [  # to:  g    f    l    end
        [0.0, 0.0, 0.0, 1.0],  # after g the game is won
        [0.7, 0.0, 0.3, 0.0],  # after f it is open
        [0.0, 0.0, 0.0, 1.0],  # after l it is lost
        [0.0, 0.0, 0.0, 1.0],
    ]
)
TEMPLATE = (
    "{% for m in messages %}{{ m['content'] }}{% if m['role'] == 'assistant' %}" + END + "{% endif %}{% endfor %}"
)
PROBLEM = Example(({"role": "user", "content": "f"},), "won")


@dataclass(frozen=True)
class Won:
    """1 for a game that ends with g."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Example:
        return PROBLEM

    def reward(self, example: Example, completions: Sequence[Completion]) -> list[Reward]:
        return [outcome(self.measure(example, c)["won"], "won") for c in completions]

    def measure(self, example: Example, completion: Completion) -> dict[str, float]:  # noqa: ARG002
        return {"won": float(completion.text.endswith("g"))}


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> LocalModel:
    directory: Path = tmp_path_factory.mktemp("letters")
    save_table(directory, LETTERS, MOVES.T.log().clamp(min=NEVER))
    (directory / "chat_template.jinja").write_text(TEMPLATE)
    return LocalModel(directory, Engine(dtype="float64", device="cpu"))


def grading(limit: int = 12) -> Grading:
    return Grading(Won(), Won().reward, Sampling(max_tokens=limit))


def ratings(policy: LocalModel, *solutions: Sequence[str], **options: object) -> list[list[float | None]]:
    asked = [Solution(PROBLEM, tuple(steps)) for steps in solutions]
    found = label_steps(LocalSampler(policy), policy.chat, grading(), asked, **options)  # type: ignore[arg-type]
    assert [tuple(s.text for s in c.answers[0].steps) for c in found] == [tuple(s) for s in solutions]
    return [[step.rating for step in c.answers[0].steps] for c in found]


def test_a_rate_is_the_chance_to_win_from_there(policy: LocalModel) -> None:
    """From f 7 of 10 games are won, from g all of them, from l none. Of 400 draws 3 deviations are .07."""
    (found, lost) = ratings(policy, ["f", "f", "g"], ["f", "l", "l"], samples=400, label=soft)
    rates = [(r + 1) / 2 for r in (*found, *lost) if r is not None]
    assert rates[0] == pytest.approx(0.7, abs=0.07) and rates[1] == pytest.approx(0.7, abs=0.07)
    assert rates[2] == 1 and rates[3] == pytest.approx(0.7, abs=0.07)
    assert rates[4:] == [0, 0]


def test_hard_labels_find_the_first_wrong_step(policy: LocalModel) -> None:
    assert ratings(policy, ["f", "ff", "l", "l"], ["fg"]) == [[1, 1, -1, -1], [1]]


def test_the_label_of_the_whole_is_its_outcome(policy: LocalModel) -> None:
    asked = [Solution(PROBLEM, ("f", "g")), Solution(PROBLEM, ("f", "l"))]
    found = label_steps(LocalSampler(policy), policy.chat, grading(), asked, samples=4, label=hard)
    assert [c.answers[0].label for c in found] == [1, 0]
    assert [c.answers[0].messages[0]["content"] for c in found] == ["fg", "fl"]
    assert all(c.prompt == PROBLEM.messages for c in found)


def test_labels_follow_from_the_key(policy: LocalModel) -> None:
    first, again, other = (ratings(policy, ["f"] * 6, samples=10, label=soft, key=key) for key in (0, 0, 1))
    assert first == again != other
    assert len(set(first[0][:-1])) > 1, "each step has draws of its own"


def test_what_cannot_be_continued_is_an_error(policy: LocalModel) -> None:
    sampler, chat = LocalSampler(policy), policy.chat
    with pytest.raises(InputError, match="a solution without steps"):
        label_steps(sampler, chat, grading(), [Solution(PROBLEM, ())])
    with pytest.raises(InputError, match="4 tokens have been written and the limit is 4: raise max_tokens"):
        label_steps(sampler, chat, grading(4), [Solution(PROBLEM, ("ff", "ff", "g"))])
    with pytest.raises(InputError, match="0 continuations tell nothing"):
        label_steps(sampler, chat, grading(), [Solution(PROBLEM, ("f", "g"))], samples=0)


def test_continuations_are_whole_completions_within_the_limit(policy: LocalModel) -> None:
    prefixes = [Prefix((1,), (1,) * n, ("here", n)) for n in (0, 3)]
    drawn = continuations(LocalSampler(policy), policy.chat, prefixes, Sampling(max_tokens=5), 6)
    assert [len(own) for own in drawn] == [6, 6]
    for prefix, own in zip(prefixes, drawn, strict=True):
        assert all(c.tokens[: len(prefix.begun)] == prefix.begun and len(c.tokens) <= 5 for c in own)
        assert {c.text.removeprefix("f" * len(prefix.begun)) for c in own} <= {"g", "l"}
