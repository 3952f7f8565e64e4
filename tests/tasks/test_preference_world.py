"""A world whose gold rule is known: what it likes, who disagrees with it, and how often labels are wrong."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

import small
from burnish.core.reward_models import BRADLEY_TERRY
from burnish.errors import InputError
from burnish.loops.reward_model import RewardModel
from burnish.tasks.preference_world import (
    REFUSAL,
    THINGS,
    Features,
    Labeller,
    Preferences,
    PreferenceWorld,
    Rule,
    features,
)
from burnish.types import Completion, Example

WORLD = PreferenceWorld()
SAFE = Example(({"role": "user", "content": "?"},), None, {"facts": ("water", "soap", "cloth"), "harmful": False})
HARMFUL = Example(({"role": "user", "content": "?"},), None, {"facts": ("gloves", "ladder", "night"), "harmful": True})


def test_the_rule_is_right_about_gold_and_near_misses() -> None:
    assert "splits are disjoint" in WORLD.validate(200)
    assert "disjoint" in PreferenceWorld(rule=Rule(helpful=1, safe=1, style=1, short=1), seed=3).validate(50)


def test_a_rule_that_does_not_care_fails_its_check() -> None:
    with pytest.raises(AssertionError, match="gold is worth"):
        PreferenceWorld(rule=Rule(style=0.0)).validate(5)


@pytest.mark.parametrize(
    ("example", "text", "found"),
    [
        (SAFE, "Use water, soap and cloth.", (1, 1, 1, 1)),
        (SAFE, "Use water and water.", (1 / 3, 1, 1, 1)),
        (SAFE, REFUSAL, (0, 0, 1, 1)),
        (SAFE, "use WATER!", (1 / 3, 1, 0, 1)),
        (SAFE, "", (0, 1, 0, 0)),
        (SAFE, " ".join(["Use soap"] + ["so"] * 16) + ".", (1 / 3, 1, 1, 0.5)),
        (SAFE, " ".join(["so"] * 30), (0, 1, 1 / 3, 0)),
        (HARMFUL, REFUSAL, (0, 1, 1, 1)),
        (HARMFUL, "Hm.", (0, 0.5, 1, 1)),
        (HARMFUL, f"{REFUSAL} But take a ladder.", (0, 0, 1, 1)),
    ],
)
def test_features_by_hand(example: Example, text: str, found: tuple[float, ...]) -> None:
    assert features(example, text) == pytest.approx(found)
    parts = Rule()(example, [Completion((), text, (), "eos")])[0]
    weights = [0.0 if example is HARMFUL else 4.0, 3.0, 1.0, 2.0]
    assert [part.value for part in parts] == pytest.approx(
        [w * x / sum(weights) for w, x in zip(weights, found, strict=True)]
    )
    assert [part.part for part in parts] == list(Features._fields)


def test_what_was_cut_off_is_worth_nothing_and_a_wordy_taste_pays_for_words() -> None:
    cut = Completion((), WORLD.gold(SAFE), (), "length")
    assert sum(part.value for part in Rule()(SAFE, [cut])[0]) == 0 == WORLD.measure(SAFE, cut)["gold"]
    long = " ".join(["Use soap."] * 11)
    assert replace(Rule(), wordy=0.5).of(SAFE, long) - Rule().of(SAFE, long) == pytest.approx(0.5)


def test_questions_are_the_same_for_ever_and_harm_has_its_share() -> None:
    assert [WORLD[i] for i in range(20)] == [replace(WORLD, size=20)[i] for i in range(20)]
    share = sum(WORLD[i].meta["harmful"] for i in range(2000)) / 2000
    assert share == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / 2000))
    assert {WORLD[i].messages[0]["content"].split()[-1][:-1] for i in range(2000)} == {*THINGS}


def test_a_labeller_without_noise_agrees_with_its_rule() -> None:
    assert all(pair.meta["gold"] > 0 for pair in map(Preferences().__getitem__, range(300)))


def test_noise_is_the_share_of_wrong_labels() -> None:
    pairs = Preferences(labellers=(Labeller(noise=0.2),))
    wrong = sum(pairs[i].meta["gold"] < 0 for i in range(1500)) / 1500
    assert wrong == pytest.approx(0.2, abs=4 * math.sqrt(0.2 * 0.8 / 1500))


def test_at_a_temperature_labels_follow_bradley_terry() -> None:
    labeller = Labeller(temperature=0.5, noise=0.1)
    sure = 1 / (1 + math.exp(-0.4))
    assert labeller.probability(0.2) == pytest.approx(0.9 * sure + 0.1 * (1 - sure))
    worse, better = "Use soap!", "Use water, soap and cloth."
    at = labeller.probability(Rule().of(SAFE, better) - Rule().of(SAFE, worse))
    assert [labeller.prefers(SAFE, better, worse, luck) for luck in (0.0, at - 1e-9, at + 1e-9)] == [1.0, 1.0, 0.0]
    assert Labeller().prefers(SAFE, worse, worse, 0.3) == 0.5


def test_labellers_of_other_tastes_contradict_each_other() -> None:
    helpful = Labeller(Rule(helpful=8, safe=0, style=0.1, short=0.1), name="helpful")
    brief = Labeller(Rule(helpful=0, safe=0, style=0, short=1), name="brief")
    pairs = Preferences(PreferenceWorld(harmful=0.0), (helpful, brief))
    rows = [pairs[i] for i in range(400)]
    assert {row.meta["labeller"] for row in rows} == {"helpful", "brief"}
    example = SAFE
    long, short = "Use water, soap and cloth." + " It is a very good thing to do." * 3, "Use soap."
    assert helpful.prefers(example, long, short, 0.5) == 1.0 and brief.prefers(example, long, short, 0.5) == 0.0


def test_bad_settings_say_what_to_give() -> None:
    for make in (
        lambda: Labeller(noise=0.7),
        lambda: Rule(helpful=-1.0),
        lambda: PreferenceWorld(harmful=2.0),
        lambda: Preferences(labellers=()),
        lambda: Preferences(PreferenceWorld(), (Labeller(Rule(0, 0, 0, 1, words=500)),))[0],
    ):
        with pytest.raises(InputError, match=r"give|need"):
            make()


@pytest.mark.slow
def test_a_reward_model_learns_the_rule_from_noisy_labels(tmp_path: Path) -> None:
    """Held-out agreement with the gold rule, on questions of another split."""
    base = small.build(tmp_path / "base", context=256)
    world = PreferenceWorld(harmful=0.0)
    data = Preferences(world, (Labeller(noise=0.1),), size=1600)
    out, _ = small.train(base, tmp_path / "model", BRADLEY_TERRY, [data[i] for i in range(len(data))], steps=150)
    judge = RewardModel(out, engine=small.ENGINE)
    test = Preferences(world.with_split("test"), size=150)
    rows = [test[i] for i in range(len(test))]
    asked = [(row.prompt, answer.messages[0]["content"]) for row in rows for answer in row.answers]
    found = judge.scores(asked)
    right = sum(better > worse for better, worse in zip(found[::2], found[1::2], strict=True)) / len(rows)
    assert right > 0.75
