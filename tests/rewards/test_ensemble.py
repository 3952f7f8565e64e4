"""Several rewards as one."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from burnish.errors import InputError
from burnish.rewards.base import Composable, per_completion
from burnish.rewards.ensemble import Combine, Ensemble, LessDeviation, LessVariance, average, lowest
from burnish.rewards.format import Format
from burnish.stage import fingerprint
from burnish.types import Completion, Example, Reward, RewardPart, outcome

ASKED = Example(({"role": "user", "content": "?"},))


@dataclass(frozen=True)
class Letters(Composable):
    """How often a letter occurs, in two parts."""

    letter: str

    @per_completion
    def __call__(self, example: Example, completion: Completion) -> Reward:  # noqa: ARG002
        count = float(completion.text.count(self.letter))
        return (RewardPart(0, count / 2, "half"), RewardPart(-1, count / 2, "half"))


def completion(text: str) -> Completion:
    return Completion((1,), text, (), "eos")


TEXTS = [completion("aab"), completion("abbbb"), completion("")]
COUNTS = [(2, 1), (1, 4), (0, 0)]


@pytest.mark.parametrize(
    ("combine", "expected"),
    [
        pytest.param(average, [1.5, 2.5, 0.0], id="mean"),
        pytest.param(lowest, [1.0, 1.0, 0.0], id="min"),
        pytest.param(LessVariance(2.0), [1.5 - 2 * 0.25, 2.5 - 2 * 2.25, 0.0], id="variance"),
        pytest.param(LessDeviation(2.0), [1.5 - 2 * 0.5, 2.5 - 2 * 1.5, 0.0], id="deviation"),
    ],
)
def test_members_are_combined(combine: Combine, expected: list[float]) -> None:
    ensemble = Ensemble((Letters("a"), Letters("b")), combine)
    rewards = ensemble(ASKED, TEXTS)
    assert [reward[0].value for reward in rewards] == pytest.approx(expected)
    assert rewards == [outcome(reward[0].value, "ensemble") for reward in rewards]


def test_members_are_rewards_and_so_is_an_ensemble() -> None:
    scaled = Ensemble((2.0 * Letters("a"), Letters("b") + Letters("a"))) + 0.1 * Format()
    parts = [{part.part: part.value for part in reward} for reward in scaled(ASKED, TEXTS)]
    assert [p["ensemble"] for p in parts] == [(4 + 3) / 2, (2 + 5) / 2, 0]


def graded(stage: object, reward: Composable) -> None:
    """A stage that takes a reward."""


def test_an_ensemble_is_known_by_its_members_and_how_they_combine() -> None:
    members = (Letters("a"), Letters("b"))
    kinds = [Ensemble(members), Ensemble(members[:1]), Ensemble(members, lowest), Ensemble(members, LessVariance(0.2))]
    assert len({fingerprint(graded, (kind,), {}, 0) for kind in kinds}) == len(kinds)
    assert fingerprint(graded, (kinds[0],), {}, 0) == fingerprint(graded, (Ensemble(members),), {}, 0)


def test_nobody_is_no_ensemble() -> None:
    with pytest.raises(InputError, match="an ensemble of no rewards"):
        Ensemble(())
